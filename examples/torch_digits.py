"""Train a PyTorch classifier of digits, compress it, go on training the small one, and export it.

    python examples/torch_digits.py [--epochs 40] [--out build]

The network is trained with proximal L1 on its hidden layers. Reluce makes it smaller within 1e-3 for every image in
[0, 1]^64; what comes back is a module that trains: one more epoch, then ONNX, run in onnxruntime on the test images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

import reluce
from train_digits import Digits, load

L1, RATE, BATCH = 2e-3, 0.05, 32


def network() -> nn.Sequential:
    """64-96-64-10 with dropout."""
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.1), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model: nn.Module, digits: Digits, epochs: int, seed: int = 0) -> None:
    """Stochastic gradient descent; after each step the weights of all layers but the last are shrunk towards zero."""
    torch.manual_seed(seed)
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9)
    hidden = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features != 10]
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            with torch.no_grad():
                for weight in hidden:
                    weight.copy_(nn.functional.softshrink(weight, RATE * L1))
    model.eval()


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of images that are classified rightly."""
    return float((logits.argmax(axis=1) == labels).mean())


def logits(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """What a module says of images."""
    with torch.no_grad():
        return model(torch.from_numpy(images)).numpy()


def export(model: nn.Module, path: Path) -> None:
    """Write a module as ONNX with a free batch."""
    with contextlib.redirect_stdout(io.StringIO()):  # the exporter reports its progress
        torch.onnx.export(
            model,
            (torch.zeros(2, 64),),
            path,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )


def parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Train, compress, train on, export, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("build"), metavar="DIR")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the matrices are small: threads would only get in each other's way
    digits, model = load(), network()
    train(model, digits, arguments.epochs)
    settings = reluce.Settings(reluce.Within(1e-3))
    result = reluce.compress(model, "0,1", example_inputs=torch.zeros(1, 64), data=digits.train_x, settings=settings)
    print(result)
    small = result.model
    before, after = logits(model, digits.test_x), logits(small, digits.test_x)
    rows = [("trained", parameters(model), before), ("compressed", parameters(small), after)]
    train(small, digits, 1, seed=1)
    rows.append(("one more epoch", parameters(small), logits(small, digits.test_x)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "digits-torch.onnx"
    export(small, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows.append(("exported", parameters(small), session.run(None, {session.get_inputs()[0].name: digits.test_x})[0]))
    print(f"\n{'network':16}{'parameters':>12}{'accuracy':>10}")
    for name, size, found in rows:
        print(f"{name:16}{size:12,}{accuracy(found, digits.test_y):10.4f}")
    print(f"largest difference of a logit, compressed: {np.abs(before - after).max():.3g}")
    print(f"largest difference of a logit, exported:   {np.abs(rows[2][2] - rows[3][2]).max():.3g}")


if __name__ == "__main__":
    main()
