"""Merge stably active units that depend linearly on others of their layer.

On the domain an active unit is its own pre-activation. If w_j = sum_k a_k w_k on all inputs that vary, then

    h_j = sum_k a_k h_k + (b_j - sum_k a_k b_k),

so every reader takes  W'_k = W_k + a_k W_j  and  b' = b + W_j (b_j - sum_k a_k b_k),  and unit j goes. The basis comes
from QR with column pivoting on the rows, scaled by how far each input ranges over the domain: coordinates that are
fixed drop out, and |a| stays small. Within a budget, rows may be dependent up to a residual p_j, moving the outputs by
at most G_j |p_j| rho (G: ``_sensitivity``, rho: half ranges). The rank is taken on the layer as it is now, after the
layer in front has shrunk. Sources: LEO 1.3 B; Serra et al. 2021 Prop. 3; METHODS 1.4 remarks (1) to (3), 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import qr, solve_triangular

from reluce.bounds import dense_form
from reluce.network import Array, Dense, Dyadic, Node, readonly
from reluce.rewrite._sensitivity import sensitivity
from reluce.rewrite._shrink import droppable, shrink
from reluce.rewrite._state import Judge, Original, Rewritten, Sandwich

LARGEST_FACTOR = 1e4
"""Merges with larger factors are not proposed: they would amplify every rounding error."""


@dataclass(frozen=True, eq=False)
class _Dependence:
    """``dependent`` units written in terms of ``basis`` units (positions in the layer): ``w_d ~ factors.T @ w_b``."""

    basis: Array
    dependent: Array
    factors: Array  # (basis, dependent)


def merge_layer(
    original: Original,
    state: Rewritten,
    pattern: Sandwich,
    room: Array,
    judge: Judge,
) -> Rewritten:
    """Merge as many active units of one layer as are dependent exactly, or within what is left of the budget.

    Parameters
    ----------
    original, state, pattern
        What is known, what became of it so far, and the layer.
    room
        How much each output may still move, one entry for each row of ``sensitivity``; 0 at the exact guarantee.
    judge
        Says why a finished candidate must not be taken, if so.

    Returns
    -------
    Rewritten
        The state itself when nothing could be merged.
    """
    active = pattern.active
    if len(active) < 2:
        return state
    rows, centre, half = scaled_rows(original, state, pattern)
    triangle, order = qr(rows[active].T, mode="r", pivoting=True)
    if not (room > 0).any():
        return _merge_exactly(state, pattern, active, centre, half, triangle, order, judge)
    factors = sensitivity(state.network)[pattern.relu.output]
    weights = factors.reshape(len(factors), -1, len(rows)).sum(axis=1)[:, active]
    rank = affordable_rank(rows[active], triangle, order, weights, room)
    while rank < len(active) and rank <= largest_rank(triangle):
        dependence = _dependence(triangle, order, rank, active)
        trial = _apply(state, pattern, dependence, centre)
        if np.abs(dependence.factors).max(initial=0.0) <= LARGEST_FACTOR and judge(trial) is None:
            return trial
        rank += max(1, (len(active) - rank) // 2)
    # What costs nothing must not fail for a budget below the rounding of its bound, or for outputs that must not move.
    return _merge_exactly(state, pattern, active, centre, half, triangle, order, judge)


def scaled_rows(original: Original, state: Rewritten, pattern: Sandwich) -> tuple[Array, Array, Array]:
    """Rows of the layer times the half range of each input; the centres and half ranges themselves."""
    assert isinstance(pattern.before.op, Dense)
    width = pattern.before.op.weight.shape[1]
    box = state.interval(original, pattern.before.inputs[0])
    assert box is not None
    low = box.lower.reshape(-1, width).min(axis=0)
    high = box.upper.reshape(-1, width).max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.where(np.isfinite(high - low), 0.5 * (high - low), 1e300)
        centre = np.where(np.isfinite(low + high), 0.5 * (low + high), 0.0)
        rows = np.nan_to_num(dense_form(pattern.before.op).weight * half, posinf=1e300, neginf=-1e300)
    return rows, centre, half


def _dependence(triangle: Array, order: Array, rank: int, active: Array) -> _Dependence:
    factors = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]) if rank else np.zeros((0, len(order)))
    return _Dependence(active[order[:rank]], active[order[rank:]], factors)


def largest_rank(triangle: Array) -> int:
    """How many columns can be a basis: up to the first zero on the diagonal (pivoting has sorted it)."""
    zero = np.flatnonzero(np.diag(triangle) == 0)
    return int(zero[0]) if zero.size else min(triangle.shape)


def affordable_rank(rows: Array, triangle: Array, order: Array, weights: Array, room: Array) -> int:
    """The smallest rank whose residual rows move no output by more than the budget (by bisection)."""
    count = len(rows)
    few, many = 0, largest_rank(triangle)
    while few < many:
        rank = (few + many) // 2
        factors = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]) if rank else np.zeros((0, count))
        residual = rows[order[rank:]] - factors.T @ rows[order[:rank]]
        cost = (weights[:, order[rank:]] * np.abs(residual).sum(axis=1)).sum(axis=1)
        if (cost <= room).all():
            many = rank
        else:
            few = rank + 1
    return few


def _merge_exactly(
    state: Rewritten,
    pattern: Sandwich,
    active: Array,
    centre: Array,
    half: Array,
    triangle: Array,
    order: Array,
    judge: Judge,
) -> Rewritten:
    diagonal = np.abs(np.diag(triangle))
    rank = int((diagonal > 1e-11 * diagonal.max(initial=0.0)).sum())
    if rank == len(active):
        return state
    guess = _dependence(triangle, order, rank, active)
    rounded = replace(guess, factors=np.round(guess.factors * 2.0**20) / 2.0**20)
    exact = _exactly_dependent(pattern, rounded, half)
    best = state
    chosen: list[int] = []
    for index in np.flatnonzero(exact):
        trial = _apply(state, pattern, _subset(rounded, [*chosen, int(index)]), centre)
        if judge(trial) is None:
            best = trial
            chosen.append(int(index))
    return best


def _subset(dependence: _Dependence, columns: list[int]) -> _Dependence:
    return replace(dependence, dependent=dependence.dependent[columns], factors=dependence.factors[:, columns])


def _exactly_dependent(pattern: Sandwich, dependence: _Dependence, half: Array) -> Array:
    """Which dependent rows equal their combination exactly, on the inputs that vary."""
    assert isinstance(pattern.before.op, Dense)
    weight = pattern.before.op.weight[:, half > 0]
    combination = Dyadic.of(dependence.factors.T) @ Dyadic.of(weight[dependence.basis])
    return np.asarray(((combination - Dyadic.of(weight[dependence.dependent])).sign() == 0).all(axis=1))


def _apply(state: Rewritten, pattern: Sandwich, dependence: _Dependence, centre: Array) -> Rewritten:
    """Move the dependent units' outgoing weights onto the basis; what nothing reads any more is taken out."""
    assert isinstance(pattern.before.op, Dense)
    form = dense_form(pattern.before.op)
    basis, dependent, factors = dependence.basis, dependence.dependent, dependence.factors
    shift = form.bias[dependent] - factors.T @ form.bias[basis]
    leftover = form.weight[dependent] - factors.T @ form.weight[basis]
    shift = shift + leftover @ centre  # fixed inputs have their value as centre; of others the middle of the residual
    moved = {node.name: _moved(node, basis, dependent, factors, shift) for node in pattern.after}
    nodes = tuple(moved.get(node.name, node) for node in state.network.nodes)
    merged = replace(state, network=replace(state.network, nodes=nodes))
    return shrink(merged, droppable(merged.network, {}), {})


def _moved(node: Node, basis: Array, dependent: Array, factors: Array, shift: Array) -> Node:
    op = node.op
    assert isinstance(op, Dense)
    dtype = op.weight.dtype
    weight = op.weight.astype(np.float64)
    outgoing = weight[:, dependent]
    weight[:, basis] += outgoing @ factors.T
    weight[:, dependent] = 0.0
    changed = np.array(op.weight)
    with np.errstate(over="ignore"):
        changed[:, basis] = np.where((outgoing @ factors.T) == 0, op.weight[:, basis], weight[:, basis].astype(dtype))
    changed[:, dependent] = 0
    bias = np.zeros(len(weight)) if op.bias is None else op.beta * op.bias.astype(np.float64)
    lift = op.alpha * (outgoing @ shift)
    if not lift.any():
        return replace(node, op=replace(op, weight=readonly(changed)))
    with np.errstate(over="ignore"):
        new_bias = (bias + lift).astype(dtype if op.bias is None else op.bias.dtype)
    return replace(node, op=replace(op, weight=readonly(changed), bias=readonly(new_bias), beta=1.0))
