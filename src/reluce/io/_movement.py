"""What kind of data movement a Select is, so that each format can write it as the simplest nodes that do it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from reluce.network import Array, Select

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Same:
    """The input itself."""


@dataclass(frozen=True)
class Reshaped:
    """All elements in their order, in another shape."""


@dataclass(frozen=True)
class Joined:
    """The inputs in their order, along an axis of the sample shape."""

    axis: int


@dataclass(frozen=True, eq=False)
class Picked:
    """Whole slices of one tensor, along an axis of the sample shape."""

    axis: int
    indices: Array


@dataclass(frozen=True)
class Transposed:
    """The axes of the sample shape in another order."""

    order: tuple[int, ...]


@dataclass(frozen=True)
class Scattered:
    """Anything else: flatten, join, pick, and give the result its shape."""


Movement = Same | Reshaped | Joined | Picked | Transposed | Scattered


def movement(op: Select, shapes: list[Shape]) -> Movement:
    """The kind of a Select.

    Parameters
    ----------
    op
        The Select.
    shapes
        The sample shapes of its inputs.
    """
    if len(shapes) > 1:
        axis = _concat_axis(op, shapes)
        return Scattered() if axis is None else Joined(axis)
    shape = shapes[0]
    if np.array_equal(op.indices, np.arange(prod(shape))):
        return Same() if op.shape == shape else Reshaped()
    found = _along_one_axis(op, shape)
    if found is not None:
        return Picked(*found)
    order = _permutation(op, shape)
    return Scattered() if order is None else Transposed(order)


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
    """The order of the axes, where the Select is a transposition of one tensor."""
    if sorted(op.shape) != sorted(shape) or not op.indices.size:
        return None
    result, strides = op.indices.reshape(op.shape), [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first, left = result.flat[0], list(range(len(shape)))
    order = []
    for axis, length in enumerate(op.shape):  # a step along an axis of the result is one along the axis it came from
        step = 0 if length == 1 else int(result[(0,) * axis + (1,) + (0,) * (len(shape) - axis - 1)] - first)
        fits = [other for other in left if shape[other] == length and (length == 1 or strides[other] == step)]
        if not fits:
            return None
        order.append(fits[0])
        left.remove(fits[0])
    moved = np.arange(prod(shape)).reshape(shape).transpose(order)
    return tuple(order) if np.array_equal(moved.ravel(), op.indices) else None


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
