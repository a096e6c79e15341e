"""How the time that proving takes grows with the width, the depth and the parameters of a network.

    python benchmarks/growth.py --data ../shared [--seeds 1] [--time-limit 600] [--out benchmarks/results]

Two parts, each on [0, 1]^n and without data:

* images: DATA/networks/reluce_l1, MNIST and one CIFAR-10 network, whose L1 falls with their width
* digits: networks that `examples/train_growth.py` trains on scikit-learn's digits by one recipe, once for each seed
  (about a minute); they are kept in build/growth

Seconds are total - load - verify of `reluce.inspect`, the median of three runs. Exponents are fitted by least squares
on logarithms, over the networks that ended in time: seconds ~ width^a at depth 2 and ~ depth^b at width 100 on networks
of the same inputs, and ~ parameters^c. A few units near zero can take most of the time, so single networks say little:
use several seeds. Below some 0.1 s much of the time does not depend on the network, which makes exponents smaller than
they are for large networks. Prints two tables; writes growth.json and growth.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import linregress

from reluce import Report, Settings, inspect

ROOT = Path(__file__).resolve().parents[1]
WIDTHS, DEPTH = (25, 50, 100, 200, 400, 800), 2
DEPTHS, WIDTH = (2, 3, 4, 5), 100
RUNS = 3
STAGES = ("refute", "bounds", "prove")


@dataclass(frozen=True)
class Row:
    """One network, and the median of its runs. ``data`` is what it was trained on."""

    part: str
    data: str
    network: str
    width: int
    depth: int
    parameters: int
    units: int
    unstable: int
    undecided: int
    seconds: float
    stages: dict[str, float]
    cut_short: bool


@dataclass(frozen=True)
class Fit:
    """seconds = factor * quantity^exponent, fitted to so many networks.

    ``error`` is the standard error of the exponent, ``share`` the explained variance of the logarithms; ``None`` where
    the networks have two sizes only, as nothing can be said of it then.
    """

    part: str
    quantity: str
    over: str
    networks: int
    exponent: float
    error: float | None
    factor: float
    share: float | None


def images(root: Path) -> Iterator[tuple[Path, int, int]]:
    """The L1-trained networks with width and depth, by depth and width."""
    found = []
    for path in (root / "networks" / "reluce_l1").glob("*.onnx"):
        widths = [int(width) for width in path.name.split("_")[1].split("x")]
        found.append((path, widths[0], len(widths)))
    yield from sorted(found, key=lambda each: (each[2], each[1], each[0].name))


def digits(folder: Path, seeds: int, progress: Callable[[str], None]) -> Iterator[tuple[Path, int, int]]:
    """The digits networks with width and depth; those that are not there are trained."""
    shapes = [(width, DEPTH) for width in WIDTHS] + [(WIDTH, depth) for depth in DEPTHS if depth != DEPTH]
    for width, depth in shapes:
        for seed in range(seeds):
            path = folder / f"digits_{width}x{depth}_seed{seed}.onnx"
            if not path.is_file():
                options = {"--width": width, "--depth": depth, "--seed": seed, "--out": folder}
                words = [str(word) for option in options.items() for word in option]
                done = subprocess.run(
                    [sys.executable, ROOT / "examples" / "train_growth.py", *words],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                progress(done.stdout.strip())
            yield path, width, depth


def measure(part: str, path: Path, width: int, depth: int, limit: float) -> Row:
    """Inspect a network three times, or once where the time runs out."""
    reports: list[Report] = []
    while len(reports) < RUNS and not (reports and reports[-1].cut_short):
        reports.append(inspect(path, "0,1", settings=Settings(time_limit=limit)).report)
    taken = [run.seconds for run in reports]
    return Row(
        part,
        path.name.split("_")[0],
        path.stem,
        width,
        depth,
        reports[0].model.parameters,
        sum(layer.units for layer in reports[0].layers),
        sum(layer.unstable for layer in reports[0].layers),
        sum(layer.undecided for layer in reports[0].layers),
        statistics.median(run["total"] - run["load"] - run["verify"] for run in taken),
        {stage: statistics.median(run[stage] for run in taken) for stage in STAGES},
        any(run.cut_short for run in reports),
    )


def fits(rows: list[Row]) -> list[Fit]:
    """All exponents that the networks of both parts allow."""
    found = []
    for part in ("images", "digits"):
        mine = [row for row in rows if row.part == part and not row.cut_short]
        same = [row for row in mine if row.data != "cifar10"]
        by_width, by_depth = ([row for row in same if row.depth == DEPTH], [row for row in same if row.width == WIDTH])
        for over, chosen, quantity in (
            (f"depth {DEPTH}", by_width, "width"),
            (f"depth {DEPTH}", by_width, "parameters"),
            (f"width {WIDTH}", by_depth, "depth"),
            ("all", mine, "parameters"),
        ):
            if len({getattr(row, quantity) for row in chosen}) > 1:
                found.append(fit(part, quantity, over, chosen))
    return found


def fit(part: str, quantity: str, over: str, rows: list[Row]) -> Fit:
    """A line through the logarithms."""
    x = np.log([float(getattr(row, quantity)) for row in rows])
    y = np.log([row.seconds for row in rows])
    line = linregress(x, y)
    error, share = (float(line.stderr), float(line.rvalue**2)) if len(set(x)) > 2 else (None, None)
    return Fit(part, quantity, over, len(rows), float(line.slope), error, float(np.exp(line.intercept)), share)


def cells(row: Row) -> list[str]:
    """The row of the table."""
    return [
        row.network,
        *[f"{number:,}" for number in (row.width, row.depth, row.parameters, row.units, row.unstable, row.undecided)],
        f"{row.seconds:.3f}" + ("!" if row.cut_short else ""),
        *[f"{row.stages[stage]:.3f}" for stage in STAGES],
    ]


COLUMNS = ("network", "width", "depth", "parameters", "units", "unstable", "undecided", "s", *STAGES)


def tables(rows: list[Row]) -> Iterator[Table]:
    """The measurements, and the exponents."""
    table = Table(caption="s: median of three runs (!: time limit; one run, not fitted), then by stage.")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left")
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*cells(row), end_section=after is not None and after.part != row.part)
    yield table
    table = Table("part", "over", "networks", "seconds ~", "error", "factor", "explained")
    for each in fits(rows):
        power = f"{each.quantity}^{each.exponent:.2f}"
        error = "two sizes only" if each.error is None else f"± {each.error:.2f}"
        share = "" if each.share is None else f"{100 * each.share:.0f} %"
        table.add_row(each.part, each.over, str(each.networks), power, error, f"{each.factor:.2g}", share)
    yield table


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="networks whose name contains this text")
    parser.add_argument("--seeds", type=int, default=1, help="how many networks to train of each shape")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds of proving for each run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "reluce_l1").is_dir():
        sys.exit(f"{arguments.data}: no networks/reluce_l1 here; name the data folder with --data or RELUCE_DATA")
    progress = Console(stderr=True, width=200, highlight=False)
    trained = digits(ROOT / "build" / "growth", arguments.seeds, progress.print)
    rows: list[Row] = []
    for part, networks in (("images", images(arguments.data)), ("digits", trained)):
        for path, width, depth in networks:
            if arguments.only in path.name:
                rows.append(measure(part, path, width, depth, arguments.time_limit))
                progress.print(" | ".join(cells(rows[-1])), soft_wrap=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {"networks": [asdict(row) for row in rows], "fits": [asdict(each) for each in fits(rows)]}
    (arguments.out / "growth.json").write_text(json.dumps(found, indent=1))
    with (arguments.out / "growth.txt").open("w") as file:
        Console(file=file, width=160).print(*tables(rows))
    Console(width=160).print(*tables(rows))


if __name__ == "__main__":
    main()
