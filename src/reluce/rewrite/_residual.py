"""The residual of a dense layer against the original's, bounded in rigorous float64; see ``_relation`` for its place.

    residual = (W' scattered to kept - W) h + (b' - b)

as rows over one tensor of the original. It is bounded over the proven box of h, and also after what stably active and
constant units carry has been moved one layer down (h = z = W_prev h_prev + b_prev): the smaller of both holds.

New units of the rewritten network are functionals M z + s of the pre-activation z, so their part is moved down
likewise; what a reader takes of a tensor further in front (a skip) waits there for the rest. Units whose
pre-activations are multiples, z_j = c z_i + e, are first expressed by each other: ReLU is positively homogeneous and
1-Lipschitz, and relu(z) - relu(-z) = z, so

    |relu(z_j) - c relu(z_i)| <= |e|  for c > 0,     |relu(z_j) + c (relu(z_i) - z_i)| <= |e|  for c < 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Array, Constant, Dense, Network, Node, Op, Relu
from reluce.rewrite._state import Original, Parallels, Rewritten, Rows
from reluce.rounding import UNDERFLOW, dot_error, down, nonnegative_product, product_error, up


@dataclass(frozen=True, eq=False)
class _Residual:
    """Rows ``coefficients @ T + linear @ z + constant`` over one original tensor; ``slack`` pays for rounding so far.

    z is the pre-activation of the ReLU that writes T; ``linear`` is None where there is nothing of it. ``ahead`` has
    the coefficients of another tensor in front of T, to be added when the residual is over that.
    """

    tensor: str
    coefficients: Array  # (rows, last axis of the tensor)
    constant: Array
    slack: Array
    linear: Array | None = None
    ahead: tuple[str, Array] | None = None


@dataclass(frozen=True, eq=False)
class Multiples:
    """Parallels whose errors are proved: ``|z[unit] - factor z[to]| <= error`` on the domain, at every position."""

    claim: Parallels
    error: Array


Proved = Mapping[str, Multiples]
"""By pre-activation."""

SHORT = 29
"""Bits that a float64 product has beside the 24 of a float32 number."""


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
    """Indices along the original's last axis of what a tensor still has; None unless they are the same everywhere.

    New coordinates, which only tensors of one position have, are -1.
    """
    old, new = original.shape(state.source(name)), state.network.shape(name)
    if name not in state.kept:
        return np.arange(old[-1]) if old == new else None
    if name in state.rows:
        return state.kept[name]
    columns = state.kept[name].reshape(-1, new[-1])[0]
    whole = np.arange(0, original.tensors[state.source(name)].size, old[-1])[:, None] + columns
    same = old[:-1] == new[:-1] and np.array_equal(state.kept[name].reshape(-1, new[-1]), whole)
    return columns if same else None


def bounded_residual(
    original: Original, state: Rewritten, node: Node, before: Node, source: str | None, known: Proved
) -> Array:
    """The largest absolute value of each row's residual, ``(*positions, rows)``; infinite where it has no bound."""
    shape, parameters = original.network.shape(before.output), parameters_of(node.op, state.network.shape(node.output))
    residual: _Residual | None = _start(original, state, node.output, before, parameters)
    target = None if source is None else state.source(source)
    while residual is not None and target is not None and residual.tensor != target:
        pieces = _substituted(original, residual, known)
        residual = None if pieces is None or pieces[1].coefficients.any() else pieces[0]
    if residual is not None and source is not None:
        residual = _plus(original, state, residual, source, parameters)
    if residual is None:
        return np.full((*shape[:-1], len(parameters.bias)), np.inf)
    return _bounded(original, residual, (*shape[:-1], len(parameters.bias)), known)


def _bounded(original: Original, residual: _Residual, shape: tuple[int, ...], known: Proved) -> Array:
    """The largest absolute values: as it is, and after as many steps down as there is something linear to move."""
    pending = residual.linear is not None or residual.ahead is not None
    worst = np.full(shape, np.inf) if pending else _largest(original, [residual])
    parts: list[_Residual] = [residual]
    while worst.any():
        pieces = _substituted(original, parts[0], known)
        if pieces is None:
            break
        parts = [_met(original, pieces[0]), pieces[1], *parts[1:]]
        if parts[0].ahead is not None:
            continue
        worst = np.minimum(worst, _largest(original, parts))  # neither is NaN
    return worst


