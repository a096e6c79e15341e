"""Train digits classifiers of any width and depth, to see how the cost of proving grows (`benchmarks/growth.py`).

Data and recipe are those of `train_digits.py`, with fewer epochs, and with the proximal step of its first layer in
every hidden layer, so that layers of all depths hold units of every kind. The output layer is not regularised.

Writes ``digits_WIDTHxDEPTH_seedSEED.onnx``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from threadpoolctl import threadpool_limits

from train_digits import (
    Array,
    Labels,
    Layer,
    Recipe,
    accuracy,
    forward,
    gradients,
    load,
    soft_threshold,
    to_onnx,
    train,
)

EPOCHS = 60


def step(recipe: Recipe, rate: float, layers: list[Layer], speeds: list[Layer], x: Array, y: Labels) -> None:
    """Learn one batch in place, with the proximal step on all layers but the last."""
    for number, (layer, speed, gradient) in enumerate(zip(layers, speeds, gradients(layers, x, y), strict=True)):
        vw, vb = (np.float32(recipe.momentum) * v - np.float32(rate) * d for v, d in zip(speed, gradient, strict=True))
        weight, bias = layer[0] + vw, layer[1] + vb
        if number < len(layers) - 1:
            weight = soft_threshold(weight, rate * recipe.l1_proximal)
        layers[number], speeds[number] = (weight, bias), (vw, vb)


def main() -> None:
    """Train one network, print its accuracy, and write it."""
    parser = argparse.ArgumentParser(description="Train a digits classifier of a given width and depth.")
    parser.add_argument("--width", type=int, default=100, help="units of each hidden layer (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=2, help="hidden layers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/growth"), help="folder to write to (%(default)s)")
    arguments = parser.parse_args()
    widths = (64, *[arguments.width] * arguments.depth, 10)
    recipe, digits = Recipe(widths, l1_subgradient=0.0, epochs=EPOCHS, seed=arguments.seed), load()
    with threadpool_limits(1, "blas"):  # the products are small: threads that wait for each other take far longer
        layers = train(recipe, digits.train_x, digits.train_y, step)
    score = accuracy(forward(layers, digits.test_x)[-1], digits.test_y)
    doc = f"scikit-learn digits / 16, examples/train_growth.py, {recipe}; test accuracy {score:.4f}"
    path = arguments.out / f"digits_{arguments.width}x{arguments.depth}_seed{arguments.seed}.onnx"
    arguments.out.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    onnx.save(to_onnx(layers, doc), temporary)
    temporary.replace(path)
    print(f"test accuracy {score:.4f}; wrote {path}")


if __name__ == "__main__":
    main()
