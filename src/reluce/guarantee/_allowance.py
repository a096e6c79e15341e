"""How far each output may move at a guarantee level.

| level | allowed deviation of output i, over the reals, for every x of the domain |
|---|---|
| exact | 0 |
| roundoff | 16 u m_i |
| within | EPS |

u is 2^-53 for outputs in float64 and 2^-24 for all others, narrower ones included; m_i is what ``_magnitudes`` proves
of |N_i|, so that the deviation is one that evaluating the network in floats makes anyway.

What earlier runs have spent of an output (s_i) is charged: a network that was moved by s_i is at most s_i larger than
the one that it came from, so that budget_i = 16 u max(0, m_i - s_i) - s_i at roundoff, and EPS - s_i at within.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reluce.bounds import Bounds
from reluce.domain import Box
from reluce.facts import Facts, Guarantee
from reluce.guarantee._levels import Exact, Level, Within
from reluce.guarantee._magnitudes import Magnitudes, magnitudes
from reluce.network import Array, Network
from reluce.rounding import down

UNITS = 16.0
"""Units of roundoff that ``roundoff`` allows."""


@dataclass(frozen=True, eq=False)
class Allowance:
    """How far each output may move in one run.

    Parameters
    ----------
    level
        What the user asked for.
    budget
        For each graph output, flat: how far it may move, what was spent before left out.
    spent
        For each graph output, flat: how far earlier runs moved it (infinite: not known).
    magnitudes
        At roundoff, what the budget comes from.
    """

    level: Level
    budget: Mapping[str, Array]
    spent: Mapping[str, Array]
    magnitudes: Magnitudes | None = None

    def promise(self, epsilons: Mapping[str, Array], shifted: Mapping[str, int] | None = None) -> Guarantee:
        """The guarantee of a network that is proved to deviate by ``epsilons``, of shifted outputs from these."""
        lower = {} if self.magnitudes is None else self.magnitudes.lower
        return Guarantee(self.level.word, str(self.level), epsilons, self.budget, lower, self.spent, shifted or {})


def allowance(
    level: Level,
    network: Network,
    box: Box,
    bounds: Bounds,
    facts: Facts,
    samples: Mapping[str, Array] | None = None,
    spent: Mapping[str, Array] | None = None,
) -> Allowance:
    """How far each output of a network may move.

    Parameters
    ----------
    level
        What the user asked for.
    network, box, bounds, facts
        The network, its domain, and what was proved about it; witnesses are among the points that are looked at.
    samples
        Data, ``(samples, *sample shape)`` per graph input, to look at as well.
    spent
        For each graph output, flat: how far earlier runs moved it; nothing by default.
    """
    nothing = {name: np.zeros(network.entries(name)) for name in network.outputs}
    used = nothing if spent is None else spent
    match level:
        case Exact():
            return Allowance(level, nothing, used)
        case Within(epsilon):
            budget = {name: _less(np.full_like(part, epsilon), part) for name, part in used.items()}
            return Allowance(level, budget, used)
    found = magnitudes(network, box, bounds, facts, samples)
    budget = {
        name: _less(_units(_less(m, used[name]), _unit_roundoff(network, name)), used[name])
        for name, m in found.lower.items()
    }
    return Allowance(level, budget, used, found)


def _less(values: Array, spent: Array) -> Array:
    """``max(0, values - spent)``, rounded down; NaN leaves nothing."""
    rest = np.where(spent == 0, values, down(values - spent))
    return np.where(rest > 0, rest, 0.0)


def _units(magnitude: Array, u: float) -> Array:
    """``16 u m``, rounded down where it is no normal number."""
    product = UNITS * u * magnitude
    return np.where(product < np.finfo(np.float64).tiny, 0.0, product)


def _unit_roundoff(network: Network, name: str) -> float:
    return 2.0**-53 if network.tensors[name].dtype == np.float64 else 2.0**-24
