"""The path of the data, from a model and a domain to a smaller model and what is promised about it.

    open -> domain -> prove (refute, bound, refute again) -> rewrite -> rebuild, read back -> certify -> run -> save

A guard, where one is asked for, is in the file that is certified; the network is run without it, then with it.

The same for every kind of model; what differs between them is behind ``reluce.io``.

``inspect`` is the same path, stopped before rewriting.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reluce.bounds import Bounds
from reluce.certificate import Certified, Guard, Made, Where, certificate_path, certify, files_of, nothing
from reluce.domain import Box, DomainLike
from reluce.errors import Interrupted, UsageError
from reluce.facts import Facts, Guarantee, Refusal, Rung
from reluce.guarantee import Allowance, Exact, allowance
from reluce.guard import GuardCheck, check_guard, with_guard
from reluce.inputs import Data, domain_of, outside, samples_of
from reluce.io import (
    GUARD,
    Loaded,
    Output,
    Sizes,
    demand_guardable,
    demand_output,
    measure,
    onnx_bytes,
    open_model,
    puts_out_logits,
    rebuild,
    save,
    takes_selections,
)
from reluce.journal import demand_free, journal_of
from reluce.metadata import complaint, described, spent_before, spent_if_shifted
from reluce.network import Array, Network, Opaque
from reluce.prove import Proof, prove
from reluce.query import Pair, PathLike, demand_query, equivalence_query, pair_of
from reluce.report import Report, SolverUse, certificate_row, layer_rows, rung_rows
from reluce.result import Result
from reluce.rewrite import STEPS, Original, Rewriting, Rewritten, rewrite
from reluce.run import Deadline, Journal
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
    certificate: Where = None,
    guard: bool = False,
    vnnlib: PathLike | None = None,
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
    certificate
        Where the certificate goes, which ``reluce-check`` proves from the files alone; by default next to ``output``,
        where that is a path. ``False`` for none: then nothing vouches for the result but Reluce itself. For a model
        that is no ONNX file, original and result are written as ONNX as well, beside the certificate, and its claim is
        about these two files.
    guard
        Whether the result of an ONNX or ``.nnet`` model gets one more output, ``in_domain``: for each sample whether it
        lies in the domain, outside of which nothing is promised. Never true for NaN.
    vnnlib
        Where to write the claim as a question to other verifiers, a VNN-LIB 2 query on the two ONNX files
        (``.vnnlib`` or ``.vnnlib.gz``): unsat where the claim holds.
    settings
        Guarantee, provers, time limit.
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
        When the arguments do not go together, ``output`` is the model's own file, or the model cannot have a guard.
    Interrupted
        When Ctrl-C came before anything was proved.
    """
    run = _Run(domain, domain_space, data, settings, progress)
    with run.deadline.listening():
        loaded = run.opened(model, example_inputs)
        demand_output(model, loaded, output)
        if guard:
            demand_guardable(loaded)
        if settings.softmax_shift:
            _demand_shiftable(loaded, vnnlib)
        if settings.skips and not takes_selections(loaded):
            raise UsageError(f"{loaded.name}: a model of this kind has no place for skips")
        place = certificate_path(certificate, output, model)
        demand_query(vnnlib, model, loaded, output, place, domain)
        demand_free(output, [place, vnnlib])
        box = run.boxed(loaded)
        with journal_of(output, loaded, box, settings) as journal:
            proof = run.proved(loaded, box, journal)
            progress("rewriting")
            made, certified = run.made(loaded, box, proof, place, partial(with_guard, box=box) if guard else None)
            progress("checking the result")
            finished = run.finished(loaded, box, proof, made, guard)
            beside = [] if certified is None or place is None else files_of(certified, place, output, model)
            if vnnlib is not None:
                pair = pair_of(model, loaded, finished.small, output, certified)
                beside += run.query(vnnlib, pair, loaded, box, made.guarantee)
            save(finished.small, output, beside)
            run.lap("verify")
            run.ended(journal)
    return Result(run.report(loaded, box, proof, made, certified, place, finished), finished.small, certified)


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
        box = run.boxed(loaded)
        proof = run.proved(loaded, box)
    return Result(run.report(loaded, box, proof), loaded)


