"""The command line: ``reluce compress`` and ``reluce inspect``; training is in ``cli_train`` and ``cli_sweep``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

from reluce._version import __version__
from reluce.cli_common import INTERNAL_ERROR, TIME_RAN_OUT, demand_distinct, print_tables
from reluce.cli_sweep import sweep_command
from reluce.cli_train import train_command
from reluce.compress import compress, inspect
from reluce.domain import Box, DomainLike, box_from_data, load_data
from reluce.errors import (
    CheckFailed,
    DomainError,
    Interrupted,
    ModelError,
    OutputError,
    ReluceError,
    UsageError,
)
from reluce.guarantee import parse_guarantee
from reluce.io import beside, open_model, replace_file
from reluce.journal import journal_path
from reluce.prove import ClosingSettings, Method, ProverSettings
from reluce.report import Report, render
from reluce.rewrite import Objective
from reluce.settings import Settings

EXIT: dict[type[ReluceError], int] = {
    CheckFailed: 1,
    UsageError: 2,
    ModelError: 3,
    DomainError: 3,
    OutputError: 5,
    Interrupted: 130,
}

# What typer raises for a wrong call. Newer versions bring their own copy of click, so `click.ClickException` is not it.
CALL_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

EXIT_CODES = """Exit codes: 0 written (also when nothing could go); 1 the check of the result failed, nothing is left
behind; 2 usage; 3 the model or the domain cannot be read; 4 the time limit, Ctrl-C or SIGTERM came first, what was
proved is written; 5 the output cannot be written; 70 an internal error; 130 interrupted before anything was proved."""

app = typer.Typer(
    name="reluce",
    help="Make a trained ReLU network smaller without changing what it computes over a stated input domain.",
    epilog=EXIT_CODES,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Model = Annotated[Path, typer.Argument(metavar="IN.onnx", help="The trained network (.onnx, .onnx.gz or .nnet).")]
Ranges = Annotated[
    list[str] | None,
    typer.Option("--range", metavar="[NAME=]LO,HI", help="Range of all inputs, or of one. Repeatable; exact decimals."),
]
BoxFile = Annotated[
    Path | None,
    typer.Option(
        "--domain",
        metavar="BOX",
        help="An .npz with arrays lo and hi (NAME.lo and NAME.hi for several inputs), or a VNN-LIB file (.vnnlib, "
        ".vnnlib.gz). Without any domain option: the ranges that the model states itself.",
    ),
]
BoxData = Annotated[
    Path | None,
    typer.Option(
        "--domain-from-data",
        metavar="X.npy",
        help="The box around these samples (.npy or .npz). An assumption: nothing keeps later inputs inside.",
    ),
]
Margin = Annotated[str, typer.Option(metavar="M", help="Widen the box of --domain-from-data by M on every side.")]
SaveBox = Annotated[
    Path | None,
    typer.Option(
        "--save-domain",
        metavar="FILE.npz",
        help="Where to write the box of --domain-from-data (compress: OUT.domain.npz by default; inspect: nowhere).",
    ),
]
DataFile = Annotated[
    Path | None,
    typer.Option("--data", metavar="X.npy", help="Samples that help to refute (.npy or .npz). Never taken as proof."),
]
TimeLimit = Annotated[
    float | None, typer.Option(metavar="SECONDS", min=0.0, help="Stop proving and rewriting then; use what is proved.")
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random points that refutation tries.")]
Prover = Annotated[
    str,
    typer.Option(
        "--prover",
        metavar="ladder|leo|isa",
        help="ladder: rigorous proofs. leo, isa: as published, on a solver; its word is shown as attested.",
    ),
]
Solver = Annotated[
    str | None,
    typer.Option("--solver", metavar="highs|scip|gurobi", help="The solver of leo and isa.  [default: highs]"),
]
TrustSolver = Annotated[
    bool,
    typer.Option("--trust-solver", help="Use what the solver says as if it were proved; all outputs say attested."),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="NAME:D0,D1,..",
        help="Fix dimensions that the model leaves open; -1 keeps axis 0 as the batch. Repeatable.",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="cpu|cuda",
        help="Where slopes and ReLU splits are optimised: cpu, or a GPU by its torch name (cuda, cuda:1, mps).",
    ),
]
CertificateFile = Annotated[
    Path | None,
    typer.Option(
        "--certificate",
        metavar="FILE",
        help="Where the certificate goes, which reluce-check proves from the files alone.  [default: OUT.cert]",
    ),
]
NoCertificate = Annotated[
    bool, typer.Option("--no-certificate", help="Write none: also remove what only Reluce itself vouches for.")
]
QueryFile = Annotated[
    Path | None,
    typer.Option(
        "--vnnlib",
        metavar="FILE.vnnlib",
        help="Write the claim as a question to other verifiers: a VNN-LIB 2 query on IN.onnx and OUT.onnx.",
    ),
]
GuardFlag = Annotated[
    bool,
    typer.Option(
        "--guard",
        help="Add an output in_domain: for each sample whether it lies in the domain, outside of which nothing is "
        "promised.",
    ),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
GuaranteeText = Annotated[
    str,
    typer.Option(
        "--guarantee",
        metavar="exact|roundoff|within=EPS",
        help="How far outputs may move over the reals, proved. exact: not at all. roundoff: by 16 units of roundoff of "
        "what they reach on the domain. within=EPS: by EPS.",
    ),
]


ObjectiveText = Annotated[
    str,
    typer.Option(
        "--objective",
        metavar="parameters|nonzeros|macs|bytes",
        help="What a rewrite has to make smaller to be taken. No result has more parameters or non-zeros than IN.onnx.",
    ),
]


ShiftFlag = Annotated[
    bool,
    typer.Option(
        "--softmax-shift",
        help="For classifiers: one logit may be subtracted from all, where that saves. Softmax and argmax stay as they "
        "are, the logits do not.",
    ),
]


SkipsFlag = Annotated[
    bool,
    typer.Option(
        "--skips",
        help="What reads a layer may read the layer's input beside it, in place of its linear part, where that saves. "
        "Changes the architecture.",
    ),
]


@app.command("compress", epilog=EXIT_CODES)
def compress_command(
    source: Model,
    target: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="Where the smaller network goes.")],
    ranges: Ranges = None,
    domain: BoxFile = None,
    domain_from_data: BoxData = None,
    margin: Margin = "0",
    save_domain: SaveBox = None,
    data: DataFile = None,
    guarantee: GuaranteeText = "roundoff",
    objective: ObjectiveText = "parameters",
    softmax_shift: ShiftFlag = False,
    skips: SkipsFlag = False,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    prover: Prover = "ladder",
    solver: Solver = None,
    trust_solver: TrustSolver = False,
    device: Device = "cpu",
    input_shape: InputShape = None,
    certificate: CertificateFile = None,
    no_certificate: NoCertificate = False,
    guard: GuardFlag = False,
    vnnlib: QueryFile = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write a smaller network with the same function on the domain."""
    provers = _prover(seed, prover, solver, trust_solver, device)
    shapes, goal = _shapes(input_shape), cast(Objective, objective)
    settings = Settings(parse_guarantee(guarantee), time_limit, provers, shapes, goal, softmax_shift, skips)
    if save_domain is None and domain_from_data is not None:
        save_domain = beside(target, ".domain.npz")
    read = {"IN.onnx": source, "--domain": domain, "--domain-from-data": domain_from_data, "--data": data}
    if certificate is not None and no_certificate:
        raise UsageError("give only one of --certificate and --no-certificate")
    written = {"OUT.onnx": target, "--json": json_file, "--save-domain": save_domain, "--certificate": certificate}
    written |= {"--vnnlib": vnnlib, "the journal": journal_path(target)}
    demand_distinct(read, written)
    box = _domain(source, ranges, domain, domain_from_data, margin, save_domain, settings)
    with _progress(quiet) as progress:
        place = False if no_certificate else certificate
        result = compress(
            source,
            box,
            output=target,
            data=data,
            certificate=place,
            guard=guard,
            vnnlib=vnnlib,
            settings=settings,
            progress=progress,
        )
    _finish(result.report, box, save_domain, json_file, quiet)


