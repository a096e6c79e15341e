r"""Penalties on weights, and their proximal maps.

The proximal map of a penalty P with step t takes V to the W that minimises ``1/2 |W - V|^2 + t P(W)``.

    l1 |W|_1               soft threshold: sign(v) max(|v| - t l1, 0) for every weight
    d/2 |W|_2^2            weight decay:    v / (1 + t d)
    g sum_r s |W_r|_2      shrunk groups:  V_r max(1 - t g s / |V_r|, 0) for every row r (or column)

with s the root of the number of weights in the group, so that one strength means the same for l1 and for groups of
every size: a group of n weights w has s |W_r|_2 = n |w| = |W_r|_1.

For the sum of l1 and groups that do not overlap (rows only, or columns only) the composition, thresholds first, then
groups, *is* the proximal map. Rows and columns overlap: thresholds, then rows, then columns is an approximation there.
It has exact zeros where a group is small, all the same.

Source: Parikh and Boyd, "Proximal algorithms", 2014; Simon, Friedman, Hastie, Tibshirani, "A sparse-group lasso", 2013;
Scardapane, Comminiello, Hussain, Uncini, "Group sparse regularization for deep neural networks", 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from reluce.errors import UsageError

ROWS, COLUMNS = 0, 1


class Penalty(Protocol):
    """What keeps weights small: a value, and the proximal map that belongs to it."""

    def value(self, weight: Tensor) -> Tensor:
        """The penalty of a weight, a scalar that can be differentiated."""

    def prox(self, weight: Tensor, step: float) -> Tensor:
        """The proximal map of ``step`` times the penalty."""


@dataclass(frozen=True)
class L1:
    """The sum of absolute values, times ``strength``.

    Parameters
    ----------
    strength
        At least 0.
    """

    strength: float

    def __post_init__(self) -> None:
        _demand_strengths(self)

    def value(self, weight: Tensor) -> Tensor:
        """``strength * |W|_1``."""
        return self.strength * weight.abs().sum()

    def prox(self, weight: Tensor, step: float) -> Tensor:
        """The soft threshold at ``step * strength``."""
        return softshrink(weight, step * self.strength)


@dataclass(frozen=True)
class L2:
    """Half the sum of squares, times ``strength``: weight decay, which pulls and makes no zeros.

    Parameters
    ----------
    strength
        At least 0.
    """

    strength: float

    def __post_init__(self) -> None:
        _demand_strengths(self)

    def value(self, weight: Tensor) -> Tensor:
        """``strength / 2 * |W|_2^2``."""
        return self.strength / 2 * weight.square().sum()

    def prox(self, weight: Tensor, step: float) -> Tensor:
        """``W / (1 + step * strength)``."""
        return weight / (1 + step * self.strength)


@dataclass(frozen=True)
class SparseGroup:
    """Absolute values, and norms of rows and columns.

    A row is what one unit reads: once it is zero, the unit is a constant. A column is who reads one unit (or one
    input): once it is zero, nobody does. In a convolution a row is an output channel and a column an input channel.

    Parameters
    ----------
    l1
        Of every weight.
    rows, columns
        Of every row, every column; each norm is multiplied by the root of the number of weights in it.
    """

    l1: float = 0.0
    rows: float = 0.0
    columns: float = 0.0

    def __post_init__(self) -> None:
        _demand_strengths(self)

    def value(self, weight: Tensor) -> Tensor:
        """``l1 |W|_1 + rows sum_r s |W_r| + columns sum_c s |W_c|``."""
        total = self.l1 * weight.abs().sum()
        for axis, strength in ((ROWS, self.rows), (COLUMNS, self.columns)):
            if strength:
                total = total + strength * _scale(weight, axis) * _norms(weight, axis).sum()
        return total

    def prox(self, weight: Tensor, step: float) -> Tensor:
        """Threshold, then shrink rows, then columns; exact unless both ``rows`` and ``columns`` are set."""
        if self.l1:
            weight = softshrink(weight, step * self.l1)
        for axis, strength in ((ROWS, self.rows), (COLUMNS, self.columns)):
            if strength and step:
                amount = step * strength * _scale(weight, axis)
                norms = _norms(weight, axis).clamp_(min=torch.finfo(weight.dtype).tiny)  # zero groups stay zero
                weight = weight * (1 - amount / norms).clamp_(min=0)
        return weight


def _demand_strengths(penalty: L1 | L2 | SparseGroup) -> None:
    for field in fields(penalty):
        strength = getattr(penalty, field.name)
        if not (isinstance(strength, int | float) and 0 <= strength < math.inf):
            raise UsageError(f"{type(penalty).__name__}: {field.name} is {strength!r}; give a finite number >= 0")


def _norms(weight: Tensor, axis: int) -> Tensor:
    """The norm of every row or column, as a tensor that broadcasts against the weight."""
    if weight.ndim < 2:
        raise UsageError(f"a weight of shape {tuple(weight.shape)} has no rows and columns; penalise it with L1")
    others = [k for k in range(weight.ndim) if k != axis]
    norms: Tensor = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return norms


def _scale(weight: Tensor, axis: int) -> float:
    return math.sqrt(weight.numel() / max(1, weight.shape[axis]))
