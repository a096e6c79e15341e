"""Decide every unit: refute first, bound, refute again what is left, then say what is known of each.

Order and budgets of all rungs stand here and in ``ProverSettings``; nothing else decides what is tried when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from reluce.bounds import Bounds, analyse
from reluce.domain import Box
from reluce.facts import Facts, Rung
from reluce.network import Array, Network
from reluce.prove._account import Account, Spent
from reluce.prove._attest import Effort, Question, attested, trusted
from reluce.prove._closing import Closing, ClosingSettings
from reluce.prove._evidence import Evidence
from reluce.prove._isa import isa
from reluce.prove._leo import leo
from reluce.prove._looks import all_data, first_look, second_look
from reluce.prove._refute import SearchSettings
from reluce.prove._steps import Memory, Steps
from reluce.prove._verdicts import layer_facts, standing
from reluce.prove._witnesses import Witnesses
from reluce.solve import open_session

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
    """The outcome of proving: facts about units, and the bounds behind them.

    ``seconds`` is the time by stage, ``spent`` by layer and rung; ``effort`` is what a solver was asked, if one was.
    ``evidence`` has the proofs that go beyond what ``bounds.analyse`` does by itself. ``recalled`` steps of an earlier
    run were proved again instead of being worked out.
    """

    facts: Facts
    bounds: Bounds
    seconds: Mapping[str, float]
    spent: Spent
    effort: Effort | None = None
    evidence: Evidence = field(default_factory=Evidence)
    recalled: int = 0


def prove(
    network: Network,
    box: Box,
    data: Mapping[str, Array] | None = None,
    settings: ProverSettings = ProverSettings(),
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda what: None,
    memory: Memory | None = None,
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
    memory
        Where the outcome of each step is kept, and what an earlier run has left there: it is proved again.

    Returns
    -------
    Proof
        Verdicts that are rigorous whatever ``stop`` did; with ``trust_solver`` some rest on a solver's word.
    """
    with threadpool_limits(1, "blas"):  # the products are small: threads that wait for each other cost up to ten times
        return _prove(network, box, data, settings, stop, progress, memory)


def _prove(
    network: Network,
    box: Box,
    data: Mapping[str, Array] | None,
    settings: ProverSettings,
    stop: Callable[[], bool],
    progress: Callable[[str], None],
    memory: Memory | None,
) -> Proof:
    generator = np.random.default_rng(settings.seed)
    witnesses = Witnesses(network, box, analyse(network, box, stop=lambda: True).intervals)
    account = Account(witnesses, progress)
    account.tell("refuting")
    if box.has_points and not stop():
        first_look(witnesses, box, data, generator, settings.first_look)
    account.lap("refute")
    if settings.method != "ladder":
        return _by_solver(witnesses, box, data, settings, stop, progress, account)
    bounds = analyse(network, box, stop, lambda layer: account.tell(f"bounding {layer}"))
    account.lap("bounds")
    steps = Steps(witnesses, memory, settings.seed, stop)
    if box.has_points and not stop():
        second_look(network, box, witnesses, bounds, data, steps, settings.search, account, stop)
    account.lap("refute")
    closing = Closing(network, box, witnesses, bounds, settings.closing, account, steps, stop)
    for node in witnesses.layers:
        closing.layer(node)
    account.lap("prove")
    bounds = closing.bounds  # may carry what was gained through the network
    return replace(_proof(witnesses, bounds, account, closing.evidence), recalled=steps.recalled)


def _proof(witnesses: Witnesses, bounds: Bounds, account: Account, evidence: Evidence) -> Proof:
    network = witnesses.network
    layers = {node.name: layer_facts(network, node, witnesses, bounds) for node in network.relus}
    for node in network.relus:
        for rung, seconds in bounds.settled[node.name].seconds.items() if node.name in bounds.settled else ():
            account.spend(node, rung, seconds)
    return Proof(Facts(layers, witnesses.points), bounds, account.seconds, account.spent, evidence=evidence)


def _by_solver(
    witnesses: Witnesses,
    box: Box,
    data: Mapping[str, Array] | None,
    settings: ProverSettings,
    stop: Callable[[], bool],
    progress: Callable[[str], None],
    account: Account,
) -> Proof:
    """Intervals and witnesses, then LEO or ISA; what they attest is used only where the user trusts the solver."""
    network = witnesses.network
    bounds = analyse(network, box, stop=lambda: True)
    account.lap("bounds")
    for node in witnesses.layers:
        witnesses.close(node, standing(node, bounds).stable)
    if data is not None and box.has_points:
        all_data(witnesses, data, stop)
    account.lap("refute")
    ask, rung = {"leo": (leo, Rung.LEO), "isa": (isa, Rung.ISA)}[settings.method]
    word = ask(
        Question(network, box, bounds, witnesses, partial(open_session, settings.solver, stop=stop), stop, progress)
    )
    account.lap("solve")
    layers = {
        node.name: attested(
            node, layer_facts(network, node, witnesses, bounds), bounds.intervals.get(node.inputs[0]), word
        )
        for node in network.relus
    }
    facts = Facts(layers, witnesses.points)
    if settings.trust_solver:
        facts, bounds = trusted(network, box, facts, bounds, rung)
    account.lap("bounds")
    return Proof(facts, bounds, account.seconds, account.spent, word.effort)
