"""ONNX bytes to protobuf messages that can be relied upon, and tensors to numpy."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from reluce_checker._errors import Unreadable
from reluce_checker._graph import Array
from reluce_checker._read_call import FORMATS, Value, known

STANDARD = ("", "ai.onnx")
NEWEST = 28
"""The last operator set whose operators are known to mean what the rules say."""

FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
OWN_FIELD = {"float32": "float_data", "float64": "double_data", "int64": "int64_data"}
OWN_FIELD |= dict.fromkeys(("uint32", "uint64"), "uint64_data")
"""Where a tensor without raw data keeps its elements; all other formats in ``int32_data``."""

WIDE = {"float_data": "f4", "double_data": "f8", "int64_data": "i8", "uint64_data": "u8", "int32_data": "i4"}


def parse(data: bytes) -> ModelProto:
    """Parse a model and check what concerns every tensor in it, at whatever depth."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's own exceptions differ between its implementations
        raise Unreadable("not an ONNX file, or cut short: it cannot be parsed") from None
    if not model.HasField("graph") or not model.graph.node:
        raise Unreadable("not an ONNX file, or cut short: it holds no graph, or no node")
    if model.graph.sparse_initializer:
        raise Unreadable("the graph has sparse initialisers, which are not read")
    try:
        _check(model)
    except UnicodeDecodeError:
        raise Unreadable("a name in the file is no text") from None
    return model


def _check(model: ModelProto) -> None:
    """Look at everything in the file, subgraphs and functions included: names are text, tensors are in the file."""
    stack: list[Any] = [model]
    while stack:
        message = stack.pop()
        if isinstance(message, TensorProto):
            if message.data_location == TensorProto.EXTERNAL or message.external_data:
                raise Unreadable(f"tensor {message.name!r} lies in an external file, which is not read")
            if not isinstance(message.name, str):  # what protobuf makes of a string that is no UTF-8
                raise Unreadable("a name in the file is no text")
            continue
        for entry, value in message.ListFields():
            several = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
            if entry.message_type is not None:
                stack.extend(several)
            elif entry.type == entry.TYPE_STRING and any(isinstance(text, bytes) for text in several):
                raise Unreadable("a name in the file is no text")


def opset(model: ModelProto) -> int:
    """Version of the standard operator set (1 where the model says nothing)."""
    versions = sorted({int(entry.version) for entry in model.opset_import if entry.domain in STANDARD}) or [1]
    if len(versions) > 1 or not 1 <= versions[0] <= NEWEST:
        raise Unreadable(f"the model imports version {versions} of the standard operators; known are 1 to {NEWEST}")
    return versions[0]


def decode(tensor: TensorProto, name: str) -> Value:
    """The constant that a tensor holds."""
    dims, dtype = tuple(tensor.dims), FORMATS.get(tensor.data_type)
    if min(dims, default=0) < 0 or tensor.HasField("segment"):
        raise Unreadable(f"tensor {name!r} has a negative dimension {list(dims)}, or is only a segment")
    if dtype is None:
        return Value("", dims, None, b"\0" + content(tensor))
    filled = [entry for entry in FIELDS if getattr(tensor, entry)]
    own = OWN_FIELD.get(dtype.name, "int32_data")
    raw = tensor.HasField("raw_data")
    have = len(tensor.raw_data) if raw else len(getattr(tensor, own))
    want = prod(dims) * (dtype.itemsize if raw else 1)
    if have != want or filled not in ([], [] if raw else [own]):
        what = "bytes of raw data" if raw else f"numbers in {own}"
        raise Unreadable(f"tensor {name!r} of dimensions {list(dims)} needs {want} {what} and no others, has {have}")
    if raw:
        array = np.frombuffer(tensor.raw_data, np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("<"))
    else:
        array = _narrow(np.array(getattr(tensor, own), WIDE[own]), dtype, name)
    if dtype.kind == "b" and array.size and array.max() > 1:
        raise Unreadable(f"tensor {name!r} holds truth values other than 0 and 1")
    array = array.astype(dtype).reshape(dims)
    array.setflags(write=False)
    return known(array)


def _narrow(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    """Narrow formats are stored in wider integers, float16 by its bits."""
    if dtype.name in OWN_FIELD and dtype.name != "uint32":
        return array
    narrow = np.dtype("uint16") if dtype.kind == "f" else np.dtype("uint8") if dtype.kind == "b" else dtype
    limits = np.iinfo(narrow)
    if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
        raise Unreadable(f"tensor {name!r} holds numbers that are no {dtype.name}")
    cast = array.astype(narrow)
    return cast.view(np.float16) if dtype.kind == "f" else cast


def content(message: TensorProto | AttributeProto) -> bytes:
    """A tensor or an attribute as bytes, without its own name."""
    copy = type(message)()
    copy.CopyFrom(message)
    for entry in ("name", "doc_string"):
        copy.ClearField(entry)
    return bytes(copy.SerializeToString(deterministic=True))


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of a node: int, float, bytes, lists of int or float, a Value; None for what no rule reads."""
    found: dict[str, Any] = {}
    for entry in node.attribute:
        if entry.name in found:
            raise Unreadable(f"node {node.name or node.op_type!r} has the attribute {entry.name!r} twice")
        found[entry.name] = _attribute(entry)
    return found


def _attribute(entry: AttributeProto) -> Any:
    if entry.ref_attr_name:
        return None
    match entry.type:
        case AttributeProto.FLOAT:
            return entry.f
        case AttributeProto.INT:
            return entry.i
        case AttributeProto.STRING:
            return entry.s
        case AttributeProto.INTS:
            return list(entry.ints)
        case AttributeProto.FLOATS:
            return list(entry.floats)
        case AttributeProto.TENSOR:
            return decode(entry.t, entry.name)
    return None


def stored(node: NodeProto, flags: Mapping[str, Any]) -> Value:
    """The value of a Constant node."""
    if len(flags) != 1 or node.input or len(node.output) != 1:
        raise Unreadable(f"node {node.name or node.op_type!r} (Constant) does not hold exactly one value")
    ((name, value),) = flags.items()
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if name == "value" and isinstance(value, Value):
        return value
    if name in kinds and isinstance(value, int | float | list):
        return known(np.asarray(value, kinds[name]))
    return Value("", None, None, b"\0" + content(node.attribute[0]))


def subgraphs(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node holds in its attributes."""
    return [graph for entry in node.attribute for graph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs)]


def inside(node: NodeProto) -> tuple[list[str], set[str]]:
    """Names that the subgraphs of a node read, and names that they define, at whatever depth."""
    stack = subgraphs(node)
    reads: list[str] = []
    own: set[str] = set()
    while stack:
        graph = stack.pop()
        own.update(entry.name for entry in (*graph.input, *graph.initializer))
        own.update(entry.values.name for entry in graph.sparse_initializer)
        reads.extend(info.name for info in graph.output)
        for inner in graph.node:
            reads.extend(inner.input)
            own.update(inner.output)
            stack.extend(subgraphs(inner))
    return [name for name in dict.fromkeys(reads) if name], own


def every_name(graph: GraphProto) -> set[str]:
    """All names of tensors, in subgraphs as well: what a new name must not be."""
    stack = [graph]
    names: set[str] = set()
    while stack:
        inner = stack.pop()
        names.update(entry.name for entry in (*inner.input, *inner.output, *inner.initializer, *inner.value_info))
        for node in inner.node:
            names.update((node.name, *node.input, *node.output))
            stack.extend(subgraphs(node))
    return names
