import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_digits

import reluce.sweep._one as one
from reluce.cli import _run
from reluce.cli_sweep import sweep_command
from reluce.cli_train import train_command
from reluce.errors import CheckFailed, UsageError
from reluce.io import Sizes
from reluce.sweep import Failure, Figures, Row, Run, Sweep, choose, plotted, recipes_for, sweep
from reluce.sweep._results import exactly
from reluce.train import Data, Recipe, load_training_data

Capture = pytest.CaptureFixture[str]
PENALTY = ("--penalty", "l1,rows")
QUICK = ("--widths", "24,16", "--epochs", "8", "--batch", "20", *PENALTY, "--strengths", "6e-3", "--seeds", "2")
NAMES = [f"s{strength}-seed{seed}" for seed in (0, 1) for strength in ("0", "0.006")]
ENDINGS = (".json", ".onnx", "-small.onnx", "-small.cert")
SUMMARY = {"sweep.json", "sweep.csv", "sweep.svg", "sweep.png"}


def command(*arguments: str | Path) -> int:
    return _run([str(argument) for argument in arguments])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def states(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def one_line(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = load_digits(return_X_y=True)
    x = (x * 15).astype(np.uint8).reshape(-1, 8, 8)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, train_x=x[:600], train_y=y[:600], test_x=x[600:800], test_y=y[600:800])
    return path


@pytest.fixture(scope="session")
def data(digits: Path) -> Data:
    return load_training_data(digits)


@pytest.fixture(scope="session")
def swept(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that has been done; nobody may change it."""
    folder = tmp_path_factory.mktemp("sweep") / "new" / "folder"
    assert command("sweep", digits, folder, *QUICK, "--quiet") == 0
    return folder


TINY = Recipe(widths=(8,), epochs=1, batch=50)


# From end to end


def test_all_that_a_sweep_leaves(swept: Path) -> None:
    assert names(swept) == {name + ending for name in NAMES for ending in ENDINGS} | SUMMARY
    found = json.loads((swept / "sweep.json").read_text())
    assert [run["run"] for run in found["runs"]] == sorted(NAMES)
    assert [row["strength"] for row in found["strengths"]] == [0, 6e-3]
    assert found["domain"] == [0, 1]
    plain, shrunk = found["strengths"]
    assert plain["after"] == plain["before"] == 64 * 24 + 24 * 16 + 16 * 10 + 50
    assert shrunk["after"] < 0.5 * plain["after"]
    assert shrunk["removed"] > 5
    assert plain["valid"] > 0.6
    assert found["choice"]["words"].startswith(("nothing found", "strength 0.006"))


def test_the_figures_are_those_of_the_files(swept: Path, data: Data) -> None:
    import onnxruntime

    for run in json.loads((swept / "sweep.json").read_text())["runs"]:
        figures = run["figures"]
        small = swept / f"{run['run']}-small.onnx"
        session = onnxruntime.InferenceSession(small.read_bytes(), providers=["CPUExecutionProvider"])
        _, valid = data.split(0.1, run["recipe"]["seed"])
        assert valid is not None
        assert data.test is not None
        for name, samples in (("valid", valid), ("test", data.test)):
            (out,) = session.run(None, {"input": samples.inputs(slice(None)).numpy()})
            assert figures[name] == np.mean(out.argmax(1) == samples.y.numpy())
        floats = [tensor for tensor in onnx.load(small).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        stored = sum(int(np.prod(tensor.dims)) for tensor in floats)
        assert figures["after"]["parameters"] == stored
        assert figures["removed"] == sum(figures["units"]) - sum(figures["kept"])


def test_the_certificates_hold(swept: Path) -> None:
    from reluce_checker.__main__ import main

    name = swept / NAMES[1]
    with pytest.raises(SystemExit) as end:
        sys.exit(main([f"{name}.onnx", f"{name}-small.onnx", f"{name}-small.cert", "--range", "0,1"]))
    assert end.value.code == 0


def test_the_networks_are_those_of_reluce_train(digits: Path, swept: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.onnx"
    options = ("--widths", "24,16", "--epochs", "8", "--batch", "20", "--l1", "6e-3", "--rows", "6e-3", "--seed", "1")
    assert command("train", digits, alone, *options, "--quiet") == 0
    assert alone.read_bytes() == (swept / "s0.006-seed1.onnx").read_bytes()


def test_the_csv_has_a_line_for_each_run(swept: Path) -> None:
    with (swept / "sweep.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines] == sorted(NAMES)
    runs = json.loads((swept / "sweep.json").read_text())["runs"]
    for line, run in zip(lines, runs, strict=True):
        assert float(line["validation"]) == run["figures"]["valid"]
        assert int(line["parameters_after"]) == run["figures"]["after"]["parameters"]
        assert int(line["units_removed"]) == run["figures"]["removed"]


def test_the_plots_are_of_their_kinds(swept: Path) -> None:
    tree = ET.fromstring((swept / "sweep.svg").read_bytes())
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join("".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("parameters left", "validation accuracy", "unregularised mean", "one run", "0.006"):
        assert word in words
    assert (swept / "sweep.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_what_is_shown(digits: Path, swept: Path, capsys: Capture) -> None:
    assert command("sweep", digits, swept, *QUICK) == 0
    printed = capsys.readouterr()
    for word in ("strength", "validation", "test", "ratio", "units removed", "0.006", "±", "2,130"):
        assert word in printed.out
    assert json.loads((swept / "sweep.json").read_text())["choice"]["words"][1:] in printed.out
    assert [line.partition(":")[0] for line in printed.err.splitlines()] == NAMES


# Going on


def test_what_is_done_is_not_done_again(digits: Path, swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = states(swept)
    monkeypatch.setattr(one, "fit", None)
    monkeypatch.setattr(one, "compress", None)
    assert command("sweep", digits, swept, *QUICK, "--quiet") == 0
    after = states(swept)
    assert {name: content for name, (_, content) in after.items()} == {name: c for name, (_, c) in before.items()}
    assert all(after[name] == before[name] for name in before.keys() - SUMMARY)


def test_more_strengths_are_added(data: Data, tmp_path: Path) -> None:
    first = sweep(data, recipes_for(TINY, [1e-3]), tmp_path, seeds=(0,))
    times = states(tmp_path)
    both = sweep(data, recipes_for(TINY, [1e-3, 1e-2]), tmp_path, seeds=(0, 1))
    assert len(first.runs) == 2
    assert len(both.runs) == 6
    assert set(first.runs) < set(both.runs)
    assert all(states(tmp_path)[name] == times[name] for name in times.keys() - SUMMARY)


@pytest.mark.parametrize("damage", ["s0-seed0-small.onnx", "s0-seed0-small.cert", "s0-seed0.onnx", "s0-seed0.json"])
@pytest.mark.parametrize("kind", ["gone", "changed"])
def test_what_is_missing_or_changed_is_done_again(data: Data, tmp_path: Path, damage: str, kind: str) -> None:
    recipes = recipes_for(TINY, [1e-3])
    sweep(data, recipes, tmp_path, seeds=(0,))
    before, path = states(tmp_path), tmp_path / damage
    path.unlink() if kind == "gone" else path.write_bytes(path.read_bytes()[:-3])
    sweep(data, recipes, tmp_path, seeds=(0,))
    after = states(tmp_path)
    assert after.keys() == before.keys()
    if damage.endswith(".onnx"):
        assert after[damage][1] == before[damage][1]
    assert after["s0.001-seed0.json"] == before["s0.001-seed0.json"]


@pytest.mark.parametrize(
    "other", [("--epochs", "2"), ("--guarantee", "exact"), ("--range", "-1,1"), ("--objective", "bytes")], ids=str
)
def test_another_sweep_in_the_same_folder(
    digits: Path, data: Data, tmp_path: Path, capsys: Capture, other: tuple[str, ...]
) -> None:
    sweep(data, recipes_for(TINY, [1e-3]), tmp_path, seeds=(0,))
    before = states(tmp_path)
    options = ("--widths", "8", "--epochs", "1", "--batch", "50", "--strengths", "1e-3", "--seeds", "1", "--quiet")
    assert command("sweep", digits, tmp_path, *options, *other) == 2
    assert "s0-seed0.json: is of a run with another recipe, other data, other options" in one_line(capsys)
    assert states(tmp_path) == before
    assert command("sweep", digits, tmp_path, *options) == 0
    assert command("sweep", digits, tmp_path, *options, *other, "--fresh") == 0
    assert states(tmp_path).keys() == before.keys()


@pytest.mark.skipif(os.name != "posix", reason="no signals here")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_what_is_killed_goes_on(digits: Path, tmp_path: Path, kind: int) -> None:
    options = ("--widths", "30,20", "--epochs", "12", "--batch", "10", "--strengths", "1e-3", "--seeds", "1")
    folder, undisturbed = tmp_path / "sweep", tmp_path / "undisturbed"
    start = [sys.executable, "-c", "from reluce.cli import main; main()"]
    process = subprocess.Popen(
        [*start, "sweep", str(digits), str(folder), *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    checkpoint = folder / "s0.001-seed0.onnx.train"
    try:
        limit = time.monotonic() + 60
        while not checkpoint.exists():
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "s0-seed0-small.onnx" in names(folder)
    assert not names(folder) & SUMMARY
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1] == (
            "reluce: interrupted; 1 of 2 runs have ended; the same command goes on from there"
        )
    done = states(folder)["s0-seed0.json"]
    assert command("sweep", digits, folder, *options, "--quiet") == 0
    assert states(folder)["s0-seed0.json"] == done
    assert command("sweep", digits, undisturbed, *options, "--quiet") == 0
    assert {name for name in names(folder) if not name.startswith(".")} == names(undisturbed)
    for name in ("s0.001-seed0.onnx", "s0.001-seed0-small.onnx", "s0.001-seed0-small.cert"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="no signals here")
@pytest.mark.parametrize("moment", ["loading", "rewriting"])
def test_interrupted_while_compressing(
    digits: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    compress, times = one.compress, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        def progress(what: str) -> None:
            if what == moment and not times:
                times.append(what)
                os.kill(os.getpid(), signal.SIGINT)

        return compress(*arguments, **{**options, "progress": progress})

    monkeypatch.setattr(one, "compress", interrupted)
    assert command("sweep", digits, tmp_path, *QUICK) == 130
    assert "interrupted; 0 of 4 runs have ended" in one_line(capsys)
    assert json.loads((tmp_path / "s0-seed0.json").read_text())["figures"] is None
    monkeypatch.undo()
    assert command("sweep", digits, tmp_path, *QUICK, "--quiet") == 0
    assert names(tmp_path) == {name + ending for name in NAMES for ending in ENDINGS} | SUMMARY


def test_a_time_limit_is_shown(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command("sweep", digits, tmp_path, *QUICK, "--time-limit", "0") == 4
    assert "Note: the time limit ended some compressions" in capsys.readouterr().out
    assert names(tmp_path) >= SUMMARY


def test_two_sweeps_on_one_folder(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    from reluce.run import LOCKS, open_locked

    if not LOCKS:
        pytest.skip("no locks here")
    held = open_locked(tmp_path / "sweep.lock")
    assert command("sweep", digits, tmp_path, *QUICK) == 5
    assert "another sweep is writing there; wait for it, or give another folder" in one_line(capsys)
    assert names(tmp_path) == {"sweep.lock"}
    os.close(held)


# Several at once


def test_side_by_side_is_the_same(data: Data, tmp_path: Path) -> None:
    recipes = recipes_for(TINY, [1e-2])
    told: list[str] = []
    both = sweep(data, recipes, tmp_path / "both", seeds=(0,), jobs=2, progress=told.append)
    alone = sweep(data, recipes, tmp_path / "alone", seeds=(0,))
    assert "s0-seed0: epoch 1/1" in " ".join(told)
    assert names(tmp_path / "both") == names(tmp_path / "alone")
    assert [run.name for run in both.runs] == [run.name for run in alone.runs]
    for path in (tmp_path / "alone").iterdir():
        if path.suffix in {".onnx", ".cert", ".svg", ".png"}:
            assert path.read_bytes() == (tmp_path / "both" / path.name).read_bytes()


def test_side_by_side_failures_are_shown(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ("--widths", "8", "--strengths", "1e-3", "--seeds", "1", "--lr", "1e30", "--jobs", "2")
    assert command("sweep", digits, tmp_path, *options) == 2
    assert "2 of 2 runs failed, first s0-seed0: training diverged" in one_line(capsys)


@pytest.mark.skipif(os.name != "posix", reason="no signals here")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_sweep(digits: Path, tmp_path: Path, kind: int, capsys: Capture) -> None:
    options = ("--widths", "8", "--epochs", "100000", "--strengths", "1e-3", "--seeds", "1", "--jobs", "2")
    start = [sys.executable, "-c", "from reluce.cli import main; main()", "sweep", str(digits), str(tmp_path)]
    process = subprocess.Popen([*start, *options], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    checkpoints = [tmp_path / f"{name}-seed0.onnx.train" for name in ("s0", "s0.001")]
    try:
        limit = time.monotonic() + 60
        while not all(path.exists() for path in checkpoints):
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("reluce: interrupted; 0 of 2 runs have ended")
    limit = time.monotonic() + 20  # the lock is free only when the last worker is gone
    while command("sweep", digits, tmp_path, *options, "--time-limit", "1") == 5:
        assert "another sweep is writing there" in one_line(capsys)
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert "is of a run with another recipe" in one_line(capsys)  # the time limit is another, so nothing was begun
    before = states(tmp_path)
    time.sleep(0.5)
    assert states(tmp_path) == before


def test_a_worker_that_is_lost(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import reluce.sweep._workers as workers

    monkeypatch.setattr(workers, "CODE", "import os; os._exit(9)")
    found = sweep(data, recipes_for(TINY, [1e-2]), tmp_path, seeds=(0,), jobs=2)
    assert [str(run.outcome) for run in found.runs] == ["the process of the run was lost (exit code 9)"] * 2


# What fails


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    compress = one.compress

    def instead(model: Path, *arguments: Any, **options: Any) -> Any:
        if model.stem == name:
            raise error
        return compress(model, *arguments, **options)

    monkeypatch.setattr(one, "compress", instead)


@pytest.mark.parametrize(("error", "code"), [(CheckFailed("it differs"), 1), (ZeroDivisionError("by zero"), 70)])
def test_a_run_that_fails_stops_no_other(
    digits: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    failing(monkeypatch, "s0.006-seed0", error)
    assert command("sweep", digits, tmp_path, *QUICK) == code
    printed = capsys.readouterr()
    assert f"Failed: s0.006-seed0: {error}\n" in printed.out
    assert "1 of 2 failed" in printed.out
    assert f"1 of 4 runs failed, first s0.006-seed0: {error}" in printed.err
    assert names(tmp_path) >= SUMMARY | {"s0.006-seed1-small.onnx"}
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["choice"]["strength"] is None
    failures = [run["failure"] for run in found["runs"] if run["figures"] is None]
    assert failures == [{"kind": type(error).__name__, "reason": str(error)}]
    monkeypatch.undo()
    assert command("sweep", digits, tmp_path, *QUICK, "--quiet") == 0


def test_all_runs_may_fail(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command("sweep", digits, tmp_path, *QUICK, "--lr", "1e30") == 2
    printed = capsys.readouterr()
    assert "4 of 4 runs failed, first s0-seed0: training diverged" in printed.err
    assert "Nothing can be named: a run of the unregularised network failed" in printed.out
    assert names(tmp_path) >= SUMMARY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strengths", "much"), "--strengths 'much': expected numbers, such as 1e-5,1e-4"),
        (("--strengths", "0"), "no strength above 0 is given"),
        (("--strengths", "-1"), "l1 is (-1.0, -1.0, -1.0); give numbers >= 0"),
        (("--seeds", "0"), "--seeds 0: give at least 1"),
        (("--jobs", "0"), "jobs is 0; give at least 1"),
        (("--penalty", "l2"), "penalty 'l2': expected l1, rows, columns, stability, or several of them"),
        (("--penalty", ""), "nothing is swept"),
        (("--l1", "1e-4"), "l1 is swept, and has a strength of its own, 0.0001"),
        (("--valid", "0"), "a sweep compares validation accuracies; give valid, such as 0.1"),
        (("--guarantee", "perfect"), "perfect"),
        (("--objective", "beauty"), "objective 'beauty': expected one of parameters"),
        (("--widths", "0"), "widths is (0,)"),
    ],
    ids=str,
)
def test_usage(digits: Path, tmp_path: Path, capsys: Capture, options: tuple[str, ...], message: str) -> None:
    assert command("sweep", digits, tmp_path / "out", "--epochs", "1", *options) == 2
    assert message in one_line(capsys)
    assert names(tmp_path) == set()


def test_places_that_are_none(digits: Path, tmp_path: Path, capsys: Capture) -> None:
    assert command("sweep", tmp_path / "nowhere.npz", tmp_path / "out") == 3
    assert "no such file" in one_line(capsys)
    assert command("sweep", digits, digits, "--epochs", "1") == 5
    assert "digits.npz: cannot be written" in one_line(capsys)


def test_recipes_that_cannot_be_compared(data: Data, tmp_path: Path) -> None:
    good = recipes_for(TINY, [1e-3])
    for bad, message in (
        ({1e-3: good[1e-3]}, "strength 0 must be there"),
        ({0.0: good[1e-3], 1e-3: good[1e-3]}, "strength 0 must be there, and be the unregularised network"),
        ({0.0: good[0.0], 1e-3: Recipe(widths=(9,), l1=1e-3)}, "has another shape"),
        ({0.0: good[0.0], 1e-3: Recipe(widths=(8,), valid=0.2)}, "another validation split or domain"),
    ):
        with pytest.raises(UsageError, match=message):
            sweep(data, bad, tmp_path)
    for seeds in ((), (1, 1)):
        with pytest.raises(UsageError, match="give at least one, and each once"):
            sweep(data, good, tmp_path, seeds=seeds)
    assert names(tmp_path) == set()


def test_without_matplotlib(digits: Path, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert command("sweep", digits, tmp_path / "out", *QUICK) == 2
    assert one_line(capsys) == "reluce: plots need matplotlib: pip install 'reluce[train]'"
    assert names(tmp_path) == set()


def test_matplotlib_is_not_imported_before_it_is_used() -> None:
    code = "import sys, reluce.cli, reluce.cli_sweep; assert not {'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    subprocess.run(
        [sys.executable, "-c", "import sys, reluce.sweep; assert 'matplotlib' not in sys.modules"], check=True
    )


def test_the_domain_of_numbers_is_an_assumption(data: Data, tmp_path: Path) -> None:
    from dataclasses import replace

    from reluce.train import Samples

    scaled = replace(data, train=Samples(data.train.inputs(slice(None)) * 4 - 1, data.train.y), test=None)
    found = sweep(scaled, recipes_for(TINY, [1e-3]), tmp_path / "a", seeds=(0,))
    assert found.domain == scaled.range
    assert "is the range of the training values: an assumption" in found.notes[0]
    assert all(run.figures is not None and run.figures.test is None for run in found.runs)
    assert not sweep(
        scaled, recipes_for(Recipe(widths=(8,), epochs=1, domain=(-2.0, 4.0)), [1e-3]), tmp_path / "b"
    ).notes


def test_test_samples_choose_nothing(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    accuracy = one._accuracy

    def counted(result: Any, samples: Any) -> float:
        measured.append(len(samples))
        return accuracy(result, samples)

    monkeypatch.setattr(one, "_accuracy", counted)
    sweep(data, recipes_for(TINY, [1e-3]), tmp_path / "with", seeds=(0, 1))
    assert sorted(measured) == [60] * 4 + [200] * 4
    sweep(data, recipes_for(TINY, [1e-3]), tmp_path / "with", seeds=(0, 1))
    assert len(measured) == 8


# Options


def test_all_options_of_train_are_there() -> None:
    import inspect

    ours, theirs = (inspect.signature(each).parameters for each in (sweep_command, train_command))
    assert theirs.keys() - ours.keys() == {"target", "json_file", "threads"}  # a run of a sweep has one thread
    for name in theirs.keys() & ours.keys():
        assert ours[name].default == theirs[name].default


def test_every_option_reaches_the_recipe(digits: Path, tmp_path: Path) -> None:
    options = [
        *("--widths", "6", "--channels", "2", "--epochs", "2", "--batch", "50", "--optimizer", "adam", "--lr", "0.01"),
        *("--decay", "step", "--warmup", "0.1", "--stability-kind", "rs", "--range", "-1,2", "--polish", "0.4"),
        *("--ramp", "0.2", "--patience", "5", "--shift", "1", "--flip", "--valid", "0.2", "--rows", "1e-4,0,0"),
        *("--columns", "1e-5", "--penalty", "l1,stability", "--strengths", "1e-4", "--seed", "7", "--seeds", "1"),
    ]
    assert command("sweep", digits, tmp_path, *options, "--quiet") == 0
    base = Recipe(
        widths=(6,),
        channels=(2,),
        epochs=2,
        batch=50,
        optimizer="adam",
        lr=0.01,
        valid=0.2,
        decay="step",
        warmup=0.1,
        stability_kind="rs",
        domain=(-1.0, 2.0),
        polish=0.4,
        ramp=0.2,
        patience=5,
        shift=1,
        flip=True,
        rows=(1e-4, 0.0, 0.0),
        columns=1e-5,
        seed=7,
    )
    expected = recipes_for(base, [1e-4], ["l1", "stability"])
    assert (expected[1e-4].l1, expected[1e-4].stability, expected[1e-4].columns) == (1e-4, 1e-4, 1e-5)
    for strength, name in ((0.0, "s0-seed7"), (1e-4, "s0.0001-seed7")):
        (entry,) = onnx.load(tmp_path / f"{name}.onnx").metadata_props
        assert Recipe.from_json(entry.value) == expected[strength]


def test_every_option_of_dense_networks_reaches_the_recipe(digits: Path, tmp_path: Path) -> None:
    options = ("--keep", "30,5", "--centre", "--nesterov", "--weight-decay", "1e-3", "--epochs", "2", "--seeds", "1")
    assert command("sweep", digits, tmp_path, "--widths", "8", "--strengths", "1e-4", *options, "--quiet") == 0
    expected = Recipe(widths=(8,), epochs=2, l1=1e-4, keep=(30, 5), centre=True, nesterov=True, weight_decay=1e-3)
    (entry,) = onnx.load(tmp_path / "s0.0001-seed0.onnx").metadata_props
    assert Recipe.from_json(entry.value) == expected


def test_the_unregularised_recipe_has_no_penalty_and_no_budget() -> None:
    base = Recipe(rows=1e-3, columns=1e-3, stability=0.1, keep=(100, 50, 50))
    plain = recipes_for(base, [1e-3])[0.0]
    assert not plain.penalised
    assert not plain.keep
    assert not plain.stability
    assert base.penalised


# The choice, on figures that are made up


def run(strength: float, valid: float | None, left: int, seed: int = 0, trained: float | None = None) -> Run:
    outcome: Figures | Failure = Failure("UsageError", "training diverged")
    if valid is not None:
        before, after = Sizes(1000, 1000, 1000, 4000), Sizes(left, left, left, 4 * left)
        outcome = Figures(valid if trained is None else trained, valid, 0.5, before, after, (10, 10), (5, 4), 1.0, 1.0)
    return Run(f"s{strength:g}-seed{seed}", strength, Recipe(seed=seed), outcome)


def swept_as(*runs: Run) -> Sweep:
    return Sweep(runs, (0.0, 1.0), "roundoff")


PLAIN = (run(0, 0.90, 900), run(0, 0.96, 1000, seed=1))  # mean 0.93, 950 left


@pytest.mark.parametrize(
    ("others", "strength"),
    [
        ([run(1, 0.93, 500), run(1, 0.93, 500, 1)], 1),
        ([run(1, 0.93, 500), run(1, 0.929, 500, 1)], None),  # a thousandth less
        ([run(1, 0.86, 500), run(1, 1.0, 500, 1)], 1),  # it is the mean that counts
        ([run(1, 0.85, 500), run(1, 1.0, 500, 1)], None),
        ([run(1, 0.99, 500), run(1, 0.99, 500, 1), run(2, 0.93, 400), run(2, 0.93, 400, 1)], 2),
        ([run(1, 0.99, 500), run(1, 0.99, 500, 1), run(2, 0.93, 600), run(2, 0.93, 600, 1)], 1),
        ([run(1, 0.99, 500), run(1, 0.99, 500, 1), run(2, 0.92, 400), run(2, 0.93, 400, 1)], 1),
        ([run(1, 0.99, 100), run(1, None, 0, 1), run(2, 0.93, 400), run(2, 0.93, 400, 1)], 2),  # one has failed
        ([run(1, 0.94, 950), run(1, 0.94, 950, 1)], None),  # no smaller
        ([run(1, 0.94, 950), run(1, 0.94, 949, 1)], 1),
        ([run(1, 0.94, 500), run(1, 0.94, 500, 1), run(2, 0.95, 500), run(2, 0.94, 500, 1)], 2),  # the more accurate
        ([run(1, 0.94, 500), run(1, 0.94, 500, 1), run(2, 0.94, 500), run(2, 0.94, 500, 1)], 1),  # the weaker
    ],
)
def test_which_strength_is_named(others: list[Run], strength: float | None) -> None:
    assert swept_as(*PLAIN, *others).choice.strength == strength


def test_the_words() -> None:
    same = swept_as(*PLAIN, run(1, 0.93, 500), run(1, 0.93, 500, 1)).choice.words
    assert same == (
        "strength 1 compresses most without losing accuracy: 500 parameters left, 2.00x fewer (unregularised: 1.05x); "
        "validation accuracy 93.00% against 93.00%"
    )
    tie = [run(1, 0.94, 500), run(1, 0.94, 500, 1), run(2, 0.94, 500), run(2, 0.94, 500, 1)]
    assert swept_as(*PLAIN, *tie).choice.words.endswith("(as small and as accurate: the weaker one is named: 2)")
    tie[2] = run(2, 0.95, 500)
    assert swept_as(*PLAIN, *tie).choice.words.endswith("(as small but not more accurate: 1)")
    nothing = swept_as(*PLAIN, run(1, 0.92, 500), run(1, 0.92, 500, 1), run(2, 0.5, 9), run(2, 0.5, 9, 1)).choice.words
    assert nothing.endswith("the nearest that leaves fewer is strength 1 with 92.00% and 500 left")
    assert "none leaves fewer at all" in swept_as(*PLAIN, run(1, 0.99, 950), run(1, 0.99, 950, 1)).choice.words
    assert "for no strength above 0" in swept_as(*PLAIN, run(1, None, 0), run(1, 0.99, 5, 1)).choice.words
    failed = swept_as(run(0, None, 0), run(0, 0.9, 900, 1), run(1, 0.99, 5), run(1, 0.99, 5, 1)).choice
    assert failed.strength is None
    assert "a run of the unregularised network failed" in failed.words


def test_compressed_networks_are_compared_with_the_unregularised_one_as_trained() -> None:
    plain = (run(0, 0.5, 900, trained=0.93),)
    assert swept_as(*plain, run(1, 0.92, 500, trained=0.99)).choice.strength is None
    assert swept_as(*plain, run(1, 0.93, 500, trained=0.92)).choice.strength == 1


def test_rounding_of_floats_decides_nothing() -> None:
    """7/12 + 1/12 + 1/12 and three times 1/4 are the same, and so are means of tenths in any order."""
    assert 0.1 + 0.2 != 0.3
    plain = [run(0, value, 900, seed) for seed, value in enumerate((0.3, 0.1, 0.2))]
    others = [run(1, value, 500, seed) for seed, value in enumerate((0.1, 0.2, 0.3))]
    assert swept_as(*plain, *others).choice.strength == 1
    plain = [run(0, value, 900, seed) for seed, value in enumerate((7 / 12, 1 / 12, 1 / 12))]
    assert swept_as(*plain, *(run(1, 1 / 4, 500, seed) for seed in range(3))).choice.strength == 1
    less = [run(1, 1 / 4, 500), run(1, 1 / 4, 500, 1), run(1, 249 / 1000, 500, 2)]
    assert swept_as(*plain, *less).choice.strength is None
    for total in (7, 60, 6000, 99_991):
        assert all(exactly(count / total) == Fraction(count, total) for count in range(0, total, 1 + total // 50))


def test_test_accuracy_does_not_decide() -> None:
    def with_test(each: Run, test: float) -> Run:
        from dataclasses import replace

        assert each.figures is not None
        return replace(each, outcome=replace(each.figures, test=test))

    others = [run(1, 0.92, 500), run(2, 0.94, 600)]
    plain = run(0, 0.93, 900)
    for tests in ((0.1, 0.9, 0.2), (0.9, 0.1, 0.1)):
        changed = [with_test(each, test) for each, test in zip([plain, *others], tests, strict=True)]
        assert swept_as(*changed).choice == swept_as(plain, *others).choice
    assert choose(swept_as(plain, *others).rows).strength == 2


def test_means_and_deviations() -> None:
    row = Row(0, (*PLAIN, run(0, None, 0, 2)))
    assert (row.valid, row.after, row.before) == (Fraction(93, 100), 950, 1000)
    assert not row.complete
    assert row.deviation(lambda each: each.valid) == pytest.approx(0.06 / 2**0.5)
    assert row.removed == 11
    assert Row(0, PLAIN[:1]).deviation(lambda each: each.valid) is None
    assert Row(0, (run(0, None, 0),)).valid is None


# Plots of made-up figures


def words_of(svg: bytes) -> list[str]:
    texts = ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(each.itertext()).strip() for each in texts]


def test_the_chosen_one_is_marked() -> None:
    found = swept_as(*PLAIN, run(1, 0.94, 500), run(1, 0.94, 500, 1), run(2, 0.1, 10), run(2, 0.1, 10, 1))
    words = words_of(plotted(found)["svg"])
    assert "chosen: strength 1, 2.00x" in words
    assert "one run, below" in words
    nothing = swept_as(*PLAIN, run(1, 0.9, 500), run(1, 0.9, 500, 1))
    assert not any("chosen" in word or "below" in word for word in words_of(plotted(nothing)["svg"]))


def test_plots_are_the_same_again_and_leave_matplotlib_as_it_was() -> None:
    import matplotlib

    found = swept_as(*PLAIN, run(1, 0.94, 500), run(1, 0.94, 500, 1))
    first = plotted(found)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        before = dict(matplotlib.rcParams)
        assert plotted(found) == first
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "runs",
    [
        (run(0, None, 0), run(1, None, 0)),
        (run(0, 0.9, 500), run(1, 0.9, 500)),
        (run(0, None, 0), run(1, 0.9, 0)),
        (run(0, 1.0, 999_999), run(1, 0.0, 1)),
        tuple(run(strength, 0.9 + strength / 1000, 900 - strength) for strength in range(40)),
    ],
    ids=["nothing", "one point", "no parameters", "far apart", "many"],
)
def test_whatever_comes_out_can_be_drawn(runs: tuple[Run, ...]) -> None:
    files = plotted(swept_as(*runs))
    assert "parameters left" in words_of(files["svg"])
    assert files["png"].startswith(b"\x89PNG\r\n\x1a\n")


# Documentation

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "sweep.md").read_text()


def test_what_the_documentation_shows(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist.npz").write_bytes(digits.read_bytes())
    (shown,) = re.findall(r"^```sh\n(reluce .*)\n```", TEXT, re.MULTILINE)
    assert command(*shown.split()[1:], "--epochs", "1", "--quiet") == 0
    assert names(Path("sweep")) >= SUMMARY
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert "epochs=20" in code
    exec(code.replace("epochs=20", "epochs=1"), {})
    assert len(list(Path("folder").glob("*-small.cert"))) == 9


def test_options_that_the_documentation_names_exist(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert command("sweep", "--help") == 0
    known, named = capsys.readouterr().out, set(re.findall(r"`(--[a-z0-9-]+)", TEXT))
    assert len(named) >= 5
    assert all(option in known for option in named)
