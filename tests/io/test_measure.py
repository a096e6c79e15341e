from typing import Any

import numpy as np
import pytest
from io_tools import build, numbers, read
from onnx import TensorProto, helper, numpy_helper

from reluce.io import measure

node = helper.make_node


def test_dense_layers_and_shared_weights() -> None:
    weight = numbers(4, 4)
    weight[0] = 0
    nodes = [node("Gemm", ["x", "W", "B"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "W"], ["y"])]
    loaded = read(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"W": weight, "B": numbers(4), "unread": numbers(9)}))
    sizes = measure(loaded)
    assert (sizes.parameters, sizes.nonzeros, sizes.macs, sizes.bytes) == (20, 16, 32, len(loaded.data))


def test_constant_nodes_count_and_integers_do_not() -> None:
    nodes = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(numbers(3))),
        node("Mul", ["x", "c"], ["m"]),
        node("Reshape", ["m", "s"], ["y"]),
    ]
    sizes = measure(read(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"s": np.array([-1, 3])})))
    assert (sizes.parameters, sizes.macs) == (3, 0)


def test_positions_count() -> None:
    sizes = measure(
        read(build([node("MatMul", ["x", "W"], ["y"])], {"x": ["N", 5, 4]}, {"y": ["N", 5, 3]}, {"W": numbers(4, 3)}))
    )
    assert sizes.macs == 5 * 4 * 3


@pytest.mark.parametrize("batch", ["N", 1])
def test_convolutions(batch: Any) -> None:
    nodes = [node("Conv", ["x", "K"], ["c"], group=2), node("ConvTranspose", ["c", "L"], ["y"])]
    constants = {"K": numbers(4, 1, 3, 3), "L": numbers(4, 2, 2, 2)}
    model = build(nodes, {"x": [batch, 2, 6, 6]}, {"y": [batch, 2, 5, 5]}, constants)
    assert measure(read(model)).macs == 4 * 16 * 9 + 4 * 16 * 2 * 4


def test_products_of_variables() -> None:
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("MatMul", ["x", "t"], ["y"])]
    assert measure(read(build(nodes, {"x": ["N", 3, 4]}, {"y": ["N", 3, 3]}))).macs == 3 * 3 * 4


def test_weights_inside_subgraphs() -> None:
    out = helper.make_tensor_value_info("a", TensorProto.FLOAT, [3])
    branch = helper.make_graph(
        [node("Identity", ["w"], ["a"])], "b", [], [out], [numpy_helper.from_array(numbers(3), "w")]
    )
    nodes = [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Cast", ["s"], ["t"], to=TensorProto.BOOL)]
    nodes.append(node("If", ["t"], ["y"], then_branch=branch, else_branch=branch))
    assert measure(read(build(nodes, {"x": ["N", 3]}, {"y": [3]}))).parameters == 6
