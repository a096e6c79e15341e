"""Which parameters are weights: those of dense layers and convolutions, in the order of the model."""

from __future__ import annotations

import torch
from torch import nn

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weight has one row for each unit (axis 0) and one column for each of what it reads (axis 1)."""


def weights(model: nn.Module) -> tuple[nn.Parameter, ...]:
    """The weights of all dense layers and convolutions, shared ones once; no biases, no scales of normalisations."""
    found = [layer.weight for layer in model.modules() if isinstance(layer, LINEAR)]
    once = {id(weight): weight for weight in found if isinstance(weight, nn.Parameter)}
    return tuple(once.values())


def share_of_zeros(model: nn.Module) -> float:
    """Which part of all weights is exactly zero."""
    parameters = weights(model)
    total = sum(parameter.numel() for parameter in parameters)
    with torch.no_grad():
        nonzeros = sum(int(torch.count_nonzero(parameter)) for parameter in parameters)
    return 1.0 - nonzeros / total if total else 0.0
