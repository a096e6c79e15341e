"""Trees of boxes that need no slopes: every closed box follows from fixed rules (``Engine``'s plain ones).

A box is bounded by itself, from the intervals known on the whole domain. Where the rules do not close what the search
has closed with better slopes, the goal goes on to the children, and a leaf is split further.

Two of the rules jump: the lower slope where u = -l, and the upper one where the chord's is a multiple of 1 / SLOPES.
Whoever computes the intervals with other roundings may land on the other side on a box where that is close, so a
certificate has to be checked once by its own rules before it is handed out.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from reluce.bounds import Bounds, SubBoxes
from reluce.domain import Box
from reluce.network import Array, Network
from reluce.prove._evidence import BoxProof
from reluce.prove._input_split import Search, SplitSettings, plain_search
from reluce.prove._split_tree import LEAF, SplitTree, TreeWriter, Waiting, halves_at, middles

GROWTH = 8
"""A tree may get so many times as large."""

FEW = 1000
"""So many boxes are always allowed."""


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes to be looked at: old and new node, ends, goals that the old tree has closed (``due``) or not (``later``).

    The old node is ``LEAF`` behind a leaf of the old tree.
    """

    old: Array
    node: Array
    low: Array
    high: Array
    due: Array
    later: Array

    def __getitem__(self, rows: Array | slice) -> _Boxes:
        return _Boxes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.old)


def plain_boxes(
    network: Network, box: Box, bounds: Bounds, proof: BoxProof, settings: SplitSettings
) -> BoxProof | None:
    """A proof of the same whose every closed box follows from the plain rules, or None where that takes too many boxes.

    Parameters
    ----------
    network, box, bounds
        The network, its domain, and what was known on it before this proof.
    proof
        As the search has left it.
    settings
        ``boxes`` are the most that the tree may have, ``batch`` are bounded at once.
    """
    node = next(node for node in network.relus if node.inputs[0] == proof.tensor)
    search = plain_search(network, box, bounds, node, proof.rows, proof.signs, settings)
    return None if search is None else _Redo(search, proof.tree, len(proof.rows), settings).run(proof)


class _Redo:
    """A tree grown anew along an old one (local to ``plain_boxes``)."""

    def __init__(self, search: Search, old: SplitTree, goals: int, settings: SplitSettings) -> None:
        self.search, self.old, self.goals, self.settings = search, old, goals, settings
        self.writer = TreeWriter(goals)
        self.most = min(settings.boxes, GROWTH * len(old.child) + FEW)

    def run(self, proof: BoxProof) -> BoxProof | None:
        root, zero = self.search.engine.root(), np.zeros(1, dtype=np.int64)
        nothing = np.zeros((1, self.goals), dtype=bool)
        stack = [_Boxes(zero, zero, root.low, root.high, nothing, ~nothing)]
        while stack and self.writer.nodes <= self.most:
            here = stack.pop()
            if len(here) > self.settings.batch:
                stack.append(here[: -self.settings.batch])
                here = here[-self.settings.batch :]
            stack += self.step(here)
        return None if stack else replace(proof, tree=self.writer.tree(), plain=True)

    def step(self, here: _Boxes) -> list[_Boxes]:
        """Close what can be closed on some boxes; the children of the others."""
        shut = self.old.closed[here.old] & (here.old != LEAF)[:, None] & here.later
        here = replace(here, due=here.due | shut, later=here.later & ~shut)
        boxes = self.whole(here)
        closed, blame = np.zeros_like(here.due), np.zeros(here.low.shape)
        rows = np.flatnonzero(here.due.any(axis=1))
        if rows.size:
            bounded = self.search.bound(Waiting(boxes[rows], here.node[rows], here.due[rows]))
            closed[rows] = bounded.closed
            blame[rows] = bounded.blame
        here = replace(here, due=here.due & ~closed)
        open_ = np.asarray((here.due | here.later).any(axis=1))
        self.writer.close(here.node[~open_], closed[~open_])
        return self.split(here[open_], boxes[open_], blame[open_], closed[open_]) if open_.any() else []

    def split(self, here: _Boxes, boxes: SubBoxes, blame: Array, closed: Array) -> list[_Boxes]:
        """Both halves of boxes: where the old tree splits them, else along the input that is most to blame."""
        guided = (here.old != LEAF) & (self.old.dimension[here.old] != LEAF)
        dimension, point = middles(boxes, blame)
        dimension = np.where(guided, self.old.dimension[here.old], dimension)
        point = np.where(guided, self.old.point[here.old], point)
        sides = halves_at(boxes, dimension, point)
        child, old = self.writer.split(here.node, dimension, point, closed), self.old.child[here.old]
        return [
            _Boxes(np.where(guided, old + k, LEAF), child + k, side.low, side.high, here.due, here.later)
            for k, side in ((1, sides[1]), (0, sides[0]))
        ]

    def whole(self, here: _Boxes) -> SubBoxes:
        """Boxes with the intervals that are known on the whole domain."""
        engine, shape = self.search.engine, (len(here), len(self.search.engine.lower))
        return SubBoxes(here.low, here.high, np.broadcast_to(engine.lower, shape), np.broadcast_to(engine.upper, shape))
