"""Data movement as the simplest ONNX nodes that do it."""

from __future__ import annotations

from itertools import permutations
from math import prod

import numpy as np
from onnx import helper

from reluce.io._writer import Writer
from reluce.network import Array, Node, Select

Shape = tuple[int, ...]
MAX_RANK = 6  # above, the orders are too many to try


def write_select(op: Select, writer: Writer, node: Node) -> None:
    """Write a Select, and a Cast behind it where the output has another format."""
    network, output = writer.network, node.output
    have, want = network.tensors[node.inputs[0]].dtype, network.tensors[output].dtype
    if have == want:
        _moved(op, writer, node, output)
        return
    value = node.inputs[0]
    if not _is_identity(op, network.shape(value), len(node.inputs)):
        value = writer.fresh(f"{output}/moved")
        _moved(op, writer, node, value)
    writer.node("Cast", [value], output, _name(writer, node), to=helper.np_dtype_to_tensor_dtype(want))


def _is_identity(op: Select, shape: Shape, inputs: int) -> bool:
    return inputs == 1 and op.shape == shape and np.array_equal(op.indices, np.arange(prod(shape)))


def _name(writer: Writer, node: Node) -> str:
    original = writer.origin_of(node)
    return original.name if original is not None else node.name


def _moved(op: Select, writer: Writer, node: Node, output: str) -> None:
    shapes = [writer.network.shape(name) for name in node.inputs]
    batched, name = int(writer.network.batched), _name(writer, node)
    if _is_identity(op, shapes[0], len(shapes)):
        writer.node("Identity", [node.inputs[0]], output, name)
        return
    if len(shapes) == 1 and np.array_equal(op.indices, np.arange(prod(shapes[0]))):
        _reshape(writer, node.inputs[0], op.shape, output, name)
        return
    axis = _concat_axis(op, shapes)
    if axis is not None:
        writer.node("Concat", list(node.inputs), output, name, axis=axis + batched)
        return
    found = _along_one_axis(op, shapes[0]) if len(shapes) == 1 else None
    if found is not None:
        axis, chosen = found
        indices = writer.integers(chosen, f"{node.name}.indices")
        writer.node("Gather", [node.inputs[0], indices], output, name, axis=axis + batched)
        return
    order = _permutation(op, shapes[0]) if len(shapes) == 1 else None
    if order is not None:
        whole = [0] * batched + [axis + batched for axis in order]
        writer.node("Transpose", [node.inputs[0]], output, name, perm=whole)
        return
    _gathered(op, writer, node, output, name)


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


def _numbers(shapes: list[Shape]) -> list[Array]:
    starts = np.cumsum([0, *map(prod, shapes)])
    return [np.arange(a, b).reshape(s) for a, b, s in zip(starts[:-1], starts[1:], shapes, strict=True)]


def _concat_axis(op: Select, shapes: list[Shape]) -> int | None:
    """The axis along which the inputs are joined in order, if there is one."""
    if len(shapes) < 2 or len({len(shape) for shape in shapes}) > 1:
        return None
    for axis in range(len(shapes[0])):
        others = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        if len(others) == 1:
            joined = np.concatenate(_numbers(shapes), axis)
            if joined.shape == op.shape and np.array_equal(joined.ravel(), op.indices):
                return axis
    return None


def _permutation(op: Select, shape: Shape) -> tuple[int, ...] | None:
    """The order of the axes, where the Select is a transposition of one tensor of moderate rank."""
    if sorted(op.shape) != sorted(shape) or len(shape) > MAX_RANK:
        return None
    numbers = np.arange(prod(shape)).reshape(shape)
    for order in permutations(range(len(shape))):
        fits = tuple(shape[axis] for axis in order) == op.shape
        if fits and np.array_equal(numbers.transpose(order).ravel(), op.indices):
            return order
    return None


def _along_one_axis(op: Select, shape: Shape) -> tuple[int, Array] | None:
    """The axis and the indices along it, where the Select picks whole slices of one tensor."""
    if len(op.shape) != len(shape) or not op.indices.size:
        return None
    result, numbers = op.indices.reshape(op.shape), np.arange(prod(shape)).reshape(shape)
    for axis in range(len(shape)):
        if op.shape[:axis] + op.shape[axis + 1 :] != shape[:axis] + shape[axis + 1 :]:
            continue
        line = np.moveaxis(result, axis, 0).reshape(op.shape[axis], -1)[:, 0]
        chosen = line // prod(shape[axis + 1 :]) % shape[axis]
        if np.array_equal(numbers.take(chosen, axis), result):
            return axis, chosen
    return None
