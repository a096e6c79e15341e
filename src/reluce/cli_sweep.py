"""The command ``reluce sweep``: options, progress, the table. How to train is stated as for ``reluce train``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from reluce.cli_common import (
    INTERNAL_ERROR,
    TIME_RAN_OUT,
    print_tables,
    range_of,
    strengths_of,
    training_room,
    whole_numbers,
)
from reluce.cli_train import train_command
from reluce.errors import CheckFailed, DomainError, Interrupted, ModelError, OutputError, ReluceError, UsageError
from reluce.guarantee import parse_guarantee
from reluce.rewrite import Objective
from reluce.settings import Settings

if TYPE_CHECKING:
    from reluce.sweep import Run, Sweep

FAILURES: dict[str, type[ReluceError]] = {
    kind.__name__: kind for kind in (CheckFailed, DomainError, ModelError, OutputError, UsageError)
}
"""What ends a run on purpose; all else is a bug."""


def _option(name: str) -> Any:
    """An option of ``reluce train``, with the same words."""
    return get_type_hints(train_command, include_extras=True)[name].__metadata__[0]


def sweep_command(
    data: Annotated[Path, _option("data")],
    outdir: Annotated[Path, typer.Argument(metavar="OUTDIR", help="The folder for all that comes out.")],
    strengths: Annotated[
        str, typer.Option(metavar="S,S,..", help="What is tried; 0, the unregularised network, always is.")
    ] = "1e-5,3e-5,1e-4,3e-4",
    seeds: Annotated[int, typer.Option(metavar="N", help="How many runs each strength gets.")] = 3,
    seed: Annotated[int, typer.Option(metavar="N", help="The first of their seeds.")] = 0,
    penalty: Annotated[
        str,
        typer.Option(metavar="l1|rows|columns|stability", help="What has the strength; several with commas."),
    ] = "l1",
    widths: Annotated[str, _option("widths")] = "100,100",
    channels: Annotated[str, _option("channels")] = "",
    l1: Annotated[str, _option("l1")] = "0",
    rows: Annotated[str, _option("rows")] = "0",
    columns: Annotated[str, _option("columns")] = "0",
    keep: Annotated[str, _option("keep")] = "",
    subgradient: Annotated[bool, _option("subgradient")] = False,
    stability: Annotated[float, _option("stability")] = 0.0,
    stability_kind: Annotated[str, _option("stability_kind")] = "hinge",
    domain: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LO,HI",
            help="Range of all inputs, on which the compressed networks compute the same.  [default: 0,1 for uint8, "
            "else that of the training samples]",
        ),
    ] = None,
    epochs: Annotated[int, _option("epochs")] = 30,
    polish: Annotated[float, _option("polish")] = 0.3,
    ramp: Annotated[float, _option("ramp")] = 0.1,
    batch: Annotated[int, _option("batch")] = 128,
    optimizer: Annotated[str, _option("optimizer")] = "sgd",
    lr: Annotated[float | None, _option("lr")] = None,
    nesterov: Annotated[bool, _option("nesterov")] = False,
    decay: Annotated[str, _option("decay")] = "cosine",
    warmup: Annotated[float, _option("warmup")] = 0.0,
    weight_decay: Annotated[float, _option("weight_decay")] = 0.0,
    centre: Annotated[bool, _option("centre")] = False,
    valid: Annotated[float, _option("valid")] = 0.1,
    patience: Annotated[int | None, _option("patience")] = None,
    shift: Annotated[int, _option("shift")] = 0,
    flip: Annotated[bool, _option("flip")] = False,
    guarantee: Annotated[
        str, typer.Option(metavar="exact|roundoff|within=EPS", help="How far outputs may move, as for compress.")
    ] = "roundoff",
    objective: Annotated[
        str, typer.Option(metavar="parameters|nonzeros|macs|bytes", help="What rewrites save, as for compress.")
    ] = "parameters",
    time_limit: Annotated[float | None, typer.Option(metavar="SECONDS", min=0.0, help="For each compression.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="How many runs are done at once, each on one core.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do again what is there of these runs.")] = False,
    quiet: Annotated[bool, _option("quiet")] = False,
) -> None:
    """Train and compress a network for each strength and seed, and name the largest compression that loses nothing.

    Accuracy is compared on samples drawn from the training data (--valid), with that of the unregularised network; the
    test samples are looked at once for each run and choose nothing. OUTDIR gets sweep.json, sweep.csv, sweep.svg and
    sweep.png, and RUN.onnx, RUN-small.onnx and RUN-small.cert for each run. The same command goes on from there after
    a crash or Ctrl-C.
    """
    room = training_room()
    import reluce.sweep as sweeps  # which needs torch as well

    base = room.Recipe(
        widths=whole_numbers("--widths", widths),
        channels=whole_numbers("--channels", channels),
        epochs=epochs,
        batch=batch,
        seed=seed,
        polish=polish,
        optimizer=cast(Any, optimizer),
        lr=lr,
        nesterov=nesterov,
        decay=cast(Any, decay),
        warmup=warmup,
        weight_decay=weight_decay,
        centre=centre,
        l1=strengths_of("--l1", l1),
        rows=strengths_of("--rows", rows),
        columns=strengths_of("--columns", columns),
        keep=whole_numbers("--keep", keep),
        subgradient=subgradient,
        stability=stability,
        stability_kind=cast(Any, stability_kind),
        domain=range_of(domain),
        ramp=ramp,
        valid=valid,
        patience=patience,
        shift=shift,
        flip=flip,
    )
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: give at least 1")
    penalties = [name.strip() for name in penalty.split(",") if name.strip()]
    recipes = sweeps.recipes_for(base, _numbers(strengths), penalties)
    settings = Settings(parse_guarantee(guarantee), time_limit, objective=cast(Objective, objective))
    with _progress(len(recipes) * seeds, quiet) as (say, done):
        ended: list[str] = []

        def count(run: Run) -> None:
            ended.append(run.name)
            done(run)

        try:
            found = sweeps.sweep(
                room.load_training_data(data),
                recipes,
                outdir,
                seeds=range(seed, seed + seeds),
                settings=settings,
                fresh=fresh,
                jobs=jobs,
                progress=say,
                done=count,
            )
        except (KeyboardInterrupt, Interrupted):
            words = f"{len(ended)} of {len(recipes) * seeds} runs have ended; the same command goes on from there"
            raise Interrupted(f"interrupted; {words}") from None
    if not quiet:
        print_tables(sweeps.tables(found))
    _judge(found)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--strengths {text!r}: expected numbers, such as 1e-5,1e-4") from None


def _judge(found: Sweep) -> None:
    """End as the first run that failed would have ended alone; all files are written."""
    if found.failed:
        first = found.failed[0]
        kind = None if first.failure is None else FAILURES.get(first.failure.kind)
        words = f"{len(found.failed)} of {len(found.runs)} runs failed, first {first.name}: {first.outcome}"
        if kind is not None:
            raise kind(words)
        print(f"reluce: internal error: {words}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(INTERNAL_ERROR)
    if found.cut_short:
        raise typer.Exit(TIME_RAN_OUT)


@contextmanager
def _progress(runs: int, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Run], None]]]:
    """What shows what is being worked on, and each run that has ended: on a terminal a bar, elsewhere a line a run."""
    console = Console(stderr=True)
    if quiet:
        yield lambda what: None, lambda run: None
    elif not console.is_terminal:
        yield lambda what: None, lambda run: print(_words(run), file=sys.stderr, flush=True)  # noqa: T201
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[what]}")
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("run", total=runs, what="")
            yield lambda what: bar.update(task, what=what), lambda run: bar.advance(task)


def _words(run: Run) -> str:
    found = run.figures
    if found is None:
        return f"{run.name}: failed: {run.outcome}"
    left = f"{found.after.parameters:,} of {found.before.parameters:,} parameters left"
    return f"{run.name}: validation {found.valid:.2%}, {left}"
