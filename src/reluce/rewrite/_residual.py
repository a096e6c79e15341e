"""The residual of a dense layer against the original's, bounded in rigorous float64; see ``_relation`` for its place.

    residual = (W' scattered to kept - W) h + (b' - b)

as rows over one tensor of the original. It is bounded over the proven box of h, and also after what stably active and
constant units carry has been moved one layer down (h = z = W_prev h_prev + b_prev): the smaller of both holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Array, Constant, Dense, Network, Node, Op, Relu
from reluce.rewrite._state import Original, Rewritten
from reluce.rounding import UNDERFLOW, dot_error, nonnegative_product, product_error, up


@dataclass(frozen=True, eq=False)
class _Residual:
    """Rows ``coefficients @ T + constant`` over one original tensor; ``slack`` pays for the rounding so far."""

    tensor: str
    coefficients: Array  # (rows, last axis of the tensor)
    constant: Array
    slack: Array


def any_nonzero(*arrays: Array) -> bool:
    return any(bool(np.any(array != 0)) for array in arrays)


@dataclass(frozen=True, eq=False)
class Parameters:
    """float64 weight and bias of a dense layer, or of a constant (no columns), with the radii of their rounding."""

    weight: Array
    bias: Array
    weight_radius: Array
    bias_radius: Array


def parameters_of(op: Op, shape: tuple[int, ...]) -> Parameters:
    if isinstance(op, Constant):
        value = op.value.astype(np.float64).reshape(-1, shape[-1])
        nothing = np.zeros((shape[-1], 0))
        return Parameters(nothing, value[0], nothing, np.zeros(shape[-1]))
    assert isinstance(op, Dense)
    form = dense_form(op)
    weight_radius = np.zeros_like(form.weight) if form.weight_radius is None else form.weight_radius
    bias_radius = np.zeros_like(form.bias) if form.bias_radius is None else form.bias_radius
    return Parameters(form.weight, form.bias, weight_radius, bias_radius)


def columns_of(state: Rewritten, original: Network, name: str) -> Array | None:
    """Indices along the original's last axis of what a tensor still has; None unless they are the same everywhere."""
    old, new = original.shape(name), state.network.shape(name)
    if name not in state.kept:
        return np.arange(old[-1]) if old == new else None
    columns = state.kept[name].reshape(-1, new[-1])[0]
    whole = np.arange(0, original.tensors[name].size, old[-1])[:, None] + columns
    same = old[:-1] == new[:-1] and np.array_equal(state.kept[name].reshape(-1, new[-1]), whole)
    return columns if same else None


def bounded_residual(
    original: Original, state: Rewritten, before: Node, rows: Array, source: str | None, parameters: Parameters
) -> Array:
    shape = original.network.shape(before.output)
    residual = _start(original, before, rows, parameters)
    while source is not None and residual.tensor != source:
        pieces = _substituted(original, residual)
        if pieces is None or pieces[1].coefficients.any():
            return np.full((*shape[:-1], len(rows)), np.inf)
        residual = pieces[0]
    if source is not None:
        residual = _plus(original, state, residual, parameters)
    worst = _largest(original, [residual])
    pieces = _substituted(original, residual)
    return worst if pieces is None else np.minimum(worst, _largest(original, list(pieces)))  # neither is NaN


def _start(original: Original, before: Node, rows: Array, parameters: Parameters) -> _Residual:
    """``b' - b - W h`` for the rows that stay."""
    assert isinstance(before.op, Dense)
    form = dense_form(before.op)
    W, b = form.weight[rows], form.bias[rows]
    constant = parameters.bias - b
    slack = np.where(constant == 0, 0.0, product_error(np.abs(parameters.bias) + np.abs(b))) + parameters.bias_radius
    if form.bias_radius is not None:
        slack = slack + form.bias_radius[rows]
    if form.weight_radius is not None:
        slack = slack + _reach(original, before.inputs[0], form.weight_radius[rows])
    return _Residual(before.inputs[0], -W, constant, slack)


def _plus(original: Original, state: Rewritten, residual: _Residual, parameters: Parameters) -> _Residual:
    """Add ``W' h'`` with h' = h[kept]; what is equal on both sides cancels to exactly 0."""
    columns = columns_of(state, original.network, residual.tensor)
    assert columns is not None
    old, weight = residual.coefficients, parameters.weight
    total = old.copy()
    total[:, columns] += weight
    rounding = np.zeros_like(old)
    size = product_error(np.abs(old[:, columns]) + np.abs(weight))
    rounding[:, columns] = np.where(total[:, columns] != 0, size, 0.0) + parameters.weight_radius
    if not rounding.any():
        return replace(residual, coefficients=total)
    slack = residual.slack + _reach(original, residual.tensor, rounding)
    return replace(residual, coefficients=total, slack=slack)


