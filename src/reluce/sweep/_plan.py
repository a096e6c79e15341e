"""What a sweep is to do: recipes by strength, and one plan for each run, with its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reluce._version import __version__
from reluce.errors import UsageError
from reluce.settings import Settings
from reluce.train import Data, Recipe

PENALTIES = ("l1", "rows", "columns", "stability")
"""What may be swept: strengths of a recipe."""


@dataclass(frozen=True)
class Plan:
    """One run that is to be done.

    Parameters
    ----------
    name
        Of the run, and what the names of its files begin with.
    strength, recipe
        How to train; the recipe has the seed.
    key
        What the run is determined by, as a digest: recipe, data, settings and version.
    folder
        Where its files go.
    """

    name: str
    strength: float
    recipe: Recipe
    key: str
    folder: Path

    @property
    def record(self) -> Path:
        """Its figures; written last, so that it vouches for the others."""
        return self.folder / f"{self.name}.json"

    @property
    def network(self) -> Path:
        """The network as it was trained."""
        return self.folder / f"{self.name}.onnx"

    @property
    def small(self) -> Path:
        """The compressed one."""
        return self.folder / f"{self.name}-small.onnx"

    @property
    def certificate(self) -> Path:
        """What proves that both compute the same."""
        return self.folder / f"{self.name}-small.cert"

    @property
    def checkpoint(self) -> Path:
        """Where training goes on from."""
        return self.folder / f"{self.name}.onnx.train"

    @property
    def journal(self) -> Path:
        """Where compression goes on from."""
        return self.folder / f"{self.name}-small.journal"

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return self.record, self.network, self.small, self.certificate, self.checkpoint, self.journal


def recipes_for(base: Recipe, strengths: Iterable[float], penalties: Iterable[str] = ("l1",)) -> dict[float, Recipe]:
    """A recipe for each strength, and one without any penalty or budget for 0, which is always among them.

    Parameters
    ----------
    base
        What all have in common. The penalties that it has besides those that are swept, and its budget (``keep``), hold
        for all strengths but 0.
    strengths
        Numbers >= 0.
    penalties
        Which of ``PENALTIES`` take the strength.

    Raises
    ------
    UsageError
        When a penalty is not known or the base recipe gives it a strength, or a strength makes no sense.
    """
    swept = tuple(penalties)
    for name in swept:
        if name not in PENALTIES:
            raise UsageError(f"penalty {name!r}: expected {', '.join(PENALTIES)}, or several of them")
        value: Any = getattr(base, name)
        if any(value if isinstance(value, tuple) else (value,)):
            raise UsageError(f"{name} is swept, and has a strength of its own, {value!r}; leave one of them out")
    if not swept:
        raise UsageError(f"nothing is swept; give some of {', '.join(PENALTIES)}")
    given: dict[str, Any] = dict.fromkeys(PENALTIES, 0.0)
    recipes = {0.0: replace(base, **given, keep=())}
    for strength in strengths:
        if strength:
            changed: dict[str, Any] = dict.fromkeys(swept, float(strength))
            recipes[float(strength)] = replace(base, **changed)
    return recipes


def plans(
    data: Data, recipes: Mapping[float, Recipe], seeds: Iterable[int], folder: Path, settings: Settings
) -> Iterator[Plan]:
    """One for each strength and seed: all strengths of a seed, then those of the next, so that all have some soon."""
    samples = [data.digest, "" if data.test is None else replace(data, train=data.test, test=None).digest]
    for seed in seeds:
        for strength, recipe in recipes.items():
            seeded = replace(recipe, seed=seed)
            parts = [__version__, seeded.to_json(), *samples, repr(settings)]
            key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
            yield Plan(f"s{text_of(strength)}-seed{seed}", strength, seeded, key, folder)


def demand_sound(recipes: Mapping[float, Recipe], seeds: tuple[int, ...]) -> None:
    """Find out before the work that the recipes can be compared.

    Raises
    ------
    UsageError
        When they cannot.
    """
    plain = recipes.get(0.0)
    if plain is None or plain.penalised or plain.stability:
        raise UsageError("strength 0 must be there, and be the unregularised network: accuracy is compared with it")
    if len(recipes) < 2:
        raise UsageError("no strength above 0 is given; there is nothing to compare with the unregularised network")
    for strength, recipe in recipes.items():
        if not recipe.valid:
            raise UsageError("a sweep compares validation accuracies; give valid, such as 0.1")
        if (recipe.widths, recipe.channels) != (plain.widths, plain.channels):
            raise UsageError(f"the network of strength {text_of(strength)} has another shape than that of strength 0")
        if (recipe.valid, recipe.domain) != (plain.valid, plain.domain):
            raise UsageError(f"strength {text_of(strength)} has another validation split or domain than strength 0")
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds are {seeds!r}; give at least one, and each once")


def text_of(strength: float) -> str:
    """A strength as short as it can be written without becoming another number."""
    return repr(float(strength)).removesuffix(".0")
