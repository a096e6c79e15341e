"""From proofs and a rewriting to a certificate that the independent checker accepts, or to a smaller rewriting.

What the checker does not accept is dropped with all that depends on it, and the network is rewritten without: first
more evidence is handed over, then the verdicts that it names are given up, then every deviation, then the rewriting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from reluce.bounds import Bounds
from reluce.certificate._ground import Ground, grounds, supported, without
from reluce.certificate._write import Subject, claimed, write_certificate
from reluce.domain import Box
from reluce.facts import Facts, Guarantee, Refusal, Verdict
from reluce.io import GUARD, Loaded
from reluce.network import Array, Network
from reluce.prove import Proof
from reluce.rewrite import Rewriting
from reluce_checker import Domain, NotProved, Proved, Unreadable, check

ROUNDS = 4
"""So often verdicts that the checker does not accept are given up one layer at a time."""


@dataclass(frozen=True, eq=False)
class Made:
    """One rewriting, as a model, with what is promised of it."""

    small: Loaded
    rewriting: Rewriting
    guarantee: Guarantee


class Make(Protocol):
    """Rewrites with what is known, exactly or within the budget, and builds the model; without bounds, the original."""

    def __call__(self, facts: Facts, bounds: Bounds | None, exact: bool) -> Made: ...


class AsOnnx(Protocol):
    """The bytes of the ONNX file that a claim about a model is about, with the names of a network."""

    def __call__(self, model: Loaded, like: Network) -> bytes: ...


Guard = Callable[[Loaded], Loaded]
"""Puts a guard into a model."""


@dataclass(frozen=True, eq=False)
class Certified:
    """A rewriting that the checker has proved, from the bytes of these three files."""

    made: Made
    facts: Facts
    original: bytes
    compressed: bytes
    certificate: bytes
    proved: Proved


def certify(
    loaded: Loaded,
    box: Box,
    proof: Proof,
    make: Make,
    as_onnx: AsOnnx,
    points: Mapping[str, Array],
    settings: Mapping[str, Any],
    guard: Guard | None = None,
) -> Certified | str:
    """Rewrite a network so that a certificate of it passes the independent checker.

    Parameters
    ----------
    loaded, box, proof
        The model, its domain, and what was proved.
    make, as_onnx
        Rewrites and builds; gives the bytes of a model.
    points
        Points of the domain at which the outputs are large, ``(points, *sample shape)`` per graph input.
    settings
        What the run was determined by, for the certificate.
    guard
        Puts a guard into the compressed model, if there is to be one: the certificate is about the file with it.

    Returns
    -------
    Certified or str
        Nothing in it is unproved; or why the checker cannot be satisfied even by the original itself.
    """
    work = _Work(loaded, box, proof, make, as_onnx, points, settings, guard)
    reason = ""
    for ground, exact in work.attempts():
        try:
            return work.attempt(ground, exact)
        except NotProved as error:
            reason, work.wrong = str(error), {error.tensor: np.array(error.rows)} if error.rows else {}
        except Unreadable as error:
            reason = str(error)
    return reason


class _Work:
    """One search for a certificate (local to ``certify``)."""

    def __init__(
        self,
        loaded: Loaded,
        box: Box,
        proof: Proof,
        make: Make,
        as_onnx: AsOnnx,
        points: Mapping[str, Array],
        settings: Mapping[str, Any],
        guard: Guard | None,
    ) -> None:
        self.loaded, self.box, self.proof, self.make = loaded, box, proof, make
        self.as_onnx, self.points, self.settings, self.guard = as_onnx, points, settings, guard
        self.original = as_onnx(loaded, loaded.network)
        self.wrong: dict[str, Array] = {}
        self.removable: Mapping[str, Array] | None = None  # what the rewriting with all that was proved has kept

    @property
    def network(self) -> Network:
        return self.loaded.network

    def attempts(self) -> Iterator[tuple[Ground, bool | None]]:
        """What to stand on, and whether to allow no deviation: each is tried only if those before did not pass."""
        facts, bounds = self.proof.facts, self.proof.bounds
        ground = supported(self.network, facts, bounds)
        if self.proof.evidence.records:
            full = self.make(facts, bounds, False).rewriting
            self.removable = full.kept
            wanted = claimed(self.network, ground, full.kept, full.state)
            for ground in grounds(self.network, self.box, facts, self.proof.evidence.records, wanted):
                yield ground, False
        else:
            yield ground, False
        for _ in range(ROUNDS):
            if not self.wrong:
                break
            ground = without(ground, self.network, self.wrong)
            yield ground, False
        yield ground, True
        yield nothing(self.proof), True
        yield nothing(self.proof), None

    def attempt(self, ground: Ground, exact: bool | None) -> Certified:
        """Rewrite, write a certificate, and have it checked; ``exact`` is None for the original as it is."""
        self.wrong = {}
        made = self.make(ground.facts, None if exact is None else ground.bounds, exact is not False)
        if self.removable is None:
            self.removable = made.rewriting.kept
        small = made.small if self.guard is None else self.guard(made.small)
        compressed = self.as_onnx(small, made.rewriting.network)
        subject = Subject(self.original, compressed, self.box, None if self.guard is None else GUARD)
        rewriting = made.rewriting
        data = write_certificate(
            subject,
            self.network,
            ground,
            made.guarantee,
            rewriting.kept,
            rewriting.state,
            self.points,
            self.settings,
        )
        ends: Domain = {name: (low.ravel(), self.box.upper[name].ravel()) for name, low in self.box.lower.items()}
        proved = check(self.original, compressed, data, lambda graph: ends)
        lost = _lost(self.proof.facts, ground.facts, made, self.removable)
        return Certified(
            replace(made, rewriting=replace(rewriting, refusals=(*rewriting.refusals, *lost))),
            ground.facts,
            self.original,
            compressed,
            data,
            proved,
        )


def nothing(proof: Proof) -> Ground:
    """No verdicts at all: what is rewritten then needs no proof."""
    layers = {
        name: replace(layer, verdict=np.full_like(layer.verdict, Verdict.UNDECIDED))
        for name, layer in proof.facts.layers.items()
    }
    return Ground(replace(proof.facts, layers=layers), proof.bounds)


def _lost(before: Facts, after: Facts, made: Made, removable: Mapping[str, Array] | None) -> list[Refusal]:
    """Stable units that were kept only because the checker did not accept the proof of it."""
    found = []
    for name, layer in before.layers.items():
        kept = made.rewriting.kept[name]
        kept = kept[kept >= 0]
        lost = kept[layer.verdict[kept] != after.layers[name].verdict[kept]]
        count = len(lost if removable is None else np.setdiff1d(lost, removable[name]))
        if count:
            what = f"{count} stable {'unit' if count == 1 else 'units'} kept"
            found.append(Refusal(layer.layer, what, "the independent checker did not accept the certificate of it"))
    return found
