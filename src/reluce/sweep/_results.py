"""What comes out of a sweep: frozen data, and its JSON form.

Accuracies are fractions of at most a million samples. They are averaged and compared as such, so that no rounding of
floats decides which network is named.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from reluce._version import __version__
from reluce.io import Sizes
from reluce.train import Recipe

MOST_SAMPLES = 10**6


@dataclass(frozen=True)
class Figures:
    """What a run came to.

    Parameters
    ----------
    trained
        Accuracy on the validation split, from 0 to 1, of the network as it was trained.
    valid, test
        Of the compressed network, run in its own runtime; ``test`` is ``None`` where there are no such samples.
    before, after
        Sizes of the two networks.
    units, kept
        For each ReLU, before and after.
    training, compressing
        Seconds.
    cut_short
        Whether the time limit ended the compression.
    """

    trained: float
    valid: float
    test: float | None
    before: Sizes
    after: Sizes
    units: tuple[int, ...]
    kept: tuple[int, ...]
    training: float
    compressing: float
    cut_short: bool = False

    @property
    def removed(self) -> int:
        """How many units went."""
        return sum(self.units) - sum(self.kept)

    @property
    def ratio(self) -> float:
        """Parameters before, for each that is left."""
        return self.before.parameters / max(1, self.after.parameters)


@dataclass(frozen=True)
class Failure:
    """Why a run came to no end: the name of the exception, and what it said."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Run:
    """One network: its strength and recipe (with its seed), and what came of it, figures or a failure."""

    name: str
    strength: float
    recipe: Recipe
    outcome: Figures | Failure

    @property
    def figures(self) -> Figures | None:
        """What it came to, unless it failed."""
        return self.outcome if isinstance(self.outcome, Figures) else None

    @property
    def failure(self) -> Failure | None:
        """Why it came to no end, if it did not."""
        return self.outcome if isinstance(self.outcome, Failure) else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found, failure = self.figures, self.failure
        return {
            "run": self.name,
            "strength": self.strength,
            "recipe": json.loads(self.recipe.to_json()),
            "figures": None if found is None else {**asdict(found), "removed": found.removed, "ratio": found.ratio},
            "failure": None if failure is None else asdict(failure),
        }


@dataclass(frozen=True)
class Row:
    """All runs of one strength. Means are over those that did not fail, ``None`` where there are none."""

    strength: float
    runs: tuple[Run, ...]

    @property
    def figures(self) -> tuple[Figures, ...]:
        """Of the runs that did not fail."""
        return tuple(run.figures for run in self.runs if run.figures is not None)

    @property
    def complete(self) -> bool:
        """Whether no run failed."""
        return len(self.figures) == len(self.runs)

    @property
    def trained(self) -> Fraction | None:
        """Mean accuracy on the validation split before the networks were compressed."""
        return _mean(exactly(each.trained) for each in self.figures)

    @property
    def valid(self) -> Fraction | None:
        """Mean accuracy of the compressed networks on the validation split."""
        return _mean(exactly(each.valid) for each in self.figures)

    @property
    def test(self) -> Fraction | None:
        """Mean accuracy of the compressed networks on the test samples."""
        return _mean(exactly(each.test) for each in self.figures if each.test is not None)

    @property
    def before(self) -> Fraction | None:
        """Mean number of parameters as trained."""
        return _mean(Fraction(each.before.parameters) for each in self.figures)

    @property
    def after(self) -> Fraction | None:
        """Mean number of parameters that are left."""
        return _mean(Fraction(each.after.parameters) for each in self.figures)

    @property
    def removed(self) -> Fraction | None:
        """Mean number of units that went."""
        return _mean(Fraction(each.removed) for each in self.figures)

    @property
    def ratio(self) -> float | None:
        """Parameters before, for each that is left, of the means."""
        before, after = self.before, self.after
        return None if before is None or after is None else float(before / max(Fraction(1), after))

    def deviation(self, of: Callable[[Figures], float | None]) -> float | None:
        """The standard deviation over seeds (of a sample: divided by n - 1), from two of them on."""
        values = [value for each in self.figures if (value := of(each)) is not None]
        return statistics.stdev(values) if len(values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        means = {name: getattr(self, name) for name in ("trained", "valid", "test", "before", "after", "removed")}
        return {
            "strength": self.strength,
            "complete": self.complete,
            **{name: None if value is None else float(value) for name, value in means.items()},
            "valid_sd": self.deviation(lambda each: each.valid),
            "test_sd": self.deviation(lambda each: each.test),
            "ratio": self.ratio,
        }


@dataclass(frozen=True)
class Choice:
    """Which strength compresses most without losing accuracy (``None``: none does), and why, in words."""

    strength: float | None
    words: str


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep.

    Parameters
    ----------
    runs
        By strength, then by seed.
    domain
        The range of all inputs on which the compressed networks compute the same.
    guarantee
        How far their outputs may move, as it was asked for.
    notes
        What the user should know, one line each.
    """

    runs: tuple[Run, ...]
    domain: tuple[float, float]
    guarantee: str
    notes: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One for each strength, from 0 on."""
        strengths = sorted({run.strength for run in self.runs})
        return tuple(Row(each, tuple(run for run in self.runs if run.strength == each)) for each in strengths)

    @cached_property
    def choice(self) -> Choice:
        """The largest compression that loses no accuracy."""
        from reluce.sweep._choice import choose  # which reads rows

        return choose(self.rows)

    @property
    def failed(self) -> tuple[Run, ...]:
        """The runs that came to no end."""
        return tuple(run for run in self.runs if run.figures is None)

    @property
    def cut_short(self) -> bool:
        """Whether the time limit ended a compression."""
        return any(run.figures is not None and run.figures.cut_short for run in self.runs)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "reluce": __version__,
            "domain": list(self.domain),
            "guarantee": self.guarantee,
            "choice": asdict(self.choice),
            "strengths": [row.to_json() for row in self.rows],
            "runs": [run.to_json() for run in self.runs],
            "notes": list(self.notes),
        }


def exactly(accuracy: float) -> Fraction:
    """The fraction of samples that a float stands for."""
    return Fraction(accuracy).limit_denominator(MOST_SAMPLES)


def _mean(values: Iterable[Fraction]) -> Fraction | None:
    given = list(values)
    return sum(given, Fraction(0)) / len(given) if given else None
