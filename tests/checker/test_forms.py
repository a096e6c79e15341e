"""The forms of operations: exact where they are dyadic, else enclosures that hold the truth."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce_checker._exact import Exact
from reluce_checker._forms import BITS, Forms
from reluce_checker._graph import BatchNorm, Dense, Scale

positive = st.floats(2.0**-40, 2.0**40)
any_number = st.floats(-(2.0**40), 2.0**40)
nonzero = st.one_of(positive, positive.map(lambda value: -value))


def fractions(values: Exact) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]


def array(*values: float) -> Any:
    return np.array(values, dtype=np.float64)


@given(nonzero)
def test_a_quotient_is_enclosed(divisor: float) -> None:
    form = Forms().scale(Scale(array(divisor), None, divide=True), 1)
    ((factor,), (radius,)) = fractions(form.factor), fractions(form.factor_radius)
    assert abs(1 / Fraction(divisor) - factor) <= radius <= Fraction(1, 2**BITS)


@pytest.mark.parametrize("divisor", [1.0, -2.0, 2.0**-30])
def test_a_power_of_two_is_divided_exactly(divisor: float) -> None:
    form = Forms().scale(Scale(array(divisor), None, divide=True), 1)
    assert fractions(form.factor) == [1 / Fraction(divisor)]
    assert fractions(form.factor_radius) == [0]


@given(any_number, positive, st.floats(0, 1), any_number, any_number)
def test_a_batch_normalisation_is_enclosed(
    scale: float, variance: float, epsilon: float, mean: float, shift: float
) -> None:
    op = BatchNorm(array(scale), array(shift), array(mean), array(variance), epsilon)
    form = Forms().scale(op, 1)
    (factor,), (radius,) = fractions(form.factor), fractions(form.factor_radius)
    (offset,), (spread,) = fractions(form.shift), fractions(form.shift_radius)
    inside = Fraction(variance) + Fraction(epsilon)
    ends = sorted((factor - radius, factor + radius))
    # scale / sqrt(inside) lies between the ends: compared by squares, with their signs.
    signed = Fraction(scale) ** 2 / inside * (1 if scale >= 0 else -1)
    assert ends[0] * abs(ends[0]) <= signed <= ends[1] * abs(ends[1])
    assert radius <= Fraction(4 + abs(Fraction(scale)), 2**BITS)
    assert offset == Fraction(shift) - Fraction(mean) * factor
    assert spread == abs(Fraction(mean)) * radius


def test_an_enclosure_can_be_too_small() -> None:
    """What the tests above demand is no truth by itself."""
    form = Forms().scale(Scale(array(3.0), None, divide=True), 1)
    ((factor,), (radius,)) = fractions(form.factor), fractions(form.factor_radius)
    assert radius > 0
    assert abs(Fraction(1, 3) - factor) > 0


@pytest.mark.parametrize("variance", [-1.0, 0.0])
def test_a_variance_that_is_not_positive_is_refused(variance: float) -> None:
    op = BatchNorm(array(1.0), array(0.0), array(0.0), array(variance), 0.0)
    with pytest.raises(ValueError, match="not positive"):
        Forms().scale(op, 1)


def test_factors_and_shifts_that_are_there_or_not() -> None:
    forms = Forms()
    assert fractions(forms.scale(Scale(shift=array(3.0)), 1).factor) == [1]
    assert fractions(forms.scale(Scale(array(3.0)), 1).shift) == [0]
    op = Scale(array(0.1), array(0.2))
    assert (fractions(forms.scale(op, 1).factor), fractions(forms.scale(op, 1).shift)) == (
        [Fraction(0.1)],
        [Fraction(0.2)],
    )


def test_the_weights_of_a_dense_layer() -> None:
    op = Dense(np.array([[1, -2], [0, 0.5], [3, 0]], np.float32), np.array([1, 2, 3], np.float32), alpha=0.5, beta=-2.0)
    form = Forms().dense(op)
    assert fractions(form.weight(np.array([2, 0]))) == [Fraction(3, 2), 0, Fraction(1, 2), -1]
    assert fractions(form.bias) == [-2, -4, -6]
    unit = Exact.of(np.array([[0.0, 1.0, 0.0]]))
    assert fractions(form.pulled(unit)) == [0, Fraction(1, 4)]  # few outputs: only their rows are made
    assert fractions(unit @ form.backward) == [0, Fraction(1, 4)]
    assert fractions(form.pulled(Exact.of(np.array([[1.0, 1.0, 1.0]])))) == [2, Fraction(-3, 4)]
    x = Exact.of(np.array([[1.0, 1.0]]))
    assert fractions(x @ form.forward) == [Fraction(-1, 2), Fraction(1, 4), Fraction(3, 2)]
    assert fractions(x @ form.size) == [Fraction(3, 2), Fraction(1, 4), Fraction(3, 2)]
    assert form.used.tolist() == [[True, True], [False, True], [True, False]]
