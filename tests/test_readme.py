"""Every Python example in the README runs as it stands there."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from tiny_models import DIGITS

import reluce

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


def classifier() -> MLPClassifier:
    X, y = load_digits(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return MLPClassifier((16,), alpha=3, max_iter=5, random_state=0).fit(X, y)


def specification() -> str:
    """A version 1 file: pixels in [0, 1], and something about the outputs."""
    inputs = "".join(f"(declare-const X_{k} Real)\n(assert (>= X_{k} 0))\n(assert (<= X_{k} 1))\n" for k in range(64))
    outputs = "".join(f"(declare-const Y_{k} Real)\n" for k in range(10))
    return inputs + outputs + "(assert (<= Y_0 Y_1))\n"


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 4
    assert all(len(block.strip().splitlines()) <= 3 for block in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.strip().splitlines()[0][:60] for block in BLOCKS])
def test_examples_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DIGITS, "classifier.onnx")
    Path("spec.vnnlib").write_text(specification())
    module = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    names = {
        "reluce": reluce,
        "onnx": onnx,
        "torch": torch,
        "np": np,
        "module": module,
        "classifier": classifier(),
        "X": load_digits().data,
    }
    exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert isinstance(result, reluce.Result)
    assert result.report.compressed is not None
    assert result.report.compressed.parameters <= result.report.model.parameters


def test_an_example_that_is_wrong_would_be_noticed() -> None:
    with pytest.raises(AttributeError):
        exec(BLOCKS[0].replace("reluce.compress", "reluce.compres", 1), {"reluce": reluce, "onnx": onnx})
