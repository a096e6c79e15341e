from typing import Any

import numpy as np
import pytest
from io_tools import build, check, numbers, read
from onnx import TensorProto, helper

from reluce.network import Constant, Dense, Relu, Select

node = helper.make_node


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


MOVES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Reshape", {}, {"shape": ints(-1, 24)}),
    ("Reshape", {}, {"shape": ints(0, 4, 6)}),
    ("Flatten", {}, {}),
    ("Flatten", {"axis": 1}, {}),
    ("Unsqueeze", {}, {"axes": ints(1, -1)}),
    ("Transpose", {"perm": [0, 2, 1, 3]}, {}),
    ("Transpose", {"perm": [0, 3, 2, 1]}, {}),
    ("Slice", {}, {"starts": ints(1), "ends": ints(9), "axes": ints(3)}),
    ("Slice", {}, {"starts": ints(-1, 0), "ends": ints(-9, 2), "axes": ints(2, 3), "steps": ints(-2, 1)}),
    ("Gather", {"axis": 2}, {"i": ints(2, 0, 2)}),
    ("Gather", {"axis": 3}, {"i": np.array(1, np.int64)}),
    ("Expand", {}, {"shape": ints(5, 1, 1, 1, 1)}),
    ("Tile", {}, {"repeats": ints(1, 2, 1, 3)}),
    ("DepthToSpace", {"blocksize": 2}, {}),
    ("SpaceToDepth", {"blocksize": 2}, {}),
    ("Identity", {}, {}),
    ("Dropout", {}, {}),
]
BATCH_SAFE = [move for move in MOVES if move[0] != "Expand"]


@pytest.mark.parametrize(("kind", "flags", "constants"), BATCH_SAFE)
@pytest.mark.parametrize("batch", ["N", 1])
def test_data_movement(kind: str, flags: dict[str, Any], constants: dict[str, Any], batch: Any) -> None:
    shape = [batch, 4, 2, 4] if "To" in kind else [batch, 2, 3, 4]
    names = ["x", *constants]
    model = build([node(kind, names, ["y"], **flags), node("Relu", ["y"], ["z"])], {"x": shape}, {"z": None}, constants)
    loaded = check(model, Select, Relu)
    select = loaded.network.nodes[0].op
    assert isinstance(select, Select)
    assert select.indices.dtype == np.int64


def test_expand_in_front_of_all_axes() -> None:
    model = build([node("Expand", ["x", "s"], ["y"])], {"x": [2, 3]}, {"y": [5, 2, 3]}, {"s": ints(5, 1, 1)})
    check(model, Select)


def test_squeeze_before_and_after_its_axes_were_an_input() -> None:
    check(build([node("Squeeze", ["x"], ["y"], axes=[1])], {"x": ["N", 1, 3]}, {"y": ["N", 3]}, opset=11), Select)
    check(build([node("Squeeze", ["x", "a"], ["y"])], {"x": ["N", 1, 3]}, {"y": ["N", 3]}, {"a": ints(1)}), Select)
    check(build([node("Unsqueeze", ["x"], ["y"], axes=[1])], {"x": ["N", 3]}, {"y": ["N", 1, 3]}, opset=11), Select)


def test_slice_when_its_bounds_were_attributes() -> None:
    slicing = node("Slice", ["x"], ["y"], starts=[1], ends=[3], axes=[1])
    check(build([slicing], {"x": ["N", 4]}, {"y": ["N", 2]}, opset=9), Select)


def test_split_makes_one_select_for_each_output() -> None:
    nodes = [node("Split", ["x", "s"], ["a", "b"], axis=1, name="cut"), node("Add", ["a", "b"], ["y"])]
    loaded = check(build(nodes, {"x": ["N", 6]}, {"y": ["N", 3]}, {"s": ints(3, 3)}))
    assert [len(group.made) for group in loaded.groups] == [2, 1]


def test_concat() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Concat", ["a", "x", "a"], ["y"], axis=2)]
    loaded = check(build(nodes, {"x": ["N", 2, 3]}, {"y": ["N", 2, 9]}), Relu, Select)
    assert loaded.network.nodes[1].inputs == ("a", "x")


def test_concat_with_a_constant() -> None:
    model = build([node("Concat", ["x", "c"], ["y"], axis=1)], {"x": [1, 3]}, {"y": [1, 5]}, {"c": numbers(1, 2)})
    check(model, Constant, Select)


def batch_size(of: str) -> list[Any]:
    return [node("Shape", [of], ["shape"]), node("Gather", ["shape", "zero"], ["n"], axis=0)]


def test_concat_with_a_constant_for_each_sample() -> None:
    nodes = [
        *batch_size("x"),
        node("Concat", ["n", "two"], ["target"], axis=0),
        node("Expand", ["c", "target"], ["cc"]),
        node("Concat", ["x", "cc"], ["y"], axis=1),
    ]
    constants = {"zero": ints(0), "two": ints(2), "c": numbers(1, 2)}
    check(build(nodes, {"x": ["N", 3]}, {"y": ["N", 5]}, constants), Constant, Select)


