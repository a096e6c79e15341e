"""Every kind of bound against the exact extremes of random networks. No tolerance anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import at, cells, ranges, whole_domain
from strategies import Builder, Case, box_of, chain, networks

from reluce.bounds import (
    Bounds,
    Interval,
    Relaxation,
    analyse,
    exact_intervals,
    exact_linear_upper_bound,
    linear_upper_bound,
    relax,
)
from reluce.domain import Box
from reluce.network import Add, Array, Dense, Dyadic, Network

SLOPES = ("adaptive", "zero", "one")

RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def fractions(value: Dyadic) -> list[Fraction]:
    return [int(m) * Fraction(2) ** value.exponent for m in value.mantissa.ravel()]


def encloses(known: Interval, least: list[Fraction], most: list[Fraction]) -> None:
    lower, upper = known.lower.ravel().tolist(), known.upper.ravel().tolist()
    assert all(Fraction(a) <= v for a, v in zip(lower, least, strict=True))
    assert all(v <= Fraction(b) for b, v in zip(upper, most, strict=True))


def cheap(network: Network, box: Box) -> Bounds:
    return analyse(network, box, stop=lambda: True)


def relaxed(network: Network, bounds: Bounds, below: str) -> dict[str, Relaxation]:
    return {node.name: relax(bounds.intervals[node.inputs[0]], below) for node in network.relus}


def largest(network: Network, box: Box, functional: Mapping[str, Array], constant: Array) -> list[Fraction]:
    """The exact maximum of each linear functional over the domain."""
    found = cells(network, [whole_domain(box)])
    result = []
    for row, shift in enumerate(constant.tolist()):
        terms = [(name, list(map(Fraction, A[row].ravel().tolist()))) for name, A in functional.items()]
        result.append(
            max(
                Fraction(shift)
                + sum(a * at(form, corner) for name, A in terms for a, form in zip(A, cell.forms[name], strict=True))
                for cell in found
                for corner in cell.corners
            )
        )
    return result


def functionals(network: Network, generator: np.random.Generator) -> dict[str, Array]:
    names = generator.choice(sorted(network.tensors), 2, replace=False)
    wild = 2.0 ** generator.integers(-30, 30)
    return {
        str(name): generator.choice([-1.0, 0.0, 1.0, 1 / 3, -3 * wild], (3, *network.shape(name))) for name in names
    }


@given(networks())
def test_intervals(case: Case) -> None:
    truth = ranges(*case)
    for name, known in cheap(*case).intervals.items():
        encloses(known, *truth[name])


@given(networks())
def test_the_whole_analysis(case: Case) -> None:
    truth = ranges(*case)
    for name, known in analyse(*case).intervals.items():
        encloses(known, *truth[name])


@given(networks())
def test_exact_intervals(case: Case) -> None:
    network, box = case
    truth = ranges(network, box)
    ends = {name: (Dyadic.of(low), Dyadic.of(high)) for name, (low, high) in box.outer.items()}
    bounds = cheap(network, box)
    found = exact_intervals(network, ends, network.outputs[0])
    assert found is not None
    for name, (low, high) in found.items():
        lows, highs = fractions(low), fractions(high)
        assert all(a <= v for a, v in zip(lows, truth[name][0], strict=True))
        assert all(v <= b for b, v in zip(highs, truth[name][1], strict=True))
        encloses(bounds.intervals[name], lows, highs)  # rounding only ever widens


@given(networks(), RANDOM, st.sampled_from(SLOPES))
def test_linear_bounds(case: Case, generator: np.random.Generator, below: str) -> None:
    network, box = case
    bounds, functional = cheap(network, box), functionals(network, generator)
    constant = generator.choice([0.0, -1.0, 2.0**30], 3)
    found = linear_upper_bound(network, functional, constant, bounds.intervals, relaxed(network, bounds, below))
    assert not np.isnan(found.upper).any()
    truth = largest(network, box, functional, constant)
    assert all(v <= Fraction(b) for b, v in zip(found.upper.tolist(), truth, strict=True))


@given(networks(), RANDOM, st.sampled_from(SLOPES))
def test_exact_linear_bounds(case: Case, generator: np.random.Generator, below: str) -> None:
    network, box = case
    bounds, functional = cheap(network, box), functionals(network, generator)
    relaxations = relaxed(network, bounds, below)
    for name, A in functional.items():
        exact = exact_linear_upper_bound(network, name, A, bounds.intervals, relaxations)
        assert exact is not None
        truth = largest(network, box, {name: A}, np.zeros(3))
        assert all(v <= b for b, v in zip(fractions(exact), truth, strict=True))
        rounded = linear_upper_bound(network, {name: A}, np.zeros(3), bounds.intervals, relaxations)
        assert all(b <= Fraction(f) for b, f in zip(fractions(exact), rounded.upper.tolist(), strict=True))


ends = st.floats(-(2.0**60), 2.0**60)


@pytest.mark.parametrize("below", SLOPES)
@given(st.lists(st.tuples(ends, ends), min_size=1, max_size=5), st.lists(st.fractions(0, 1), min_size=1, max_size=3))
def test_relaxation_holds_on_its_interval(below: str, pairs: list[tuple[float, float]], shares: list[Fraction]) -> None:
    low, high = np.array([min(pair) for pair in pairs]), np.array([max(pair) for pair in pairs])
    found = relax(Interval(low, high), below)
    numbers = zip(*(side.tolist() for side in (low, high, found.below, found.above, found.offset)), strict=True)
    for lo, hi, a, s, t in numbers:
        assert 0 <= a <= 1
        assert 0 <= s <= 1
        assert float(s * 4096).is_integer()
        for share in (Fraction(0), Fraction(1), *shares):
            z = Fraction(lo) + share * (Fraction(hi) - Fraction(lo))
            assert Fraction(a) * z <= max(z, 0) <= Fraction(s) * z + Fraction(t)


def test_relaxation_twin_that_must_fail() -> None:
    found = relax(Interval(np.array([-1.0]), np.array([1.0])))
    assert max(Fraction(2), 0) > Fraction(float(found.above[0])) * 2 + Fraction(float(found.offset[0]))


@pytest.mark.parametrize("below", SLOPES)
@pytest.mark.parametrize("pair", [(-np.inf, np.inf), (-np.inf, 1.0), (-1.0, np.inf), (0.0, np.inf), (-np.inf, 0.0)])
def test_relaxation_of_unbounded_intervals(below: str, pair: tuple[float, float]) -> None:
    found = relax(Interval(np.array([pair[0]]), np.array([pair[1]])), below)
    assert not np.isnan([found.below, found.above, found.offset]).any()
    for z in (-(2.0**40), -1.0, 0.0, 1.0, 2.0**40):
        if pair[0] <= z <= pair[1]:
            assert found.below[0] * z <= max(z, 0.0) <= found.above[0] * z + found.offset[0]


def test_rounding_where_many_readers_of_one_tensor_meet() -> None:
    """x + 99 terms of a quarter ulp: each vanishes when the coefficients of x are added up, their sum does not."""
    box = box_of((0, 1))
    b = Builder(np.random.default_rng(0), box)
    total = ""
    for k in range(100):  # the large term is written last, so it is the first to be substituted
        name = b.put(f"t{k}", Dense(np.array([[1.0 if k == 99 else 2.0**-54]], np.float32)), ["x"], (1,))
        total = b.put(f"s{k}", Add(), [total, name], (1,)) if total else name
    network = b.network(total)
    found = linear_upper_bound(network, {total: np.ones((1, 1))}, np.zeros(1), cheap(network, box).intervals, {})
    assert ranges(network, box)[total][1][0] <= Fraction(float(found.upper[0]))


def test_underflow_of_coefficients_is_charged() -> None:
    """Tiny weights on a huge input: the product of two weights underflows, the value does not."""
    box = box_of((0, 2**900))
    network = chain(([[2.0**-600]], [0]), ([[2.0**-600]], [0]), ([[1]], [0]), box=box, dtype=np.float64)
    bounds = cheap(network, box)
    relaxations = relaxed(network, bounds, "adaptive")
    found = linear_upper_bound(network, {"z2": np.ones((1, 1))}, np.zeros(1), bounds.intervals, relaxations)
    assert ranges(network, box)["z2"][1][0] <= Fraction(float(found.upper[0]))


@pytest.mark.parametrize("ends", [(0.25, 1.0), (0.0, 0.75)])
def test_the_comparison_can_fail(ends: tuple[float, float]) -> None:
    truth = [Fraction(0)], [Fraction(1)]
    encloses(Interval(np.array([0.0]), np.array([1.0])), *truth)
    with pytest.raises(AssertionError):
        encloses(Interval(*(np.array([end]) for end in ends)), *truth)
