"""Interval arithmetic (IBP): one rule per op, outward-rounded float64.

Source: Gowal et al., "On the effectiveness of interval bound propagation", arXiv 1810.12715. For z = W h + b with
l <= h <= u: ``max z = W+ u + W- l + b``; rounding is charged by ``reluce.rounding``. On the box itself this is the
closed form (METHODS 6.1), attained at a corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from reluce.bounds._forms import affine_form, dense_form
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
    activation,
)
from reluce.rounding import dot_error, mask_product, widen

RANGES = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0), "HardSigmoid": (0.0, 1.0)}
"""Proven ranges of the activations that are bounded whatever their input."""


@dataclass(frozen=True, eq=False)
class Interval:
    """``lower <= x <= upper`` for every point of the domain.

    ``slack`` estimates how far rounding alone moved the ends, here and in all that led here. It only decides which
    bounds are worth an exact replay; nothing rigorous depends on it.
    """

    lower: Array
    upper: Array
    slack: Array | float = 0.0

    @property
    def magnitude(self) -> Array:
        """``max |x|``."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))

    @property
    def middle(self) -> Array:
        """A point of each interval; NaN or infinite where it is not bounded on both sides."""
        with np.errstate(invalid="ignore"):
            return np.asarray(0.5 * self.lower + 0.5 * self.upper)

    @staticmethod
    def unknown(shape: tuple[int, ...]) -> Interval:
        """Nothing is known."""
        return Interval(np.broadcast_to(-np.inf, shape), np.broadcast_to(np.inf, shape))


def meet(first: Interval, second: Interval) -> Interval:
    """Both hold, so the tighter end of each does."""
    return Interval(
        np.maximum(first.lower, second.lower),
        np.minimum(first.upper, second.upper),
        np.maximum(first.slack, second.slack),
    )


