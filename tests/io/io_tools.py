"""Tiny models, and the comparisons that all tests of reading and writing make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ir_reference
import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reluce.io import Loaded, loads, serialise
from reluce.network import Network, Node, Op, Opaque

Array = np.ndarray[Any, Any]
ELEMENTS = {np.float16: TensorProto.FLOAT16, np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}
TOLERANCE = {np.dtype(np.float16): 3e-2, np.dtype(np.float32): 3e-5, np.dtype(np.float64): 1e-9}


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(dtype)


def build(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Mapping[str, Sequence[int | str | None] | None],
    constants: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    dtype: Any = np.float32,
    **more: Any,
) -> ModelProto:
    elem = ELEMENTS[dtype]
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, elem, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, **more)
    if None not in outputs.values():
        return model
    inferred = onnx.shape_inference.infer_shapes(model)
    del inferred.graph.value_info[:]
    return inferred


def read(model: ModelProto, **more: Any) -> Loaded:
    return loads(model.SerializeToString(), **more)


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def random_feeds(data: bytes, batch: int, seed: int = 0) -> dict[str, Array]:
    dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    feeds = {}
    for number, info in enumerate(session(data).get_inputs()):
        shape = [dim if isinstance(dim, int) and dim > 0 else batch for dim in info.shape]
        feeds[info.name] = numbers(*shape, seed=seed + number, dtype=dtypes[info.type])
    return feeds


def assert_close(found: Sequence[Array], wanted: Sequence[Array]) -> None:
    """Equal shapes, and values that differ by rounding only."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        bound = max(TOLERANCE.get(a.dtype, 0), TOLERANCE.get(b.dtype, 0))
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0)
        assert gap <= bound * max(1.0, np.abs(b.astype(np.float64)).max(initial=0)), gap


def assert_same_function(one: bytes, other: bytes) -> None:
    onnx.checker.check_model(other, full_check=True)
    for batch in (1, 3):
        feeds = random_feeds(one, batch)
        assert_close(session(other).run(None, feeds), session(one).run(None, feeds))


def copied(network: Network) -> Network:
    """The same network in which no operation is the object that was loaded."""
    nodes = tuple(node if isinstance(node.op, Opaque) else replace(node, op=replace(node.op)) for node in network.nodes)
    return replace(network, nodes=nodes)


def check(model: ModelProto, *ops: type[Op], opaque: bool = False, **more: Any) -> Loaded:
    """Read, evaluate, write as it was, write anew and read again; ``ops`` are the operations to expect."""
    loaded = read(model, **more)
    network = loaded.network
    assert not ops or [type(node.op) for node in network.nodes] == list(ops)
    assert opaque or not network.opaque, [node.op for node in network.opaque]
    if not opaque:
        for batch in (1, 3):
            feeds = random_feeds(loaded.data, batch)
            assert_close(ir_reference.evaluate(network, feeds), session(loaded.data).run(None, feeds))
    assert serialise(loaded, network, {"ignored": "when nothing changed"}) is loaded.data
    data = serialise(loaded, copied(network), {"key": "value"})
    assert data == serialise(loaded, copied(network), {"key": "value"})
    assert_same_function(loaded.data, data)
    again = loads(data).network
    assert len(again.opaque) == len(network.opaque)
    assert again.inputs == network.inputs
    assert again.outputs == network.outputs
    return loaded


def edit(
    network: Network, change: Callable[[Node], Node | None], shapes: Mapping[str, tuple[int, ...]] = {}
) -> Network:
    """A network with some nodes replaced (or gone) and some tensors of another shape."""
    nodes = tuple(new for node in network.nodes if (new := change(node)) is not None)
    written = {name for node in nodes for name in node.outputs} | set(network.inputs)
    tensors = {
        name: replace(tensor, shape=shapes.get(name, tensor.shape))
        for name, tensor in network.tensors.items()
        if name in written
    }
    return replace(network, nodes=nodes, tensors=tensors)
