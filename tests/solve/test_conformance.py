"""The same questions to every solver. Nothing is skipped: the development environment brings all of them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import boxes, fits, market_split, objectives, optimum, problem, problems

from reluce.solve import SOLVERS, Limits, Outcome, Problem, Session, Status, open_session

INF = np.inf
PLENTY = 60.0  # seconds; nothing that is asked here takes as long, unless a limit is ignored


@pytest.fixture(params=SOLVERS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(name: str, asked: Problem) -> Session:
    """The adapter itself, in this process."""
    return SOLVERS[name].load(asked)


def test_all_solvers_are_installed(name: str) -> None:
    assert SOLVERS[name].installed


# --- known optima ----------------------------------------------------------------------------------------------------


def check(outcome: Outcome, asked: Problem, objective: np.ndarray, limits: Limits) -> None:
    """An answer is true: nothing lies above its bound, its point is feasible, and its status has a reason."""
    best = optimum(asked, objective)
    assert outcome.status in (Status.OPTIMAL, Status.STOPPED, Status.INFEASIBLE), outcome
    assert (outcome.status is Status.INFEASIBLE) == (best == -INF), outcome
    assert outcome.dual_bound >= best - 1e-5, outcome
    if outcome.point is not None:
        assert fits(asked, outcome.point)
        assert outcome.objective == pytest.approx(objective @ outcome.point)
    if outcome.status is Status.OPTIMAL:
        assert outcome.objective == pytest.approx(best, abs=1e-5)
        assert outcome.dual_bound == pytest.approx(best, abs=1e-5)
    if outcome.status is Status.STOPPED:
        assert outcome.objective > limits.above or outcome.dual_bound <= limits.below + 1e-7
    if limits == Limits(seconds=PLENTY):
        assert outcome.status is not Status.STOPPED


@given(st.data())
def test_small_problems_in_a_row(name: str, data: st.DataObject) -> None:
    """Objectives, limits and bounds change from solve to solve; every answer is checked against all points."""
    asked = data.draw(problems())
    columns = len(asked.lower)
    with load(name, asked) as session:
        for _ in range(3):
            objective = data.draw(objectives(columns))
            ends = st.sampled_from([-INF, -2.0, 0.0, 1.0, INF])
            limits = Limits(PLENTY, above=data.draw(ends), below=data.draw(ends))
            limits = data.draw(st.sampled_from([limits, Limits(PLENTY)]))
            check(session.maximise(objective, limits), asked, objective, limits)

            lower, upper = (np.array(end, dtype=float) for end in data.draw(boxes(columns)))
            kept = data.draw(st.integers(0, columns))
            session.bound(np.arange(kept), lower[:kept], upper[:kept])
            lower, upper = np.r_[lower[:kept], asked.lower[kept:]], np.r_[upper[:kept], asked.upper[kept:]]
            asked = Problem(asked.matrix, asked.row_lower, asked.row_upper, lower, upper, asked.integer)


def test_the_check_can_fail() -> None:
    asked = problem([[1, 1]], ([-INF], [3]), ([0, 0], [2, 2]), [True, True])
    right = Outcome(Status.OPTIMAL, dual_bound=3.0, objective=3.0, point=np.array([1.0, 2.0]))
    check(right, asked, np.ones(2), Limits())
    for wrong in (
        Outcome(Status.OPTIMAL, dual_bound=2.0, objective=2.0, point=np.array([1.0, 1.0])),
        Outcome(Status.OPTIMAL, dual_bound=4.0, objective=4.0, point=np.array([2.0, 2.0])),
        Outcome(Status.STOPPED, dual_bound=3.0, objective=3.0, point=np.array([1.0, 2.0])),
        Outcome(Status.INFEASIBLE),
        Outcome(Status.FAILED),
    ):
        with pytest.raises(AssertionError):
            check(wrong, asked, np.ones(2), Limits())


@pytest.mark.parametrize("whole", [False, True])
def test_infeasible(name: str, whole: bool) -> None:
    asked = problem([[1, 1], [1, -1]], ([5, -INF], [9, 4]), ([0, 0], [2, 2]), [whole] * 2)
    outcome = load(name, asked).maximise(np.ones(2), Limits())
    assert (outcome.status, outcome.dual_bound, outcome.point) == (Status.INFEASIBLE, INF, None)


@pytest.mark.parametrize("whole", [False, True])
def test_unbounded(name: str, whole: bool) -> None:
    asked = problem([[1, -1]], ([-5], [9]), ([0, 0], [INF, INF]), [whole] * 2)
    session = load(name, asked)
    outcome = session.maximise(np.ones(2), Limits())
    assert (outcome.status, outcome.dual_bound) == (Status.UNBOUNDED, INF)
    assert session.maximise(-np.ones(2), Limits()).dual_bound == 0


def test_the_same_question_gets_the_same_answer(name: str) -> None:
    asked, objective = market_split(columns=12, rows=2)
    first, second = (load(name, asked).maximise(objective, Limits(PLENTY)) for _ in range(2))
    assert first.status is second.status is Status.OPTIMAL
    assert (first.dual_bound, first.nodes, first.point.tolist()) == (
        second.dual_bound,
        second.nodes,
        second.point.tolist(),
    )


# --- limits ----------------------------------------------------------------------------------------------------------


def test_stops_at_a_good_solution(name: str) -> None:
    asked, objective = market_split()
    outcome = load(name, asked).maximise(objective, Limits(PLENTY, above=-500))
    assert SOLVERS[name].stops_on_solution
    assert outcome.status is Status.STOPPED
    assert outcome.objective > -500


@pytest.mark.parametrize("below", [0.0, 1e6])
def test_stops_at_a_good_bound(name: str, below: float) -> None:
    asked, objective = market_split()
    outcome = load(name, asked).maximise(objective, Limits(PLENTY, below=below))
    assert SOLVERS[name].stops_on_bound
    assert outcome.status is Status.STOPPED
    assert outcome.dual_bound <= below + 1e-7


def test_a_solution_that_only_equals_the_limit_does_not_stop(name: str) -> None:
    asked = problem([[2, 3, 4]], ([-INF], [5]), ([0] * 3, [1] * 3), [True] * 3)
    outcome = load(name, asked).maximise(np.array([2.0, 3.0, 4.0]), Limits(PLENTY, above=5.0))
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, 5.0)


def test_time_is_kept_solve_after_solve(name: str) -> None:
    asked, objective = market_split()
    session = load(name, asked)
    for _ in range(3):
        began = time.monotonic()
        outcome = session.maximise(objective, Limits(0.3))
        assert outcome.status is Status.LIMIT
        assert outcome.dual_bound == pytest.approx(0, abs=1e-6)
        assert 0.2 < time.monotonic() - began < 2.3


@pytest.mark.parametrize("seconds", [0.0, -1.0, np.nan])
def test_without_time_nothing_is_done(name: str, seconds: float) -> None:
    asked = problem([], ([], []), ([0], [1]), [True])
    assert load(name, asked).maximise(np.ones(1), Limits(seconds)).status is Status.LIMIT


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, INF, -INF, 1e20])
def test_a_bad_objective_fails_and_the_session_goes_on(name: str, bad: float) -> None:
    session = load(name, problem([[1, 1]], ([0], [3]), ([0, 0], [2, 2]), [True, False]))
    outcome = session.maximise(np.array([1.0, bad]), Limits())
    assert (outcome.status, outcome.dual_bound) == (Status.FAILED, INF)
    assert "the objective holds NaN or numbers beyond" in outcome.note
    assert session.maximise(np.ones(2), Limits()).dual_bound == pytest.approx(3)


@pytest.mark.parametrize("bad", [np.nan, INF, -1e20])
def test_a_bad_problem_is_refused(name: str, bad: float) -> None:
    with pytest.raises(ValueError, match=r"^the matrix holds NaN or numbers beyond 1e\+15$"):
        load(name, problem([[1, bad]], ([0], [3]), ([0, 0], [2, 2]), [True, False]))


def test_gurobi_says_that_its_licence_is_small() -> None:
    asked = problem([np.ones(2001)], ([0], [3]), (np.zeros(2001), np.ones(2001)), [False] * 2001)
    outcome = load("gurobi", asked).maximise(np.ones(2001), Limits())
    assert (outcome.status, outcome.dual_bound) == (Status.FAILED, INF)
    assert "too large for size-limited license" in outcome.note


# --- in a process of its own -----------------------------------------------------------------------------------------


def never() -> bool:
    return False


def test_a_session_in_a_process(name: str) -> None:
    asked = problem([[2, 3]], ([-INF], [7]), ([0, 0], [5, 5]), [True, True])
    with open_session(name, asked, never) as session:
        assert session.maximise(np.array([3.0, 2.0]), Limits()).objective == 9
        assert session.maximise(np.array([1.0, 3.0]), Limits(PLENTY)).objective == 6
        session.bound(np.array([0]), np.array([0.0]), np.array([1.0]))
        session.bound(np.array([1]), np.array([0.0]), np.array([1.0]))
        outcome = session.maximise(np.array([3.0, 2.0]), Limits(PLENTY))
    assert (outcome.status, outcome.dual_bound, outcome.objective) == (Status.OPTIMAL, 5, 5)
    assert outcome.point is not None
    assert outcome.point.tolist() == [1, 1]
