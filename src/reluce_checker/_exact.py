"""Exact arithmetic on dyadic rationals: arrays of integers with one power of two. Nothing is ever rounded.

Every finite float is ``m * 2**e``, and all that has to be evaluated needs only +, * and comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import fmpz_mat

from reluce_checker._graph import Array, Shape


@dataclass(frozen=True, eq=False)
class Exact:
    """The numbers ``mantissa * 2**exponent``; ``mantissa`` is an object array of Python integers."""

    mantissa: Array
    exponent: int

    @staticmethod
    def of(values: Array) -> Exact:
        """The exact value of finite floats (of any format) or integers."""
        values = np.asarray(values)
        if values.dtype.kind in "iub":
            return Exact(values.astype(object), 0)
        fraction, exponent = np.frexp(values.astype(np.float64))
        if not np.isfinite(fraction).all():
            raise ValueError("an infinite or NaN value has no exact value")
        whole = (fraction * 2.0**53).astype(np.int64)
        nonzero = whole != 0
        if not nonzero.any():
            return Exact.zeros(values.shape)
        # Trailing zeros go first: float32 values then have 24 bits, and most arrays fit in 64 bits after the shift.
        least = int(_trailing_zeros(whole[nonzero]).min())
        whole >>= least
        low = int(exponent[nonzero].min())
        shift = np.where(nonzero, exponent - low, 0).astype(np.int64)
        if int(shift.max()) + 54 - least <= 62:
            mantissa = (whole << shift).astype(object)
        else:
            mantissa = whole.astype(object) << shift.astype(object)
        return Exact(np.asarray(mantissa, dtype=object).reshape(values.shape), low - 53 + least)

    @staticmethod
    def zeros(shape: Shape) -> Exact:
        """All 0."""
        return Exact(np.full(shape, 0, dtype=object), 0)

    @property
    def shape(self) -> Shape:
        """Shape of the array."""
        return tuple(self.mantissa.shape)

    def at(self, exponent: int) -> Array:
        """The mantissas at a lower or equal exponent."""
        shift = self.exponent - exponent
        return self.mantissa if shift == 0 else _objects(self.mantissa * (1 << shift))

    def __add__(self, other: Exact) -> Exact:
        low = min(self.exponent, other.exponent)
        return Exact(_objects(self.at(low) + other.at(low)), low)

    def __neg__(self) -> Exact:
        return Exact(_objects(-self.mantissa), self.exponent)

    def __sub__(self, other: Exact) -> Exact:
        return self + (-other)

    def __mul__(self, other: Exact) -> Exact:
        return Exact(_objects(self.mantissa * other.mantissa), self.exponent + other.exponent)

    def __abs__(self) -> Exact:
        return Exact(_objects(np.abs(self.mantissa)), self.exponent)

    def __getitem__(self, index: Any) -> Exact:
        return Exact(_objects(self.mantissa[index]), self.exponent)

    def reshape(self, *shape: int) -> Exact:
        """The same numbers in another shape."""
        return Exact(self.mantissa.reshape(shape), self.exponent)

    def sum(self, axis: int) -> Exact:
        """Sum along an axis."""
        return Exact(_objects(self.mantissa.sum(axis=axis, initial=0)), self.exponent)

    def where(self, condition: Array) -> Exact:
        """The number where the condition holds, else 0."""
        return Exact(np.where(condition, self.mantissa, 0), self.exponent)

    def maximum(self, other: Exact) -> Exact:
        """The larger one of each pair."""
        low = min(self.exponent, other.exponent)
        mine, theirs = self.at(low), other.at(low)
        return Exact(np.where(mine >= theirs, mine, theirs), low)

    def minimum(self, other: Exact) -> Exact:
        """The smaller one of each pair."""
        return -((-self).maximum(-other))

    def replaced(self, index: Any, values: Exact) -> Exact:
        """A copy with other numbers in some places."""
        low = min(self.exponent, values.exponent)
        mantissa = self.at(low).copy()
        mantissa[index] = values.at(low)
        return Exact(mantissa, low)

    @property
    def sign(self) -> Array:
        """-1, 0 or 1 for each number."""
        return (self.mantissa > 0).astype(np.int8) - (self.mantissa < 0).astype(np.int8)

    @property
    def positive(self) -> Exact:
        """``max(0, x)``."""
        return self.where(self.mantissa > 0)

    @property
    def negative(self) -> Exact:
        """``min(0, x)``."""
        return self.where(self.mantissa < 0)

    def all_at_most(self, other: Exact) -> bool:
        """Whether every number is at most its counterpart."""
        return bool(((other - self).mantissa >= 0).all())


@dataclass(frozen=True, eq=False)
class Matrix:
    """An exact matrix, ready for products."""

    entries: fmpz_mat
    exponent: int

    @staticmethod
    def of(values: Exact) -> Matrix:
        """A matrix of the numbers of a two-dimensional array."""
        return Matrix(_integers(values), values.exponent)

    def __rmatmul__(self, rows: Exact) -> Exact:
        columns = self.entries.ncols()
        if 0 in (*rows.shape, columns):
            return Exact.zeros((rows.shape[0], columns))
        product = _integers(rows) * self.entries
        result = np.empty(rows.shape[0] * columns, dtype=object)
        result[:] = [int(entry) for entry in product.entries()]  # numpy is faster on Python's integers
        return Exact(result.reshape(rows.shape[0], columns), rows.exponent + self.exponent)


def joined(parts: list[Exact], axis: int = -1) -> Exact:
    """Arrays end to end along an axis."""
    low = min(part.exponent for part in parts)
    return Exact(np.concatenate([part.at(low) for part in parts], axis=axis), low)


def _objects(values: Any) -> Array:
    """An object array also where numpy hands out a bare number."""
    return np.asarray(values, dtype=object)


def _trailing_zeros(whole: Array) -> Array:
    lowest = (whole & -whole).astype(np.float64)
    return np.frexp(lowest)[1] - 1


def _integers(values: Exact) -> fmpz_mat:
    rows, columns = values.shape
    return fmpz_mat(rows, columns, values.mantissa.ravel().tolist())
