"""Measure Reluce's provers against LEO and ISA as published, on the same networks, machine and solver.

    python benchmarks/baselines.py --data ../shared [--only 25x25] [--minutes 20] [--solver highs]

Networks: DATA/networks/reluce_l1, MNIST with two hidden layers of 25, 50 and 100 units, on [0, 1]^784. One row each for

* ladder: Reluce's own provers and rewriting, without data: total - load - verify of the report (median of three runs)
* leo: two MILPs a unit, which stop at the sign; bounds of earlier layers are big-Ms, stable units have no binary
* isa: one MILP of the network with big-M = 2 max(bound, 1), as in the authors' code, where every unit has a binary; the
  60,000 training images remove candidates first
* isa+: the same, where units that are stable on their interval have no binary

Of the baselines the solver's own seconds count: reading, evaluating data, building and loading models are outside the
clock; `wall` has them too. A baseline gets at most --minutes. Beyond that LEO is extrapolated from a seeded sample of
units of each layer, marked ~; ISA has no parts, so its row is a lower bound, marked >.

Where a baseline and the ladder differ in a verdict, the exact value at a witness decides. Writes baselines.json and
baselines.txt.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from reluce import Box, Settings, compress
from reluce.bounds import Bounds, Interval, analyse, exact_intervals
from reluce.domain import make_box
from reluce.facts import Facts, Verdict
from reluce.io import open_model
from reluce.network import Dyadic, Network, Node
from reluce.prove import Effort, Proof, ProverSettings, Question, Witnesses, Word, isa, leo, prove
from reluce.run import Deadline
from reluce.solve import open_session

WIDTHS = ("25x25", "50x50", "100x100")
SAMPLE = 8
"""Units of each layer that stand for all where LEO takes too long."""


@dataclass(frozen=True, eq=False)
class Case:
    """A network with its box, the data that ISA may use, and what the ladder found."""

    name: str
    path: Path
    network: Network
    box: Box
    bounds: Bounds
    images: np.ndarray
    proof: Proof
    solver: str

    def witnesses(self, data: bool) -> Witnesses:
        """A pool that is empty but for what the data show."""
        pool = Witnesses(self.network, self.box, self.bounds.intervals)
        if data:
            pool.feed({self.network.inputs[0]: self.images})
        return pool

    def question(self, witnesses: Witnesses, deadline: Deadline, bounds: Bounds | None = None) -> Question:
        """What a baseline is given."""

        def stop() -> bool:
            return deadline.passed

        load = partial(open_session, self.solver, stop=stop)
        return Question(self.network, self.box, bounds or self.bounds, witnesses, load, stop)


@dataclass(frozen=True, eq=False)
class Row:
    """One prover on one network. ``mark`` is ~ for an extrapolation, > for a lower bound, empty for a measurement."""

    network: str
    prover: str
    seconds: float
    mark: str = ""
    effort: Effort = field(default_factory=Effort)
    verdicts: dict[str, int] | None = None
    ratio: float = 1.0
    wall: float | None = None
    agree: int = 0
    disagree: int = 0
    undecided: int = 0
    explanations: tuple[str, ...] = ()


def cases(root: Path, only: str, solver: str) -> Iterator[Case]:
    """The networks, in order of size."""
    with np.load(root / "data" / "mnist.npz") as file:
        images = file["train_x"].reshape(60000, -1) / 255.0
    for width in WIDTHS:
        for path in sorted((root / "networks" / "reluce_l1").glob(f"mnist_{width}_l1-*.onnx")):
            if only in path.name:
                network = open_model(path).network
                box = make_box(network, "0,1")
                bounds, proof = analyse(network, box, stop=lambda: True), prove(network, box)
                yield Case(path.name, path, network, box, bounds, images, proof, solver)


def ladder(case: Case) -> Row:
    """Reluce itself."""
    runs = [compress(case.path, "0,1", settings=Settings(prover=ProverSettings())).report.seconds for _ in range(3)]
    seconds = statistics.median(run["total"] - run["load"] - run["verify"] for run in runs)
    layers = case.proof.facts.layers.values()
    counts = {verdict.name.lower(): sum(layer.count(verdict) for layer in layers) for verdict in Verdict}
    return Row(case.name, "ladder", seconds, verdicts=counts, agree=sum(layer.units for layer in layers))


def by_leo(case: Case, minutes: float) -> Row:
    """LEO on all units; on a sample of each layer where that takes too long."""
    deadline = Deadline(60 * minutes)
    question = case.question(case.witnesses(data=False), deadline)
    word = leo(question)
    row = replace(judged(case, "leo", question, word), seconds=word.effort.seconds)
    if not deadline.cut:
        return row
    generator, total, solves = np.random.default_rng(0), 0.0, 0
    for node in question.witnesses.layers:
        units = case.network.tensors[node.output].size
        sample = sorted(generator.permutation(units)[:SAMPLE].tolist())
        limited = case.question(case.witnesses(data=False), Deadline(60 * minutes / len(case.network.relus)))
        part = leo(limited, lambda other, node=node, sample=sample: sample if other is node else []).effort
        total, solves = total + part.seconds * units / len(sample), solves + part.solves
    how = f"leo: extrapolated from {solves} MILPs on {SAMPLE} units of each layer; the others are those solved in time"
    return replace(row, seconds=max(total, word.effort.seconds), mark="~", explanations=(*row.explanations, how))


def by_isa(case: Case, minutes: float, ours: bool) -> Row:
    """ISA; ``ours`` says whether units that are stable on their interval have no binary."""
    bounds = case.bounds if ours else replace(case.bounds, intervals=authors_intervals(case))
    witnesses, deadline = case.witnesses(data=True), Deadline(60 * minutes)
    question = case.question(witnesses, deadline, bounds)
    word = isa(question)
    row = judged(case, "isa+" if ours else "isa", question, word)
    return replace(row, seconds=word.effort.seconds, mark=">" if deadline.cut else "")


def authors_intervals(case: Case) -> dict[str, Interval]:
    """Intervals that give the big-Ms of the authors' code (METHODS 2.1)."""
    found = dict(case.bounds.intervals)
    for node in case.network.relus:
        z = found[node.inputs[0]]
        found[node.inputs[0]] = Interval(-2 * np.maximum(-z.lower, 1.0), 2 * np.maximum(z.upper, 1.0))
    return found


