"""The table of a sweep, and what is to be said with it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from reluce.sweep._plan import text_of
from reluce.sweep._results import Figures, Row, Sweep

COLUMNS = ("validation", "test", "parameters", "left", "ratio", "units removed")


def tables(sweep: Sweep) -> Group:
    """What the command line shows of a sweep."""
    table = Table("strength", title="Accuracy of the compressed networks, mean ± deviation", title_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in sweep.rows:
        best = row.strength == sweep.choice.strength
        table.add_row(*_cells(row), _remark(row, best), style="bold" if best else None)
    words = sweep.choice.words
    lines = [words[0].upper() + words[1:] + "."]
    lines += [f"Failed: {run.name}: {run.outcome}" for run in sweep.failed]
    lines += [f"Note: {note}." for note in sweep.notes]
    if sweep.cut_short:
        lines.append("Note: the time limit ended some compressions; what was proved until then was used.")
    return Group(table, *map(escape, lines))


def _cells(row: Row) -> list[str]:
    return [
        text_of(row.strength),
        _share(row.valid, row, lambda each: each.valid),
        _share(row.test, row, lambda each: each.test),
        _count(row.before),
        _count(row.after),
        "-" if row.ratio is None else f"{row.ratio:.2f}x",
        _count(row.removed),
    ]


def _remark(row: Row, best: bool) -> str:
    failed = len(row.runs) - len(row.figures)
    return f"{failed} of {len(row.runs)} failed" if failed else "best" if best else ""


def _share(mean: Fraction | None, row: Row, of: Callable[[Figures], float | None]) -> str:
    if mean is None:
        return "-"
    spread = row.deviation(of)
    return f"{float(mean):.2%}" if spread is None else f"{100 * float(mean):.2f} ± {100 * spread:.2f} %"


def _count(mean: Fraction | None) -> str:
    return "-" if mean is None else f"{float(mean):,.0f}"
