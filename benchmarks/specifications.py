"""Read every VNN-LIB file of a folder as a domain, and say what came of it.

    python benchmarks/specifications.py --data ../shared

Each file is read for a network of as many inputs as it has. Prints a row for each; exit code 1 when one is refused.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import reluce
from reluce.domain import load_vnnlib
from reluce.network import Network, Node, Relu, Tensor


def inputs(path: Path) -> int:
    """How many inputs a version 1 file declares."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return len(set(re.findall(r"declare-(?:const|fun)\s+X_(\d+)", text)))


def network(size: int) -> Network:
    """Any network of so many inputs."""
    tensors = {name: Tensor(name, (size,)) for name in "xy"}
    return Network(("x",), ("y",), (Node("y", Relu(), ("x",), ("y",)),), tensors)


def main() -> int:
    """Print the table; 0 when all were read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder that holds networks/")
    folder = parser.parse_args().data / "networks"
    if not folder.is_dir():
        parser.error(f"{folder}: no such folder; name the one of public networks with --data")
    table = Table("file", "inputs", "fixed", "seconds", "notes")
    refused = 0
    paths = sorted([*folder.rglob("*.vnnlib"), *folder.rglob("*.vnnlib.gz")])
    for path in paths:
        size, start = inputs(path), time.perf_counter()
        try:
            box = load_vnnlib(network(size), path)
        except reluce.ReluceError as error:
            refused += 1
            table.add_row(str(path.relative_to(folder)), str(size), "", "", f"refused: {error}")
            continue
        seconds = time.perf_counter() - start
        fixed = int(np.sum(box.lower["x"] == box.upper["x"]))
        table.add_row(str(path.relative_to(folder)), str(size), str(fixed), f"{seconds:.2f}", "\n".join(box.notes))
    Console(width=200).print(table)
    print(f"{len(paths)} files, {refused} refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
