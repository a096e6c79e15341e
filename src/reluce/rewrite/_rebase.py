"""Give the linear part of a layer a new basis: as few units as its readers can tell apart (joint rank).

On the domain a stably active unit is its own pre-activation, so a layer passes on V (L h + b_L): L the rows of its
active units and of one unit z_i of each class with opposites (``_multiples``), V what the readers take of them. Only
P = V L matters. With r = rank P, pick r readers' rows as basis, P = A P_k, and let the new units be

    z' = B h + beta,   B = P_k = V_k L,   beta >= -min over the domain of B h,

which are active by construction, so the readers take  A z' - A beta + V b_L.  No fewer affine units can do it, and A
has an identity block. This contains the rank of L itself (LEO's merging) and the number of readers' rows.
Source: METHODS 4.A (proof), 4.B; width only: Zhong, Wang, Khoo, REDNet, ASE 2023.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from flint import fmpz_mat
from scipy.linalg import qr, solve_triangular

from reluce.bounds import Interval, dense_form
from reluce.network import Array, Dense, Dyadic, Node, readonly
from reluce.rewrite._cost import cost
from reluce.rewrite._merge import LARGEST_FACTOR, affordable_rank, largest_rank, scaled_rows
from reluce.rewrite._multiples import Class, claims, joined
from reluce.rewrite._residual import lowest
from reluce.rewrite._sensitivity import sensitivity
from reluce.rewrite._shrink import constant_node, droppable, shrink
from reluce.rewrite._state import Judge, Original, Rewritten, Rows, Sandwich

MARGIN = 2.0**-10
"""How far new units are kept above 0, as a share of what they would reach below it."""


LARGEST_LAYER = 8_000_000
"""Numbers of all readers' rows, as functions of the layer's input, up to which they are decomposed (seconds)."""

LARGEST_LATTICE, LATTICE_BITS = 20_000, 64
"""Numbers of readers' rows, and bits of each, up to which a basis in integers is looked for."""


NONE: Array = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Block:
    """The linear part of a layer: functionals of its input, the same of the original's z, and its readers' rows."""

    weight: Array  # (functionals, inputs): L
    bias: Array
    matrix: Array  # (functionals, size of the original's pre-activation): the same, as functions of that
    shift: Array
    readers: Array  # (rows of all readers, functionals): V


def rebase_layer(
    original: Original, state: Rewritten, pattern: Sandwich, found: list[Class], room: Array, judge: Judge
) -> Rewritten | str:
    """Replace the active units of a layer, and what is linear in classes with opposites, by as few as possible.

    Parameters
    ----------
    original, state, pattern
        What is known, what became of it so far, and the layer.
    found
        Classes of units on one hyperplane that are to be reduced to one unit each.
    room
        How much each output may still move, one entry for each row of ``sensitivity``; 0 at the exact guarantee.
    judge
        Says why a finished candidate must not be taken, if so.

    Returns
    -------
    Rewritten or str
        The smaller network, or why the layer stays.
    """
    shape = original.network.shape(pattern.relu.output)
    if original.network.tensors[pattern.relu.output].size != shape[-1]:
        return "the layer has several positions"
    present = len(pattern.active) + sum(len(item.others) for item in found)
    if not present:
        return "it has no active units"
    if sum(original.network.tensors[node.output].size for node in pattern.after) * _width(pattern) > LARGEST_LAYER:
        return "the layer is too large to look for a basis"
    _, centre, half = scaled_rows(original, state, pattern)
    found = _oriented(original, state, pattern, found, half)
    turned = _turned(original, state, pattern, found, half)
    block = _block(original, state, pattern, found, turned)
    why, taken = "its inputs are unbounded", list[Rewritten]()
    for basis in _bases(state, pattern, block, half, room):
        if len(basis.rows) >= present:
            why = f"its readers tell {len(basis.rows)} combination{'s' * (len(basis.rows) != 1)} apart"
        elif max(np.abs(part).max(initial=0.0) for part in (basis.rows, basis.factors)) > LARGEST_FACTOR:
            why = "the new weights would be too large"
        elif not (room > 0).any() and not _representable(pattern, block, basis, half > 0):
            why = "a new weight is not exactly representable"
        else:
            candidate = _applied(original, state, pattern, found, turned, block, basis, centre)
            refused = "its new units have no lower bound" if candidate is None else judge(candidate)
            if candidate is not None and refused is None:
                taken.append(candidate)
            why = refused or why
    return min(taken, key=lambda candidate: cost(candidate.network, original.network).nonzeros) if taken else why


