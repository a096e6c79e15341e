from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from run_small import logits_of
from train_digits import accuracy, load, soft_threshold

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / script, *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def test_training_writes_a_valid_network_and_its_data(tmp_path: Path) -> None:
    done = run("train_digits.py", "--epochs", "2", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    model = onnx.load(tmp_path / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert "epochs=2" in model.doc_string
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    logits = logits_of(tmp_path / "digits.onnx", load().test_x)
    assert logits.shape == (360, 10)
    assert np.isfinite(logits).all()
    assert np.array_equal(np.load(tmp_path / "digits-data.npz")["X"], load().train_x)


def test_committed_network_classifies_the_test_images() -> None:
    digits = load()
    assert accuracy(logits_of(EXAMPLES / "digits.onnx", digits.test_x), digits.test_y) >= 0.95


def test_committed_data_are_the_training_images() -> None:
    assert np.array_equal(np.load(EXAMPLES / "digits-data.npz")["X"], load().train_x)


def test_committed_network_has_zero_rows_in_its_first_layer_only() -> None:
    model = onnx.load(EXAMPLES / "digits.onnx")
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    zero_rows = [int((weights[f"weight{layer}"] == 0).all(axis=1).sum()) for layer in (1, 2, 3)]
    assert zero_rows[0] >= 3
    assert zero_rows[1:] == [0, 0]


def test_test_images_were_not_trained_on() -> None:
    digits = load()
    assert len(digits.train_x) + len(digits.test_x) == 1797
    assert not {image.tobytes() for image in digits.train_x} & {image.tobytes() for image in digits.test_x}


def test_accuracy_counts_mistakes() -> None:
    logits = np.eye(4, 10, dtype=np.float32)
    assert accuracy(logits, np.array([0, 1, 2, 9])) == 0.75


def test_soft_threshold_reaches_zero_exactly() -> None:
    weight = np.array([-2.0, -0.25, 0.0, 0.5, 1.0], np.float32)
    assert soft_threshold(weight, 0.5).tolist() == [-1.5, 0.0, 0.0, 0.0, 0.5]


def test_side_by_side_reports_both_networks() -> None:
    done = run("run_small.py", EXAMPLES / "digits.onnx", EXAMPLES / "digits.onnx")
    assert done.returncode == 0, done.stderr
    assert "classified differently: 0" in done.stdout


def test_side_by_side_fails_when_the_classes_differ(tmp_path: Path) -> None:
    model = onnx.load(EXAMPLES / "digits.onnx")
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "bias3")
    bias.CopyFrom(numpy_helper.from_array(-1000 * np.eye(10, dtype=np.float32)[0], "bias3"))
    onnx.save(model, tmp_path / "broken.onnx")
    done = run("run_small.py", EXAMPLES / "digits.onnx", tmp_path / "broken.onnx")
    assert done.returncode == 1
    assert "classified differently: 0" not in done.stdout


@pytest.mark.parametrize("name", ["digits.onnx", "digits-data.npz"])
def test_committed_files_stay_small(name: str) -> None:
    assert (EXAMPLES / name).stat().st_size < 300_000


def test_a_torch_classifier_is_trained_compressed_trained_on_and_exported(tmp_path: Path) -> None:
    done = run("torch_digits.py", "--epochs", "25", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("trained", "compressed", "exported"))]
    sizes = [int(row[1].replace(",", "")) for row in rows]
    assert sizes[0] > sizes[1] == sizes[2]
    assert rows[0][2] == rows[1][2]
    assert float(rows[2][2]) > 0.8
    assert logits_of(tmp_path / "digits-torch.onnx", load().test_x).shape == (360, 10)


def test_a_sklearn_pipeline_gets_smaller_and_predicts_the_same() -> None:
    done = run("sklearn_digits.py")
    assert done.returncode == 0, done.stderr
    rows = [
        line.split() for line in done.stdout.splitlines() if line.startswith(("fitted", "exact", "roundoff", "within"))
    ]
    sizes = [int(row[2].replace(",", "")) for row in rows]
    assert sizes[0] > sizes[1] >= sizes[2] >= sizes[3]
    assert len({row[3] for row in rows}) == 1
    assert float(rows[1][4]) < 1e-12
    assert float(rows[3][4]) <= 5e-4
