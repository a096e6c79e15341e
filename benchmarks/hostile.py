"""Files that lie, explode or make no sense, and real ones: none may crash, hang or eat the machine.

    python benchmarks/hostile.py [--data ../shared] [--only TEXT] [--budget 20] [--seconds 120] [--memory 4]

Each file of `tests/io/hostile_models.py`, each case under DATA/cases and each network of DATA/networks is read and
compressed in a process of its own, told to prove for BUDGET seconds, with a time limit and a memory cap in GiB. Prints
a table of outcomes: ok, error (one of Reluce's own, which says what is wrong), crash, hang, over memory. Exit code 1
when there is one of the last three.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import reluce

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "io"))

from hostile_models import corpus

from run import cases

BAD = ("crash", "hang", "over memory")


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``peak`` in MiB, of the process and of the largest one that it started."""

    kind: str
    detail: str
    seconds: float
    peak: int


def compressed(data: bytes, budget: float) -> None:
    """Read and compress a hostile file; `compress` reads it in any case."""
    settings = reluce.Settings(time_limit=budget)
    reluce.compress(io.BytesIO(data), "-1,1", settings=settings)


def work(root: Path, budget: float) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is to be done for each file, by name."""
    for name, data in corpus().items():
        yield f"hostile/{name}", lambda data=data: compressed(data, budget)
    for path in sorted((root / "cases").glob("*.onnx")):
        yield f"cases/{path.name}", lambda path=path: compressed(path.read_bytes(), budget)
    for case in cases(root, "") if (root / "networks").is_dir() else ():
        settings = reluce.Settings(time_limit=budget, input_shapes=case.shapes)
        yield case.name, lambda case=case, s=settings: reluce.compress(case.path, case.domain, settings=s)


def attempt(job: Callable[[], object], seconds: float, memory: int) -> Outcome:
    """Do a job in a forked process (this one has no threads), which is killed when it takes too long."""
    began = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()
        os.write(writing, json.dumps(_result(job, memory)).encode())
        os._exit(0)
    os.close(writing)
    late = not select.select([reading], [], [], seconds)[0]
    if late:
        os.killpg(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    taken = time.monotonic() - began
    if late:
        return Outcome("hang", f"killed after {seconds:.0f} s", taken, 0)
    if not text:
        return Outcome("crash", f"exit status {status}", taken, 0)
    kind, detail, peak = json.loads(text)
    return Outcome(kind, detail, taken, peak)


def _result(job: Callable[[], object], memory: int) -> tuple[str, str, int]:
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    kind, detail = "ok", ""
    try:
        job()
    except reluce.ReluceError as error:
        kind, detail = "error", str(error)
    except MemoryError as error:
        kind, detail = "over memory", repr(error)
    except BaseException as error:
        kind, detail = "crash", repr(error)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kind, detail[:500], peak >> 10


def main() -> int:
    """Run all of it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds that proving may take")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--memory", type=float, default=4.0)
    chosen = parser.parse_args()
    console = Console(width=180)
    table = Table("file", "outcome", "s", "MiB", "what it says")
    found: Counter[str] = Counter()
    for name, job in work(chosen.data, chosen.budget):
        if chosen.only not in name:
            continue
        outcome = attempt(job, chosen.seconds, int(chosen.memory * 2**30))
        found[outcome.kind] += 1
        console.print(f"{outcome.kind:12}{name}", style="red" if outcome.kind in BAD else None, markup=False)
        table.add_row(name, outcome.kind, f"{outcome.seconds:.1f}", str(outcome.peak), ascii(outcome.detail)[:100])
    console.print(table)
    console.print(", ".join(f"{count} {kind}" for kind, count in found.most_common()))
    return int(any(found[kind] for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
