"""Schedules: how much of a strength or of a learning rate holds at each point of training.

Each is a function of the progress, 0 at the first step and 1 after the last; any other such function will do as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[float], float]
"""From the progress in [0, 1] to a factor >= 0."""


@dataclass(frozen=True)
class Constant:
    """The same all the time."""

    factor: float = 1.0

    def __call__(self, progress: float) -> float:
        return self.factor


@dataclass(frozen=True)
class Ramp:
    """Linearly from 0 to 1 over the first ``over`` of training, then 1."""

    over: float

    def __call__(self, progress: float) -> float:
        return min(1.0, progress / self.over) if self.over > 0 else 1.0


@dataclass(frozen=True)
class Window:
    """1 until ``until``, 0 from there on."""

    until: float

    def __call__(self, progress: float) -> float:
        return 1.0 if progress < self.until else 0.0


@dataclass(frozen=True)
class After:
    """0 until ``since``, 1 from there on."""

    since: float

    def __call__(self, progress: float) -> float:
        return 1.0 if progress >= self.since else 0.0


@dataclass(frozen=True)
class Product:
    """Two schedules at once: ``Product(Ramp(0.1), Window(0.7))`` comes on slowly and goes off again."""

    first: Schedule
    second: Schedule

    def __call__(self, progress: float) -> float:
        return self.first(progress) * self.second(progress)


@dataclass(frozen=True)
class Cosine:
    """Linearly up over the first ``warmup`` of training, then half a cosine from 1 down to ``end``.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017.
    """

    warmup: float = 0.0
    end: float = 0.0

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        gone = (progress - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 1.0
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * min(1.0, gone))) / 2


@dataclass(frozen=True)
class Steps:
    """Multiplied by ``factor`` at each of some points of training."""

    at: tuple[float, ...]
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        return self.factor ** sum(progress >= point for point in self.at)
