"""Digits to train on, small networks, and how to compare what came out."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from reluce.train import Data, Recipe, Trained, training_data

Array = np.ndarray[Any, Any]


@cache
def digit_arrays() -> dict[str, Array]:
    """600 images of digits, 8 x 8, uint8, and 200 more to test on."""
    x, y = load_digits(return_X_y=True)
    x = (x * 15).astype(np.uint8).reshape(-1, 8, 8)
    return {"train_x": x[:600], "train_y": y[:600], "test_x": x[600:800], "test_y": y[600:800]}


@cache
def digits() -> Data:
    return training_data(digit_arrays())


SHORT = Recipe(widths=(16, 12), epochs=8, batch=20, l1=5e-3, polish=0.4)


def state(trained: Trained) -> dict[str, Array]:
    return {name: value.numpy() for name, value in trained.model.state_dict().items()}


def same(first: Trained, second: Trained) -> bool:
    """Whether two runs ended with the same weights, bit for bit, on the same way."""
    one, other = state(first), state(second)
    equal = one.keys() == other.keys() and all(one[key].tobytes() == other[key].tobytes() for key in one)
    return equal and first.history == second.history


def small_net(seed: int = 0, widths: tuple[int, ...] = (20,)) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    size = 64
    for width in (*widths, 10):
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.0 if parameter.ndim == 1 else (2 / parameter.shape[1]) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def plain_loop(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int = 10, extra: Any = None) -> None:
    """What users write: no part of it knows of any penalty but ``extra()``, which is added to the loss."""
    samples = digits().train
    x, y = samples.inputs(slice(None)), samples.y
    for _ in range(epochs):
        for start in range(0, len(y), 50):
            optimizer.zero_grad()
            loss = cross_entropy(model(x[start : start + 50]), y[start : start + 50])
            if extra is not None:
                loss = loss + extra()
            loss.backward()
            optimizer.step()
