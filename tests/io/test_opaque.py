from typing import Any

import numpy as np
import pytest
from io_tools import build, check, copied, numbers, read, session
from onnx import TensorProto, helper, numpy_helper

from reluce.errors import ModelError
from reluce.io import loads, serialise
from reluce.network import Add, Affine, Constant, Dense, Opaque, Relu, Select

node = helper.make_node


def kinds(model: Any, **more: Any) -> list[str]:
    return [n.op.kind if isinstance(n.op, Opaque) else type(n.op).__name__ for n in read(model, **more).network.nodes]


def test_a_node_that_is_not_modelled_passes_through_and_its_shape_is_known() -> None:
    nodes = [node("Gemm", ["x", "W"], ["h"]), node("Erf", ["h"], ["e"]), node("MatMul", ["e", "W"], ["y"])]
    loaded = check(
        build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"W": numbers(3, 3)}), Dense, Opaque, Dense, opaque=True
    )
    assert loaded.network.tensors["e"].shape == (3,)


@pytest.mark.parametrize("batch", ["N", 1])
def test_convolution_then_dense(batch: Any) -> None:
    nodes = [
        node("Conv", ["x", "K"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "W"], ["y"]),
    ]
    constants = {"K": numbers(2, 1, 3, 3), "W": numbers(8, 3)}
    model = build(nodes, {"x": [batch, 1, 4, 4]}, {"y": [batch, 3]}, constants)
    check(model, Opaque, Relu, Select, Dense, opaque=True)


def test_what_a_subgraph_captures_is_an_input() -> None:
    def branch(name: str, kind: str) -> Any:
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node(kind, ["h", "c"], [name])], name, [], [out])

    nodes = [
        node("Relu", ["x"], ["h"]),
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Cast", ["s"], ["test"], to=TensorProto.BOOL),
        node("If", ["test"], ["y"], then_branch=branch("a", "Add"), else_branch=branch("b", "Sub")),
    ]
    loaded = read(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"c": numbers(3)}))
    assert loaded.network.nodes[-1].inputs == ("test", "h")
    assert [consumer.name for consumer in loaded.network.consumers["h"]] == ["y"]


def test_custom_operators_and_local_functions_are_opaque() -> None:
    model = build([node("Relu", ["x"], ["y"], domain="my.ops")], {"x": ["N", 3]}, {"y": ["N", 3]})
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    assert kinds(model) == ["Relu"]
    (found,) = read(model).network.opaque
    assert "my.ops" in found.op.why  # type: ignore[attr-defined]
    function = helper.make_function(
        "my.ops", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(function)
    loaded = read(model)
    assert loaded.network.opaque
    assert loads(serialise(loaded, copied(loaded.network), {"k": "v"})).network.opaque


def test_integers_and_other_formats_are_opaque() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 3])]
    graph = helper.make_graph([node("Neg", ["x"], ["y"])], "tiny", inputs, outputs)
    loaded = read(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert loaded.network.opaque
    assert loaded.network.tensors["y"].dtype == np.int64


def test_a_quantised_weight_makes_its_readers_opaque() -> None:
    nodes = [node("DequantizeLinear", ["W", "s"], ["w"]), node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    constants = {"W": np.arange(6, dtype=np.int8).reshape(3, 2), "s": np.array(0.1, np.float32)}
    loaded = check(build(nodes, {"x": ["N", 3]}, {"y": ["N", 2]}, constants), Opaque, Opaque, Relu, opaque=True)
    assert loaded.network.nodes[0].inputs == ()


def test_a_sparse_weight_makes_its_readers_opaque() -> None:
    model = build([node("MatMul", ["x", "W"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 2]})
    values, indices = numpy_helper.from_array(numbers(1), "W"), numpy_helper.from_array(np.array([2], np.int64), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3, 2]))
    (found,) = read(model).network.opaque
    assert found.inputs == ("x",)


def test_rounding_of_constants_is_not_followed_but_exact_steps_are() -> None:
    def model(c: Any) -> Any:
        nodes = [node("Add", ["a", "c"], ["s"]), node("Transpose", ["s"], ["t"]), node("MatMul", ["x", "t"], ["y"])]
        return build(nodes, {"x": ["N", 3]}, {"y": ["N", 2]}, {"a": np.full((2, 3), 0.25, np.float32), "c": c})

    assert kinds(model(np.ones((2, 3), np.float32))) == ["Dense"]
    assert kinds(model(np.full((2, 3), 1e-9, np.float32))) == ["Add", "Transpose", "MatMul"]


def test_initialisers_that_are_graph_inputs_are_constants() -> None:
    model = build(
        [node("Gemm", ["x", "W", "B"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 2]}, {"W": numbers(3, 2), "B": numbers(2)}
    )
    for name, shape in (("W", [3, 2]), ("B", [2])):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    loaded = check(model, Dense)
    assert loaded.network.inputs == ("x",)
    (note,) = loaded.notes
    assert "2 graph inputs" in note
    assert "'W'" in note


def test_names_are_made_up_and_unique() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["y"]),
    ]
    loaded = read(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}))
    assert [n.name for n in loaded.network.nodes] == ["same", "same_1", "y"]


