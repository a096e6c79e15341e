"""The command ``reluce train``: options, progress, tables, and files that appear in whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reluce.cli_common import demand_distinct, print_tables, range_of, strengths_of, training_room, whole_numbers
from reluce.cli_train_report import report_json, report_tables
from reluce.errors import Interrupted, OutputError
from reluce.io import replace_file

if TYPE_CHECKING:
    from reluce.train import Data, Epoch, Recipe, Trained

Show = Callable[["Epoch"], None]


def train_command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.npz",
            help="Arrays train_x, train_y (or x, y), and perhaps test_x, test_y: (samples, ...) and integer labels. "
            "uint8 is divided by 255.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="Where the network goes.")],
    widths: Annotated[str, typer.Option(metavar="N,N,..", help="Units of the dense hidden layers.")] = "100,100",
    channels: Annotated[
        str, typer.Option(metavar="N,N,..", help="Channels of 3x3 convolutions with stride 2 in front of them.")
    ] = "",
    l1: Annotated[
        str,
        typer.Option("--l1", metavar="S|S,S,..", help="Strength on single weights: one, or one for each layer."),
    ] = "0",
    rows: Annotated[
        str,
        typer.Option(metavar="S|S,S,..", help="Strength on rows, so on units; one leaves the output layer out."),
    ] = "0",
    columns: Annotated[
        str, typer.Option(metavar="S|S,S,..", help="Strength on columns: on who reads a unit or an input.")
    ] = "0",
    subgradient: Annotated[
        bool, typer.Option("--subgradient", help="Put l1 into the loss, as published for LEO and ISA.")
    ] = False,
    keep: Annotated[
        str, typer.Option(metavar="N,N,..", help="At most so many inputs, and units of each hidden layer, are left.")
    ] = "",
    stability: Annotated[float, typer.Option(metavar="S", help="Strength on units that are not stable.")] = 0.0,
    stability_kind: Annotated[str, typer.Option(metavar="hinge|rs", help="How stability is measured.")] = "hinge",
    domain: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="LO,HI",
            help="Range of all inputs for --stability.  [default: 0,1 for uint8, else that of the data]",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the training samples.")] = 30,
    polish: Annotated[
        float, typer.Option(metavar="SHARE", help="Part of the epochs, at the end, without penalties; zeros stay.")
    ] = 0.3,
    ramp: Annotated[float, typer.Option(metavar="SHARE", help="Part of training over which penalties come on.")] = 0.1,
    batch: Annotated[int, typer.Option(metavar="N", help="Samples of a step.")] = 128,
    optimizer: Annotated[str, typer.Option(metavar="sgd|adam", help="sgd has momentum 0.9.")] = "sgd",
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Learning rate.  [default: 0.05 for sgd, 0.001 for adam]")
    ] = None,
    nesterov: Annotated[bool, typer.Option("--nesterov", help="Nesterov's momentum for sgd.")] = False,
    decay: Annotated[str, typer.Option(metavar="cosine|step|none", help="How the learning rate falls.")] = "cosine",
    warmup: Annotated[float, typer.Option(metavar="SHARE", help="Part of training with a rising rate.")] = 0.0,
    weight_decay: Annotated[float, typer.Option(metavar="S", help="Weight decay in the part of --polish.")] = 0.0,
    centre: Annotated[
        bool, typer.Option("--centre", help="Learn on centred inputs; the network takes them as they are.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of all that is random.")] = 0,
    valid: Annotated[float, typer.Option(metavar="SHARE", help="Part of the training samples to validate on.")] = 0.1,
    patience: Annotated[
        int | None,
        typer.Option(metavar="N", help="Stop after so many epochs of the last phase without a better validation."),
    ] = None,
    shift: Annotated[int, typer.Option(metavar="PIXELS", help="Move training images by up to so much.")] = 0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror training images by chance.")] = False,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads; the last bits depend on their number.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start afresh, even if there is a checkpoint.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Train a network that can be made smaller, and write it as ONNX.

    After each epoch a checkpoint is written, OUT.onnx.train: the same command goes on from there after a crash or
    Ctrl-C, with the same result, byte for byte. It is removed at the end.
    """
    room = training_room()
    recipe = room.Recipe(
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
        l1=strengths_of("--l1", l1),
        rows=strengths_of("--rows", rows),
        columns=strengths_of("--columns", columns),
        keep=whole_numbers("--keep", keep),
        subgradient=subgradient,
        stability=stability,
        stability_kind=cast(Any, stability_kind),
        domain=range_of(domain),
        ramp=ramp,
        weight_decay=weight_decay,
        centre=centre,
        valid=valid,
        patience=patience,
        shift=shift,
        flip=flip,
    )
    checkpoint = target.with_name(f"{target.name}.train")
    demand_distinct({"DATA.npz": data}, {"OUT.onnx": target, "--json": json_file, "the checkpoint": checkpoint})
    samples = room.load_training_data(data)
    if fresh:
        checkpoint.unlink(missing_ok=True)
    trained = _fitted(room, samples, recipe, checkpoint, threads, quiet)
    replace_file(target, trained.onnx())
    _report(trained, data, json_file, quiet)
    checkpoint.unlink(missing_ok=True)


def _fitted(room: Any, samples: Data, recipe: Recipe, checkpoint: Path, threads: int, quiet: bool) -> Trained:
    done: list[Epoch] = []
    try:
        with _progress(recipe.epochs, quiet) as show:

            def note(epoch: Epoch) -> None:
                done.append(epoch)
                show(epoch)

            return cast("Trained", room.fit(samples, recipe, checkpoint, note, threads=threads))
    except KeyboardInterrupt:
        if not checkpoint.exists():
            raise Interrupted("interrupted before the first epoch ended; nothing was written") from None
        raise Interrupted(f"interrupted; the same command goes on from {checkpoint}, --fresh starts afresh") from None


@contextmanager
def _progress(epochs: int, quiet: bool) -> Iterator[Show]:
    """What shows each epoch: a bar on a terminal, a line elsewhere, nothing where it is to be quiet."""
    console = Console(stderr=True)
    if quiet:
        yield lambda epoch: None
    elif not console.is_terminal:
        yield lambda epoch: print(f"epoch {epoch.number}/{epochs}  {_words(epoch)}", file=sys.stderr, flush=True)  # noqa: T201
    else:
        columns = "[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, TextColumn("{task.fields[words]}"), console=console, transient=True) as bar:
            task = bar.add_task("epoch", total=epochs, words="")
            yield lambda epoch: bar.update(task, completed=epoch.number, words=_words(epoch))


def _words(epoch: Epoch) -> str:
    valid = "" if epoch.valid is None else f"  validation {epoch.valid:.2%}"
    return f"loss {epoch.loss:.4f}{valid}  zeros {epoch.zeros:.1%}"


def _report(trained: Trained, data: Path, json_file: Path | None, quiet: bool) -> None:
    if json_file is not None:
        text = json.dumps(report_json(trained, data), indent=2, allow_nan=False) + "\n"
        try:
            replace_file(json_file, text.encode())
        except OutputError as error:
            raise OutputError(f"{error}; the network is written") from None
    if not quiet:
        print_tables(report_tables(trained))
