"""ONNX protobufs: parsing, tensors to numpy, attributes, the names that a node reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reluce.errors import ModelError
from reluce.io._wire import survey
from reluce.network import Array

FLOATS: Mapping[int, type[np.generic]] = {
    TensorProto.FLOAT16: np.float16,
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
}
PLAIN: Mapping[int, type[np.generic]] = {
    **FLOATS,
    TensorProto.BOOL: np.bool_,
    TensorProto.INT8: np.int8,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
}
DEFAULT_DOMAINS = ("", "ai.onnx")


def parse(data: bytes, name: str) -> ModelProto:
    """Parse ONNX bytes.

    Raises
    ------
    ModelError
        When they are not an ONNX model with at least one node, or more than ``_limits`` allows.
    """
    if not data:
        raise ModelError(f"{name}: the file is empty (0 bytes)")
    try:
        survey(data)
        model = onnx.load_from_string(data)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    except Exception:  # protobuf's own exceptions differ between its implementations
        raise ModelError(f"{name}: not an ONNX file, or cut short (the protobuf cannot be parsed)") from None
    if not model.HasField("graph"):
        raise ModelError(f"{name}: not an ONNX file, or cut short (it holds no graph)")
    if not model.graph.node:
        raise ModelError(f"{name}: the graph has no nodes")
    return model


def opset(model: ModelProto) -> int:
    """Version of the standard operator set that the model imports (1 where it says nothing)."""
    return max((entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), default=1)


def decode(tensor: TensorProto, owner: str = "") -> Array | None:
    """Return a tensor as a read-only array, or ``None`` where its format is not a plain number.

    Raises
    ------
    ModelError
        When the data does not fill the declared dimensions. (``parse`` has refused data outside the file.)
    """
    name = tensor.name or owner
    dims = tuple(tensor.dims)
    if any(dim < 0 for dim in dims):
        raise ModelError(f"initialiser {name!r} has a negative dimension: {list(dims)}")
    if tensor.data_type not in PLAIN:
        return None
    dtype = np.dtype(PLAIN[tensor.data_type])
    if tensor.HasField("raw_data"):
        have, want = len(tensor.raw_data), prod(dims) * dtype.itemsize
        if have != want:
            raise ModelError(f"initialiser {name!r} of dimensions {list(dims)} needs {want} bytes and holds {have}")
    else:
        have, want = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))), prod(dims)
        if have != want:
            raise ModelError(f"initialiser {name!r} of dimensions {list(dims)} needs {want} values and holds {have}")
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"initialiser {name!r} cannot be decoded ({error})") from None
    array = array if array.flags.c_contiguous else array.copy()
    array.setflags(write=False)
    return array


def encode(array: Array, name: str) -> TensorProto:
    """Return an array as a tensor with raw data."""
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node by name, as Python values."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs that a node holds in its attributes."""
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            yield entry.g
        elif entry.type == AttributeProto.GRAPHS:
            yield from entry.graphs


def reads(node: NodeProto) -> tuple[str, ...]:
    """Names of the tensors that a node reads, captured ones included, each once."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        names.extend(captured(graph))
    return tuple(dict.fromkeys(names))


def captured(graph: GraphProto) -> Iterator[str]:
    """Names that a subgraph takes from the graphs around it."""
    own = {entry.name for entry in graph.input} | {entry.name for entry in graph.initializer}
    own |= {entry.values.name for entry in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
    yield from (entry.name for entry in graph.output if entry.name not in own)


def all_names(graph: GraphProto) -> Iterator[str]:
    """Every tensor and node name in a graph and its subgraphs: what a new name must not be."""
    yield from (entry.name for entry in (*graph.input, *graph.output, *graph.initializer, *graph.value_info))
    yield from (entry.values.name for entry in graph.sparse_initializer)
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for inner in subgraphs(node):
            yield from all_names(inner)
