"""A plain trainer: deterministic, and able to go on from where it was stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from reluce.errors import UsageError
from reluce.train._augment import augmented
from reluce.train._budget import KeepGroups
from reluce.train._centre import UNCENTRED, Centre, deviations
from reluce.train._checkpoint import read_checkpoint, write_checkpoint
from reluce.train._data import Data, Samples
from reluce.train._freeze import freeze_zeros
from reluce.train._layers import share_of_zeros, weights
from reluce.train._model import build, image_shape
from reluce.train._onnx import METADATA, to_onnx
from reluce.train._penalties import L2
from reluce.train._proximal import Proximal, penalise
from reluce.train._random import generator
from reluce.train._recipe import Recipe
from reluce.train._stability import stability_penalty

TOGETHER = 2000
"""Samples that are looked at together where nothing is learned."""


@dataclass(frozen=True)
class Epoch:
    """What came out of an epoch.

    Parameters
    ----------
    number
        From 1.
    loss
        The mean over the training samples while they were learned, penalties in the loss included.
    valid
        Accuracy on the validation split, from 0 to 1; ``None`` where there is none.
    zeros
        Which part of the weights is exactly zero.
    """

    number: int
    loss: float
    valid: float | None
    zeros: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Parameters
    ----------
    model
        The network, in eval mode.
    history
        One entry for each epoch.
    train_accuracy, valid_accuracy, test_accuracy
        From 0 to 1; ``None`` where there are no such samples.
    recipe
        How it was trained.
    shape
        Of one sample of its input.
    """

    model: nn.Sequential
    history: tuple[Epoch, ...]
    train_accuracy: float
    valid_accuracy: float | None
    test_accuracy: float | None
    recipe: Recipe
    shape: tuple[int, ...]

    def onnx(self) -> bytes:
        """The network as an ONNX file, with its recipe in the metadata; see ``to_onnx``."""
        return to_onnx(self.model, self.shape, {METADATA: self.recipe.to_json()})


def fit(
    data: Data,
    recipe: Recipe,
    checkpoint: str | Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
    *,
    threads: int = 1,
) -> Trained:
    """Train a network.

    The same data, recipe and number of threads give the same bytes on one kind of machine, whatever the state of
    torch's random numbers.

    Parameters
    ----------
    data
        What to learn. The test samples are looked at once, at the end.
    recipe
        How.
    checkpoint
        A file that is written after each epoch, and left there. Where it exists, training goes on from it, and ends
        with the same bytes as if it had never been stopped.
    progress
        Called after each epoch; what it raises ends the run.
    threads
        How many torch may use meanwhile. Sums are split among them, so the last bits depend on their number: with one,
        not on the machine's cores or on who shares them.

    Raises
    ------
    DomainError
        When the data do not suit the network.
    UsageError
        When the checkpoint is of another recipe or of other data, or the loss becomes infinite.
    OutputError
        When the checkpoint cannot be written.
    """
    if threads < 1:
        raise UsageError(f"threads={threads}: expected at least 1")
    with _deterministic(threads):
        run = _Run(data, recipe, checkpoint)
        while not run.finished:
            run.train()
            run.save()
            if progress is not None:
                progress(run.history[-1])
        return run.result()


def accuracy(model: nn.Module, samples: Samples, centre: Centre = UNCENTRED) -> float:
    """Which part of some samples, centred first where that is asked for, a network puts into the right class."""
    right = 0
    with torch.no_grad():
        for start in range(0, len(samples), TOGETHER):
            part = slice(start, start + TOGETHER)
            right += int((model(centre(samples.inputs(part))).argmax(1) == samples.y[part]).sum())
    return right / len(samples)


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    used = torch.get_num_threads()
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(used)
        torch.use_deterministic_algorithms(before, warn_only=warned)


class _Hook(Protocol):
    """What an optimizer calls after each step."""

    def remove(self) -> None:
        """End that."""