@dataclass(frozen=True, eq=False)
class _Finished:
    """What is handed over, how large it is, and how it compared when it was run."""

    small: Loaded
    sizes: Sizes
    check: Check
    guard: GuardCheck | None = None


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
        self.samples: Mapping[str, Array] | None = None
        last = "prove" if settings.prover.method == "ladder" else "solve"
        self.seconds = dict.fromkeys(("load", "refute", "bounds", last, "rewrite", "certify", "verify"), 0.0)
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now

    def opened(self, model: Any, example_inputs: Any) -> Loaded:
        self.progress("loading")
        return open_model(model, input_shapes=self.settings.input_shapes, example_inputs=example_inputs)

    def boxed(self, loaded: Loaded) -> Box:
        """Make the domain, and read the samples."""
        box = domain_of(loaded, self.domain, self.domain_space)
        self.samples = samples = None if self.data is None else samples_of(loaded, self.data)
        self.notes += box.notes + (() if samples is None else outside(box, samples))
        if GUARD in loaded.network.outputs:
            self.notes += (
                f"output {GUARD!r} was there before: it tells of the domain that it was made for, not of this",
            )
        self.lap("load")
        return box

    def proved(self, loaded: Loaded, box: Box, journal: Journal | None = None) -> Proof:
        settings, stop = self.settings.prover, lambda: self.deadline.passed
        proof = prove(loaded.network, box, self.samples, settings, stop, self.progress, journal)
        self._last = time.perf_counter()
        self.seconds.update(proof.seconds)
        if proof.recalled:
            self.notes += (f"{proof.recalled} steps of an earlier run were proved again instead of worked out",)
        if self.deadline.interrupted and not proof.facts.stable:
            raise Interrupted("interrupted before anything was proved; nothing was written")
        return proof

    def finished(self, loaded: Loaded, box: Box, proof: Proof, made: Made, guard: bool) -> _Finished:
        """Run the result against the original; with a guard, run that as well."""
        small = made.small
        self.notes += _skip_notes(made.rewriting)
        outcome = unchanged() if small is loaded else check(loaded, small, box, made.guarantee, proof.facts.points)
        sizes = measure(small)
        if not guard:
            return _Finished(small, sizes, outcome)
        guarded = with_guard(small, box)
        sizes = replace(sizes, bytes=len(guarded.data))  # its ends are no parameters of the network
        return _Finished(guarded, sizes, outcome, check_guard(small, guarded, box))

    def ended(self, journal: Journal | None) -> None:
        """Remove the journal, unless a longer run could go on from it."""
        if journal is None:
            return
        self.notes += tuple(journal.notes)
        if self.deadline.cut and journal.holds_steps:
            self.notes += (f"what was proved is in {journal.path}: the same command with more time goes on from there",)
        else:
            journal.remove()

    def made(
        self, loaded: Loaded, box: Box, proof: Proof, place: Path | None, guard: Guard | None
    ) -> tuple[Made, Certified | None]:
        """Rewrite and rebuild; with a certificate, only what the independent checker accepts."""
        spent, level, shift = spent_before(loaded), self.settings.guarantee, self.settings.softmax_shift
        spent = spent_if_shifted(spent) if shift else spent
        self.notes += () if isinstance(level, Exact) else complaint(loaded, spent)
        allowed = allowance(level, loaded.network, box, proof.bounds, proof.facts, self.samples, spent)
        solver = self.solver(proof)
        steps = STEPS if takes_selections(loaded) else tuple(step for step in STEPS if step != "select")
        steps = (*steps, "skip") if self.settings.skips else steps

        def make(facts: Facts, bounds: Bounds | None, exact: bool) -> Made:
            if bounds is None:
                return _whole(loaded, make(facts, proof.bounds, exact), allowed, proof.facts)
            budget = {name: 0 * part for name, part in allowed.budget.items()} if exact else allowed.budget
            original, objective = Original(loaded.network, facts, bounds), self.settings.objective
            rewriting = rewrite(original, budget, lambda: self.deadline.passed, objective, steps, shift)
            return _smaller(loaded, box, rewriting, allowed, facts, solver)

        if place is None or _attested(proof.facts):
            made, certified = make(proof.facts, proof.bounds, exact=False), None
            if place is not None:
                self.notes += ("no certificate: what a solver attests cannot be proved to anyone else",)
            self.lap("rewrite")
            return made, certified
        points = {} if allowed.magnitudes is None else allowed.magnitudes.points
        found = certify(loaded, box, proof, make, onnx_bytes, points, _settings(self.settings), guard)
        self.lap("certify")
        if isinstance(found, str):
            self.notes += (f"no certificate, and so nothing was removed (--no-certificate): {found}",)
            return make(nothing(proof).facts, None, exact=True), None
        return found.made, found

    def query(
        self, place: PathLike, pair: Pair | None, loaded: Loaded, box: Box, guarantee: Guarantee
    ) -> list[tuple[PathLike, bytes]]:
        """The VNN-LIB query, where there are files for it to be about."""
        if pair is None:
            self.notes += ("no VNN-LIB query: without a certificate the models are in no ONNX files",)
            return []
        self.notes += (f"the claim as a VNN-LIB query is in {os.fspath(place)}",)
        return [(place, equivalence_query(pair, loaded, box, guarantee))]

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
        made: Made | None = None,
        certified: Certified | None = None,
        place: Path | None = None,
        finished: _Finished | None = None,
    ) -> Report:
        solver = self.solver(proof)
        return Report(
            name=loaded.name,
            domain=box.description,
            assumption=box.assumption,
            model=measure(loaded),
            compressed=None if finished is None else finished.sizes,
            layers=layer_rows(proof.facts, None if made is None else made.rewriting.kept, solver is not None),
            guarantee=None if made is None else made.guarantee,
            floats=None if made is None else made.rewriting.floats,
            check=None if finished is None else finished.check,
            guard=None if finished is None else finished.guard,
            certificate=None if certified is None or place is None else certificate_row(certified, place),
            seconds={**self.seconds, "total": time.perf_counter() - self._start},
            refusals=() if made is None else made.rewriting.refusals,
            notes=(*loaded.notes, *self.notes, *_opaque_notes(loaded.network)),
            cut_short=self.deadline.cut,
            solver=solver,
            rungs=rung_rows(proof.facts, proof.spent),
        )


