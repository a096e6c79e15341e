"""Weights that are zero stay zero: for polishing, when the penalty is off and the other weights recover from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from reluce.train._layers import weights


def freeze_zeros(optimizer: torch.optim.Optimizer, model: nn.Module) -> RemovableHandle:
    """Keep every weight that is exactly zero now at zero after each step of an optimizer.

    Parameters
    ----------
    optimizer
        It may have any momentum: what it does to these weights is undone.
    model
        The weights of its dense layers and convolutions are looked at, biases never.

    Returns
    -------
    torch.utils.hooks.RemovableHandle
        Its ``remove()`` lets them go.
    """
    with torch.no_grad():
        frozen = [(parameter, parameter == 0) for parameter in weights(model)]

    @torch.no_grad()
    def after_step(*_: Any) -> None:
        for parameter, zero in frozen:
            parameter.masked_fill_(zero, 0.0)

    return optimizer.register_step_post_hook(after_step)
