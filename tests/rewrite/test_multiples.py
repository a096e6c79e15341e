"""Classes of units on one hyperplane: what is claimed of them is proved, and what is not proved is not used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rewriting import check
from strategies import box_of, chain

from reluce.domain import Box
from reluce.guarantee import Exact, Within
from reluce.network import Dyadic, Network
from reluce.prove import prove
from reluce.rewrite import Original
from reluce.rewrite._residual import Multiples, _Residual, _without_multiples, proved_multiples, short, sound
from reluce.rewrite._residual_exact import exact_multiples
from reluce.rewrite._state import Parallels

BOX = box_of((-1, 1), (-1, 1))


def pair(scale: float, more: float = 0.0, box: Box = BOX) -> Network:
    first = np.float32([0.3, -0.7])
    rows = np.stack([first, np.float32(scale) * first + np.float32([0, more])])
    return chain((rows, [0.1, float(np.float32(scale) * np.float32(0.1))]), ([[1, 3]], [0]), box=box)


def original(network: Network, box: Box = BOX) -> Original:
    proof = prove(network, box)
    return Original(network, proof.facts, proof.bounds)


def claim(unit: Any, to: Any, factor: Any) -> Parallels:
    return Parallels(np.array(unit), np.array(to), np.array(factor, dtype=np.float64))


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25])
def test_exact_multiples_go(scale: float) -> None:
    result = check(pair(scale), BOX, Exact())
    assert [len(kept) for kept in result.kept.values()] == [1]


def test_what_is_nearly_a_multiple_goes_within_a_budget_only() -> None:
    network = pair(2.0, 2.0**-20)
    assert [len(kept) for kept in check(network, BOX, Exact()).kept.values()] == [2]
    assert [len(kept) for kept in check(network, BOX, Within(1e-3)).kept.values()] == [1]


def test_claims_are_proved() -> None:
    known = original(pair(2.0))
    for factor, holds in ((2.0, True), (-2.0, False), (1.0, False), (2.0 + 2.0**-20, False)):
        said = claim([1], [0], [factor])
        assert (exact_multiples(known, "z1", said, {}).error[0] == 0) == holds
        assert (proved_multiples(known, "z1", said, {}).error[0] < 1e-300) == holds


@pytest.mark.parametrize("said", [claim([1, 1], [0, 0], [2, 2]), claim([1, 0], [0, 1], [2, 0.5])])
def test_units_are_claimed_once_and_not_in_a_circle(said: Parallels) -> None:
    """The twin of a proof: each of these claims holds, but not all of them can be used at once."""
    known = original(pair(2.0))
    assert not sound(said)
    assert (exact_multiples(known, "z1", said, {}).error == np.inf).all()
    assert (proved_multiples(known, "z1", said, {}).error == np.inf).all()


def test_a_linear_part_that_cancels_is_gone() -> None:
    """relu(z1) = 2 relu(z0) - 2 z0 for z1 = -2 z0: the -2 z0 meets 2 z0 that was there, and both are gone."""
    known = original(pair(-2.0))
    said = Multiples(claim([1], [0], [-2]), np.zeros(1))
    one = np.zeros(1)
    residual = _Residual("h1", np.array([[0.0, 1.0]]), one, one, np.array([[2.0, 0.0]]))
    found = _without_multiples(known, residual, said, np.zeros(2, dtype=bool), "z1")
    assert found.coefficients.tolist() == [[2.0, 0.0]]
    assert found.linear is None or not found.linear.any()


def test_claims_that_are_not_proved_leave_everything_as_it_was() -> None:
    known = original(pair(-2.0))
    said = Multiples(claim([1], [0], [-2]), np.full(1, np.inf))
    zeros = np.zeros(2)
    residual = _Residual("h1", np.array([[0.0, 1.0], [1.0, 0.0]]), zeros, zeros)
    assert _without_multiples(known, residual, said, np.zeros(2, dtype=bool), "z1") is residual


@pytest.mark.parametrize(("factor", "expected"), [(3.0, True), (1 / 3, False), (2.0**-28 + 1, True), (2.0**300, False)])
def test_factors_whose_products_are_exact(factor: float, expected: bool) -> None:
    assert short(np.array([factor])).tolist() == [expected]
    if expected:
        weight = np.float32(1) + np.float32(2.0**-23)
        product = Dyadic.of(np.array([float(weight)])) * Dyadic.of(np.array([factor]))
        assert not (product - Dyadic.of(np.array([float(weight) * factor]))).sign().any()