def _representable(pattern: Sandwich, block: _Block, basis: _Basis, varying: Array) -> bool:
    """Whether new weights are numbers of their format, as they must be where nothing may move (a quick look)."""
    assert isinstance(pattern.before.op, Dense)
    B = (basis.rows @ block.readers @ block.weight)[:, varying]
    with np.errstate(over="ignore"):
        return bool((B.astype(pattern.before.op.weight.dtype) == B).all())


def _width(pattern: Sandwich) -> int:
    assert isinstance(pattern.before.op, Dense)
    return int(pattern.before.op.weight.shape[1])


def _oriented(original: Original, state: Rewritten, pattern: Sandwich, found: list[Class], half: Array) -> list[Class]:
    """Classes with opposites, each with that unit in front which leaves the smaller rank (greedily)."""
    for place, item in enumerate(found):
        if item.opposite.any():
            other = [*found[:place], item.turned, *found[place + 1 :]]
            here, there = (_rank(_block(original, state, pattern, choice), half) for choice in (found, other))
            found = other if there < here else found
    return found


def _turned(original: Original, state: Rewritten, pattern: Sandwich, found: list[Class], half: Array) -> Array:
    """Positions of units that are better turned over, ``relu(z) = relu(-z) + z``, since that lowers the rank.

    Adding J w^T to a matrix R lowers its rank iff J and w lie in its column and row space, and 1 + w R^+ J = 0.
    """
    assert isinstance(pattern.before.op, Dense)
    others = np.concatenate([np.zeros(0, dtype=np.int64), *([item.first, *item.others] for item in found)])
    free = np.setdiff1d(np.flatnonzero(pattern.units >= 0), np.concatenate([others, pattern.active]))
    rows = dense_form(pattern.before.op).weight[free] * half
    columns = np.concatenate([dense_form(node.op).weight for node in pattern.after if isinstance(node.op, Dense)])
    chosen = np.zeros(0, dtype=np.int64)
    while len(free) > len(chosen) and _moderate(rows):
        block = _block(original, state, pattern, found, chosen)
        R = block.readers @ block.weight * half
        if not _moderate(R) or not R.any():
            break
        U, sizes, V = np.linalg.svd(R, full_matrices=False)
        rank = int((sizes > 1e-9 * sizes[0]).sum())
        U, sizes, V, J = U[:, :rank], sizes[:rank], V[:rank], columns[:, free]
        inside, across = U.T @ J, rows @ V.T
        spans = _nearly(U @ inside, J, axis=0) & _nearly(across @ V, rows, axis=1)
        lowers = spans & (np.abs(1.0 + (across.T * (inside / sizes[:, None])).sum(axis=0)) < 1e-6)
        lowers &= ~np.isin(free, chosen) & J.any(axis=0)
        if not lowers.any():
            break
        chosen = np.append(chosen, free[np.argmax(lowers)])
    return chosen


def _moderate(values: Array) -> bool:
    """Whether squares of numbers can be added up without overflow; NaN and infinities are not moderate."""
    return bool((np.abs(values) < 1e150).all())


def _nearly(found: Array, wanted: Array, axis: int) -> Array:
    return np.asarray(np.linalg.norm(found - wanted, axis=axis) <= 1e-6 * np.linalg.norm(wanted, axis=axis))


def _rank(block: _Block, half: Array) -> int:
    scaled = block.readers @ block.weight * half
    return _numerical_rank(qr(scaled.T, mode="r", pivoting=True)[0]) if _moderate(scaled) else 0


@dataclass(frozen=True, eq=False)
class _Basis:
    """``rows`` says how the new units combine those of readers, and ``factors`` the readers' rows in terms of them."""

    rows: Array  # (rank, rows of all readers)
    factors: Array  # (rows of all readers, rank)


def _bases(state: Rewritten, pattern: Sandwich, block: _Block, half: Array, room: Array) -> Iterator[_Basis]:
    """Bases to try: rows of readers, within the budget; one of the lattice of all rows, where that is exact."""
    P = block.readers @ block.weight
    scaled = P * half
    if not _moderate(scaled):
        return
    triangle, order = qr(scaled.T, mode="r", pivoting=True)
    if (room > 0).any():
        rank = min(
            _numerical_rank(triangle),
            affordable_rank(scaled, triangle, order, _reader_weights(state, pattern), room),
        )
        yield _among_rows(triangle, order, rank)
    rank = _numerical_rank(triangle)
    lattice = _lattice(block, half > 0)
    if lattice is not None and len(lattice.rows) == rank:
        yield lattice
    if not (room > 0).any():
        yield _among_rows(triangle, order, rank)


def _among_rows(triangle: Array, order: Array, rank: int) -> _Basis:
    """Some of the readers' rows, and the others in terms of them."""
    count = len(order)
    rows, factors = np.zeros((rank, count)), np.zeros((count, rank))
    rows[np.arange(rank), order[:rank]] = 1.0
    factors[order[:rank]] = np.eye(rank)
    if rank and rank < count:
        factors[order[rank:]] = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank:]).T
    return _Basis(rows, factors)


