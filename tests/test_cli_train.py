import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_digits

from reluce.cli import _run
from reluce.train import Recipe, fit, load_training_data

Capture = pytest.CaptureFixture[str]
QUICK = ("--widths", "24,16", "--epochs", "8", "--batch", "20", "--l1", "5e-3", "--rows", "2e-3")


def reluce_command(*arguments: str | Path) -> int:
    return _run([str(argument) for argument in arguments])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def one_line(capsys: Capture) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = load_digits(return_X_y=True)
    x = (x * 15).astype(np.uint8).reshape(-1, 8, 8)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, train_x=x[:600], train_y=y[:600], test_x=x[600:800], test_y=y[600:800])
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


def test_what_is_trained_can_be_made_smaller(digits: Path, target: Path, capsys: Capture) -> None:
    report, small = target.with_name("report.json"), target.with_name("small.onnx")
    assert reluce_command("train", digits, target, *QUICK, "--json", report) == 0
    printed = capsys.readouterr()
    assert names(target.parent) == {"out.onnx", "report.json"}
    assert printed.err.count("\n") == 8
    assert "epoch 8/8  loss 0." in printed.err
    for word in ("units whose row is zero", "Accuracy: train", "validation", "test"):
        assert word in printed.out
    found = json.loads(report.read_text())
    assert [len(found[key]) for key in ("epochs", "layers", "accuracy")] == [8, 3, 3]
    assert found["recipe"]["widths"] == [24, 16]
    assert found["accuracy"]["test"] > 0.6
    first = found["layers"][0]
    assert first["weights"] == 64 * 24
    assert first["zero_rows"] > 0
    assert reluce_command("compress", target, small, "--range", "0,1", "--guarantee", "exact", "--quiet") == 0
    assert weights(small) < 0.9 * weights(target)


def weights(path: Path) -> int:
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)


def test_the_file_is_what_fit_gives(digits: Path, target: Path) -> None:
    options = ("--l1", "1e-3,0,1e-4", "--columns", "1e-4", "--seed", "3", "--valid", "0.2", "--polish", "0.5")
    assert reluce_command("train", digits, target, "--widths", "8,8", "--epochs", "2", "-q", *options) == 0
    strengths = {"l1": (1e-3, 0.0, 1e-4), "columns": 1e-4}
    recipe = Recipe(widths=(8, 8), epochs=2, seed=3, valid=0.2, polish=0.5, **strengths)  # type: ignore[arg-type]
    assert target.read_bytes() == fit(load_training_data(digits), recipe).onnx()


def test_every_option_reaches_the_recipe(digits: Path, target: Path) -> None:
    options = [
        *("--widths", "6", "--channels", "2", "--epochs", "2", "--batch", "50", "--optimizer", "adam", "--lr", "0.01"),
        *("--decay", "step", "--warmup", "0.1", "--stability", "0.1", "--stability-kind", "rs", "--range", "-1,2"),
        *("--ramp", "0.2", "--patience", "5", "--shift", "1", "--flip", "--l1", "1e-4", "--subgradient", "--quiet"),
    ]
    assert reluce_command("train", digits, target, *options) == 0
    (entry,) = onnx.load(target).metadata_props
    expected = Recipe(
        widths=(6,),
        channels=(2,),
        epochs=2,
        batch=50,
        optimizer="adam",
        lr=0.01,
        decay="step",
        warmup=0.1,
        stability=0.1,
        stability_kind="rs",
        domain=(-1.0, 2.0),
        ramp=0.2,
        patience=5,
        shift=1,
        flip=True,
        l1=1e-4,
        subgradient=True,
    )
    assert Recipe.from_json(entry.value) == expected


def test_every_option_of_dense_networks_reaches_the_recipe(digits: Path, target: Path) -> None:
    options = ("--keep", "30,5", "--centre", "--nesterov", "--weight-decay", "1e-3", "--epochs", "2", "--quiet")
    assert reluce_command("train", digits, target, "--widths", "8", *options) == 0
    (entry,) = onnx.load(target).metadata_props
    expected = Recipe(widths=(8,), epochs=2, keep=(30, 5), centre=True, nesterov=True, weight_decay=1e-3)
    assert Recipe.from_json(entry.value) == expected


def test_the_defaults_are_those_of_the_recipe(digits: Path, target: Path) -> None:
    assert reluce_command("train", digits, target, "--epochs", "1", "--quiet") == 0
    (entry,) = onnx.load(target).metadata_props
    assert Recipe.from_json(entry.value) == Recipe(epochs=1)


