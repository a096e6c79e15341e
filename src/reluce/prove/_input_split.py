"""Splitting the input box until linear bounds suffice, for networks with few inputs.

The goals are signs of pre-activations of one ReLU. One tree serves goals of like difficulty: a box carries those that
are still open on it, and is halved along the input that is most to blame for the bound of the worst of them. Depth
first, many boxes at a time: what waits stays small.

Whether it is worth while is asked first, by a sample of the tree: at each depth all open boxes are split, and of their
children at most so many are kept, chosen at random, each of which then stands for several. The weighted sum estimates
the number of boxes without bias. Goals whose trees would be too large are given up; easy goals come first.

Where rounding alone stands between a bound and zero, the bound is replayed exactly on that box.

Source: Wang et al., "Formal security analysis of neural networks using symbolic intervals", USENIX Security 2018;
Knuth, "Estimating the efficiency of backtrack programs", Math. Comp. 29, 1975; Rubinstein, "Stochastic enumeration
method for counting NP-hard problems", Methodol. Comput. Appl. Probab. 15, 2013.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reluce.bounds import (
    Bounds,
    Engine,
    Rows,
    Tightened,
    exact_cost,
    holds_exactly,
    layered,
)
from reluce.domain import Box
from reluce.network import Array, Network, Node
from reluce.prove._again import coordinates, demand
from reluce.prove._evidence import BoxProof
from reluce.prove._split_tree import (
    LEAF,
    Bounded,
    SplitTree,
    TreeWriter,
    Waiting,
    groups,
    halves,
    halves_at,
    joined,
    taken,
)

NUMBERS = 8_000_000
"""Numbers that one batch may hold at a time (64 MB)."""


EXACT_CALL = 20_000
"""What an exact replay costs at least, in multiplications: most of it is overhead on small networks."""


@dataclass(frozen=True)
class SplitSettings:
    """What input splitting may spend on one ReLU.

    Networks with more than ``most_inputs`` inputs that vary are left alone. ``batch`` boxes are bounded at once, some
    ``boxes`` in all, on goals that need at most ``per_goal`` by an estimate (which scatters by a factor of two), from
    a ``sample`` at each depth, ``deepest`` splits down.
    ``exact`` multiplications may go into replaying bounds in exact arithmetic.
    """

    most_inputs: int = 12
    batch: int = 128
    boxes: int = 400_000
    per_goal: int = 200_000
    sample: int = 128
    deepest: int = 60
    exact: int = 4_000_000


@dataclass(frozen=True, eq=False)
class InputSplit:
    """What came of it, one entry per goal: ``proved``, the ``estimate`` of boxes, and the ``volume`` that was closed.

    Where the estimate exceeds the budget it says no more than that; it is infinite where ``deepest`` did not suffice.
    ``boxes`` were bounded in all. ``trees`` prove what is proved: each with the numbers of its goals. Their dimension d
    is the flat element ``elements[d]`` of the graph input ``inputs[d]``.
    """

    proved: Array
    estimate: Array
    volume: Array
    boxes: int
    trees: tuple[tuple[Array, SplitTree], ...]
    inputs: tuple[str, ...]
    elements: Array


def split_inputs(
    network: Network,
    box: Box,
    bounds: Bounds,
    node: Node,
    units: Array,
    signs: Array,
    generator: np.random.Generator,
    settings: SplitSettings = SplitSettings(),
    found: Callable[[Mapping[str, Array]], Array] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> InputSplit:
    """Prove signs of pre-activations of one ReLU.

    Parameters
    ----------
    network, box, bounds
        The network, its domain and what is known on it.
    node
        The ReLU.
    units, signs
        The goals: flat coordinates of its pre-activation, and 1 to prove ``z <= 0`` or -1 to prove ``z >= 0`` there.
    generator
        Chooses where the dives go.
    settings
        Budgets.
    found
        Shown points of the box, ``(points, *sample shape)`` per graph input; says which goals have a witness by now.
    stop
        Asked between batches.

    Returns
    -------
    InputSplit
        Rigorous whatever ``stop`` and ``found`` did.
    """
    goals = len(units)
    search = _search(network, box, bounds, node, units, signs, settings, found, stop)
    if search is None or goals == 0 or stop():
        return InputSplit(
            np.zeros(goals, dtype=bool), np.full(goals, np.inf), np.zeros(goals), 0, (), (), np.zeros(0, dtype=np.int64)
        )
    return search.run(generator)


def split_again(
    network: Network,
    box: Box,
    bounds: Bounds,
    node: Node,
    entry: Mapping[str, Any],
    settings: SplitSettings,
    stop: Callable[[], bool],
) -> BoxProof:
    """A tree of boxes that was written down, with what its boxes prove now.

    Parameters
    ----------
    network, box, bounds, node, settings, stop
        As for ``split_inputs``.
    entry
        What was written.

    Raises
    ------
    ValueError
        When it is not such a record, or leaves something open.
    """
    size = network.tensors[node.inputs[0]].size
    rows, signs = coordinates(entry, size)
    demand(len(entry["dimension"]) <= 2 * (settings.boxes + settings.batch) + 1)
    search = _search(network, box, bounds, node, rows, signs, settings, None, stop)
    demand(search is not None)
    assert search is not None
    tree = search.followed(SplitTree.of(entry["dimension"], entry["point"], entry["child"], len(rows)))
    return BoxProof(node.inputs[0], rows, signs, *search.engine.form.named(network), tree)


def _search(
    network: Network,
    box: Box,
    bounds: Bounds,
    node: Node,
    units: Array,
    signs: Array,
    settings: SplitSettings,
    found: Callable[[Mapping[str, Array]], Array] | None,
    stop: Callable[[], bool],
) -> Search | None:
    """A search for the goals; None where the network is not of layers, or has too many inputs."""
    form = layered(network, box, bounds.intervals, node)
    if form is None or not 0 < len(form.varying) <= settings.most_inputs:
        return None
    engine = Engine(form, [bounds.intervals[other.inputs[0]] for other in form.nodes])
    if not np.isfinite(engine.cost[-1]).all():
        return None
    return Search(network, box, bounds, engine, units, signs, settings, found, stop)


class Search:
    """The search for one ReLU."""

    def __init__(
        self,
        network: Network,
        box: Box,
        bounds: Bounds,
        engine: Engine,
        units: Array,
        signs: Array,
        settings: SplitSettings,
        found: Callable[[Mapping[str, Array]], Array] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.network, self.box, self.intervals, self.engine = network, box, bounds.intervals, engine
        self.units, self.signs = units, signs
        self.settings, self.found, self.stop = settings, found, stop
        self.at_once = max(1, NUMBERS // engine.numbers(len(units)))
        self.refuted = np.zeros(len(units), dtype=bool)
        self.scale = np.ones(len(units))
        self.boxes = 0
        self.exact_left = settings.exact

    def run(self, generator: np.random.Generator) -> InputSplit:
        estimate = self.dive(generator)
        proved, volume, trees = np.zeros(len(estimate), dtype=bool), np.zeros(len(estimate)), []
        self.exact_left = self.settings.exact
        for goals in groups(estimate, ~self.refuted & (estimate <= self.settings.per_goal)):
            tree = self.grow(goals)
            proved[goals], volume[goals] = tree.proved(), tree.volume()
            trees.append((goals, tree))
        return InputSplit(proved, estimate, volume, self.boxes, tuple(trees), *self.engine.form.named(self.network))

    def dive(self, generator: np.random.Generator) -> Array:
        """Estimate for each goal the number of boxes on which it has to be looked at, as far as that is affordable."""
        sample, weight = self.settings.sample, 1.0
        estimate = np.zeros(len(self.units))
        here = self.root(np.ones(len(self.units), dtype=bool))
        for depth in range(self.settings.deepest):
            estimate += weight * here.goals.sum(axis=0)
            here = here.without(self.refuted | (estimate > self.settings.per_goal))
            if self.stop() or not len(here):
                break
            bounded = self.bound(here)
            if depth == 0:
                self.scale = np.where(bounded.value[0] > 0, bounded.value[0], 1.0)
            rows = self.left(bounded)
            below, above, _, _ = halves(bounded.boxes[rows], bounded.blame[rows])
            here = joined([Waiting(side, here.node[rows], bounded.open[rows]) for side in (below, above)])
            if len(here) > sample:
                weight *= len(here) / sample
                here = here[np.sort(generator.choice(len(here), sample, replace=False))]
        return np.where(here.goals.any(axis=0), np.inf, estimate)

    def root(self, goals: Array) -> Waiting:
        return Waiting(self.engine.root(), np.zeros(1, dtype=np.int64), goals[None])

    def grow(self, goals: Array) -> SplitTree:
        """One tree for some goals, given by number; it may be left unfinished."""
        wanted = np.zeros(len(self.units), dtype=bool)
        wanted[goals] = True
        writer, stack = TreeWriter(len(goals)), [self.root(wanted)]
        while stack and self.boxes < self.settings.boxes and not self.stop():
            here = taken(stack, self.settings.batch).without(self.refuted)
            if not len(here):
                continue
            bounded = self.bound(here)
            rows = self.left(bounded)
            done = np.setdiff1d(np.arange(len(here)), rows)
            writer.close(here.node[done], bounded.closed[done][:, goals])
            if rows.size:
                below, above, dimension, point = halves(bounded.boxes[rows], bounded.blame[rows])
                child = writer.split(here.node[rows], dimension, point, bounded.closed[rows][:, goals])
                stack.append(Waiting(above, child + 1, bounded.open[rows]))
                stack.append(Waiting(below, child, bounded.open[rows]))
        return writer.tree()

    def followed(self, tree: SplitTree) -> SplitTree:
        """The same tree with what is closed on each of its nodes.

        Raises
        ------
        ValueError
            When a goal is left open on a node that is not split.
        """
        closed, stack = np.zeros_like(tree.closed), [self.root(np.ones(len(self.units), dtype=bool))]
        while stack:
            demand(not self.stop())
            here = taken(stack, self.settings.batch)
            bounded = self.bound(here)
            closed[here.node] = bounded.closed
            rows = np.flatnonzero(bounded.open.any(axis=1))
            nodes, boxes = here.node[rows], bounded.boxes[rows]
            dimension, point, child = tree.dimension[nodes], tree.point[nodes], tree.child[nodes]
            each = np.arange(len(rows))
            demand(bool((dimension != LEAF).all()))
            demand(bool(((boxes.low[each, dimension] <= point) & (point <= boxes.high[each, dimension])).all()))
            if rows.size:
                for side, half in enumerate(halves_at(boxes, dimension, point)):
                    stack.append(Waiting(half, child + side, bounded.open[rows]))
        return replace(tree, closed=closed)

    def left(self, bounded: Bounded) -> Array:
        """The boxes that have to be split, after a look for witnesses at their centres."""
        rows = np.flatnonzero((bounded.open & ~self.refuted).any(axis=1))
        if self.found is not None and rows.size:
            middle = 0.5 * bounded.boxes.low[rows] + 0.5 * bounded.boxes.high[rows]
            self.refuted |= self.found(self.engine.form.points(self.box, middle))
            rows = rows[(bounded.open[rows] & ~self.refuted).any(axis=1)]
        return rows

    def bound(self, here: Waiting) -> Bounded:
        """Bound boxes and the goals that are open on them, some at a time."""
        self.boxes += len(here)
        step = range(0, len(here), self.at_once)
        return Bounded.joined([self.bound_some(here[start : start + self.at_once]) for start in step])

    def bound_some(self, here: Waiting) -> Bounded:
        known = self.engine.tighten(here.boxes)
        box, goal = np.nonzero(here.goals)
        upper, blame = self.engine.goals(known, Rows(box, self.units[goal], self.signs[goal].astype(np.float64)))
        near = np.flatnonzero((upper > 0) & (upper <= 2 * self.engine.cost[-1][self.units[goal]]))
        for row in np.unique(box[near]):
            mine = near[box[near] == row]
            upper[mine[self.exactly(known, int(row), goal[mine])]] = 0.0
        value, number = np.full(here.goals.shape, -np.inf), np.zeros(here.goals.shape, dtype=np.int64)
        value[box, goal], number[box, goal] = upper, np.arange(len(box))
        worst = (value / self.scale).argmax(axis=1)
        closed = here.goals & (value <= 0)
        return Bounded(known.boxes, here.goals & ~closed, closed, value, blame[number[np.arange(len(here)), worst]])

    def exactly(self, known: Tightened, row: int, goals: Array) -> Array:
        """Which goals hold on one box in exact arithmetic, where rounding alone stands in the way."""
        cost = max(EXACT_CALL, len(goals) * exact_cost(self.network, self.engine.form.nodes[-1].inputs[0]))
        if cost > self.exact_left:
            return np.zeros(len(goals), dtype=bool)
        self.exact_left -= cost
        place = self.network, self.box, self.intervals, self.engine.form
        return holds_exactly(*place, known, row, self.units[goals], self.signs[goals])