def _demand_shiftable(loaded: Loaded, vnnlib: PathLike | None) -> None:
    """Find out before the work that nobody could see that logits are shifted, or that a query could not say so."""
    if vnnlib is not None:
        raise UsageError(
            "a VNN-LIB query asks whether outputs are the same, and --softmax-shift changes them: only one"
        )
    if not puts_out_logits(loaded):
        raise UsageError(
            f"--softmax-shift is for networks that put out logits; {loaded.name} applies softmax by itself"
        )


def _smaller(
    loaded: Loaded, box: Box, rewriting: Rewriting, allowed: Allowance, facts: Facts, solver: SolverUse | None
) -> Made:
    """The model of a rewritten network, or the original where sharing weights had made it smaller than that."""
    promised = _labelled(allowed.promise(rewriting.epsilons, rewriting.state.shifted), facts)
    small = rebuild(
        loaded, rewriting.network, described(loaded, box, promised, None if solver is None else str(solver))
    )
    if small is loaded:
        return Made(small, rewriting, allowed.promise(rewriting.epsilons))
    if measure(small).parameters <= measure(loaded).parameters:
        return Made(small, rewriting, promised)
    why = "weights that several nodes share would have to be stored for each, and the model would grow"
    whole = replace(rewriting, refusals=(Refusal(loaded.name, "nothing removed", why),))
    return _whole(loaded, Made(small, whole, promised), allowed, facts)


def _whole(loaded: Loaded, made: Made, allowed: Allowance, facts: Facts) -> Made:
    """The original in place of what was made of it."""
    epsilons = {name: 0 * values for name, values in made.rewriting.epsilons.items()}
    whole = replace(
        made.rewriting,
        state=Rewritten.nothing_done(loaded.network),
        epsilons=epsilons,
        kept={node: np.arange(layer.units) for node, layer in facts.layers.items()},
        floats=replace(made.rewriting.floats, after=made.rewriting.floats.before, deleted=0, unshown=0),
    )
    return Made(loaded, whole, allowed.promise(epsilons))


def _attested(facts: Facts) -> bool:
    """Whether any verdict rests on a solver's word."""
    return any(rung in (Rung.LEO, Rung.ISA) for layer in facts.layers.values() for rung in layer.rung)


def _labelled(guarantee: Guarantee, facts: Facts) -> Guarantee:
    """A promise that rests on a solver's word says so, whatever its epsilon is."""
    return replace(guarantee, level="attested") if _attested(facts) else guarantee


def _skip_notes(rewriting: Rewriting) -> tuple[str, ...]:
    around = rewriting.state.skips.items()
    return tuple(f"skip: what reads {h!r} reads {x!r} beside it, in place of its linear part" for h, x in around)


def _opaque_notes(network: Network) -> list[str]:
    kinds = Counter(node.op.kind for node in network.nodes if isinstance(node.op, Opaque))
    if not kinds:
        return []
    listed = ", ".join(f"{kind} x{count}" if count > 1 else kind for kind, count in sorted(kinds.items()))
    return [f"not modelled, passed through as they are: {listed}; units that they read are kept"]


def _settings(settings: Settings) -> dict[str, str]:
    """What the run was determined by, as text for the certificate."""
    prover = settings.prover
    limit = "none" if settings.time_limit is None else f"{settings.time_limit:g} s"
    return {
        "guarantee": str(settings.guarantee),
        "prover": prover.method,
        "seed": str(prover.seed),
        "time limit": limit,
    }
