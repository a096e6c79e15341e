from dataclasses import replace
from typing import Any

import ir_reference
import numpy as np
import onnx
import pytest
from io_tools import assert_close, assert_same_function, build, copied, edit, numbers, random_feeds, read, session
from onnx import TensorProto, helper, numpy_helper

from reluce.io import Loaded, loads, serialise
from reluce.network import Affine, BatchNorm, Constant, Dense, Network, Node, Relu, Select

node = helper.make_node
Array = np.ndarray[Any, Any]


def written(loaded: Loaded, network: Network, metadata: Any = {}) -> onnx.ModelProto:  # noqa: B006
    """The rewritten file, after comparing what it computes with what the network means."""
    data = serialise(loaded, network, metadata)
    assert data == serialise(loaded, network, metadata)
    onnx.checker.check_model(data, full_check=True)
    for batch in (1, 3):
        feeds = random_feeds(loaded.data, batch)
        assert_close(session(data).run(None, feeds), ir_reference.evaluate(network, feeds))
    return onnx.load_from_string(data)


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def without_unit(network: Network, hidden: tuple[str, ...], unit: int = 1) -> Network:
    """Cut one unit out of all the given tensors: the rows that write it and the columns that read it."""

    def cut(old: Node) -> Node:
        op = old.op
        if isinstance(op, Dense):
            if old.inputs[0] in hidden:
                op = replace(op, weight=np.delete(op.weight, unit, 1))
            if old.output in hidden:
                bias = None if op.bias is None else np.delete(op.bias, unit)
                op = replace(op, weight=np.delete(op.weight, unit, 0), bias=bias)
        elif isinstance(op, Affine) and old.output in hidden:
            scale, shift = (None if a is None else np.delete(a, unit, -1) for a in (op.scale, op.shift))
            op = replace(op, scale=scale, shift=shift)
        elif isinstance(op, BatchNorm) and old.output in hidden:
            parts = [np.delete(a, unit, -1) for a in (op.scale, op.shift, op.mean, op.variance)]
            op = BatchNorm(parts[0], parts[1], parts[2], parts[3], op.epsilon)
        return old if op is old.op else replace(old, op=op)

    shapes = {name: (*network.shape(name)[:-1], network.shape(name)[-1] - 1) for name in hidden}
    return edit(network, cut, shapes)


FORMS = ["gemm", "gemm transposed", "matmul", "matmul without bias", "scaled gemm"]


def chain(form: str, *, dtype: Any = np.float32, batch: Any = "N", **more: Any) -> onnx.ModelProto:
    def layer(k: int, source: str, output: str) -> list[onnx.NodeProto]:
        if form.startswith("matmul"):
            if "without" in form:
                return [node("MatMul", [source, f"W{k}"], [output], name=f"mm{k}")]
            product = node("MatMul", [source, f"W{k}"], [f"{output}_mm"], name=f"mm{k}")
            return [product, node("Add", [f"{output}_mm", f"B{k}"], [output], name=f"add{k}")]
        flags: dict[str, Any] = {"transB": 1} if form == "gemm transposed" else {}
        flags |= {"alpha": 0.5, "beta": 2.0} if form == "scaled gemm" else {}
        return [node("Gemm", [source, f"W{k}", f"B{k}"], [output], name=f"fc{k}", **flags)]

    nodes = [*layer(1, "x", "h"), node("Relu", ["h"], ["r"], name="relu"), *layer(2, "r", "y")]
    constants = {"W1": numbers(4, 5, dtype=dtype), "W2": numbers(5, 2, dtype=dtype)}
    if form == "gemm transposed":
        constants = {name: array.T.copy() for name, array in constants.items()}
    if "without" not in form:
        constants |= {"B1": numbers(5, dtype=dtype), "B2": numbers(2, dtype=dtype)}
    return build(nodes, {"x": [batch, 4]}, {"y": [batch, 2]}, constants, dtype=dtype, **more)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_unit_is_cut_out(form: str, dtype: Any, batch: Any) -> None:
    loaded = read(chain(form, dtype=dtype, batch=batch))
    model = written(loaded, without_unit(loaded.network, ("h", "r")))
    before = onnx.load_from_string(loaded.data)
    assert [n.op_type for n in model.graph.node] == [n.op_type for n in before.graph.node]
    assert [n.name for n in model.graph.node] == [n.name for n in before.graph.node]
    assert [n.attribute for n in model.graph.node] == [n.attribute for n in before.graph.node]
    found = arrays(model)
    assert set(found) == set(arrays(before))
    assert found["W1"].shape == ((4, 4))
    assert found["W1"].dtype == dtype
    assert model.graph.output == before.graph.output
    assert model.graph.input == before.graph.input
    again = loads(model.SerializeToString()).network
    assert again.tensors["r"].shape == (4,) if batch == "N" else (1, 4)


