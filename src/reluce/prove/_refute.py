"""Search for witnesses of the units that bounds have left open, layer by layer.

Gradient ascent starts where it is promising: at the corner of the unit's linear bounds, at the points of the pool
that are best for the unit, at a random point. The pool holds every witness so far. Three kinds of climbs take turns:
short steps on the network itself, balanced climbs (see ``_ascent``) on surrogates with short tails, repeated for as
long as they find enough, each round also from where the ones before ended, and annealed surrogates with long tails for
the little that is left.

Source: FRONTIER, sections 2 and 4, for short steps and annealed surrogates; balanced climbs are ours. Measured on what
the others leave open in ``cora`` and ``mnistfc``: nothing else found as many, not more starts, not longer climbs, other
step rules or surrogates, not the extremes of the layers in front, and not mixing and mutating points of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce.bounds import Settled
from reluce.domain import Box
from reluce.network import Array, Network, Node, at_once, evaluate
from reluce.prove._ascent import Climb, Goals, Points, climb, goals_of, multiplications, vertices
from reluce.prove._witnesses import BATCH, Witnesses, by_unit

ROWS = 2048
"""Points that climb at once."""


@dataclass(frozen=True)
class SearchSettings:
    """The climbs, and what they may spend.

    ``work`` caps the multiplications per layer, and ``insistence`` those of its balanced climbs. About ``probe``
    (unit, sign) pairs of a layer say whether a kind of climb finds anything. Balanced climbs are repeated while they
    find a share ``worth`` of what is open.
    """

    local: Climb = field(default_factory=lambda: Climb(restarts=8, steps=60, rate=0.03))
    annealed: Climb = field(default_factory=lambda: Climb(restarts=8, steps=150, rate=0.1, tail=1.0))
    balanced: Climb = field(default_factory=lambda: Climb(restarts=4, steps=300, rate=0.1, tail=0.2, balanced=True))
    probe: int = 32
    worth: float = 0.02
    work: float = 4e11
    insistence: float = 1e12


@dataclass(eq=False)
class Search:
    """Working state of the search: the pool, where balanced climbs of the layer ended, and what may be spent."""

    network: Network
    box: Box
    witnesses: Witnesses
    settled: Mapping[str, Settled]
    generator: np.random.Generator
    settings: SearchSettings
    stop: Callable[[], bool]
    _ends: list[Points] = field(default_factory=list)
    _left: float = 0.0

    def layer(self, node: Node) -> None:
        """Look for the witnesses that a layer lacks."""
        self._left = self.settings.work
        found = self._try(node, self.settings.local) + self._insist(node)
        if found:  # otherwise what is left is likely stable
            self._try(node, self.settings.annealed)

    def _try(self, node: Node, kind: Climb) -> int:
        """Climb towards all goals if that reaches some of a few; returns how many were found."""
        found = self._probe(node, kind)
        return found + self._climb_all(goals_of(self.witnesses, node), kind) if found else 0

    def _insist(self, node: Node) -> int:
        """Repeat balanced climbs while they find enough; returns how many were found."""
        kind, before = self.settings.balanced, self._left
        self._left = self.settings.insistence
        total = found = self._probe(node, kind)
        while found and not self._spent():
            goals = goals_of(self.witnesses, node)
            found = self._climb_all(goals, kind)
            total += found
            if found < self.settings.worth * len(goals.units):
                break
        self._ends.clear()  # what excites one layer says little about the next, and its witnesses are in the pool
        self._left = before
        return total

    def _probe(self, node: Node, kind: Climb) -> int:
        """Climb towards a few of the goals; returns how many were found."""
        goals = goals_of(self.witnesses, node)
        every = max(1, len(goals.units) // self.settings.probe)
        return self._climb_all(goals.only(slice(None, None, every)), kind)

    def _spent(self) -> bool:
        return self._left <= 0 or self.stop()

    def _climb_all(self, goals: Goals, kind: Climb) -> int:
        """Climb towards all goals, a block at a time; returns how many (unit, sign) pairs of the layer were found."""
        before = len(goals_of(self.witnesses, goals.node).units)
        per_block = max(1, ROWS // kind.restarts)
        for start in range(0, len(goals.units), per_block):
            if not self._spent():
                self._climb(goals.only(slice(start, start + per_block)), kind)
        return before - len(goals_of(self.witnesses, goals.node).units)

    def _climb(self, goals: Goals, kind: Climb) -> None:
        """Climb until all is found or the budget is spent."""
        repeated, starts = self._starts(goals, kind)
        cost = 6.0 * multiplications(self.network, goals.node.inputs[0]) * kind.check_every
        rows = repeated

        def wanted(points: Points) -> Array:
            nonlocal rows
            self._left -= cost * len(rows.units)
            self.witnesses.feed(points)
            self.witnesses.feed(vertices(self.box, points))
            up, down = self.witnesses.open(goals.node)
            alive = np.where(rows.signs > 0, up[rows.units], down[rows.units]) & (self._left > 0)
            rows = rows.only(alive)
            return alive

        ends = climb(self.network, self.box, repeated, starts, kind, wanted, self.stop)
        if kind.balanced and len(rows.units):
            self._ends.append(self._best_of(rows, ends))

    def _best_of(self, goals: Goals, points: Points) -> Points:
        """Of the points that climb towards the same goal, the one that has come furthest."""
        z = self._z(goals.node, points)
        reached = goals.of(z) * _scale(z)
        order = np.argsort(-reached, kind="stable")
        keys = np.stack([goals.units, goals.signs.astype(goals.units.dtype)])[:, order]
        best = order[np.unique(keys, axis=1, return_index=True)[1]]
        return {name: values[best].astype(np.float32) for name, values in points.items()}

    # Where to start

    def _starts(self, goals: Goals, kind: Climb) -> tuple[Goals, Points]:
        """Each goal as often as there are restarts, and where each begins: corner, pool, at least one at random."""
        repeated = Goals(goals.node, np.repeat(goals.units, kind.restarts), np.repeat(goals.signs, kind.restarts))
        drawn = self.box.sample(self.generator, len(repeated.units))
        starts = {name: x.astype(np.float32) for name, x in drawn.items()}
        first = self._at_corners(goals, starts, kind.restarts)
        self._at_best(goals, starts, kind, first)
        return repeated, starts

    def _at_corners(self, goals: Goals, starts: dict[str, Array], restarts: int) -> int:
        """Begin at the corners of the units' linear bounds; returns how many starts that takes (none or one)."""
        corners = self.settled[goals.node.name].corners
        shape = self.network.shape(goals.node.inputs[0])
        places = by_unit(np.arange(int(np.prod(shape))).reshape(1, *shape), goals.node)[0]
        position = {int(coordinate): row for row, coordinate in enumerate(corners.rows)}
        rows = np.array([next((position[int(c)] for c in places[:, u] if int(c) in position), -1) for u in goals.units])
        for name, x in starts.items():
            for up, side in ((True, corners.highest), (False, corners.lowest)):
                which = np.flatnonzero((rows >= 0) & ((goals.signs > 0) == up))
                x[which * restarts] = side[name][rows[which]]
        return int((rows >= 0).any())

    def _at_best(self, goals: Goals, starts: dict[str, Array], kind: Climb, first: int) -> None:
        """Begin at the points of the pool that are best for each goal; the last start stays random."""
        pool, restarts = self._pool(), kind.restarts
        size = len(next(iter(pool.values())))
        many = min(restarts - 1 - first, size)
        if many <= 0:
            return
        every = self._z(goals.node, pool)
        z = by_unit(every, goals.node)[:, :, goals.units]
        reached = np.where(goals.signs > 0, z.max(axis=1), -z.min(axis=1))
        if kind.balanced:
            with np.errstate(all="ignore"):  # only says where to start
                reached = reached * _scale(every)[:, None]
        order = np.argpartition(-reached, many - 1, axis=0)[:many]
        for goal in range(len(goals.units)):
            place = goal * restarts + first
            for name, x in starts.items():
                x[place : place + many] = pool[name][order[:, goal]]

    def _pool(self) -> Points:
        parts = [*self._ends, self.witnesses.points]
        return {name: np.concatenate([part[name].astype(np.float32) for part in parts]) for name in parts[-1]}

    def _z(self, node: Node, points: Points) -> Array:
        z, size, step = node.inputs[0], len(next(iter(points.values()))), at_once(self.network, BATCH)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [
                evaluate(self.network, {name: x[k : k + step] for name, x in points.items()}, until=z)[z]
                for k in range(0, size, step)
            ]
        return np.concatenate(parts)


def _scale(z: Array) -> Array:
    """What makes the values of a layer comparable between points: balanced climbs do not care for their size."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(z.reshape(len(z), -1)).mean(axis=1)
    return np.asarray(1 / np.maximum(size, np.finfo(np.float64).tiny))
