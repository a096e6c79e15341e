"""Backward linear bounds (CROWN / DeepPoly): one rule per op over the DAG, with every rounding error charged.

A functional ``f(x) = sum_T A_T . T(x) + c`` over tensors of the network is bounded above by substituting, in reverse
topological order, each tensor by its definition until only tensors with known intervals are left:

* ``T = W h + b``:   A_h = A W,  c += A b
* ``T = relu(z)``, l <= z <= u:  A > 0 uses h <= s z + t with any s in [0, 1] and t = max(-s l, (1 - s) u) (convexity);
  A < 0 uses h >= a z with any a in [0, 1]
* box, opaque or activation outputs:  c += max(A lo, A hi)

Any slopes give a valid bound, so the slopes are all that a certificate has to carry; they are multiples of 1/4096, so
that exact replay stays cheap. The computed coefficients differ from the exact ones by a rounding error E; |T| <= H is
known, so the functional moves by at most |E| H, which goes into ``slack``: relative errors of products and sums, and an
absolute one for products that underflow (SOUNDNESS 2.1).

Source: Zhang et al., "Efficient neural network robustness certification with general activation functions", NeurIPS
2018; Singh et al., "An abstract domain for certifying neural networks", POPL 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from types import MappingProxyType

import numpy as np

from reluce.bounds._forms import affine_form, dense_form
from reluce.bounds._interval import Interval
from reluce.network import Add, Affine, Array, BatchNorm, Constant, Dense, Network, Node, Op, Relu, Select, scatter
from reluce.rounding import UNDERFLOW, dot_error, mask_product, nonnegative_product, up

SLOPES = 4096
"""Slopes are integer multiples of 1 / SLOPES."""


@dataclass(frozen=True, eq=False)
class Relaxation:
    """The multipliers of one ReLU, one per coordinate of its pre-activation.

    ``relu(z) >= below * z`` and ``relu(z) <= above * z + offset`` for every z in the interval they were made for.
    """

    below: Array
    above: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Upper bounds of ``rows`` functionals.

    ``upper`` is rigorous; ``slack`` is the part of it that only pays for rounding. ``coefficients`` are those left on
    the graph inputs, ``(rows, *sample shape)`` each: their signs name the corner that maximises the linear bound.
    """

    upper: Array
    slack: Array
    coefficients: Mapping[str, Array]


@dataclass
class _State:
    """The functional while it is being rewritten (local to one call)."""

    coefficients: dict[str, Array]
    constant: Array
    slack: Array
    lagrangian: Mapping[str, Array]

    def add(self, tensor: str, coefficients: Array, x: Interval) -> None:
        """Add coefficients of a tensor that lies in ``x``; where paths join, the sums round and are paid for."""
        present = self.coefficients.get(tensor)
        if present is None:
            self.coefficients[tensor] = coefficients
            return
        self.slack += _inner(dot_error(1, x.magnitude), np.abs(present) + np.abs(coefficients))
        self.coefficients[tensor] = present + coefficients

    def charge_underflow(self, terms: int, magnitude: Array, reached: Array) -> None:
        """Pay for products that underflow: each coefficient of a reached coordinate may be off by an absolute amount.

        Unbounded coordinates need no charge here: a coefficient that reaches them makes the bound infinite anyway.
        """
        finite = reached & np.isfinite(magnitude)
        self.slack += (terms + 2) * UNDERFLOW * float(np.where(finite, magnitude, 0.0).sum())


def relax(z: Interval, below: str = "adaptive", above: Array | None = None) -> Relaxation:
    """Slopes for a ReLU whose pre-activation lies in ``z``.

    Parameters
    ----------
    z
        Proven interval of the pre-activation.
    below
        Lower slope of unstable units: ``adaptive`` (1 where u > -l, else 0), ``zero`` or ``one``.
    above
        Upper slopes of unstable units, in [0, 1]; by default those of the chord, rounded down.
    """
    low, high = z.lower, z.upper
    active, inactive = low >= 0, high <= 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        slope = np.floor(SLOPES * (high / (high - low))) / SLOPES if above is None else above
        slope = np.where(np.isfinite(slope), np.clip(slope, 0.0, 1.0), 0.0)
        offset = np.maximum(up(mask_product(slope, -low)), up(mask_product(1.0 - slope, high)))
    choice = {"adaptive": high > -low, "zero": np.zeros_like(active), "one": np.ones_like(active)}[below]
    return Relaxation(
        below=np.where(active, 1.0, np.where(inactive, 0.0, choice.astype(np.float64))),
        above=np.where(active, 1.0, np.where(inactive, 0.0, slope)),
        offset=np.where(active | inactive, 0.0, np.maximum(offset, 0.0)),
    )


