"""Coverage-guided fuzzing of everything that reads a file, with atheris (`pip install '.[fuzz]'`; Linux only).

    python benchmarks/fuzz.py [model] [certificate] [domain] [--seconds 1200] [--data ../shared] [--runs N]

* model: bytes into both readers, measured, written and read again; or a compressed network under a genuine certificate
* certificate: text and arrays of a certificate, sealed again with the right lengths and hashes, about pairs of networks
  of which half break their claim: only the checker's mathematics can refuse. What it proves, the exact oracle confirms
* domain: .npz, .npy, VNN-LIB, ranges, .nnet; where reluce and the checker both read a box, it has to be the same one

A run returns or raises one of our own errors, within `TIMEOUT` seconds and `MEMORY` MiB. The corpus stays in
build/fuzz/TARGET/corpus, what is found in build/fuzz/TARGET/findings: `--reproduce FILE TARGET` runs one input again.
Exit code 0 only without findings.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "fuzz"
TIMEOUT = 25
"""Seconds for one input."""
MEMORY = 2048
"""MiB for the whole process, of which it takes a fifth before it has read anything."""
LONGEST = 1 << 16
"""Bytes of one input: what takes more memory or time than it should does so with few."""
LARGEST_SEED = 60_000
MOST_FINDINGS = 20
SEEN: set[Path] = set()


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    runs: int
    coverage: int
    corpus: int
    findings: tuple[str, ...]
    peak: int
    seconds: float


def main() -> int:
    """Fuzz, and print a line for each target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="model, certificate, domain; all by default")
    parser.add_argument("--seconds", type=float, default=1200, help="for each target")
    parser.add_argument("--data", type=Path, help="folder of public networks, whose small files become seeds")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="run one input")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    given, options = parser.parse_known_args()
    names = given.targets or ["model", "certificate", "domain"]
    if given.inside or given.reproduce:
        inside(names[0], given.data, options, given.reproduce)
        return 0
    outcomes = {name: fuzzed(name, given.seconds, given.data) for name in names}
    print(f"{'':12} {'runs':>10} {'coverage':>9} {'corpus':>7} {'findings':>9} {'peak MiB':>9} {'seconds':>8}")
    for name, found in outcomes.items():
        numbers = f"{found.runs:>10,} {found.coverage:>9} {found.corpus:>7} {len(found.findings):>9}"
        print(f"{name:12} {numbers} {found.peak:>9} {found.seconds:>8.0f}")
    for name, found in outcomes.items():
        for line in found.findings:
            print(f"{name}: {line}")
    return int(any(found.findings for found in outcomes.values()))


def fuzzed(name: str, seconds: float, data: Path | None) -> Outcome:
    """Fuzz one target in processes of its own, a new one after each death, until the time is over."""
    folder = FOLDER / name
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    begun, runs, coverage, peak, findings = time.time(), 0, 0, 0, dict[str, str]()
    while (left := seconds - (time.time() - begun)) > 1 and len(findings) < MOST_FINDINGS:
        known = len(findings)
        log, code = child(name, int(left), data, folder)
        runs += last(r"stat::number_of_executed_units: (\d+)", log) or last(r"^#(\d+)\s", log)
        coverage = max(coverage, last(r"cov: (\d+)", log))
        peak = max(peak, last(r"stat::peak_rss_mb:\s+(\d+)", log), last(r"rss: (\d+)Mb", log))
        for path in sorted((folder / "findings").iterdir()):
            if path.stat().st_mtime > begun and path.suffix != ".txt":
                about = path.with_suffix(".txt")
                what = about.read_text().strip().splitlines()[-1] if about.exists() else death(log)
                findings.setdefault(str(path.relative_to(ROOT)), what[:300])
        if code and len(findings) == known:  # nor would anything be kept the next time
            findings["no input was kept"] = death(log)
            break
    lines = tuple(f"{what} ({path})" for path, what in findings.items())
    return Outcome(runs, coverage, len(list((folder / "corpus").iterdir())), lines, peak, time.time() - begun)


def child(name: str, seconds: int, data: Path | None, folder: Path) -> tuple[str, int]:
    """What one process prints, and its exit code."""
    command = [sys.executable, __file__, name, "--inside", *(["--data", str(data)] if data else [])]
    limits = [f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}"]
    where = [f"-artifact_prefix={folder}/findings/", "-print_final_stats=1", str(folder / "corpus")]
    with (folder / "log.txt").open("wb") as log:
        code = subprocess.run([*command, *limits, *where], stdout=log, stderr=log, cwd=ROOT, check=False).returncode
    return (folder / "log.txt").read_text(errors="replace"), code


def last(pattern: str, log: str) -> int:
    """The last number that a pattern finds, 0 for none."""
    found = re.findall(pattern, log, re.MULTILINE)
    return int(found[-1]) if found else 0


def death(log: str) -> str:
    """The line of a log that says of what a process died."""
    lines = [line.strip() for line in log.splitlines() if "ERROR: libFuzzer" in line or "Error: " in line]
    return lines[-1] if lines else "died, and said nothing"


def inside(name: str, data: Path | None, options: list[str], reproduce: Path | None) -> None:
    """Become the fuzzer of one target; only reluce and reluce_checker are instrumented."""
    import atheris

    with atheris.instrument_imports(include=["reluce", "reluce_checker"]):
        from fuzz_targets import TARGETS, read_pairs, write_pairs

        write_pairs(FOLDER / "pairs")
    small = (
        sorted(path for path in data.rglob("*") if path.is_file() and path.stat().st_size < LARGEST_SEED)
        if data
        else []
    )
    target = TARGETS[name](read_pairs(FOLDER / "pairs"), small)
    if reproduce:
        target.run(reproduce.read_bytes())
        return
    corpus = FOLDER / name / "corpus"
    if not any(corpus.iterdir()):
        for number, seed in enumerate(target.seeds()):
            (corpus / f"seed-{number:04}").write_bytes(seed)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        def plain(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 64))

        try:
            return target.mutate(bytes(content), np.random.default_rng(seed), plain)[:most]
        except Exception:  # forgers expect less forged inputs than these
            return plain(bytes(content))[:most]

    # What asks for terabytes is refused by the system, and MemoryError is a finding.
    resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY << 20,) * 2)
    atheris.Setup(
        [sys.argv[0], *options], lambda content: run(target, content, FOLDER / name / "findings"), custom_mutator=mutate
    )
    atheris.Fuzz()


def run(target: Any, content: bytes, folder: Path) -> None:
    """One run; what is found is kept, once for each place in the code, and the fuzzer goes on."""
    try:
        target.run(content)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        place = repr([type(error).__name__, *((frame.filename, frame.lineno) for frame in frames)])
        path = folder / hashlib.sha256(place.encode()).hexdigest()[:16]
        if path not in SEEN:
            SEEN.add(path)
            path.write_bytes(content)
            path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    sys.exit(main())
