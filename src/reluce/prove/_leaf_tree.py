"""The binary tree behind the leaves of ReLU splits: whether they cover everything, in what order, who are siblings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce.network import Array


@dataclass(frozen=True, eq=False)
class LeafTree:
    """Leaves in the ``order`` in which a walk through the tree meets them (first where the unit is >= 0).

    ``first`` and ``second`` are leaves that are children of one node, which asks for ``coordinate``: an entry a node.
    """

    order: Array
    first: Array
    second: Array
    coordinate: Array


def leaf_tree(split: Array) -> LeafTree | None:
    """A tree with the given leaves (int8, ``(leaves, coordinates)``); None where they are not those of one.

    The leaves of a tree cover all signs of all coordinates, each of them once.
    """
    used = np.flatnonzero((split != 0).any(axis=0))
    walk = _Walk(np.ascontiguousarray(split[:, used]))
    if not walk.below(np.arange(len(split)), np.ones(len(used), dtype=bool)):
        return None
    pairs = np.array(walk.pairs, dtype=np.int64).reshape(-1, 3)
    return LeafTree(np.array(walk.order, dtype=np.int64), pairs[:, 0], pairs[:, 1], used[pairs[:, 2]])


class _Walk:
    """A walk from the root down (local to ``leaf_tree``)."""

    def __init__(self, split: Array) -> None:
        self.split = split
        self.order: list[int] = []
        self.pairs: list[tuple[int, int, int]] = []

    def below(self, rows: Array, free: Array) -> bool:
        """Visit the leaves of one node, which asks for one of the ``free`` coordinates; False where that fails."""
        asked = (self.split[rows] != 0) & free
        if len(rows) == 1 and not asked.any():
            self.order.append(int(rows[0]))
            return True
        by_all = np.flatnonzero(asked.all(axis=0)) if len(rows) > 1 else np.zeros(0, dtype=np.int64)
        if not by_all.size:
            return False
        c = int(by_all[0])
        positive, negative = (rows[self.split[rows, c] == sign] for sign in (1, -1))
        if len(rows) == 2 and asked.sum() == 2 and len(positive) == 1:
            self.pairs.append((int(positive[0]), int(negative[0]), c))
        rest = free.copy()
        rest[c] = False
        return self.below(positive, rest) and self.below(negative, rest)