def linear_upper_bound(
    network: Network,
    functional: Mapping[str, Array],
    constant: Array,
    intervals: Mapping[str, Interval],
    relaxations: Mapping[str, Relaxation],
    lagrangian: Mapping[str, Array] = MappingProxyType({}),
) -> LinearBound:
    """Bound linear functionals of a network's tensors from above, on the domain or where the splits of each row hold.

    Parameters
    ----------
    network
        The network.
    functional
        For each tensor its coefficients ``(rows, *sample shape)``.
    constant
        ``(rows,)``, the constant term.
    intervals
        Proven intervals of the tensors that can be reached.
    relaxations
        For each ReLU node that can be reached, by node name, its multipliers; ``(rows, *sample shape)`` where each row
        has its own (units that are split in a row have slopes 1 or 0 there and no offset).
    lagrangian
        For pre-activations, coefficients ``(rows, *sample shape)`` to add: ``beta * sign`` with ``beta >= 0`` for a
        split to ``sign * z >= 0``. They only add what is not negative where the splits of the row hold.

    Returns
    -------
    LinearBound
        Rigorous upper bounds; NaN never appears, an unbounded functional gives infinity.
    """
    state = _State(dict(functional), constant.astype(np.float64), np.zeros(len(constant)), lagrangian)
    with np.errstate(invalid="ignore", over="ignore"):
        for node in reversed(network.nodes):
            reached = len(node.outputs) == 1 and node.output in state.coefficients
            if reached and all(name in intervals for name in node.inputs):
                _substitute(node.op, node, state, intervals, relaxations)
        inputs = {name: state.coefficients[name] for name in network.inputs if name in state.coefficients}
        for name in list(state.coefficients):
            _concretise(name, state, intervals[name])
        upper = up(state.constant + state.slack)
    return LinearBound(np.where(np.isnan(upper), np.inf, upper), state.slack, inputs)


