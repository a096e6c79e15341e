from typing import Any

import numpy as np
import pytest
from io_tools import build, check, numbers, read
from onnx import helper

from reluce.errors import ModelError
from reluce.network import Activation, Add, Affine, BatchNorm, Relu, Select, Softmax

node = helper.make_node


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("constant", [numbers(), numbers(4), numbers(3, 1), numbers(1, 3, 4), numbers(1, 1, 1)])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_constant_operand(kind: str, first: bool, constant: Any, batch: Any) -> None:
    model = build(
        [node(kind, ["c", "x"] if first else ["x", "c"], ["y"])],
        {"x": [batch, 3, 4]},
        {"y": [batch, 3, 4]},
        {"c": constant},
    )
    if kind == "Div" and first:
        assert read(model).network.opaque
    else:
        check(model, Affine)


def test_a_constant_that_enlarges_the_sample() -> None:
    check(
        build([node("Add", ["x", "c"], ["y"])], {"x": ["N", 3, 1]}, {"y": ["N", 3, 4]}, {"c": numbers(4)}),
        Select,
        Affine,
    )
    check(build([node("Mul", ["x", "c"], ["y"])], {"x": [3]}, {"y": [2, 3]}, {"c": numbers(2, 3)}), Select, Affine)


@pytest.mark.parametrize("constant", [numbers(2, 3), numbers(2, 1, 3)])
def test_a_constant_along_the_batch_is_opaque(constant: Any) -> None:
    model = build([node("Add", ["x", "c"], ["y"])], {"x": ["N", 3]}, {"y": None}, {"c": constant})
    (found,) = read(model).network.opaque
    assert "batch axis" in found.op.why  # type: ignore[attr-defined]


def test_division_by_zero_is_opaque() -> None:
    constant = np.array([1, 0, 2], np.float32)
    assert read(
        build([node("Div", ["x", "c"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}, {"c": constant})
    ).network.opaque


def test_constants_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"'shift'.*'c'.*\[5\].*'x' of shape \[3\]"):
        read(build([node("Add", ["x", "c"], ["y"], name="shift")], {"x": ["N", 3]}, {"y": ["N", 3]}, {"c": numbers(5)}))


def test_neg_and_sum() -> None:
    nodes = [node("Neg", ["x"], ["a"]), node("Sum", ["a", "x"], ["b"]), node("Sum", ["b"], ["y"])]
    check(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}), Affine, Add, Select)


@pytest.mark.parametrize("kind", ["Add", "Sub"])
def test_two_variables(kind: str) -> None:
    model = build([node(kind, ["x", "z"], ["y"])], {"x": ["N", 3], "z": ["N", 3]}, {"y": ["N", 3]})
    check(model, *([Add] if kind == "Add" else [Affine, Add]))


def test_two_variables_of_different_shapes() -> None:
    check(
        build([node("Add", ["x", "z"], ["y"])], {"x": ["N", 2, 3], "z": ["N", 1, 3]}, {"y": ["N", 2, 3]}), Select, Add
    )
    check(build([node("Add", ["x", "z"], ["y"])], {"x": [2, 3], "z": [3]}, {"y": [2, 3]}), Select, Add)
    both = build([node("Add", ["x", "z"], ["y"])], {"x": ["N", 1, 3], "z": ["N", 2, 1]}, {"y": ["N", 2, 3]})
    check(both, Select, Select, Add)


def test_twice_the_same_tensor() -> None:
    nodes = [node("Add", ["x", "x"], ["a"]), node("Sub", ["a", "a"], ["b"]), node("Add", ["b", "x"], ["y"])]
    check(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}), Add, Affine, Add, Add)


