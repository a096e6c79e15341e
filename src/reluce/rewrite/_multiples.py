"""Units on one hyperplane: duplicates, multiples and opposites need one ReLU between them.

If z_j = c z_i on the domain, then on the inputs that vary (fixed ones count as part of the bias)

    relu(z_j) = c relu(z_i)                    for c > 0,
    relu(z_j) = |c| relu(z_i) + c z_i          for c < 0,  since relu(z) - relu(-z) = z.

So one unit of each class stays, its readers take  W'_i = W_i + sum_j |c_j| W_j,  and for opposites a linear functional
sum_{c_j < 0} c_j W_j z_i  is left over, which joins the stably active block (``_rebase``). If W'_i = 0 the class is
linear. What ``_relation`` is told is z_j = c z_i, which it proves, through earlier classes too: merging the units of
one layer makes units of the next proportional (lumping). Sources: METHODS 4.7, 4.8, 4.10, 4.11, 4.B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Array, Dense, Node, readonly
from reluce.rewrite._residual import SHORT
from reluce.rewrite._shrink import droppable, shrink
from reluce.rewrite._state import Judge, Parallels, Rewritten, Sandwich

NEAR = 1e-5
"""Directions that differ by less are tried: what is left of the difference is bounded, and has to fit in the budget."""


@dataclass(frozen=True, eq=False)
class Class:
    """Positions of units of the rewritten layer on one hyperplane: ``z[others] ~ factors * z[first]``."""

    first: int
    others: Array
    factors: Array

    @property
    def opposite(self) -> Array:
        """The others that point the other way."""
        return self.factors < 0

    @property
    def turned(self) -> Class:
        """The same class, with the shortest of its opposites as the unit that stays."""
        place = int(np.argmin(np.where(self.opposite, np.abs(self.factors), np.inf)))
        factors = self.factors / self.factors[place]
        factors[place] = 1.0 / self.factors[place]
        others = self.others.copy()
        others[place] = self.first
        return Class(int(self.others[place]), others, _rounded(factors))


def classes(pattern: Sandwich, rows: Array, bias: Array) -> list[Class]:
    """The classes of more than one unit.

    Parameters
    ----------
    pattern
        The layer.
    rows
        ``(units, inputs)``: weights times the half range of each input on the domain.
    bias
        ``(units,)``: values at the centre of the domain.
    """
    free = np.setdiff1d(np.flatnonzero(pattern.units >= 0), pattern.active)
    vectors = np.concatenate([rows[free], bias[free, None]], axis=1)
    size = np.abs(rows[free]).max(axis=1, initial=0.0)
    usable = (size > 0) & np.isfinite(vectors).all(axis=1) & (np.abs(vectors).max(axis=1, initial=0.0) < 1e150)
    free, vectors = free[usable], vectors[usable]
    if len(free) < 2:
        return []
    scale = np.linalg.norm(vectors, axis=1)
    unit = vectors / scale[:, None]
    lead = unit[np.arange(len(unit)), np.abs(unit).argmax(axis=1)]
    axis = np.random.default_rng(0).standard_normal(unit.shape[1])
    found = []
    for group in _alike(unit * np.sign(lead)[:, None], np.abs(unit @ axis)):
        first = group[np.argmin(scale[group])]  # the shortest: multiples of it are most likely to be exact
        others = np.array([k for k in group if k != first])
        factors = vectors[others] @ vectors[first] / (vectors[first] @ vectors[first])
        found.append(Class(int(free[first]), free[others], _rounded(factors)))
    return sorted(found, key=lambda item: item.first)


def _alike(unit: Array, key: Array) -> Iterator[Array]:
    """Groups of rows that are nearly equal up to sign; ``key`` is nearly equal for such rows."""
    order = np.argsort(key)
    taken = np.zeros(len(unit), dtype=bool)
    reach = NEAR * (1.0 + np.sqrt(unit.shape[1]) * 4.0)
    for place, row in enumerate(order):
        if taken[row]:
            continue
        near = order[place : np.searchsorted(key[order], key[row] + reach, side="right")]
        near = near[~taken[near]]
        distance = np.minimum(*(np.abs(unit[near] - sign * unit[row]).max(axis=1) for sign in (1.0, -1.0)))
        group = near[distance <= NEAR]
        if len(group) > 1:
            taken[group] = True
            yield group


def _rounded(factors: Array) -> Array:
    """Factors with so few bits that their products with float32 weights are exact."""
    mantissa, exponent = np.frexp(factors)
    return np.ldexp(np.round(mantissa * 2.0**SHORT) / 2.0**SHORT, exponent)


def values_at(pattern: Sandwich, centre: Array) -> Array:
    """Pre-activations where the layer's inputs have the given values; what is fixed counts as part of the bias."""
    assert isinstance(pattern.before.op, Dense)
    form = dense_form(pattern.before.op)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(form.weight @ centre + form.bias)


