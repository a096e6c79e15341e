"""LEO as published: layer by layer and unit by unit, the largest and the smallest pre-activation by a MILP each.

For a unit with pre-activation g over a domain D, and the layers in front of it as constraints:

    max g <= 0: inactive,    min g >= 0: active

Each solve stops at the sign: once its bound is below 0, or a solution is above. Its bound, if finite, is the big-M of
that unit in all later layers, and a unit that came out stable has no binary there. These bounds are a solver's word;
they stay in this prover's own model.

Source: Serra, Kumar, Ramalingam, "Lossless compression of deep neural networks", CPAIOR 2020 (METHODS 1.2, 1.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from reluce.bounds import RUNGS, Interval, Known, analyse
from reluce.facts import Rung
from reluce.network import Array, Node
from reluce.prove._attest import AT_THE_SIGN, ENDED, TOLERANCE, Effort, Question, Word, answers
from reluce.solve import Outcome, Status, encode, obstacle


def leo(question: Question, wanted: Callable[[Node], Iterable[int]] | None = None) -> Word:
    """Ask a solver for the extremes of each unit.

    Parameters
    ----------
    question
        What to decide, with which solver.
    wanted
        The (flat) coordinates of each ReLU to examine; all of them by default.

    Returns
    -------
    Word
        What the solver attests; where it was stopped, or gave no answer, nothing.
    """
    work = _Work(question)
    for node in question.witnesses.layers:
        if question.stop():
            break
        places = list(range(question.network.tensors[node.output].size) if wanted is None else wanted(node))
        if places:
            work.layer(node, places)
    return Word(work.below, work.above, work.effort, work.reasons)


class _Work:
    """The model of one run as its bounds improve (local to ``leo``)."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.intervals: Mapping[str, Interval] = question.bounds.intervals
        self.known: dict[str, Known] = {}
        self.below: dict[str, Array] = {}
        self.above: dict[str, Array] = {}
        self.reasons: dict[str, str] = {}
        self.effort = Effort()

    def layer(self, node: Node, places: list[int]) -> None:
        """Examine units of one ReLU, and keep their bounds for the layers behind it."""
        question, z_name = self.question, node.inputs[0]
        why = obstacle(question.network, z_name, self.intervals)
        if why:
            self.reasons[node.name] = why
            return
        z = self.intervals[z_name]
        upper, lower = z.upper.ravel().copy(), z.lower.ravel().copy()
        below, above = np.zeros(upper.shape, dtype=bool), np.zeros(upper.shape, dtype=bool)
        encoding = encode(question.network, [z_name], self.intervals)
        with question.load(encoding.problem) as session:
            for place in places:
                if question.stop():
                    break
                question.progress(f"LEO: {node.output}, unit {place + 1} of {len(upper)}")
                column = encoding.columns[z_name].ravel()[[place]]
                for sign, claim, end in ((1.0, below, upper), (-1.0, above, lower)):
                    outcome = session.maximise(encoding.objective(column, sign), AT_THE_SIGN)
                    self.effort = self.effort.plus(outcome)
                    question.try_out(encoding, outcome.point)
                    claim[place] = answers(outcome, 0.0)
                    end[place] = _tightened(end[place], sign, outcome, bool(claim[place]))
                    if claim[place]:
                        break  # inactive: the other end is not needed
        self._keep(node, below, above, lower, upper)

    def _keep(self, node: Node, below: Array, above: Array, lower: Array, upper: Array) -> None:
        z_name = node.inputs[0]
        z, crossed = self.intervals[z_name], lower > upper  # only a solver that contradicts itself gets there
        shape = z.lower.shape
        self.below[node.name], self.above[node.name] = (
            side.reshape(shape) & ~crossed.reshape(shape) for side in (below, above)
        )
        ends = (np.where(crossed, old.ravel(), new).reshape(shape) for old, new in ((z.lower, lower), (z.upper, upper)))
        self.known[z_name] = Known(Interval(*ends), np.full(z.lower.size, RUNGS.index(Rung.LEO)))
        question = self.question
        self.intervals = analyse(question.network, question.box, stop=lambda: True, known=self.known).intervals


def _tightened(end: float, sign: float, outcome: Outcome, stable: bool) -> float:
    """An end of an interval (``sign`` 1: the upper one) after a solve whose bound may serve as big-M."""
    if outcome.status not in (*ENDED, Status.LIMIT):
        return end
    bound = outcome.dual_bound + TOLERANCE * max(1.0, abs(outcome.dual_bound))
    bound = min(bound, 0.0) if stable else bound
    return sign * bound if bound < sign * end else end
