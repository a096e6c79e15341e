"""How far the ladder decides networks that nobody trained for it, over their stated boxes, without data.

    python benchmarks/decide.py --data ../shared [--only acasxu] [--all] [--time-limit 600] [--out benchmarks/results]

Networks: those of LISTED, or with --all every network of DATA/networks/INDEX.json and the project's own. Each one that
is inspected becomes a file in OUT/decide; a rerun reads what lies there (whatever its time limit was) and does the
rest, --again does all. Networks that were refused are always tried again.

Prints the verdicts, who proved them and where the time went, then for each network the units that are hardest to
decide, and for the networks of IMAGES the share that was decided of the units that the 60,000 MNIST training images
leave open: those that lack a positive or a negative sign on all of them. Writes the same to OUT/decide.txt.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from reluce import Interrupted, Settings, inspect
from reluce.bounds import analyse
from reluce.domain import make_box
from reluce.io import open_model
from reluce.network import Array
from reluce.prove import Witnesses
from run import Case, cases

LISTED = (
    "reluce_l1/",
    "vnncomp2021/mnistfc/mnist-net_256x2.onnx",
    "vnncomp2021/mnistfc/mnist-net_256x4.onnx",
    "vnncomp2021/mnistfc/mnist-net_256x6.onnx",
    "vnncomp2024/cora/mnist-point.onnx.gz",
    "vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx",
    "vnncomp2021/acasxu/ACASXU_run2a_3_7_batch_2000.onnx",
    "vnncomp2021/acasxu/ACASXU_run2a_5_6_batch_2000.onnx",
    "sisl/HCAS_rect_v6_pra0_tau00_25HU_3000.onnx",
    "sisl/HCAS_rect_v6_pra4_tau60_25HU_3000.onnx",
    "sisl/VertCAS_pra05_v4_45HU_200.onnx",
    "vnncomp2022/tllverifybench/tllBench_n=2_N=M=8_m=1_instance_0_0.onnx.gz",
    "vnncomp2022/tllverifybench/tllBench_n=2_N=M=8_m=1_instance_0_3.onnx.gz",
    "vnncomp2022/tllverifybench/tllBench_n=2_N=M=16_m=1_instance_1_0.onnx.gz",
    "vnncomp2022/rl_benchmarks/cartpole.onnx.gz",
    "vnncomp2022/rl_benchmarks/dubinsrejoin.onnx.gz",
    "vnncomp2022/rl_benchmarks/lunarlander.onnx.gz",
    "hls4ml/KERAS_3layer.onnx",
    "hls4ml/KERAS_3layer_70pruned_retrained.onnx",
    "hls4ml/three_layer_pytorch.opset13.onnx",
    "marabou/nnet/mnist10x20.onnx",
    "marabou/nnet/mnist20x20.onnx",
    "marabou/nnet/reluBenchmark0.0318529605865s_UNSAT.onnx",
    "archcomp2023/Airplane_controller_airplane.onnx",
    "archcomp2023/Double_Pendulum_controller_double_pendulum_more_robust.onnx",
    "archcomp2023/Single_Pendulum_controller_single_pendulum.onnx",
    "vnncomp2022/nn4sys/lindex.onnx.gz",
    "vnncomp2022/nn4sys/lindex_deep.onnx.gz",
    "sb3/dqn_Acrobot-v1.onnx",
    "sb3/sac_Pendulum-v1_actor.onnx",
    "vnncomp2024/linearizenn/AllInOne_10_10.onnx.gz",
    "vnncomp2024/linearizenn/AllInOne_120_120.onnx.gz",
)
"""How the names of the networks begin that are measured without --all, in this order."""

IMAGES = {"vnncomp2021/mnistfc/mnist-net_256x6.onnx": False, "vnncomp2024/cora/mnist-point.onnx.gz": True}
"""Networks whose units are compared with what MNIST images leave open; whether they read the pixels by column."""

RUNGS = {
    "cheap": ("constant", "closed form", "interval", "crown", "exact"),
    "alpha": ("alpha-crown",),
    "branch": ("branch and bound",),
    "split": ("input splitting",),
}
STAGES = ("refute", "bounds", "prove")
HARDEST = 10

Json = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """A sign that an undecided unit lacks: the proven bound on that side, and the best value that any point reached."""

    layer: str
    unit: int
    sign: str
    bound: float
    best: float

    @property
    def hardness(self) -> float:
        """How much farther from zero the bound is than the best point."""
        return abs(self.bound) / abs(self.best) if self.best else math.inf


def selected(root: Path, only: str, everything: bool) -> list[Case]:
    """The networks to measure: the project's own first, then those of LISTED in its order, then all others."""

    def place(case: Case) -> int:
        return next((number for number, start in enumerate(LISTED) if case.name.startswith(start)), len(LISTED))

    return sorted((case for case in cases(root, only) if everything or place(case) < len(LISTED)), key=place)


