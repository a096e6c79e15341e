"""How far a rewritten network is from the original: one pass over the finished network that trusts no rewrite.

For every tensor T' of the rewritten network, with ``kept`` naming the coordinates of the original T that it stands for,

    |T'(x) - T(x)[kept]| <= d    for all x in the domain.

Graph inputs have d = 0. ReLU is 1-Lipschitz, sums add d. A dense layer z' = W' h' + b' that stands for rows of
z = W h + b gives d' = |W'| d + max |residual| with

    residual = (W' scattered to kept - W) h + (b' - b),

bounded over the original's proven box of h, or, where stably active units carry it, over the box one layer further down
after the exact substitution h = z = W_prev h_prev + b_prev. A layer that is gone (folded) is substituted likewise.
Where nothing changed the residual is 0 without arithmetic; with ``exact=True`` all other rows are settled in dyadic
integers, and d is either exactly 0 or infinite. Source: SOUNDNESS, "The relation".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import singledispatch

import numpy as np

from reluce.bounds import affine_form, dense_form, lipschitz
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Dyadic,
    Network,
    Node,
    Op,
    Relu,
    Select,
    Softmax,
)
from reluce.rewrite._state import Original, Rewritten
from reluce.rounding import dot_error, mask_product, product_error, up

Deviations = dict[str, Array]


def deviation(original: Original, state: Rewritten, exact: bool) -> Deviations:
    """Bound the deviation of every tensor of a rewritten network from the original.

    Parameters
    ----------
    original
        The network that facts and bounds are about.
    state
        The rewritten network and its map to the original.
    exact
        Settle changed rows in exact arithmetic: they deviate by 0 or count as infinite.

    Returns
    -------
    dict
        For each tensor of the rewritten network a non-negative array of its sample shape (flat where unknown).
    """
    found: Deviations = {}
    for name in state.network.inputs:
        found[name] = np.zeros(_count(state.network, name))
    for node in state.network.nodes:
        if not node.outputs:
            continue
        result = _node_deviation(original, state, node, found, exact)
        result = np.where(np.isnan(result), np.inf, result)  # what cannot be computed is not known
        worst = float(np.max(result, initial=0.0))
        for name in node.outputs:
            size = _count(state.network, name)
            found[name] = result if len(node.outputs) == 1 else np.full(size, worst)
    return found


def _node_deviation(original: Original, state: Rewritten, node: Node, found: Mapping[str, Array], exact: bool) -> Array:
    before = original.network.producer[node.outputs[0]]
    parts = [found[name] for name in node.inputs]
    whole = not any(name in state.kept for name in (*node.inputs, *node.outputs))
    if node.op is before.op and node.inputs == before.inputs and whole and not _any(*parts):
        return np.zeros(_count(state.network, node.outputs[0]))
    if isinstance(before.op, Dense) and isinstance(node.op, Dense):
        return _dense(original, state, node, before, found, exact)
    if isinstance(node.op, Constant) and not isinstance(before.op, Constant):
        result = _constant(node.op, node, original, state)
        if isinstance(before.op, Dense) and result.any() and _uniform(node.op):
            result = np.fmin(result, _dense(original, state, node, before, found, exact))
        return result
    # A selection may have lost inputs; its own rule compares what is left.
    same_inputs = node.inputs == before.inputs or isinstance(node.op, Select)
    if type(node.op) is not type(before.op) or not same_inputs:
        return np.full(_count(state.network, node.outputs[0]), np.inf)
    return _carried(node.op, node, before, original, state, parts)


def epsilons(original: Original, state: Rewritten, exact: bool) -> dict[str, Array]:
    """The proven deviation of each graph output, flat; behind an operation that is not modelled it is 0 or infinite."""
    found = deviation(original, state, exact)
    for name in state.network.outputs:
        if name in state.kept and not np.array_equal(state.kept[name], np.arange(original.network.tensors[name].size)):
            found[name] = np.full_like(
                found[name], np.inf
            )  # an output has to stand for itself, coordinate by coordinate
    return {name: found[name] for name in state.network.outputs}


def _count(network: Network, name: str) -> int:
    """Entries of a deviation: one per coordinate, or one in all where the shape is not known."""
    tensor = network.tensors[name]
    return 1 if tensor.shape is None else tensor.size


@dataclass(frozen=True, eq=False)
class _Residual:
    """Rows ``coefficients @ T + constant`` over one original tensor; ``slack`` pays for the rounding so far."""

    tensor: str
    coefficients: Array  # (rows, last axis of the tensor)
    constant: Array
    slack: Array


def _dense(
    original: Original, state: Rewritten, node: Node, before: Node, found: Mapping[str, Array], exact: bool
) -> Array:
    assert isinstance(before.op, Dense)
    network = state.network
    shape = network.shape(node.output)
    source = node.inputs[0] if isinstance(node.op, Dense) else None
    rows = _columns(state, original.network, node.output)
    if rows is None or (source is not None and _columns(state, original.network, source) is None):
        return np.full(_count(network, node.output), np.inf)
    parameters = _parameters(node.op, shape)
    carried: Array = np.zeros(shape)
    if source is not None and found[source].any():
        d = found[source].reshape(*network.shape(source))
        carried = _nonnegative(d, np.abs(parameters.weight) + parameters.weight_radius)
        carried = carried + dot_error(d.shape[-1] + 1, carried)
    positions = (*original.network.shape(before.output)[:-1], len(rows))
    if _plainly_equal(original, state, node, before, rows, source):
        residual = np.zeros(positions)
    elif exact:
        residual = np.broadcast_to(_exact_residual(original, state, node, before, rows, source), positions)
    else:
        residual = _bounded_residual(original, state, before, rows, source, parameters)
        # Operations without a Lipschitz bound need exactly 0; elsewhere try it where underflow is all there is.
        if residual.any() and (original.network.opaque or residual.max() < 1e-100):
            residual = np.fmin(residual, _exact_residual(original, state, node, before, rows, source))
    return up(carried + residual).ravel() if _any(carried, residual) else np.zeros(carried.size)


def _any(*arrays: Array) -> bool:
    return any(bool(np.any(array != 0)) for array in arrays)


def _nonnegative(d: Array, weight: Array) -> Array:
    finite = np.isfinite(d)
    result = np.where(finite, d, 0.0) @ weight.T
    if finite.all():
        return np.asarray(result)
    reached = (~finite).astype(np.float64) @ (weight > 0).T.astype(np.float64)
    return np.where(reached > 0, np.inf, result)


@dataclass(frozen=True, eq=False)
class _Parameters:
    """float64 weight and bias of a dense layer, or of a constant (no columns), with the radii of their rounding."""

    weight: Array
    bias: Array
    weight_radius: Array
    bias_radius: Array


def _uniform(op: Constant) -> bool:
    """Whether a constant is the same at every position, as the output of a dense layer without inputs is."""
    value = op.value.reshape(-1, op.value.shape[-1]) if op.value.ndim else op.value.reshape(1, 1)
    return bool((value == value[0]).all())


def _parameters(op: Op, shape: tuple[int, ...]) -> _Parameters:
    if isinstance(op, Constant):
        value = op.value.astype(np.float64).reshape(-1, shape[-1])
        nothing = np.zeros((shape[-1], 0))
        return _Parameters(nothing, value[0], nothing, np.zeros(shape[-1]))
    assert isinstance(op, Dense)
    form = dense_form(op)
    weight_radius = np.zeros_like(form.weight) if form.weight_radius is None else form.weight_radius
    bias_radius = np.zeros_like(form.bias) if form.bias_radius is None else form.bias_radius
    return _Parameters(form.weight, form.bias, weight_radius, bias_radius)


def _columns(state: Rewritten, original: Network, name: str) -> Array | None:
    """Indices along the original's last axis of what a tensor still has; None unless they are the same everywhere."""
    old, new = original.shape(name), state.network.shape(name)
    if name not in state.kept:
        return np.arange(old[-1]) if old == new else None
    columns = state.kept[name].reshape(-1, new[-1])[0]
    whole = np.arange(0, original.tensors[name].size, old[-1])[:, None] + columns
    same = old[:-1] == new[:-1] and np.array_equal(state.kept[name].reshape(-1, new[-1]), whole)
    return columns if same else None


