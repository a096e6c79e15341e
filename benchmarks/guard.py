"""What a guard answers on real networks, and what it costs in onnxruntime.

    python benchmarks/guard.py --data ../shared [--only TEXT] [--samples 100000] [--out benchmarks/results]

Each network of CASES is compressed at `exact` on its domain (a box, a property, or the box around the MNIST training
images), without a certificate, and gets a guard. Random inputs of six kinds then go through it in onnxruntime: inside,
at the corners, one coordinate one number beyond an end, one far beyond, one NaN, one infinite. The exact answer is that
of the box (its float64 ends, rounded inward, decide exactly what lies in it); of every 500th sample also in fractions.

The cost is the processor time of the network with its guard by that without, one thread, all outputs, default
optimisations: medians of repetitions that take turns. Prints a table and writes guard.txt and guard.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from rich.table import Table

from reluce import Box, Exact, Settings, compress
from reluce.domain import make_box
from reluce.guard import with_guard
from reluce.io import GUARD, Loaded, OnnxLoaded, inward
from run import mnist

Array = np.ndarray[Any, Any]
Points = dict[str, Array]

IMAGES = "the training images"
CASES = (
    ("reluce_l1/mnist_100x100_l1-0.0005_seed0.onnx", "0,1"),
    ("reluce_l1/mnist_100x100_l1-0.0005_seed0.onnx", IMAGES),
    ("reluce_l1/mnist_400x400_l1-0.0001_seed0.onnx", "0,1"),
    ("reluce_l1/mnist_400x400_l1-0.0001_seed0.onnx", IMAGES),
    ("reluce_l1/cifar10_400x400_l1-0.0001_seed0.onnx", "-0.1,0.7"),
    ("abcrown/mnist_conv_small_nat.onnx", "0,1"),
    ("vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx", "vnncomp2021/acasxu/prop_1.vnnlib"),
    ("hls4ml/dense_big_keras.onnx", "-1,0.1"),
    ("marabou/KJ_TinyTaxiNet.onnx", "0,1"),
    ("marabou/certificate_and_controller_mandal.onnx", "-0.1,0.3"),
)
"""Networks and their domains; operator sets from 7 on, one or two inputs, with and without a batch axis."""

KINDS = ("inside", "corner", "next", "far", "nan", "infinite")
BATCHES = (1, 256)
CHUNK, EXACTLY, SECONDS = 1000, 500, 0.002


@dataclass(frozen=True)
class Row:
    """What came of one network; times in microseconds and ratios by size of the batch."""

    network: str
    domain: str
    opset: int
    numbers: int
    samples: int
    inside: int
    wrong: int
    plain: Mapping[int, float]
    ratio: Mapping[int, float]
    bytes: int


def domain_of(root: Path, domain: str) -> Any:
    """The domain as ``compress`` takes it."""
    if domain == IMAGES:
        return Box.from_data(mnist(root).astype(np.float32))
    return root / "networks" / domain if domain.endswith(".vnnlib") else domain


def measure(root: Path, name: str, domain: str, samples: int, seconds: float) -> Row:
    """Compress one network, guard it, try the guard and take its time."""
    path, given = root / "networks" / name, domain_of(root, domain)
    plain = compress(path, given, certificate=False, settings=Settings(Exact(), time_limit=seconds)).loaded
    assert isinstance(plain, OnnxLoaded)
    box = make_box(plain.network, given)
    guarded = with_guard(plain, box)
    inside = wrong = 0
    run = session(guarded.data)
    for points in drawn(plain, box, samples):
        expected, found = exact(box, points), answers(run, plain, points)
        inside += int(expected.sum())
        wrong += int((expected != found).sum())
    batches = BATCHES if plain.network.batched else (1,)
    times = {batch: timed(plain, guarded, box, batch) for batch in batches}
    model = onnx.load_from_string(plain.data)
    return Row(
        network=name,
        domain=domain,
        opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        numbers=sum(plain.network.tensors[key].size for key in plain.network.inputs),
        samples=samples,
        inside=inside,
        wrong=wrong,
        plain={batch: 1e6 * before for batch, (before, _) in times.items()},
        ratio={batch: after / before for batch, (before, after) in times.items()},
        bytes=len(guarded.data) - len(plain.data),
    )


def session(data: bytes) -> onnxruntime.InferenceSession:
    """The model as it is usually run, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def drawn(plain: Loaded, box: Box, samples: int) -> Iterator[Points]:
    """Samples of all kinds, as many of each, ``CHUNK`` at a time."""
    network, generator = plain.network, np.random.default_rng(0)
    ends = {}
    for name in network.inputs:
        low, high = inward(box.lower[name], box.upper[name], network.tensors[name].dtype)
        ends[name] = (low, np.maximum(low, high))
    for start in range(0, samples, CHUNK):
        count = min(CHUNK, samples - start)
        kinds = np.array(KINDS)[np.arange(start, start + count) % len(KINDS)]
        points = {}
        for name, (low, high) in ends.items():
            between = low + (high - low) * generator.random((count, low.size)).astype(low.dtype)
            corners = np.where(generator.random((count, low.size)) < 0.5, low, high)
            points[name] = np.where((kinds == "inside")[:, None], np.clip(between, low, high), corners)
        for row in np.flatnonzero(~np.isin(kinds, ("inside", "corner"))):
            name = network.inputs[generator.integers(len(network.inputs))]
            place = generator.integers(points[name].shape[1])
            low, high = (end[place] for end in ends[name])
            points[name][row, place] = moved(str(kinds[row]), low, high, generator)
        yield {name: values.reshape(count, *network.shape(name)) for name, values in points.items()}