def _reach(original: Original, tensor: str, radius: Array) -> Array:
    """``max over positions of radius @ |T|``, per row."""
    magnitude = original.bounds.intervals[tensor].magnitude.reshape(-1, radius.shape[1])
    reach = 2 * nonnegative_product(magnitude, radius).max(axis=0)
    reach = reach + np.where(radius.any(axis=1), (radius.shape[1] + 2) * UNDERFLOW, 0.0)
    return np.where(np.isnan(reach), np.inf, reach)


def _substituted(original: Original, residual: _Residual) -> tuple[_Residual, _Residual] | None:
    """Split a residual over a ReLU's output in two; None where there is nothing to split.

    First what stably active and constant units carry, moved to the layer below by h = z = W h_prev + b; then the rest.
    """
    relu = original.network.producer.get(residual.tensor)
    if relu is None or not isinstance(relu.op, Relu):
        return None
    below = original.network.producer.get(relu.inputs[0])
    if below is None or not isinstance(below.op, Dense):
        return None
    z = original.bounds.intervals[relu.inputs[0]]
    width = residual.coefficients.shape[1]
    active = (z.lower >= 0).reshape(-1, width).all(axis=0)
    box = original.bounds.intervals[residual.tensor]
    fixed = (box.lower == box.upper).reshape(-1, width).all(axis=0)
    moved = active & residual.coefficients.any(axis=0) & ~fixed
    value = box.lower.reshape(-1, width)[0]
    constants = fixed & residual.coefficients.any(axis=0) & (box.lower.reshape(-1, width) == value).all(axis=0)
    if not (moved.any() or constants.any()):
        return None
    C = residual.coefficients[:, moved]
    form = dense_form(below.op)
    W, b = form.weight[moved], form.bias[moved]
    coefficients = C @ W
    lift = C @ b + residual.coefficients[:, constants] @ value[constants]
    size = np.abs(C) @ np.abs(b) + np.abs(residual.coefficients[:, constants]) @ np.abs(value[constants])
    slack = residual.slack + dot_error(width + 1, size + np.abs(residual.constant))
    slack = slack + _reach(original, below.inputs[0], dot_error(len(b), np.abs(C) @ np.abs(W)))
    if form.weight_radius is not None:
        slack = slack + _reach(original, below.inputs[0], np.abs(C) @ form.weight_radius[moved])
    if form.bias_radius is not None:
        slack = slack + 2 * np.abs(C) @ form.bias_radius[moved]
    rest = residual.coefficients.copy()
    rest[:, moved | constants] = 0.0
    nothing = np.zeros_like(residual.constant)
    return (
        _Residual(below.inputs[0], coefficients, residual.constant + lift, slack),
        _Residual(residual.tensor, rest, nothing, nothing),
    )


def _middle_and_radius(original: Original, residual: _Residual) -> tuple[Array, Array]:
    """Centre and radius of the residual over the proven box of its tensor, ``(*positions, rows)``."""
    box = original.bounds.intervals[residual.tensor]
    C = residual.coefficients
    used = C.any(axis=0)
    if not used.any():
        shape = (*box.lower.shape[:-1], len(C))
        return np.broadcast_to(residual.constant, shape), np.broadcast_to(residual.slack, shape)
    low, high = box.lower[..., used], box.upper[..., used]
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        full = np.full((*low.shape[:-1], len(C)), np.inf)
        return np.zeros_like(full), full
    centre = 0.5 * low + 0.5 * high
    radius = up(np.maximum(high - centre, centre - low))
    radius = np.where(low == high, 0.0, radius)
    centre = np.where(low == high, low, centre)
    size = np.abs(C[:, used])
    middle = centre @ C[:, used].T + residual.constant
    spread = radius @ size.T
    rounding = dot_error(C.shape[1] + 1, np.abs(centre) @ size.T + np.abs(residual.constant))
    rounding = rounding + dot_error(C.shape[1], spread)
    return middle, spread + rounding + residual.slack


def _largest(original: Original, parts: list[_Residual]) -> Array:
    """The largest absolute value of a sum of residuals, ``(*positions, rows)``: centres add with signs, radii add."""
    balls = [_middle_and_radius(original, part) for part in parts]
    middle = np.asarray(sum(middle for middle, _ in balls))
    radius = np.asarray(sum(radius for _, radius in balls))
    if not any_nonzero(middle, radius):
        return np.zeros(middle.shape)
    rounding = product_error(np.asarray(sum(np.abs(middle) for middle, _ in balls)))
    return up(up(np.abs(middle) + radius) + rounding)  # NaN gives infinity
