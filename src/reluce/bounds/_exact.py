"""Exact replay of bounds in dyadic integers, for the units that float64 rounding leaves within a hair of zero.

The same formulas as ``_interval`` and ``_linear``, without a single rounding; a point is the interval that has it at
both ends. Decimal ends such as 0.1 are not dyadic, so everything is computed times a common ``scale``: dense layers,
ReLUs, sums and data movement are homogeneous once their constant terms are multiplied by it, and signs stay.
Operations that are not dyadic (division, batch normalisation, sigmoids) are not supported: None is returned and the
unit stays undecided.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np

from reluce.bounds._interval import Interval
from reluce.bounds._linear import Relaxation
from reluce.network import Add, Affine, Array, Constant, Dense, Dyadic, Network, Node, Op, Relu, Select, scatter
from reluce.network import concatenate as join

ExactInterval = tuple[Dyadic, Dyadic]

ONE = Dyadic(np.array(1, dtype=object), 0)


def exact_cost(network: Network, tensor: str) -> int:
    """Number of multiplications that ``exact_interval`` needs for a tensor."""
    needed = network.ancestors([tensor])
    total = 0
    for node in network.nodes:
        if isinstance(node.op, Dense) and node.output in needed:
            positions = network.tensors[node.inputs[0]].size // max(1, node.op.weight.shape[1])
            total += node.op.weight.size * positions
    return total


def exact_intervals(
    network: Network, ends: Mapping[str, ExactInterval], tensor: str, scale: Dyadic = ONE
) -> dict[str, ExactInterval] | None:
    """Exact interval bounds, times ``scale``, of a tensor and its ancestors; None where an operation is not dyadic.

    Parameters
    ----------
    network
        The network.
    ends
        For each graph input its exact ends times ``scale``, of the sample shape; the same object twice for a point.
    tensor
        The tensor that is wanted.
    scale
        A positive number, shape ().
    """
    values = dict(ends)
    needed = network.ancestors([tensor])
    for node in network.nodes:
        if len(node.outputs) != 1 or node.output not in needed:
            continue
        if any(name not in values for name in node.inputs):
            return None
        result = _forward(node.op, [values[name] for name in node.inputs], scale)
        if result is None:
            return None
        values[node.output] = result
    return values


@singledispatch
def _forward(op: Op, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval | None:
    return None


@_forward.register
def _(op: Dense, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval:
    ((low, high),) = inputs
    weight = (Dyadic.of(op.weight) * Dyadic.of(np.array(op.alpha))).transposed
    bias = Dyadic.of(np.zeros(len(op.weight)) if op.bias is None else op.bias) * Dyadic.of(np.array(op.beta)) * scale
    if low is high:
        value = low @ weight + bias
        return value, value
    positive, negative = weight.positive(), weight.negative()
    return low @ positive + high @ negative + bias, high @ positive + low @ negative + bias


@_forward.register
def _(op: Affine, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval | None:
    ((low, high),) = inputs
    if op.divide:
        return None
    if op.scale is not None:
        factor = Dyadic.of(np.ascontiguousarray(op.scale))
        first, second = low * factor, high * factor
        low, high = -((-first).maximum(-second)), first.maximum(second)
    if op.shift is not None:
        shift = Dyadic.of(np.ascontiguousarray(op.shift)) * scale
        low, high = low + shift, high + shift
    return low, high


@_forward.register
def _(op: Relu, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval:
    low, high = inputs[0]
    first = low.positive()
    return first, (first if low is high else high.positive())


@_forward.register
def _(op: Add, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval:
    (low, high), (other_low, other_high) = inputs
    return low + other_low, high + other_high


@_forward.register
def _(op: Select, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval:
    low = join([x for x, _ in inputs])[op.indices].reshape(op.shape)
    return low, join([x for _, x in inputs])[op.indices].reshape(op.shape)


@_forward.register
def _(op: Constant, inputs: list[ExactInterval], scale: Dyadic) -> ExactInterval:
    value = Dyadic.of(op.value) * scale
    return value, value


def exact_linear_upper_bound(
    network: Network,
    tensor: str,
    coefficients: Array,
    intervals: Mapping[str, Interval],
    relaxations: Mapping[str, Relaxation],
    ends: Mapping[str, ExactInterval] | None = None,
    scale: Dyadic = ONE,
) -> Dyadic | None:
    """Exact upper bounds, times ``scale``, of linear functionals of one tensor; see ``_linear`` for the formulas.

    Parameters
    ----------
    network, intervals, relaxations
        As for ``linear_upper_bound``.
    tensor
        The tensor.
    coefficients
        ``(rows, *sample shape)``.
    ends, scale
        As for ``exact_intervals``; by default the inputs' intervals serve as they are.

    Returns
    -------
    Dyadic or None
        ``(rows,)`` exact values; None where an operation on the way is not dyadic or a tensor is unbounded.
    """
    pending = {tensor: Dyadic.of(coefficients)}
    total = Dyadic(np.zeros(len(coefficients), dtype=object), 0)
    for node in reversed(network.nodes):
        if len(node.outputs) != 1 or node.output not in pending:
            continue
        terms = _backward(node.op, node, pending.pop(node.output), intervals, relaxations)
        if terms is None:
            return None
        constant, parts = terms
        total = total + constant
        for name, part in parts:
            pending[name] = pending[name] + part if name in pending else part
    total = total * scale
    for name, rest in pending.items():
        x = intervals[name]
        if not (np.isfinite(x.lower).all() and np.isfinite(x.upper).all()):
            return None
        low, high = ends[name] if ends and name in ends else (Dyadic.of(x.lower) * scale, Dyadic.of(x.upper) * scale)
        best = rest.positive() * high + rest.negative() * low
        total = total + best.reshape((len(coefficients), -1)).sum(1)
    return total


_Terms = tuple[Dyadic, list[tuple[str, Dyadic]]]


@singledispatch
def _backward(
    op: Op, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms | None:
    return None


@_backward.register
def _(
    op: Dense, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms:
    weight = Dyadic.of(op.weight) * Dyadic.of(np.array(op.alpha))
    bias = Dyadic.of(np.zeros(len(op.weight)) if op.bias is None else op.bias) * Dyadic.of(np.array(op.beta))
    return (A * bias).reshape((A.shape[0], -1)).sum(1), [(node.inputs[0], A @ weight)]


@_backward.register
def _(
    op: Affine, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms | None:
    if op.divide:
        return None
    shift = np.zeros(A.shape[1:]) if op.shift is None else np.ascontiguousarray(op.shift)
    scaled = A if op.scale is None else A * Dyadic.of(np.ascontiguousarray(op.scale))
    return (A * Dyadic.of(shift)).reshape((A.shape[0], -1)).sum(1), [(node.inputs[0], scaled)]


@_backward.register
def _(
    op: Relu, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms | None:
    slopes = relaxations[node.name]
    if not np.isfinite(slopes.offset).all():
        return None
    positive = A.positive()
    lift = (positive * Dyadic.of(slopes.offset)).reshape((A.shape[0], -1)).sum(1)
    rest = positive * Dyadic.of(slopes.above) + A.negative() * Dyadic.of(slopes.below)
    return lift, [(node.inputs[0], rest)]


@_backward.register
def _(
    op: Add, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms:
    zero = Dyadic(np.zeros(A.shape[0], dtype=object), 0)
    return zero, [(name, A) for name in node.inputs]


@_backward.register
def _(
    op: Select, node: Node, A: Dyadic, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> _Terms:
    rows = A.shape[0]
    sizes = [intervals[name].lower.size for name in node.inputs]
    gathered = scatter(A.mantissa.reshape(rows, -1), op.indices, sum(sizes))
    parts = []
    start = 0
    for name, size in zip(node.inputs, sizes, strict=True):
        shape = (rows, *intervals[name].lower.shape)
        parts.append((name, Dyadic(gathered[:, start : start + size].reshape(shape), A.exponent)))
        start += size
    return Dyadic(np.zeros(rows, dtype=object), 0), parts
