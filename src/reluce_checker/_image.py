"""What a tensor of the compressed network stands for, as a certificate says it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce_checker._exact import Exact
from reluce_checker._graph import Array


@dataclass(frozen=True, eq=False)
class Image:
    """What a compressed tensor stands for. ``of`` is the original's tensor.

    Coordinate k is ``factor[k] * T[kept[k]]``, of a ReLU's output ``relu(factor[k] * z[kept[k]])``, or where
    ``kept[k]`` is -1 the next row of ``matrix @ S + shift``, with S the original's tensor ``over``. ``kept`` is None
    where the shape is not known: then it is T itself.
    """

    of: str
    kept: Array | None
    factor: Exact
    matrix: Exact
    shift: Exact
    over: str

    @property
    def copies(self) -> bool:
        """Whether every coordinate is an unscaled coordinate of T."""
        return self.kept is None or not (self.affine.any() or self.scaled)

    @property
    def affine(self) -> Array:
        """Which coordinates are affine functions of more than one coordinate."""
        return np.zeros(0, dtype=bool) if self.kept is None else np.asarray(self.kept < 0)

    @property
    def turned(self) -> Array:
        """Which coordinates are negative multiples."""
        return np.asarray(self.factor.sign < 0) if self.kept is None else (self.factor.sign < 0) & ~self.affine

    @property
    def scaled(self) -> bool:
        """Whether a factor differs from 1."""
        return bool((self.factor - Exact(np.array(1, dtype=object), 0)).sign.any())

    def same(self, other: Image) -> bool:
        """Whether both are the same functions of coordinates, of T and S each of their own."""
        if self.kept is None or other.kept is None:
            return self.kept is other.kept
        return np.array_equal(self.kept, other.kept) and all(
            mine.shape == theirs.shape and not (mine - theirs).sign.any()
            for mine, theirs in (
                (self.factor, other.factor),
                (self.matrix, other.matrix),
                (self.shift, other.shift),
            )
        )
