"""ISA: candidates that go, claims that no witness confirms, and the traps of the published code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from solving import BOX, NETWORK, Told, false_claims, missing, question
from strategies import box_of, chain

from reluce.network import Array
from reluce.prove._isa import isa
from reluce.solve import Limits, Outcome, Problem, Session, Status


class Counting(Told):
    """Keeps the objectives."""

    objectives: list[Array]

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        self.objectives.append(objective)
        return super().maximise(objective, limits)


def counting(log: list[Array], twist: object = None) -> object:
    def load(problem: Problem) -> Session:
        session = Counting(problem, twist or (lambda outcome, _: outcome))  # type: ignore[arg-type]
        session.objectives = log
        return session

    return load


def test_witnesses_remove_candidates_before_the_first_solve() -> None:
    cold, warm = question(NETWORK, BOX), question(NETWORK, BOX)
    warm.witnesses.feed(BOX.sample(np.random.default_rng(0), 1000))
    first, second = isa(cold), isa(warm)
    assert second.effort.solves < first.effort.solves
    for word, asked in ((first, cold), (second, warm)):
        assert false_claims(word, asked) == missing(word, asked) == []


def test_each_solve_leaves_fewer_candidates() -> None:
    log: list[Array] = []
    isa(question(NETWORK, BOX, counting(log)))  # type: ignore[arg-type]
    sizes = [int(np.count_nonzero(objective)) for objective in log]
    assert len(sizes) > 2
    # A coordinate on both sides has the constant 1 and no entry; it gets one once a side is refuted.
    assert len({objective.tobytes() for objective in log}) == len(log)


def test_all_units_seen_leaves_nothing_to_ask() -> None:
    network = chain(([[1, 1], [1, -1]], [0, 0]), ([[1, 1]], [0]), box=BOX)

    def never(problem: Problem) -> Session:
        raise AssertionError("there is nothing to solve")

    asked = question(network, BOX, never)
    asked.witnesses.feed(BOX.corners(np.random.default_rng(0), 64))
    assert isa(asked).effort.solves == 0


def test_a_binary_that_is_not_quite_one_counts() -> None:
    """The published code compares p == 1, and takes a unit that it has just seen active for inactive."""

    def leaking(outcome: Outcome, _: Array) -> Outcome:
        return outcome if outcome.point is None else replace(outcome, point=outcome.point * (1 - 1e-6))

    asked = question(NETWORK, BOX, lambda problem: Told(problem, leaking))
    word = isa(asked)
    assert false_claims(word, asked) == []
    assert missing(word, asked) == []


def test_a_tie_is_not_refuted_by_its_binary() -> None:
    """The maximum of z2 is exactly 0 and z may be 1 there; the published code calls the unit unstable."""
    box = box_of((-1, 1))
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [-1]), ([[1]], [0]), box=box)
    asked = question(network, box)
    word = isa(asked)
    assert asked.bounds.intervals["z2"].upper[0] > 0
    assert asked.witnesses.positive["node_h2"][0] < 0 <= asked.witnesses.negative["node_h2"][0]
    assert word.below["node_h2"].tolist() == [True]


def test_out_of_time_is_not_stable() -> None:
    """The published code stores whatever is left when time runs out."""
    asked = question(NETWORK, BOX, lambda problem: Told(problem, lambda outcome, _: Outcome(Status.LIMIT, np.inf)))
    word = isa(asked)
    assert word.effort.unanswered == word.effort.solves == 1
    assert not any(mask.any() for mask in (*word.below.values(), *word.above.values()))


def test_a_bound_between_one_half_and_one_is_no_answer() -> None:
    shifted = question(NETWORK, BOX)
    shifted.witnesses.feed(BOX.sample(np.random.default_rng(0), 1000))
    halves = []
    for bound in (0.51, 0.49):
        asked = replace(shifted, load=lambda problem, bound=bound: Claiming(problem, bound))
        halves.append(sum(int(mask.sum()) for mask in isa(asked).below.values()))
    assert halves == [0, 2]


class Claiming(Told):
    """Claims a number of p and q that are 1 at the best, whatever the objective lacks as a constant."""

    def __init__(self, problem: Problem, bound: float) -> None:
        super().__init__(problem, lambda outcome, _: outcome)
        self.claim = bound

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        return Outcome(Status.OPTIMAL, dual_bound=self.claim - 0.5 + limits.below)


def test_a_layer_without_finite_bounds_is_left_out() -> None:
    network = chain(([[1, 1]], [0]), ([[1e13]], [-1e12]), ([[1]], [0]), box=BOX, dtype=np.float64)
    word = isa(question(network, BOX))
    assert list(word.below) == ["node_h1"]
    assert "no big-M" in word.reasons["node_h2"]
