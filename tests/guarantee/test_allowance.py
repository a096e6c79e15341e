"""Budgets at each level, and what earlier runs leave of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import box_of, chain

from reluce.guarantee import Allowance, Exact, Level, Roundoff, Within, allowance
from reluce.network import Array
from reluce.prove import prove

BOX = box_of((0, 1))


def allowed(level: Level, dtype: type = np.float32, spent: Array | None = None) -> Allowance:
    network = chain(([[1]], [1]), ([[3], [-5], [0]], None), box=BOX, dtype=dtype)
    proof = prove(network, BOX)
    earlier = None if spent is None else {"y": spent}
    return allowance(level, network, BOX, proof.bounds, proof.facts, spent=earlier)


def test_exact_and_within() -> None:
    assert allowed(Exact()).budget["y"].tolist() == [0, 0, 0]
    assert allowed(Within(1e-5)).budget["y"].tolist() == [1e-5] * 3
    assert allowed(Within(1)).budget["y"].tolist() == [1.0] * 3


@pytest.mark.parametrize(("dtype", "u"), [(np.float16, 2.0**-24), (np.float32, 2.0**-24), (np.float64, 2.0**-53)])
def test_roundoff_is_16_units_of_what_is_proved(dtype: type, u: float) -> None:
    found = allowed(Roundoff(), dtype)
    assert found.magnitudes is not None
    assert found.magnitudes.lower["y"] == pytest.approx([6, 10, 0], rel=1e-12)
    assert found.budget["y"].tolist() == [16 * u * m for m in found.magnitudes.lower["y"].tolist()]


@given(st.lists(st.floats(0, 2e-5), min_size=3, max_size=3), st.sampled_from([Within(1e-5), Roundoff()]))
def test_what_was_spent_is_charged(spent: list[float], level: Level) -> None:
    before, after = allowed(level), allowed(level, spent=np.array(spent))
    for b, a, s in zip(before.budget["y"].tolist(), after.budget["y"].tolist(), spent, strict=True):
        assert a >= 0
        assert a == 0 or Fraction(a) + Fraction(s) <= Fraction(b)
        assert a >= (b - s) * (1 - 1e-5) - 1e-18


@pytest.mark.parametrize("level", [Exact(), Roundoff(), Within(1e30)])
@pytest.mark.parametrize("spent", [np.inf, np.nan, 1e30])
def test_what_is_not_known_leaves_nothing(level: Level, spent: float) -> None:
    assert allowed(level, spent=np.full(3, spent)).budget["y"].tolist() == [0, 0, 0]


def test_the_promise_holds_all_of_it() -> None:
    found = allowed(Within(1e-5), spent=np.full(3, 2e-6))
    promise = found.promise({"y": np.array([0, 4e-6, 0])})
    assert (promise.level, promise.asked, promise.epsilon) == ("within", "within=1e-05", 4e-6)
    assert promise.share == pytest.approx(0.5)
    assert promise.budget == pytest.approx(8e-6)
    assert promise.spent["y"].tolist() == [2e-6] * 3