def test_quiet(digits: Path, target: Path, capsys: Capture) -> None:
    assert reluce_command("train", digits, target, "--epochs", "1", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(digits: Path, target: Path, capsys: Capture, monkeypatch: Any) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    assert reluce_command("train", digits, target, "--epochs", "2") == 0
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "validation" in shown


# Stopping and going on


def started(digits: Path, target: Path, *options: str) -> subprocess.Popen[str]:
    code = "from reluce.cli import main; main()"
    command = [sys.executable, "-c", code, "train", str(digits), str(target), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="no signals here")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_what_is_stopped_goes_on_to_the_same_file(digits: Path, target: Path, kind: int) -> None:
    options = ("--widths", "30,20", "--epochs", "20", "--batch", "10", "--l1", "1e-3")
    checkpoint = target.with_name("out.onnx.train")
    process = started(digits, target, *options)
    try:
        limit = time.monotonic() + 60
        while not checkpoint.exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        process.send_signal(kind)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert checkpoint.exists()
    assert not target.exists()
    if kind == signal.SIGINT:
        assert process.returncode == 130
        said = errors.splitlines()[-1]
        assert said == f"reluce: interrupted; the same command goes on from {checkpoint}, --fresh starts afresh"
    assert reluce_command("train", digits, target, *options, "--quiet") == 0
    undisturbed = target.with_name("undisturbed.onnx")
    assert reluce_command("train", digits, undisturbed, *options, "--quiet") == 0
    assert target.read_bytes() == undisturbed.read_bytes()
    assert names(target.parent) - {".out.onnx.train.reluce-tmp"} == {"out.onnx", "undisturbed.onnx"}


def test_a_checkpoint_of_another_recipe(digits: Path, target: Path, capsys: Capture, monkeypatch: Any) -> None:
    checkpoint = target.with_name("out.onnx.train")
    interrupt(monkeypatch)
    assert reluce_command("train", digits, target, *QUICK, "--quiet") == 130
    monkeypatch.undo()
    assert checkpoint.exists()
    capsys.readouterr()
    assert reluce_command("train", digits, target, *QUICK, "--seed", "1") == 2
    assert "is the checkpoint of another recipe" in one_line(capsys)
    assert names(target.parent) == {checkpoint.name}
    assert reluce_command("train", digits, target, *QUICK, "--seed", "1", "--fresh", "--quiet") == 0
    assert names(target.parent) == {"out.onnx"}


def interrupt(monkeypatch: Any, after: int = 2) -> None:
    import reluce.train._fit as module

    record = module._Run.save

    def save(self: Any) -> None:
        record(self)
        if len(self.history) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "save", save)


def test_interrupted_before_the_first_epoch_ended(
    digits: Path, target: Path, capsys: Capture, monkeypatch: Any
) -> None:
    import reluce.train._fit as module

    def train(self: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Run, "train", train)
    assert reluce_command("train", digits, target, *QUICK) == 130
    assert one_line(capsys) == "reluce: interrupted before the first epoch ended; nothing was written"
    assert names(target.parent) == set()


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--widths", "4,x"), "--widths '4,x': expected whole numbers, such as 400,400"),
        (("--widths", "0"), "widths is (0,); give a tuple of whole numbers above 0"),
        (("--l1", "much"), "--l1 'much': expected a number, or one for each layer, such as 1e-4"),
        (("--l1", "-1"), "l1 is (-1.0, -1.0, -1.0); give numbers >= 0"),
        (("--rows", "1,2"), "rows has 2 strengths for 3 layers; give one, or one for each"),
        (("--range", "1"), "--range '1': expected LO,HI, such as 0,1"),
        (("--epochs", "0"), "epochs is 0; give a whole number >= 1"),
        (("--optimizer", "lbfgs"), "optimizer is 'lbfgs'; give one of sgd, adam"),
        (("--lr", "1e30", "--quiet"), "training diverged"),
    ],
    ids=str,
)
def test_usage(digits: Path, target: Path, capsys: Capture, options: tuple[str, ...], message: str) -> None:
    assert reluce_command("train", digits, target, *options) == 2
    assert message in one_line(capsys)
    assert names(target.parent) == set()


def test_data_that_cannot_be_read(target: Path, tmp_path: Path, capsys: Capture) -> None:
    assert reluce_command("train", tmp_path / "nowhere.npz", target) == 3
    assert "nowhere.npz: cannot be read as .npy or .npz: no such file" in one_line(capsys)


def test_files_that_would_be_overwritten(digits: Path, target: Path, capsys: Capture) -> None:
    assert reluce_command("train", digits, digits) == 2
    assert "DATA.npz and OUT.onnx name the same file" in one_line(capsys)
    assert reluce_command("train", digits, target, "--json", target) == 2
    assert "OUT.onnx and --json name the same file" in one_line(capsys)
    assert reluce_command("train", digits, target, "--json", f"{target}.train") == 2
    assert "--json and the checkpoint name the same file" in one_line(capsys)
    assert reluce_command("train", digits, target.parent / "nowhere" / "out.onnx") == 5
    assert "its folder does not exist" in one_line(capsys)


def test_help_names_the_options(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert reluce_command("train", "--help") == 0
    printed = capsys.readouterr().out
    for option in ("--widths", "--channels", "--l1", "--rows", "--columns", "--stability", "--polish", "--fresh"):
        assert option in printed
