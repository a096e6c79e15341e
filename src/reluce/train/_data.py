"""Labelled samples from an ``.npz`` file, read with care, and held as tensors in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reluce.domain import read_arrays
from reluce.errors import DomainError
from reluce.train._random import generator

SHORT = {"x": "train_x", "y": "train_y"}
"""What the training arrays may be called for short."""

ARRAYS = ("train_x", "train_y", "test_x", "test_y")

LARGEST_PIXEL = 255


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and labels.

    Parameters
    ----------
    x
        ``(samples, *sample shape)``: float32, or uint8, which stands for its 255th part.
    y
        ``(samples,)``: int64 labels from 0.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor) -> Samples:
        """Those with some numbers."""
        return Samples(self.x[index], self.y[index])

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Some of the inputs as float32, what is uint8 divided by 255."""
        chosen = self.x[index]
        return chosen if chosen.is_floating_point() else chosen.to(torch.float32).div_(LARGEST_PIXEL)


@dataclass(frozen=True, eq=False)
class Data:
    """What a network is trained and tested on.

    Parameters
    ----------
    train
        To train on, and to draw a validation split from.
    test
        Looked at once, when training has ended; ``None`` where there is none.
    classes
        How many labels there are.
    """

    train: Samples
    test: Samples | None
    classes: int

    @property
    def range(self) -> tuple[float, float]:
        """The range of all inputs: 0 to 1 for what is uint8, else from the smallest to the largest training value."""
        x = self.train.x
        return (float(x.min()), float(x.max())) if x.is_floating_point() else (0.0, 1.0)

    @property
    def digest(self) -> str:
        """SHA-256 of the training samples."""
        found = hashlib.sha256()
        for tensor in (self.train.x, self.train.y):
            found.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
            found.update(np.ascontiguousarray(tensor.numpy()).data)
        return found.hexdigest()

    def split(self, share: float, seed: int) -> tuple[Samples, Samples | None]:
        """The training samples, with and without a share that is drawn for validation.

        Raises
        ------
        DomainError
            When one of both would be empty.
        """
        if share == 0:
            return self.train, None
        count = round(share * len(self.train))
        if not 0 < count < len(self.train):
            raise DomainError(f"{share:g} of {len(self.train)} samples are {count}: too few samples to validate on")
        order = torch.randperm(len(self.train), generator=generator(seed, "split"))
        # Sorted, so that what is drawn is a subset and no order.
        return self.train.take(order[count:].sort().values), self.train.take(order[:count].sort().values)

    def without_test(self) -> Data:
        """The same without test samples, for runs that choose a recipe."""
        return replace(self, test=None)


def load_training_data(path: str | Path) -> Data:
    """Read an ``.npz`` file with ``train_x`` and ``train_y`` (or ``x``, ``y``), and perhaps ``test_x`` and ``test_y``.

    Parameters
    ----------
    path
        The file. Inputs are ``(samples, *sample shape)``: uint8 is divided by 255 in float32, other numbers become
        float32 as they are. Labels are integers from 0.

    Raises
    ------
    DomainError
        When it cannot be read, an array is missing, or arrays do not fit each other; says which and why.
    """
    return training_data(_read(path), str(path))


def training_data(arrays: Mapping[str, npt.NDArray[Any]], label: str = "data") -> Data:
    """The same from arrays at hand: ``train_x``, ``train_y`` and perhaps ``test_x``, ``test_y``.

    Raises
    ------
    DomainError
        As for ``load_training_data``; ``label`` says where.
    """
    _demand_present(arrays, label)
    train = _samples(arrays, "train", label)
    classes = int(train.y.max()) + 1
    if classes > len(train):
        raise DomainError(f"{label}: 'train_y' has label {classes - 1} for {len(train)} samples; number classes from 0")
    if classes < 2:
        raise DomainError(f"{label}: 'train_y' has one class only; there is nothing to learn")
    if "test_x" not in arrays:
        return Data(train, None, classes)
    test = _samples(arrays, "test", label)
    if test.shape != train.shape or test.x.dtype != train.x.dtype:
        ours, theirs = (f"{samples.shape} of {_kind(samples.x)}" for samples in (test, train))
        raise DomainError(f"{label}: samples of 'test_x' are {ours}, those of 'train_x' {theirs}; make them the same")
    if int(test.y.max()) >= classes:
        raise DomainError(f"{label}: 'test_y' has label {int(test.y.max())}, 'train_y' none above {classes - 1}")
    return Data(train, test, classes)


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _samples(arrays: Mapping[str, npt.NDArray[Any]], which: str, label: str) -> Samples:
    x, y = arrays[f"{which}_x"], arrays[f"{which}_y"]
    name, labels = f"{label}: {which + '_x'!r}", f"{label}: {which + '_y'!r}"
    if x.dtype.kind not in "fiub":
        raise DomainError(f"{name} holds {x.dtype}, not numbers")
    if x.ndim < 2 or not x.size:
        raise DomainError(f"{name} has shape {x.shape}; give (samples, ...) with at least one sample of one number")
    if y.dtype.kind not in "iu":
        raise DomainError(f"{labels} holds {y.dtype}; give labels as integers, such as y.astype(numpy.int64)")
    if y.ndim != 1:
        raise DomainError(f"{labels} has shape {y.shape}; give one label for each sample, (samples,)")
    if len(x) != len(y):
        raise DomainError(f"{name} has {len(x)} samples, {which + '_y'!r} {len(y)} labels; there must be as many")
    if int(y.min()) < 0:
        raise DomainError(f"{labels} has label {int(y.min())} at {int(y.argmin())}; number classes from 0")
    if int(y.max()) > np.iinfo(np.int64).max:
        raise DomainError(f"{labels} has label {int(y.max())}; number classes from 0")
    return Samples(_inputs(x, name), torch.from_numpy(y.astype(np.int64)))


def _inputs(x: npt.NDArray[Any], name: str) -> Tensor:
    if x.dtype == np.uint8:
        return torch.from_numpy(np.array(x, order="C"))
    with np.errstate(over="ignore"):
        values = np.array(x, dtype=np.float32, order="C")
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise DomainError(f"{name} has NaN or a number beyond float32 in {bad.sum()} samples, first in {bad.argmax()}")
    return torch.from_numpy(values)


def _demand_present(names: Collection[str], label: str) -> None:
    missing = [name for name in ARRAYS[:2] if name not in names]
    if any(name in names for name in ARRAYS[2:]):
        missing += [name for name in ARRAYS[2:] if name not in names]
    if missing:
        found = ", ".join(map(repr, names)) or "nothing"
        raise DomainError(
            f"{label}: no array {missing[0]!r} (found {found}); training needs train_x and train_y (or x and y), and "
            "test_x goes with test_y"
        )


def _read(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file that training needs, under their long names."""
    found = read_arrays(path)
    both = [(short, long) for short, long in SHORT.items() if {short, long} <= set(found)]
    if both:
        raise DomainError(f"{path}: holds both {both[0][0]!r} and {both[0][1]!r}; leave one of them out")
    named = {SHORT.get(name, name): array for name, array in found.items()}
    _demand_present(named, str(path))
    return {name: array for name, array in named.items() if name in ARRAYS}
