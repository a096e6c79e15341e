"""Data movement, on arrays of whatever there is to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from reluce_checker._graph import Array, Shape
from reluce_checker._read_call import Call, NotModelled, axis_of, bounded, given

MOVES: Mapping[str, str] = {
    "Reshape": "shape allowzero",
    "Flatten": "axis",
    "Squeeze": "axes",
    "Unsqueeze": "axes",
    "Transpose": "perm",
    "Slice": "starts ends axes steps",
    "Gather": "axis",
    "Split": "axis split num_outputs",
    "Expand": "",
    "Tile": "",
    "Concat": "axis",
}
"""What moves data, with the attributes that are understood. All inputs of Concat are data, of the others the first."""


def moved(call: Call, data: Sequence[Array]) -> list[Array]:
    """The outputs of a node of ``MOVES``, from its data; raises what numpy raises where they do not fit."""
    x = data[0]
    call.demand(MOVES[call.kind])
    match call.kind:
        case "Reshape":
            return [x.reshape(_target(call, x.shape))]
        case "Flatten":
            axis = call.flag("axis", 1)
            axis = axis if axis == x.ndim else axis_of(axis, x.ndim)
            return [x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))]
        case "Squeeze":
            axes = call.whole("axes", 1, 13)
            return [x.squeeze(None if axes is None else tuple(axes))]
        case "Unsqueeze":
            return [np.expand_dims(x, tuple(given(call.whole("axes", 1, 13))))]
        case "Transpose":
            return [x.transpose(call.flag("perm", list(range(x.ndim))[::-1]))]
        case "Slice":
            return [x[_slices(call, x.shape)]]
        case "Gather":
            axis, indices = axis_of(call.flag("axis", 0), x.ndim), call.constant(1)
            if indices is None or indices.dtype.kind != "i":
                raise NotModelled("no constant indices")
            bounded((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
            return [x.take(indices, axis)]
        case "Split":
            return _split(call, x)
        case "Expand" if call.opset >= 8:
            return [np.broadcast_to(x, bounded(np.broadcast_shapes(x.shape, tuple(given(call.whole("", 1, 0))))))]
        case "Tile" if call.opset >= 6:
            repeats = given(call.whole("", 1, 0))
            bounded([length * times for length, times in zip(x.shape, repeats, strict=True)])
            return [np.tile(x, repeats)]
        case "Concat":
            bounded([sum(part.size for part in data)])
            if "axis" not in call.flags:
                raise NotModelled("no axis")
            return [np.concatenate(data, call.flag("axis", 0))]
    raise NotModelled("not in this operator set")


def _target(call: Call, shape: Shape) -> list[int]:
    """Where 0 takes over a length and -1 stands for what is left."""
    target = given(call.whole("shape", 1, 5))
    if not call.flag("allowzero", 0):
        target = [shape[k] if length == 0 else length for k, length in enumerate(target)]
    if min(target, default=0) < -1:
        raise NotModelled("a negative length")
    return target


def _slices(call: Call, shape: Shape) -> tuple[slice, ...]:
    """Python counts and clips as ONNX does, but for one case."""
    rank = len(shape)
    starts, ends = (given(call.whole(name, k, 10)) for k, name in ((1, "starts"), (2, "ends")))
    axes = call.whole("axes", 3, 10)
    axes = list(range(len(starts))) if axes is None else [axis_of(axis, rank) for axis in axes]
    steps = (call.whole("steps", 4, 10) if call.opset >= 10 else None) or [1] * len(starts)
    if len(set(axes)) < len(axes):
        raise NotModelled("an axis is cut twice")
    parts = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0 and start < -shape[axis]:  # ONNX takes that for the first element, Python for none
            raise NotModelled("starts before the first element")
        parts[axis] = slice(start, end, step)
    return tuple(parts)


def _split(call: Call, x: Array) -> list[Array]:
    axis, count = axis_of(call.flag("axis", 0), x.ndim), len(call.outputs)
    sizes = call.whole("split", 1, 13)
    if sizes is None:
        if x.shape[axis] % count or call.flag("num_outputs", count) != count:
            raise NotModelled("parts of different sizes")
        sizes = [x.shape[axis] // count] * count
    if len(sizes) != count or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise NotModelled("the parts do not fit")
    return np.split(x, np.cumsum(sizes)[:-1], axis)
