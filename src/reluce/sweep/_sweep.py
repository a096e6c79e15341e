"""Strengths times seeds: what is done is not done again, what fails is shown, and the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from reluce.errors import OutputError, UsageError
from reluce.run import LOCKS, Taken, open_locked
from reluce.settings import DEFAULTS, Settings
from reluce.sweep._files import write
from reluce.sweep._one import Outcome, Say, finished, outcome_of
from reluce.sweep._plan import Plan, demand_sound, plans
from reluce.sweep._plot import demand_plots
from reluce.sweep._results import Run, Sweep
from reluce.sweep._workers import side_by_side
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
    jobs: int = 1,
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
    jobs
        How many runs are done at once, in processes of their own where it is more than one. The networks are the same.
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
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}; give at least 1")
    with _locked(folder) as lock:
        todo = list(plans(data, recipes, seeds, folder, settings))
        if fresh:
            for plan in todo:
                _remove(plan)
        before = [(plan, finished(plan)) for plan in todo]
        known = [(plan, figures) for plan, figures in before if figures is not None]
        missing = [plan for plan, figures in before if figures is None]
        runs = []
        for plan, outcome in chain(known, _outcomes(missing, data, settings, jobs, lock, progress)):
            runs.append(Run(plan.name, plan.strength, plan.recipe, outcome))
            done(runs[-1])
        runs.sort(key=lambda run: (run.strength, run.recipe.seed))
        found = Sweep(tuple(runs), todo[0].recipe.domain or data.range, str(settings.guarantee), _notes(data, todo[0]))
        progress("drawing")
        write(found, folder)
    return found


def _outcomes(
    todo: Sequence[Plan], data: Data, settings: Settings, jobs: int, lock: int, progress: Callable[[str], None]
) -> Iterator[tuple[Plan, Outcome]]:
    if jobs > 1 and len(todo) > 1:
        yield from side_by_side(todo, data, settings, jobs, lock, progress)
        return
    for plan in todo:
        yield plan, outcome_of(plan, data, settings, _named(plan.name, progress))


def _named(name: str, progress: Callable[[str], None]) -> Say:
    return lambda what: progress(f"{name}: {what}")


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
def _locked(folder: Path) -> Iterator[int]:
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
        yield descriptor
    finally:
        if not LOCKS:  # where an open file cannot be removed
            os.close(descriptor)
        with suppress(OSError):
            lock.unlink()
        if LOCKS:
            os.close(descriptor)