def _start(original: Original, state: Rewritten, name: str, before: Node, parameters: Parameters) -> _Residual:
    """``b' - b - W h`` for the rows that stay; new rows M z + s of z = W h + b have M W and M b + s in their place."""
    assert isinstance(before.op, Dense)
    form, rows, new = dense_form(before.op), columns_of(state, original.network, name), state.rows.get(name)
    assert rows is not None
    W, b = form.weight[rows], form.bias[rows]
    size = np.abs(b)
    slack = np.zeros(len(rows))
    if new is not None:
        mine = rows < 0
        if new.over != before.output:
            slack[mine] = np.inf
        else:
            W[mine], b[mine] = new.matrix @ form.weight, new.matrix @ form.bias + new.shift
            absolute = np.abs(new.matrix)
            size[mine] = absolute @ np.abs(form.bias) + np.abs(new.shift)
            terms = new.matrix.shape[1] + 1
            slack[mine] = dot_error(terms, size[mine])
            rounding = dot_error(terms, absolute @ np.abs(form.weight))
            slack[mine] += _reach(original, before.inputs[0], rounding)
    constant = parameters.bias - b
    slack += np.where(constant == 0, 0.0, product_error(np.abs(parameters.bias) + np.abs(b))) + parameters.bias_radius
    if form.bias_radius is not None:
        slack = slack + _combined(form.bias_radius, rows, new)
    if form.weight_radius is not None:
        slack = slack + _reach(original, before.inputs[0], _combined(form.weight_radius, rows, new))
    return _Residual(before.inputs[0], -W, constant, slack)


def _combined(radius: Array, rows: Array, new: Rows | None) -> Array:
    """Radii of parameters, for rows that stay and for combinations of rows."""
    found = np.array(radius[rows])
    if new is not None:
        found[rows < 0] = 2 * (np.abs(new.matrix) @ radius)
    return found


def _plus(
    original: Original, state: Rewritten, residual: _Residual, source: str, parameters: Parameters
) -> _Residual | None:
    """Add ``W' h'`` with h' = h[kept] and new rows M z + s; what is equal on both sides cancels to exactly 0."""
    columns, new = columns_of(state, original.network, source), state.rows.get(source)
    assert columns is not None
    old, weight, radius = residual.coefficients, parameters.weight, parameters.weight_radius
    if new is not None and source in state.of:
        ahead = weight[:, columns < 0] @ new.matrix  # exact: each row of the matrix is a coordinate
        slack = residual.slack + _reach(original, new.over, radius[:, columns < 0] @ new.matrix)
        residual, left = replace(residual, ahead=(new.over, ahead), slack=slack), columns >= 0
        columns, weight, radius = columns[left], weight[:, left], radius[:, left]
    elif new is not None:
        relu = original.network.producer.get(residual.tensor)
        if relu is None or not isinstance(relu.op, Relu) or relu.inputs[0] != new.over or residual.linear is not None:
            return None
        mine, left = weight[:, columns < 0], columns >= 0
        opposite = new.turned >= 0
        places, weights = new.turned[opposite], mine[:, opposite]  # relu(-z_i) = h_i - z_i
        size = np.abs(mine)
        lift, reach = mine @ new.shift, size @ np.abs(new.shift)
        terms = new.matrix.shape[0] + 1
        slack = dot_error(terms, reach + np.abs(residual.constant))
        slack = slack + _reach(original, new.over, dot_error(terms, size @ np.abs(new.matrix)))
        if radius.any():  # what a rounded product of parameters stands for is not exactly the combination
            slack = slack + np.where(radius[:, columns < 0].any(axis=1), np.inf, 0.0)
        residual = replace(
            residual, linear=mine @ new.matrix, constant=residual.constant + lift, slack=residual.slack + slack
        )
        columns, weight, radius = columns[left], weight[:, left], radius[:, left]
        columns = np.concatenate([columns, places])
        weight = np.concatenate([weight, weights], axis=1)
        radius = np.concatenate([radius, np.zeros_like(weights)], axis=1)
    total = old.copy()
    total[:, columns] += weight
    rounding = np.zeros_like(old)
    size = product_error(np.abs(old[:, columns]) + np.abs(weight))
    rounding[:, columns] = np.where(total[:, columns] != 0, size, 0.0) + radius
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


