"""What the command ``reluce train`` says of a network in the end: a table of its layers, accuracies, and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from reluce._version import __version__

if TYPE_CHECKING:
    from reluce.train import Trained


def _accuracies(trained: Trained) -> dict[str, float | None]:
    return {
        "train": trained.train_accuracy,
        "validation": trained.valid_accuracy,
        "test": trained.test_accuracy,
    }


def _layers(trained: Trained) -> list[dict[str, Any]]:
    """For each layer: how many weights, units and inputs it has, and how much of it is zero."""
    from reluce.train import weights

    entries = []
    for number, weight in enumerate(weights(trained.model), 1):
        present = (weight.detach() != 0).flatten(2).any(2) if weight.ndim > 2 else weight.detach() != 0
        entries.append(
            {
                "layer": number,
                "units": int(weight.shape[0]),
                "weights": weight.numel(),
                "zeros": int((weight == 0).sum()),
                "zero_rows": int((~present.any(1)).sum()),
                "zero_columns": int((~present.any(0)).sum()),
            }
        )
    return entries


def report_json(trained: Trained, data: Path) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "reluce": __version__,
        "data": str(data),
        "recipe": json.loads(trained.recipe.to_json()),
        "accuracy": _accuracies(trained),
        "epochs": [asdict(epoch) for epoch in trained.history],
        "layers": _layers(trained),
    }


def report_tables(trained: Trained) -> Group:
    """The report as it is printed."""
    layers = Table("layer", title="Layers", title_justify="left")
    for heading in ("units", "weights", "zeros", "units whose row is zero", "columns that are zero"):
        layers.add_column(heading, justify="right")
    for entry in _layers(trained):
        share = f"{entry['zeros'] / entry['weights']:.1%}"
        counts = (entry["units"], entry["weights"], share, entry["zero_rows"], entry["zero_columns"])
        layers.add_row(str(entry["layer"]), *(count if isinstance(count, str) else f"{count:,}" for count in counts))
    found = {name: value for name, value in _accuracies(trained).items() if value is not None}
    return Group(layers, "Accuracy: " + ", ".join(f"{name} {value:.2%}" for name, value in found.items()))
