"""ISA as published: one MILP of the whole network, whose solutions show as many states as possible at once.

P are the units never seen active, Q those never seen inactive; z is the binary of a ReLU:

    C(P, Q) = max sum_P p_i + sum_Q q_i    subject to  p_i <= z_i,  q_i <= 1 - z_i

Each solution with C > 0 removes what it shows from P and Q; C(P, Q) = 0 says that all of P are inactive and all of Q
are active. As p and q occur nowhere else, p = z and q = 1 - z at every optimum, of the relaxation too, so they are
substituted; a candidate that goes leaves the objective, which fixes its p or q at 0. Solvers without lazy constraints
are asked again instead. Points that were tried before (data, random ones) remove candidates first.

Departures. A candidate goes for what a solution claims, with z > 1/2 in place of z = 1, but it counts as refuted only
where the inputs of the solution, run through the network, show the sign rigorously; what no witness confirms (at g = 0
both states of z are feasible) is asked for by itself at the end. A solve that ran out of time, or whose bound is not
below 1/2, attests nothing.

Source: Serra, Yu, Kumar, Ramalingam, "Scaling up exact neural network compression by ReLU stability", NeurIPS 2021
(METHODS 2.1, 2.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce.network import Array, Node
from reluce.prove._attest import AT_THE_SIGN, Effort, Question, Word, answers, unit_of
from reluce.solve import Encoding, Limits, Outcome, Session, encode, obstacle

HALF = 0.5
"""An objective that is below it is 0, and a binary that is above it is 1."""


def isa(question: Question) -> Word:
    """Ask a solver for points that show states of units, until it claims that none is left to be shown.

    Parameters
    ----------
    question
        What to decide, with which solver; its witnesses have removed candidates already.

    Returns
    -------
    Word
        What the solver attests; nothing of the candidates that were left when it was stopped.
    """
    intervals, layers = question.bounds.intervals, question.witnesses.layers
    why = {node.name: obstacle(question.network, node.output, intervals) for node in layers}
    nodes = [node for node in layers if not why[node.name]]
    work = _Work(question, nodes, encode(question.network, [node.output for node in nodes], intervals))
    if work.left.any() and not question.stop():
        with question.load(work.encoding.problem) as session:
            work.run(session)
    below, above = ({node.name: work.attested_of(node, k, side) for k, node in enumerate(nodes)} for side in (P, Q))
    return Word(below, above, work.effort, {name: reason for name, reason in why.items() if reason})


P, Q = 0, 1
"""Rows of the tables below: the coordinates never seen active, and those never seen inactive."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The coordinates of pre-activations that have a binary, one entry each.

    ``place`` is the flat coordinate in the ReLU number ``layer``, ``unit`` counts the units of all ReLUs. ``value`` and
    ``binary`` are the columns of g and z.
    """

    layer: Array
    place: Array
    unit: Array
    value: Array
    binary: Array


def _coordinates(question: Question, encoding: Encoding, nodes: list[Node]) -> Coordinates:
    parts, first = [np.zeros((5, 0), dtype=np.int64)], 0
    for layer, node in enumerate(nodes):
        binary, g = encoding.switches[node.name].binary, encoding.columns[node.inputs[0]]
        place, unit = np.flatnonzero(binary >= 0), first + unit_of(node, g.shape)
        parts.append(np.stack([np.full(len(place), layer), place, *(x.ravel()[place] for x in (unit, g, binary))]))
        first += len(question.witnesses.positive[node.name])
    layers, places, units, values, binaries = np.concatenate(parts, axis=1)
    return Coordinates(layers, places, units, values, binaries)


class _Work:
    """The candidates of one run while they become fewer (local to ``isa``): masks, a row for P and one for Q."""

    def __init__(self, question: Question, nodes: list[Node], encoding: Encoding) -> None:
        self.question, self.nodes, self.encoding = question, nodes, encoding
        self.coordinates = _coordinates(question, encoding, nodes)
        self.effort = Effort()
        self.left = self.unseen()
        self.attested, self.doubted = np.zeros_like(self.left), np.zeros_like(self.left)

    def unseen(self) -> Array:
        """Those for which there is no rigorous witness."""
        witnesses = self.question.witnesses
        sides = (
            np.concatenate([np.zeros(0), *(side[node.name] for node in self.nodes)])
            for side in (witnesses.positive, witnesses.negative)
        )
        return np.stack([side[self.coordinates.unit] < 0 for side in sides])

    def run(self, session: Session) -> None:
        """Solve until the solver claims that nothing is left, then look into claims that no witness confirmed."""
        while self.left.any() and not self.question.stop():
            before = np.count_nonzero(self.left)
            self.question.progress(f"ISA: {before} candidates left")
            self._solve(session)
            if np.count_nonzero(self.left) == before:
                break  # it has shown nothing, and would show no more when asked again
        for side, k in np.argwhere(self.doubted):
            if not self.question.stop() and self.unseen()[side, k]:
                self._ask(session, side, k)

    def _solve(self, session: Session) -> None:
        at, left = self.coordinates, self.left
        objective = self.encoding.objective(at.binary, 1.0 * left[P] - left[Q])
        threshold = HALF - np.count_nonzero(left[Q])  # the objective lacks the 1 of each q = 1 - z
        outcome = self._maximised(session, objective, Limits(above=threshold, below=threshold))
        if answers(outcome, threshold) and not (left[P] & left[Q]).any():  # on both sides: then C >= 1 for certain
            self.attested, self.left = left, np.zeros_like(left)
        elif outcome.point is not None:
            active = outcome.point[at.binary] > HALF
            shown = left & np.stack([active, ~active])
            self.left = left & ~shown & self.unseen()
            self.doubted |= shown

    def _ask(self, session: Session, side: int, k: int) -> None:
        """Ask for the sign of one coordinate, as LEO does."""
        self.question.progress("ISA: a claim without a witness")
        objective = self.encoding.objective(self.coordinates.value[[k]], 1.0 if side == P else -1.0)
        self.attested[side, k] = answers(self._maximised(session, objective, AT_THE_SIGN), 0.0)

    def _maximised(self, session: Session, objective: Array, limits: Limits) -> Outcome:
        outcome = session.maximise(objective, limits)
        self.effort = self.effort.plus(outcome)
        self.question.try_out(self.encoding, outcome.point)
        return outcome

    def attested_of(self, node: Node, layer: int, side: int) -> Array:
        """What is attested of one ReLU, as a mask of its sample shape."""
        result = np.zeros(self.question.network.shape(node.output), dtype=bool)
        mine = (self.coordinates.layer == layer) & self.attested[side]
        result.ravel()[self.coordinates.place[mine]] = True
        return result