def _substituted(original: Original, residual: _Residual, known: Proved) -> tuple[_Residual, _Residual] | None:
    """Split a residual over a ReLU's output in two; None where there is nothing to split.

    First what stably active and constant units and new units carry, moved to the layer below by h = z = W h_prev + b;
    then the rest. Over the output of a dense layer all of it moves.
    """
    relu = original.network.producer.get(residual.tensor)
    if relu is not None and isinstance(relu.op, Dense):
        nothing = np.zeros_like(residual.constant)
        empty = _Residual(residual.tensor, np.zeros_like(residual.coefficients), nothing, nothing)
        return _moved(original, residual, relu, residual.coefficients), empty
    if relu is None or not isinstance(relu.op, Relu):
        return None
    below = original.network.producer.get(relu.inputs[0])
    if below is None or not isinstance(below.op, Dense):
        return None
    z, box, given = original.bounds.intervals[relu.inputs[0]], original.bounds.intervals[residual.tensor], residual
    width = residual.coefficients.shape[1]
    active = (z.lower >= 0).reshape(-1, width).all(axis=0)
    fixed = (box.lower == box.upper).reshape(-1, width).all(axis=0)
    if relu.inputs[0] in known:
        residual = _without_multiples(original, residual, known[relu.inputs[0]], active | fixed, relu.inputs[0])
    used = residual.coefficients.any(axis=0)
    value = box.lower.reshape(-1, width)[0]
    constants = fixed & used & (box.lower.reshape(-1, width) == value).all(axis=0)
    carried = np.where(active & ~fixed, residual.coefficients, 0.0)
    slack = residual.slack
    if residual.linear is not None:
        both = (carried != 0) & (residual.linear != 0)
        if both.any():
            size = product_error(np.where(both, np.abs(carried) + np.abs(residual.linear), 0.0))
            slack = slack + _reach(original, relu.inputs[0], np.where(both, size, 0.0))
        carried = carried + residual.linear
    pending = residual.linear is not None or residual.ahead is not None
    if not (carried.any() or constants.any() or pending) and residual is given:
        return None
    lift = residual.constant
    if constants.any():
        fixed_part = residual.coefficients[:, constants]
        slack = slack + dot_error(width + 1, np.abs(fixed_part) @ np.abs(value[constants]) + np.abs(lift))
        lift = lift + fixed_part @ value[constants]
    rest = residual.coefficients.copy()
    rest[:, (active & ~fixed) | constants] = 0.0
    nothing = np.zeros_like(residual.constant)
    left = _Residual(residual.tensor, rest, nothing, nothing)
    return _moved(original, replace(residual, constant=lift, slack=slack), below, carried), left


def _moved(original: Original, residual: _Residual, below: Node, carried: Array) -> _Residual:
    """``carried @ z`` in place of what a residual has over its tensor, moved by z = W h_prev + b to the layer below."""
    assert isinstance(below.op, Dense)
    used, form = carried.any(axis=0), dense_form(below.op)
    C, W, b = carried[:, used], form.weight[used], form.bias[used]
    size = np.abs(C) @ np.abs(b) + np.abs(residual.constant)
    slack = residual.slack + dot_error(carried.shape[1] + 1, size)
    slack = slack + _reach(original, below.inputs[0], dot_error(len(b), np.abs(C) @ np.abs(W)))
    if form.weight_radius is not None:
        slack = slack + _reach(original, below.inputs[0], np.abs(C) @ form.weight_radius[used])
    if form.bias_radius is not None:
        slack = slack + 2 * np.abs(C) @ form.bias_radius[used]
    return _Residual(below.inputs[0], C @ W, residual.constant + C @ b, slack, ahead=residual.ahead)


def _met(original: Original, residual: _Residual) -> _Residual:
    """The residual with what waited for its tensor."""
    if residual.ahead is None or residual.ahead[0] != residual.tensor:
        return residual
    old, more = residual.coefficients, residual.ahead[1]
    total = old + more
    rounding = np.where((total != 0) & (old != 0) & (more != 0), product_error(np.abs(old) + np.abs(more)), 0.0)
    slack = residual.slack + _reach(original, residual.tensor, rounding)
    return replace(residual, coefficients=total, slack=slack, ahead=None)


