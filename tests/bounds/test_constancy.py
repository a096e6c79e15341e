"""Coordinates that are said to be constant are, and have the value that is claimed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from oracle import ranges
from strategies import Case, box_of, chain, networks

from reluce.bounds import Constancy, analyse, constancy
from reluce.network import Affine, BatchNorm


@given(networks())
def test_claimed_constants_are_constants(case: Case) -> None:
    truth = ranges(*case)
    for name, known in analyse(*case).constants.items():
        scale = Fraction(2) ** known.value.exponent
        rows = zip(known.constant.ravel(), known.exact.ravel(), known.value.mantissa.ravel(), *truth[name], strict=True)
        for constant, exact, mantissa, low, high in rows:
            assert not exact or constant
            assert not constant or low == high
            assert not exact or int(mantissa) * scale == low


def test_fixed_inputs_of_any_value() -> None:
    box = box_of((0, 1), ("1/3", "1/3"), (0.75, 0.75))
    network = chain(([[0, 0, 2], [0, 3, 0], [1, 0, 0], [0, 0, 0]], [1, 1, 1, 1]), ([[1, 1, 1, 1]], None), box=box)
    found = analyse(network, box).constants["z1"]
    assert found.constant.tolist() == [True, True, False, True]
    assert found.exact.tolist() == [True, False, False, True]  # 1/3 is no dyadic number
    assert Fraction(int(found.value.mantissa[0])) * Fraction(2) ** found.value.exponent == Fraction(5, 2)


def test_inactive_units_are_zero() -> None:
    box = box_of((0, 1))
    network = chain(([[1], [1]], [-1, 1]), ([[1, 0]], [0.5]), box=box)
    found = analyse(network, box).constants
    assert found["h1"].exact.tolist() == [True, False]
    assert found["y"].exact.tolist() == [True]
    assert np.asarray(found["y"].value.nearest()).tolist() == [0.5]


def test_a_scale_of_zero_makes_a_constant() -> None:
    varying = Constancy.nothing((2,))
    scale, shift = np.array([0, 1], np.float32), np.array([3, 4], np.float32)
    ones = np.ones(2, np.float32)
    for op in (Affine(scale, shift), BatchNorm(scale, shift, ones, ones, 1e-5)):
        found = constancy(op, [varying], (2,))
        assert found.constant.tolist() == [True, False]
        assert found.exact.tolist() == [True, False]
        assert found.value.nearest()[0] == 3
