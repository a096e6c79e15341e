"""Measure Reluce on a folder of real networks: what the README's figures come from.

    python benchmarks/run.py --data ../shared [--only reluce_l1] [--out benchmarks/results]

Every network under DATA/networks that INDEX.json lists is compressed at `exact`, `roundoff` and `within=1e-5` over its
stated input box (images: [0,1]; none stated: [-1,1], marked *). MNIST networks get the 60,000 training images to refute
with. Prints a table and writes table.txt and results.json. Refused files are listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from reluce import Exact, ReluceError, Report, Roundoff, Settings, Within, compress
from reluce.domain import DomainLike

LEVELS = (Exact(), Roundoff(), Within(1e-5))


@dataclass(frozen=True)
class Case:
    """One network: its file, the box that is stated for it and what to refute with."""

    name: str
    path: Path
    domain: DomainLike
    stated: bool
    shapes: dict[str, tuple[int, ...]] | None
    data: np.ndarray | None


@dataclass(frozen=True)
class Row:
    """What came of one network."""

    case: Case
    exact: Report | None
    roundoff: Report | None
    within: Report | None
    refusal: str = ""


def cases(root: Path, only: str) -> Iterator[Case]:
    """The networks that INDEX.json lists, then the project's L1-trained ones."""
    networks = root / "networks"
    images = mnist(root)
    for entry in json.loads((networks / "INDEX.json").read_text())["networks"]:
        if only in entry["path"]:
            domain, stated = _domain(entry)
            yield Case(entry["path"], networks / entry["path"], domain, stated, _shapes(entry), _data(entry, images))
    for path in sorted((networks / "reluce_l1").glob("*.onnx")):
        name = f"reluce_l1/{path.name}"
        if only in name:
            yield Case(name, path, "0,1", True, None, images if "mnist" in name else None)


def mnist(root: Path) -> np.ndarray:
    """The training images of MNIST, flat, in [0, 1]."""
    with np.load(root / "data" / "mnist.npz") as file:
        return file["train_x"].reshape(60000, -1) / 255.0


def _data(entry: Mapping[str, Any], images: np.ndarray) -> np.ndarray | None:
    plain = "MNIST" in json.dumps(entry.get("measured_accuracy", {})) and _unit_images(entry)
    flat = all(np.prod([d for d in dims if isinstance(d, int)]) == 784 for dims in entry["inputs"].values())
    return images if plain and flat and len(entry["inputs"]) == 1 else None


def _unit_images(entry: Mapping[str, Any]) -> bool:
    return entry["input_domain"].get("preprocessing") == "[0,1]"


def _domain(entry: Mapping[str, Any]) -> tuple[DomainLike, bool]:
    stated = entry["input_domain"]
    if stated["kind"] == "image":
        return "0,1", True
    if "lo" in stated and len(entry["inputs"]) == 1:
        (dims,) = entry["inputs"].values()
        size = int(np.prod([d for d in dims if isinstance(d, int)]))
        ends = (np.asarray(stated[key], dtype=np.float64) for key in ("lo", "hi"))
        low, high = (np.broadcast_to(end, size) if end.size == 1 else end for end in ends)
        return {"lo": low, "hi": high}, True
    if "lo_min" in stated:
        return f"{stated['lo_min']!r},{stated['hi_max']!r}", True
    return "-1,1", False


def _shapes(entry: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Axes beside the batch that the file leaves open are fixed at 8."""
    shapes = {}
    for name, dims in entry["inputs"].items():
        rest = dims[1:] if dims else []
        if any(not isinstance(dim, int) for dim in rest):
            shapes[name] = (-1, *(dim if isinstance(dim, int) else 8 for dim in rest))
    return shapes or None


def measure(case: Case, seconds: float) -> Row:
    """Compress one network at all guarantees."""
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        for level in LEVELS:
            target = Path(folder) / f"{level.word}.onnx"
            settings = Settings(level, time_limit=seconds, input_shapes=case.shapes)
            try:
                reports.append(
                    compress(case.path, case.domain, output=target, data=case.data, settings=settings).report
                )
            except ReluceError as error:
                return Row(case, None, None, None, f"{type(error).__name__}: {error}")
    return Row(case, *reports)


def cells(row: Row) -> list[str]:
    """The row of the table."""
    name = row.case.name + ("" if row.case.stated else " *")
    reports = (row.exact, row.roundoff, row.within)
    if row.exact is None or row.within is None or any(r is None or r.compressed is None for r in reports):
        return [name, "refused: " + row.refusal, *[""] * (len(COLUMNS) - 2)]
    verdicts = [sum(getattr(layer, kind) for layer in row.exact.layers) for kind in VERDICTS]
    seconds = row.exact.seconds
    proving = seconds["total"] - seconds["load"] - seconds["verify"]
    check = row.within.check
    deviation = "-" if check is None or check.measured is None else f"{check.measured:.1e}"
    return [
        name,
        f"{row.exact.model.parameters:,}",
        *[f"{report.compressed.parameters:,}" for report in reports],
        *[str(count) for count in verdicts],
        deviation + ("?" if check is not None and check.measured_only else ""),
        f"{proving:.2f}" + ("!" if row.exact.cut_short else ""),
        *[f"{seconds[stage]:.2f}" for stage in STAGES],
    ]


STAGES = ("load", "refute", "bounds", "rewrite", "verify")
VERDICTS = ("constant", "inactive", "active", "unstable", "undecided")
COLUMNS = (
    "network",
    "parameters",
    "exact",
    "roundoff",
    "within=1e-5",
    "const",
    "inact",
    "act",
    "unst",
    "undec",
    "deviation",
    "s",
    *STAGES,
)
LEGEND = """exact, roundoff, within=1e-5: parameters after.
deviation: largest in onnxruntime at within=1e-5 (?: measured only).
s: total - load - verify at exact (!: time limit); then seconds by stage. *: no box is stated, [-1,1] assumed."""


def table(rows: list[Row]) -> Table:
    """All rows as a table."""
    result = Table(caption=LEGEND, caption_justify="left")
    for number, name in enumerate(COLUMNS):
        result.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        result.add_row(*cells(row))
    return result


def to_json(row: Row) -> dict[str, Any]:
    """The row as plain values."""
    return {
        "network": row.case.name,
        "domain_stated": row.case.stated,
        "refused": row.refusal or None,
        "exact": None if row.exact is None else row.exact.to_json(),
        "roundoff": None if row.roundoff is None else row.roundoff.to_json(),
        "within": None if row.within is None else row.within.to_json(),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="networks whose path contains this text")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of proving and rewriting per run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        sys.exit(f"{arguments.data}: no networks/INDEX.json here; name the data folder with --data or RELUCE_DATA")
    rows = []
    started = time.perf_counter()
    for case in cases(arguments.data, arguments.only):
        rows.append(measure(case, arguments.time_limit))
        print(f"{time.perf_counter() - started:7.1f} s  {' | '.join(cells(rows[-1]))}", file=sys.stderr, flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps([to_json(row) for row in rows], indent=1))
    with (arguments.out / "table.txt").open("w") as file:
        Console(file=file, width=200).print(table(rows))
    Console(width=200).print(table(rows))


if __name__ == "__main__":
    main()