def merge_multiples(state: Rewritten, pattern: Sandwich, found: list[Class], judge: Judge) -> Rewritten:
    """Leave one unit of each class whose units all point the same way; what nothing reads any more is taken out.

    Parameters
    ----------
    state, pattern
        The network so far, and the layer.
    found
        Classes without opposites.
    judge
        Says why a finished candidate must not be taken, if so.
    """
    if not found:
        return state
    whole = _merged(state, pattern, found)
    if judge(whole) is None:
        return whole
    best, chosen = state, list[Class]()
    for item in found if len(found) > 1 else ():
        trial = _merged(state, pattern, [*chosen, item])
        if judge(trial) is None:
            best = trial
            chosen.append(item)
    return best


def _merged(state: Rewritten, pattern: Sandwich, found: list[Class]) -> Rewritten:
    nodes = {node.name: joined(node, found) for node in pattern.after}
    changed = replace(
        state,
        network=replace(state.network, nodes=tuple(nodes.get(node.name, node) for node in state.network.nodes)),
        parallels={**state.parallels, pattern.relu.inputs[0]: claims(state, pattern, found)},
    )
    return shrink(changed, droppable(changed.network, {}), {})


def joined(node: Node, found: list[Class]) -> Node:
    """A reader that takes of each class what all of its units gave, but for the linear part of opposites."""
    op = node.op
    assert isinstance(op, Dense)
    weight = op.weight.astype(np.float64)
    changed = np.array(op.weight)
    for item in found:
        total = weight[:, item.first] + weight[:, item.others] @ np.abs(item.factors)
        with np.errstate(over="ignore"):
            changed[:, item.first] = total.astype(op.weight.dtype)
        changed[:, item.others] = 0
    return replace(node, op=replace(op, weight=readonly(changed)))


def claims(state: Rewritten, pattern: Sandwich, found: list[Class]) -> Parallels:
    """What has to be proved of the original for these classes, with what was claimed of the layer before."""
    units = pattern.units
    unit = np.concatenate([units[item.others] for item in found]).astype(np.int64)
    to = np.concatenate([np.full(len(item.others), units[item.first]) for item in found]).astype(np.int64)
    factor = np.concatenate([item.factors for item in found])
    before = state.parallels.get(pattern.relu.inputs[0])
    if before is None:
        return Parallels(unit, to, factor)
    # A unit that others were expressed by may itself be expressed by another now.
    place = {int(u): k for k, u in enumerate(unit)}
    again = [place.get(int(t), -1) for t in before.to]
    old_to = np.array([to[k] if k >= 0 else t for k, t in zip(again, before.to, strict=True)], dtype=np.int64)
    old = np.array([f * factor[k] if k >= 0 else f for k, f in zip(again, before.factor, strict=True)])
    return Parallels(np.concatenate([before.unit, unit]), np.concatenate([old_to, to]), np.concatenate([old, factor]))
