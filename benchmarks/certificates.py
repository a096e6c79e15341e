"""What a certificate costs: units that stay for it, seconds to make and to check it, and bytes.

    python benchmarks/certificates.py --data ../shared [--only TEXT] [--all] [--guarantee roundoff] [--time-limit 60]

Networks: those of FAMILIES, or with --all every network of DATA/networks/INDEX.json and the project's own, smallest
files first. Each is compressed twice, with a certificate and without, over its stated box; the checker then reads the
three files once more by itself. Each row is printed as it comes and kept in OUT/certificates.json; a rerun does what is
missing there at this guarantee and what was not proved, --again does all. OUT/certificates.txt has the rows of all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reluce import Interrupted, ReluceError, Report, Result, Settings, compress, parse_guarantee
from reluce.domain import make_box
from reluce.guarantee import Level
from reluce_checker import NotProved, Unreadable, check
from run import Case, cases

FAMILIES = (
    "reluce_l1/",
    "vnncomp2021/acasxu/",
    "vnncomp2021/mnistfc/",
    "vnncomp2021/test/",
    "vnncomp2022/tllverifybench/",
    "vnncomp2022/rl_benchmarks/",
    "vnncomp2022/nn4sys/",
    "vnncomp2022/reach_prob_density/",
    "vnncomp2023/dist_shift/",
    "vnncomp2024/ACC/",
    "vnncomp2024/cora/",
    "vnncomp2024/drones_1d_hovering/",
    "vnncomp2024/linearizenn/",
    "vnncomp2024/lsnc/",
    "vnncomp2024/ml4acopf/",
    "vnncomp2024/nn4sys/",
    "vnncomp2024/safenlp/",
    "archcomp2023/",
    "hls4ml/",
    "isa/",
    "marabou/",
    "sb3/",
    "sisl/",
)
"""How the names of the networks begin that are measured without --all: those that are mostly dense."""

PROVING = ("refute", "bounds", "prove")
LOST = "the independent checker did not accept the certificate of it"

Json = dict[str, Any]


def selected(root: Path, only: str, everything: bool) -> list[Case]:
    """The networks to measure, the project's own first, then smallest files first."""
    chosen = [case for case in cases(root, only) if everything or case.name.startswith(FAMILIES)]
    return sorted(chosen, key=lambda case: (not case.name.startswith(FAMILIES[0]), case.path.stat().st_size))


def measure(case: Case, level: Level, seconds: float) -> Json:
    """Compress one network with a certificate and without, and check the certificate once more; what is kept of it."""
    row: Json = {
        "network": case.name,
        "guarantee": str(level),
        "domain_stated": case.stated,
        "time_limit": seconds,
        "status": "",
        "done": False,
    }
    try:
        certified = _compressed(case, level, seconds, True)
        row |= _with(certified.report) | _checked(certified, case)
        row |= _without(_compressed(case, level, seconds, False).report, row)
    except Interrupted as error:
        raise KeyboardInterrupt from error
    except ReluceError as error:
        return row | {"status": f"refused: {type(error).__name__}: {error}"}
    except Exception as error:  # also what nobody foresaw: the other networks are still to be measured
        return row | {"status": f"crashed: {type(error).__name__}: {error}"}
    return row | {"done": True}


def _compressed(case: Case, level: Level, seconds: float, certificate: bool) -> Result:
    settings = Settings(level, time_limit=seconds, input_shapes=case.shapes)
    with tempfile.TemporaryDirectory() as folder:
        result = compress(
            case.path,
            case.domain,
            output=Path(folder) / "small.onnx",
            data=case.data,
            certificate=certificate,
            settings=settings,
        )
    if result.report.cut_short and result.report.seconds["total"] < seconds:
        raise KeyboardInterrupt
    return result


def _kept(report: Report) -> int:
    return sum(layer.units if layer.kept is None else layer.kept for layer in report.layers)


def _proving(report: Report) -> float:
    return sum(report.seconds.get(stage, 0.0) for stage in PROVING)


def _with(report: Report) -> Json:
    """What the run with a certificate gave."""
    return {
        "units": sum(layer.units for layer in report.layers),
        "kept": _kept(report),
        "parameters": report.model.parameters,
        "after": None if report.compressed is None else report.compressed.parameters,
        "cut_short": report.cut_short,
        "seconds": {**report.seconds, "proving": _proving(report)},
        "unaccepted": [f"{refusal.where}: {refusal.what}" for refusal in report.refusals if refusal.why == LOST],
    }


