"""Rigorous float64: the only place that knows about ulps.

Rounding modes are never touched (BLAS threads ignore them). Instead every computed dot product comes with the a-priori
error bound of Jeannerod and Rump (SIAM J. Matrix Anal. 34, 2013): for n terms summed in *any* order, with or without
FMA, ``|fl(a.b) - a.b| <= n u |a|.|b|``. We charge twice that plus an underflow term, so that the rounding of the bound
itself is paid for as long as ``n u < 0.1``. It does not hold for Strassen, Winograd or TF32 kernels; numpy uses none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

UNIT_ROUNDOFF = {np.dtype(np.float64): 2.0**-53, np.dtype(np.float32): 2.0**-24, np.dtype(np.float16): 2.0**-11}
"""Unit roundoff of a float format: half the distance from 1 to the next number."""

SMALLEST = {np.dtype(np.float64): 2.0**-1022, np.dtype(np.float32): 2.0**-126, np.dtype(np.float16): 2.0**-14}
"""Smallest normal number of a format, charged per operation for underflow (flushed results included)."""

LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float64, np.float32, np.float16)}
"""Largest finite number of a format."""

UNDERFLOW = 2.0**-1022
"""What one float64 operation may lose beside its relative error."""

_U = 2.0**-53


def dot_error(terms: int, magnitude: Array) -> Array:
    """Bound the rounding error of computed float64 dot products.

    Parameters
    ----------
    terms
        Number of products and addends that each dot product sums.
    magnitude
        Computed ``sum |a_i| |b_i|`` (any shape); infinities and NaN give infinity.

    Returns
    -------
    Array
        Non-negative error bounds of the same shape.
    """
    error = (2.0 * (terms + 2) * _U) * magnitude + (terms + 2) * UNDERFLOW
    return np.where(np.isnan(error), np.inf, error)


def product_error(magnitude: Array) -> Array:
    """Bound the rounding error of single float64 products, quotients or square roots of the given magnitude."""
    return dot_error(0, magnitude)


def up(values: Array) -> Array:
    """The next float64 above each value; NaN becomes infinity, so that it bounds nothing."""
    with np.errstate(over="ignore"):
        return np.where(np.isnan(values), np.inf, np.nextafter(values, np.inf))


def down(values: Array) -> Array:
    """The next float64 below each value; NaN becomes minus infinity."""
    with np.errstate(over="ignore"):
        return np.where(np.isnan(values), -np.inf, np.nextafter(values, -np.inf))


def widen(lower: Array, upper: Array, error: Array) -> tuple[Array, Array]:
    """Widen computed ends by ``error``; whatever is NaN becomes unbounded, so that nothing is concluded from it."""
    return down(lower - error), up(upper + error)


def mask_product(coefficients: Array, values: Array) -> Array:
    """``coefficients * values`` with ``0 * inf = 0``: a term that is not there adds nothing."""
    with np.errstate(invalid="ignore"):
        return np.where(coefficients == 0, 0.0, coefficients * values)


def nonnegative_product(values: Array, weight: Array) -> Array:
    """``values @ weight.T`` of non-negative arrays, with ``0 * inf = 0``; rounded to nearest, as numpy does."""
    finite = np.isfinite(values)
    result: Array = np.where(finite, values, 0.0) @ weight.T
    if finite.all():
        return result
    reached = (~finite).astype(np.float64) @ (weight > 0).T.astype(np.float64)
    return np.where(reached > 0, np.inf, result)
