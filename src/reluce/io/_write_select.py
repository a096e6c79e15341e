"""Data movement as the simplest ONNX nodes that do it."""

from __future__ import annotations

from math import prod

from onnx import helper

from reluce.io._movement import Joined, Movement, Picked, Reshaped, Same, Scattered, Transposed, movement
from reluce.io._writer import Writer
from reluce.network import Node, Select

Shape = tuple[int, ...]


def write_select(op: Select, writer: Writer, node: Node) -> None:
    """Write a Select, and a Cast behind it where the output has another format."""
    network, output = writer.network, node.output
    have, want = network.tensors[node.inputs[0]].dtype, network.tensors[output].dtype
    if have == want:
        _moved(op, writer, node, output)
        return
    value = node.inputs[0]
    if not isinstance(_movement(op, writer, node), Same):
        value = writer.fresh(f"{output}/moved")
        _moved(op, writer, node, value)
    writer.node("Cast", [value], output, _name(writer, node), to=helper.np_dtype_to_tensor_dtype(want))


def _name(writer: Writer, node: Node) -> str:
    original = writer.origin_of(node)
    return original.name if original is not None else node.name


def _moved(op: Select, writer: Writer, node: Node, output: str) -> None:
    batched, name = int(writer.network.batched), _name(writer, node)
    match _movement(op, writer, node):
        case Same():
            writer.node("Identity", [node.inputs[0]], output, name)
        case Reshaped():
            _reshape(writer, node.inputs[0], op.shape, output, name)
        case Joined(axis):
            writer.node("Concat", list(node.inputs), output, name, axis=axis + batched)
        case Picked(axis, chosen):
            indices = writer.integers(chosen, f"{node.name}.indices")
            writer.node("Gather", [node.inputs[0], indices], output, name, axis=axis + batched)
        case Transposed(order):
            whole = [0] * batched + [axis + batched for axis in order]
            writer.node("Transpose", [node.inputs[0]], output, name, perm=whole)
        case Scattered():
            _gathered(op, writer, node, output, name)


def _movement(op: Select, writer: Writer, node: Node) -> Movement:
    return movement(op, [writer.network.shape(name) for name in node.inputs])


def _gathered(op: Select, writer: Writer, node: Node, output: str, name: str) -> None:
    """The general case: flatten, join, pick, and give the result its shape."""
    batched = int(writer.network.batched)
    rows = []
    for source in node.inputs:
        size = prod(writer.network.shape(source))
        flat = source if writer.network.shape(source) == (size,) else writer.fresh(f"{output}/flat")
        if flat != source:
            _reshape(writer, source, (size,), flat, "")
        rows.append(flat)
    value = rows[0] if len(rows) == 1 else writer.step("Concat", rows, f"{output}/joined", axis=batched)
    indices = writer.integers(op.indices, f"{node.name}.indices")
    if len(op.shape) == 1:
        writer.node("Gather", [value, indices], output, name, axis=batched)
        return
    picked = writer.step("Gather", [value, indices], f"{output}/picked", axis=batched)
    _reshape(writer, picked, op.shape, output, name)


def _reshape(writer: Writer, source: str, shape: Shape, output: str, name: str) -> None:
    # 0 takes over the length of the batch axis as it is.
    target = writer.integers([*([0] if writer.network.batched else []), *shape], f"{output}/shape")
    writer.node("Reshape", [source, target], output, name)
