"""Train the digits classifier that the examples compress: 64-48-48-10, ReLU, float32, plain numpy.

Each layer is regularised in its own way, so that one network holds every kind of unit that Reluce has to tell apart::

    layer 1   proximal step   W <- sign(W) * max(|W| - rate * L1, 0)    exact zeros, and whole rows of them: the unit
                                                                        is a constant, whatever the image
    layer 2   subgradient     dW <- dW + L1 * sign(W)                   weights that tremble around zero and never reach
                                                                        it: units that are nearly, not exactly, constant
    output    none                                                      generic weights

Biases are never regularised. Small weights beside a free bias are what makes a unit provably inactive or active for
every image in ``[0, 1]^64`` (Serra, Kumar, Ramalingam, "Lossless Compression of Deep Neural Networks", CPAIOR 2020).

Writes ``digits.onnx`` and ``digits-data.npz`` (the training images, ``X``). The same machine writes the same
bytes again; another one may round its matrix products differently.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Layer = tuple[Array, Array]
"""Weights ``(out, in)`` and bias ``(out,)``."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result."""

    widths: tuple[int, ...] = (64, 48, 48, 10)
    l1_proximal: float = 3e-3
    l1_subgradient: float = 5e-4
    rate: float = 0.1
    momentum: float = 0.9
    batch: int = 32
    epochs: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 64)`` in [0, 1] and labels ``(N,)``; every fifth image is for testing."""

    train_x: Array
    train_y: Labels
    test_x: Array
    test_y: Labels


def load() -> Digits:
    """Return scikit-learn's digits, scaled to [0, 1] and split."""
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32)  # 0..16 over 16: exact
    held_out = np.arange(len(images)) % 5 == 0
    return Digits(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def forward(layers: list[Layer], x: Array) -> list[Array]:
    """Return the input of every layer and, last, the logits ``(N, 10)``."""
    values = [x]
    for number, (weight, bias) in enumerate(layers):
        z = values[-1] @ weight.T + bias
        values.append(z if number == len(layers) - 1 else np.maximum(z, 0))
    return values


def gradients(layers: list[Layer], x: Array, y: Labels) -> list[Layer]:
    """Return the gradient of the mean cross-entropy for every layer."""
    values = forward(layers, x)
    logits = values[-1]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    delta = exponentials / exponentials.sum(axis=1, keepdims=True)
    delta[np.arange(len(y)), y] -= 1
    delta /= len(y)
    found: list[Layer] = []
    for (weight, _), value in zip(reversed(layers), reversed(values[:-1]), strict=True):
        found.append((delta.T @ value, delta.sum(axis=0)))
        delta = (delta @ weight) * (value > 0)
    return found[::-1]


def soft_threshold(weight: Array, amount: float) -> Array:
    """Return the proximal step of ``amount * |weight|``: everything within ``amount`` of zero becomes exactly zero."""
    return np.sign(weight) * np.maximum(np.abs(weight) - np.float32(amount), np.float32(0))


def step(recipe: Recipe, rate: float, layers: list[Layer], speeds: list[Layer], x: Array, y: Labels) -> None:
    """Learn one batch in place: ``v <- momentum * v - rate * dW``, ``W <- W + v``, then layer 1's proximal step."""
    found = gradients(layers, x, y)
    found[1] = (found[1][0] + np.float32(recipe.l1_subgradient) * np.sign(layers[1][0]), found[1][1])
    for number, (layer, speed, gradient) in enumerate(zip(layers, speeds, found, strict=True)):
        vw, vb = (np.float32(recipe.momentum) * v - np.float32(rate) * d for v, d in zip(speed, gradient, strict=True))
        weight, bias = layer[0] + vw, layer[1] + vb
        if number == 0:
            weight = soft_threshold(weight, rate * recipe.l1_proximal)
        layers[number], speeds[number] = (weight, bias), (vw, vb)


Step = Callable[[Recipe, float, list[Layer], list[Layer], Array, Labels], None]


def train(recipe: Recipe, x: Array, y: Labels, learn: Step = step) -> list[Layer]:
    """Return the layers after ``recipe.epochs`` of SGD with momentum; the rate falls to zero along a cosine."""
    random = np.random.default_rng(recipe.seed)
    layers: list[Layer] = []
    for fan_in, fan_out in itertools.pairwise(recipe.widths):
        weight = random.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in)).astype(np.float32)
        layers.append((weight, np.zeros(fan_out, np.float32)))
    speeds = [(np.zeros_like(weight), np.zeros_like(bias)) for weight, bias in layers]
    for epoch in range(recipe.epochs):
        rate = recipe.rate * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        order = random.permutation(len(x))
        for start in range(0, len(x), recipe.batch):
            chosen = order[start : start + recipe.batch]
            learn(recipe, rate, layers, speeds, x[chosen], y[chosen])
    return layers


def accuracy(logits: Array, labels: Labels) -> float:
    """Return the share of the rows of ``logits`` whose largest entry stands at the label."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def to_onnx(layers: list[Layer], doc: str) -> onnx.ModelProto:
    """Return the network as ONNX: input ``pixels`` ``(N, 64)``, output ``logits`` ``(N, 10)``."""
    nodes, initializers, value = [], [], "pixels"
    for number, (weight, bias) in enumerate(layers, start=1):
        last = number == len(layers)
        names = [f"weight{number}", f"bias{number}"]
        initializers += [
            numpy_helper.from_array(array, name) for array, name in zip((weight, bias), names, strict=True)
        ]
        z = "logits" if last else f"z{number}"
        nodes.append(helper.make_node("Gemm", [value, *names], [z], transB=1))
        if not last:
            value = f"relu{number}"
            nodes.append(helper.make_node("Relu", [z], [value]))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", layers[0][0].shape[1]])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", layers[-1][0].shape[0]])
    graph = helper.make_graph(nodes, "digits", [pixels], [logits], initializers)
    model = helper.make_model(
        graph,
        producer_name="examples/train_digits.py",
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        doc_string=doc,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, print the accuracy, and write both files."""
    parser = argparse.ArgumentParser(description="Train the digits classifier that the examples compress.")
    parser.add_argument(
        "--epochs", type=int, default=Recipe.epochs, help="how often to see every image (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: beside this script)"
    )
    arguments = parser.parse_args()
    recipe, digits = replace(Recipe(), epochs=arguments.epochs), load()
    layers = train(recipe, digits.train_x, digits.train_y)
    score = accuracy(forward(layers, digits.test_x)[-1], digits.test_y)
    doc = f"scikit-learn digits / 16, examples/train_digits.py, {recipe}; test accuracy {score:.4f}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(layers, doc), arguments.out / "digits.onnx")
    np.savez_compressed(arguments.out / "digits-data.npz", X=digits.train_x)
    print(f"test accuracy {score:.4f}; wrote digits.onnx and digits-data.npz to {arguments.out}")


if __name__ == "__main__":
    main()
