"""Decide every unit: refute first, bound, refute again what is left, then say what is known of each.

Order and budgets of all rungs stand here and in ``ProverSettings``; nothing else decides what is tried when.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from reluce.bounds import RUNGS, Bounds, Corners, analyse, exact_cost
from reluce.domain import Box
from reluce.facts import Facts, LayerFacts, Rung, Verdict
from reluce.network import Array, Network, Node, Relu
from reluce.prove._attest import Effort, Question, attested, trusted
from reluce.prove._closing import Closing, ClosingSettings
from reluce.prove._isa import isa
from reluce.prove._leo import leo
from reluce.prove._refute import Search, SearchSettings
from reluce.prove._witnesses import BATCH, LACKING, Witnesses, by_unit
from reluce.solve import open_session

EXACT_POINTS = 5_000_000
"""Multiplications that exact evaluation of candidate witnesses may spend."""

MOST_NUMBERS = 20_000_000
"""Numbers in the points that are tried at first (160 MB): networks with very large inputs get fewer points."""


Method = Literal["ladder", "leo", "isa"]
"""Who decides the units: the provers of this module, or those that lean on a solver."""


@dataclass(frozen=True)
class ProverSettings:
    """What the provers may spend; part of what a run is determined by.

    ``seed`` fixes every random choice. ``first_look`` random points and as many data points are tried on all units
    before any bound is computed; all data are tried on the units that the bounds leave open. ``method`` is the
    ``ladder`` of this module, or ``leo`` or ``isa`` as published, on ``solver``; what a solver says counts as a verdict
    only with ``trust_solver``.
    """

    seed: int = 0
    method: Method = "ladder"
    solver: str = "highs"
    trust_solver: bool = False
    first_look: int = 1024
    search: SearchSettings = field(default_factory=SearchSettings)
    closing: ClosingSettings = field(default_factory=ClosingSettings)


@dataclass(frozen=True, eq=False)
class Proof:
    """The outcome of proving: facts about units, the bounds behind them, and the seconds that each part took.

    ``effort`` is what a solver was asked, if one was.
    """

    facts: Facts
    bounds: Bounds
    seconds: Mapping[str, float]
    effort: Effort | None = None


def prove(
    network: Network,
    box: Box,
    data: Mapping[str, Array] | None = None,
    settings: ProverSettings = ProverSettings(),
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda what: None,
) -> Proof:
    """Decide the units of every ReLU of a network on a box.

    Parameters
    ----------
    network, box
        The network and its domain.
    data
        Samples for refutation, ``(samples, *sample shape)`` per graph input; those outside the box are passed over.
    settings
        Seeds and budgets.
    stop
        Asked between steps; once True, what is not yet proved stays undecided.
    progress
        Told what is being worked on.

    Returns
    -------
    Proof
        Verdicts that are rigorous whatever ``stop`` did; with ``trust_solver`` some rest on a solver's word.
    """
    clock = _Clock()
    generator = np.random.default_rng(settings.seed)
    witnesses = Witnesses(network, box, analyse(network, box, stop=lambda: True).intervals)
    progress("refuting")
    if box.has_points and not stop():
        _first_look(witnesses, box, data, generator, settings)
    clock.lap("refute")
    if settings.method != "ladder":
        return _by_solver(witnesses, box, data, settings, stop, progress, clock)
    bounds = analyse(network, box, stop, lambda layer: progress(f"bounding {layer}"))
    clock.lap("bounds")
    if box.has_points and not stop():
        progress("refuting what is open")
        _second_look(network, box, witnesses, bounds, data, generator, settings, stop, progress)
    clock.lap("refute")
    closing = Closing(network, box, witnesses, bounds, settings.closing, stop)
    for node in witnesses.layers:
        progress(f"proving what is open in {node.output}")
        closing.layer(node)
    bounds = closing.bounds
    clock.lap("prove")
    layers = {node.name: _verdicts(network, node, witnesses, bounds) for node in network.relus}
    return Proof(Facts(layers, witnesses.points), bounds, clock.seconds)


def _by_solver(
    witnesses: Witnesses,
    box: Box,
    data: Mapping[str, Array] | None,
    settings: ProverSettings,
    stop: Callable[[], bool],
    progress: Callable[[str], None],
    clock: _Clock,
) -> Proof:
    """Intervals and witnesses, then LEO or ISA; what they attest is used only where the user trusts the solver."""
    network = witnesses.network
    bounds = analyse(network, box, stop=lambda: True)
    clock.lap("bounds")
    for node in witnesses.layers:
        witnesses.close(node, _known(network, node, bounds).stable)
    if data is not None and box.has_points:
        _all_data(witnesses, data, stop)
    clock.lap("refute")
    ask, rung = {"leo": (leo, Rung.LEO), "isa": (isa, Rung.ISA)}[settings.method]
    word = ask(
        Question(network, box, bounds, witnesses, partial(open_session, settings.solver, stop=stop), stop, progress)
    )
    clock.lap("solve")
    layers = {
        node.name: attested(
            node, _verdicts(network, node, witnesses, bounds), bounds.intervals.get(node.inputs[0]), word
        )
        for node in network.relus
    }
    facts = Facts(layers, witnesses.points)
    if settings.trust_solver:
        facts, bounds = trusted(network, box, facts, bounds, rung)
    clock.lap("bounds")
    return Proof(facts, bounds, clock.seconds, word.effort)


def _first_look(
    witnesses: Witnesses,
    box: Box,
    data: Mapping[str, Array] | None,
    generator: np.random.Generator,
    settings: ProverSettings,
) -> None:
    if not witnesses.layers:
        return
    size = sum(low.size for low, _ in box.inner.values())
    points = min(settings.first_look, max(16, MOST_NUMBERS // max(1, size)))
    if data is not None:
        samples = len(next(iter(data.values())))
        chosen = np.sort(generator.permutation(samples)[:points])
        witnesses.feed({name: values[chosen] for name, values in data.items()})
    witnesses.feed(box.corners(generator, points // 4))
    witnesses.feed(box.sample(generator, points // 2))


def _second_look(
    network: Network,
    box: Box,
    witnesses: Witnesses,
    bounds: Bounds,
    data: Mapping[str, Array] | None,
    generator: np.random.Generator,
    settings: ProverSettings,
    stop: Callable[[], bool],
    progress: Callable[[str], None],
) -> None:
    exact_left = EXACT_POINTS
    for node in witnesses.layers:
        witnesses.close(node, _known(network, node, bounds).stable)
    for node in witnesses.layers:
        if stop():
            return
        corners = bounds.settled[node.name].corners
        witnesses.feed(corners.highest)
        witnesses.feed(corners.lowest)
        exact_left -= _exact_corners(network, box, node, witnesses, corners, exact_left)
    search = Search(network, box, witnesses, bounds.settled, generator, settings.search, stop)
    for node in witnesses.layers:
        if stop():
            return
        progress(f"searching witnesses for {node.output}")
        search.layer(node)
        cost = max(1, exact_cost(network, node.inputs[0]))
        exact_left -= cost * witnesses.settle_unclear(node, max(0, exact_left) // cost)
    if data is not None:
        progress("refuting with all data")
        _all_data(witnesses, data, stop)


def _all_data(witnesses: Witnesses, data: Mapping[str, Array], stop: Callable[[], bool]) -> None:
    samples = len(next(iter(data.values())))
    for start in range(0, samples, 4 * BATCH):
        if stop() or not any(mask.any() for node in witnesses.layers for mask in witnesses.open(node)):
            return
        witnesses.feed({name: values[start : start + 4 * BATCH] for name, values in data.items()})


def _exact_corners(network: Network, box: Box, node: Node, witnesses: Witnesses, corners: Corners, budget: int) -> int:
    """Where float64 cannot tell a sign at the most promising corners, let exact arithmetic tell; returns the cost."""
    cost = max(1, exact_cost(network, node.inputs[0]))
    if cost > budget or not any(mask.any() for mask in witnesses.open(node)):
        return 0
    ends = {name: np.stack(pair) for name, pair in box.inner.items()}
    points = {name: np.concatenate([ends[name], corners.highest[name], corners.lowest[name]]) for name in ends}
    promising = np.flatnonzero(witnesses.unclear(node, points))[: budget // cost]
    for row in promising:
        witnesses.feed_exactly(node, {name: values[row] for name, values in points.items()})
    return cost * len(promising)


@dataclass(frozen=True, eq=False)
class _Known:
    """What the bounds say about the units of a ReLU, over all their positions; one entry per unit."""

    lower: Array
    upper: Array
    constant: Array

    @property
    def stable(self) -> Array:
        return np.asarray(self.constant | (self.upper <= 0) | (self.lower >= 0))


def _known(network: Network, node: Node, bounds: Bounds) -> _Known:
    z = bounds.intervals[node.inputs[0]]
    return _Known(
        by_unit(z.lower[None], node)[0].min(axis=0),
        by_unit(z.upper[None], node)[0].max(axis=0),
        by_unit(bounds.constants[node.inputs[0]].constant[None], node)[0].all(axis=0),
    )


def _verdicts(network: Network, node: Node, witnesses: Witnesses, bounds: Bounds) -> LayerFacts:
    z_name = node.inputs[0]
    settled = bounds.settled.get(node.name)
    if settled is None:
        return _unknown(network, node)
    known = _known(network, node, bounds)
    nothing = np.full(len(known.lower), LACKING)
    positive, negative = (
        np.where(known.stable, LACKING, np.maximum(side.get(node.name, nothing), LACKING))
        for side in (witnesses.positive, witnesses.negative)
    )
    verdict = np.select(
        [known.constant, known.upper <= 0, known.lower >= 0, (positive >= 0) & (negative >= 0)],
        [Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE, Verdict.UNSTABLE],
        Verdict.UNDECIDED,
    ).astype(np.int8)
    rung = by_unit(settled.rung.reshape(1, *network.shape(z_name)), node)[0].max(axis=0)
    names = tuple(
        RUNGS[r] if v <= Verdict.ACTIVE else Rung.WITNESS if v == Verdict.UNSTABLE else Rung.NONE
        for r, v in zip(rung, verdict, strict=True)
    )
    reason = "" if node in witnesses.layers else "behind an operation that is not modelled"
    ends, signs = (known.lower, known.upper), (positive, negative)
    attested = np.full(len(verdict), Verdict.UNDECIDED, dtype=np.int8)
    return LayerFacts(node.output, node.name, verdict, names, *ends, *signs, attested, reason)


def _unknown(network: Network, node: Node) -> LayerFacts:
    """A ReLU whose pre-activation has no bounds at all: every unit is undecided."""
    assert isinstance(node.op, Relu)
    shape = network.tensors[node.output].shape
    units = 0 if not shape else shape[node.op.axis]
    nothing, everything = np.full(units, -1), np.full(units, np.inf)
    verdict = np.full(units, Verdict.UNDECIDED, dtype=np.int8)
    rung = (Rung.NONE,) * units
    why = "its shape is not known" if shape is None else "behind an operation that is not modelled"
    return LayerFacts(node.output, node.name, verdict, rung, -everything, everything, nothing, nothing, verdict, why)


class _Clock:
    """Adds up seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"refute": 0.0, "bounds": 0.0}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