def test_what_is_not_touched_stays_as_it_was() -> None:
    nodes = [node("Gemm", ["r0", "V"], ["x1"], name="", doc_string="mine"), *chain("gemm").graph.node]
    nodes[1].input[0] = "x1"
    constants = arrays(chain("gemm")) | {"V": numbers(4, 4)}
    model = build(nodes, {"r0": ["N", 4]}, {"y": ["N", 2]}, constants)
    model.graph.initializer[-1].doc_string = "kept"
    loaded = read(model)
    new = written(loaded, without_unit(loaded.network, ("h", "r")))
    assert new.graph.node[0] == model.graph.node[0]
    assert [t for t in new.graph.initializer if t.name == "V"] == [t for t in model.graph.initializer if t.name == "V"]


def test_a_shared_weight_is_parted_when_one_user_shrinks() -> None:
    nodes = [
        node("Gemm", ["x", "W", "B"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "W", "B"], ["k"]),
        node("Relu", ["k"], ["s"]),
        node("Gemm", ["s", "W", "B"], ["y"]),
    ]
    loaded = read(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"W": numbers(4, 4), "B": numbers(4)}))
    model = written(loaded, without_unit(loaded.network, ("h", "r")))
    found = arrays(model)
    assert found["W"].shape == (4, 4)  # the last layer still reads it
    assert sorted(array.shape for array in found.values()) == [(3,), (3, 4), (4,), (4, 3), (4, 4)]
    model = written(loaded, without_unit(loaded.network, ("h", "r", "k", "s")))
    assert sorted(array.shape for array in arrays(model).values()) == [(3,), (3, 3), (3, 4), (4,), (4, 3)]


def test_a_weight_shared_by_equal_copies_stays_shared() -> None:
    nodes = [node("Gemm", ["x", "W"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "W"], ["y"])]
    loaded = read(build(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {"W": numbers(4, 4)}))
    assert list(arrays(written(loaded, copied(loaded.network)))) == ["W"]


def test_weights_in_constant_nodes() -> None:
    nodes = [
        node("Constant", [], ["W1"], value=numpy_helper.from_array(numbers(4, 5))),
        node("Constant", [], ["B1"], value=numpy_helper.from_array(numbers(5))),
        node("MatMul", ["x", "W1"], ["p"]),
        node("Add", ["B1", "p"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Constant", [], ["W2"], value=numpy_helper.from_array(numbers(5, 2))),
        node("MatMul", ["r", "W2"], ["y"]),
    ]
    loaded = read(build(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}))
    model = written(loaded, without_unit(loaded.network, ("h", "r")))
    assert [n.op_type for n in model.graph.node] == ["MatMul", "Add", "Relu", "MatMul"]
    assert set(arrays(model)) == {"W1", "B1", "W2"}


def test_elementwise_layers_shrink_along() -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["a"]),
        node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"], name="bn"),
        node("Mul", ["n", "c"], ["d"]),
        node("Sub", ["d", "e"], ["f"]),
        node("Relu", ["f"], ["g"]),
        node("MatMul", ["g", "V"], ["y"]),
    ]
    constants = {name: numbers(5, seed=k) for k, name in enumerate("sbmce")} | {"v": np.abs(numbers(5)) + 1}
    constants |= {"W": numbers(4, 5), "V": numbers(5, 2)}
    loaded = read(build(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, constants))
    model = written(loaded, without_unit(loaded.network, ("a", "n", "d", "f", "g")))
    assert arrays(model)["s"].shape == (4,)
    assert len(model.graph.node) == 6


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("opset", [7, 8, 11, 17])
def test_a_constant_in_place_of_a_node(batch: Any, opset: int) -> None:
    loaded = read(chain("gemm", batch=batch, opset=opset))
    shape = loaded.network.shape("y")
    inputs = ("x",) if batch == "N" else ()

    def change(old: Node) -> Node | None:
        if old.output == "y":
            return replace(old, op=Constant(numbers(*shape)), inputs=inputs)
        return None

    model = written(loaded, edit(loaded.network, change))
    assert "W1" not in arrays(model)
    again = loads(model.SerializeToString()).network
    assert [type(n.op) for n in again.nodes] == [Constant]


