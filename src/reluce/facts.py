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


@dataclass(frozen=True, eq=False)
class Guarantee:
    """The promise about the outputs: ``|N'_i(x) - N_i(x)| <= epsilon_i`` for every x of the domain, over the reals.

    Parameters
    ----------
    level
        ``exact``, ``roundoff`` or ``within``; ``attested`` where it holds only if a solver's word does.
    asked
        The level as the user states it: ``exact``, ``roundoff``, ``within=EPS``.
    epsilons, budgets
        For each graph output, flat: what was proved, and what was allowed.
    magnitudes
        At ``roundoff``, for each graph output: proven lower bounds of ``|N_i|`` that the budgets come from.
    spent
        For each graph output: how far earlier runs had moved it already. The budgets leave that out.
    shifted
        Outputs of which coordinate k was subtracted from all coordinates, by name: there the promise is about
        ``N_i(x) - N_k(x)`` in place of ``N_i(x)``.
    """

    level: str
    asked: str
    epsilons: Mapping[str, Array] = field(default_factory=dict)
    budgets: Mapping[str, Array] = field(default_factory=dict)
    magnitudes: Mapping[str, Array] = field(default_factory=dict)
    spent: Mapping[str, Array] = field(default_factory=dict)
    shifted: Mapping[str, int] = field(default_factory=dict)

    @property
    def epsilon(self) -> float:
        """The largest epsilon over all outputs."""
        return _largest(self.epsilons)

    @property
    def budget(self) -> float:
        """The largest budget over all outputs."""
        return _largest(self.budgets)

    @property
    def share(self) -> float:
        """The largest part of its budget that any output uses; 0 where none moves."""
        shares = [
            float(np.divide(eps, self.budgets[name], out=np.zeros_like(eps), where=eps > 0).max(initial=0.0))
            for name, eps in self.epsilons.items()
            if name in self.budgets
        ]
        return max(shares, default=0.0)


@dataclass(frozen=True, eq=False)
class FloatErrors:
    """What floats do to both networks. Information, never a budget.

    ``before`` and ``after`` bound, for each graph output (flat), how far its evaluation in the model's own format is
    from the reals, in any summation order. Of ``deleted`` inactive units, ``unshown`` are not shown to stay silent in
    every such evaluation too.
    """

    before: Mapping[str, Array]
    after: Mapping[str, Array]
    deleted: int
    unshown: int

    @property
    def float_safe(self) -> bool:
        """Whether no deleted unit can fire in floats, in any summation order."""
        return self.unshown == 0


def _largest(values: Mapping[str, Array]) -> float:
    return max((float(np.max(part, initial=0.0)) for part in values.values()), default=0.0)
