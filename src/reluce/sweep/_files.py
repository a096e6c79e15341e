"""The files of a whole sweep, each replaced in whole."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from reluce.io import replace_file
from reluce.sweep._plan import text_of
from reluce.sweep._plot import plotted
from reluce.sweep._results import Run, Sweep

COLUMNS = (
    *("run", "strength", "seed", "validation_trained", "validation", "test", "parameters_before", "parameters_after"),
    *("ratio", "nonzeros_before", "nonzeros_after", "macs_before", "macs_after", "bytes_before", "bytes_after"),
    *("units", "units_removed", "seconds_training", "seconds_compressing", "failure"),
)


def write(sweep: Sweep, folder: Path) -> None:
    """Write ``sweep.json``, ``sweep.csv``, ``sweep.svg`` and ``sweep.png``.

    Raises
    ------
    OutputError
        When one cannot be written; the others that are there are whole.
    """
    for kind, data in plotted(sweep).items():
        replace_file(folder / f"sweep.{kind}", data)
    replace_file(folder / "sweep.csv", _table(sweep).encode())
    replace_file(folder / "sweep.json", (json.dumps(sweep.to_json(), indent=2, allow_nan=False) + "\n").encode())


def _table(sweep: Sweep) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_line(run) for run in sweep.runs)
    return text.getvalue()


def _line(run: Run) -> dict[str, object]:
    start = {"run": run.name, "strength": text_of(run.strength), "seed": run.recipe.seed}
    found = run.figures
    if found is None:
        return {**start, "failure": str(run.outcome)}
    sizes = {
        f"{name}_{when}": getattr(size, name)
        for when, size in (("before", found.before), ("after", found.after))
        for name in ("parameters", "nonzeros", "macs", "bytes")
    }
    return {
        **start,
        **sizes,
        "validation_trained": found.trained,
        "validation": found.valid,
        "test": "" if found.test is None else found.test,
        "ratio": found.ratio,
        "units": sum(found.units),
        "units_removed": found.removed,
        "seconds_training": found.training,
        "seconds_compressing": found.compressing,
    }
