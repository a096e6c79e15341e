"""The path of the data, from a model and a domain to a smaller model and what is promised about it.

    open -> domain -> prove (refute, bound, refute again) -> rewrite -> rebuild (and read back) -> check -> save

The same for every kind of model; what differs between them is behind ``reluce.io``.

``inspect`` is the same path, stopped before rewriting.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from reluce._version import __version__
from reluce.domain import Box, DomainLike
from reluce.errors import Interrupted
from reluce.facts import Facts, Guarantee, Refusal, Rung
from reluce.inputs import Data, domain_of, outside, samples_of
from reluce.io import Loaded, OnnxLoaded, Output, Sizes, demand_output, measure, open_model, rebuild, save
from reluce.network import Network, Opaque
from reluce.prove import Proof, prove
from reluce.report import Report, SolverUse, layer_rows, rung_rows
from reluce.result import Result
from reluce.rewrite import Original, Rewriting, rewrite
from reluce.run import Deadline
from reluce.settings import DEFAULTS, Settings
from reluce.verify import Check, check, unchanged


def compress(
    model: Any,
    domain: DomainLike | None = None,
    *,
    output: Output | None = None,
    example_inputs: Any = None,
    domain_space: str = "input",
    data: Data | None = None,
    settings: Settings = DEFAULTS,
    progress: Callable[[str], None] = lambda what: None,
) -> Result:
    """Make a model smaller without changing what it computes on a domain.

    Parameters
    ----------
    model
        The path of an ``.onnx`` (``.onnx.gz``) or ``.nnet`` file, a file opened for reading bytes, an
        ``onnx.ModelProto``, a ``torch.nn.Module``, a scikit-learn ``MLPClassifier`` or ``MLPRegressor``, or a
        ``Pipeline`` of a scaler and one of these. It is never changed.
    domain
        A ``Box``, ranges such as ``"0,1"``, the path of an ``.npz`` with ``lo`` and ``hi`` or of a VNN-LIB file, or
        such arrays; ``None`` for the ranges that the model states itself.
    output
        Where to write the result of an ONNX or ``.nnet`` model: a path (``.onnx`` or ``.onnx.gz``), or a file opened
        for writing bytes.
    example_inputs
        For a ``torch.nn.Module``: a tensor, a tuple of tensors, or a mapping of argument names to tensors.
    domain_space
        For a ``Pipeline``: ``"input"`` where the domain is that of the pipeline's own inputs, ``"scaled"`` where it is
        that of what the scaler makes of them.
    data
        Samples of the model's inputs that help to refute: a path, an array, or an array per input. Never proof.
    settings
        Guarantee, budgets, seed.
    progress
        Told what is being worked on.

    Returns
    -------
    Result
        ``.model``, ``.report`` and ``.verdicts``. ``.report.cut_short`` tells that time ran out first.

    Raises
    ------
    ModelError, DomainError
        When the model or the domain cannot be read.
    CheckFailed
        When the result disagrees with the original; ``output`` is untouched.
    OutputError
        When ``output`` cannot be written.
    UsageError
        When the arguments do not go together, or ``output`` is the model's own file.
    Interrupted
        When Ctrl-C came before anything was proved.
    """
    run = _Run(domain, domain_space, data, settings, progress)
    with run.deadline.listening():
        loaded = run.opened(model, example_inputs)
        demand_output(model, loaded, output)
        box, proof = run.proved(loaded)
        progress("rewriting")
        rewriting = rewrite(
            Original(loaded.network, proof.facts, proof.bounds), settings.budget, lambda: run.deadline.passed
        )
        run.lap("rewrite")
        progress("checking the result")
        small, rewriting = _smaller(loaded, box, rewriting, proof.facts, run.solver(proof))
        outcome = unchanged() if small is loaded else check(loaded, small, box, rewriting.guarantee, proof.facts.points)
        sizes = measure(small)
        save(small, output)
        run.lap("verify")
    return Result(run.report(loaded, box, proof, rewriting, sizes, outcome), small)


def inspect(
    model: Any,
    domain: DomainLike | None = None,
    *,
    example_inputs: Any = None,
    domain_space: str = "input",
    data: Data | None = None,
    settings: Settings = DEFAULTS,
    progress: Callable[[str], None] = lambda what: None,
) -> Result:
    """Decide the units of a model without rewriting it; see ``compress`` for arguments and errors."""
    run = _Run(domain, domain_space, data, settings, progress)
    with run.deadline.listening():
        loaded = run.opened(model, example_inputs)
        box, proof = run.proved(loaded)
    return Result(run.report(loaded, box, proof), loaded)


class _Run:
    """Clock, deadline and inputs of one run (local to ``compress`` and ``inspect``)."""

    def __init__(
        self,
        domain: DomainLike | None,
        domain_space: str,
        data: Data | None,
        settings: Settings,
        progress: Callable[[str], None],
    ) -> None:
        self.domain, self.domain_space, self.data = domain, domain_space, data
        self.settings, self.progress = settings, progress
        self.deadline = Deadline(settings.time_limit)
        self.notes: tuple[str, ...] = ()
        last = "prove" if settings.prover.method == "ladder" else "solve"
        self.seconds = dict.fromkeys(("load", "refute", "bounds", last, "rewrite", "verify"), 0.0)
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now

    def opened(self, model: Any, example_inputs: Any) -> Loaded:
        self.progress("loading")
        return open_model(model, input_shapes=self.settings.input_shapes, example_inputs=example_inputs)

    def proved(self, loaded: Loaded) -> tuple[Box, Proof]:
        """Make the domain, prove."""
        box = domain_of(loaded, self.domain, self.domain_space)
        samples = None if self.data is None else samples_of(loaded, self.data)
        self.notes += box.notes + (() if samples is None else outside(box, samples))
        self.lap("load")
        proof = prove(loaded.network, box, samples, self.settings.prover, lambda: self.deadline.passed, self.progress)
        self._last = time.perf_counter()
        self.seconds.update(proof.seconds)
        if self.deadline.interrupted and not proof.facts.stable:
            raise Interrupted("interrupted before anything was proved; nothing was written")
        return box, proof

    def solver(self, proof: Proof) -> SolverUse | None:
        """What a solver was asked, if one was."""
        if proof.effort is None:
            return None
        prover = self.settings.prover
        return SolverUse(prover.method, prover.solver, prover.trust_solver, **asdict(proof.effort))

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
        kept, solver = None if rewriting is None else rewriting.kept, self.solver(proof)
        return Report(
            name=loaded.name,
            domain=box.description,
            assumption=box.assumption,
            model=measure(loaded),
            compressed=compressed,
            layers=layer_rows(proof.facts, kept, solver is not None),
            guarantee=None if rewriting is None else rewriting.guarantee,
            check=outcome,
            seconds={**self.seconds, "total": time.perf_counter() - self._start},
            refusals=refusals,
            notes=(*loaded.notes, *self.notes, *_opaque_notes(loaded.network)),
            cut_short=self.deadline.cut,
            solver=solver,
            rungs=rung_rows(proof.facts, proof.spent),
        )


def _smaller(
    loaded: Loaded, box: Box, rewriting: Rewriting, facts: Facts, solver: SolverUse | None
) -> tuple[Loaded, Rewriting]:
    """The model of a rewritten network, or the original where sharing weights had made it smaller than that."""
    promised = _labelled(rewriting, facts)
    small = rebuild(loaded, rewriting.network, _metadata(loaded, box, promised.guarantee, solver))
    if small is loaded:
        return small, rewriting
    if measure(small).parameters <= measure(loaded).parameters:
        return small, promised
    why = "weights that several nodes share would have to be stored for each, and the model would grow"
    whole = replace(
        rewriting,
        network=loaded.network,
        guarantee=replace(
            rewriting.guarantee, epsilons={name: 0 * values for name, values in rewriting.guarantee.epsilons.items()}
        ),
        kept={node: np.arange(layer.units) for node, layer in facts.layers.items()},
        coordinates={},
        refusals=(Refusal(loaded.name, "nothing removed", why),),
    )
    return loaded, whole


def _labelled(rewriting: Rewriting, facts: Facts) -> Rewriting:
    """A promise that rests on a solver's word says so, whatever its epsilon is."""
    if all(rung not in (Rung.LEO, Rung.ISA) for layer in facts.layers.values() for rung in layer.rung):
        return rewriting
    return replace(rewriting, guarantee=replace(rewriting.guarantee, level="attested"))


def _metadata(loaded: Loaded, box: Box, guarantee: Guarantee, solver: SolverUse | None) -> dict[str, str]:
    if not isinstance(loaded, OnnxLoaded):
        return {}
    level = f"within={guarantee.budget!r}" if guarantee.level == "within" else guarantee.level
    attested = {"reluce.attested_by": str(solver)} if guarantee.level == "attested" else {}
    return {
        "reluce.version": __version__,
        "reluce.original_sha256": hashlib.sha256(loaded.data).hexdigest(),
        "reluce.domain": box.description + (" (assumption)" if box.assumption else ""),
        "reluce.domain_sha256": box.digest,
        "reluce.guarantee": level,
        "reluce.epsilon": repr(guarantee.epsilon),
        **attested,
    }


def _opaque_notes(network: Network) -> list[str]:
    kinds = Counter(node.op.kind for node in network.nodes if isinstance(node.op, Opaque))
    if not kinds:
        return []
    listed = ", ".join(f"{kind} x{count}" if count > 1 else kind for kind, count in sorted(kinds.items()))
    return [f"not modelled, passed through as they are: {listed}; units that they read are kept"]
