import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from train_tools import SHORT, digits

from reluce.errors import UsageError
from reluce.io import loads
from reluce.train import METADATA, Recipe, build, fit, to_onnx

SHAPES: list[tuple[Recipe, tuple[int, ...]]] = [
    (Recipe(widths=(5, 4)), (7,)),
    (Recipe(widths=(5,)), (4, 3)),
    (Recipe(widths=()), (2, 4, 3)),
    (Recipe(channels=(3, 2), widths=(5,)), (7, 6)),
    (Recipe(channels=(3,), widths=()), (2, 5, 5)),
]


@pytest.mark.parametrize(("recipe", "shape"), SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_onnxruntime_computes_the_same(recipe: Recipe, shape: tuple[int, ...], batch: int) -> None:
    model = build(recipe, shape, 4)
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(to_onnx(model, shape), providers=["CPUExecutionProvider"])
    (found,) = session.run(["output"], {"input": x.numpy()})
    with torch.no_grad():
        assert np.allclose(found, model(x).numpy(), rtol=0, atol=1e-5)


def test_names_and_metadata() -> None:
    model = onnx.load_from_string(fit(digits(), SHORT).onnx())
    assert [node.output[0] for node in model.graph.node] == ["flat", "layer1", "relu1", "layer2", "relu2", "output"]
    (entry,) = model.metadata_props
    assert Recipe.from_json(entry.value) == SHORT
    assert json.loads(entry.value)["widths"] == [16, 12]
    loaded = loads(model.SerializeToString())
    assert loaded.network.batched
    assert not any(key.startswith("reluce.") for key, _ in loaded.metadata)  # that is what compressed files say
    assert entry.key == METADATA


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Tanh(), "no rule to write a Tanh as ONNX"),
        (nn.Conv2d(1, 1, 3, padding="same"), "a Conv2d with this padding"),
        (nn.Flatten(0), "a Flatten of some axes"),
        (nn.Unflatten(2, (1, 3)), "this Unflatten"),
    ],
)
def test_other_layers_are_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_onnx(nn.Sequential(layer, nn.Linear(3, 3)), (3,))


def test_what_does_not_end_with_a_dense_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="the last layer is a ReLU; it must be Linear"):
        to_onnx(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), (3,))


def python(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_nobody_else_needs_torch() -> None:
    done = python("import sys, reluce, reluce.cli; print('torch' in sys.modules, 'matplotlib' in sys.modules)")
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_training_without_torch_says_what_is_missing(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from reluce.cli import main; main()"
    done = python(code, "train", tmp_path / "d.npz", tmp_path / "o.onnx")
    assert done.returncode == 2
    assert done.stderr == "reluce: training needs torch: pip install 'reluce[train]'\n"
