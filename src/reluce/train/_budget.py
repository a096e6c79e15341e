r"""A budget of inputs and units: those that matter least are taken away, a few at a time.

The constraint "at most k of the groups are not zero" has a proximal map as well: the k most important groups stay as
they are, the others become zero (iterative hard thresholding). Here k falls slowly from all to the budget,

    k_t = k + (n - k) (1 - f)^3,    f from 0 to 1 between ``start`` and ``end``,

fast while there is much to spare, slowly near the end. A group is an input or a unit, and its importance

    of input i   |W_1[:, i]| * deviation of x_i         of unit j in layer l   |W_l[j, :]| * |W_{l+1}[:, j]|

with Euclidean norms: how much a typical change of it moves what reads it. A mild group lasso beside it lets groups
compete, so that they are told apart long before they are taken.

Source: Blumensath and Davies, "Iterative hard thresholding for compressed sensing", 2009; Zhu and Gupta, "To prune, or
not to prune", 2017 (the cubic schedule).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from reluce.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """How many groups may be left, and when the others go.

    Parameters
    ----------
    keep
        Of the inputs, then of the units of each hidden layer; where it is no less than there are, all stay.
    start, end
        The parts of training between which groups are taken away.
    every
        After how many steps it is decided again which.

    Raises
    ------
    UsageError
        When a value makes no sense.
    """

    keep: tuple[int, ...]
    start: float = 0.06
    end: float = 0.54
    every: int = 50

    def __post_init__(self) -> None:
        if not self.keep or min(self.keep) < 1:
            raise UsageError(f"a budget of {self.keep!r}; give whole numbers above 0: inputs, then each hidden layer")
        if not 0 <= self.start <= self.end <= 1:
            raise UsageError(f"a budget from {self.start:g} to {self.end:g} of training; give parts in that order")
        if self.every < 1:
            raise UsageError(f"a budget that is looked at every {self.every} steps; give at least 1")

    def counts(self, sizes: tuple[int, ...], progress: float) -> tuple[int, ...]:
        """How many groups of each kind may be left at a point of training."""
        gone = float(progress >= self.end)
        if self.start < progress < self.end:
            gone = (progress - self.start) / (self.end - self.start)
        least = tuple(min(size, keep) for size, keep in zip(sizes, self.keep, strict=True))
        return tuple(round(k + (n - k) * (1 - gone) ** 3) for n, k in zip(sizes, least, strict=True))


class KeepGroups:
    """Keeps the most important inputs and units after each step of an optimizer, the others at zero.

    Of an input that goes, the column is zero: nobody reads it. Of a unit that goes, also its row and its bias, which
    changes nothing, since nobody reads it either; so it is gone for good.

    Parameters
    ----------
    optimizer
        It calls this object after each of its steps, until ``remove`` is called. Make it after a ``Proximal`` on the
        same optimizer, so that groups are chosen among what that leaves.
    model
        A chain of dense layers, such as an ``nn.Sequential``; what is between them must keep units apart.
    budget
        What may be left.
    steps
        How many steps training takes in all.
    deviation
        Of each input, flat; ``None`` where all are alike.

    Attributes
    ----------
    done
        How many steps have been taken. Set it where training goes on from a checkpoint. Which groups go is decided
        anew at the first step of such an object, so make a new one after each checkpoint for the same bytes.

    Raises
    ------
    UsageError
        When the model is no chain of dense layers, or the budget has more or fewer numbers than it has layers.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        budget: Budget,
        steps: int,
        deviation: Tensor | None = None,
    ) -> None:
        self.done = 0
        self.budget, self.steps, self.deviation = budget, steps, deviation
        self._layers = _chain(model)
        self._sizes = tuple(layer.in_features for layer in self._layers)
        if len(budget.keep) != len(self._layers):
            raise UsageError(
                f"a budget of {len(budget.keep)} numbers for {len(self._layers)} layers; give one for the inputs and "
                "one for each hidden layer"
            )
        self._gone: list[Tensor] | None = None
        self._final = False
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def remove(self) -> None:
        """Take no more steps."""
        self._handle.remove()

    def importance(self) -> list[Tensor]:
        """Of the inputs, then of the units of each hidden layer."""
        with torch.no_grad():
            columns = [torch.linalg.vector_norm(layer.weight, dim=0) for layer in self._layers]
            rows = [torch.linalg.vector_norm(layer.weight, dim=1) for layer in self._layers[:-1]]
            first = columns[0] if self.deviation is None else columns[0] * self.deviation
            return [first, *(column * row for column, row in zip(columns[1:], rows, strict=True))]

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        self.done += 1
        progress = min(1.0, self.done / self.steps)
        over = progress >= self.budget.end and not self._final
        if self._gone is None or over or self.done % self.budget.every == 0:
            counts = self.budget.counts(self._sizes, progress)
            self._gone = [_all_but(count, values) for count, values in zip(counts, self.importance(), strict=True)]
            self._final = progress >= self.budget.end
        for layer, gone in zip(self._layers, self._gone, strict=True):
            layer.weight[:, gone] = 0.0
        for layer, gone in zip(self._layers, self._gone[1:], strict=False):
            layer.weight[gone] = 0.0
            if layer.bias is not None:
                layer.bias[gone] = 0.0


def _all_but(count: int, importance: Tensor) -> Tensor:
    """The numbers of all groups but the most important ones; of equals the first stay."""
    order = torch.sort(importance, descending=True, stable=True).indices
    return order[count:].sort().values


def _chain(model: nn.Module) -> list[nn.Linear]:
    layers = [layer for layer in model.modules() if not list(layer.children())]
    dense = [layer for layer in layers if isinstance(layer, nn.Linear)]
    others = [layer for layer in layers if not isinstance(layer, nn.Linear) and list(layer.parameters())]
    if others:
        raise UsageError(f"a budget of units goes with dense layers only, not with a {type(others[0]).__name__}")
    fits = all(one.out_features == other.in_features for one, other in pairwise(dense))
    if not dense or not fits:
        raise UsageError("a budget of units needs a chain of dense layers, each reading what the one before it gives")
    return dense