# -- rigorous float64 ----------------------------------------------------------------------------------------------


def _bounded_residual(
    original: Original, state: Rewritten, before: Node, rows: Array, source: str | None, parameters: _Parameters
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


def _start(original: Original, before: Node, rows: Array, parameters: _Parameters) -> _Residual:
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


def _plus(original: Original, state: Rewritten, residual: _Residual, parameters: _Parameters) -> _Residual:
    """Add ``W' h'`` with h' = h[kept]; what is equal on both sides cancels to exactly 0."""
    columns = _columns(state, original.network, residual.tensor)
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
    reach = 2 * _nonnegative(magnitude, radius).max(axis=0)
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
    if not _any(middle, radius):
        return np.zeros(middle.shape)
    rounding = product_error(np.asarray(sum(np.abs(middle) for middle, _ in balls)))
    return up(up(np.abs(middle) + radius) + rounding)  # NaN gives infinity


# -- exact ---------------------------------------------------------------------------------------------------------


def _exact_residual(
    original: Original, state: Rewritten, node: Node, before: Node, rows: Array, source: str | None
) -> Array:
    """0 for the rows that are proved equal in dyadic integers, infinity for the others."""
    assert isinstance(before.op, Dense)
    name = before.inputs[0]
    weight, bias = _exact_parameters(before.op)
    new_weight, new_bias = _exact_parameters(node.op)
    C, c = -weight[rows], new_bias - bias[rows]
    while name != source:
        C, c = _absorb_constants(original, name, C, c)
        step = None if source is None else _exact_through(original, name, C, c)
        if step is None:
            break
        name, C, c = step
    if name == source:
        columns = _columns(state, original.network, name)
        assert columns is not None
        scattered = np.zeros(C.shape, dtype=object)
        scattered[:, columns] = new_weight.mantissa
        C = C + Dyadic(scattered, new_weight.exponent)
    elif source is not None:
        return np.full(len(rows), np.inf)
    C, c = _absorb_constants(original, name, C, c)
    if (C.sign() != 0).any():
        step = _exact_through(original, name, C, c)
        if step is None:
            return np.full(len(rows), np.inf)
        name, C, c = step
        C, c = _absorb_constants(original, name, C, c)
    equal = (C.sign() == 0).all(axis=1) & (c.sign() == 0)
    return np.where(equal, 0.0, np.inf)


def _plainly_equal(
    original: Original, state: Rewritten, node: Node, before: Node, rows: Array, source: str | None
) -> bool:
    """Whether a dense layer kept its weights and lost only columns that are zero or read zeros (the common case)."""
    if source != before.inputs[0] or not isinstance(node.op, Dense) or not isinstance(before.op, Dense):
        return False
    new, old = node.op, before.op
    if (new.alpha, new.beta) != (old.alpha, old.beta) or (new.bias is None) != (old.bias is None):
        return False
    if new.bias is not None and old.bias is not None and not np.array_equal(new.bias, old.bias[rows]):
        return False
    columns = _columns(state, original.network, source)
    if columns is None or not np.array_equal(new.weight, old.weight[np.ix_(rows, columns)]):
        return False
    lost = np.setdiff1d(np.arange(old.weight.shape[1]), columns)
    box = original.bounds.intervals[source]
    zero = ((box.lower == 0) & (box.upper == 0)).reshape(-1, old.weight.shape[1]).all(axis=0)[lost]
    return bool((zero | ~(old.weight[np.ix_(rows, lost)] != 0).any(axis=0)).all())


def _exact_parameters(op: Op) -> tuple[Dyadic, Dyadic]:
    if isinstance(op, Constant):
        value = op.value.reshape(-1, op.value.shape[-1])
        return Dyadic(np.zeros((value.shape[1], 0), dtype=object), 0), Dyadic.of(value[0])
    assert isinstance(op, Dense)
    bias = np.zeros(len(op.weight)) if op.bias is None else op.bias
    alpha, beta = Dyadic.of(np.array(op.alpha)), Dyadic.of(np.array(op.beta))
    return Dyadic.of(op.weight) * alpha, Dyadic.of(bias) * beta


def _absorb_constants(original: Original, name: str, C: Dyadic, c: Dyadic) -> tuple[Dyadic, Dyadic]:
    """Move exactly known constants of a tensor from the coefficients into the constant term."""
    known = original.bounds.constants[name]
    width = C.shape[1]
    value = known.value.mantissa.reshape(-1, width)
    fixed = known.exact.reshape(-1, width).all(axis=0) & np.asarray(value == value[0]).all(axis=0)
    used = np.flatnonzero(fixed & (C.sign() != 0).any(axis=0))
    if used.size:
        c = c + C[:, used] @ Dyadic(value[0][used], known.value.exponent)
        rest = C.mantissa.copy()
        rest[:, used] = 0
        C = Dyadic(rest, C.exponent)
    return C, c


def _exact_through(original: Original, name: str, C: Dyadic, c: Dyadic) -> tuple[str, Dyadic, Dyadic] | None:
    """Substitute stably active units exactly; None when anything else carries a coefficient."""
    relu = original.network.producer.get(name)
    below = original.network.producer.get(relu.inputs[0]) if relu is not None and isinstance(relu.op, Relu) else None
    if relu is None or below is None or not isinstance(below.op, Dense):
        return None
    used = np.flatnonzero((C.sign() != 0).any(axis=0))
    lower = original.bounds.intervals[relu.inputs[0]].lower.reshape(-1, C.shape[1])
    if not (lower[:, used] >= 0).all():
        return None
    weight, bias = _exact_parameters(below.op)
    return below.inputs[0], C[:, used] @ weight[used], c + C[:, used] @ bias[used]


# -- everything but dense layers -----------------------------------------------------------------------------------


@singledispatch
def _carried(op: Op, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    """Deviation of an operation's output from those of its inputs.

    By default infinite, unless the operation is the very same and nothing that it reads deviates or has lost a
    coordinate.
    """
    size = _count(state.network, node.outputs[0])
    whole = not any(name in state.kept for name in (*node.inputs, *node.outputs))
    clean = whole and not _any(*parts) and node.op is before.op
    return np.zeros(size) if clean else np.full(size, np.inf)


@_carried.register
def _(op: Relu, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    return parts[0] if _aligned(node, state) else np.full_like(parts[0], np.inf)


@_carried.register
def _(op: Activation, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if not _aligned(node, state) or op is not before.op:
        return np.full_like(parts[0], np.inf)
    return np.where(parts[0] != 0, up(up(up(lipschitz(op) * parts[0]))), 0.0)


@_carried.register
def _(op: Softmax, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if any(name in state.kept for name in (*node.inputs, *node.outputs)) or op is not before.op:
        return np.full(_count(state.network, node.output), np.inf)
    shape = state.network.shape(node.output)
    worst = parts[0].reshape(shape).max(axis=op.axis, keepdims=True)
    return np.broadcast_to(np.where(worst != 0, up(0.5 * worst), 0.0), shape).ravel()


@_carried.register
def _(op: Add, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if not _aligned(node, state):
        return np.full_like(parts[0], np.inf)
    total = parts[0] + parts[1]
    return np.where(total != 0, up(total), 0.0)


@_carried.register(Affine)
@_carried.register(BatchNorm)
def _(
    op: Affine | BatchNorm, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]
) -> Array:
    if not (_aligned(node, state) and _same_parameters(op, before.op, state.coordinates(node.output))):
        return np.full_like(parts[0], np.inf)
    form = affine_form(op, state.network.shape(node.output))
    scale = np.abs(form.scale).ravel() + 2 * form.scale_radius.ravel()
    return np.where(parts[0] != 0, up(up(mask_product(parts[0], scale))), 0.0)


def _same_parameters(new: Op, old: Op, coordinates: Array) -> bool:
    """Whether every array of an elementwise operation is the original's at the coordinates that are left."""
    for entry in fields(new):
        mine, theirs = getattr(new, entry.name), getattr(old, entry.name)
        if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
            if not np.array_equal(mine.ravel(), theirs.ravel()[coordinates]):
                return False
        elif mine is not theirs and mine != theirs:
            return False
    return True


@_carried.register
def _(op: Select, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    assert isinstance(before.op, Select)
    offsets, start = {}, 0
    for name in before.inputs:
        offsets[name] = start
        start += original.network.tensors[name].size
    sources = np.concatenate([state.coordinates(name) + offsets[name] for name in node.inputs])[op.indices]
    if not np.array_equal(sources, before.op.indices[state.coordinates(node.output)]):
        return np.full(len(op.indices), np.inf)
    return np.concatenate(parts)[op.indices]


@_carried.register
def _(op: Constant, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    return _constant(op, node, original, state)


def _constant(op: Constant, node: Node, original: Original, state: Rewritten) -> Array:
    """A constant against what is known of the original tensor: its exact value, else its proven interval."""
    kept = state.coordinates(node.output)
    known = original.bounds.constants[node.output]
    value = op.value.astype(np.float64).ravel()
    if not np.isfinite(value).all():
        return np.full(value.size, np.inf)
    same = known.exact.ravel()[kept] & ((known.value.reshape((-1,))[kept] - Dyadic.of(value)).sign() == 0)
    box = original.bounds.intervals[node.output]
    worst = np.maximum(np.abs(value - box.lower.ravel()[kept]), np.abs(box.upper.ravel()[kept] - value))
    return np.where(same, 0.0, up(worst))


def _aligned(node: Node, state: Rewritten) -> bool:
    """Whether an elementwise operation reads the coordinates that it writes."""
    if not any(name in state.kept for name in (*node.inputs, *node.outputs)):
        return True
    mine = state.coordinates(node.output)
    return all(np.array_equal(state.coordinates(name), mine) for name in node.inputs)
