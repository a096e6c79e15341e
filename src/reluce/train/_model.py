"""The networks of the plain trainer: dense layers with ReLUs, behind small convolutions if asked for."""

from __future__ import annotations

from math import prod

import torch
from torch import nn
from torch.nn.utils import skip_init

from reluce.errors import DomainError
from reluce.train._layers import LINEAR
from reluce.train._random import generator
from reluce.train._recipe import Recipe

MANY_CHANNELS = 4


def build(recipe: Recipe, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A network with weights drawn after He et al. (normal, for ReLU) and biases 0.

    Parameters
    ----------
    recipe
        ``channels``, ``widths`` and ``seed``.
    shape
        Of one sample: any for dense layers; ``(height, width)`` or ``(channels, height, width)`` for convolutions.
    classes
        Outputs.

    Raises
    ------
    DomainError
        When samples of this shape cannot go through convolutions.
    """
    layers: list[nn.Module] = []
    if recipe.channels:
        layers, shape = _convolutions(recipe.channels, shape)
    if len(shape) > 1:
        layers.append(nn.Flatten())
    size = prod(shape)
    for width in recipe.widths:
        layers += [_bare(nn.Linear, size, width), nn.ReLU()]
        size = width
    layers.append(_bare(nn.Linear, size, classes))
    return _drawn(nn.Sequential(*layers), recipe.seed)


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height and width of a sample.

    Raises
    ------
    DomainError
        When it is no image, or its channels seem to come last.
    """
    match shape:
        case (int(height), int(width)):
            return 1, height, width
        case (int(channels), int(height), int(width)):
            if width <= MANY_CHANNELS < channels:
                raise DomainError(f"samples of shape {shape}: channels come first, x.transpose(0, 3, 1, 2)")
            return channels, height, width
        case _:
            expected = "(height, width) or (channels, height, width)"
            raise DomainError(f"samples of shape {shape} are no images; give {expected}")


def _convolutions(channels: tuple[int, ...], shape: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    incoming, height, width = image_shape(shape)
    layers: list[nn.Module] = [] if len(shape) == 3 else [nn.Unflatten(1, (1, height))]
    for outgoing in channels:
        layers += [_bare(nn.Conv2d, incoming, outgoing, 3, stride=2, padding=1), nn.ReLU()]
        incoming, height, width = outgoing, (height + 1) // 2, (width + 1) // 2
    return layers, (incoming, height, width)


def _bare(kind: type[nn.Module], *sizes: int, **more: int) -> nn.Module:
    """A layer without numbers; torch would draw some from its global generator."""
    layer: nn.Module = skip_init(kind, *sizes, **more, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return layer


def _drawn(model: nn.Sequential, seed: int) -> nn.Sequential:
    random = generator(seed, "weights")
    for layer in model:
        if isinstance(layer, LINEAR) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
            nn.init.zeros_(layer.bias)
    return model