def moved(kind: str, low: Any, high: Any, generator: np.random.Generator) -> Any:
    """A number outside of a range, on either side."""
    up, infinite = bool(generator.integers(2)), low.dtype.type(np.inf)
    if kind == "next":
        return np.nextafter(high, infinite) if up else np.nextafter(low, -infinite)
    if kind == "far":
        step = low.dtype.type(10.0 ** generator.uniform(-3, 30))
        return high + step if up else low - step
    return np.nan if kind == "nan" else infinite if up else -infinite


def exact(box: Box, points: Points) -> Array:
    """Whether samples lie in a box; of some of them in fractions as well."""
    found = box.contains(points)
    for row in range(0, len(found), EXACTLY):
        triples = [
            (x, low, high)
            for name, values in points.items()
            for x, low, high in zip(
                values[row].ravel().tolist(), box.lower[name].ravel(), box.upper[name].ravel(), strict=True
            )
        ]
        if found[row] != all(np.isfinite(x) and low <= Fraction(x) <= high for x, low, high in triples):
            raise AssertionError("the box and fractions disagree")
    return found


def feeds(plain: Loaded, points: Points) -> Iterator[Points]:
    """What the model takes at once: all samples, or one whole sample."""
    if plain.network.batched:
        yield points
    else:
        for row in range(len(next(iter(points.values())))):
            yield {name: values[row, ...] for name, values in points.items()}


def answers(run: onnxruntime.InferenceSession, plain: Loaded, points: Points) -> Array:
    """What the guard says."""
    return np.concatenate([run.run([GUARD], feed)[0] for feed in feeds(plain, points)])


def timed(plain: OnnxLoaded, guarded: OnnxLoaded, box: Box, batch: int, repetitions: int = 101) -> tuple[float, float]:
    """Seconds of one run without a guard and with it: medians of repetitions that take turns."""
    sample = box.sample(np.random.default_rng(0), batch)
    cast = {name: values.astype(plain.network.tensors[name].dtype) for name, values in sample.items()}
    feed = next(feeds(plain, cast))
    runs = [session(model.data) for model in (plain, guarded)]
    for run in runs:  # the first runs allocate
        for _ in range(5):
            run.run(None, feed)
    once = _seconds(runs[0], feed, 3)
    count = max(1, int(SECONDS / max(once, 1e-7)))
    found = [[_seconds(run, feed, count) for run in runs] for _ in range(repetitions)]
    before, after = np.median(np.array(found), axis=0)
    return float(before), float(after)


def _seconds(run: onnxruntime.InferenceSession, feed: Points, count: int) -> float:
    started = time.thread_time()  # of this thread, which does all the work: what else runs does not count
    for _ in range(count):
        run.run(None, feed)
    return (time.thread_time() - started) / count


COLUMNS = (
    "network",
    "domain",
    "opset",
    "inputs",
    "samples",
    "inside",
    "wrong",
    "us 1",
    "x 1",
    "us 256",
    "x 256",
    "bytes",
)
LEGEND = """inputs: numbers of one sample. inside: samples in the domain; wrong: those about which the guard is wrong.
us: processor microseconds of one run without the guard, by size of the batch; x: with it by that. bytes: its own."""


def cells(row: Row) -> list[str]:
    """The row of the table."""
    times = [
        text
        for batch in BATCHES
        for text in ((f"{row.plain[batch]:,.1f}", f"{row.ratio[batch]:.2f}") if batch in row.plain else ("-", "-"))
    ]
    counts = [f"{number:,}" for number in (row.numbers, row.samples, row.inside, row.wrong)]
    return [row.network, row.domain, str(row.opset), *counts, *times, f"{row.bytes:,}"]


def table(rows: list[Row]) -> Table:
    """All rows."""
    result = Table(caption=LEGEND, caption_justify="left")
    for number, name in enumerate(COLUMNS):
        result.add_column(name, justify="right" if number > 1 else "left", overflow="fold")
    for row in rows:
        result.add_row(*cells(row))
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELUCE_DATA", "../shared")))
    parser.add_argument("--only", default="", help="networks whose path contains this text")
    parser.add_argument("--samples", type=int, default=100_000, help="random inputs of each network")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds of proving and rewriting per network")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    if not (arguments.data / "networks" / "INDEX.json").is_file():
        sys.exit(f"{arguments.data}: no networks/INDEX.json here; name the data folder with --data or RELUCE_DATA")
    rows = []
    for name, domain in CASES:
        if arguments.only in name:
            rows.append(measure(arguments.data, name, domain, arguments.samples, arguments.time_limit))
            print(" | ".join(cells(rows[-1])), file=sys.stderr, flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "guard.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    with (arguments.out / "guard.txt").open("w") as file:
        Console(file=file, width=200).print(table(rows))
    Console(width=200).print(table(rows))
    if any(row.wrong for row in rows):
        sys.exit("a guard is wrong")


if __name__ == "__main__":
    main()
