"""How far each output may move: one non-negative number per output coordinate, and what is left of it.

Budgets, deviations and rooms are flat arrays per graph output, as ``_relation`` gives deviations: one entry per
coordinate, or one in all where the shape of the output is not known. A budget of 0 asks for equality over the reals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.network import Array, Network
from reluce.rewrite._sensitivity import output_rows
from reluce.rounding import down

Budget = Mapping[str, Array]


def uniform_budget(network: Network, value: float) -> dict[str, Array]:
    """The same budget for every coordinate of every output; 0 is the exact guarantee."""
    return {name: np.full(network.entries(name), float(value)) for name in network.outputs}


def is_exact(budget: Budget) -> bool:
    """Whether nothing at all may be spent."""
    return not any(bool((values > 0).any()) for values in budget.values())


def fits(epsilons: Mapping[str, Array], budget: Budget) -> bool:
    """Whether every output stays within its budget; NaN and outputs without a budget never do."""
    return set(epsilons) == set(budget) and all(bool((epsilons[name] <= budget[name]).all()) for name in epsilons)


def room_left(network: Network, budget: Budget, epsilons: Mapping[str, Array]) -> Array:
    """What is left of the budget, one entry for each row of ``sensitivity`` (the least of all where that is one)."""
    known = [name for name in network.outputs if network.tensors[name].shape is not None]
    flat = [np.maximum(0.0, _difference(budget[name], epsilons[name])) for name in known]
    room = np.concatenate(flat) if flat else np.zeros(0)
    rows = output_rows(network)
    return room if len(room) == rows else np.full(rows, room.min() if room.size else 0.0)


def _difference(budget: Array, spent: Array) -> Array:
    return np.where(spent == 0, budget, down(budget - spent))
