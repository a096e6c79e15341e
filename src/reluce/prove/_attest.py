"""What the provers that lean on a solver share: LEO and ISA, as published, give a solver's word, not a proof.

A solver works with tolerances, so what it says is ``attested``: shown, but not used unless the user trusts solvers.
Only a dual bound of a solve that ended counts. No answer, no bound, NaN, no counterexample found: nothing is attested.
Its solutions are hints as well; their inputs go through the network, and count as witnesses where that is rigorous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from reluce.bounds import RUNGS, Bounds, Interval, Known, analyse
from reluce.domain import Box
from reluce.facts import Facts, LayerFacts, Rung, Verdict
from reluce.network import Array, Network, Node, Relu
from reluce.prove._witnesses import Witnesses, by_unit
from reluce.solve import Encoding, Limits, Outcome, Problem, Session, Status

ENDED = (Status.OPTIMAL, Status.STOPPED)
"""How a solve ends that has answered its question."""


TOLERANCE = 1e-6
"""Feasibility tolerance of solvers: a solution this close to 0 shows no sign, and a bound may be wrong by as much."""

AT_THE_SIGN = Limits(above=TOLERANCE, below=0.0)
"""What a sign needs of a solve."""


@dataclass(frozen=True, eq=False)
class Question:
    """What a prover on a solver is given. ``witnesses`` fills up on the way; ``load`` opens a session on a problem."""

    network: Network
    box: Box
    bounds: Bounds
    witnesses: Witnesses
    load: Callable[[Problem], Session]
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[str], None] = lambda what: None

    def try_out(self, encoding: Encoding, point: Array | None) -> None:
        """Run the inputs of a solution through the network; what it shows there is rigorous."""
        if point is not None and np.isfinite(point).all() and self.box.has_points:
            self.witnesses.feed(self.box.clip(encoding.inputs(point, self.network.inputs)))


@dataclass(frozen=True)
class Effort:
    """What solving took. ``seconds`` is the solver's own time; ``unanswered`` counts solves that ended without one."""

    solves: int = 0
    nodes: int = 0
    seconds: float = 0.0
    unanswered: int = 0

    def plus(self, outcome: Outcome) -> Effort:
        """With one solve more."""
        lost = outcome.status not in ENDED
        return Effort(
            self.solves + 1, self.nodes + outcome.nodes, self.seconds + outcome.seconds, self.unanswered + lost
        )


@dataclass(frozen=True, eq=False)
class Word:
    """A solver's word on the pre-activations of ReLUs, by node name: masks of their sample shape.

    ``below`` says that z <= 0 on the domain, ``above`` that z >= 0. ``reasons`` says why a ReLU was not asked about.
    """

    below: Mapping[str, Array] = field(default_factory=dict)
    above: Mapping[str, Array] = field(default_factory=dict)
    effort: Effort = Effort()
    reasons: Mapping[str, str] = field(default_factory=dict)


def answers(outcome: Outcome, limit: float) -> bool:
    """Whether a solve ended with the claim that its maximum is at most ``limit``; NaN is no claim."""
    return outcome.status in ENDED and outcome.dual_bound <= limit


def unit_of(node: Node, shape: tuple[int, ...]) -> Array:
    """The unit that each coordinate of a ReLU's pre-activation belongs to, of its sample shape."""
    assert isinstance(node.op, Relu)
    return np.broadcast_to(np.indices(shape, sparse=True)[node.op.axis], shape)


def attested(node: Node, layer: LayerFacts, z: Interval | None, word: Word) -> LayerFacts:
    """What is known of a layer, with the solver's word on its undecided units; a witness against it disproves it."""
    reason = layer.reason or (word.reasons.get(node.name, "") if layer.count(Verdict.UNDECIDED) else "")
    if z is None or node.name not in word.below:
        return replace(layer, reason=reason)
    below, above = word.below[node.name] | (z.upper <= 0), word.above[node.name] | (z.lower >= 0)
    inactive, active = (by_unit(mask[None], node)[0].all(axis=0) for mask in (below, above))
    unsettled = layer.verdict == Verdict.UNDECIDED
    said = np.select(
        [unsettled & inactive & (layer.positive < 0), unsettled & active & (layer.negative < 0)],
        [Verdict.INACTIVE, Verdict.ACTIVE],
        Verdict.UNDECIDED,
    )
    return replace(layer, attested=said.astype(np.int8), reason=reason)


def trusted(network: Network, box: Box, facts: Facts, bounds: Bounds, rung: Rung) -> tuple[Facts, Bounds]:
    """Facts and bounds that hold if the solver is right in all that it attests.

    Whatever these bounds settle beyond the proved ones rests on the solver's word, so it bears its name. A word that
    contradicts itself, or what is proved, is not followed at all.
    """
    known = {}
    for node in network.relus:
        said = facts.layers[node.name].attested
        if (said != Verdict.UNDECIDED).any():
            z = bounds.intervals[node.inputs[0]]
            each = said[unit_of(node, z.lower.shape)]
            lower = np.where(each == Verdict.ACTIVE, np.maximum(z.lower, 0.0), z.lower)
            upper = np.where(each == Verdict.INACTIVE, np.minimum(z.upper, 0.0), z.upper)
            known[node.inputs[0]] = Known(Interval(lower, upper, z.slack), np.full(z.lower.size, RUNGS.index(rung)))
    if not known:
        return facts, bounds
    found = analyse(network, box, stop=lambda: True, known=known)
    empty = any(bool((z.lower > z.upper).any()) for z in found.intervals.values())
    layers = {node.name: _relying(node, facts.layers[node.name], found, rung) for node in network.relus}
    if empty or None in layers.values():
        return facts, bounds
    return replace(facts, layers={name: layer for name, layer in layers.items() if layer is not None}), found


def _relying(node: Node, layer: LayerFacts, bounds: Bounds, rung: Rung) -> LayerFacts | None:
    """What is known of a layer within bounds that rest on a solver's word; None where a witness lies outside them."""
    z = bounds.intervals.get(node.inputs[0])
    if z is None:
        return layer
    lower, upper = by_unit(z.lower[None], node)[0].min(axis=0), by_unit(z.upper[None], node)[0].max(axis=0)
    if ((upper <= 0) & (layer.positive >= 0) | (lower >= 0) & (layer.negative >= 0)).any():
        return None
    inactive, active = (side & (layer.verdict == Verdict.UNDECIDED) for side in (upper <= 0, lower >= 0))
    said = np.select([inactive, active], [Verdict.INACTIVE, Verdict.ACTIVE], Verdict.UNDECIDED).astype(np.int8)
    return replace(
        layer,
        verdict=np.where(said == Verdict.UNDECIDED, layer.verdict, said),
        attested=said,
        rung=tuple(rung if new else old for new, old in zip(said != Verdict.UNDECIDED, layer.rung, strict=True)),
        lower=lower,
        upper=upper,
    )