def _checked(result: Result, case: Case) -> Json:
    """How the checker finds the three files, or why there is no certificate."""
    made = result.certified
    if made is None:
        reasons = [note for note in result.report.notes if note.startswith("no certificate")]
        return {"status": "fell back: " + "; ".join(reasons), "check": None, "certificate": None}
    box = make_box(result.loaded.network, case.domain)
    ends = {name: (low.ravel(), box.upper[name].ravel()) for name, low in box.lower.items()}
    started = time.perf_counter()
    try:
        proved = check(made.original, made.compressed, made.certificate, lambda graph: ends)
    except (NotProved, Unreadable) as error:
        return {"status": f"not proved again: {error}", "check": None, "certificate": None}
    return {
        "status": "proved",
        "check": time.perf_counter() - started,
        "certificate": {
            "bytes": len(made.certificate),
            "model_bytes": len(made.original),
            "share": len(made.certificate) / len(made.original),
            "facts": proved.facts,
            "signs": proved.claims,
            "epsilon": proved.largest,
        },
    }


def _without(report: Report, row: Json) -> Json:
    """What the run without a certificate gave, next to the other one."""
    return {
        "kept_without": _kept(report),
        "after_without": None if report.compressed is None else report.compressed.parameters,
        "cut_short_without": report.cut_short,
        "seconds_without": {**report.seconds, "proving": _proving(report)},
        "lost": row["kept"] - _kept(report),
    }


COUNTS, SECONDS, SIZES = ("before", "certified", "without", "lost"), ("prove", "certify", "check"), ("kB", "%")
COLUMNS = ("network", *COUNTS, *SECONDS, *SIZES, "facts", "signs")
LEGEND = """before, certified, without: parameters; without a certificate. lost: units kept for it (below 0: the other
run ran out of time). prove: refute + bounds + prove (!: time limit); certify: rewriting and certifying; check: the
checker alone, from the bytes (seconds). kB: of the certificate; %: of the model file. *: no box is stated, [-1,1]
assumed."""


def cells(row: Json) -> list[str]:
    """The row of the table; a status that is not `proved` stands in place of the certificate's columns."""
    name = row["network"] + ("" if row["domain_stated"] else " *")
    if not row["done"]:
        return [name, *["-"] * (len(COLUMNS) - 2), row["status"]]
    seconds, part = row["seconds"], row["certificate"]
    cut = "!" if row["cut_short"] or row["cut_short_without"] else ""
    found = [
        name,
        *(f"{row[key]:,}" for key in ("parameters", "after", "after_without")),
        str(row["lost"]),
        f"{seconds['proving']:.2f}{cut}",
        f"{seconds['rewrite'] + seconds['certify']:.2f}",
    ]
    if part is None:
        return [*found, *["-"] * (len(COLUMNS) - len(found) - 1), row["status"]]
    size = (f"{part['bytes'] / 1000:.1f}", f"{100 * part['share']:.1f}", str(part["facts"]), str(part["signs"]))
    return [*found, f"{row['check']:.2f}", *size]


def table(rows: list[Json], level: str) -> Table:
    """The rows of one guarantee."""
    result = Table(title=level, caption=LEGEND, caption_justify="left")
    for number, name in enumerate(COLUMNS):
        result.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        listed = cells(row)
        result.add_row(*(listed if row["status"] == "proved" else [*listed[:-1], row["status"].partition(":")[0]]))
    return result


def show(console: Console, rows: list[Json]) -> None:
    """Print a table for each guarantee, then what was not proved and how much was lost."""
    for level in dict.fromkeys(row["guarantee"] for row in rows):
        mine = [row for row in rows if row["guarantee"] == level]
        console.print(table(mine, level))
        proved = [row for row in mine if row["status"] == "proved"]
        lines = [f"{row['network']}: {row['status']}" for row in mine if row not in proved]
        whole = sum(row["lost"] <= 0 for row in proved if row["done"])
        lines.append(f"{level}: {len(mine)} networks, {len(proved)} proved, {whole} of them without losing a unit")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def write(path: Path, rows: list[Json]) -> None:
    """Write a file that is there as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(rows, indent=1))
    temporary.replace(path)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="of these networks, those whose path contains this text")
    parser.add_argument("--all", action="store_true", help="every network of the folder")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--guarantee", type=parse_guarantee, default="roundoff", help="exact, roundoff or within=EPS")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of proving and rewriting per run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        sys.exit(f"{arguments.data}: no networks/INDEX.json here; name the data folder with --data or RELUCE_DATA")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path, level = arguments.out / "certificates.json", arguments.guarantee
    rows: dict[tuple[str, str], Json] = {}
    if path.is_file():
        rows = {(row["network"], row["guarantee"]): row for row in json.loads(path.read_text())}
    with suppress(KeyboardInterrupt):  # what is done is shown, and the next run does the rest
        for case in selected(arguments.data, arguments.only, arguments.all):
            key = (case.name, str(level))
            if arguments.again or key not in rows or rows[key]["status"] != "proved" or not rows[key]["done"]:
                rows[key] = measure(case, level, arguments.time_limit)
                write(path, list(rows.values()))
                print(" | ".join(cells(rows[key])), file=sys.stderr, flush=True)
    with (arguments.out / "certificates.txt").open("w") as file:
        show(Console(file=file, width=200), list(rows.values()))
    show(Console(width=200), [row for row in rows.values() if row["guarantee"] == str(level)])


if __name__ == "__main__":
    main()
