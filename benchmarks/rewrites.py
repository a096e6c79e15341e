"""What the rewrites take out of real networks, and which kinds of units it was.

    python benchmarks/rewrites.py --data ../shared [--only TEXT] [--most 20] [--guarantee roundoff] [--time-limit 60]

Every network of DATA/networks/INDEX.json and the project's own whose file has at most MOST MB is compressed over its
stated box, in a process of its own that is killed at twice the time limit and a minute; smallest files first. What
became of it is appended to OUT/rewrites.jsonl, one line a network and guarantee; a rerun does what is missing there,
--again does all (the last line of a network counts). Prints a table and writes it to OUT/rewrites.txt.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reluce import Interrupted, Report, Settings, compress, parse_guarantee
from reluce.guarantee import Level
from run import Case, cases

Json = dict[str, Any]


def selected(root: Path, only: str, most: float) -> list[Case]:
    """The networks to measure, smallest files first."""
    chosen = [case for case in cases(root, only) if case.path.stat().st_size <= most * 1e6]
    return sorted(chosen, key=lambda case: (case.path.stat().st_size, case.name))


def measure(case: Case, level: Level, seconds: float) -> Json:
    """Compress one network in a process of its own; what is kept of it."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(case, level, seconds, theirs))
    started = time.perf_counter()
    process.start()
    theirs.close()
    try:
        outcome: Json = {"status": "killed: out of time"}
        if mine.poll(2 * seconds + 60):
            outcome = mine.recv()
    except EOFError:
        outcome = {"status": "crashed: the process died"}
    finally:
        process.kill()
        process.join()
    if outcome["status"] == "interrupted":
        raise KeyboardInterrupt
    row = {"network": case.name, "guarantee": str(level), "domain_stated": case.stated, "time_limit": seconds}
    return row | {"wall": time.perf_counter() - started} | outcome


def _work(case: Case, level: Level, seconds: float, pipe: Any) -> None:
    """What the process does: one compression, without a certificate."""
    settings = Settings(level, time_limit=seconds, input_shapes=case.shapes)
    try:
        result = compress(case.path, case.domain, data=case.data, certificate=False, settings=settings)
        pipe.send({"status": "done"} | removed(result.report))
    except (KeyboardInterrupt, Interrupted):
        pipe.send({"status": "interrupted"})
    except Exception as error:  # also what nobody foresaw: the other networks are still to be measured
        pipe.send({"status": f"refused: {type(error).__name__}: {error}"})


def removed(report: Report) -> Json:
    """Sizes before and after, units by layer, and of which verdict those were that went.

    Of active units the layers are counted apart that are gone as a whole (``folded``). Units that are unstable or
    undecided go only where nothing reads them any more, or where another rewrite takes them.
    """
    went: Counter[str] = Counter()
    for layer in report.layers:
        left = set(layer.kept_units if layer.kept_units is not None else range(layer.units))
        lost = [verdict for unit, verdict in enumerate(layer.verdicts) if unit not in left]
        folded = not left and set(lost) >= {"active"}
        went.update("folded" if folded and verdict == "active" else verdict for verdict in lost)
    after = report.compressed
    return {
        "parameters": report.model.parameters,
        "after": None if after is None else after.parameters,
        "nonzeros": report.model.nonzeros,
        "nonzeros_after": None if after is None else after.nonzeros,
        "units": [layer.units for layer in report.layers],
        "kept": [layer.kept for layer in report.layers],
        "went": dict(went),
        "refusals": [f"{refusal.where}: {refusal.what}: {refusal.why}" for refusal in report.refusals],
        "epsilon": None if report.guarantee is None else report.guarantee.epsilon,
        "seconds": dict(report.seconds),
        "cut_short": report.cut_short,
    }


WENT = ("constant", "inactive", "active", "folded", "unstable", "undecided")
COLUMNS = ("network", "parameters", "after", "times", "units", "kept", *WENT, "refused", "s")
LEGEND = """times: parameters before / after. constant .. undecided: units that went, by what was proved of them
(active: merged, or as good as constant; folded: active, of layers that went as a whole). refused: reasons for
units that stay. s: the whole run (!: time limit). *: no box is stated, [-1,1] assumed."""


def cells(row: Json) -> list[str]:
    """The row of the table."""
    name = row["network"] + ("" if row["domain_stated"] else " *")
    if row["status"] != "done" or row["after"] is None:
        return [name, row["status"].partition(":")[0], *["-"] * (len(COLUMNS) - 2)]
    return [
        name,
        f"{row['parameters']:,}",
        f"{row['after']:,}",
        f"{row['parameters'] / max(row['after'], 1):.2f}",
        f"{sum(row['units']):,}",
        f"{sum(units if kept is None else kept for units, kept in zip(row['units'], row['kept'], strict=True)):,}",
        *[f"{row['went'].get(kind, 0):,}" for kind in WENT],
        str(len(row["refusals"])),
        f"{row['wall']:.1f}" + ("!" if row["cut_short"] else ""),
    ]


def show(console: Console, rows: list[Json]) -> None:
    """Print a table for each guarantee, and what was not done."""
    for level in dict.fromkeys(row["guarantee"] for row in rows):
        mine = [row for row in rows if row["guarantee"] == level]
        table = Table(title=level, caption=LEGEND, caption_justify="left")
        for number, name in enumerate(COLUMNS):
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in mine:
            table.add_row(*cells(row))
        console.print(table)
        done = [row for row in mine if row["status"] == "done"]
        smaller = sum(row["after"] < row["parameters"] for row in done)
        lines = [f"{row['network']}: {row['status']}" for row in mine if row["status"] != "done"]
        lines.append(f"{level}: {len(mine)} networks, {len(done)} compressed, {smaller} of them smaller")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


def read(path: Path) -> dict[tuple[str, str], Json]:
    """The last line of each network and guarantee; a line that was cut off by a kill does not count."""
    rows: dict[tuple[str, str], Json] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            rows[row["network"], row["guarantee"]] = row
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="of these networks, those whose path contains this text")
    parser.add_argument("--most", type=float, default=20.0, help="MB that a file may have")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--guarantee", type=parse_guarantee, default="roundoff", help="exact, roundoff or within=EPS")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of proving and rewriting per network")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        sys.exit(f"{arguments.data}: no networks/INDEX.json here; name the data folder with --data or RELUCE_DATA")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path, level = arguments.out / "rewrites.jsonl", arguments.guarantee
    rows = read(path)
    with suppress(KeyboardInterrupt):  # what is done is shown, and the next run does the rest
        for case in selected(arguments.data, arguments.only, arguments.most):
            key = (case.name, str(level))
            if not arguments.again and key in rows:
                continue
            rows[key] = measure(case, level, arguments.time_limit)
            with path.open("a") as file:
                file.write("\n" * _torn(path) + json.dumps(rows[key]) + "\n")
            print(" | ".join(cells(rows[key])), file=sys.stderr, flush=True)
    with (arguments.out / "rewrites.txt").open("w") as file:
        show(Console(file=file, width=200), list(rows.values()))
    show(Console(width=200), [row for row in rows.values() if row["guarantee"] == str(level)])


def _torn(path: Path) -> bool:
    """Whether the last line was cut off."""
    data = path.read_bytes()
    return bool(data) and not data.endswith(b"\n")


if __name__ == "__main__":
    main()