@singledispatch
def _substitute(
    op: Op, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    """Replace ``node``'s output in the functional by its definition; by default it stays, bounded by its interval."""


@_substitute.register
def _(
    op: Dense, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    A = state.coefficients.pop(node.output)
    form, x = dense_form(op), intervals[node.inputs[0]]
    size = np.abs(A)
    reach = nonnegative_product(x.magnitude, np.abs(form.weight))  # |W| H, (*positions, out)
    terms = op.weight.shape[0]
    state.slack += _inner(dot_error(terms, reach), size) + dot_error(A[0].size + 1, _inner(np.abs(form.bias), size))
    if form.weight_radius is not None:
        state.slack += 2 * _inner(nonnegative_product(x.magnitude, form.weight_radius), size)
    if form.bias_radius is not None:
        state.slack += 2 * _inner(form.bias_radius, size)
    state.constant = state.constant + _inner(form.bias, A)
    state.slack += dot_error(1, np.abs(state.constant))
    state.charge_underflow(terms, x.magnitude, np.broadcast_to((form.weight != 0).any(axis=0), x.lower.shape))
    state.add(node.inputs[0], A @ form.weight, x)


@_substitute.register(Affine)
@_substitute.register(BatchNorm)
def _(
    op: Affine | BatchNorm,
    node: Node,
    state: _State,
    intervals: Mapping[str, Interval],
    relaxations: Mapping[str, Relaxation],
) -> None:
    A = state.coefficients.pop(node.output)
    x = intervals[node.inputs[0]]
    form = affine_form(op, x.lower.shape)
    size = np.abs(A)
    reach = mask_product(np.abs(form.scale), x.magnitude)
    radius = 2 * mask_product(form.scale_radius, x.magnitude) + 2 * form.shift_radius
    state.slack += _inner(dot_error(2, reach) + radius, size) + dot_error(A[0].size, _inner(np.abs(form.shift), size))
    state.constant = state.constant + _inner(form.shift, A)
    state.slack += dot_error(1, np.abs(state.constant))
    state.charge_underflow(2, x.magnitude, form.scale != 0)
    state.add(node.inputs[0], A * form.scale, x)


@_substitute.register
def _(
    op: Relu, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    A = state.coefficients.pop(node.output)
    z, relaxation = intervals[node.inputs[0]], relaxations[node.name]
    positive = np.maximum(A, 0.0)
    negative = np.minimum(A, 0.0)
    lift = _inner(relaxation.offset, positive)
    state.constant = state.constant + lift
    state.slack += dot_error(A[0].size + 1, lift) + dot_error(1, np.abs(state.constant))
    for slope, size in ((relaxation.above, positive), (relaxation.below, -negative)):
        rounded = (slope > 0) & (slope < 1)  # slopes 0 and 1 multiply without rounding
        if rounded.any():
            state.slack += _inner(dot_error(1, np.where(rounded, z.magnitude, 0.0)), size)
            state.charge_underflow(1, z.magnitude, rounded)
    state.add(node.inputs[0], positive * relaxation.above + negative * relaxation.below, z)
    if node.inputs[0] in state.lagrangian:
        state.add(node.inputs[0], state.lagrangian[node.inputs[0]], z)


@_substitute.register
def _(
    op: Add, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    A = state.coefficients.pop(node.output)
    for name in node.inputs:
        state.add(name, A, intervals[name])


@_substitute.register
def _(
    op: Select, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    A = state.coefficients.pop(node.output).reshape(len(state.constant), -1)
    sizes = [intervals[name].lower.size for name in node.inputs]
    gathered = scatter(A, op.indices, sum(sizes))
    repeats = np.bincount(op.indices, minlength=sum(sizes))
    start = 0
    for name, size in zip(node.inputs, sizes, strict=True):
        part, x = gathered[:, start : start + size], intervals[name]
        doubled = repeats[start : start + size] > 1
        if doubled.any():  # coefficients of a coordinate that was copied were added up
            most = int(repeats.max())
            bound = scatter(np.abs(A), op.indices, sum(sizes))
            reach = np.where(doubled, x.magnitude.ravel(), 0.0)
            state.slack += _inner(dot_error(most, reach), bound[:, start : start + size])
        state.add(name, part.reshape(len(A), *x.lower.shape), x)
        start += size


@_substitute.register
def _(
    op: Constant, node: Node, state: _State, intervals: Mapping[str, Interval], relaxations: Mapping[str, Relaxation]
) -> None:
    A = state.coefficients.pop(node.output)
    value = op.value.astype(np.float64)
    state.constant = state.constant + _inner(value, A)
    state.slack += dot_error(A[0].size + 1, _inner(np.abs(value), np.abs(A))) + dot_error(1, np.abs(state.constant))


def _concretise(name: str, state: _State, x: Interval) -> None:
    A = state.coefficients.pop(name)
    best = _inner(x.upper, np.maximum(A, 0.0)) + _inner(x.lower, np.minimum(A, 0.0))
    state.constant = state.constant + best
    size = _inner(np.abs(x.upper), np.maximum(A, 0.0)) + _inner(np.abs(x.lower), -np.minimum(A, 0.0))
    state.slack += dot_error(A[0].size + 1, size) + dot_error(1, np.abs(state.constant))


def _inner(values: Array, coefficients: Array) -> Array:
    """``sum values * coefficients`` over all but the rows, with ``inf * 0 = 0``.

    ``values`` broadcast to the sample, or have a row for each row of the coefficients.
    """
    rows = coefficients.reshape(len(coefficients), -1)
    if values.ndim == coefficients.ndim:  # each row has its own
        own = values.reshape(rows.shape)
        return np.asarray(
            np.einsum("rn,rn->r", rows, own) if np.isfinite(own).all() else mask_product(rows, own).sum(1)
        )
    flat = np.broadcast_to(values, coefficients.shape[1:]).ravel()
    if np.isfinite(flat).all():
        return np.asarray(rows @ flat)
    finite = np.isfinite(flat)
    beyond = mask_product(rows[:, ~finite], flat[~finite]).sum(axis=1)
    return np.asarray(rows[:, finite] @ flat[finite] + beyond)
