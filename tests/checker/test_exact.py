"""Exact arithmetic, against fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce_checker._exact import Exact, Matrix, joined

Array = np.ndarray[Any, Any]
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
rows = st.lists(numbers, min_size=0, max_size=6)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6)


def fractions(values: Exact) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]


def exactly(values: list[float]) -> list[Fraction]:
    return [Fraction(value) for value in values]


def of(values: Any, dtype: Any = np.float64) -> Exact:
    return Exact.of(np.array(values, dtype=dtype))


@given(rows)
def test_a_float_is_itself(values: list[float]) -> None:
    found = of(values)
    assert found.shape == (len(values),)
    assert fractions(found) == exactly(values)
    assert all(type(entry) is int for entry in found.mantissa)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_format_has_its_smallest_and_largest(dtype: Any) -> None:
    info = np.finfo(dtype)
    values = np.array([info.smallest_subnormal, -info.tiny, info.max, info.min, 0.0, -0.0, 1 + info.eps], dtype)
    assert fractions(Exact.of(values)) == [Fraction(float(value)) for value in values]


def test_whole_numbers_and_truth_values() -> None:
    assert fractions(Exact.of(np.array([2**62, -3], dtype=np.int64))) == [2**62, -3]
    assert fractions(Exact.of(np.array([True, False]))) == [1, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_has_no_exact_value(value: float) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        of([1.0, value])


@given(pairs)
def test_arithmetic(values: list[tuple[float, float]]) -> None:
    first, second = ([pair[side] for pair in values] for side in (0, 1))
    a, b, x, y = exactly(first), exactly(second), of(first), of(second)
    both = list(zip(a, b, strict=True))
    assert fractions(x + y) == [p + q for p, q in both]
    assert fractions(x - y) == [p - q for p, q in both]
    assert fractions(x * y) == [p * q for p, q in both]
    assert fractions(-x) == [-p for p in a]
    assert fractions(abs(x)) == [abs(p) for p in a]
    assert fractions(x.maximum(y)) == [max(p, q) for p, q in both]
    assert fractions(x.minimum(y)) == [min(p, q) for p, q in both]
    assert fractions(x.positive) == [max(p, Fraction(0)) for p in a]
    assert fractions(x.negative) == [min(p, Fraction(0)) for p in a]
    assert (x - y).sign.tolist() == [(p > q) - (p < q) for p, q in both]
    assert x.all_at_most(y) == all(p <= q for p, q in both)
    assert fractions(x.sum(0)) == [sum(a, Fraction(0))]


@given(pairs)
def test_places(values: list[tuple[float, float]]) -> None:
    first, second = ([pair[side] for pair in values] for side in (0, 1))
    x, y = of(first), of(second)
    chosen = np.arange(len(values)) % 2 == 0
    expected = [q if pick else p for p, q, pick in zip(exactly(first), exactly(second), chosen, strict=True)]
    assert fractions(x.replaced(np.flatnonzero(chosen), y[chosen])) == expected
    assert fractions(x.where(chosen)) == [
        p if pick else Fraction(0) for p, pick in zip(exactly(first), chosen, strict=True)
    ]
    assert fractions(joined([x, y])) == exactly(first) + exactly(second)
    assert fractions(x) == exactly(first)  # nothing was changed in place


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.lists(numbers, min_size=18, max_size=18))
def test_products_of_matrices(n: int, k: int, m: int, values: list[float]) -> None:
    left, right = np.array(values[: n * k]).reshape(n, k), np.array(values[9 : 9 + k * m]).reshape(k, m)
    found = Exact.of(left) @ Matrix.of(Exact.of(right))
    assert found.shape == (n, m)
    expected = [
        sum((Fraction(left[i, p]) * Fraction(right[p, j]) for p in range(k)), Fraction(0))
        for i in range(n)
        for j in range(m)
    ]
    assert fractions(found) == expected


def test_numbers_far_apart_do_not_lose_each_other() -> None:
    x = of([2.0**1023, 2.0**-1074]) + of([2.0**-1074, -(2.0**1023)])
    assert fractions(x) == [2**1023 + Fraction(1, 2**1074), Fraction(1, 2**1074) - 2**1023]
    assert fractions(x.sum(0)) == [Fraction(2, 2**1074)]