def test_a_layer_that_reads_an_earlier_tensor() -> None:
    loaded = read(chain("gemm"))

    def change(old: Node) -> Node | None:
        if old.output != "y":
            return None
        return replace(old, op=Dense(numbers(2, 4), numbers(2)), inputs=("x",))

    model = written(loaded, edit(loaded.network, change))
    (only,) = model.graph.node
    assert only.name == "fc2"
    assert set(arrays(model)) == {"W2", "B2"}


def test_a_relu_that_became_the_identity() -> None:
    loaded = read(chain("matmul"))
    network = edit(loaded.network, lambda n: replace(n, op=Select(np.arange(5), (5,))) if isinstance(n.op, Relu) else n)
    model = written(loaded, network)
    assert [n.op_type for n in model.graph.node] == ["MatMul", "Add", "Identity", "MatMul", "Add"]


def test_a_new_node_under_a_new_name() -> None:
    loaded = read(chain("gemm"))
    extra = Node("half", Affine(np.full(5, 0.5, np.float32)), ("r",), ("r_half",))
    nodes = [replace(n, inputs=("r_half",)) if n.output == "y" else n for n in loaded.network.nodes]
    tensors = {**loaded.network.tensors, "r_half": replace(loaded.network.tensors["r"], name="r_half")}
    model = written(loaded, replace(loaded.network, nodes=(*nodes[:2], extra, *nodes[2:]), tensors=tensors))
    assert [n.op_type for n in model.graph.node] == ["Gemm", "Relu", "Mul", "Gemm"]
    assert arrays(model)["half.scale"].shape == ()


@pytest.mark.parametrize("batch", ["N", 1])
@pytest.mark.parametrize("kind", ["Flatten", "Transpose", "Slice", "Concat", "Squeeze"])
def test_data_movement_over_a_smaller_tensor(kind: str, batch: Any) -> None:
    lead = () if batch == "N" else (1,)
    forms: dict[str, tuple[Any, Any, Any]] = {
        "Flatten": (node("Flatten", ["r"], ["f"]), {}, lambda a: a.reshape(*lead, -1)),
        "Transpose": (node("Transpose", ["r"], ["f"], perm=[0, 2, 1]), {}, lambda a: a.swapaxes(-1, -2)),
        "Slice": (
            node("Slice", ["r", "b", "e", "a"], ["f"]),
            {"b": np.array([1]), "e": np.array([2]), "a": np.array([1])},
            lambda a: a[..., 1:2, :],
        ),
        "Concat": (node("Concat", ["r", "h"], ["f"], axis=1), {}, None),
        "Squeeze": (
            node("Unsqueeze", ["r", "a"], ["f"]),
            {"a": np.array([1])},
            lambda a: a.reshape(*lead, 1, *a.shape[-2:]),
        ),
    }
    step, constants, move = forms[kind]
    nodes = [node("MatMul", ["x", "W"], ["h"]), node("Relu", ["h"], ["r"]), step]
    loaded = read(build(nodes, {"x": [batch, 2, 4]}, {"f": None}, {"W": numbers(4, 5), **constants}))
    small = without_unit(loaded.network, ("h", "r"))
    numbered = np.arange(8).reshape(*lead, 2, 4)
    result = np.concatenate([numbered, numbered + 8], -2) if move is None else move(numbered)
    op = Select(result.ravel(), result.shape)
    network = edit(small, lambda n: replace(n, op=op) if n.output == "f" else n, {"f": result.shape})
    data = serialise(loaded, network, {})
    for size in (1, 3) if batch == "N" else (1,):
        feeds = random_feeds(loaded.data, size)
        model = onnx.load_from_string(data)
        del model.graph.output[0].type.tensor_type.shape.dim[:]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        assert_close(session(model.SerializeToString()).run(None, feeds), ir_reference.evaluate(network, feeds))
    assert len(onnx.load_from_string(data).graph.node) == 3


def test_any_data_movement_can_be_written() -> None:
    loaded = read(
        build([node("Concat", ["x", "z"], ["y"], axis=1)], {"x": ["N", 2, 3], "z": ["N", 1, 3]}, {"y": ["N", 3, 3]})
    )
    order = np.random.default_rng(0).permutation(9)
    network = edit(loaded.network, lambda n: replace(n, op=Select(order, (3, 3))))
    written(loaded, network)


