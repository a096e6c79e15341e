"""The benchmark of training: how a budget is chosen, that runs follow from each other, and the whole on few samples."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def planning(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import training_plan

    return training_plan


def done(planning: Any, network: Any, size: Any, reached: dict[tuple[int, ...], float]) -> dict[str, Any]:
    jobs = planning.choices(network, size)
    return {job.key: {"valid": reached[budget]} for budget in reached for job in jobs[budget]}


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((0.01, 0.01, 0.01), 2),  # all are good enough: the smallest
        ((0.01, 0.01, 0.0), 1),  # the last is not better by the margin
        ((0.0, 0.01, -0.01), 1),
        ((0.0, -0.02, -0.01), 0),  # none is: the largest
    ],
)
@pytest.mark.parametrize("number", [1, 2])
def test_the_smallest_budget_that_is_good_enough_is_chosen(
    planning: Any, gains: tuple[float, ...], expected: int, number: int
) -> None:
    network, size = planning.NETWORKS[number], planning.Size()
    reached = {(): 0.98} | {b: 0.98 + gain for b, gain in zip(network.budgets, gains, strict=True)}
    lines = done(planning, network, size, reached)
    assert planning.chosen(network, size, lines) == network.budgets[expected]
    lines.popitem()
    assert planning.chosen(network, size, lines) is None


def test_runs_follow_from_what_is_done(planning: Any) -> None:
    size, lines, seen = planning.Size(), {}, []
    for _ in range(5):
        jobs = {job.key: job for job in planning.plan(planning.PARTS, size, lines)}
        seen.append(len(jobs))
        lines |= {key: {"valid": 0.5, "test": 0.5} for key in jobs}
    assert seen[0] < seen[1] < seen[2] == seen[3]
    # Of each network and budget: its seeds for the choice, on other samples than the final runs.
    chosen = [job for job in jobs.values() if job.kind == "train" and not job.spec["test"]]
    assert all(job.spec["recipe"]["valid"] == 0.1 for job in chosen)
    finals = [job for job in jobs.values() if job.kind == "train" and job.spec["test"]]
    assert all(job.spec["recipe"]["valid"] == 0.0 for job in finals)
    ours = [job for job in (*chosen, *finals) if not job.name.startswith("isa")]
    assert all(job.spec["recipe"]["epochs"] <= 30 for job in ours)


def test_plain_and_budget_share_all_but_budget_and_penalties(planning: Any) -> None:
    for network in planning.NETWORKS:
        for jobs in zip(*planning.finals(network, network.budgets[0], planning.Size()).values(), strict=True):
            plain, ours = (job.spec["recipe"] for job in jobs)
            kind = "l1" if len(network.budgets[0]) == 1 else "keep"
            assert {key for key in plain if plain[key] != ours[key]} == {kind, "rows", "columns"}


def test_of_strengths_the_largest_counts_as_the_smallest_network(planning: Any) -> None:
    network, size = planning.NETWORKS[0], planning.Size()
    strengths = [budget for budget in network.budgets if len(budget) == 1]
    reached = {(): 0.98} | {budget: 0.99 if budget in strengths else 0.0 for budget in network.budgets}
    assert planning.chosen(network, size, done(planning, network, size, reached)) == max(strengths)


def test_parameters_by_hand(planning: Any) -> None:
    assert planning.parameters((784, 100, 100)) == 89_610


def bench(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "training.py"), "--data", str(data), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env={**os.environ})


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    finished = bench(tmp_path / "nothing", tmp_path / "out")
    assert finished.returncode != 0
    assert "mnist.npz is missing; name the data folder with --data or RELUCE_DATA" in finished.stderr


@pytest.mark.long
def test_the_whole_on_few_samples(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    random = np.random.default_rng(0)
    arrays = {"train_y": np.arange(300) % 10, "test_y": np.arange(50) % 10}
    images = {f"{which}_x": random.integers(0, 256, (len(arrays[f"{which}_y"]), 28, 28)) for which in ("train", "test")}
    np.savez(data / "mnist.npz", **arrays, **{name: x.astype(np.uint8) for name, x in images.items()})
    np.savez(data / "cifar10_jpeg.npz", **arrays, **jpegs(random, "train", 300), **jpegs(random, "test", 50))
    finished = bench(tmp_path, out, "--smoke")
    assert finished.returncode == 0, finished.stderr
    for word in ("ours: choice", "Geometric mean over 5 networks", "leo:", "isa:", "ablation of rewrites", "latency"):
        assert word in finished.stdout
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert len({line["key"] for line in lines}) == len(lines) > 100
    again = bench(tmp_path, out, "--smoke")
    assert again.stderr == ""
    assert again.stdout == finished.stdout


def jpegs(random: np.random.Generator, which: str, count: int) -> dict[str, Any]:
    files = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(file, "JPEG")
        files.append(file.getvalue())
    ends = np.cumsum([0, *map(len, files)])
    return {f"{which}_jpeg": np.frombuffer(b"".join(files), np.uint8), f"{which}_offsets": ends}