class _Run:
    """The state of a run between two epochs: the network, its optimizer, what came out so far."""

    def __init__(self, data: Data, recipe: Recipe, checkpoint: str | Path | None) -> None:
        self.data, self.recipe, self.checkpoint = data, recipe, checkpoint
        if recipe.shift or recipe.flip:
            image_shape(data.train.shape)
        self.samples, self.valid = data.split(recipe.valid, recipe.seed)
        self.model = build(recipe, data.train.shape, data.classes)
        self.optimizer = _optimizer(self.model, recipe)
        self.batches = math.ceil(len(self.samples) / recipe.batch)
        self.steps = recipe.epochs * self.batches
        self.centre = Centre.of(self.samples) if recipe.centre else UNCENTRED
        self.deviation = deviations(self.samples) if recipe.keep else None
        ends = recipe.domain or data.range
        self.low, self.high = (self.centre(torch.full(data.train.shape, end)) for end in ends)
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] | None = None
        self.digest = "" if checkpoint is None else data.digest
        if checkpoint is not None:
            self._restore(read_checkpoint(checkpoint, recipe.to_json(), self.digest))

    def _restore(self, state: dict[str, Any] | None) -> None:
        if state is None:
            return
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = [Epoch(**entry) for entry in state["history"]]
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{self.checkpoint}: the checkpoint is damaged; remove it, or start afresh") from error
        self.best = state["best"]

    @property
    def _last_phase(self) -> int:
        """The number of epochs before it."""
        return self.recipe.epochs - self.recipe.polishing if self.recipe.polishing else 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train."""
        if len(self.history) >= self.recipe.epochs:
            return True
        phase = [epoch.valid or 0.0 for epoch in self.history[self._last_phase :]]
        patience = self.recipe.patience
        return patience is not None and bool(phase) and len(phase) - 1 - phase.index(max(phase)) >= patience

    def train(self) -> None:
        """One epoch more."""
        number, recipe = len(self.history), self.recipe
        polishing = number >= recipe.epochs - recipe.polishing
        hooks = self._hooks(polishing)
        order = torch.randperm(len(self.samples), generator=generator(recipe.seed, "order", number))
        chances = generator(recipe.seed, "augmentation", number)
        total = torch.zeros((), dtype=torch.float64)
        for batch, index in enumerate(torch.split(order, recipe.batch)):
            x = self.samples.inputs(index)
            if recipe.shift or recipe.flip:
                x = augmented(x, recipe.shift, recipe.flip, chances)
            total += self._step(
                self.centre(x), self.samples.y[index], (number * self.batches + batch) / self.steps
            ) * len(index)
        for hook in hooks:
            hook.remove()
        self._record(number + 1, float(total) / len(self.samples))

    def _hooks(self, polishing: bool) -> list[_Hook]:
        """What follows each step of the optimizer, made anew for each epoch: so it is the same after a checkpoint."""
        recipe, done = self.recipe, len(self.history) * self.batches
        hooks: list[Proximal | KeepGroups] = []
        if recipe.weight_decay:
            penalties = penalise(self.model, L2(recipe.weight_decay))
            hooks.append(Proximal(self.optimizer, penalties, recipe.decay_schedule, self.steps))
        if recipe.penalised and not recipe.subgradient and not polishing:
            penalties = penalise(self.model, recipe.penalties)
            hooks.append(Proximal(self.optimizer, penalties, recipe.penalty_schedule, self.steps))
        if recipe.budget is not None and not polishing:
            hooks.append(KeepGroups(self.optimizer, self.model, recipe.budget, self.steps, self.deviation))
        for hook in hooks:
            hook.done = done
        return [*hooks, *([freeze_zeros(self.optimizer, self.model)] if polishing else [])]

    def _step(self, x: Tensor, y: Tensor, progress: float) -> Tensor:
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate * recipe.rate_schedule(progress)
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(x), y)
        if recipe.penalised and recipe.subgradient and (factor := recipe.penalty_schedule(progress)):
            for weight, penalty in zip(weights(self.model), recipe.penalties, strict=True):
                loss = loss + factor * penalty.value(weight)
        if recipe.stability:
            strength = recipe.stability * recipe.stability_schedule(progress)
            loss = loss + strength * stability_penalty(self.model, self.low, self.high, recipe.stability_kind)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def _record(self, number: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise UsageError(f"training diverged: the loss is {loss} in epoch {number}; lower the learning rate (lr)")
        reached = None if self.valid is None else accuracy(self.model, self.valid, self.centre)
        self.history.append(Epoch(number, loss, reached, share_of_zeros(self.model)))
        phase = [epoch.valid or 0.0 for epoch in self.history[self._last_phase :]]
        if self.recipe.patience is not None and phase and phase.index(max(phase)) == len(phase) - 1:
            self.best = copy.deepcopy(self.model.state_dict())

    def save(self) -> None:
        """Write a checkpoint, where one is wanted."""
        if self.checkpoint is None:
            return
        state = {
            "recipe": self.recipe.to_json(),
            "data": self.digest,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
        }
        write_checkpoint(self.checkpoint, state)

    def result(self) -> Trained:
        """What came out."""
        if self.best is not None:
            self.model.load_state_dict(self.best)
        for parameter in self.model.parameters():
            parameter.grad = None
        model = self.centre.folded(self.model).eval()
        learned = accuracy(model, self.samples)
        valid, test = (None if part is None else accuracy(model, part) for part in (self.valid, self.data.test))
        return Trained(model, tuple(self.history), learned, valid, test, self.recipe, self.data.train.shape)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate)
    return torch.optim.SGD(model.parameters(), lr=recipe.rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