def test_a_target_shape_computed_from_the_batch() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        *batch_size("r"),
        node("Concat", ["n", "rest"], ["target"], axis=0),
        node("Reshape", ["r", "target"], ["f"]),
        node("Gemm", ["f", "W"], ["y"]),
    ]
    constants = {"zero": ints(0), "rest": ints(-1), "W": numbers(6, 2)}
    loaded = check(build(nodes, {"x": ["N", 2, 3]}, {"y": ["N", 2]}, constants), Relu, Select, Dense)
    assert [group.made for group in loaded.groups].count(()) == 3


def test_cast_to_a_wider_format_moves_and_to_a_narrower_one_is_opaque() -> None:
    nodes = [
        node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
        node("MatMul", ["d", "W"], ["e"]),
        node("Cast", ["e"], ["y"], to=1),
    ]
    model = build(nodes, {"x": ["N", 3]}, {"y": ["N", 2]}, {"W": numbers(3, 2, dtype=np.float64)})
    loaded = check(model, opaque=True)
    assert [type(n.op).__name__ for n in loaded.network.nodes] == ["Select", "Dense", "Opaque"]
    assert loaded.network.tensors["d"].dtype == np.float64
    same = build([node("Cast", ["x"], ["y"], to=1)], {"x": ["N", 3]}, {"y": ["N", 3]})
    check(same, Select)


@pytest.mark.parametrize(
    ("kind", "flags", "constants", "shape"),
    [
        ("Transpose", {"perm": [1, 0]}, {}, ["N", 3]),
        ("Reshape", {}, {"s": ints(3, -1)}, ["N", 3]),
        ("Reshape", {}, {"s": ints(-1)}, ["N", 3]),
        ("Reshape", {}, {"s": ints(2, 3)}, ["N", 3]),
        ("Squeeze", {}, {}, ["N", 1, 3]),  # with a batch of one it would drop the batch axis
        ("Slice", {}, {"b": ints(0), "e": ints(1), "a": ints(0)}, ["N", 3]),
        ("Slice", {}, {"b": ints(-1), "e": ints(-9), "a": ints(0), "t": ints(-1)}, ["N", 3]),
        ("Slice", {}, {"b": ints(0), "e": ints(100), "a": ints(0)}, ["N", 3]),
        ("Slice", {}, {"b": ints(0), "e": ints(100), "a": ints(-2)}, ["N", 3]),
        ("Gather", {"axis": 0}, {"i": ints(0)}, ["N", 3]),
        ("Tile", {}, {"r": ints(2, 1)}, ["N", 3]),
        ("Flatten", {"axis": 0}, {}, ["N", 3]),
        ("Flatten", {"axis": 2}, {}, ["N", 3, 2]),
    ],
)
def test_what_mixes_samples_is_opaque(kind: str, flags: dict[str, Any], constants: Any, shape: Any) -> None:
    model = build([node(kind, ["x", *constants], ["y"], **flags)], {"x": shape}, {"y": None}, constants)
    (found,) = read(model).network.opaque
    assert "batch" in found.op.why or "computed" in found.op.why  # type: ignore[attr-defined]


def test_joining_along_the_batch_is_opaque() -> None:
    assert read(build([node("Concat", ["x", "x"], ["y"], axis=0)], {"x": ["N", 3]}, {"y": None})).network.opaque


def test_dropout_that_trains_or_whose_mask_is_read_is_opaque() -> None:
    constants = {"ratio": np.array(0.5, np.float32), "training": np.array(True)}
    model = build([node("Dropout", ["x", "ratio", "training"], ["y"])], {"x": ["N", 3]}, {"y": None}, constants)
    assert read(model).network.opaque
    model = build([node("Dropout", ["x"], ["y", "mask"]), node("Not", ["mask"], ["z"])], {"x": ["N", 3]}, {"y": None})
    assert len(read(model).network.opaque) == 2


def test_a_huge_result_is_left_alone() -> None:
    model = build([node("Tile", ["x", "r"], ["y"])], {"x": [1, 3]}, {"y": None}, {"r": ints(1, 10**12)})
    assert read(model).network.opaque
    fill = node("ConstantOfShape", ["s"], ["c"])
    model = build([fill, node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {"y": None}, {"s": ints(10**6, 10**6)})
    assert len(read(model).network.opaque) == 1


def test_a_slice_that_keeps_the_whole_batch() -> None:
    bounds = {"b": ints(0, 1), "e": ints(2**63 - 1, 3), "a": ints(0, 1)}
    check(build([node("Slice", ["x", *bounds], ["y"])], {"x": ["N", 4]}, {"y": ["N", 2]}, bounds), Select)


def test_a_shape_that_saturates_with_the_batch_is_not_followed() -> None:
    nodes = [
        *batch_size("x"),
        node("Min", ["n", "limit"], ["m"]),
        node("Concat", ["m", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": ints(0), "limit": ints(5), "rest": ints(-1)}
    assert len(read(build(nodes, {"x": ["N", 2, 3]}, {"y": None}, constants)).network.opaque) == 3