@app.command("inspect", epilog=EXIT_CODES)
def inspect_command(
    source: Model,
    ranges: Ranges = None,
    domain: BoxFile = None,
    domain_from_data: BoxData = None,
    margin: Margin = "0",
    save_domain: SaveBox = None,
    data: DataFile = None,
    time_limit: TimeLimit = None,
    seed: Seed = 0,
    prover: Prover = "ladder",
    solver: Solver = None,
    trust_solver: TrustSolver = False,
    device: Device = "cpu",
    input_shape: InputShape = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Show how many units of each layer are stable on the domain; write no network."""
    provers = _prover(seed, prover, solver, trust_solver, device)
    settings = Settings(time_limit=time_limit, prover=provers, input_shapes=_shapes(input_shape))
    read = {"IN.onnx": source, "--domain": domain, "--domain-from-data": domain_from_data, "--data": data}
    demand_distinct(read, {"--json": json_file, "--save-domain": save_domain})
    box = _domain(source, ranges, domain, domain_from_data, margin, save_domain, settings)
    with _progress(quiet) as progress:
        result = inspect(source, box, data=data, settings=settings, progress=progress)
    _finish(result.report, box, save_domain, json_file, quiet)


app.command("train", epilog=EXIT_CODES)(train_command)
app.command("sweep", epilog=EXIT_CODES)(sweep_command)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"reluce {__version__}")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the documented codes."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == EXIT[Interrupted]:  # typer's own answer to a KeyboardInterrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except CALL_ERROR as error:
        error.show()
        return int(error.exit_code)
    except ReluceError as error:
        _complain(str(error))
        return next(code for kind, code in EXIT.items() if isinstance(error, kind))
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; nothing was written")
        return EXIT[Interrupted]
    except Exception as error:  # a bug of ours: say so, with what is needed to report it
        traceback.print_exc()
        _complain(f"internal error, nothing was written: {type(error).__name__}: {error}")
        return INTERNAL_ERROR


def _complain(message: str) -> None:
    print(f"reluce: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 (this is the one place that speaks)


def _domain(
    source: Path,
    ranges: list[str] | None,
    box_file: Path | None,
    data_file: Path | None,
    margin: str,
    save: Path | None,
    settings: Settings,
) -> DomainLike | None:
    given = [bool(ranges), box_file is not None, data_file is not None]
    if sum(given) > 1:
        raise UsageError("give only one of --range, --domain and --domain-from-data (--range may be repeated)")
    if data_file is None and margin != "0":
        raise UsageError("--margin goes with --domain-from-data")
    if data_file is None and save is not None:
        raise UsageError("--save-domain goes with --domain-from-data")
    if box_file is not None:
        return box_file
    if data_file is None:
        return ranges or None  # none: the ranges that the model states itself
    network = open_model(source, input_shapes=settings.input_shapes).network
    return box_from_data(network, load_data(network, data_file), margin, data_file.name)


def _shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    shapes = {}
    for text in texts or ():
        name, separator, dims = text.rpartition(":")
        try:
            shapes[name] = tuple(int(dim) for dim in dims.replace("x", ",").split(","))
        except ValueError:
            separator = ""
        if not separator:
            raise UsageError(f"--input-shape {text!r}: expected NAME:D0,D1,..")
    return shapes or None


def _prover(seed: int, method: str, solver: str | None, trust: bool, device: str) -> ProverSettings:
    if method == "ladder" and (solver is not None or trust):
        raise UsageError(f"{'--trust-solver' if trust else '--solver'} goes with --prover leo or --prover isa")
    if method not in get_args(Method):
        raise UsageError(f"--prover {method!r}: expected one of {', '.join(get_args(Method))}")
    closing = ClosingSettings(device=device)
    return ProverSettings(seed, cast(Method, method), solver or "highs", trust, closing=closing)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda what: None
        return
    with console.status("starting") as status:
        yield lambda what: status.update(what)


def _finish(report: Report, box: DomainLike | None, save: Path | None, json_file: Path | None, quiet: bool) -> None:
    try:
        if save is not None and isinstance(box, Box):
            replace_file(save, box.to_bytes())
            report = replace(report, notes=(*report.notes, f"the box that was used is in {save}"))
        if json_file is not None:
            replace_file(json_file, (json.dumps(report.to_json(), indent=2, allow_nan=False) + "\n").encode())
    except OutputError as error:
        done = "" if report.compressed is None else "; the network is written, with all that belongs to it"
        raise OutputError(f"{error}{done}") from None
    if not quiet:
        print_tables(render(report))
    if report.cut_short:
        raise typer.Exit(TIME_RAN_OUT)
