"""The path of the data, from a model and a domain to a smaller model and what is promised about it.

    open -> domain -> prove (refute, bound, refute again) -> rewrite -> rebuild (and read back) -> check -> save

The same for every kind of model; what differs between them is behind ``reluce.io``.

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
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from reluce._version import __version__
from reluce.domain import Box, DomainLike, fit_data, load_data, make_box, scaled_box, stated_box
from reluce.errors import Interrupted, OutputError, UsageError
from reluce.facts import Facts, Guarantee, Refusal, Verdict
from reluce.io import (
    Loaded,
    OnnxLoaded,
    Sizes,
    commit,
    demand_writable,
    hand_over,
    measure,
    open_model,
    read_bytes,
    rebuild,
    write_temporary,
)
from reluce.network import Array, Network, Opaque
from reluce.prove import Proof, ProverSettings, prove
from reluce.report import Report, layer_rows
from reluce.rewrite import Original, Rewriting, rewrite
from reluce.run import Deadline
from reluce.verify import Check, check, unchanged

PathLike = str | os.PathLike[str]
Output = PathLike | BinaryIO
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


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of ``compress`` or ``inspect``; printing it shows the tables that the command line shows.

    Parameters
    ----------
    report
        Sizes, verdicts, guarantee, deviation and seconds.
    loaded
        The compressed model as read back, for ``inspect`` the original.
    """

    report: Report
    loaded: Loaded = field(repr=False)

    @cached_property
    def model(self) -> Any:
        """The compressed model (for ``inspect``: the original), of the kind that was given.

        An ``onnx.ModelProto`` for paths, files and ONNX objects, a ``torch.nn.Module``, a scikit-learn estimator.
        """
        return hand_over(self.loaded)

    @property
    def verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """For each ReLU, by its name in the report, the verdict of each unit of the original."""
        return {row.name: tuple(Verdict[verdict.upper()] for verdict in row.verdicts) for row in self.report.layers}

    def __str__(self) -> str:
        return str(self.report)