def judged(case: Case, prover: str, question: Question, word: Word) -> Row:
    """A baseline's verdicts beside the ladder's."""
    agree, open_units, counts, explanations = 0, 0, {"inactive": 0, "active": 0, "unstable": 0, "undecided": 0}, []
    for node in case.network.relus:
        for unit, (theirs, ours) in enumerate(zip(said(node, question, word), settled(node, case), strict=True)):
            counts[theirs] += 1
            open_units += "undecided" in (theirs, ours)
            if theirs == ours:
                agree += 1
            elif "undecided" not in (theirs, ours):
                explanations.append(
                    f"{node.output} {unit}: {prover} {theirs}, ladder {ours}{exactly(case, node, unit)}"
                )
    row = Row(case.name, prover, 0.0, effort=word.effort, verdicts=counts, agree=agree, undecided=open_units)
    return replace(row, disagree=len(explanations), explanations=tuple(explanations))


def said(node: Node, question: Question, word: Word) -> list[str]:
    """What a baseline says of each unit; unstable only with witnesses of both signs."""
    z, pool = question.bounds.intervals[node.inputs[0]], question.witnesses
    below = word.below.get(node.name, False) | (z.upper <= 0)
    above = word.above.get(node.name, False) | (z.lower >= 0)
    both = (pool.positive[node.name] >= 0) & (pool.negative[node.name] >= 0)
    return np.select([below, above, both], ["inactive", "active", "unstable"], "undecided").tolist()


