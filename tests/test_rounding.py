"""Rounding bounds against exact sums, in every order of summation that a kernel may choose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce.rounding import dot_error, down, mask_product, product_error, up, widen

doubles = st.floats(allow_nan=False, allow_infinity=False, min_value=-(2.0**400), max_value=2.0**400)
vectors = st.lists(st.tuples(doubles, doubles), min_size=1, max_size=12)
tiny = st.floats(min_value=-(2.0**-500), max_value=2.0**-500)


def total(generator: np.random.Generator, values: list[float]) -> float:
    """Sum in a random order and a random tree."""
    left = list(values)
    while len(left) > 1:
        i, j = sorted(generator.choice(len(left), 2, replace=False).tolist())
        b, a = left.pop(j), left.pop(i)
        left.append(a + b)
    return left[0]


def exact(pairs: list[tuple[float, float]]) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))


@given(st.one_of(vectors, st.lists(st.tuples(tiny, tiny), min_size=1, max_size=12)), st.integers(0, 99))
def test_dot_error_covers_any_order(pairs: list[tuple[float, float]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    computed = total(generator, [a * b for a, b in pairs])
    magnitude = total(generator, [abs(a) * abs(b) for a, b in pairs])
    bound = float(dot_error(len(pairs), np.array(magnitude)))
    assert abs(Fraction(computed) - exact(pairs)) <= Fraction(bound)


@given(st.integers(2, 200), st.integers(0, 2**32 - 1))
def test_dot_error_covers_one_large_term_and_many_that_vanish(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = [(1.0, 1.0), *((2.0**-53, float(f)) for f in generator.random(count - 1))]
    computed = 0.0
    for a, b in pairs:
        computed += a * b
    bound = float(dot_error(count, np.array(computed)))
    assert abs(Fraction(computed) - exact(pairs)) <= Fraction(bound)


@given(doubles, doubles)
def test_product_error(a: float, b: float) -> None:
    bound = float(product_error(np.array(abs(a * b))))
    assert abs(Fraction(a * b) - Fraction(a) * Fraction(b)) <= Fraction(bound)


def test_an_unknown_magnitude_has_an_unknown_error() -> None:
    assert dot_error(3, np.array([np.inf, np.nan])).tolist() == [np.inf, np.inf]


def test_zero_magnitude_still_pays_for_underflow() -> None:
    assert dot_error(1, np.array(0.0)) > 0


@given(st.floats(-1e308, 1e308))
def test_up_and_down_are_the_neighbours(value: float) -> None:
    above, below = float(up(np.array(value))), float(down(np.array(value)))
    assert below < value < above
    assert float(down(np.array(above))) == value


@pytest.mark.parametrize(
    ("low", "high", "error"), [(0.0, 0.0, np.nan), (np.nan, np.nan, 0.0), (np.inf, -np.inf, np.inf)]
)
def test_widen_makes_nan_unbounded(low: float, high: float, error: float) -> None:
    with np.errstate(invalid="ignore"):
        found = widen(np.array([low]), np.array([high]), np.array([error]))
    assert [end.tolist() for end in found] == [[-np.inf], [np.inf]]


@given(doubles, doubles, st.floats(0, 2.0**400))
def test_widen_contains_the_exact_ends(low: float, high: float, error: float) -> None:
    lower, upper = widen(np.array(low), np.array(high), np.array(error))
    assert Fraction(float(lower)) < Fraction(low) - Fraction(error)
    assert Fraction(float(upper)) > Fraction(high) + Fraction(error)


def test_a_term_that_is_not_there_adds_nothing() -> None:
    product = mask_product(np.array([0.0, -2.0, 0.0, 3.0]), np.array([np.inf, np.inf, np.nan, 2.0]))
    assert product.tolist() == [0.0, -np.inf, 0.0, 6.0]
