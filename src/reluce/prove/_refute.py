"""Search for witnesses of the units that bounds have left open, layer by layer.

Gradient ascent starts where it is promising: at the corner of the unit's linear bounds, at the points of the pool
that are best for the unit, at a random point. The pool holds every witness so far, and where many units of a layer
stay open, the points that drive each unit of the layers in front highest and lowest: what excites a unit also excites
what reads it. Three kinds of climbs take turns: short steps on the network itself, annealed surrogates for plateaus,
and for what is left short steps for longer and from more points. Source: FRONTIER, sections 2 and 4; that short steps
from the pool decide nearly all that annealing leaves is our own measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce.bounds import Settled
from reluce.domain import Box
from reluce.network import Array, Network, Node, evaluate
from reluce.prove._ascent import Climb, Goals, Points, climb, goals_of, multiplications, vertices
from reluce.prove._witnesses import BATCH, Witnesses, by_unit

ROWS = 2048
"""Points that climb at once."""


@dataclass(frozen=True)
class SearchSettings:
    """The climbs, and what they may spend.

    ``work`` caps the multiplications per layer. About ``probe`` (unit, sign) pairs of a layer say whether there is
    anything to find; ``few`` open pairs are not worth the extremes of all the layers in front.
    """

    local: Climb = field(default_factory=lambda: Climb(restarts=8, steps=60, rate=0.03))
    annealed: Climb = field(default_factory=lambda: Climb(restarts=8, steps=150, rate=0.1, tail=1.0))
    polish: Climb = field(default_factory=lambda: Climb(restarts=16, steps=300, rate=0.03))
    extremes: Climb = field(default_factory=lambda: Climb(restarts=2, steps=40, rate=0.1, tail=1.0))
    probe: int = 32
    few: int = 8
    work: float = 4e11


@dataclass(eq=False)
class Search:
    """Working state of the search: the pool, which layers have added their extremes to it, and what may be spent."""

    network: Network
    box: Box
    witnesses: Witnesses
    settled: Mapping[str, Settled]
    generator: np.random.Generator
    settings: SearchSettings
    stop: Callable[[], bool]
    _extreme: list[Points] = field(default_factory=list)
    _explored: set[str] = field(default_factory=set)
    _left: float = 0.0

    def layer(self, node: Node) -> None:
        """Look for the witnesses that a layer lacks."""
        self._left = self.settings.work
        if not self._probe(node, self.settings.local) and not self._probe(node, self.settings.annealed):
            return  # what is left is likely stable
        for kind in (self.settings.local, self.settings.annealed, self.settings.polish):
            self._climb_all(goals_of(self.witnesses, node), kind)
        if len(goals_of(self.witnesses, node).units) <= self.settings.few:
            return
        for earlier in self.witnesses.layers[: self.witnesses.layers.index(node)]:
            if earlier.name not in self._explored and not self._spent():
                self._explored.add(earlier.name)
                self._add_extremes(earlier)
        for kind in (self.settings.local, self.settings.polish):
            self._climb_all(goals_of(self.witnesses, node), kind)

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

        climb(self.network, self.box, repeated, starts, kind, wanted, self.stop)

    def _add_extremes(self, node: Node) -> None:
        """Add to the pool the points that drive each unit of a layer highest and lowest."""
        kind = self.settings.extremes
        units = by_unit(np.zeros((1, *self.network.shape(node.inputs[0]))), node).shape[2]
        goals = Goals(node, np.tile(np.arange(units), 2), np.repeat([1.0, -1.0], units))
        cost = 6.0 * multiplications(self.network, node.inputs[0]) * kind.steps * kind.restarts
        per_block = max(1, ROWS // kind.restarts)
        for start in range(0, len(goals.units), per_block):
            block = goals.only(slice(start, start + per_block))
            if self._spent():
                return
            self._left -= cost * len(block.units)
            repeated, starts = self._starts(block, kind)
            ends = climb(self.network, self.box, repeated, starts, kind, stop=self.stop)
            for points in (ends, vertices(self.box, ends)):
                self.witnesses.feed(points)
                reached = repeated.of(self._z(node, points)).reshape(-1, kind.restarts)
                best = reached.argmax(axis=1) + np.arange(len(reached)) * kind.restarts
                self._extreme.append({name: values[best].astype(np.float32) for name, values in points.items()})

    # Where to start

    def _starts(self, goals: Goals, kind: Climb) -> tuple[Goals, Points]:
        """Each goal as often as there are restarts, and where each begins: corner, pool, at least one at random."""
        repeated = Goals(goals.node, np.repeat(goals.units, kind.restarts), np.repeat(goals.signs, kind.restarts))
        drawn = self.box.sample(self.generator, len(repeated.units))
        starts = {name: x.astype(np.float32) for name, x in drawn.items()}
        first = self._at_corners(goals, starts, kind.restarts)
        self._at_best(goals, starts, kind.restarts, first)
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

    def _at_best(self, goals: Goals, starts: dict[str, Array], restarts: int, first: int) -> None:
        """Begin at the points of the pool that are best for each goal; the last start stays random."""
        pool = self._pool()
        size = len(next(iter(pool.values())))
        many = min(restarts - 1 - first, size)
        if many <= 0:
            return
        z = by_unit(self._z(goals.node, pool), goals.node)[:, :, goals.units]
        reached = np.where(goals.signs > 0, z.max(axis=1), -z.min(axis=1))
        order = np.argpartition(-reached, many - 1, axis=0)[:many]
        for goal in range(len(goals.units)):
            place = goal * restarts + first
            for name, x in starts.items():
                x[place : place + many] = pool[name][order[:, goal]]

    def _pool(self) -> Points:
        parts = [*self._extreme, self.witnesses.points]
        return {name: np.concatenate([part[name].astype(np.float32) for part in parts]) for name in parts[-1]}

    def _z(self, node: Node, points: Points) -> Array:
        z, size = node.inputs[0], len(next(iter(points.values())))
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [
                evaluate(self.network, {name: x[k : k + BATCH] for name, x in points.items()}, until=z)[z]
                for k in range(0, size, BATCH)
            ]
        return np.concatenate(parts)
