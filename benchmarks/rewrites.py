"""What the rewrites take out of real networks, what each contributes, and whether their order matters.

    python benchmarks/rewrites.py --data ../shared [--only TEXT] [--most 20] [--guarantee roundoff] [--time-limit 60]

Every network of DATA/networks/INDEX.json and the project's own whose file has at most MOST MB is proved once over its
stated box and rewritten: with all rewrites, without each of them, with those alone that LEO has, with skips as well,
and in random orders. That is done in a process of its own that is killed at twice the time limit and a minute; smallest
files first. What became of it is appended to OUT/rewrites.jsonl, one line a network and guarantee; a rerun does what is
missing there, --again does all (the last line of a network counts). Prints tables and writes them to OUT/rewrites.txt.
Parameters are those that count for a rewrite: with the places that a selection lists.
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

import numpy as np
from rich.console import Console
from rich.table import Table

from reluce import Interrupted, parse_guarantee
from reluce.facts import Facts, Verdict
from reluce.guarantee import Level, allowance
from reluce.inputs import domain_of, samples_of
from reluce.io import open_model
from reluce.network import Network
from reluce.prove import prove
from reluce.rewrite import STEPS, Budget, Original, Rewriting, cost, rewrite
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


LEO = ("constants", "fold", "merge")
"""The rewrites of LEO, with constants within the budget."""

SKIPS = "with skips"
"""The variant that has more rewrites than a run without options."""

ORDERS = 4
"""Random orders of the rewrites that are tried."""


def _work(case: Case, level: Level, seconds: float, pipe: Any) -> None:
    """What the process does: proving once, and all the rewritings."""
    deadline = time.monotonic() + seconds
    try:
        loaded = open_model(case.path, input_shapes=case.shapes)
        box = domain_of(loaded, case.domain, "input")
        samples = None if case.data is None else samples_of(loaded, case.data)
        proof = prove(loaded.network, box, samples, stop=lambda: time.monotonic() > deadline)
        allowed = allowance(level, loaded.network, box, proof.bounds, proof.facts, samples)
        original = Original(loaded.network, proof.facts, proof.bounds)
        started = time.perf_counter()
        result = rewrite(original, allowed.budget)
        found = removed(loaded.network, proof.facts, result) | {"rewrite": time.perf_counter() - started}
        pipe.send({"status": "done"} | found | variants(original, allowed.budget))
    except (KeyboardInterrupt, Interrupted):
        pipe.send({"status": "interrupted"})
    except Exception as error:  # also what nobody foresaw: the other networks are still to be measured
        pipe.send({"status": f"refused: {type(error).__name__}: {error}"})


def variants(original: Original, budget: Budget) -> Json:
    """Parameters that are left by other choices of rewrites, and by other orders."""
    whole = list(STEPS)
    orders = [np.random.default_rng(number).permutation(whole).tolist() for number in range(ORDERS)]
    chosen = {f"without {name}": [step for step in whole if step != name] for name in whole}
    chosen |= {"leo": list(LEO), SKIPS: [*whole, "skip"]}
    chosen |= {f"order {number}": order for number, order in enumerate(orders)}
    return {"variants": {name: _parameters(original, budget, steps) for name, steps in chosen.items()}}


def _parameters(original: Original, budget: Budget, steps: list[Any]) -> int:
    return cost(rewrite(original, budget, steps=steps).network, original.network).parameters


def removed(network: Network, facts: Facts, result: Rewriting) -> Json:
    """Sizes before and after, units by layer, and of which verdict those were that went.

    Of active units the layers are counted apart that are gone as a whole (``folded``). Units that are unstable or
    undecided go only where nothing reads them any more, or where another rewrite takes them.
    """
    went: Counter[str] = Counter()
    for name, layer in facts.layers.items():
        left = set(result.kept[name].tolist())
        lost = [Verdict(int(verdict)).name.lower() for unit, verdict in enumerate(layer.verdict) if unit not in left]
        folded = not left and set(lost) >= {"active"}
        went.update("folded" if folded and verdict == "active" else verdict for verdict in lost)
    before, after = cost(network, network), cost(result.network, network)
    return {
        "parameters": before.parameters,
        "after": after.parameters,
        "nonzeros": before.nonzeros,
        "nonzeros_after": after.nonzeros,
        "units": [layer.units for layer in facts.layers.values()],
        "kept": [len(result.kept[name]) for name in facts.layers],
        "new": [int((result.kept[name] < 0).sum()) for name in facts.layers],
        "went": dict(went),
        "refusals": [f"{refusal.where}: {refusal.what}: {refusal.why}" for refusal in result.refusals],
        "epsilon": max((float(values.max(initial=0.0)) for values in result.epsilons.values()), default=0.0),
    }


WENT = ("constant", "inactive", "active", "folded", "unstable", "undecided")
COLUMNS = ("network", "parameters", "after", "times", "leo", "order", "units", "kept", "new", *WENT, "rewrite s", "s")
LEGEND = """times: parameters before / after. leo: the same with LEO's rewrites alone. order: how much larger the result
is in the worst of some random orders of the rewrites. new: units of a re-based or turned layer, among those kept.
constant .. undecided: units that went, by what was proved of them (active: merged, re-based, or as good as constant;
folded: active, of layers that went as a whole). rewrite s: of one rewriting. s: proving and all rewritings. *: no box
is stated, [-1,1] assumed."""


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
        f"{row['parameters'] / max(row['variants']['leo'], 1):.2f}",
        f"{100 * disorder(row):.2f} %",
        f"{sum(row['units']):,}",
        f"{sum(row['kept']):,}",
        f"{sum(row['new']):,}",
        *[f"{row['went'].get(kind, 0):,}" for kind in WENT],
        f"{row['rewrite']:.2f}",
        f"{row['wall']:.1f}",
    ]


def disorder(row: Json) -> float:
    """How much larger the largest result of a random order is."""
    others = [value for name, value in row["variants"].items() if name.startswith("order")]
    return max(0.0, max(others) / max(row["after"], 1) - 1.0)


def contributions(rows: list[Json]) -> Table:
    """How much larger results are without each rewrite, and smaller with skips: of networks that become smaller."""
    table = Table(title="parameters left by other choices of rewrites, against the result of a run without options")
    for number, name in enumerate(("choice", "mean", "extreme", "networks that differ")):
        table.add_column(name, justify="right" if number else "left")
    smaller = [row for row in rows if row["after"] < row["parameters"]]
    for name in smaller[-1]["variants"] if smaller else ():
        if not name.startswith("order"):
            having = [row for row in smaller if name in row["variants"]]  # lines of earlier versions lack some
            factors = np.array([max(row["variants"][name], 1) / max(row["after"], 1) for row in having])
            mean = float(np.exp(np.log(factors).mean()))
            extreme = factors.min() if name == SKIPS else factors.max()
            table.add_row(name, f"{mean:.3f}", f"{extreme:.2f}", str(int((factors != 1).sum())))
    return table


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
        lines.append(f"{level}: {len(mine)} networks, {len(done)} rewritten, {smaller} of them smaller")
        worst = sorted(map(disorder, done))[::-1]
        lines.append(f"random orders leave more parameters by: {', '.join(f'{100 * x:.2f} %' for x in worst[:5])} ...")
        console.print(contributions(done))
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