def measure(case: Case, root: Path, seconds: float) -> Json:
    """Inspect one network; what is kept of it."""
    kept: Json = {"network": case.name, "domain_stated": case.stated, "time_limit": seconds, "refused": None}
    settings = Settings(time_limit=seconds, input_shapes=case.shapes)
    try:
        report = inspect(case.path, case.domain, settings=settings).report
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except Exception as error:  # also what nobody foresaw: the other networks are still to be measured
        return kept | {"refused": f"{type(error).__name__}: {error}"}
    if report.cut_short and report.seconds["total"] < seconds:
        raise KeyboardInterrupt
    images = open_after_images(case, root) if case.name in IMAGES else None
    return kept | {"report": report.to_json(), "open_after_images": images}


def open_after_images(case: Case, root: Path) -> dict[str, list[int]]:
    """For each ReLU the units that lack a sign on all training images."""
    with np.load(root / "data" / "mnist.npz") as file:
        images: Array = file["train_x"].swapaxes(1, 2) if IMAGES[case.name] else file["train_x"]
    network = open_model(case.path, input_shapes=case.shapes).network
    box, (name,) = make_box(network, case.domain), network.inputs
    pool = Witnesses(network, box, analyse(network, box, stop=lambda: True).intervals)
    pool.feed({name: images.reshape(len(images), *network.shape(name)) / 255.0})
    return {node.output: np.flatnonzero(np.logical_or(*pool.open(node))).tolist() for node in pool.layers}


def file_of(folder: Path, case: Case) -> Path:
    """Where the outcome of a network is kept."""
    return folder / f"{case.name.replace('/', '__')}.json"


