"""Centred inputs: a network learns on (x - mean) / deviation, and what comes out takes x as it is.

Networks learn faster from inputs around zero. With the same two numbers for all inputs nothing of it is left in the
end: W ((x - m) / s) + b = (W / s) x + (b - m W 1 / s), where zeros of W stay zeros.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reluce.errors import DomainError
from reluce.train._data import Samples

TOGETHER = 2000
"""Samples that are looked at together."""


@dataclass(frozen=True)
class Centre:
    """What is subtracted from all inputs, and what they are divided by."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, samples: Samples) -> Centre:
        """Of all numbers in some samples.

        Raises
        ------
        DomainError
            When they are all the same.
        """
        mean, squares = _moments(samples)
        middle = float(mean.mean())
        spread = float(squares.mean()) - middle**2
        if spread <= 0:
            raise DomainError("all inputs are the same number; there is nothing to learn from, and nothing to centre")
        return cls(middle, spread**0.5)

    def __call__(self, x: Tensor) -> Tensor:
        return x if self == UNCENTRED else (x - self.mean) / self.deviation

    def folded(self, model: nn.Sequential) -> nn.Sequential:
        """A copy of a network of dense layers that takes what is not centred."""
        result = copy.deepcopy(model)
        first = next((layer for layer in result if isinstance(layer, nn.Linear)), None)
        if first is None or self == UNCENTRED:
            return result
        with torch.no_grad():
            weight = first.weight.double() / self.deviation
            first.bias.copy_(first.bias.double() - self.mean * weight.sum(1))
            first.weight.copy_(weight)
        return result


UNCENTRED = Centre()


def deviations(samples: Samples) -> Tensor:
    """The standard deviation of each input, flat."""
    mean, squares = _moments(samples)
    return (squares - mean**2).clamp_(min=0).sqrt_().float()


def _moments(samples: Samples) -> tuple[Tensor, Tensor]:
    """The mean of each input and of its square, flat, in float64."""
    count = len(samples)
    sums = torch.zeros(2, samples.x[0].numel(), dtype=torch.float64)
    for start in range(0, count, TOGETHER):
        part = samples.inputs(slice(start, start + TOGETHER)).flatten(1).double()
        sums += torch.stack([part.sum(0), (part**2).sum(0)])
    return sums[0] / count, sums[1] / count