def test_a_branch_of_a_split_that_nobody_reads_any_more() -> None:
    nodes = [
        node("Split", ["x", "s"], ["a", "b"], axis=1),
        node("Relu", ["a"], ["y"]),
        node("Relu", ["b"], ["w"]),
        node("Add", ["y", "w"], ["z"]),
    ]
    loaded = read(build(nodes, {"x": ["N", 6]}, {"z": ["N", 3]}, {"s": np.array([3, 3])}))

    def change(old: Node) -> Node | None:
        if old.output in ("b", "w"):
            return None
        return replace(old, op=Affine(), inputs=("y",)) if old.output == "z" else old

    model = written(loaded, edit(loaded.network, change))
    assert [n.op_type for n in model.graph.node] == ["Split", "Relu", "Identity"]


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_constant_computed_from_the_shape_of_a_tensor_that_shrinks(batch: Any) -> None:
    nodes = [
        node("MatMul", ["x", "W"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "V"], ["v"]),
        node("Shape", ["r"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Gather", ["shape", "one"], ["width"]),
        node("Sub", ["width", "three"], ["two"]),
        node("Concat", ["n", "two"], ["target"], axis=0),
        node("Reshape", ["v", "target"], ["y"]),
    ]
    constants = {
        "W": numbers(4, 5),
        "V": numbers(5, 2),
        "zero": np.array([0]),
        "one": np.array([1]),
        "three": np.array([3]),
    }
    loaded = read(build(nodes, {"x": [batch, 4]}, {"y": [batch, 2]}, constants))
    model = written(loaded, without_unit(loaded.network, ("h", "r")))
    assert any(n.op_type == "Reshape" for n in model.graph.node)


def decorated() -> onnx.ModelProto:
    model = chain("gemm", producer_name="maker", producer_version="3", doc_string="about", opset=15)
    helper.set_model_props(model, {"theirs": "kept", "reluce.eps": "old"})
    model.graph.doc_string = "graph"
    model.graph.input[0].doc_string = "input"
    for name, width in (("h", 5), ("r", 5), ("gone", 5)):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]))
    model.opset_import.append(helper.make_opsetid("my.ops", 2))
    return model


def test_all_that_surrounds_the_nodes_survives() -> None:
    loaded = read(decorated())
    model = written(loaded, without_unit(loaded.network, ("h", "r")), {"reluce.eps": "new", "reluce.key": "value"})
    assert [(p.key, p.value) for p in model.metadata_props] == [
        ("theirs", "kept"),
        ("reluce.eps", "new"),
        ("reluce.key", "value"),
    ]
    assert (model.producer_name, model.producer_version, model.doc_string) == ("maker", "3", "about")
    assert (model.graph.name, model.graph.doc_string, model.graph.input[0].doc_string) == ("tiny", "graph", "input")
    assert (model.ir_version, list(model.opset_import)) == (8, list(decorated().opset_import))
    assert not model.graph.value_info


def test_declared_shapes_that_still_hold_are_kept() -> None:
    loaded = read(decorated())
    model = written(loaded, copied(loaded.network))
    assert [info.name for info in model.graph.value_info] == ["h", "r"]


@pytest.mark.parametrize("ir_version", [3, 8])
def test_listed_initialisers_follow(ir_version: int) -> None:
    model = chain("gemm", opset=8)
    model.ir_version = ir_version
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    loaded = read(model)
    new = written(loaded, without_unit(loaded.network, ("h", "r")))
    dims = {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim] for info in new.graph.input}
    assert dims["W1"] == [4, 4]
    assert dims["B1"] == [4]
    assert set(dims) == {"x", "W1", "W2", "B1", "B2"}

    def change(old: Node) -> Node | None:
        return replace(old, op=Dense(numbers(2, 4)), inputs=("x",)) if old.output == "y" else None

    new = written(loaded, edit(loaded.network, change))
    assert [info.name for info in new.graph.input][:2] == ["x", "W2"]


def test_an_old_file_lists_new_initialisers_among_its_inputs() -> None:
    model = chain("gemm", opset=8)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    loaded = read(model)
    network = edit(
        loaded.network, lambda n: replace(n, op=Affine(numbers(5), numbers(5))) if isinstance(n.op, Relu) else n
    )
    new = written(loaded, network)
    assert {t.name for t in new.graph.initializer} < {info.name for info in new.graph.input}


def test_a_node_that_is_not_modelled_cannot_change() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("Erf", ["r"], ["y"])]
    loaded = read(build(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}))
    network = edit(loaded.network, lambda n: replace(n, inputs=("x",)) if n.output == "y" else n)
    with pytest.raises(ValueError, match=r"'y' .Erf. is not modelled"):
        serialise(loaded, network, {})


def test_the_comparison_can_fail() -> None:
    loaded = read(chain("gemm"))
    other = edit(
        loaded.network, lambda n: replace(n, op=Dense(2 * n.op.weight, n.op.bias)) if isinstance(n.op, Dense) else n
    )
    with pytest.raises(AssertionError):
        assert_same_function(loaded.data, serialise(loaded, other, {}))
