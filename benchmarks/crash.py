"""Runs that are killed, that find the disk full or read-only, and two runs on one output.

    python benchmarks/crash.py --data FOLDER --kills 100

Each trial starts ``reluce compress`` on a network whose time goes into proofs, kills it with SIGKILL at a random
moment, up to eight times in a row, and then lets the same command come to its end. Its result must be no larger than
that of a run that nobody disturbed, ``reluce-check`` must prove it, and nothing but the result may be left. The disks
are small tmpfs, for which this needs to be root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

NETWORK = "mnist_100x100x100x100x100_l1-0.0001_seed0"
ROW = 8  # kills in a row, at most
BIN = Path(sys.executable).parent


def main() -> int:
    """Run all of it; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("RELUCE_DATA", "../shared"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", default=NETWORK)
    given = parser.parse_args()
    source = next((Path(given.data) / "networks").glob(f"**/{given.network}.onnx"), None)
    if source is None:
        sys.exit(f"{given.data}: no network {given.network} here; name the data folder with --data or RELUCE_DATA")
    with tempfile.TemporaryDirectory() as folder:
        bad = killed(source, Path(folder), given.kills, random.Random(given.seed))
        bad += two_runs(source, Path(folder))
        bad += disks(source, Path(folder))
    print("all as it should be" if not bad else f"{bad} things are not as they should be")
    return 1 if bad else 0


def command(source: Path, folder: Path) -> list[str]:
    """One run with its output in a folder."""
    return [
        str(BIN / "reluce"),
        "compress",
        str(source),
        str(folder / "out.onnx"),
        "--range",
        "0,1",
        "--json",
        str(folder / "out.json"),
        "-q",
    ]


def finish(source: Path, folder: Path) -> tuple[float, int, str]:
    """Let a run come to its end; seconds, exit code, what it complains about."""
    start = time.perf_counter()
    done = subprocess.run(command(source, folder), capture_output=True, text=True)
    return time.perf_counter() - start, done.returncode, done.stderr.strip()


def summary(folder: Path) -> tuple[int, list[str]]:
    """Parameters that are left, and the notes of the report."""
    report = json.loads((folder / "out.json").read_text())
    return report["compressed"]["parameters"], report["notes"]


def killed(source: Path, base: Path, kills: int, random_numbers: random.Random) -> int:
    """Trials of runs that are killed; how many things were wrong."""
    whole = base / "whole"
    whole.mkdir()
    seconds, code, message = finish(source, whole)
    assert code == 0, message
    parameters, _ = summary(whole)
    print(f"{source.stem}: {parameters:,} parameters in {seconds:.1f} s when nobody disturbs it")
    left, bad, counts, resumed = kills, 0, Counter[str](), []
    while left > 0:
        trial = base / "trial"
        trial.mkdir()
        row = min(left, random_numbers.randint(1, ROW))
        for _ in range(row):
            process = subprocess.Popen(command(source, trial), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(random_numbers.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
            counts["killed" if process.wait() == -signal.SIGKILL else "had ended before"] += 1
            bad += not whole_files(trial, whole)
        left -= row
        again, code, message = finish(source, trial)
        resumed.append(again)
        found, notes = summary(trial) if code == 0 else (10**12, [message])
        names = {path.name for path in trial.iterdir()}
        counts["went on from a journal"] += any("proved again" in note for note in notes)
        counts["the same bytes"] += same(trial, whole)
        counts["smaller"] += found < parameters
        proved = checked(source, trial)
        fine = code == 0 and found <= parameters and names == {"out.onnx", "out.cert", "out.json"} and proved
        counts["resumed and fine"] += fine
        if not fine:
            print(f"  after {row} kills: exit {code}, {found:,} parameters, proved {proved}, left {sorted(names)}")
        bad += not fine
        shutil.rmtree(trial)
    print("  " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    print(f"  the last run of a trial took {sum(resumed) / len(resumed):.1f} s on average")
    return bad


def same(trial: Path, whole: Path) -> bool:
    """Whether two runs have written the same bytes."""
    return all((trial / name).read_bytes() == (whole / name).read_bytes() for name in ("out.onnx", "out.cert"))


def whole_files(trial: Path, whole: Path) -> bool:
    """Whether what bears its final name is whole, and the model does not stand there without its certificate."""
    there = [name for name in ("out.onnx", "out.cert") if (trial / name).exists()]
    fine = all((trial / name).read_bytes() == (whole / name).read_bytes() for name in there)
    if not fine or there == ["out.onnx"]:
        print(f"  a killed run has left {there}, whole: {fine}")
    return fine and there != ["out.onnx"]


def checked(source: Path, folder: Path) -> bool:
    """Whether the independent checker proves the result."""
    files = [str(source), str(folder / "out.onnx"), str(folder / "out.cert")]
    return subprocess.run([str(BIN / "reluce-check"), *files, "--range", "0,1"], capture_output=True).returncode == 0


def two_runs(source: Path, base: Path) -> int:
    """A second run on an output that the first one is working on."""
    folder = base / "two"
    folder.mkdir()
    first = subprocess.Popen(command(source, folder), stderr=subprocess.PIPE, text=True)
    while not (folder / "out.journal").exists():
        time.sleep(0.01)
    _, code, message = finish(source, folder)
    print(f"two runs on one output: the second ends with exit code {code}: {message}")
    first.communicate()
    fine = first.returncode == 0 and code == 5 and checked(source, folder)
    print(f"  the first ends with exit code {first.returncode}; left {sorted(p.name for p in folder.iterdir())}")
    return not fine


def disks(source: Path, base: Path) -> int:
    """A disk that is full at several moments, and one that is read-only."""
    folder, bad = base / "disk", 0
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True).returncode:
        print("no small disk could be mounted: be root")
        return 1
    try:
        for free, what in ((0, "full from the start"), (64 << 10, "full on the way"), (480 << 10, "full at the end")):
            (folder / "ballast").write_bytes(bytes((1 << 20) - free))
            (folder / "out.onnx").unlink(missing_ok=True)
            _, code, message = finish(source, folder)
            names = sorted(path.name for path in folder.iterdir())
            print(f"disk {what} ({free >> 10} kB): exit code {code}: {message}; left {names}")
            (folder / "ballast").unlink()
            bad += code != 5 or not {"ballast", "out.journal"}.issuperset(names)
            _, code, message = finish(source, folder)
            bad += code != 0 or not checked(source, folder)
            notes = summary(folder)[1] if code == 0 else []
            print(f"  the same command with room: exit code {code} {message} {notes}")
            for path in folder.iterdir():
                path.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        _, code, message = finish(source, folder)
        print(f"read-only folder: exit code {code}: {message}; left {sorted(path.name for path in folder.iterdir())}")
        bad += code != 5 or any(folder.iterdir())
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    return bad


if __name__ == "__main__":
    sys.exit(main())
