"""Dual bounds: whatever the multipliers, the rigorous bound holds where the splits do; the hint is the same number."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Cell, at, cells, whole_domain
from strategies import Case, box_of, chain, networks

from reluce.bounds import Bounds, analyse
from reluce.errors import UsageError
from reluce.network import Array, Network
from reluce.prove import ClosingSettings
from reluce.prove._arrays import Arrays
from reluce.prove._dual import Dual, Multipliers
from reluce.prove._rigorous import Rigorous, rounded
from reluce.prove._slopes import Descent, optimise

ROWS = 6


def last_dual(network: Network, bounds: Bounds, device: str = "cpu") -> Dual:
    return Dual(network, network.relus[-1].inputs[0], bounds.intervals, Arrays(device, single=False))


def drawn(dual: Dual, seed: int) -> tuple[Array, Multipliers]:
    """Random functionals and multipliers, some of them split."""
    random = np.random.default_rng(seed)
    shape = dual.network.shape(dual.tensor)
    size = (ROWS, dual.coordinates)
    split = np.where(dual.unstable & (random.random(size) < 0.4), random.choice([-1.0, 1.0], size), 0.0)
    beta = np.where(split != 0, random.exponential(1.0, size), 0.0)
    of = dual.arrays.of
    return random.normal(size=(ROWS, *shape)), Multipliers(of(random.random(size)), of(beta), of(split))


def pieces(network: Network, dual: Dual, found: list[Cell], split: Array) -> list[Cell]:
    """The cells on which all splits of a row hold."""
    forms = [(node.inputs[0], k) for node in dual.relus for k in range(int(np.prod(network.shape(node.inputs[0]))))]
    signs = [(form, int(sign)) for form, sign in zip(forms, split, strict=True) if sign]
    return [
        cell
        for cell in found
        if all(sign * at(cell.forms[name][k], corner) >= 0 for (name, k), sign in signs for corner in cell.corners)
    ]


def truth(cell: Cell, tensor: str, functional: Array) -> Fraction:
    exact = [Fraction(float(value)) for value in functional.ravel()]
    return max(
        sum((c * at(form, corner) for c, form in zip(exact, cell.forms[tensor], strict=True)), Fraction(0))
        for corner in cell.corners
    )


@given(networks(units=5), st.integers(0, 2**32 - 1))
def test_any_multipliers_bound_what_their_splits_leave(case: Case, seed: int) -> None:
    network, box = case
    dual = last_dual(network, analyse(network, box))
    functional, multipliers = drawn(dual, seed)
    split, alpha, beta = rounded(multipliers, dual)
    upper = Rigorous(dual).upper(functional, split, alpha, beta)
    found = cells(network, [whole_domain(box)])
    for row in range(ROWS):
        for cell in pieces(network, dual, found, split[row]):
            assert truth(cell, dual.tensor, functional[row]) <= Fraction(float(upper[row]))


@given(networks(units=5), st.integers(0, 2**32 - 1))
def test_the_hint_is_the_rigorous_number_before_rounding(case: Case, seed: int) -> None:
    network, box = case
    dual = last_dual(network, analyse(network, box))
    functional, multipliers = drawn(dual, seed)
    hint = dual.evaluate(functional, multipliers).upper
    exact_multipliers = (np.asarray(part) for part in (multipliers.split, multipliers.alpha, multipliers.beta))
    upper = Rigorous(dual).upper(functional, *exact_multipliers)
    assert (hint <= upper + 1e-9 * (1 + np.abs(upper))).all()
    assert np.allclose(hint, upper, rtol=1e-6, atol=1e-6)


def test_a_split_multiplier_of_the_wrong_sign_bounds_nothing() -> None:
    """The twin: what the first test checks would be noticed. ``z2 = |x|`` is 1 where x >= 0."""
    box = box_of((-1, 1))
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [0]), ([[1]], None), box=box)
    dual = last_dual(network, analyse(network, box))
    split = np.array([[1, 0]], dtype=np.int8)
    right, wrong = (
        Rigorous(dual).upper(np.ones((1, 1)), split, np.zeros((1, 2)), np.array([[beta, 0.0]]))[0] for beta in (0, -0.9)
    )
    (most,) = {
        truth(cell, "z2", np.ones(1)) for cell in pieces(network, dual, cells(network, [whole_domain(box)]), split[0])
    }
    assert Fraction(float(wrong)) < most <= Fraction(float(right))


@given(networks(units=4), st.integers(0, 2**32 - 1))
def test_the_gradient_is_that_of_the_bound(case: Case, seed: int) -> None:
    network, box = case
    dual = last_dual(network, analyse(network, box))
    functional, at_ = drawn(dual, seed)
    seen, by_alpha, by_beta = dual.gradient(functional, at_)
    step = 1e-7
    for k in np.flatnonzero(dual.unstable):
        for slope, alpha, beta in ((by_alpha, step, 0.0), (by_beta, 0.0, step)):
            one = np.zeros(dual.coordinates)
            one[k] = 1.0
            ahead, behind = (
                dual.evaluate(
                    functional, Multipliers(at_.alpha + s * alpha * one, at_.beta + s * beta * one, at_.split)
                )
                for s in (1, -1)
            )
            forward, backward = (ahead.upper - seen.upper) / step, (seen.upper - behind.upper) / step
            size = 1 + np.abs(forward) + np.abs(seen.upper)
            smooth = np.abs(forward - backward) < 1e-5 * size  # at a kink there is more than one slope
            assert (np.abs(slope[:, k] - forward)[smooth] <= 1e-4 * size[smooth]).all()


@given(networks(units=4), st.integers(0, 2**32 - 1))
def test_torch_runs_the_same_code(case: Case, seed: int) -> None:
    network, box = case
    bounds = analyse(network, box)
    here, there = last_dual(network, bounds), last_dual(network, bounds, "torch:cpu")
    functional, _ = drawn(here, seed)
    results = []
    for dual in (here, there):
        _, multipliers = drawn(dual, seed)
        seen, best = optimise(dual, dual.arrays.of(functional), multipliers, Descent(steps=5))
        results.append([dual.arrays.numpy(part) for part in (seen.upper, best.alpha, best.beta)])
    for mine, other in zip(*results, strict=True):
        assert np.allclose(mine, other, rtol=1e-6, atol=1e-8)


def test_optimised_slopes_beat_the_adaptive_ones() -> None:
    network = chain(
        ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None),
        box=box_of((-1, 1), (-1, 1)),
    )  # fmt: skip
    dual = last_dual(network, analyse(network, box_of((-1, 1), (-1, 1))))
    functional, start = np.array([[1.0, 0.0]]), dual.start(1)
    crown = dual.evaluate(functional, start).upper[0]
    seen, _ = optimise(dual, functional, start, Descent(steps=60))
    assert seen.upper[0] < crown - 0.01


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(UsageError, match="no_such_device"):
        ClosingSettings(device="no_such_device")
