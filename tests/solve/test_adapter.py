"""Absurd claims are not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from misbehaving import nothing

from reluce.network import Array
from reluce.solve import Limits, Outcome, Status
from reluce.solve._adapter import Adapter, believed, check_numbers, targets

ONES = np.ones(2)
POINT = np.array([1.0, 2.0])


def claim(status: Status, bound: float, point: Array | None = POINT) -> Outcome:
    return Outcome(status, dual_bound=bound, objective=99.0, point=point, note="it said so")


def test_a_sane_claim_is_taken_over_with_its_objective_computed_again() -> None:
    outcome = believed(claim(Status.OPTIMAL, 3.0), ONES, Limits())
    assert (outcome.status, outcome.dual_bound, outcome.objective, outcome.note) == (
        Status.OPTIMAL,
        3.0,
        3.0,
        "it said so",
    )


@pytest.mark.parametrize("bound", [np.nan, np.inf, -np.inf, 1e20, -1e30])
def test_a_bound_that_is_no_number_is_no_bound(bound: float) -> None:
    assert believed(claim(Status.LIMIT, bound), ONES, Limits()).dual_bound == np.inf
    assert believed(claim(Status.OPTIMAL, bound), ONES, Limits()).status is Status.FAILED


@pytest.mark.parametrize("status", [Status.INFEASIBLE, Status.UNBOUNDED, Status.FAILED])
def test_some_answers_carry_no_bound(status: Status) -> None:
    assert believed(claim(status, 3.0), ONES, Limits()).dual_bound == np.inf


@pytest.mark.parametrize("entry", [np.nan, np.inf, -1e20])
def test_a_point_that_is_no_point(entry: float) -> None:
    outcome = believed(claim(Status.LIMIT, 3.0, np.array([entry, 0.0])), ONES, Limits())
    assert (outcome.point, outcome.objective, outcome.dual_bound) == (None, -np.inf, 3.0)
    assert believed(claim(Status.LIMIT, 3.0, np.ones(3)), ONES, Limits()).point is None


def test_no_negative_zero() -> None:
    outcome = believed(claim(Status.OPTIMAL, -0.0, np.array([-0.0, -0.0])), ONES, Limits())
    assert outcome.point is not None
    numbers = [outcome.dual_bound, outcome.objective, *outcome.point]
    assert not np.signbit(numbers).any()


@pytest.mark.parametrize(
    ("outcome", "limits", "why"),
    [
        (claim(Status.LIMIT, 2.9), Limits(), "bound below a solution"),
        (claim(Status.OPTIMAL, 3.0, None), Limits(), "optimal without a bound or a solution"),
        (claim(Status.STOPPED, 4.0), Limits(above=3.0, below=3.9), "stopped without a reason"),
    ],
)
def test_what_does_not_fit_together_is_a_failure(outcome: Outcome, limits: Limits, why: str) -> None:
    doubted = believed(outcome, ONES, limits)
    assert (doubted.status, doubted.dual_bound, doubted.note) == (Status.FAILED, np.inf, f"{why}; it said so")


@pytest.mark.parametrize("limits", [Limits(above=2.9), Limits(below=4.0)])
def test_a_stop_with_a_reason(limits: Limits) -> None:
    assert believed(claim(Status.STOPPED, 4.0), ONES, limits).status is Status.STOPPED


def test_targets_of_a_solver_that_minimises() -> None:
    assert targets(Limits()) == (-np.inf, np.inf)
    primal, dual = targets(Limits(above=100.0, below=-3.0))
    assert -100.0001 < primal < -100
    assert dual == 3.0


class Throwing(Adapter):
    def _maximise(self, objective: Array, limits: Limits) -> Outcome:
        raise RuntimeError("segment overrun")

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        pass

    def close(self) -> None:
        pass


def test_an_exception_is_a_failure() -> None:
    outcome = Throwing().maximise(ONES, Limits())
    assert (outcome.status, outcome.note) == (Status.FAILED, "RuntimeError: segment overrun")


@pytest.mark.parametrize("name", ["row_lower", "row_upper", "lower", "upper"])
def test_a_bound_that_is_nan(name: str) -> None:
    sane = nothing()
    check_numbers(sane)
    with pytest.raises(ValueError, match=f"^{name} holds NaN$"):
        check_numbers(replace(sane, **{name: np.array([np.nan])}))
