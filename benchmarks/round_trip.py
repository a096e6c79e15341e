"""One network through three hands: the file, a torch module made of it, and what torch exports of that.

    python benchmarks/round_trip.py --data ../shared [--only TEXT] [--out benchmarks/results]

Each network that Reluce models as a whole is compressed as the ONNX file that it is, as a `torch.nn.Module` (made by
`reluce.to_torch`), and as the ONNX model that `torch.onnx.export` makes of that module. Verdicts of every unit and
sizes before and after must be the same three times. Prints a table; exit code 1 when one differs.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.table import Table

import reluce
from reluce.guarantee import Level
from reluce.io import Loaded, open_model
from run import LEVELS, Case, cases


def examples(loaded: Loaded) -> tuple[torch.Tensor, ...]:
    """Two samples of zeros for each input, in its own format; one whole tensor where there is no batch."""
    network, batch = loaded.network, (2,) if loaded.network.batched else ()
    arrays = [np.zeros((*batch, *network.shape(name)), network.tensors[name].dtype) for name in network.inputs]
    return tuple(torch.from_numpy(array) for array in arrays)


def exported(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], batched: bool) -> onnx.ModelProto:
    """What torch makes of a module."""
    free = tuple({0: torch.export.Dim("batch")} for _ in inputs) if batched else None
    with redirect_stdout(io.StringIO()):  # it reports its progress
        program = torch.onnx.export(module, inputs, dynamo=True, dynamic_shapes=free, optimize=False)
    assert program is not None
    return program.model_proto


def outcome(result: reluce.Result) -> tuple[Any, ...]:
    """What must be the same: the verdict and the fate of every unit, and the sizes."""
    report = result.report
    assert report.compressed is not None
    layers = tuple((row.verdicts, row.kept_units) for row in report.layers)
    return layers, report.model.parameters, report.compressed.parameters


def three_ways(case: Case, level: Level) -> list[tuple[Any, ...]]:
    """Compress a network as a file, as a module, and as what torch exports of the module."""
    loaded = open_model(case.path, input_shapes=case.shapes)
    box = reluce.domain.make_box(loaded.network, case.domain)
    module, inputs = reluce.to_torch(case.path, input_shapes=case.shapes), examples(loaded)
    settings = reluce.Settings(level)
    file_settings = reluce.Settings(level, input_shapes=case.shapes)
    proto = exported(module, inputs, loaded.network.batched)
    names = open_model(module, example_inputs=inputs).network.inputs
    other = open_model(proto).network.inputs
    return [
        outcome(reluce.compress(case.path, box, settings=file_settings)),
        outcome(reluce.compress(module, renamed(names, box), example_inputs=inputs, settings=settings)),
        outcome(reluce.compress(proto, renamed(other, box), settings=settings)),
    ]


def renamed(names: tuple[str, ...], box: reluce.Box) -> reluce.Box:
    """The box with other names for its inputs, in the same order."""
    lower: Mapping[str, Any] = dict(zip(names, box.lower.values(), strict=True))
    upper: Mapping[str, Any] = dict(zip(names, box.upper.values(), strict=True))
    return reluce.Box(lower, upper, box.description)


def main() -> int:
    """Print a row for each network; 0 when all agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds networks/")
    parser.add_argument("--only", default="", metavar="TEXT", help="only networks whose path holds TEXT")
    parser.add_argument("--most", type=int, default=10**6, metavar="N", help="only networks of at most N parameters")
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        parser.error(f"{arguments.data}: no networks/INDEX.json there; name the folder of public networks with --data")
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    table = Table("network", "parameters", "exact", "within=1e-5", "stable / units", "same")
    failures = seen = 0
    for case in cases(arguments.data, arguments.only):
        try:
            loaded = open_model(case.path, input_shapes=case.shapes)
            if (
                loaded.network.opaque
                or not loaded.network.relus
                or reluce.io.measure(loaded).parameters > arguments.most
            ):
                continue
            found = [three_ways(case, level) for level in (LEVELS[0], LEVELS[-1])]
        except reluce.ReluceError as error:
            table.add_row(case.name, str(error))
            failures += 1
            continue
        same = [len({repr(way) for way in ways}) == 1 for ways in found]
        failures += not all(same)
        seen += 1
        verdicts = [verdict for layer in found[0][0][0] for verdict in layer[0]]
        stable = sum(verdict in ("constant", "inactive", "active") for verdict in verdicts)
        sizes = (f"{found[0][0][1]:,}", f"{found[0][0][2]:,}", f"{found[1][0][2]:,}")
        why = "yes" if all(same) else f"NO {[[way[1:] for way in ways] for ways in found]}"
        table.add_row(case.name, *sizes, f"{stable:,} / {len(verdicts):,}", why)
        print(case.name, sizes, why, flush=True)
    Console(width=180).print(table)
    print(f"{seen} networks, {failures} that differ or were refused")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
