"""The three levels, and how users spell them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from reluce.errors import UsageError


@dataclass(frozen=True)
class Exact:
    """No output moves at all."""

    word: ClassVar[str] = "exact"

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Roundoff:
    """No output moves by more than 16 units of roundoff of what it reaches on the domain."""

    word: ClassVar[str] = "roundoff"

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Within:
    """No output moves by more than ``epsilon``, in units of the output.

    Raises
    ------
    UsageError
        When ``epsilon`` is not a positive number.
    """

    word: ClassVar[str] = "within"
    epsilon: float

    def __post_init__(self) -> None:
        value: Any = self.epsilon
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not (known and 0 < value < float("inf")):
            raise UsageError(f"Within({value!r}): expected a positive number")

    def __str__(self) -> str:
        return f"{self.word}={float(self.epsilon)!r}"


Level = Exact | Roundoff | Within


def parse_guarantee(text: str) -> Level:
    """A guarantee in words: ``exact``, ``roundoff``, or ``within=EPS``.

    Raises
    ------
    UsageError
        For anything else, or an EPS that is not a positive number.
    """
    if text in (Exact.word, Roundoff.word):
        return Exact() if text == Exact.word else Roundoff()
    name, _, value = text.partition("=")
    with suppress(ValueError):  # a UsageError is one
        if name == Within.word:
            return Within(float(value))
    raise UsageError(f"guarantee {text!r}: expected 'exact', 'roundoff' or 'within=EPS' with a positive number EPS")
