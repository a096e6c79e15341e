"""The path of the data, from a model and a domain to a smaller model and what is promised about it.

    load -> domain -> prove (refute, bound, refute again) -> rewrite -> serialise -> re-read and check -> rename

``inspect`` is the same path, stopped before rewriting.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from reluce._version import __version__
from reluce.domain import Box, DomainLike, fit_data, load_data, make_box
from reluce.errors import Interrupted, UsageError
from reluce.facts import Facts, Guarantee, Refusal
from reluce.io import (
    Loaded,
    Sizes,
    commit,
    demand_writable,
    load,
    loads,
    measure,
    read_bytes,
    serialise,
    write_temporary,
)
from reluce.network import Array, Network, Opaque
from reluce.prove import Proof, ProverSettings, prove
from reluce.report import Report, layer_rows
from reluce.rewrite import Original, Rewriting, rewrite
from reluce.run import Deadline
from reluce.verify import Check, check, unchanged

PathLike = str | os.PathLike[str]
Data = PathLike | Mapping[str, Array] | Array


@dataclass(frozen=True)
class Settings:
    """What a run is determined by, besides model, domain and data.

    Parameters
    ----------
    budget
        The largest deviation of any output that is allowed, in units of the output; ``None``: none at all (exact).
    time_limit
        Seconds after which no new step of proving or rewriting starts; ``None`` for no limit.
    prover
        Seed and budgets of the provers.
    input_shapes
        Full ONNX shapes of inputs whose dimensions the model leaves open.
    """

    budget: float | None = None
    time_limit: float | None = None
    prover: ProverSettings = field(default_factory=ProverSettings)
    input_shapes: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError(f"budget {self.budget!r}: expected a positive number, or None for the exact guarantee")
        if self.time_limit is not None and not self.time_limit >= 0:
            raise UsageError(f"time limit {self.time_limit!r}: expected seconds, or None for no limit")


def parse_guarantee(text: str) -> float | None:
    """The budget of a guarantee in words: ``exact`` gives ``None``, ``within=EPS`` gives EPS.

    Raises
    ------
    UsageError
        For anything else, or an EPS that is not a positive number.
    """
    if text == "exact":
        return None
    name, _, value = text.partition("=")
    with suppress(ValueError):
        if name == "within" and 0 < float(value) < float("inf"):
            return float(value)
    raise UsageError(f"guarantee {text!r}: expected 'exact' or 'within=EPS' with a positive number EPS")


def compress(
    source: PathLike,
    target: PathLike,
    domain: DomainLike,
    *,
    data: Data | None = None,
    settings: Settings = Settings(),
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Make an ONNX model smaller without changing what it computes on a domain.

    Parameters
    ----------
    source, target
        Paths of the model and of the result (``.onnx`` or ``.onnx.gz``).
    domain
        A ``Box``, ranges such as ``"0,1"``, the path of an ``.npz`` with ``lo`` and ``hi``, or such arrays.
    data
        Samples that help to refute: a path, an array, or an array per input. They are never proof.
    settings
        Guarantee, budgets, seed.
    progress
        Told what is being worked on.

    Returns
    -------
    Report
        Sizes, verdicts, guarantee, deviation and seconds. ``report.cut_short`` tells that time ran out first.

    Raises
    ------
    ModelError, DomainError
        When the model or the domain cannot be read.
    CheckFailed
        When the result disagrees with the original; ``target`` is untouched.
    OutputError
        When ``target`` cannot be written.
    UsageError
        When ``target`` is ``source``.
    Interrupted
        When Ctrl-C came before anything was proved.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{os.fspath(target)}: the result would replace the original; give it another name")
    demand_writable(target)
    run = _Run(source, domain, data, settings, progress)
    with run.deadline.listening():
        loaded, box, proof = run.proved()
        progress("rewriting")
        rewriting = rewrite(
            Original(loaded.network, proof.facts, proof.bounds), settings.budget, lambda: run.deadline.passed
        )
        run.lap("rewrite")
        progress("checking the result")
        result, rewriting = _smaller(loaded, box, rewriting, proof.facts)
        temporary = write_temporary(target, result)
        try:
            compressed, outcome = _checked(temporary, target, loaded, box, rewriting, proof.facts)
            sizes = measure(compressed)
            run.lap("verify")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        commit(temporary, target)
    return run.report(loaded, box, proof, rewriting, sizes, outcome)


def inspect(
    source: PathLike,
    domain: DomainLike,
    *,
    data: Data | None = None,
    settings: Settings = Settings(),
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Decide the units of a model without rewriting it; see ``compress`` for arguments and errors."""
    run = _Run(source, domain, data, settings, progress)
    with run.deadline.listening():
        loaded, box, proof = run.proved()
    return run.report(loaded, box, proof)


