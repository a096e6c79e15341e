"""What a plain trainer does: the network, the optimizer, the penalties and when they hold."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from reluce.errors import UsageError
from reluce.train._budget import Budget
from reluce.train._penalties import SparseGroup
from reluce.train._schedule import After, Constant, Cosine, Product, Ramp, Schedule, Steps, Window
from reluce.train._stability import StabilityKind

Strength = float | tuple[float, ...]
"""One for all layers, or one for each, the output layer last."""

Optimizer = Literal["sgd", "adam"]
Decay = Literal["cosine", "step", "none"]

RATES: Mapping[Optimizer, float] = {"sgd": 0.05, "adam": 1e-3}
"""Learning rates where none is given."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train a network; the defaults are a plain baseline without penalties.

    Parameters
    ----------
    widths
        Units of the dense hidden layers.
    channels
        Channels of convolutions in front of them: 3x3, stride 2, padding 1, each with a ReLU.
    epochs, batch, seed
        Passes over the training samples, samples of a step, and the seed of all that is random.
    polish
        Which part of the epochs, at the end, has no l1 and no groups any more; zeros stay zero then.
    optimizer, lr, momentum, nesterov
        ``sgd`` with momentum (Nesterov's, or plain), or ``adam``; ``lr`` is 0.05 for the one, 0.001 for the other,
        where ``None``.
    decay, milestones, warmup
        Of the learning rate: ``cosine`` down to 0, ``step`` (a tenth at each milestone, parts of training), ``none``; a
        cosine may begin with a linear warm-up over a part of training.
    l1, rows, columns
        Strengths: of single weights, of rows (units) and of columns (who reads a unit). A single number for ``rows``
        leaves the output layer out, whose rows are classes.
    keep
        A budget, for dense networks: how many inputs may be left, then how many units of each hidden layer; they go
        one after the other before the polishing. Where a number is no less than there are, all stay.
    weight_decay
        A pull on all weights towards zero, in the last part of training (``polish``), with and without penalties.
    subgradient
        Whether l1 is part of the loss, as published for LEO and ISA, instead of a proximal step.
    stability, stability_kind, domain
        Strength and kind of the stability penalty, and the range of all inputs that it is over (``None``: 0 to 1 for
        images in uint8, else from the smallest to the largest training value). It holds to the end.
    ramp
        Over which part of training all penalties come on, linearly.
    valid
        Which part of the training samples is drawn for validation.
    patience
        Stop where the validation accuracy has not become better for so many epochs of the last phase (of the polishing,
        if there is any); the best epoch of that phase is the result. ``None``: train to the end.
    centre
        Whether dense networks learn on (x - mean) / deviation, with two numbers of the training data that are folded
        into the first layer in the end: the result takes x as it is.
    shift, flip
        Augmentation of images: by up to so many pixels up, down, left and right; mirrored half of the time.

    Raises
    ------
    UsageError
        When a value makes no sense.
    """

    widths: tuple[int, ...] = (100, 100)
    channels: tuple[int, ...] = ()
    epochs: int = 30
    batch: int = 128
    seed: int = 0
    polish: float = 0.3
    optimizer: Optimizer = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    decay: Decay = "cosine"
    milestones: tuple[float, ...] = (50 / 121, 100 / 121)
    warmup: float = 0.0
    l1: Strength = 0.0
    rows: Strength = 0.0
    columns: Strength = 0.0
    keep: tuple[int, ...] = ()
    weight_decay: float = 0.0
    subgradient: bool = False
    stability: float = 0.0
    stability_kind: StabilityKind = "hinge"
    domain: tuple[float, float] | None = None
    ramp: float = 0.1
    valid: float = 0.1
    patience: int | None = None
    centre: bool = False
    shift: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        self._demand_sizes()
        for name in ("polish", "momentum", "warmup", "ramp", "valid"):
            value = getattr(self, name)
            _demand(0 <= value < 1, name, value, "a part of the whole, at least 0 and below 1")
        for name in ("l1", "rows", "columns"):
            self.strengths(name)
        for name, kind in (("optimizer", Optimizer), ("decay", Decay), ("stability_kind", StabilityKind)):
            known = get_args(kind)
            _demand(getattr(self, name) in known, name, getattr(self, name), f"one of {', '.join(known)}")
        _demand(self.lr is None or 0 < self.lr < math.inf, "lr", self.lr, "a number above 0")
        _demand(0 <= self.stability < math.inf, "stability", self.stability, "a number >= 0")
        _demand(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a number >= 0")
        _demand(not self.nesterov or self.momentum > 0, "momentum", self.momentum, "a number above 0 for nesterov")
        self._demand_dense()
        ends = self.domain
        _demand(ends is None or -math.inf < ends[0] <= ends[1] < math.inf, "domain", ends, "two finite ends")
        if self.subgradient and (any(self.strengths("rows")) or any(self.strengths("columns"))):
            raise UsageError("a recipe by subgradient has l1 only; leave out rows and columns")
        if self.patience is not None and not self.valid:
            raise UsageError("patience needs a validation split; give valid, such as 0.1")

    def _demand_dense(self) -> None:
        if self.keep and len(self.keep) != len(self.widths) + 1:
            numbers = f"{len(self.keep)} numbers for {len(self.widths)} hidden layers"
            raise UsageError(f"keep has {numbers}; give one for the inputs, and one for each hidden layer")
        for name in ("keep", "centre"):
            if getattr(self, name) and self.channels:
                raise UsageError(f"{name} is for dense networks; leave out channels")

    def _demand_sizes(self) -> None:
        for name in ("widths", "channels", "keep"):
            sizes = getattr(self, name)
            sound = isinstance(sizes, tuple) and all(_whole(size, 1) for size in sizes)
            _demand(sound, name, sizes, "a tuple of whole numbers above 0")
        for name, least in (("epochs", 1), ("batch", 1), ("seed", 0), ("shift", 0)):
            _demand(_whole(getattr(self, name), least), name, getattr(self, name), f"a whole number >= {least}")
        _demand(self.patience is None or _whole(self.patience, 1), "patience", self.patience, "a whole number >= 1")
        sound = all(0 < point < 1 for point in self.milestones)
        _demand(sound, "milestones", self.milestones, "parts of training between 0 and 1")

    @property
    def layers(self) -> int:
        """How many layers have weights, the output layer among them."""
        return len(self.channels) + len(self.widths) + 1

    @property
    def rate(self) -> float:
        """The learning rate that the schedule begins with."""
        return RATES[self.optimizer] if self.lr is None else self.lr

    @property
    def penalised(self) -> bool:
        """Whether there are penalties on weights at all."""
        return any(any(self.strengths(name)) for name in ("l1", "rows", "columns"))

    @property
    def polishing(self) -> int:
        """How many epochs polish, at the end: none without penalties or a budget, and the first one never."""
        return self._last if self.penalised or self.keep else 0

    @property
    def _last(self) -> int:
        return min(round(self.polish * self.epochs), self.epochs - 1)

    @property
    def budget(self) -> Budget | None:
        """Of inputs and units: what has to go is gone some time before the polishing."""
        before = (self.epochs - self.polishing) / self.epochs
        return Budget(self.keep, 0.1 * before, 0.9 * before) if self.keep else None

    @property
    def rate_schedule(self) -> Schedule:
        """Of the learning rate."""
        if self.decay == "cosine":
            return Cosine(self.warmup)
        return Steps(self.milestones) if self.decay == "step" else Constant()

    @property
    def penalty_schedule(self) -> Schedule:
        """Of l1, rows and columns."""
        return Product(Ramp(self.ramp), Window((self.epochs - self.polishing) / self.epochs))

    @property
    def decay_schedule(self) -> Schedule:
        """Of weight_decay."""
        return After((self.epochs - self._last) / self.epochs)

    @property
    def stability_schedule(self) -> Schedule:
        """Of the stability penalty."""
        return Ramp(self.ramp)

    @property
    def penalties(self) -> tuple[SparseGroup, ...]:
        """For each layer."""
        each = zip(*(self.strengths(name) for name in ("l1", "rows", "columns")), strict=True)
        return tuple(SparseGroup(*strengths) for strengths in each)

    def strengths(self, name: str) -> tuple[float, ...]:
        """``l1``, ``rows`` or ``columns`` of each layer."""
        given: Strength = getattr(self, name)
        if isinstance(given, int | float):
            last = 0.0 if name == "rows" else given
            given = (*[given] * (self.layers - 1), last)
        _demand(all(0 <= value < math.inf for value in given), name, given, "numbers >= 0")
        if len(given) != self.layers:
            raise UsageError(f"{name} has {len(given)} strengths for {self.layers} layers; give one, or one for each")
        return tuple(map(float, given))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """What ``to_json`` wrote.

        Raises
        ------
        UsageError
            When it is no recipe.
        """
        try:
            entries: dict[str, Any] = json.loads(text)
            plain: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in entries.items()
            }
            return cls(**plain)
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"this is no recipe: {error}") from error


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _demand(sound: bool, name: str, value: Any, expected: str) -> None:
    if not sound:
        raise UsageError(f"{name} is {value!r}; give {expected}")
