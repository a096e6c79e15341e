"""The proofs themselves: what a certificate has to carry so that another program can follow them.

Every record claims upper bounds of ``sign * z[row]`` for flat coordinates of one pre-activation z. It was found with
the intervals that were known then: those of ``bounds.analyse``, and what the records before it prove. What that
analysis does by itself needs no record: it can be done again from the same intervals. Any slopes in [0, 1] and any
split multipliers >= 0 are valid, so a record holds nothing that has to be believed.

Slopes are whole numbers of ``1 / SLOPES``; they count only where the unit is unstable by the intervals at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from reluce.bounds import SLOPES, Interval
from reluce.facts import Rung
from reluce.network import Array
from reluce.prove._split_tree import SplitTree

Claims: TypeAlias = tuple[Array, Array, Array]
"""Flat coordinates, signs, and upper bounds of ``sign * z[row]``."""


@dataclass(frozen=True, eq=False)
class SlopeProof:
    """Upper bounds by slopes of their own (alpha-CROWN), a row for each of some coordinates.

    ``rows`` (int64) and ``signs`` (int8, +1 or -1) name the functionals of ``tensor``. ``alpha`` (uint16, ``(rows,
    coordinates)``) are lower slopes and ``above`` (uint16, ``(coordinates,)``) upper ones over the ReLUs in front;
    ``places`` has the slice of each by node name. ``upper`` (float64, ``(rows,)``) is what was proved.
    """

    tensor: str
    rows: Array
    signs: Array
    places: Mapping[str, slice]
    alpha: Array
    above: Array
    upper: Array

    rung: ClassVar[Rung] = Rung.ALPHA

    @property
    def claims(self) -> Claims:
        """What is proved."""
        return self.rows, self.signs, self.upper


@dataclass(frozen=True, eq=False)
class LeafProof:
    """``sign * z[row] <= 0`` by the leaves of a binary tree of ReLU splits, which cover the domain.

    Leaf n holds where ``split[n] * z >= 0`` for all coordinates (int8: 0 where a coordinate is not split). Its lower
    slopes are ``alpha[kind[n]]`` (uint16, ``(kinds, coordinates)``), its split multipliers ``beta[n]`` (float64 with
    few bits, ``(leaves, coordinates)``, 0 where nothing is split), its bound ``upper[n]``. ``places`` and ``above`` are
    as in ``SlopeProof``.
    """

    tensor: str
    row: int
    sign: int
    places: Mapping[str, slice]
    above: Array
    split: Array
    kind: Array
    alpha: Array
    beta: Array
    upper: Array

    rung: ClassVar[Rung] = Rung.BRANCH

    @property
    def claims(self) -> Claims:
        """What is proved."""
        return np.array([self.row]), np.array([self.sign], dtype=np.int8), np.zeros(1)


@dataclass(frozen=True, eq=False)
class BoxProof:
    """``sign * z[row] <= 0`` by splitting the box, for the goals ``rows`` (int64) and ``signs`` (int8).

    Columns of ``tree.closed`` are these goals, all of them proved. Dimension d of the tree is the flat element
    ``elements[d]`` of the graph input ``inputs[d]``. Every closed box follows from the fixed rules of
    ``bounds.Engine``, the intervals of the whole domain, and what was bounded on the boxes above it.
    """

    tensor: str
    rows: Array
    signs: Array
    inputs: tuple[str, ...]
    elements: Array
    tree: SplitTree

    rung: ClassVar[Rung] = Rung.INPUT_SPLIT

    @property
    def claims(self) -> Claims:
        """What is proved."""
        return self.rows, self.signs, np.zeros(len(self.rows))


Record: TypeAlias = SlopeProof | LeafProof | BoxProof


@dataclass(frozen=True, eq=False)
class Evidence:
    """Proofs in the order in which they were found: each may rest on those before it."""

    records: tuple[Record, ...] = ()


def with_claims(z: Interval, record: Record) -> Interval:
    """An interval together with what a record proves of it."""
    rows, signs, upper = record.claims
    low, high = z.lower.ravel().copy(), z.upper.ravel().copy()
    np.minimum.at(high, rows[signs > 0], upper[signs > 0])
    np.maximum.at(low, rows[signs < 0], -upper[signs < 0])
    return Interval(low.reshape(z.lower.shape), high.reshape(z.lower.shape), z.slack)


def in_units(slopes: Array) -> Array:
    """Slopes in units of ``1 / SLOPES``."""
    return np.asarray(np.round(slopes * SLOPES), dtype=np.uint16)


def as_slopes(units: Array) -> Array:
    """Slopes from whole numbers: exact."""
    return units.astype(np.float64) / SLOPES