@singledispatch
def interval(op: Op, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    """Enclose the output (of the given sample shape) of one operation."""
    raise NotImplementedError(f"no interval rule for {type(op).__name__}")


@interval.register
def _(op: Dense, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    (x,) = inputs
    form = dense_form(op)
    positive, negative = np.maximum(form.weight, 0.0), np.minimum(form.weight, 0.0)
    low = _product(x.lower, positive) + _product(x.upper, negative) + form.bias
    high = _product(x.upper, positive) + _product(x.lower, negative) + form.bias
    under, over = np.abs(x.lower), np.abs(x.upper)
    # Each end is charged for its own terms only: the other end may be infinite.
    low_size = _product(under, positive) + _product(over, -negative) + np.abs(form.bias)
    high_size = _product(over, positive) + _product(under, -negative) + np.abs(form.bias)
    extra: Array | float = 0.0
    if form.weight_radius is not None:
        extra = extra + 2 * _product(x.magnitude, form.weight_radius)
    if form.bias_radius is not None:
        extra = extra + 2 * form.bias_radius
    inherited = np.broadcast_to(np.asarray(x.slack), x.lower.shape) @ np.abs(form.weight).T
    return _enclosure(low, high, low_size, high_size, op.weight.shape[1] + 1, extra, inherited)


def _enclosure(
    low: Array,
    high: Array,
    low_size: Array,
    high_size: Array,
    terms: int,
    extra: Array | float = 0.0,
    inherited: Array | float = 0.0,
) -> Interval:
    """Widen two computed ends by the rounding error of their own terms; an infinite end stays infinite."""
    low_error, high_error = dot_error(terms, low_size) + extra, dot_error(terms, high_size) + extra
    with np.errstate(invalid="ignore"):
        lower, _ = widen(low, low, low_error)
        _, upper = widen(high, high, high_error)
    slack = np.where(np.isfinite(low_error), low_error, 0.0) + np.where(np.isfinite(high_error), high_error, 0.0)
    return Interval(lower, upper, slack + inherited)


def _product(x: Array, weight: Array) -> Array:
    """``x @ weight.T`` with ``0 * inf = 0``."""
    finite = np.isfinite(x)
    if finite.all():
        return np.asarray(x @ weight.T)
    result = np.where(finite, x, 0.0) @ weight.T
    with np.errstate(invalid="ignore"):
        for sign in (1.0, -1.0):
            reached = (x == sign * np.inf).astype(np.float64) @ (weight != 0).T.astype(np.float64)
            toward = (x == sign * np.inf).astype(np.float64) @ np.sign(weight).T
            result = np.where(reached > 0, result + sign * np.inf * np.sign(toward), result)
    return np.asarray(result)


@interval.register(Affine)
@interval.register(BatchNorm)
def _(op: Affine | BatchNorm, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    (x,) = inputs
    form = affine_form(op, shape)
    first, second = mask_product(form.scale, x.lower), mask_product(form.scale, x.upper)
    low, high = np.minimum(first, second), np.maximum(first, second)
    fixed = np.abs(form.shift)
    extra = 2 * form.shift_radius + 2 * mask_product(form.scale_radius, x.magnitude)
    low_size, high_size = np.abs(low) + fixed, np.abs(high) + fixed
    low, high = low + form.shift, high + form.shift
    return _enclosure(low, high, low_size, high_size, 2, extra, np.abs(form.scale) * x.slack)


@interval.register
def _(op: Relu, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    return Interval(np.maximum(inputs[0].lower, 0.0), np.maximum(inputs[0].upper, 0.0), inputs[0].slack)


@interval.register
def _(op: Activation, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    (x,) = inputs
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = activation(op, x.lower), activation(op, x.upper)
        known = _enclosure(low, high, _size(op, x.lower, low), _size(op, x.upper, high), 16)
    least, most = RANGES.get(op.function, op.parameters if op.function == "Clip" else (-np.inf, np.inf))
    return Interval(np.maximum(known.lower, least), np.minimum(known.upper, most))


def _size(op: Activation, x: Array, result: Array) -> Array:
    """What the rounding of one end is relative to: the result, and the terms that cancel in it."""
    if op.function == "HardSigmoid":
        slope, offset = op.parameters
        return np.asarray(np.abs(slope * x) + abs(offset) + 1.0)
    return np.abs(result)


@interval.register
def _(op: Softmax, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    if not op.log:
        return Interval(np.zeros(shape), np.ones(shape))
    # log p_i = x_i - log sum exp x_j >= l_i - (max u_j + log n), and p_i <= 1.
    (x,) = inputs
    highest, log_n = x.upper.max(axis=op.axis, keepdims=True), np.log(shape[op.axis])
    with np.errstate(invalid="ignore"):
        low = x.lower - highest - log_n
        low = low - dot_error(4, np.abs(x.lower) + np.abs(highest) + log_n)
    return Interval(np.where(np.isnan(low), -np.inf, np.minimum(low, 0.0)), np.zeros(shape))


@interval.register
def _(op: Add, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    first, second = inputs
    low, high = first.lower + second.lower, first.upper + second.upper
    low_size, high_size = np.abs(first.lower) + np.abs(second.lower), np.abs(first.upper) + np.abs(second.upper)
    return _enclosure(low, high, low_size, high_size, 1, inherited=first.slack + second.slack)


@interval.register
def _(op: Select, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    lower = np.concatenate([x.lower.ravel() for x in inputs])[op.indices]
    upper = np.concatenate([x.upper.ravel() for x in inputs])[op.indices]
    slack = np.concatenate([np.broadcast_to(np.asarray(x.slack), x.lower.shape).ravel() for x in inputs])[op.indices]
    return Interval(lower.reshape(shape), upper.reshape(shape), slack.reshape(shape))


@interval.register
def _(op: Constant, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    value = op.value.astype(np.float64)
    return Interval(value, value)


@interval.register
def _(op: Opaque, inputs: list[Interval], shape: tuple[int, ...]) -> Interval:
    return Interval.unknown(shape)