def settled(node: Node, case: Case) -> list[str]:
    """The ladder's verdicts in the words of the papers, which know no constants."""
    layer = case.proof.facts.layers[node.name]
    constant = np.where(layer.upper <= 0, "inactive", "active")
    names = np.array([verdict.name.lower() for verdict in Verdict])
    return np.where(layer.verdict == Verdict.CONSTANT, constant, names[layer.verdict]).tolist()


def exactly(case: Case, node: Node, unit: int) -> str:
    """The exact values of an unstable unit at its two witnesses."""
    layer = case.proof.facts.layers[node.name]
    if layer.verdict[unit] != Verdict.UNSTABLE:
        return f", proved by {layer.rung[unit]}"
    values = [value(case, case.proof.facts, node, unit, side[unit]) for side in (layer.negative, layer.positive)]
    return f", exactly {float(values[0]):.3g} < 0 < {float(values[1]):.3g} at two points"


def value(case: Case, facts: Facts, node: Node, unit: int, row: int) -> Fraction:
    """A pre-activation at a witness, in exact arithmetic."""
    ends = {name: (Dyadic.of(points[row]),) * 2 for name, points in facts.points.items()}
    found = exact_intervals(case.network, ends, node.inputs[0])
    assert found is not None
    z = found[node.inputs[0]][0]
    return Fraction(int(z.mantissa.ravel()[unit])) * Fraction(2) ** z.exponent


def cells(row: Row) -> list[str]:
    """The row of the table."""
    counts, effort = row.verdicts or {}, row.effort
    each = f"{effort.seconds / effort.solves:.3f}" if effort.solves else "-"
    return [
        row.network,
        row.prover,
        f"{row.mark}{row.seconds:.2f}",
        f"{row.mark}{row.ratio:.2g}x" if row.ratio < 10 else f"{row.mark}{row.ratio:,.0f}x",
        *[f"{number:,}" for number in (effort.solves, effort.nodes, effort.unanswered)],
        each,
        "-" if row.wall is None else f"{row.wall:.2f}",
        "/".join(str(counts.get(kind, 0)) for kind in ("constant", "inactive", "active", "unstable", "undecided")),
        f"{row.agree}",
        f"{row.disagree}",
        f"{row.undecided}",
    ]


COLUMNS = (
    "network",
    "prover",
    "s",
    "ratio",
    "MILPs",
    "nodes",
    "lost",
    "s/MILP",
    "wall",
    "c/i/a/u/?",
    "agree",
    "differ",
    "open",
)


def table(rows: list[Row]) -> Table:
    """All rows as a table."""
    result = Table(caption="~: extrapolated from a sample. >: out of time. lost: MILPs without an answer.")
    for number, name in enumerate(COLUMNS):
        result.add_column(name, justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        result.add_row(*cells(row))
    return result


def to_json(row: Row) -> dict[str, Any]:
    """The row as plain values."""
    return asdict(row)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="networks whose name contains this text")
    parser.add_argument("--minutes", type=float, default=20.0, help="for each baseline on each network")
    parser.add_argument("--solver", default="highs", help="highs, scip or gurobi")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "reluce_l1").is_dir():
        sys.exit(f"{arguments.data}: no networks/reluce_l1 here; name the data folder with --data or RELUCE_DATA")
    rows: list[Row] = []
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in cases(arguments.data, arguments.only, arguments.solver):
        ours = ladder(case)
        for run in (
            lambda minutes, ours=ours: ours,
            partial(by_leo, case),
            partial(by_isa, case, ours=False),
            partial(by_isa, case, ours=True),
        ):
            began = time.monotonic()
            row = run(arguments.minutes)
            wall = None if row is ours else time.monotonic() - began
            rows.append(replace(row, ratio=row.seconds / ours.seconds, wall=wall))
            print(" | ".join(cells(rows[-1])), *row.explanations, sep="\n", file=sys.stderr, flush=True)
            (arguments.out / "baselines.json").write_text(json.dumps([to_json(each) for each in rows], indent=1))
    with (arguments.out / "baselines.txt").open("w") as file:
        Console(file=file, width=160).print(table(rows))
    Console(width=160).print(table(rows))


if __name__ == "__main__":
    main()