def _without_multiples(
    original: Original, residual: _Residual, known: Multiples, linear: Array, pre_activation: str
) -> _Residual:
    """Express units by those that they are multiples of, unless they are linear anyway."""
    claim = known.claim
    used = residual.coefficients[:, claim.unit].any(axis=0) & ~linear[claim.unit] & np.isfinite(known.error)
    if not used.any():
        return residual
    unit, to, factor, error = claim.unit[used], claim.to[used], claim.factor[used], known.error[used]
    A = residual.coefficients[:, unit]
    rest = residual.coefficients.copy()
    rest[:, unit] = 0.0
    size = np.abs(rest)
    np.add.at(rest.T, to, (A * np.abs(factor)).T)
    np.add.at(size.T, to, (np.abs(A) * np.abs(factor)).T)
    touched = np.zeros(rest.shape[1], dtype=bool)
    touched[to] = True
    rounding = np.where(touched, dot_error(len(unit) + 1, size), 0.0)
    slack = residual.slack + 2 * (np.abs(A) @ error) + _reach(original, residual.tensor, rounding)
    part = np.zeros_like(rest) if residual.linear is None else residual.linear.copy()
    magnitude = np.abs(part)
    opposite = factor < 0
    if opposite.any():
        np.add.at(part.T, to[opposite], (A * factor)[:, opposite].T)
        np.add.at(magnitude.T, to[opposite], np.abs(A * factor)[:, opposite].T)
        touched[:] = False
        touched[to[opposite]] = True
        rounding = np.where(touched, dot_error(len(unit) + 1, magnitude), 0.0)
        slack = slack + _reach(original, pre_activation, rounding)
    linear_part = None if residual.linear is None and not opposite.any() else part
    return replace(residual, coefficients=rest, slack=slack, linear=linear_part)


def proved_multiples(original: Original, name: str, claim: Parallels, known: Proved) -> Multiples:
    """What pre-activations deviate at most from being the multiples that they are claimed to be."""
    before = original.network.producer.get(name)
    nothing = Multiples(claim, np.full(len(claim.unit), np.inf))
    if before is None or not isinstance(before.op, Dense) or not sound(claim):
        return nothing
    form = dense_form(before.op)
    if form.weight_radius is not None or form.bias_radius is not None:
        return nothing
    unit, to, c = claim.unit, claim.to, claim.factor[:, None]
    W, b = form.weight[unit] - c * form.weight[to], form.bias[unit] - claim.factor * form.bias[to]
    size = np.abs(form.weight[unit]) + np.abs(c * form.weight[to])
    magnitude = np.abs(form.bias[unit]) + np.abs(claim.factor * form.bias[to])
    single = before.op.weight.dtype == np.float32 and (before.op.bias is None or before.op.bias.dtype == np.float32)
    exact = short(claim.factor) & single  # then products are exact, and so are differences that vanish
    rounding = np.where((W == 0) & exact[:, None], 0.0, dot_error(2, size))
    slack = np.where((b == 0) & exact, 0.0, dot_error(2, magnitude)) + _reach(original, before.inputs[0], rounding)
    residual = _Residual(before.inputs[0], W, b, slack)
    shape = (*original.network.shape(name)[:-1], len(unit))
    return Multiples(claim, _bounded(original, residual, shape, known).reshape(-1, len(unit)).max(axis=0))


def sound(claim: Parallels) -> bool:
    """Whether units are claimed once, and to be multiples of others that are not claimed: they are replaced at once."""
    return len(np.unique(claim.unit)) == len(claim.unit) and not np.isin(claim.unit, claim.to).any()


def short(factors: Array) -> Array:
    """Which factors have so few digits that their products with float32 numbers are exact in float64."""
    mantissa, exponent = np.frexp(factors)
    scaled = mantissa * 2.0**SHORT
    return np.asarray((scaled == np.round(scaled)) & (np.abs(exponent) < 200))


def lowest(original: Original, rows: Rows) -> Array:
    """Lower bounds of functionals of a pre-activation, over the box of what its dense layer reads."""
    before = original.network.producer.get(rows.over)
    if before is None or not isinstance(before.op, Dense) or not len(rows.shift):
        return np.full(len(rows.shift), -np.inf)
    form = dense_form(before.op)
    absolute, terms = np.abs(rows.matrix), rows.matrix.shape[1] + 1
    slack = dot_error(terms, absolute @ np.abs(form.bias) + np.abs(rows.shift))
    slack = slack + _reach(original, before.inputs[0], dot_error(terms, absolute @ np.abs(form.weight)))
    if form.weight_radius is not None:
        slack = slack + _reach(original, before.inputs[0], 2 * (absolute @ form.weight_radius))
    if form.bias_radius is not None:
        slack = slack + 2 * (absolute @ form.bias_radius)
    constant = rows.matrix @ form.bias + rows.shift
    middle, radius = _middle_and_radius(
        original, _Residual(before.inputs[0], rows.matrix @ form.weight, constant, slack)
    )
    low: Array = down(down(middle - radius) - product_error(np.abs(middle)))
    least: Array = low.reshape(-1, len(constant)).min(axis=0)
    return least


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
    rounding = dot_error(len(balls), np.asarray(sum(np.abs(middle) for middle, _ in balls)) + radius)
    return up(up(np.abs(middle) + radius) + rounding)  # NaN gives infinity
