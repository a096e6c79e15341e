"""Exact arithmetic on dyadic rationals: arrays of Python integers with one power of two.

Every finite float is ``m * 2**e``, and dense layers, ReLUs and linear bounds need only +, * and max, so nothing here
ever divides, takes a gcd or rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from reluce.network._ops import Array


@dataclass(frozen=True, eq=False)
class Dyadic:
    """The exact numbers ``mantissa * 2**exponent``; ``mantissa`` is an object array of Python integers."""

    mantissa: Array
    exponent: int

    @staticmethod
    def of(values: Array) -> Dyadic:
        """The exact value of finite floats (any format)."""
        fraction, exponent = np.frexp(np.asarray(values, dtype=np.float64))
        if not np.isfinite(fraction).all():
            raise ValueError("infinite or NaN values have no exact dyadic value")
        whole = (fraction * 2.0**53).astype(np.int64)
        used = exponent[whole != 0]
        low = int(used.min()) if used.size else 0
        shift = np.where(whole != 0, exponent - low, 0)
        mantissa = np.asarray(np.left_shift(whole.astype(object), shift.astype(object)), dtype=object)
        return Dyadic(mantissa.reshape(np.shape(values)), low - 53)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.mantissa.shape

    def aligned(self, exponent: int) -> Array:
        """Mantissas at a lower (or equal) exponent."""
        return np.asarray(self.mantissa * (1 << (self.exponent - exponent)), dtype=object)

    def __add__(self, other: Dyadic) -> Dyadic:
        low = min(self.exponent, other.exponent)
        return Dyadic(np.asarray(self.aligned(low) + other.aligned(low), dtype=object), low)

    def __sub__(self, other: Dyadic) -> Dyadic:
        return self + (-other)

    def __neg__(self) -> Dyadic:
        return Dyadic(np.asarray(-self.mantissa, dtype=object), self.exponent)

    def __mul__(self, other: Dyadic) -> Dyadic:
        return Dyadic(np.asarray(self.mantissa * other.mantissa, dtype=object), self.exponent + other.exponent)

    def __matmul__(self, other: Dyadic) -> Dyadic:
        product = np.asarray(np.matmul(self.mantissa, other.mantissa), dtype=object)
        return Dyadic(product, self.exponent + other.exponent)

    def __getitem__(self, index: Any) -> Dyadic:
        return Dyadic(np.asarray(self.mantissa[index], dtype=object), self.exponent)

    @property
    def transposed(self) -> Dyadic:
        """The last two axes swapped."""
        return Dyadic(np.swapaxes(self.mantissa, -1, -2), self.exponent)

    def reshape(self, shape: tuple[int, ...]) -> Dyadic:
        """The same numbers in another shape."""
        return Dyadic(self.mantissa.reshape(shape), self.exponent)

    def sum(self, axis: int) -> Dyadic:
        """Exact sum along an axis."""
        return Dyadic(np.asarray(self.mantissa.sum(axis=axis), dtype=object), self.exponent)

    def positive(self) -> Dyadic:
        """``max(0, x)``."""
        return Dyadic(np.where(self.mantissa > 0, self.mantissa, 0), self.exponent)

    def negative(self) -> Dyadic:
        """``min(0, x)``."""
        return Dyadic(np.where(self.mantissa < 0, self.mantissa, 0), self.exponent)

    def maximum(self, other: Dyadic) -> Dyadic:
        """Elementwise maximum."""
        low = min(self.exponent, other.exponent)
        mine, theirs = self.aligned(low), other.aligned(low)
        return Dyadic(np.where(mine >= theirs, mine, theirs), low)

    def sign(self) -> Array:
        """-1, 0 or 1 for each number."""
        return np.asarray(self.mantissa > 0, dtype=np.int8) - np.asarray(self.mantissa < 0, dtype=np.int8)

    def nearest(self) -> Array:
        """The nearest float64 of each number (for display and proposals, never for proofs)."""
        scale = Fraction(2) ** self.exponent
        flat = [_as_float(int(m) * scale) for m in self.mantissa.ravel()]
        return np.array(flat, dtype=np.float64).reshape(self.shape)

    def representable(self, dtype: np.dtype[np.generic]) -> Array:
        """Whether each number is a finite value of ``dtype``."""
        digits, top, bottom = _FORMATS[np.dtype(dtype)]

        def fits(mantissa: int) -> bool:
            if mantissa == 0:
                return True
            trailing = (mantissa & -mantissa).bit_length() - 1
            length = abs(mantissa).bit_length()
            return length - trailing <= digits and length + self.exponent <= top and trailing + self.exponent >= bottom

        return np.array([fits(int(m)) for m in self.mantissa.ravel()], dtype=bool).reshape(self.shape)


_FORMATS = {
    np.dtype(np.float16): (11, 16, -24),
    np.dtype(np.float32): (24, 128, -149),
    np.dtype(np.float64): (53, 1024, -1074),
}
"""Significant bits, exponent just above the largest number, exponent of the smallest subnormal."""


def _as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def concatenate(parts: list[Dyadic]) -> Dyadic:
    """Join flat arrays end to end."""
    low = min(part.exponent for part in parts)
    return Dyadic(np.concatenate([part.aligned(low).ravel() for part in parts]), low)
