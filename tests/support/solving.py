"""Provers on solvers, for tests: HiGHS in this process, solvers that lie, and the check of a solver's word."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from oracle import ranges
from strategies import box_of, chain

from reluce.bounds import analyse
from reluce.domain import Box
from reluce.network import Array, Dense, Network
from reluce.prove._attest import Question, Word, unit_of
from reluce.prove._witnesses import Witnesses
from reluce.solve import Limits, Outcome, Problem, Session, Status, find_solver

Load = Callable[[Problem], Session]
LARGE, SMALL = 1000.0, 1e-3

BOX = box_of((-1, 1), (-1, 1))
FIRST = [[1, 1], [-1, -1], [1, -1]], [0, 0, 0.25]
SECOND = [[1, 1, 0], [-1, -1, 0], [1, -1, 1]], [-2.5, 2.5, 0.5]
THIRD = [[1, 0, 0], [0, 1, 1]], [-0.5, -1]
NETWORK = chain(FIRST, SECOND, THIRD, ([[1, 1]], [0]), box=BOX)
"""With s = x + y, z2 is |s| - 5/2 < 0, 5/2 - |s| > 0 and an unstable unit; z3 an inactive and an unstable one."""


def in_process(problem: Problem) -> Session:
    return find_solver("highs").load(problem)


def question(network: Network, box: Box, load: Load = in_process, stop: Callable[[], bool] = lambda: False) -> Question:
    """Intervals, and not one point that was tried before."""
    bounds = analyse(network, box, stop=lambda: True)
    return Question(network, box, bounds, Witnesses(network, box, bounds.intervals), load, stop)


def is_tame(case: tuple[Network, Box]) -> bool:
    """Whether all numbers are ones that a solver's tolerances do not touch."""
    network, box = case
    weights = [np.abs(node.op.weight.astype(float)) for node in network.nodes if isinstance(node.op, Dense)]
    sizes = [float(known.magnitude.max()) for known in analyse(network, box, lambda: True).intervals.values()]
    return box.has_points and max(sizes) < LARGE and all(bool(((w == 0) | (w > SMALL)).all()) for w in weights)


class Told(Session):
    """A session that makes something else of what HiGHS answers."""

    def __init__(self, problem: Problem, twist: Callable[[Outcome, Array], Outcome]) -> None:
        self.session, self.twist = in_process(problem), twist

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        return self.twist(self.session.maximise(objective, limits), objective)

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        self.session.bound(columns, lower, upper)

    def close(self) -> None:
        self.session.close()


def lying(problem: Problem) -> Session:
    """Claims for whatever it is asked that the maximum is -1."""
    return Told(problem, lambda outcome, _: Outcome(Status.OPTIMAL, dual_bound=-1.0))


def false_claims(word: Word, asked: Question, gap: Fraction = Fraction(1, 10**6)) -> list[str]:
    """What a solver's word says that is not so, by more than its tolerance."""
    truth, found = ranges(asked.network, asked.box), []
    for node in asked.network.relus:
        if node.name in word.below:
            least, most = truth[node.inputs[0]]
            below, above = word.below[node.name].ravel(), word.above[node.name].ravel()
            found += [f"{node.name} {k} below" for k in np.flatnonzero(below) if most[k] > gap]
            found += [f"{node.name} {k} above" for k in np.flatnonzero(above) if least[k] < -gap]
    return found


def missing(word: Word, asked: Question, gap: Fraction = Fraction(1, 1000)) -> list[str]:
    """What neither intervals nor a solver's word nor a witness settle, though it is no tie."""
    truth, found = ranges(asked.network, asked.box), []
    for node in asked.network.relus:
        z, (least, most) = asked.bounds.intervals[node.inputs[0]], truth[node.inputs[0]]
        positive, negative = (side[node.name] >= 0 for side in (asked.witnesses.positive, asked.witnesses.negative))
        for k, unit in enumerate(unit_of(node, z.lower.shape).ravel()):
            if not z.lower.flat[k] < 0 < z.upper.flat[k]:
                continue
            settled = bool(word.below[node.name].flat[k] | word.above[node.name].flat[k])
            if most[k] < -gap or least[k] > gap:  # or another position of the unit shows that it is not stable so
                settled = settled or bool((positive if most[k] < 0 else negative)[unit])
            elif not settled:
                settled = (most[k] <= gap or bool(positive[unit])) and (least[k] >= -gap or bool(negative[unit]))
            found += [] if settled else [f"{node.name} {k}: {float(least[k])} to {float(most[k])}"]
    return found
