"""Dyadic arithmetic against fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce.network import Array, Dyadic, concatenate

doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


def fractions(values: Any) -> list[Fraction]:
    if isinstance(values, Dyadic):
        return [int(m) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]
    return [Fraction(v) for v in np.asarray(values).ravel().tolist()]


def pairs(size: int = 4) -> st.SearchStrategy[tuple[Array, Array]]:
    arrays = st.lists(doubles, min_size=size, max_size=size).map(np.array)
    return st.tuples(arrays, arrays)


@given(st.lists(st.one_of(doubles, singles), max_size=6))
def test_floats_are_kept_exactly(values: list[float]) -> None:
    assert fractions(Dyadic.of(np.array(values))) == fractions(values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_ends_of_each_format_are_kept_exactly(dtype: type) -> None:
    info = np.finfo(dtype)
    ends = np.array([info.max, info.min, info.smallest_subnormal, info.tiny, info.eps, 0, -0.0], dtype=dtype)
    assert fractions(Dyadic.of(ends)) == fractions(ends)
    assert Dyadic.of(ends).representable(np.dtype(dtype)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="infinite or NaN"):
        Dyadic.of(np.array([1.0, value]))


@given(pairs())
def test_elementwise_arithmetic(values: tuple[Array, Array]) -> None:
    a, b = map(Dyadic.of, values)
    x, y = map(fractions, values)
    both = list(zip(x, y, strict=True))
    assert fractions(a + b) == [p + q for p, q in both]
    assert fractions(a - b) == [p - q for p, q in both]
    assert fractions(a * b) == [p * q for p, q in both]
    assert fractions(-a) == [-p for p in x]
    assert fractions(a.maximum(b)) == [max(p, q) for p, q in both]
    assert fractions(a.positive()) == [max(p, 0) for p in x]
    assert fractions(a.negative()) == [min(p, 0) for p in x]
    assert (a - b).sign().tolist() == [(p > q) - (p < q) for p, q in both]
    assert fractions(a.sum(0)) == [sum(x)]
    assert fractions(concatenate([a, b])) == x + y


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_products_of_matrices(rows: int, inner: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    a = generator.normal(size=(rows, inner)) * 2.0 ** generator.integers(-60, 60, (rows, inner))
    b = generator.normal(size=(columns, inner))
    exact = [
        sum((Fraction(x) * Fraction(y) for x, y in zip(p, q, strict=True)), Fraction(0))
        for p in a.tolist()
        for q in b.tolist()
    ]
    assert fractions(Dyadic.of(a) @ Dyadic.of(b).transposed) == exact


def test_an_empty_sum_is_zero() -> None:
    product = Dyadic.of(np.zeros((2, 0))) @ Dyadic.of(np.zeros((0, 3)))
    assert product.sign().tolist() == [[0, 0, 0], [0, 0, 0]]


def test_shapes_and_indices() -> None:
    a = Dyadic.of(np.arange(6.0).reshape(2, 3) / 4)
    assert a.transposed.shape == (3, 2)
    assert fractions(a[:, 1]) == [Fraction(1, 4), 1]
    assert fractions(a.reshape((3, 2))[2]) == [1, Fraction(5, 4)]


def rounds_to_itself(value: Fraction, dtype: type) -> bool:
    try:
        with np.errstate(all="ignore"):
            nearest = dtype(float(value))
    except OverflowError:
        return False
    return bool(np.isfinite(nearest)) and Fraction(float(nearest)) == value


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(mantissa=st.integers(-(2**60), 2**60), exponent=st.integers(-1200, 1100))
def test_representable(dtype: type, mantissa: int, exponent: int) -> None:
    for scale in (exponent, exponent // 8, exponent // 40):
        value = Dyadic(np.array([mantissa], dtype=object), scale)
        expected = rounds_to_itself(mantissa * Fraction(2) ** scale, dtype)
        assert value.representable(np.dtype(dtype)).tolist() == [expected]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("place", ["max", "smallest_subnormal", "tiny"])
def test_representable_at_the_edges(dtype: type, place: str) -> None:
    edge = Dyadic.of(np.array([getattr(np.finfo(dtype), place)]))
    half = Dyadic(edge.mantissa, edge.exponent - 1)
    assert edge.representable(np.dtype(dtype)).all()
    assert half.representable(np.dtype(dtype)).all() == rounds_to_itself(fractions(half)[0], dtype)
    double = Dyadic(edge.mantissa, edge.exponent + 1)
    assert double.representable(np.dtype(dtype)).all() == rounds_to_itself(fractions(double)[0], dtype)


@given(st.integers(-(2**80), 2**80), st.integers(-1300, 1300))
def test_nearest(mantissa: int, exponent: int) -> None:
    value = mantissa * Fraction(2) ** exponent
    (found,) = Dyadic(np.array([mantissa], dtype=object), exponent).nearest().tolist()
    if np.isinf(found):
        assert abs(value) > Fraction(np.finfo(float).max)
    else:
        beside = [Fraction(v) for v in (np.nextafter(found, -np.inf), np.nextafter(found, np.inf)) if np.isfinite(v)]
        assert all(abs(Fraction(found) - value) <= abs(other - value) for other in beside)
