"""How far a rewritten network is from the original: one pass over the finished network that trusts no rewrite.

For every tensor T' of the rewritten network, with ``kept`` naming the coordinates of the original T that it stands for,

    |T'(x) - T(x)[kept]| <= d    for all x in the domain.

Graph inputs have d = 0. ReLU is 1-Lipschitz, sums add d. A dense layer z' = W' h' + b' that stands for rows of
z = W h + b gives d' = |W'| d + max |residual| with

    residual = (W' scattered to kept - W) h + (b' - b),

bounded over the original's proven box of h, or, where stably active units carry it, over the box one layer further down
after the exact substitution h = z = W_prev h_prev + b_prev. A layer that is gone (folded) is substituted likewise.
New units of a re-based layer stand for rows M z + s of the original's pre-activation; behind a ReLU as well, where they
are not negative: relu(z') deviates from M z + s by d and by what M z + s falls below 0. Opposites -z_i become
relu(-z_i) = relu(z_i) - z_i. Claims that units are multiples
of others are proved first. Where nothing changed the residual is 0 without arithmetic; with ``exact=True`` all other
rows are settled in dyadic integers, and d is either exactly 0 or infinite. Source: SOUNDNESS, "The relation".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import singledispatch

import numpy as np

from reluce.bounds import affine_form, lipschitz
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Dyadic,
    Node,
    Op,
    Relu,
    Select,
    Softmax,
)
from reluce.rewrite._residual import (
    Multiples,
    Proved,
    any_nonzero,
    bounded_residual,
    columns_of,
    lowest,
    parameters_of,
    proved_multiples,
)
from reluce.rewrite._residual_exact import exact_multiples, exact_residual, plainly_equal
from reluce.rewrite._shift import is_shift
from reluce.rewrite._state import Original, Rewritten
from reluce.rewrite._well_formed import well_formed
from reluce.rounding import dot_error, mask_product, nonnegative_product, up

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
    if not well_formed(original.network, state):
        return {name: np.full(state.network.entries(name), np.inf) for name in state.network.tensors}
    found: Deviations = {}
    for name in state.network.inputs:
        found[name] = np.zeros(state.network.entries(name))
    known = _known(original, state, exact)
    for node in state.network.nodes:
        if not node.outputs:
            continue
        result = _node_deviation(original, state, node, found, known, exact)
        result = np.where(np.isnan(result), np.inf, result)  # what cannot be computed is not known
        worst = float(np.max(result, initial=0.0))
        for name in node.outputs:
            size = state.network.entries(name)
            found[name] = result if len(node.outputs) == 1 else np.full(size, worst)
    return found


def _known(original: Original, state: Rewritten, exact: bool) -> Proved:
    """The claims about multiples, proved in the order of the network; in exact arithmetic errors are 0 or infinite."""
    known: dict[str, Multiples] = {}
    exactly: dict[str, Multiples] = {}
    for name in [name for node in original.network.nodes for name in node.outputs if name in state.parallels]:
        exactly[name] = exact_multiples(original, name, state.parallels[name], exactly)
        if not exact:
            found = proved_multiples(original, name, state.parallels[name], known)
            known[name] = replace(found, error=np.fmin(found.error, exactly[name].error))
    return exactly if exact else known


def _node_deviation(
    original: Original, state: Rewritten, node: Node, found: Mapping[str, Array], known: Proved, exact: bool
) -> Array:
    parts = [found[name] for name in node.inputs]
    if node.outputs[0] in state.of:
        return _picked(state, node, parts)
    before = original.network.producer[node.outputs[0]]
    whole = not any(name in state.kept for name in (*node.inputs, *node.outputs))
    if node.op is before.op and node.inputs == before.inputs and whole and not any_nonzero(*parts):
        return np.zeros(state.network.entries(node.outputs[0]))
    if isinstance(before.op, Dense) and isinstance(node.op, Dense):
        return _dense(original, state, node, before, found, known, exact)
    if isinstance(node.op, Constant) and not isinstance(before.op, Constant):
        result = _constant(node.op, node, original, state)
        if isinstance(before.op, Dense) and result.any() and _uniform(node.op):
            result = np.fmin(result, _dense(original, state, node, before, found, known, exact))
        return result
    # A selection may have lost inputs; its own rule compares what is left.
    same_inputs = node.inputs == before.inputs or isinstance(node.op, Select)
    if type(node.op) is not type(before.op) or not same_inputs:
        return np.full(state.network.entries(node.outputs[0]), np.inf)
    return _carried(node.op, node, before, original, state, parts)


def epsilons(original: Original, state: Rewritten, exact: bool) -> dict[str, Array]:
    """The proven deviation of each graph output, flat; behind an operation that is not modelled it is 0 or infinite."""
    return at_outputs(original, state, deviation(original, state, exact))


def at_outputs(original: Original, state: Rewritten, found: Mapping[str, Array]) -> dict[str, Array]:
    """Of the deviations of all tensors those of the outputs.

    Each has to stand for itself, or where it is said to be shifted, for itself less one of its coordinates.
    """
    result = {}
    for name in original.network.outputs:
        kept = state.kept.get(name)
        if name in state.shifted:
            right = is_shift(state.rows.get(name), kept, name, state.shifted[name])
        else:
            right = kept is None or np.array_equal(kept, np.arange(original.network.tensors[name].size))
        result[name] = found[name] if right else np.full_like(found[name], np.inf)
    return result


def _picked(state: Rewritten, node: Node, parts: list[Array]) -> Array:
    """A selection that was put in front of a reader, and stands for the coordinates that it selects."""
    assert isinstance(node.op, Select)
    kept, rows = state.coordinates(node.output), state.rows.get(node.output)
    wanted = [(state.source(node.output), int(place)) for place in kept]
    if rows is not None:  # well-formed, so each row is a coordinate of another tensor
        for place, column in zip(np.flatnonzero(kept < 0), rows.matrix.argmax(axis=1), strict=True):
            wanted[place] = (rows.over, int(column))
    given = [(state.source(name), int(place)) for name in node.inputs for place in state.coordinates(name)]
    if set(node.inputs) & set(state.rows) or [given[place] for place in node.op.indices] != wanted:
        return np.full(len(wanted), np.inf)
    return np.concatenate(parts)[node.op.indices]


def _dense(
    original: Original,
    state: Rewritten,
    node: Node,
    before: Node,
    found: Mapping[str, Array],
    known: Proved,
    exact: bool,
) -> Array:
    assert isinstance(before.op, Dense)
    network = state.network
    shape = network.shape(node.output)
    source = node.inputs[0] if isinstance(node.op, Dense) else None
    rows = columns_of(state, original.network, node.output)
    if rows is None or (source is not None and columns_of(state, original.network, source) is None):
        return np.full(network.entries(node.output), np.inf)
    carried: Array = np.zeros(shape)
    if source is not None and found[source].any():
        parameters = parameters_of(node.op, shape)
        d = found[source].reshape(*network.shape(source))
        carried = nonnegative_product(d, np.abs(parameters.weight) + parameters.weight_radius)
        carried = carried + dot_error(d.shape[-1] + 1, carried)
    positions = (*original.network.shape(before.output)[:-1], len(rows))
    if plainly_equal(original, state, node, before, rows, source):
        residual = np.zeros(positions)
    elif exact:
        residual = np.broadcast_to(exact_residual(original, state, node, before, source, known), positions)
    else:
        residual = bounded_residual(original, state, node, before, source, known)
        # Operations without a Lipschitz bound need exactly 0; elsewhere try it where underflow is all there is.
        if residual.any() and (original.network.opaque or residual.max() < 1e-100):
            exactly = _known(original, state, exact=True)
            residual = np.fmin(residual, exact_residual(original, state, node, before, source, exactly))
    total = carried + residual
    return np.where(total != 0, up(total), 0.0).ravel()  # nothing is rounded up from 0


@singledispatch
def _carried(op: Op, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    """Deviation of an operation's output from those of its inputs.

    By default infinite, unless the operation is the very same and nothing that it reads deviates or has lost a
    coordinate.
    """
    size = state.network.entries(node.outputs[0])
    whole = not any(name in state.kept for name in (*node.inputs, *node.outputs))
    clean = whole and not any_nonzero(*parts) and node.op is before.op
    return np.zeros(size) if clean else np.full(size, np.inf)


@_carried.register
def _(op: Relu, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if not _aligned(node, state, new=True):
        return np.full_like(parts[0], np.inf)
    rows = state.rows.get(node.output)
    if rows is None:
        return parts[0]
    if not rows.same(state.rows.get(node.inputs[0])) or rows.over != before.inputs[0]:
        return np.full_like(parts[0], np.inf)
    low, d = np.where(rows.turned < 0, lowest(original, rows), 0.0), parts[0].copy()
    new = state.kept[node.output] < 0
    d[new] = np.where(low >= 0, d[new], up(d[new] - low))
    return d


@_carried.register
def _(op: Activation, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if not _aligned(node, state) or op is not before.op:
        return np.full_like(parts[0], np.inf)
    return np.where(parts[0] != 0, up(up(up(lipschitz(op) * parts[0]))), 0.0)


@_carried.register
def _(op: Softmax, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    if any(name in state.kept for name in (*node.inputs, *node.outputs)) or op is not before.op:
        return np.full(state.network.entries(node.output), np.inf)
    shape = state.network.shape(node.output)
    worst = parts[0].reshape(shape).max(axis=op.axis, keepdims=True)
    if op.log:  # x_i moves by its own d, log sum exp by the largest
        return np.where(worst != 0, up(parts[0].reshape(shape) + worst), 0.0).ravel()
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
    left = set(node.inputs)  # a tensor that is read twice is lost twice
    starts = np.cumsum([0, *(original.network.tensors[name].size for name in before.inputs)])
    read = [(name, int(start)) for name, start in zip(before.inputs, starts, strict=False) if name in left]
    if tuple(name for name, _ in read) != node.inputs or left & set(state.of) or left & set(state.rows):
        return np.full(len(op.indices), np.inf)
    sources = np.concatenate([state.coordinates(name) + start for name, start in read])[op.indices]
    if not np.array_equal(sources, before.op.indices[state.coordinates(node.output)]):
        return np.full(len(op.indices), np.inf)
    return np.concatenate(parts)[op.indices]


@_carried.register
def _(op: Constant, node: Node, before: Node, original: Original, state: Rewritten, parts: list[Array]) -> Array:
    return _constant(op, node, original, state)


def _constant(op: Constant, node: Node, original: Original, state: Rewritten) -> Array:
    """A constant against what is known of the original tensor: its exact value, else its proven interval."""
    kept = state.coordinates(node.output)
    if node.output in state.rows:
        return np.full(op.value.size, np.inf)
    known = original.bounds.constants[node.output]
    value = op.value.astype(np.float64).ravel()
    if not np.isfinite(value).all():
        return np.full(value.size, np.inf)
    same = known.exact.ravel()[kept] & ((known.value.reshape((-1,))[kept] - Dyadic.of(value)).sign() == 0)
    box = original.bounds.intervals[node.output]
    worst = np.maximum(np.abs(value - box.lower.ravel()[kept]), np.abs(box.upper.ravel()[kept] - value))
    return np.where(same, 0.0, up(worst))


def _aligned(node: Node, state: Rewritten, new: bool = False) -> bool:
    """Whether an elementwise operation reads the coordinates that it writes, new ones only where these are allowed."""
    names = {*node.inputs, *node.outputs}
    if names & set(state.of) or (not new and names & set(state.rows)):
        return False
    if not any(name in state.kept for name in (*node.inputs, *node.outputs)):
        return True
    mine = state.coordinates(node.output)
    return all(np.array_equal(state.coordinates(name), mine) for name in node.inputs)


def _uniform(op: Constant) -> bool:
    """Whether a constant is the same at every position, as the output of a dense layer without inputs is."""
    value = op.value.reshape(-1, op.value.shape[-1]) if op.value.ndim else op.value.reshape(1, 1)
    return bool((value == value[0]).all())
