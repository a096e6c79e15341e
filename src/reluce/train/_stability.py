r"""A penalty on units that are neither always active nor never, over interval bounds of the whole domain.

The bounds l <= z <= u of all pre-activations z over a box go through the network layer by layer (interval arithmetic):

    dense, convolution    centre  c' = W c + b,   radius  r' = |W| r
    ReLU, max pooling, average pooling    of both ends (they are monotone)
    batch normalisation   an affine map of each channel, with the running statistics (as in eval mode)

A unit with u <= 0 is never active, one with l >= 0 always. The others are drawn there by the mean over all units of

    hinge    min(max(u, 0), max(-l, 0))      how far the nearer one of the two bounds is from zero; 0 if stable
    rs       -tanh(1 + l u)                  smooth; flat, so without effect, unless l u is near 0

The bounds over a whole domain are wide at first: there only the hinge pulls. rs needs weights that another penalty has
made small, or small boxes.

Plain floats, without outward rounding: training needs no proofs.

Source: Xiao, Tjeng, Shafiullah, Madry, "Training for faster adversarial robustness verification via inducing ReLU
stability", ICLR 2019 (there over small balls around the data, here over all of the domain).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial, singledispatch
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from reluce.errors import UsageError

StabilityKind = Literal["hinge", "rs"]

Bounds = tuple[Tensor, Tensor]
"""Lower and upper ends, ``(1, *sample shape)``."""


def relu_bounds(model: nn.Module, low: Tensor, high: Tensor) -> list[Bounds]:
    """Interval bounds of what each ReLU reads.

    Parameters
    ----------
    model
        An ``nn.Sequential`` (also nested) of ``Flatten``, ``Unflatten``, ``Linear``, ``Conv2d``, ``ReLU``,
        ``MaxPool2d``, ``AvgPool2d``, ``BatchNorm1d``, ``BatchNorm2d``, ``Dropout`` and ``Identity``.
    low, high
        The ends of the box, in the shape of one sample.

    Returns
    -------
    list
        For each ReLU a pair of tensors ``(1, *shape)`` that can be differentiated.

    Raises
    ------
    UsageError
        When the model holds a layer that is not known, or the box is empty.
    """
    if low.shape != high.shape or bool((low > high).any()):
        raise UsageError(f"low and high, of shapes {tuple(low.shape)} and {tuple(high.shape)}, are no ends of a box")
    found: list[Bounds] = []
    bounds = low.unsqueeze(0), high.unsqueeze(0)
    for layer in _layers(model):
        if isinstance(layer, nn.ReLU):
            found.append(bounds)
        bounds = _through(layer, bounds)
    return found


def stability_penalty(model: nn.Module, low: Tensor, high: Tensor, kind: StabilityKind = "hinge") -> Tensor:
    """The mean over all ReLU units of how far each is from being stable on a box; see the head of this file.

    Parameters
    ----------
    model, low, high
        As for ``relu_bounds``.
    kind
        ``hinge`` or ``rs``.

    Returns
    -------
    Tensor
        A scalar to add to the loss, times a strength.
    """
    if kind not in SURROGATES:
        raise UsageError(f"stability {kind!r}: expected one of {', '.join(SURROGATES)}")
    found = relu_bounds(model, low, high)
    if not found:
        raise UsageError("the model has no ReLU whose stability could be trained")
    return torch.cat([SURROGATES[kind](l, u).flatten() for l, u in found]).mean()


SURROGATES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hinge": lambda l, u: torch.minimum(u.relu(), (-l).relu()),
    "rs": lambda l, u: -torch.tanh(1 + l * u),
}


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    if isinstance(model, nn.Sequential):
        for layer in model:
            yield from _layers(layer)
    else:
        yield model


@singledispatch
def _through(layer: Any, bounds: Bounds) -> Bounds:
    raise UsageError(
        f"no interval bounds through a {type(layer).__name__}: the stability penalty knows an nn.Sequential of "
        "Flatten, Linear, Conv2d, ReLU, MaxPool2d, AvgPool2d and BatchNorm"
    )


@_through.register(nn.ReLU)
@_through.register(nn.MaxPool2d)
@_through.register(nn.AvgPool2d)
@_through.register(nn.Flatten)
@_through.register(nn.Unflatten)
def _monotone(layer: Any, bounds: Bounds) -> Bounds:
    if getattr(layer, "inplace", False):
        bounds = bounds[0].clone(), bounds[1].clone()  # they have been handed out
    return layer(bounds[0]), layer(bounds[1])


@_through.register(nn.Dropout)
@_through.register(nn.Identity)
def _same(layer: Any, bounds: Bounds) -> Bounds:
    return bounds


@_through.register
def _dense(layer: nn.Linear, bounds: Bounds) -> Bounds:
    centre, radius = _ball(bounds)
    return _ends(linear(centre, layer.weight, layer.bias), linear(radius, layer.weight.abs()))


@_through.register
def _convolution(layer: nn.Conv2d, bounds: Bounds) -> Bounds:
    if layer.padding_mode != "zeros":
        raise UsageError(f"no interval bounds through a Conv2d with padding mode {layer.padding_mode!r}")
    centre, radius = _ball(bounds)
    convolved: Callable[..., Tensor] = partial(
        conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
    )
    middle = convolved(centre, layer.weight, layer.bias)
    return _ends(middle, convolved(radius, layer.weight.abs()))


@_through.register(nn.BatchNorm1d)
@_through.register(nn.BatchNorm2d)
def _normalisation(layer: Any, bounds: Bounds) -> Bounds:
    if layer.running_mean is None:
        raise UsageError("no interval bounds through a batch normalisation without running statistics")
    centre, radius = _ball(bounds)
    shape = (1, -1, *(1 for _ in centre.shape[2:]))
    scale = torch.rsqrt(layer.running_var + layer.eps)
    shift = -layer.running_mean * scale
    if layer.affine:
        scale, shift = scale * layer.weight, shift * layer.weight + layer.bias
    return _ends(centre * scale.view(shape) + shift.view(shape), radius * scale.abs().view(shape))


def _ball(bounds: Bounds) -> Bounds:
    low, high = bounds
    return (low + high) / 2, (high - low) / 2


def _ends(centre: Tensor, radius: Tensor) -> Bounds:
    return centre - radius, centre + radius
