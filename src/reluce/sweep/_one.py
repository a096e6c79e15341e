"""One run of a sweep: train, compress, measure, and remember the figures."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from reluce.compress import compress
from reluce.errors import CheckFailed, Interrupted, UsageError
from reluce.io import Sizes, replace_file, runtime
from reluce.result import Result
from reluce.run import Failed, Lost
from reluce.settings import Settings
from reluce.sweep._plan import Plan
from reluce.sweep._results import Failure, Figures
from reluce.train import Data, Epoch, Samples, fit

Say = Callable[[str], None]
Outcome = Figures | Failure

HELPING = 1000
"""Training samples that help to refute."""

TOGETHER = 1000
"""Samples that go through the compressed network at once."""


def finished(plan: Plan) -> Figures | None:
    """The figures of a run that has been done, if its files are still those that it wrote.

    Raises
    ------
    UsageError
        When what is there is of another recipe, of other data or of another version.
    """
    try:
        found = json.loads(plan.record.read_bytes())
        key, files, figures = found["key"], found["files"], found["figures"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # nothing, or nothing that could be of use
    if key != plan.key:
        raise UsageError(
            f"{plan.record}: is of a run with another recipe, other data, other options or another version of reluce; "
            "give another folder, or start afresh (--fresh)"
        )
    try:
        return _figures(figures) if figures is not None and _digests(plan) == files else None
    except (OSError, TypeError, LookupError, ValueError):
        return None


def outcome_of(plan: Plan, data: Data, settings: Settings, say: Say) -> Outcome:
    """Do a run, from where an earlier one was stopped: its figures, or why there are none.

    Raises
    ------
    KeyboardInterrupt, Interrupted
        When Ctrl-C or SIGTERM came: the same call goes on.
    """
    try:
        replace_file(plan.record, _record(plan, None))  # says whose files will be there
        return _carried_out(plan, data, settings, say)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, it is one run of many, which have taken hours
        reason = " ".join(str(error).split())
        return Failure(type(error).__name__, reason or type(error).__name__)


def _carried_out(plan: Plan, data: Data, settings: Settings, say: Say) -> Figures:
    start = time.perf_counter()

    def note(epoch: Epoch) -> None:
        valid = "" if epoch.valid is None else f", validation {epoch.valid:.2%}"
        say(f"epoch {epoch.number}/{plan.recipe.epochs}{valid}")

    trained = fit(data.without_test(), plan.recipe, plan.checkpoint, note)
    replace_file(plan.network, trained.onnx())
    middle = time.perf_counter()
    domain = plan.recipe.domain or data.range
    helping = data.train.inputs(slice(HELPING)).numpy()
    result = compress(plan.network, domain, output=plan.small, data=helping, settings=settings, progress=say)
    _demand_undisturbed(result, settings)
    end = time.perf_counter()
    _, valid = data.split(plan.recipe.valid, plan.recipe.seed)
    assert valid is not None
    assert trained.valid_accuracy is not None
    assert result.report.compressed is not None
    layers = result.report.layers
    figures = Figures(
        trained=trained.valid_accuracy,
        valid=_accuracy(result, valid),
        test=None if data.test is None else _accuracy(result, data.test),
        before=result.report.model,
        after=result.report.compressed,
        units=tuple(row.units for row in layers),
        kept=tuple(row.units if row.kept is None else row.kept for row in layers),
        training=round(middle - start, 3),
        compressing=round(end - middle, 3),
        cut_short=result.report.cut_short,
    )
    if result.certified is None:
        plan.certificate.unlink(missing_ok=True)
    replace_file(plan.record, _record(plan, figures))
    plan.checkpoint.unlink(missing_ok=True)
    return figures


def _demand_undisturbed(result: Result, settings: Settings) -> None:
    """What was cut short by Ctrl-C, not by the time limit, is no figure of a sweep."""
    limit = settings.time_limit
    if result.report.cut_short and (limit is None or result.report.seconds["total"] < limit):
        raise Interrupted("interrupted while a network was compressed")


def _accuracy(result: Result, samples: Samples) -> float:
    """Which part of some samples the compressed network puts into the right class, in the runtime of its kind."""
    network = result.loaded.network
    (name,), (output,) = network.inputs, network.outputs
    try:
        run = runtime(result.loaded).start()
        right = 0
        for start in range(0, len(samples), TOGETHER):
            part = slice(start, start + TOGETHER)
            given = run({name: samples.inputs(part).numpy()})[output]
            right += int(np.count_nonzero(given.argmax(axis=1) == samples.y[part].numpy()))
    except (Failed, Lost) as error:
        raise CheckFailed(f"the compressed network cannot be run ({error})") from error
    return right / len(samples)


def _digests(plan: Plan) -> dict[str, str]:
    """Of the files that a finished run has left; a certificate may be missing."""
    paths = [path for path in (plan.network, plan.small, plan.certificate) if path.exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _record(plan: Plan, figures: Figures | None) -> bytes:
    found: dict[str, Any] = {
        "run": plan.name,
        "key": plan.key,
        "recipe": json.loads(plan.recipe.to_json()),
        "figures": None if figures is None else asdict(figures),
        "files": {} if figures is None else _digests(plan),
    }
    return (json.dumps(found, indent=2, allow_nan=False) + "\n").encode()


def _figures(found: dict[str, Any]) -> Figures:
    sizes = {name: Sizes(**found[name]) for name in ("before", "after")}
    counts = {name: tuple(found[name]) for name in ("units", "kept")}
    return Figures(**{**found, **sizes, **counts})