def write(path: Path, outcome: Json) -> None:
    """Write a file that is there as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(outcome, indent=1))
    temporary.replace(path)


def seen(report: Json) -> Iterator[Json]:
    """The layers that can be looked at."""
    return (layer for layer in report["layers"] if not layer["reason"])


def undecided(report: Json) -> int:
    """How many units the ladder was asked about and did not decide."""
    return sum(layer["undecided"] for layer in seen(report))


def unseen(report: Json) -> int:
    """How many undecided units stand behind an operation that is not modelled."""
    return sum(layer["undecided"] for layer in report["layers"] if layer["reason"])


COLUMNS = ("network", "units", "refuted", *RUNGS, "undecided", "unseen", "s", *STAGES)
LEGEND = """refuted: unstable, by two witnesses. Proved stable: cheap (constants, closed form, intervals, CROWN, exact),
alpha (optimised slopes), branch (ReLU splits), split (of the box). unseen: undecided behind an operation
that is not modelled. s: total - load (!: time limit), then by stage. *: no box is stated, [-1,1] assumed."""


def cells(outcome: Json) -> list[str]:
    """The row of the table."""
    name = outcome["network"] + ("" if outcome["domain_stated"] else " *")
    if outcome["refused"]:
        return [name, *["-"] * (len(COLUMNS) - 1)]
    report = outcome["report"]
    decided: Counter[str] = Counter()
    for row in report["rungs"]:
        decided[row["rung"]] += row["decided"]
    counts = [
        sum(layer["units"] for layer in report["layers"]),
        sum(layer["unstable"] for layer in report["layers"]),
        *[sum(decided[rung] for rung in rungs) for rungs in RUNGS.values()],
        undecided(report),
        unseen(report),
    ]
    seconds = report["seconds"]
    return [
        name,
        *[f"{count:,}" for count in counts],
        f"{seconds['total'] - seconds['load']:.2f}" + ("!" if report["cut_short"] else ""),
        *[f"{seconds[stage]:.2f}" for stage in STAGES],
    ]


def overview(outcomes: list[Json]) -> Table:
    """A row for each network."""
    result = Table(caption=LEGEND, caption_justify="left")
    for number, name in enumerate(COLUMNS):
        result.add_column(name, justify="right" if number else "left", overflow="fold")
    for outcome in outcomes:
        result.add_row(*cells(outcome))
    return result


def sides(layer: Json, unit: int) -> Iterator[Side]:
    """The signs that a unit lacks; where float64 saw both and could vouch for one at most, the one nearer to zero."""
    low, high = layer["lower"][unit], layer["upper"][unit]
    lowest, highest = layer["lowest"][unit], layer["highest"][unit]
    lowest, highest = math.inf if lowest is None else lowest, -math.inf if highest is None else highest
    doubtful = lowest < 0 < highest
    if highest <= 0 or (doubtful and highest <= -lowest):
        yield Side(layer["name"], unit, "+", math.inf if high is None else high, highest)
    if lowest >= 0 or (doubtful and highest > -lowest):
        yield Side(layer["name"], unit, "-", -math.inf if low is None else low, lowest)


def hardest(report: Json) -> list[Side]:
    """The undecided units that are hardest to decide; of a unit that lacks both signs, the side that is easier."""
    open_units = [
        min(sides(layer, unit), key=lambda side: side.hardness)
        for layer in seen(report)
        for unit, verdict in enumerate(layer["verdicts"])
        if verdict == "undecided"
    ]
    return sorted(open_units, key=lambda side: (-side.hardness, -abs(side.bound)))[:HARDEST]


def details(outcomes: list[Json]) -> Table:
    """The hardest units of each network that has undecided ones."""
    result = Table(caption="The sign that is missing; hardness: |bound| / |best|, what a proof has to overcome.")
    for number, name in enumerate(("network", "layer", "unit", "sign", "proven bound", "best point", "hardness")):
        result.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for outcome in outcomes:
        for number, side in enumerate(hardest(outcome["report"])):
            values = (f"{value:.3g}" for value in (side.bound, side.best, side.hardness))
            result.add_row("" if number else outcome["network"], side.layer, str(side.unit), side.sign, *values)
        result.add_section()
    return result


def share(outcome: Json) -> str:
    """How many of the units that images leave open were decided."""
    parts = []
    for layer in outcome["report"]["layers"]:
        units = outcome["open_after_images"].get(layer["name"], ())
        parts.append((sum(layer["verdicts"][unit] != "undecided" for unit in units), len(units)))
    decided, count = (sum(column) for column in zip(*parts, strict=True))
    by_layer = ", ".join(f"{part[0]}/{part[1]}" for part in parts)
    percent = f" ({100 * decided / count:.1f} %)" if count else ""
    name = outcome["network"]
    return (
        f"{name}: of the units that 60,000 images leave open {decided} of {count} decided{percent}; by layer {by_layer}"
    )


def show(console: Console, outcomes: list[Json], skipped: int) -> None:
    """Print everything."""
    done = [outcome for outcome in outcomes if not outcome["refused"]]
    refused = [outcome for outcome in outcomes if outcome["refused"]]
    closed = [outcome for outcome in done if not undecided(outcome["report"])]
    whole = [outcome for outcome in closed if not unseen(outcome["report"])]
    console.print(overview(outcomes))
    if len(closed) < len(done):
        console.print(details([outcome for outcome in done if outcome not in closed]))
    lines = [share(outcome) for outcome in done if outcome["open_after_images"] is not None]
    lines += [f"refused: {outcome['network']}: {outcome['refused']}" for outcome in refused]
    lines.append(
        f"{len(outcomes)} networks: {len(done) - skipped} done, {skipped} skipped (done before), {len(refused)} refused"
        f"; {len(closed)} of {len(done)} with 0 undecided ({len(whole)} of them with 0 unseen)"
    )
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="of these networks, those whose path contains this text")
    parser.add_argument("--all", action="store_true", help="every network of the folder")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--time-limit", type=float, default=600.0, help="seconds of proving for each network")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        sys.exit(f"{arguments.data}: no networks/INDEX.json here; name the data folder with --data or RELUCE_DATA")
    folder, progress = arguments.out / "decide", Console(stderr=True, width=200, highlight=False)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes, skipped = [], 0
    with suppress(KeyboardInterrupt):  # what is done is shown, and the next run does the rest
        for case in selected(arguments.data, arguments.only, arguments.all):
            path = file_of(folder, case)
            outcome = None if arguments.again or not path.is_file() else json.loads(path.read_text())
            if outcome is None or outcome["refused"]:
                outcome = measure(case, arguments.data, arguments.time_limit)
                write(path, outcome)
                progress.print(" | ".join(cells(outcome)), markup=False, soft_wrap=True)
            else:
                skipped += 1
            outcomes.append(outcome)
    with (arguments.out / "decide.txt").open("w") as file:
        show(Console(file=file, width=200), outcomes, skipped)
    show(Console(width=200), outcomes, skipped)


if __name__ == "__main__":
    main()
