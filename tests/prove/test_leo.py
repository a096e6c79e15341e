"""LEO: the order of its solves, when each stops, and what a layer hands to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from solving import BOX, NETWORK, Told, in_process, question
from strategies import chain

from reluce.network import Array
from reluce.prove._leo import _tightened, leo
from reluce.solve import Limits, Outcome, Problem, Session, Status


@dataclass
class Log:
    """The problems that were loaded, and for each the limits and the coordinates asked about."""

    problems: list[Problem] = field(default_factory=list)
    asked: list[list[tuple[int, float]]] = field(default_factory=list)
    limits: list[Limits] = field(default_factory=list)

    def load(
        self, twist: Callable[[Outcome, Array], Outcome] = lambda outcome, _: outcome
    ) -> Callable[[Problem], Session]:
        def opened(problem: Problem) -> Session:
            self.problems.append(problem)
            self.asked.append([])
            return Listening(problem, twist, self)

        return opened


class Listening(Told):
    def __init__(self, problem: Problem, twist: Callable[[Outcome, Array], Outcome], log: Log) -> None:
        super().__init__(problem, twist)
        self.log = log

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        (column,) = np.flatnonzero(objective)
        self.log.asked[-1].append((int(column), float(objective[column])))
        self.log.limits.append(limits)
        return super().maximise(objective, limits)


def test_two_solves_a_unit_layer_by_layer_one_if_the_first_settles_it() -> None:
    log = Log()
    leo(question(NETWORK, BOX, log.load()))
    assert [len(asked) for asked in log.asked] == [6, 5, 3]  # z2_0 and z3_0 are inactive
    assert [sign for _, sign in log.asked[1]] == [1, 1, -1, 1, -1]
    assert {(limit.above, limit.below) for limit in log.limits} == {(1e-6, 0.0)}


def test_a_stable_unit_has_no_binary_behind_and_bounds_become_big_ms() -> None:
    log = Log()
    leo(question(NETWORK, BOX, log.load()))
    assert [int(problem.integer.sum()) for problem in log.problems] == [0, 3, 4]  # of layer 2 the last alone
    honest, log = log, Log()
    leo(question(NETWORK, BOX, log.load(lambda outcome, _: Outcome(Status.FAILED))))
    assert [int(problem.integer.sum()) for problem in log.problems] == [0, 3, 6]
    assert honest.problems[2].upper.max() < log.problems[2].upper.max()


def test_only_what_is_wanted() -> None:
    log = Log()
    word = leo(question(NETWORK, BOX, log.load()), lambda node: [1, 2] if node.name == "node_h2" else [])
    assert len(log.problems) == 1
    assert list(word.below) == ["node_h2"]
    assert word.above["node_h2"].tolist() == [False, True, False]
    assert word.effort.solves == 4


def test_a_layer_without_finite_bounds_is_refused_and_says_why() -> None:
    network = chain(([[1, 1]], [0]), ([[1e13]], [-1e12]), ([[1]], [0]), box=BOX, dtype=np.float64)
    word = leo(question(network, BOX))
    assert list(word.below) == ["node_h1"]
    assert "no big-M" in word.reasons["node_h2"]


ANSWER = Outcome(Status.OPTIMAL, dual_bound=2.0, objective=2.0)


@pytest.mark.parametrize(
    ("end", "sign", "outcome", "stable", "expected"),
    [
        (5.0, 1.0, ANSWER, False, 2 + 2e-6),
        (-5.0, -1.0, ANSWER, False, -2 - 2e-6),
        (1.0, 1.0, ANSWER, False, 1.0),
        (5.0, 1.0, replace(ANSWER, dual_bound=0.0), True, 0.0),
        (5.0, 1.0, replace(ANSWER, dual_bound=-1e-9), True, 0.0),
        (5.0, 1.0, replace(ANSWER, dual_bound=-1.0), True, -1 + 1e-6),
        (5.0, 1.0, replace(ANSWER, dual_bound=np.inf), False, 5.0),
        (5.0, 1.0, replace(ANSWER, dual_bound=np.nan), False, 5.0),
        (5.0, 1.0, replace(ANSWER, status=Status.LIMIT), False, 2 + 2e-6),
        (5.0, 1.0, replace(ANSWER, status=Status.FAILED), False, 5.0),
        (5.0, 1.0, replace(ANSWER, status=Status.INFEASIBLE, dual_bound=-np.inf), False, 5.0),
    ],
)
def test_the_end_after_a_solve(end: float, sign: float, outcome: Outcome, stable: bool, expected: float) -> None:
    assert _tightened(end, sign, outcome, stable) == pytest.approx(expected, abs=1e-12)


def test_a_stop_in_the_middle_keeps_what_was_attested() -> None:
    left = iter([False] * 6)  # one for each layer and unit: the second layer, and of it the first unit
    word = leo(question(NETWORK, BOX, in_process, stop=lambda: next(left, True)))
    assert word.below["node_h2"].tolist() == [True, False, False]
    assert word.above["node_h2"].tolist() == [False, False, False]
    assert "node_h3" not in word.below