class _Run:
    """Clock, deadline and inputs of one run (local to ``compress`` and ``inspect``)."""

    def __init__(
        self,
        source: PathLike,
        domain: DomainLike,
        data: Data | None,
        settings: Settings,
        progress: Callable[[str], None],
    ) -> None:
        self.source, self.domain, self.data, self.settings, self.progress = source, domain, data, settings, progress
        self.deadline = Deadline(settings.time_limit)
        self.notes: tuple[str, ...] = ()
        self.seconds = dict.fromkeys(("load", "refute", "bounds", "rewrite", "verify"), 0.0)
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now

    def proved(self) -> tuple[Loaded, Box, Proof]:
        """Load, make the domain, prove."""
        self.progress("loading")
        loaded = load(self.source, input_shapes=self.settings.input_shapes)
        box = make_box(loaded.network, self.domain)
        samples = None if self.data is None else _samples(loaded.network, self.data)
        self.notes += () if samples is None else _outside(box, samples)
        self.lap("load")
        proof = prove(loaded.network, box, samples, self.settings.prover, lambda: self.deadline.passed, self.progress)
        self._last = time.perf_counter()
        self.seconds.update(proof.seconds)
        if self.deadline.interrupted and not proof.facts.stable:
            raise Interrupted("interrupted before anything was proved; nothing was written")
        return loaded, box, proof

    def report(
        self,
        loaded: Loaded,
        box: Box,
        proof: Proof,
        rewriting: Rewriting | None = None,
        compressed: Sizes | None = None,
        outcome: Check | None = None,
    ) -> Report:
        refusals: tuple[Refusal, ...] = () if rewriting is None else rewriting.refusals
        return Report(
            name=loaded.name,
            domain=box.description,
            assumption=box.assumption,
            model=measure(loaded),
            compressed=compressed,
            layers=layer_rows(loaded.network, proof.facts, None if rewriting is None else rewriting.kept),
            guarantee=None if rewriting is None else rewriting.guarantee,
            check=outcome,
            seconds={**self.seconds, "total": time.perf_counter() - self._start},
            refusals=refusals,
            notes=(*loaded.notes, *self.notes, *_opaque_notes(loaded.network)),
            cut_short=self.deadline.cut,
        )


def _samples(network: Network, data: Data) -> dict[str, Array]:
    if isinstance(data, str | os.PathLike):
        return load_data(network, Path(data))
    if isinstance(data, Mapping):
        return fit_data(network, data)
    return fit_data(network, {network.inputs[0]: data})


def _outside(box: Box, samples: Mapping[str, Array]) -> tuple[str, ...]:
    inside = box.contains(samples)
    lost = int((~inside).sum())
    if not lost:
        return ()
    return (f"{lost:,} of {inside.size:,} data samples lie outside the domain and were passed over",)


def _smaller(loaded: Loaded, box: Box, rewriting: Rewriting, facts: Facts) -> tuple[bytes, Rewriting]:
    """The file of a rewritten network, or the original where sharing weights had made it smaller than that."""
    result = serialise(loaded, rewriting.network, _metadata(loaded, box, rewriting.guarantee))
    again = loads(result, input_shapes=_fixed_shapes(loaded.network))
    if measure(again).parameters <= measure(loaded).parameters:
        return result, rewriting
    why = "weights that several nodes share would have to be stored for each, and the file would grow"
    whole = replace(
        rewriting,
        network=loaded.network,
        guarantee=replace(
            rewriting.guarantee, epsilons={name: 0 * values for name, values in rewriting.guarantee.epsilons.items()}
        ),
        kept={node: np.arange(layer.units) for node, layer in facts.layers.items()},
        refusals=(Refusal(loaded.name, "nothing removed", why),),
    )
    return loaded.data, whole


def _checked(
    temporary: Path, target: PathLike, loaded: Loaded, box: Box, rewriting: Rewriting, facts: Facts
) -> tuple[Loaded, Check]:
    """Read the file back from the disk, as a user would, and run it against the original."""
    stored = read_bytes(temporary, compressed=os.fspath(target).endswith(".gz"))
    if stored == loaded.data:
        return replace(loaded, data=stored), unchanged()
    shapes = _fixed_shapes(loaded.network)
    again = loads(stored, name=os.fspath(target), input_shapes=shapes)
    return again, check(loaded, again, box, rewriting.guarantee, facts.points)


def _fixed_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """The input shapes as they were resolved, so that the result is read the same way."""
    batch = (-1,) if network.batched else ()
    return {name: (*batch, *network.shape(name)) for name in network.inputs if network.tensors[name].shape is not None}


def _metadata(loaded: Loaded, box: Box, guarantee: Guarantee) -> dict[str, str]:
    level = guarantee.level if guarantee.level == "exact" else f"within={guarantee.budget!r}"
    return {
        "reluce.version": __version__,
        "reluce.original_sha256": hashlib.sha256(loaded.data).hexdigest(),
        "reluce.domain": box.description + (" (assumption)" if box.assumption else ""),
        "reluce.domain_sha256": box.digest,
        "reluce.guarantee": level,
        "reluce.epsilon": repr(guarantee.epsilon),
    }


def _opaque_notes(network: Network) -> list[str]:
    kinds = Counter(node.op.kind for node in network.nodes if isinstance(node.op, Opaque))
    if not kinds:
        return []
    listed = ", ".join(f"{kind} x{count}" if count > 1 else kind for kind, count in sorted(kinds.items()))
    return [f"not modelled, passed through as they are: {listed}; units that they read are kept"]


__all__ = ["DomainLike", "Settings", "compress", "inspect", "parse_guarantee"]