def test_products_of_variables_are_opaque() -> None:
    check(build([node("Mul", ["x", "x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}), opaque=True)


@pytest.mark.parametrize("shape", [["N", 3], [1, 3], ["N", 3, 2, 2], [1, 3, 4]])
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(shape: list[Any], opset: int) -> None:
    constants = {name: numbers(3, seed=k) for k, name in enumerate("sbm")} | {"v": np.abs(numbers(3, seed=9)) + 0.1}
    bn = node("BatchNormalization", ["x", *constants], ["y"], epsilon=1e-3, name="bn")
    check(build([bn], {"x": shape}, {"y": shape}, constants, opset=opset), BatchNorm)


def test_batch_normalization_that_trains_or_has_no_spread_is_opaque() -> None:
    constants = {name: numbers(3, seed=k) for k, name in enumerate("sbm")} | {"v": np.zeros(3, np.float32)}
    bn = node("BatchNormalization", ["x", *constants], ["y"], epsilon=0.0)
    assert read(build([bn], {"x": ["N", 3]}, {"y": ["N", 3]}, constants)).network.opaque
    constants["v"] += 1
    bn = node("BatchNormalization", ["x", *constants], ["y", "m2", "v2"], training_mode=1)
    assert read(build([bn], {"x": ["N", 3]}, {"y": ["N", 3]}, constants)).network.opaque


ACTIVATIONS: list[tuple[str, dict[str, float], tuple[float, ...]]] = [
    ("Sigmoid", {}, ()),
    ("Tanh", {}, ()),
    ("Softplus", {}, ()),
    ("LeakyRelu", {}, (float(np.float32(0.01)),)),
    ("LeakyRelu", {"alpha": 0.5}, (0.5,)),
    ("HardSigmoid", {"alpha": 0.25}, (0.25, 0.5)),
    ("Elu", {"alpha": 2.0}, (2.0,)),
]


@pytest.mark.parametrize(("kind", "flags", "parameters"), ACTIVATIONS)
def test_activations(kind: str, flags: dict[str, float], parameters: tuple[float, ...]) -> None:
    loaded = check(build([node(kind, ["x"], ["y"], **flags)], {"x": ["N", 3]}, {"y": ["N", 3]}), Activation)
    op = loaded.network.nodes[0].op
    assert isinstance(op, Activation)
    assert (op.function, op.parameters) == (kind, parameters)


@pytest.mark.parametrize(
    ("kind", "flags"), [("LeakyRelu", {"alpha": 2.0}), ("LeakyRelu", {"alpha": -0.5}), ("Elu", {"alpha": -1.0})]
)
def test_decreasing_or_steep_functions_are_opaque(kind: str, flags: dict[str, float]) -> None:
    check(build([node(kind, ["x"], ["y"], **flags)], {"x": ["N", 3]}, {"y": ["N", 3]}), opaque=True)


@pytest.mark.parametrize("ends", [(-0.5, 0.5), (None, 0.5), (-0.5, None), (None, None)])
def test_clip(ends: tuple[float | None, float | None]) -> None:
    constants = {n: np.array(end, np.float32) for n, end in zip(("lo", "hi"), ends, strict=True) if end is not None}
    names = ["x", *(n if n in constants else "" for n in ("lo", "hi"))]
    loaded = check(build([node("Clip", names, ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}, constants), Activation)
    wanted = tuple(default if end is None else end for end, default in zip(ends, (-np.inf, np.inf), strict=True))
    assert loaded.network.nodes[0].op.parameters == wanted  # type: ignore[attr-defined]


def test_clip_before_its_bounds_were_inputs() -> None:
    check(build([node("Clip", ["x"], ["y"], min=-0.25)], {"x": ["N", 3]}, {"y": ["N", 3]}, opset=9), Activation)


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_softmax(kind: str, axis: int) -> None:
    loaded = check(build([node(kind, ["x"], ["y"], axis=axis)], {"x": ["N", 3, 4]}, {"y": ["N", 3, 4]}), Softmax)
    assert loaded.network.nodes[0].op.axis == (axis - 3 if axis > 0 else axis)  # type: ignore[attr-defined]
    assert loaded.network.nodes[0].op.log == (kind == "LogSoftmax")  # type: ignore[attr-defined]


def test_softmax_over_the_batch_or_several_axes_is_opaque() -> None:
    model = build([node("Softmax", ["x"], ["y"], axis=0)], {"x": ["N", 3]}, {"y": ["N", 3]})
    assert read(model).network.opaque
    model = build([node("Softmax", ["x"], ["y"])], {"x": ["N", 3, 4]}, {"y": ["N", 3, 4]}, opset=11)
    assert read(model).network.opaque
    check(build([node("Softmax", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]}, opset=11), Softmax)


@pytest.mark.parametrize(("batch", "axis"), [("N", 0), (1, 1)])
def test_units_behind_a_convolution_are_channels(batch: Any, axis: int) -> None:
    nodes = [
        node("Conv", ["x", "W"], ["c"], kernel_shape=[3, 3]),
        node("Mul", ["c", "s"], ["m"]),
        node("Relu", ["m"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        node("Relu", ["p"], ["q"]),
        node("Flatten", ["q"], ["f"]),
        node("Relu", ["f"], ["y"]),
    ]
    constants = {"W": numbers(4, 2, 3, 3), "s": numbers(4, 1, 1)}
    loaded = check(build(nodes, {"x": [batch, 2, 6, 6]}, {"y": [batch, 36]}, constants), opaque=True)
    assert [n.op.axis for n in loaded.network.relus] == [axis, axis, -1]  # type: ignore[attr-defined]
    assert all(isinstance(n.op, Relu) for n in loaded.network.relus)
