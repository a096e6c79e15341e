"""The tree of an input split: what is left of a finished search, small enough for a certificate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce.bounds import SubBoxes
from reluce.network import Array

ALIKE = 4
"""Goals share a tree if their estimates differ by less than this factor."""

LEAF = -1
"""In place of the number of the dimension that a node is split along."""


@dataclass(frozen=True, eq=False)
class SplitTree:
    """Boxes numbered in the order of their making; node 0 is the whole box.

    Node n is split along varying input ``dimension[n]`` at ``point[n]`` (a float64 between its ends) into nodes
    ``child[n]`` (below the point) and ``child[n] + 1`` (above), which share the point; ``dimension`` is ``LEAF`` where
    it is not split. ``closed[n, g]`` says that goal g was proved on the box of node n.
    """

    dimension: Array
    point: Array
    child: Array
    closed: Array

    @staticmethod
    def of(dimension: Array, point: Array, child: Array, goals: int) -> SplitTree:
        """A tree that was written down, with nothing closed.

        Raises
        ------
        ValueError
            When it is no tree: of another shape, or with a node that is not the child of exactly one before it.
        """
        count, inner = len(dimension), np.flatnonzero(dimension != LEAF)
        first = child[inner]
        children = np.sort(np.concatenate([first, first + 1]))
        if not (
            dimension.shape == point.shape == child.shape == (count,)
            and count > 0
            and bool((first > inner).all())
            and np.array_equal(children, np.arange(1, count))
            and bool((dimension >= LEAF).all())
        ):
            raise ValueError("no tree of boxes")
        return SplitTree(dimension, point, child, np.zeros((count, goals), dtype=bool))

    def proved(self) -> Array:
        """For which goals every path from the root meets a node where it is closed: the proof covers the box."""
        return np.asarray(self._covered()[0])

    def only(self, goals: Array) -> SplitTree:
        """The tree of some goals, given by number, without nodes on whose boxes all of them are closed further up."""
        closed = self.closed[:, goals]
        shut = closed.copy()
        for nodes in self._levels():
            for side in (0, 1):
                shut[self.child[nodes] + side] |= shut[nodes]
        kept = np.zeros(len(self.child), dtype=bool)
        kept[0] = True
        inner = (self.dimension != LEAF) & ~shut.all(axis=1)
        for side in (0, 1):
            kept[self.child[inner] + side] = True
        number = np.cumsum(kept) - 1
        child = np.where(inner, number[np.where(inner, self.child, 0)], LEAF)
        dimension = np.where(inner, self.dimension, LEAF).astype(self.dimension.dtype)
        point = np.where(inner, self.point, 0.0)
        return SplitTree(dimension[kept], point[kept], child[kept], closed[kept])

    def volume(self) -> Array:
        """The share of the box on which each goal is closed, where a split at a midpoint halves a box."""
        size = np.zeros(len(self.child))
        size[0] = 1.0
        fresh = np.ones_like(self.closed)
        for nodes in self._levels():
            for side in (0, 1):
                size[self.child[nodes] + side] = size[nodes] / 2
                fresh[self.child[nodes] + side] = fresh[nodes] & ~self.closed[nodes]
        return np.asarray((size[:, None] * (self.closed & fresh)).sum(axis=0))

    def _covered(self) -> Array:
        covered = self.closed.copy()
        for nodes in reversed(self._levels()):
            covered[nodes] |= covered[self.child[nodes]] & covered[self.child[nodes] + 1]
        return covered

    def _levels(self) -> list[Array]:
        """Nodes that are split, by depth."""
        levels, nodes = [], np.zeros(1, dtype=np.int64)
        while (inner := nodes[self.dimension[nodes] != LEAF]).size:
            levels.append(inner)
            nodes = np.concatenate([self.child[inner], self.child[inner] + 1])
        return levels


@dataclass(frozen=True, eq=False)
class Waiting:
    """Boxes that wait, their nodes in the tree, and a mask ``(boxes, goals)`` of the goals that are open on each."""

    boxes: SubBoxes
    node: Array
    goals: Array

    def __len__(self) -> int:
        return len(self.node)

    def __getitem__(self, rows: Array | slice) -> Waiting:
        return Waiting(self.boxes[rows], self.node[rows], self.goals[rows])

    def without(self, goals: Array) -> Waiting:
        """What waits once some goals (a mask) no longer matter."""
        left = Waiting(self.boxes, self.node, self.goals & ~goals)
        return left[np.asarray(left.goals.any(axis=1))]


def joined(parts: list[Waiting]) -> Waiting:
    """All boxes of some parts."""
    node, goals = np.concatenate([part.node for part in parts]), np.concatenate([part.goals for part in parts])
    return Waiting(SubBoxes.joined([part.boxes for part in parts]), node, goals)


def taken(stack: list[Waiting], most: int) -> Waiting:
    """Take boxes from the top of a stack."""
    parts: list[Waiting] = []
    room = most
    while stack and room:
        part = stack.pop()
        if len(part) > room:
            stack.append(part[:-room])
            part = part[-room:]
        parts.append(part)
        room -= len(part)
    return joined(parts)


@dataclass(frozen=True, eq=False)
class Bounded:
    """Boxes with their own intervals, goals still open and just closed on each, their bounds, and what to split."""

    boxes: SubBoxes
    open: Array
    closed: Array
    value: Array
    blame: Array

    @staticmethod
    def joined(parts: list[Bounded]) -> Bounded:
        """All boxes of some parts."""
        if len(parts) == 1:
            return parts[0]
        fields = ((part.open, part.closed, part.value, part.blame) for part in parts)
        return Bounded(SubBoxes.joined([part.boxes for part in parts]), *map(np.concatenate, zip(*fields, strict=True)))


class TreeWriter:
    """Grows a tree, a batch of nodes at a time."""

    def __init__(self, goals: int) -> None:
        self.nodes = 1
        self._goals = goals
        self._parts: list[tuple[Array, Array, Array, Array, Array]] = []

    def close(self, node: Array, closed: Array) -> None:
        """Goals were proved on the boxes of these nodes."""
        nothing = np.full(len(node), LEAF)
        self._parts.append((node, nothing, np.zeros(len(node)), nothing, closed))

    def split(self, node: Array, dimension: Array, point: Array, closed: Array) -> Array:
        """Split nodes; returns the number of the first of two children of each."""
        child = self.nodes + 2 * np.arange(len(node))
        self.nodes += 2 * len(node)
        self._parts.append((node, dimension, point, child, closed))
        return child

    def tree(self) -> SplitTree:
        """What has been grown."""
        dimension, point = np.full(self.nodes, LEAF, dtype=np.int16), np.zeros(self.nodes)
        child, closed = np.full(self.nodes, LEAF, dtype=np.int64), np.zeros((self.nodes, self._goals), dtype=bool)
        for node, *values in self._parts:
            dimension[node], point[node], child[node], closed[node] = values
        return SplitTree(dimension, point, child, closed)


def groups(estimate: Array, wanted: Array) -> list[Array]:
    """The numbers of the wanted goals, easiest first; those of like estimates share a tree.

    A box is split for the worst of its goals, so easy goals would drag along in the tree of a hard one.
    """
    order = np.flatnonzero(wanted)[np.argsort(estimate[wanted], kind="stable")]
    kind = np.floor(np.log(np.maximum(estimate[order], 1.0)) / np.log(ALIKE))
    return [np.sort(part) for part in np.split(order, np.flatnonzero(np.diff(kind)) + 1) if part.size]


def halves(boxes: SubBoxes, blame: Array) -> tuple[SubBoxes, SubBoxes, Array, Array]:
    """The halves of boxes along the input that is most to blame, that input and the point: they cover the box."""
    dimension, point = middles(boxes, blame)
    return *halves_at(boxes, dimension, point), dimension, point


def middles(boxes: SubBoxes, blame: Array) -> tuple[Array, Array]:
    """The input of each box that is most to blame, and the middle of the box along it."""
    width = boxes.high - boxes.low
    score = np.where(width > 0, blame + 1e-6 * blame.mean(axis=1, keepdims=True) + 1e-300 * width, -1.0)
    dimension, rows = score.argmax(axis=1), np.arange(len(score))
    point = 0.5 * boxes.low[rows, dimension] + 0.5 * boxes.high[rows, dimension]
    return dimension, point


def halves_at(boxes: SubBoxes, dimension: Array, point: Array) -> tuple[SubBoxes, SubBoxes]:
    """The parts of boxes below and above a point of one input each."""
    low, high, rows = boxes.low.copy(), boxes.high.copy(), np.arange(len(dimension))
    high[rows, dimension] = low[rows, dimension] = point
    below = SubBoxes(boxes.low, high, boxes.lower, boxes.upper)
    return below, SubBoxes(low, boxes.high, boxes.lower, boxes.upper)
