"""What the jobs of benchmarks/training.py do, each in a process of its own with one thread."""

from __future__ import annotations

import io
import json
import os
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image

from reluce import Settings, compress, parse_guarantee
from reluce.domain import make_box
from reluce.guarantee import allowance
from reluce.inputs import samples_of
from reluce.io import measure, open_model, rebuild
from reluce.prove import prove
from reluce.rewrite import Original, rewrite
from reluce.run import Deadline
from reluce.train import Data, Recipe, fit, training_data
from training_plan import Job

Json = dict[str, Any]
FILES = {"mnist": "mnist.npz", "cifar10": "cifar10_jpeg.npz"}
POINTS = 5000
"""Training samples to refute with, about: evenly from all of them, since CIFAR-10 is sorted by class here."""


def start() -> None:
    """What a process begins with."""
    torch.set_num_threads(1)


def work(job: Job, root: Path, out: Path) -> Json:
    """Do a job; a line of what came out."""
    started = time.perf_counter()
    found = {"train": _train, "compress": _compress, "without": _without}[job.kind](job, root, out)
    return found | {"seconds": round(time.perf_counter() - started, 2)}


def network_file(out: Path, key: str) -> Path:
    """Where a job leaves the network that it trained."""
    return out / "networks" / f"{key}.onnx"


def small_file(out: Path, key: str, level: str) -> Path:
    """Where the compressed one goes, with its certificate beside it."""
    return out / "networks" / f"{key}-{level}.onnx"


def missing(root: Path) -> list[Path]:
    """Which data files are not there."""
    return [path for name in FILES.values() if not (path := root / "data" / name).is_file()]


@cache
def load(name: str, samples: int | None, root: Path, out: Path) -> Data:
    """Training and test samples; only the first of a random order where fewer are wanted."""
    with np.load(decoded(root, out) if name == "cifar10" else root / "data" / FILES[name]) as file:
        arrays = {key: file[key] for key in ("train_x", "train_y", "test_x", "test_y")}
    if samples is not None:
        for which in ("train", "test"):
            some = np.random.default_rng(0).permutation(len(arrays[f"{which}_y"]))[:samples]
            arrays |= {f"{which}_{part}": arrays[f"{which}_{part}"][some] for part in "xy"}
    return training_data(arrays)


def decoded(root: Path, out: Path) -> Path:
    """CIFAR-10 as arrays, decoded once. The files were compressed anew as JPEG, so they are not quite CIFAR-10."""
    target = out / "cifar10.npz"
    if not target.exists():
        with np.load(root / "data" / FILES["cifar10"]) as file:
            arrays = {f"{which}_x": _images(file, which) for which in ("train", "test")}
            arrays |= {f"{which}_y": file[f"{which}_y"].astype(np.int64) for which in ("train", "test")}
        temporary = out / f".cifar10-{os.getpid()}.npz"
        np.savez(temporary, **arrays)
        temporary.replace(target)
    return target


def _images(file: Any, which: str) -> np.ndarray:
    jpegs, offsets = file[f"{which}_jpeg"].tobytes(), file[f"{which}_offsets"]
    images = [np.asarray(Image.open(io.BytesIO(jpegs[low:high])).convert("RGB")) for low, high in pairwise(offsets)]
    return np.stack(images).transpose(0, 3, 1, 2)


def _train(job: Job, root: Path, out: Path) -> Json:
    data = load(job.spec["data"], job.spec["samples"], root, out)
    recipe = Recipe.from_json(json.dumps(job.spec["recipe"]))
    target = network_file(out, job.key)
    checkpoint = target.with_suffix(".train")
    trained = fit(data if job.spec["test"] else data.without_test(), recipe, checkpoint)
    temporary = target.with_suffix(".tmp")
    temporary.write_bytes(trained.onnx())
    temporary.replace(target)
    checkpoint.unlink(missing_ok=True)
    accuracies = {"train": trained.train_accuracy, "valid": trained.valid_accuracy, "test": trained.test_accuracy}
    return accuracies | {"zeros": trained.history[-1].zeros}


def _points(job: Job, root: Path, out: Path) -> np.ndarray:
    train = load(job.spec["data"], job.spec["samples"], root, out).train
    return train.inputs(slice(0, None, max(1, len(train) // POINTS))).numpy()


def _compress(job: Job, root: Path, out: Path) -> Json:
    key, level = job.spec["network"], job.spec["level"]
    before, after = network_file(out, key), small_file(out, key, level)
    settings = Settings(parse_guarantee(level), time_limit=job.spec["seconds"])
    report = compress(before, "0,1", output=after, data=_points(job, root, out), settings=settings).report
    guarantee = report.guarantee
    return {
        "before": sizes(before),
        "after": sizes(after),
        "layers": [[row.units, row.units if row.kept is None else row.kept] for row in report.layers],
        "stable": [row.constant + row.inactive + row.active for row in report.layers],
        "undecided": sum(row.undecided for row in report.layers),
        "epsilon": None if guarantee is None else guarantee.epsilon,
        "certificate": None if report.certificate is None else report.certificate.bytes,
        "cut_short": report.cut_short,
    }


def sizes(path: Path) -> Json:
    """Of an ONNX file: parameters as Reluce counts them, indices that selections store, weights without biases."""
    graph = onnx.load(path).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    read = {name for node in graph.node if node.op_type == "Gather" for name in node.input[1:]}
    indices = sum(int(np.prod(constants[name].dims)) for name in read if name in constants)
    weights = sum(int(np.prod(tensor.dims)) for tensor in constants.values() if len(tensor.dims) > 1)
    found = measure(open_model(path))
    return {"parameters": found.parameters, "nonzeros": found.nonzeros, "indices": indices, "weights": weights}


def _without(job: Job, root: Path, out: Path) -> Json:
    """Rewrite a network with all rewrites, without each of them, with skips, and with none, from the same proofs."""
    loaded = open_model(network_file(out, job.spec["network"]))
    box = make_box(loaded.network, "0,1")
    samples = samples_of(loaded, _points(job, root, out))
    deadline = Deadline(job.spec["seconds"])
    proof = prove(loaded.network, box, samples, stop=lambda: deadline.passed)
    level = parse_guarantee(job.spec["level"])
    allowed = allowance(level, loaded.network, box, proof.bounds, proof.facts, samples)
    original, steps = Original(loaded.network, proof.facts, proof.bounds), job.spec["steps"]
    choices = {"all": steps} | {out: [step for step in steps if step != out] for out in steps}
    found = {}
    for name, chosen in (choices | {"skips": [*steps, "skip"], "deleting only": []}).items():
        rewriting = rewrite(original, allowed.budget, steps=chosen)
        found[name] = measure(rebuild(loaded, rewriting.network, {})).parameters
    return {"before": measure(loaded).parameters, "parameters": found}


def latency(before: Path, after: Path, batch: int, repeats: int = 400) -> float:
    """How many times faster a compressed network is: medians of runs that take turns, onnxruntime with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    runs = []
    for path in (before, after):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        x = np.random.default_rng(0).random((batch, *entry.shape[1:]), dtype=np.float32)
        runs.append((session, {entry.name: x}))
    seconds: list[list[float]] = [[], []]
    for number in range(repeats + 20):
        for (session, feed), mine in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            session.run(None, feed)
            if number >= 20:
                mine.append(time.perf_counter() - started)
    slow, fast = (float(np.median(mine)) for mine in seconds)
    return slow / fast
