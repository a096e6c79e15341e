from typing import Any

import numpy as np
import pytest
from io_tools import build, check, numbers, read
from onnx import helper

from reluce.errors import ModelError
from reluce.network import Add, Affine, Dense, Relu, Select

node = helper.make_node


def gemm(bias: np.ndarray[Any, Any] | None, *, batch: Any = "N", width: int = 4, opset: int = 17, **flags: Any) -> Any:
    weight = numbers(3, width) if flags.get("transB") else numbers(width, 3)
    constants = {"W": weight} | ({} if bias is None else {"B": bias})
    source = [width, batch] if flags.get("transA") else [batch, width]
    names = ["x", "W"] + ([] if bias is None else ["B"])
    return build(
        [node("Gemm", names, ["y"], name="fc", **flags)], {"x": source}, {"y": [batch, 3]}, constants, opset=opset
    )


@pytest.mark.parametrize(
    "flags", [{}, {"transB": 1}, {"alpha": 0.3}, {"beta": -2.0}, {"alpha": 0.3, "beta": 0.7, "transB": 1}]
)
@pytest.mark.parametrize("bias", [None, numbers(3), numbers(1), numbers(1, 3), numbers(1, 1), numbers()])
@pytest.mark.parametrize("batch", ["N", 1, 5])
def test_gemm(flags: dict[str, Any], bias: Any, batch: Any) -> None:
    loaded = check(gemm(bias, batch=batch, **flags), Dense)
    (dense,) = loaded.network.nodes
    assert dense.name == "fc"
    assert isinstance(dense.op, Dense)
    assert dense.op.weight.shape == (3, 4)
    assert dense.op.weight.dtype == np.float32
    assert dense.op.alpha == np.float32(flags.get("alpha", 1.0))
    assert loaded.network.batched == (batch == "N")
    assert loaded.network.tensors["x"].shape == ((4,) if batch == "N" else (batch, 4))


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 20])
def test_gemm_in_many_operator_sets(opset: int) -> None:
    check(gemm(numbers(3), opset=opset), Dense)


def test_a_beta_of_zero_leaves_no_bias() -> None:
    (dense,) = check(gemm(numbers(3), beta=0.0), Dense).network.nodes
    assert isinstance(dense.op, Dense)
    assert dense.op.bias is None


def test_gemm_with_transposed_input_moves_data_first() -> None:
    check(gemm(numbers(3), batch=1, transA=1), Select, Dense)
    check(gemm(numbers(3), batch=5, transA=1), Select, Dense)


def test_gemm_with_a_bias_for_each_row() -> None:
    check(gemm(numbers(5, 3), batch=5), Dense, Affine)
    check(gemm(numbers(5, 1), batch=5), Dense, Affine)
    check(gemm(numbers(5, 3), batch=5, beta=0.5), opaque=True)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_gemm_with_a_variable_bias(beta: float) -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("Gemm", ["x", "W", "h"], ["y"], beta=beta)]
    model = build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"W": numbers(3, 3)})
    check(model, *([Relu, Dense, Add] if beta == 1.0 else [Relu, Dense, Affine, Add]))


@pytest.mark.parametrize("order", [["h", "B"], ["B", "h"]])
@pytest.mark.parametrize("bias", [numbers(3), numbers(1), numbers(1, 3), numbers()])
@pytest.mark.parametrize("shape", [["N", 4], [1, 4], ["N", 5, 4], [2, 5, 4], ["N", 2, 2, 4]])
def test_matmul_and_add_are_one_dense(order: list[str], bias: Any, shape: list[Any]) -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"], name="mm"), node("Add", order, ["y"], name="add")]
    model = build(nodes, {"x": shape}, {"y": [*shape[:-1], 3]}, {"W": numbers(4, 3), "B": bias})
    loaded = check(model, Dense)
    assert loaded.groups[0].nodes == (0, 1)
    assert "h" not in loaded.network.tensors


def test_matmul_on_a_vector() -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Add", ["h", "B"], ["y"])]
    check(build(nodes, {"x": [4]}, {"y": [3]}, {"W": numbers(4, 3), "B": numbers(3)}), Dense)


def test_a_bias_that_comes_from_a_constant_node_between_the_two() -> None:
    value = helper.make_node("Constant", [], ["B"], value_floats=[1.0, 2.0, 3.0])
    nodes = [node("MatMul", ["x", "W"], ["h"]), value, node("Add", ["h", "B"], ["y"])]
    check(build(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"W": numbers(4, 3)}), Dense)


def test_a_product_that_something_else_reads_stays_apart() -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Add", ["h", "B"], ["y"])]
    model = build(nodes, {"x": ["N", 4]}, {"y": ["N", 3], "h": ["N", 3]}, {"W": numbers(4, 3), "B": numbers(3)})
    check(model, Dense, Affine)


def test_a_bias_by_position_is_no_bias() -> None:
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Add", ["h", "B"], ["y"])]
    check(build(nodes, {"x": ["N", 5, 4]}, {"y": ["N", 5, 3]}, {"W": numbers(4, 3), "B": numbers(5, 1)}), Dense, Affine)
    check(build(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"W": numbers(4, 1), "B": numbers(3)}), Dense, Select, Affine)


def test_matmul_with_a_constant_vector() -> None:
    check(
        build([node("MatMul", ["x", "W"], ["y"])], {"x": ["N", 5, 4]}, {"y": ["N", 5]}, {"W": numbers(4)}),
        Dense,
        Select,
    )


def test_matmul_with_the_constant_on_the_left() -> None:
    one = build([node("MatMul", ["W", "x"], ["y"])], {"x": ["N", 4, 2]}, {"y": ["N", 3, 2]}, {"W": numbers(3, 4)})
    check(one, Select, Dense, Select)
    check(
        build([node("MatMul", ["W", "x"], ["y"])], {"x": [4, 2]}, {"y": [3, 2]}, {"W": numbers(3, 4)}),
        Select,
        Dense,
        Select,
    )
    check(build([node("MatMul", ["W", "x"], ["y"])], {"x": [4]}, {"y": [3]}, {"W": numbers(3, 4)}), Dense)


def test_a_product_along_the_batch_is_opaque() -> None:
    model = build([node("MatMul", ["W", "x"], ["y"])], {"x": ["N", 4]}, {"y": [3, 4]}, {"W": numbers(3, 2)})
    (found,) = read(model).network.opaque
    assert "batch axis" in found.op.why  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_formats(dtype: Any) -> None:
    nodes = [node("Gemm", ["x", "W", "B"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "V"], ["y"])]
    constants = {"W": numbers(4, 3, dtype=dtype), "B": numbers(3, dtype=dtype), "V": numbers(3, 2, dtype=dtype)}
    loaded = check(build(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, constants, dtype=dtype), Dense, Relu, Dense)
    assert loaded.network.tensors["h"].dtype == dtype


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_widths_that_do_not_fit(kind: str) -> None:
    model = build([node(kind, ["x", "W"], ["y"], name="fc")], {"x": ["N", 4]}, {"y": ["N", 3]}, {"W": numbers(5, 3)})
    with pytest.raises(ModelError, match=r"'fc'.*'W'.*takes 5 inputs, 'x' has 4"):
        read(model)


def test_a_bias_that_does_not_fit() -> None:
    with pytest.raises(ModelError, match=r"'fc'.*'B'.*\[2\].*width 3"):
        read(gemm(numbers(2)))
