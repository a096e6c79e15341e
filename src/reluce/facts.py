"""The vocabulary of what is known about a network: verdicts, facts, witnesses, refusals. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Verdict(IntEnum):
    """What is known of a unit's pre-activation z on the domain. Disjoint; the first that holds is the verdict."""

    CONSTANT = 0  # z is constant
    INACTIVE = 1  # max z <= 0
    ACTIVE = 2  # min z >= 0
    UNSTABLE = 3  # two witnesses: z > 0 at one point, z < 0 at another
    UNDECIDED = 4  # none of these was proved; the unit is kept


class Rung(StrEnum):
    """The prover that settled a unit."""

    CONSTANT = "constant"
    CLOSED_FORM = "closed form"
    INTERVAL = "interval"
    CROWN = "crown"
    EXACT = "exact"
    ALPHA = "alpha-crown"
    BRANCH = "branch and bound"
    INPUT_SPLIT = "input splitting"
    LEO = "leo"  # a solver's word
    ISA = "isa"  # a solver's word
    WITNESS = "witness"
    NONE = "none"


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What is known about the units of one ReLU.

    All arrays have one entry per unit. ``lower`` and ``upper`` enclose the pre-activation over the domain and over all
    positions of the unit. ``positive`` and ``negative`` are rows of ``Facts.points`` where z > 0 and z < 0 (-1: none).
    ``attested`` is the verdict for which only a solver vouches (UNDECIDED: none); it becomes the ``verdict`` only where
    the user trusts solvers. ``reached``, ``(2, units)``, has the largest z and the largest -z of the points tried while
    the unit lacked that sign (``-inf``: none; float64, no proof of anything). ``reason`` says why a whole layer could
    not be decided, if so.
    """

    layer: str
    node: str
    verdict: Array
    rung: tuple[Rung, ...]
    lower: Array
    upper: Array
    positive: Array
    negative: Array
    attested: Array
    reached: Array
    reason: str = ""

    @property
    def units(self) -> int:
        """Number of units."""
        return len(self.verdict)

    def count(self, verdict: Verdict) -> int:
        """Number of units with the given verdict."""
        return int(np.count_nonzero(self.verdict == verdict))

    def having(self, *verdicts: Verdict) -> Array:
        """Boolean mask of the units with one of the given verdicts."""
        return np.isin(self.verdict, [int(verdict) for verdict in verdicts])


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything proved about a network on a domain. ``layers`` is keyed by ReLU node name, in topological order.

    ``points`` holds the witnesses: for each graph input an array ``(witnesses, *sample shape)`` of float64 points that
    lie in the domain.
    """

    layers: Mapping[str, LayerFacts]
    points: Mapping[str, Array]

    @property
    def stable(self) -> int:
        """Number of units proved constant, inactive or active."""
        stable = (Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE)
        return sum(layer.count(verdict) for layer in self.layers.values() for verdict in stable)


@dataclass(frozen=True)
class Refusal:
    """Something that was not done, and why."""

    where: str
    what: str
    why: str


@dataclass(frozen=True)
class Guarantee:
    """The promise about the outputs: ``|N'_i(x) - N_i(x)| <= epsilon_i`` for every x of the domain, over the reals.

    ``level`` is ``exact`` (every epsilon is 0) or ``within``; ``attested`` where it holds only if a solver's word does.
    ``epsilons`` gives an array per graph output.
    """

    level: str
    budget: float
    epsilons: Mapping[str, Array] = field(default_factory=dict)

    @property
    def epsilon(self) -> float:
        """The largest epsilon over all outputs."""
        return max((float(np.max(values, initial=0.0)) for values in self.epsilons.values()), default=0.0)