class TestInputShapes:
    nodes = (node("MatMul", ["x", "W"], ["h"]), node("Relu", ["h"], ["y"]))

    def model(self, shape: list[Any]) -> Any:
        return build(self.nodes, {"x": shape}, {"y": [*shape[:-1], 2]}, {"W": numbers(3, 2)})

    def test_an_open_axis_makes_readers_opaque_and_a_note_says_what_to_do(self) -> None:
        loaded = read(self.model(["N", "T", 3]))
        assert len(loaded.network.opaque) == 2
        assert any("--input-shape x:d0,d1" in note for note in loaded.notes)

    @pytest.mark.parametrize("batch", [0, -1])
    def test_a_given_shape_with_a_batch(self, batch: int) -> None:
        network = read(self.model(["N", "T", 3]), input_shapes={"x": (batch, 5, 3)}).network
        assert (network.batched, network.tensors["y"].shape) == (True, (5, 2))

    def test_a_given_shape_without_a_batch(self) -> None:
        network = read(self.model(["N", "T", 3]), input_shapes={"x": (1, 5, 3)}).network
        assert (network.batched, network.tensors["y"].shape) == (False, (1, 5, 2))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"z": (1, 5, 3)}, "no graph input 'z'.*'x'"),
            ({"W": (3, 2)}, "no graph input 'W'"),
            ({"x": (1, 5)}, "'x' has 2 axes, the model has 3"),
            ({"x": (1, 5, 4)}, "'x' has 4 on axis 2, the model has 3"),
            ({"x": (1, 0, 3)}, "'x' has a length below 1"),
        ],
    )
    def test_shapes_that_do_not_fit(self, given: Any, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            read(self.model(["N", "T", 3]), input_shapes=given)

    @pytest.mark.parametrize("dim", [0, None, "N"])
    def test_what_counts_as_a_batch_axis(self, dim: Any) -> None:
        assert read(self.model([dim, 3])).network.batched

    def test_a_side_input_without_the_batch_makes_its_readers_opaque(self) -> None:
        nodes = [node("Add", ["x", "z"], ["h"]), node("Relu", ["h"], ["y"])]
        loaded = check(build(nodes, {"x": ["N", 3], "z": [1, 3]}, {"y": ["N", 3]}), Opaque, Relu, opaque=True)
        assert loaded.network.tensors["z"].shape is None
        assert loaded.network.tensors["h"].shape == (3,)

    def test_two_inputs_with_the_batch(self) -> None:
        check(build([node("Add", ["x", "z"], ["y"])], {"x": ["N", 3], "z": ["M", 3]}, {"y": ["K", 3]}), Add)


def test_constant_graph_outputs() -> None:
    value = node("Constant", [], ["c"], value=numpy_helper.from_array(numbers(1, 2)))
    outputs: Any = {"y": ["N", 3], "c": [1, 2]}
    check(build([value, node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, outputs), Relu, Opaque, opaque=True)
    outputs = {"y": [1, 3], "c": [1, 2]}
    check(build([value, node("Relu", ["x"], ["y"])], {"x": [1, 3]}, outputs), Relu, Constant)


def test_a_shape_feeding_arithmetic_is_a_constant_where_all_axes_are_fixed() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["d"]),
        node("Cast", ["d"], ["f"], to=TensorProto.FLOAT),
        node("Div", ["x", "f"], ["y"]),
    ]
    constants = {"one": np.array(1, np.int64)}
    check(build(nodes, {"x": [1, 4]}, {"y": [1, 4]}, constants), Affine)


def test_recurrent_networks_pass_through() -> None:
    nodes = [
        node("RNN", ["x", "W", "R"], ["", "h"], hidden_size=2),
        node("Squeeze", ["h", "zero"], ["s"]),
        node("Gemm", ["s", "V"], ["y"]),
    ]
    constants = {"W": numbers(1, 2, 3), "R": numbers(1, 2, 2), "V": numbers(2, 2), "zero": np.array([0], np.int64)}
    loaded = read(build(nodes, {"x": ["T", "N", 3]}, {"y": ["N", 2]}, constants))
    assert loaded.network.opaque
    assert session(loaded.data).run(None, {"x": numbers(4, 2, 3)})[0].shape == (2, 2)