def _lattice(block: _Block, varying: Array) -> _Basis | None:
    """A short basis of all integer combinations of the readers' rows: with it, factors are integers (LLL).

    Only where numbers have few digits does anything come of it that fits in a float; others are not tried.
    """
    if len(block.readers) * varying.sum() > LARGEST_LATTICE:
        return None
    P = (Dyadic.of(block.readers) @ Dyadic.of(block.weight))[:, varying]
    entries = [int(entry) for entry in P.mantissa.ravel()]
    common = gcd(*entries)
    if common == 0 or max(abs(entry // common) for entry in entries).bit_length() > LATTICE_BITS:
        return None
    whole = fmpz_mat(P.shape[0], P.shape[1], [entry // common for entry in entries])
    reduced, transform = whole.lll(True)
    used = [k for k in range(len(block.readers)) if any(reduced[k, j] != 0 for j in range(P.shape[1]))]
    back = transform.inv()
    rows = np.array([[int(transform[k, j]) for j in range(len(block.readers))] for k in used], dtype=np.float64)
    factors = np.array([[int(back[i, k]) for k in used] for i in range(len(block.readers))], dtype=np.float64)
    return _Basis(rows.reshape(len(used), -1), factors.reshape(-1, len(used)))


def _block(original: Original, state: Rewritten, pattern: Sandwich, found: list[Class], turned: Array = NONE) -> _Block:
    assert isinstance(pattern.before.op, Dense)
    opposite = [item for item in found if item.opposite.any()]
    form, z = dense_form(pattern.before.op), pattern.relu.inputs[0]
    places = np.concatenate([pattern.active, [item.first for item in opposite], turned]).astype(np.int64)
    size = original.network.tensors[z].size
    matrix, shift = np.zeros((len(places), size)), np.zeros(len(places))
    units = pattern.units[places]
    old = np.flatnonzero(units >= 0)
    matrix[old, units[old]] = 1.0
    if z in state.rows:
        number = np.cumsum(pattern.units < 0) - 1
        new = np.flatnonzero(units < 0)
        matrix[new], shift[new] = (part[number[places[new]]] for part in (state.rows[z].matrix, state.rows[z].shift))
    readers = []
    for node in pattern.after:
        assert isinstance(node.op, Dense)
        V = dense_form(node.op).weight
        linear = [V[:, item.others[item.opposite]] @ item.factors[item.opposite] for item in opposite]
        readers.append(
            np.concatenate([V[:, pattern.active], *(part[:, None] for part in linear), V[:, turned]], axis=1)
        )
    return _Block(form.weight[places], form.bias[places], matrix, shift, np.concatenate(readers))


def _reader_weights(state: Rewritten, pattern: Sandwich) -> Array:
    """How much each output feels of each row of the readers."""
    factors = sensitivity(state.network)
    return np.concatenate([factors[node.output] for node in pattern.after], axis=1)


def _numerical_rank(triangle: Array) -> int:
    diagonal = np.abs(np.diag(triangle))
    return min(int((diagonal > 1e-11 * diagonal.max(initial=0.0)).sum()), largest_rank(triangle))


def _applied(
    original: Original,
    state: Rewritten,
    pattern: Sandwich,
    found: list[Class],
    turned: Array,
    block: _Block,
    basis: _Basis,
    centre: Array,
) -> Rewritten | None:
    """The network with the new units in place of the block, classes reduced to one unit each, and some turned over.

    None where the new units have no finite bias that keeps them above 0.
    """
    op, z = pattern.before.op, pattern.relu.inputs[0]
    assert isinstance(op, Dense)
    dtype, A, P = op.weight.dtype, basis.factors, block.readers @ block.weight
    combination = basis.rows @ block.readers
    B = combination @ block.weight
    ends, none = np.zeros(len(B)), np.full(len(B), -1)
    shift = combination @ block.shift - combination @ block.bias
    plain = Rows(z, combination @ block.matrix, shift, ends, ends, none)
    beta = _offsets(lowest(original, plain))
    if not np.isfinite(beta).all():
        return None
    plain = replace(plain, shift=plain.shift + beta)
    high = -lowest(original, replace(plain, matrix=-plain.matrix, shift=-plain.shift))
    new = replace(plain, high=high)
    gone = np.zeros(len(pattern.units), dtype=bool)
    gone[pattern.active] = True
    for item in found:
        gone[item.others] = True
    form = dense_form(op)
    flip = np.where(np.isin(np.flatnonzero(~gone), turned), -1.0, 1.0)
    with np.errstate(over="ignore"):
        weight = np.concatenate([(form.weight[~gone] * flip[:, None]).astype(dtype), B.astype(dtype)])
        old_bias = (form.bias[~gone] * flip).astype(dtype if op.bias is None else op.bias.dtype)
        bias = np.concatenate([old_bias, beta.astype(old_bias.dtype)])
    changed = {pattern.before.name: replace(pattern.before, op=Dense(readonly(weight), readonly(bias)))}
    start = 0
    for node in pattern.after:
        assert isinstance(node.op, Dense)
        mine = slice(start, start + len(node.op.weight))
        leftover = (P[mine] - A[mine] @ B) @ centre
        lift = block.readers[mine] @ block.bias - A[mine] @ beta + leftover
        changed[node.name] = reading(joined(node, found), A[mine], lift, ~gone)
        start = mine.stop
    if not len(B) and gone.all():
        return _without_layer(state, pattern, changed)
    return _placed(original, state, pattern, changed, new, ~gone, turned, found)


def _without_layer(state: Rewritten, pattern: Sandwich, changed: dict[str, Node]) -> Rewritten:
    """The network where readers of no unit at all write their biases, and nothing reads the layer."""
    network, constants = state.network, dict[str, Node]()
    for node in pattern.after:
        op = changed[node.name].op
        assert isinstance(op, Dense)
        assert op.bias is not None
        value = np.broadcast_to(op.bias.astype(op.weight.dtype), network.shape(node.output))
        constants[node.name] = constant_node(network, node, value)
    nodes = tuple(constants.get(node.name, node) for node in network.nodes)
    candidate = replace(state, network=replace(network, nodes=nodes))
    return shrink(candidate, droppable(candidate.network, {}), {})


def _offsets(low: Array) -> Array:
    """Biases with few digits that keep new units above 0."""
    wanted = np.maximum(-low, 0.0) * (1.0 + MARGIN)
    mantissa, exponent = np.frexp(wanted)
    return np.ldexp(np.ceil(mantissa * 2.0**10) / 2.0**10, exponent)


def reading(node: Node, A: Array, lift: Array, left: Array) -> Node:
    """A reader of the units that stay, and of new ones with weights ``A``, with ``lift`` on top of its bias."""
    op = node.op
    assert isinstance(op, Dense)
    dtype = op.weight.dtype
    bias = dense_form(op).bias
    kind = dtype if op.bias is None else op.bias.dtype
    old = op.weight[:, left]
    with np.errstate(over="ignore"):
        if op.alpha != 1:
            old = (op.alpha * old.astype(np.float64)).astype(dtype)
        weight = np.concatenate([old, A.astype(dtype)], axis=1)
        new_bias = np.where(lift == 0, bias, bias + lift).astype(kind)
    return replace(node, op=Dense(readonly(weight), readonly(new_bias)))


def _placed(
    original: Original,
    state: Rewritten,
    pattern: Sandwich,
    changed: dict[str, Node],
    new: Rows,
    left: Array,
    turned: Array,
    found: list[Class],
) -> Rewritten:
    z, h = pattern.relu.inputs[0], pattern.relu.output
    network, box = state.network, original.bounds.intervals[z]
    kept = pattern.units.copy()
    order = np.flatnonzero(left)
    opposite = np.isin(order, turned)
    # Rows follow the order of the coordinates: opposites from before and of now, where they stand, then the new ones.
    rows = Rows.opposites(z, new.matrix.shape[1], kept[order[opposite]], *_ends(box, kept[order[opposite]]))
    if z in state.rows:
        old = np.flatnonzero(kept < 0)
        places = np.concatenate([old[left[old]], order[opposite]])
        rows = state.rows[z].taken(left[old]).followed(rows).taken(np.argsort(places))
    kept[turned] = -1
    rows = rows.followed(new)
    kept = np.concatenate([kept[left], np.full(len(new.shift), -1)])
    tensors = {
        name: replace(tensor, shape=(*(tensor.shape or ())[:-1], len(kept))) if name in (z, h) else tensor
        for name, tensor in network.tensors.items()
    }
    parallels = dict(state.parallels)
    if found:
        parallels[z] = claims(state, pattern, found)
    rest = {name: value for name, value in state.rows.items() if name not in (z, h)}
    candidate = replace(
        state,
        network=replace(network, nodes=tuple(changed.get(n.name, n) for n in network.nodes), tensors=tensors),
        kept={**state.kept, z: kept, h: kept},
        rows={**rest, z: rows, h: rows} if len(rows.shift) else rest,
        parallels=parallels,
    )
    return shrink(candidate, droppable(candidate.network, {}), {})


def _ends(box: Interval, places: Array) -> tuple[Array, Array]:
    return box.lower.ravel()[places], box.upper.ravel()[places]
