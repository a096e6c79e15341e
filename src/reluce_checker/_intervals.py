"""Intervals of a node's output from intervals of its inputs, for many boxes (or points) at once. Nothing is rounded.

Arrays are ``(boxes, size)`` with flat coordinates; a point is a box with equal ends. Source: Moore, "Interval
analysis", 1966.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce_checker._exact import Exact, joined
from reluce_checker._forms import Forms
from reluce_checker._graph import (
    Add,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Monotone,
    Node,
    Opaque,
    Relu,
    Scale,
    Select,
    Softmax,
)


@dataclass(frozen=True, eq=False)
class Interval:
    """``low <= T <= high`` for the coordinates that are ``known``; of the others nothing is said."""

    low: Exact
    high: Exact
    known: Array

    @staticmethod
    def unknown(boxes: int, size: int) -> Interval:
        """Nothing at all."""
        nothing = Exact.zeros((boxes, size))
        return Interval(nothing, nothing, np.zeros((boxes, size), dtype=bool))

    @staticmethod
    def of(low: Exact, high: Exact) -> Interval:
        """Every coordinate known."""
        return Interval(low, high, np.ones(low.shape, dtype=bool))

    def rows(self, rows: Array) -> Interval:
        """Some of the boxes."""
        return Interval(self.low[rows], self.high[rows], self.known[rows])

    @property
    def active(self) -> Array:
        """Where the coordinate is never negative."""
        return np.asarray(self.known & (self.low.sign >= 0))

    @property
    def inactive(self) -> Array:
        """Where the coordinate is never positive."""
        return np.asarray(self.known & (self.high.sign <= 0))

    @property
    def fixed(self) -> Array:
        """Where the coordinate is constant."""
        return np.asarray(self.known & ((self.high - self.low).sign == 0))

    @property
    def magnitude(self) -> Exact:
        """The largest absolute value; meaningless where unknown."""
        return self.high.maximum(-self.low)


def interval(node: Node, inputs: list[Interval], size: int, forms: Forms) -> Interval:
    """The interval of a node's output of ``size`` coordinates."""
    boxes = max((len(x.known) for x in inputs), default=1)
    inputs = [x if len(x.known) == boxes else x.rows(np.zeros(boxes, dtype=np.int64)) for x in inputs]
    nothing = bool(inputs) and not any(x.known.any() for x in inputs)
    if nothing and isinstance(node.op, Scale | BatchNorm | Relu | Add | Select):
        return Interval.unknown(boxes, size)
    match node.op:
        case Dense():
            return _dense(node.op, inputs[0], forms)
        case Scale() | BatchNorm():
            return _scale(node.op, inputs[0], size, forms)
        case Relu():
            (x,) = inputs
            return Interval(x.low.positive, x.high.positive, x.known)
        case Add():
            x, y = inputs
            return Interval(x.low + y.low, x.high + y.high, x.known & y.known)
        case Select(indices):
            low, high = (joined([getattr(x, end) for x in inputs])[:, indices] for end in ("low", "high"))
            return Interval(low, high, np.concatenate([x.known for x in inputs], axis=1)[:, indices])
        case Constant(value):
            exact = Exact.of(value.reshape(1, size))[np.zeros(boxes, dtype=np.int64)]
            return Interval.of(exact, exact)
        case Monotone():
            return _monotone(node.op, inputs[0])
        case Softmax(_, log):
            return Interval.unknown(boxes, size) if log else _monotone(Monotone("Sigmoid"), inputs[0])
        case Opaque():
            return Interval.unknown(boxes, size)


def _dense(op: Dense, x: Interval, forms: Forms) -> Interval:
    form, boxes = forms.dense(op), len(x.known)
    low, high = x.low.reshape(-1, form.inputs), x.high.reshape(-1, form.inputs)
    known = x.known.reshape(-1, form.inputs)
    twice, width = low + high, high - low
    if not known.all():
        twice, width = twice.where(known), width.where(known)
    half = Exact(np.array(1, dtype=object), -1)
    centre = (twice[:, :1] * form.sums[0] if _even(twice) else twice @ form.forward) * half + form.bias
    if not width.sign.any():
        low = high = centre
    else:
        reach = (width[:, :1] * form.sums[1] if _even(width) else width @ form.size) * half
        low, high = centre - reach, centre + reach
    clear = np.ones(low.shape, dtype=bool) if known.all() else ~((~known).astype(np.int64) @ form.used.T).astype(bool)
    size = x.known.shape[1] // form.inputs * form.outputs
    return Interval(low.reshape(boxes, size), high.reshape(boxes, size), clear.reshape(boxes, size))


def _even(values: Exact) -> bool:
    """Whether each row has one number throughout, as a box of equal ranges has."""
    return values.shape[1] > 1 and bool((values.mantissa == values.mantissa[:, :1]).all())


def _scale(op: Scale | BatchNorm, x: Interval, size: int, forms: Forms) -> Interval:
    form = forms.scale(op, size)
    first, second = x.low * form.factor, x.high * form.factor
    slack = x.magnitude * form.factor_radius + form.shift_radius
    return Interval(first.minimum(second) + form.shift - slack, first.maximum(second) + form.shift + slack, x.known)


RANGES = {"Sigmoid": (0, 1), "Tanh": (-1, 1), "Softsign": (-1, 1), "Erf": (-1, 1)}
"""Functions whose values lie between two numbers, whatever their arguments."""

ABOVE_LOG_2 = 0.6931472
"""``softplus(x) <= max(0, x) + log 2``."""


def _monotone(op: Monotone, x: Interval) -> Interval:
    """A non-decreasing function of both ends, or numbers beyond its values there."""
    parameters = op.parameters
    match op.function:
        case "Clip":
            return Interval(_clipped(x.low, *parameters), _clipped(x.high, *parameters), x.known)
        case "LeakyRelu":
            slope = Exact.of(np.array(parameters[0]))
            low, high = (end.positive + end.negative * slope for end in (x.low, x.high))
            return Interval(low, high, x.known)
        case "HardSigmoid":
            slope, shift = (Exact.of(np.array(number)) for number in parameters)
            low, high = (_clipped(end * slope + shift, 0.0, 1.0) for end in (x.low, x.high))
            return Interval(low, high, x.known)
        case "Elu":  # alpha (exp(x) - 1) is at least alpha x, and at least -alpha
            slope = Exact.of(np.array(parameters[0]))
            return Interval(x.low.positive + (x.low.negative * slope).maximum(-slope), x.high.positive, x.known)
        case "Softplus":
            return Interval(x.low.positive, x.high.positive + Exact.of(np.array(ABOVE_LOG_2)), x.known)
    if op.function not in RANGES:
        return Interval.unknown(*x.known.shape)
    low, high = (Exact(np.array(end, dtype=object), 0) + Exact.zeros(x.low.shape) for end in RANGES[op.function])
    return Interval.of(low, high)


def _clipped(values: Exact, low: float, high: float) -> Exact:
    """``min(max(x, low), high)``; an infinite end does nothing."""
    if np.isfinite(low):
        values = values.maximum(Exact.of(np.array(low)))
    return values.minimum(Exact.of(np.array(high))) if np.isfinite(high) else values
