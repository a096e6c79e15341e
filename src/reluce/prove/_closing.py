"""Proofs for what bounds and witnesses have left open, layer by layer: splitting the box, slopes, splitting ReLUs.

What is proved of a layer tightens every bound behind it, so the layers are taken in order and the bounds are computed
anew whenever something was gained. Where a bound is far from zero and the best point close to it, a proof is out of
reach and nothing is spent: see ``ClosingSettings.hope``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from reluce.bounds import RUNGS, Bounds, Interval, Known, analyse
from reluce.domain import Box
from reluce.facts import Rung
from reluce.network import Array, Network, Node
from reluce.prove._account import Account
from reluce.prove._again import leaves_again, slopes_again
from reluce.prove._alpha import unstable_ends, upper_bounds
from reluce.prove._arrays import Arrays
from reluce.prove._branch import BranchSettings, branch
from reluce.prove._dual import Dual
from reluce.prove._evidence import Evidence, Record, with_claims
from reluce.prove._input_split import SplitSettings, split_again, split_inputs
from reluce.prove._records import box_proofs, leaf_proof
from reluce.prove._slopes import Descent
from reluce.prove._steps import Done, Steps
from reluce.prove._witnesses import Witnesses, by_unit


@dataclass(frozen=True)
class ClosingSettings:
    """What proofs may spend.

    ``split`` is for coordinates that few boxes decide, ``last_split`` for what splitting ReLUs leaves. ReLUs are
    split where the bound of a coordinate is at most ``hope`` times as far from zero as its best point;
    ``subproblems`` are for all coordinates together, the most hopeful ones of each layer first. ``device`` is where
    slopes and splits are optimised: ``cpu``, or what torch calls a device.
    """

    hope: float = 200.0
    subproblems: int = 150_000
    slopes: Descent = field(default_factory=lambda: Descent(steps=60))
    tighten: Descent = field(default_factory=lambda: Descent(steps=20))
    split: SplitSettings = field(default_factory=lambda: SplitSettings(per_goal=20_000))
    last_split: SplitSettings = field(default_factory=SplitSettings)
    branch: BranchSettings = field(default_factory=BranchSettings)
    device: str = "cpu"

    def __post_init__(self) -> None:
        Arrays(self.device).demand()


@dataclass(frozen=True, eq=False)
class _Goals:
    """Flat coordinates of one pre-activation that may be stable: ``sign * z[row] <= 0`` is to be proved."""

    node: Node
    rows: Array
    signs: Array
    units: Array

    def only(self, mask: Array) -> _Goals:
        return _Goals(self.node, self.rows[mask], self.signs[mask], self.units[mask])


class Closing:
    """Working state: bounds that get better, and what was proved by which rung.

    Parameters
    ----------
    network, box
        The network and its domain.
    witnesses
        Says which units are open; points found on the way are tried on all.
    bounds
        What is proved so far.
    settings
        Budgets.
    account
        Told what is done and how long it takes.
    steps
        What an earlier run has worked out is not worked out again.
    stop
        Asked between steps.
    """

    def __init__(
        self,
        network: Network,
        box: Box,
        witnesses: Witnesses,
        bounds: Bounds,
        settings: ClosingSettings,
        account: Account,
        steps: Steps,
        stop: Callable[[], bool],
    ) -> None:
        self.network, self.box, self.witnesses = network, box, witnesses
        self.settings, self.account, self.steps, self.stop = settings, account, steps, stop
        self.arrays = Arrays(settings.device)
        self.subproblems = 0
        self._records: list[Record] = []
        self._tight: set[str] = set()
        self._take(bounds)

    def _take(self, bounds: Bounds) -> None:
        self._bounds, self._gained = bounds, False
        self.intervals = dict(bounds.intervals)
        self._rungs: dict[str, Array] = {}  # by tensor: several ReLUs may read one
        for node in self.network.relus:
            if node.name in bounds.settled:
                rung, tensor = bounds.settled[node.name].rung, node.inputs[0]
                self._rungs[tensor] = np.maximum(rung, self._rungs.get(tensor, rung))

    @property
    def bounds(self) -> Bounds:
        """All bounds, with what was gained carried through the network."""
        self._carry()
        return self._bounds

    @property
    def evidence(self) -> Evidence:
        """The proofs so far."""
        return Evidence(tuple(self._records))

    def _carry(self) -> None:
        """Bound the network anew where something was gained: all that lies behind profits."""
        if not self._gained:
            return
        known = {tensor: Known(self.intervals[tensor], rung) for tensor, rung in self._rungs.items()}
        self._take(analyse(self.network, self.box, self.stop, known=known))
        for node in self.witnesses.layers:
            self._close(node)

    def layer(self, node: Node) -> None:
        """Try to prove what is open in one ReLU."""
        if any(mask.any() for mask in self.witnesses.open(node)):
            with np.errstate(all="ignore"):  # hints may overflow; whatever is not finite proves nothing
                self._layer(node)

    def _layer(self, node: Node) -> None:
        self._carry()
        goals = self._goals(node)
        if not goals.rows.size or self.stop() or not self._dual(node).unstable.any():
            return  # nothing is open, or the bounds are those of a linear function
        self._split_inputs(goals, self.settings.split)
        self._split_relus(node)
        self._split_inputs(self._goals(node), self.settings.last_split)

    def _split_relus(self, node: Node) -> None:
        """Optimise slopes, here and in front, then split ReLUs, where there is hope."""
        goals = self._hopeful(self._goals(node), 10 * self.settings.hope)
        if not goals.rows.size or self.stop():
            return
        self.account.tell(f"optimising slopes for {node.output}", self._bounds)
        with self.account.timing(node, Rung.ALPHA):
            self._alpha(goals)
            goals = self._hopeful(self._goals(node), self.settings.hope)
            if goals.rows.size:
                self._tighten_in_front(node)
                self._alpha(goals)
        with self.account.timing(node, Rung.BRANCH):
            for goal in self._by_hope(self._hopeful(self._goals(node), self.settings.hope)):
                if self.stop() or self.subproblems >= self.settings.subproblems:
                    return
                self.account.tell(f"splitting for {node.output}, unit {goal.units[0]}", self._bounds)
                self._branch(goal)

    # What is open, and whether there is hope

    def _goals(self, node: Node) -> _Goals:
        z = self.intervals[node.inputs[0]]
        places = by_unit(np.arange(z.lower.size).reshape(1, *z.lower.shape), node)[0]
        rows, signs, units = [], [], []
        for lacking, ends, sign in zip(self.witnesses.open(node), (z.upper, -z.lower), (1.0, -1.0), strict=True):
            for unit in np.flatnonzero(lacking):
                mine = places[:, unit]
                mine = mine[ends.ravel()[mine] > 0]
                rows.extend(mine)
                signs.extend([sign] * len(mine))
                units.extend([unit] * len(mine))
        return _Goals(node, np.array(rows, dtype=np.int64), np.array(signs), np.array(units, dtype=np.int64))

    def _bound(self, goals: _Goals) -> Array:
        z = self.intervals[goals.node.inputs[0]]
        return np.where(goals.signs > 0, z.upper.ravel()[goals.rows], -z.lower.ravel()[goals.rows])

    def _ratio(self, goals: _Goals) -> Array:
        best = self._best(goals)
        with np.errstate(divide="ignore"):
            return self._bound(goals) / np.maximum(-best, 0.0)

    def _best(self, goals: _Goals) -> Array:
        """The largest ``sign * z`` that any point has reached (over all positions of the unit)."""
        return np.asarray(self.witnesses.best[goals.node.name][(goals.signs < 0).astype(int), goals.units])

    def _hopeful(self, goals: _Goals, most: float) -> _Goals:
        return goals.only(self._ratio(goals) <= most) if goals.rows.size else goals

    def _by_hope(self, goals: _Goals) -> list[_Goals]:
        order = np.argsort(self._ratio(goals), kind="stable") if goals.rows.size else goals.rows
        return [goals.only(np.array([k])) for k in order]

    # The rungs

    def _split_inputs(self, goals: _Goals, settings: SplitSettings) -> None:
        """Split the box, where it has few inputs; what would take too many boxes is given up after a sample."""
        if not goals.rows.size or self.stop():
            return
        self.account.tell(f"splitting the box for {goals.node.output}", self._bounds)

        def found(points: Mapping[str, Array]) -> Array:
            self.witnesses.feed(points)
            return ~self._open(goals)

        shown = found if self.box.has_points else None
        question = (self.network, self.box, replace(self._bounds, intervals=self.intervals), goals.node)

        def work(generator: np.random.Generator) -> Done:
            outcome = split_inputs(*question, goals.rows, goals.signs, generator, settings, shown, self.stop)
            return Done(tuple(box_proofs(outcome, goals.node.inputs[0], goals.rows, goals.signs)))

        def again(entry: Mapping[str, Any]) -> Record:
            return split_again(*question, entry, settings, self.stop)

        with self.account.timing(goals.node, Rung.INPUT_SPLIT):
            done = self.steps.take("boxes", goals.node, work, again)
        self._learn(goals.node, done.records)

    def _open(self, goals: _Goals) -> Array:
        """Which goals' units still lack the sign that is to be excluded."""
        up, down = self.witnesses.open(goals.node)
        return np.asarray(np.where(goals.signs > 0, up[goals.units], down[goals.units]))

    def _alpha(self, goals: _Goals) -> None:
        self._slopes(goals.node, goals.rows, goals.signs, self.settings.slopes)

    def _tighten_in_front(self, node: Node) -> None:
        """Tighten the pre-activations in front of a ReLU, the first ones first."""
        needed = self.network.ancestors([node.inputs[0]])
        for earlier in self.network.relus:
            if earlier.output in needed and earlier.name not in self._tight and not self.stop():
                self._tight.add(earlier.name)
                ends = unstable_ends(self.intervals[earlier.inputs[0]])
                if ends[0].size:
                    self._slopes(earlier, *ends, self.settings.tighten)

    def _slopes(self, node: Node, rows: Array, signs: Array, kind: Descent) -> None:
        def work(_: np.random.Generator) -> Done:
            return Done((upper_bounds(self._dual(node), rows, signs, kind, self.stop),))

        def again(entry: Mapping[str, Any]) -> Record:
            return slopes_again(self.network, self.intervals, node.inputs[0], entry)

        self._learn(node, self.steps.take("slopes", node, work, again).records)

    def _branch(self, goal: _Goals) -> None:
        node, (row,), (sign,) = goal.node, goal.rows, goal.signs

        def found(corners: Mapping[str, Array]) -> bool:
            self.witnesses.feed(self._points(corners))
            return not self._open(goal)[0]

        def work(_: np.random.Generator) -> Done:
            dual, shape = self._dual(node), self.network.shape(node.inputs[0])
            functional = np.zeros(int(np.prod(shape)))
            functional[row] = sign
            outcome = branch(dual, functional.reshape(shape), self.settings.branch, found, self.stop)
            proved = () if outcome.leaves is None else (leaf_proof(outcome.leaves, dual, row, sign),)
            return Done(proved, outcome.subproblems)

        def again(entry: Mapping[str, Any]) -> Record:
            return leaves_again(self.network, self.intervals, node.inputs[0], entry)

        done = self.steps.take("splits", node, work, again)
        self.subproblems += done.spent
        self._learn(node, done.records)

    def _points(self, corners: Mapping[str, Array]) -> Mapping[str, Array]:
        """Corners as points of the domain; inputs that do not matter are in the middle of their range."""
        count = len(next(iter(corners.values())))
        middle = {
            name: np.broadcast_to(0.5 * low + 0.5 * high, (count, *low.shape))
            for name, (low, high) in self.box.inner.items()
        }
        return self.box.clip({name: corners.get(name, x) for name, x in middle.items()})

    def _dual(self, node: Node) -> Dual:
        return Dual(self.network, node.inputs[0], self.intervals, self.arrays)

    # What was learnt

    def _learn(self, node: Node, proofs: Sequence[Record]) -> None:
        """Take over what was proved of a pre-activation."""
        for proof in (proof for proof in proofs if proof.claims[0].size):
            self._records.append(proof)
            self._update(node, with_claims(self.intervals[node.inputs[0]], proof), proof.rung)

    def _update(self, node: Node, z: Interval, by: Rung) -> None:
        tensor = node.inputs[0]
        before = self.intervals[tensor]
        gained = ((z.lower >= 0) | (z.upper <= 0)) & (before.lower < 0) & (before.upper > 0)
        self._gained |= bool(((z.lower > before.lower) | (z.upper < before.upper)).any())
        self.intervals[tensor] = z
        self._rungs[tensor] = np.where(gained.ravel(), RUNGS.index(by), self._rungs[tensor])
        self._close(node)

    def _close(self, node: Node) -> None:
        """Look no longer for witnesses of what is proved stable."""
        z = self.intervals[node.inputs[0]]
        lower, upper = by_unit(z.lower[None], node)[0].min(axis=0), by_unit(z.upper[None], node)[0].max(axis=0)
        self.witnesses.close(node, (lower >= 0) | (upper <= 0))
