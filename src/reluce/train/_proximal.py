"""Proximal steps after an optimizer's own, by one line in any training loop.

``Proximal(optimizer, penalise(model, L1(1e-4)))`` registers itself with the optimizer: after each ``optimizer.step()``
every weight W becomes ``prox(W, step)``. Subgradient descent on the same penalty makes weights tremble around zero; the
proximal map of l1 puts them there exactly.

With plain gradient descent this is the proximal gradient method, with the learning rate as its step. Heavy-ball
momentum mu makes the optimizer move by ``lr / (1 - mu)`` times a gradient that lasts, so that is the step there;
without it the penalty would be 1 / (1 - mu) times weaker than the same penalty in the loss. Adaptive optimizers (Adam
and the like) scale every coordinate differently; the step is the learning rate, which decouples the penalty from their
scaling as AdamW decouples weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reluce.errors import UsageError
from reluce.train._layers import weights
from reluce.train._penalties import Penalty
from reluce.train._schedule import Schedule


def penalise(model: nn.Module, penalty: Penalty | Sequence[Penalty]) -> dict[nn.Parameter, Penalty]:
    """A penalty for every weight of a model.

    Parameters
    ----------
    model
        The weights of its dense layers and convolutions are penalised, biases never.
    penalty
        One for all, or one for each layer in the order of ``model.modules()``.

    Raises
    ------
    UsageError
        When there are more or fewer penalties than layers.
    """
    found = weights(model)
    each = list(penalty) if isinstance(penalty, Sequence) else [penalty] * len(found)
    if len(each) != len(found):
        raise UsageError(f"{len(each)} penalties for {len(found)} layers; give one, or one for each")
    return dict(zip(found, each, strict=True))


class Proximal:
    """Proximal steps after those of an optimizer.

    Parameters
    ----------
    optimizer
        It calls this object after each of its steps, until ``remove`` is called.
    penalties
        Parameter -> penalty; see ``penalise``.
    schedule
        Which part of the penalties holds, by the progress of training; needs ``steps``.
    steps
        How many steps training takes in all.

    Attributes
    ----------
    done
        How many steps have been taken. Set it where training goes on from a checkpoint.

    Raises
    ------
    UsageError
        When a parameter is none of the optimizer's, or only one of ``schedule`` and ``steps`` is given.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        penalties: Mapping[nn.Parameter, Penalty],
        schedule: Schedule | None = None,
        steps: int | None = None,
    ) -> None:
        if (schedule is None) != (steps is None) or (steps is not None and steps < 1):
            raise UsageError(
                "Proximal: a schedule goes with steps, the number of steps that training takes (at least 1)"
            )
        known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if any(id(parameter) not in known for parameter in penalties):
            raise UsageError("Proximal: a parameter with a penalty is none that the optimizer trains")
        self.done = 0
        self._penalties = {id(parameter): penalty for parameter, penalty in penalties.items()}
        self._parameters = tuple(penalties)  # so that no other parameter takes over their ids
        self._schedule, self._steps = schedule, steps
        self._handle = optimizer.register_step_post_hook(self._after_step)

    def value(self) -> Tensor:
        """The sum of all penalties, without the schedule."""
        values = [self._penalties[id(parameter)].value(parameter) for parameter in self._parameters]
        return torch.stack(values).sum() if values else torch.zeros(())

    def remove(self) -> None:
        """Take no more steps."""
        self._handle.remove()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        factor = 1.0
        if self._schedule is not None and self._steps is not None:
            factor = self._schedule(min(1.0, self.done / self._steps))
        self.done += 1
        for group in optimizer.param_groups:
            step = factor * effective_step(optimizer, group)
            for parameter in group["params"]:
                penalty = self._penalties.get(id(parameter))
                if penalty is not None and step > 0:
                    parameter.copy_(penalty.prox(parameter, step))


def effective_step(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """How far an optimizer moves in the end for a gradient of 1, as far as that is the same for all coordinates.

    Parameters
    ----------
    optimizer
        Any.
    group
        One of its ``param_groups``.
    """
    rate = float(group["lr"])
    if not isinstance(optimizer, torch.optim.SGD) or not group["momentum"]:
        return rate
    return rate * (1 - float(group["dampening"])) / (1 - float(group["momentum"]))
