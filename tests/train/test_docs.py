"""What ``docs/train.md`` shows runs as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from train_tools import digit_arrays

import reluce.train
from reluce.cli import _run

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "train.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("mnist.npz", **digit_arrays())
    return tmp_path


def test_the_python_shown(here: Path) -> None:
    norm = nn.BatchNorm1d(8)
    names = {name: getattr(reluce.train, name) for name in reluce.train.__all__}
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    names |= {"torch": torch, "Path": Path, "model": model, "norm": norm, "epochs": 2, "loader": range(5)}
    shown = blocks("python")
    assert len(shown) == 4
    for code in shown:
        exec(code.replace("l1=1e-4)", "l1=1e-4, epochs=1)"), names)
    (inline,) = re.findall(r"`(\{\*\*penalise.*?\})`", TEXT)
    assert norm.weight in eval(inline, names)
    assert {path.name for path in here.iterdir()} == {"mnist.npz", "net.train", "net.onnx"}


def test_the_commands_shown(here: Path) -> None:
    commands = [line.split()[1:] for block in blocks("sh") for line in block.splitlines() if line.startswith("reluce ")]
    assert [command[0] for command in commands] == ["train", "compress", "train"]
    for command in commands:
        more = ["--epochs", "1"] if command[0] == "train" else []
        assert _run([*command, *more, "--quiet"]) == 0
    assert (here / "small.onnx").exists()


def test_every_public_piece_is_described() -> None:
    pieces = ("L1", "L2", "SparseGroup", "Proximal", "penalise", "KeepGroups", "freeze_zeros", "stability_penalty")
    for name in (*pieces, "Recipe", "fit"):
        assert name in TEXT


def test_every_option_named_exists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert _run(["train", "--help"]) == 0
    known = capsys.readouterr().out
    named = set(re.findall(r"`(--[a-z0-9-]+)", TEXT))
    assert len(named) >= 8
    assert all(option in known for option in named)
