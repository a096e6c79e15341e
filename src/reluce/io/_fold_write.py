"""Constants that the file computes from the shape of a tensor that a rewrite has changed."""

from __future__ import annotations

import numpy as np
from onnx import ValueInfoProto

from reluce.io._loaded import Group
from reluce.io._proto import attributes
from reluce.io._writer import Writer


def restate(writer: Writer, group: Group) -> None:
    """Give the Shape or Size of a changed tensor, which later constants build on, its old value in another way."""
    old, new = writer.loaded.network, writer.network
    for index in group.nodes:
        node = writer.model.graph.node[index]
        source = node.input[0] if node.input else ""
        if node.op_type not in ("Shape", "Size") or source not in old.tensors:
            continue
        there = source in new.producer or source in new.inputs
        if there and new.tensors[source].shape == old.tensors[source].shape:
            continue
        writer.discard(index)
        shape, output = old.shape(source), node.output[0]
        flags = attributes(node)
        part = slice(flags.get("start", 0), flags.get("end"))
        if not old.batched:
            dims = np.array(shape, np.int64)
            value = dims[part] if node.op_type == "Shape" else dims.prod()
            writer.store(output, np.asarray(value))
            continue
        batch = batch_size(writer, first_batched(writer), output)
        whole = writer.step("Concat", [batch, writer.integers(shape, f"{output}/sample")], f"{output}/shape", axis=0)
        if node.op_type == "Size":
            writer.node("ReduceProd", [whole], output, node.name, keepdims=0)
        else:
            chosen = np.arange(len(shape) + 1)[part]
            writer.node("Gather", [whole, writer.integers(chosen, f"{output}/axes")], output, node.name, axis=0)


def batch_size(writer: Writer, source: str, base: str) -> str:
    """The length of axis 0 of a tensor, as a tensor of one element."""
    shape = writer.step("Shape", [source], f"{base}/input_shape")
    return writer.step("Gather", [shape, writer.integers([0], f"{base}/axis")], f"{base}/batch", axis=0)


def first_batched(writer: Writer) -> str:
    """A graph input that carries the batch."""
    tensors, inputs = writer.network.tensors, writer.network.inputs
    known = [name for name in inputs if tensors[name].shape is not None]
    open_ended = [str(info.name) for info in writer.model.graph.input if info.name in inputs and _open_ended(info)]
    return (known + open_ended)[0]


def _open_ended(info: ValueInfoProto) -> bool:
    dims = info.type.tensor_type.shape.dim
    return bool(dims) and not (dims[0].HasField("dim_value") and dims[0].dim_value > 0)
