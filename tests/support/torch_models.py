"""Small PyTorch modules whose units are known by hand, and plain ways to run and to compare modules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tiny_models import KNOWN_B1, KNOWN_B2, KNOWN_W1, KNOWN_W2
from torch import nn
from torch.utils import _pytree as pytree

from reluce.io._torch import TorchLoaded, read_module
from reluce.network import Opaque, evaluate

Forward = Callable[..., Any]


class Fn(nn.Module):
    """``forward(module, *inputs)`` with submodules, parameters and buffers."""

    def __init__(self, forward: Forward, **parts: Any) -> None:
        super().__init__()
        self._forward = forward
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self, x)


class Fn2(Fn):
    """The same with two inputs."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> Any:  # type: ignore[override]
        return self._forward(self, a, b)


def linear(weight: Any, bias: Any) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return layer


def known() -> tuple[nn.Linear, nn.Linear]:
    """Two layers: on [0, 1]^2 three of the six units between them can go exactly."""
    return linear(KNOWN_W1, KNOWN_B1), linear(KNOWN_W2, KNOWN_B2)


def samples(shape: tuple[int, ...], count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Points of [-2, 2] that all formats hold exactly."""
    generator = torch.Generator().manual_seed(seed + count)
    return (torch.randint(-16, 17, (count, *shape), generator=generator) / 8).to(dtype)


def tensors(found: Any) -> list[torch.Tensor]:
    return [value for value in pytree.tree_leaves(found) if isinstance(value, torch.Tensor)]


def read(module: nn.Module, *examples: torch.Tensor) -> TorchLoaded:
    return read_module(module.eval(), examples)


def kinds(loaded: TorchLoaded) -> list[str]:
    """The operations of the network; those that are not modelled under their own names, with a question mark."""
    ops = [node.op for node in loaded.network.nodes]
    return [f"?{op.kind}" if isinstance(op, Opaque) else type(op).__name__ for op in ops]


def largest_gap(loaded: TorchLoaded, module: nn.Module, *inputs: torch.Tensor) -> float:
    """How far the network is from the module on some inputs, over the outputs that it says anything of."""
    network = loaded.network
    points = [x.numpy().astype(np.float64) for x in inputs]
    feed = {name: x if network.batched else x[None] for name, x in zip(network.inputs, points, strict=True)}
    found = evaluate(network, feed)
    with torch.no_grad():
        results = tensors(module(*(x.clone() for x in inputs)))
    values = [value for value in loaded.program.outputs if value in loaded.read.names]
    gap = 0.0
    for value, result in zip(values, results, strict=True):
        name = loaded.read.names[value]
        if name not in found:
            continue
        computed = found[name] if network.batched else found[name][0]
        assert computed.shape == tuple(result.shape)
        assert network.tensors[name].dtype == result.numpy().dtype
        gap = max(gap, float(np.abs(computed - result.double().numpy()).max(initial=0.0)))
    return gap