def compress(
    model: Any,
    domain: DomainLike | None = None,
    *,
    output: Output | None = None,
    example_inputs: Any = None,
    domain_space: str = "input",
    data: Data | None = None,
    settings: Settings = Settings(),
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
        A ``Box``, ranges such as ``"0,1"``, the path of an ``.npz`` with ``lo`` and ``hi`` or of a VNN-LIB file, or such
        arrays; ``None`` for the ranges that the model states itself.
    output
        Where to write the result of an ONNX or ``.nnet`` model: a path (``.onnx`` or ``.onnx.gz``), or a file opened for
        writing bytes.
    example_inputs
        For a ``torch.nn.Module``: a tensor, a tuple of tensors, or a mapping of argument names to tensors.
    domain_space
        For a ``Pipeline``: ``"input"`` where the domain is that of the pipeline's own inputs, ``"scaled"`` where it is
        that of what the scaler makes of them.
    data
        Samples of the model's inputs that help to refute: a path, an array, or an array per input. They are never proof.
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
    _demand_output(model, output)
    run = _Run(domain, domain_space, data, settings, progress)
    with run.deadline.listening():
        loaded = run.opened(model, example_inputs)
        _demand_onnx(loaded, output)
        box, proof = run.proved(loaded)
        progress("rewriting")
        rewriting = rewrite(
            Original(loaded.network, proof.facts, proof.bounds), settings.budget, lambda: run.deadline.passed
        )
        run.lap("rewrite")
        progress("checking the result")
        small, rewriting = _smaller(loaded, box, rewriting, proof.facts)
        outcome = unchanged() if small is loaded else check(loaded, small, box, rewriting.guarantee, proof.facts.points)
        sizes = measure(small)
        _save(small, output)
        run.lap("verify")
    return Result(run.report(loaded, box, proof, rewriting, sizes, outcome), small)


def inspect(
    model: Any,
    domain: DomainLike | None = None,
    *,
    example_inputs: Any = None,
    domain_space: str = "input",
    data: Data | None = None,
    settings: Settings = Settings(),
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
        self.seconds = dict.fromkeys(("load", "refute", "bounds", "rewrite", "verify"), 0.0)
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
        box = _domain(loaded, self.domain, self.domain_space)
        samples = None if self.data is None else _samples(loaded, self.data)
        self.notes += box.notes + (() if samples is None else _outside(box, samples))
        self.lap("load")
        proof = prove(loaded.network, box, samples, self.settings.prover, lambda: self.deadline.passed, self.progress)
        self._last = time.perf_counter()
        self.seconds.update(proof.seconds)
        if self.deadline.interrupted and not proof.facts.stable:
            raise Interrupted("interrupted before anything was proved; nothing was written")
        return box, proof

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


def _domain(loaded: Loaded, domain: DomainLike | None, space: str) -> Box:
    if space not in ("input", "scaled"):
        raise UsageError(f"domain_space {space!r}: expected 'input' or 'scaled'")
    if loaded.scaling is None and space == "scaled":
        raise UsageError("domain_space 'scaled' goes with a pipeline that has a scaler only")
    if domain is not None:
        box = make_box(loaded.network, domain)
    elif loaded.ranges is not None:
        box = stated_box(loaded.network, loaded.ranges.ends, loaded.ranges.source)
    else:
        raise UsageError("no domain: give a range, a box, data or a VNN-LIB file; the model states no input ranges")
    if loaded.scaling is None:
        return box
    if space == "scaled":
        return replace(box, description=f"{box.description} (after scaling)")
    scaling = loaded.scaling
    box = replace(box, description=f"{box.description} (before scaling)")
    return scaled_box(box, scaling.slope, scaling.offset, scaling.apply)


def _samples(loaded: Loaded, data: Data) -> dict[str, Array]:
    network = loaded.network
    if isinstance(data, str | os.PathLike):
        samples = load_data(network, Path(data))
    else:
        samples = fit_data(network, data if isinstance(data, Mapping) else {network.inputs[0]: data})
    return samples if loaded.scaling is None else {name: loaded.scaling.apply(x) for name, x in samples.items()}


def _outside(box: Box, samples: Mapping[str, Array]) -> tuple[str, ...]:
    inside = box.contains(samples)
    lost = int((~inside).sum())
    if not lost:
        return ()
    return (f"{lost:,} of {inside.size:,} data samples lie outside the domain and were passed over",)


def _smaller(loaded: Loaded, box: Box, rewriting: Rewriting, facts: Facts) -> tuple[Loaded, Rewriting]:
    """The model of a rewritten network, or the original where sharing weights had made it smaller than that."""
    small = rebuild(loaded, rewriting.network, _metadata(loaded, box, rewriting.guarantee))
    if small is loaded or measure(small).parameters <= measure(loaded).parameters:
        return small, rewriting
    why = "weights that several nodes share would have to be stored for each, and the model would grow"
    whole = replace(
        rewriting,
        network=loaded.network,
        guarantee=replace(
            rewriting.guarantee, epsilons={name: 0 * values for name, values in rewriting.guarantee.epsilons.items()}
        ),
        kept={node: np.arange(layer.units) for node, layer in facts.layers.items()},
        refusals=(Refusal(loaded.name, "nothing removed", why),),
    )
    return loaded, whole


def _demand_output(model: Any, output: Output | None) -> None:
    """Find out before the work that the result cannot go where it should."""
    if not isinstance(output, str | os.PathLike):
        return
    if isinstance(model, str | os.PathLike) and os.path.realpath(model) == os.path.realpath(output):
        raise UsageError(f"{os.fspath(output)}: the result would replace the original; give it another name")
    demand_writable(output)


def _demand_onnx(loaded: Loaded, output: Output | None) -> None:
    if output is not None and not isinstance(loaded, OnnxLoaded):
        raise UsageError("only ONNX is written to a file; save the .model of the result as such models are saved")


def _save(small: Loaded, output: Output | None) -> None:
    """Write an ONNX model, under its name only once what the disk gives back is what was checked."""
    if output is None or not isinstance(small, OnnxLoaded):
        return
    if not isinstance(output, str | os.PathLike):
        output.write(small.data)
        return
    temporary = write_temporary(output, small.data)
    try:
        if read_bytes(temporary, compressed=os.fspath(output).endswith(".gz")) != small.data:
            raise OutputError(f"{os.fspath(output)}: the disk gives back other bytes than were written")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    commit(temporary, output)


def _metadata(loaded: Loaded, box: Box, guarantee: Guarantee) -> dict[str, str]:
    if not isinstance(loaded, OnnxLoaded):
        return {}
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


__all__ = ["DomainLike", "Result", "Settings", "compress", "inspect", "parse_guarantee"]
