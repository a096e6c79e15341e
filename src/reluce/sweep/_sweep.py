"""Strengths times seeds: what is done is not done again, what fails is shown, and the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from reluce.errors import Interrupted, OutputError
from reluce.run import LOCKS, Taken, open_locked
from reluce.settings import DEFAULTS, Settings
from reluce.sweep._files import write
from reluce.sweep._one import begin, carry_out, finished
from reluce.sweep._plan import Plan, demand_sound, plans
from reluce.sweep._plot import demand_plots
from reluce.sweep._results import Failure, Figures, Run, Sweep
from reluce.train import Data, Recipe

LOCK = "sweep.lock"


def sweep(
    data: Data,
    recipes: Mapping[float, Recipe],
    outdir: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    settings: Settings = DEFAULTS,
    fresh: bool = False,
    progress: Callable[[str], None] = lambda what: None,
    done: Callable[[Run], None] = lambda run: None,
) -> Sweep:
    """Train and compress a network for each strength and seed, and name the largest compression that loses nothing.

    Parameters
    ----------
    data
        What to learn. Validation splits are drawn from the training samples; the test samples are looked at once for
        each run, when it is done, and choose nothing.
    recipes
        How to train, by strength; ``recipes_for`` makes them. That of strength 0 has no penalties. Their seeds are
        replaced, and their domain (0 to 1 for images in uint8, else the range of the training values, where it is
        ``None``) is that on which the compressed networks compute the same.
    outdir
        A folder, made where there is none. Each run leaves ``RUN.onnx``, ``RUN-small.onnx``, ``RUN-small.cert`` and
        its figures in ``RUN.json``; the sweep leaves ``sweep.json``, ``sweep.csv``, ``sweep.svg`` and ``sweep.png``.
        What a stopped sweep has left is not done again, and a run under way goes on.
    seeds
        Of the runs of each strength.
    settings
        For each compression: guarantee, objective, time limit.
    fresh
        Whether to remove first what is there of these runs.
    progress
        Told what is being worked on.
    done
        Told of each run that has ended, or had ended before.

    Raises
    ------
    UsageError
        When the recipes cannot be compared, or the folder holds runs of other recipes, data or settings.
    OutputError
        When the folder cannot be written, or another sweep is writing there.
    Interrupted, KeyboardInterrupt
        When the sweep was stopped; the same call goes on.
    """
    demand_sound(recipes, tuple(seeds))
    demand_plots()
    folder = Path(outdir)
    with _locked(folder):
        todo = list(plans(data, recipes, seeds, folder, settings))
        if fresh:
            for plan in todo:
                _remove(plan)
        before = {plan.name: finished(plan) for plan in todo}
        runs = []
        for plan in todo:
            outcome = before[plan.name] or _outcome(plan, data, settings, progress)
            runs.append(Run(plan.name, plan.strength, plan.recipe, outcome))
            done(runs[-1])
        runs.sort(key=lambda run: (run.strength, run.recipe.seed))
        found = Sweep(tuple(runs), todo[0].recipe.domain or data.range, str(settings.guarantee), _notes(data, todo[0]))
        progress("drawing")
        write(found, folder)
    return found


def _outcome(plan: Plan, data: Data, settings: Settings, progress: Callable[[str], None]) -> Figures | Failure:
    """What comes of a run: figures, or why there are none."""
    try:
        begin(plan)
        return carry_out(plan, data, settings, lambda what: progress(f"{plan.name}: {what}"))
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, it is one run of many, which have taken hours
        reason = " ".join(str(error).split())
        return Failure(type(error).__name__, reason or type(error).__name__)


def _notes(data: Data, plan: Plan) -> tuple[str, ...]:
    if plan.recipe.domain is not None or not data.train.x.is_floating_point():
        return ()
    low, high = data.range
    return (
        f"the domain, {low!r} to {high!r}, is the range of the training values: an assumption, nothing keeps later "
        "inputs inside",
    )


def _remove(plan: Plan) -> None:
    for path in plan.files:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: cannot be removed ({error.strerror or error})") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder to oneself; the lock goes with the process, its file with the end of the sweep."""
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = open_locked(lock)
    except Taken:
        raise OutputError(f"{folder}: another sweep is writing there; wait for it, or give another folder") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        if not LOCKS:  # where an open file cannot be removed
            os.close(descriptor)
        with suppress(OSError):
            lock.unlink()
        if LOCKS:
            os.close(descriptor)
