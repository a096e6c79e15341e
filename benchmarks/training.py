"""Train networks that can be made smaller, compress them, and compare with what was published: figures of issue 7.

    python benchmarks/training.py --data ../shared [--only ours] [--jobs 2] [--seeds 0,1,2] [--epochs 1.0] [--smoke]

Parts: `leo` (Table 1 of LEO) and `isa` (rows of ISA without loss) train with L1 in the loss, as published; `ours` has
recipes of our own against the unregularised networks of the same shape, same epochs, strengths chosen on a split of the
training samples; `ablation` leaves out each regulariser and each rewrite; `latency` runs both in onnxruntime. Recipes
and published numbers are in training_plan.py. CIFAR-10 is there as images that were compressed anew as JPEG, so its
accuracies do not compare with the papers' to the last digit; nothing is augmented.

Each run is a process of one thread, and a line appended to OUT/training.jsonl once it has ended, under the digest of
all that it is determined by: a rerun does what is missing, and training goes on from its last epoch. --again compress
does all compressions again (of a new version of Reluce, say). Networks, compressed ones and certificates are in
OUT/networks. Prints the tables at the end, and writes them to OUT/training.txt; --tables does only that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.console import Console

from training_plan import PARTS, Job, Size, plan
from training_tables import show
from training_work import decoded, missing, start, work

Json = dict[str, Any]

SMOKE = Size(epochs=0.1, seeds=(0,), samples=600, seconds=5.0)


def finished(path: Path, again: Sequence[str]) -> dict[str, Json]:
    """Lines of what is done, by key; a line that was cut short by a crash is none. The last one of a key counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    done = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["kind"] not in again:
            done[entry["key"]] = entry
    return done


class Runs:
    """All runs that are wanted, some at a time, each noted once it has ended."""

    def __init__(self, parts: Sequence[str], size: Size, root: Path, out: Path, again: Sequence[str]) -> None:
        self.parts, self.size, self.root, self.out = parts, size, root, out
        self.file = out / "training.jsonl"
        self.done = finished(self.file, again)
        self.failed: set[str] = set()
        self.running: dict[Future[Json], Job] = {}
        self.started = time.perf_counter()

    def all(self, jobs: int) -> None:
        """Run until there is nothing left to do."""
        context = multiprocessing.get_context("spawn")  # a fork of a process that has run torch may hang
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=start) as pool:
            while self._filled(pool, jobs):
                for future in wait(self.running, return_when=FIRST_COMPLETED).done:
                    self._note(self.running.pop(future), future)

    def _filled(self, pool: ProcessPoolExecutor, jobs: int) -> bool:
        taken = {*self.done, *self.failed, *(job.key for job in self.running.values())}
        for job in plan(self.parts, self.size, self.done):
            if len(self.running) == jobs:
                break
            if job.key not in taken:
                taken.add(job.key)
                self.running[pool.submit(work, job, self.root, self.out)] = job
        return bool(self.running)

    def _note(self, job: Job, future: Future[Json]) -> None:
        try:
            found = future.result()
        except Exception as error:  # also what nobody foresaw: the other runs are still to be done
            self.failed.add(job.key)
            self._say(job, f"failed: {type(error).__name__}: {error}")
            return
        entry = {"key": job.key, "kind": job.kind, "name": job.name, "spec": job.spec, **found}
        with self.file.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        self.done[job.key] = entry
        self._say(job, f"{found['seconds']:.0f} s{_words(job, found)}")

    def _say(self, job: Job, text: str) -> None:
        print(
            f"{time.perf_counter() - self.started:7.0f} s  {job.kind} {job.name}: {text}", file=sys.stderr, flush=True
        )


def _words(job: Job, found: Json) -> str:
    if job.kind == "train":
        which = "test" if job.spec["test"] else "valid"
        return f", {which} {found[which]:.2%}, zeros {found['zeros']:.1%}"
    if job.kind == "compress":
        return f", {found['before']['parameters']:,} -> {found['after']['parameters']:,} parameters"
    return ""


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "build/bench-train")))
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts: {','.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=float, default=1.0, help="times as many as the recipes have")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds of proving and rewriting per network")
    parser.add_argument("--again", default="", help="kinds of runs that are done again: train, compress, without")
    parser.add_argument("--smoke", action="store_true", help="every part in a minute, on few samples and epochs")
    parser.add_argument("--tables", action="store_true", help="run nothing, show what is there")
    arguments = parser.parse_args()
    parts = [part for part in PARTS if part in arguments.only.split(",")]
    if not parts:
        sys.exit(f"--only {arguments.only}: name one or more of {', '.join(PARTS)}")
    lost = missing(arguments.data)
    if lost and not arguments.tables:
        sys.exit(f"{lost[0]} is missing; name the data folder with --data or RELUCE_DATA")
    seeds = tuple(int(seed) for seed in arguments.seeds.split(","))
    size = SMOKE if arguments.smoke else Size(arguments.epochs, seeds, None, arguments.time_limit)
    (arguments.out / "networks").mkdir(parents=True, exist_ok=True)
    runs = Runs(parts, size, arguments.data, arguments.out, arguments.again.split(","))
    if not arguments.tables:
        decoded(arguments.data, arguments.out)
        runs.all(arguments.jobs)
    with (arguments.out / "training.txt").open("w") as file:
        for console in (Console(width=180), Console(file=file, width=180)):
            show(console, parts, size, runs.done, arguments.out)
    if runs.failed:
        sys.exit(f"{len(runs.failed)} runs failed; run again to try them again")


if __name__ == "__main__":
    main()
