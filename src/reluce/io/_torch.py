"""PyTorch modules: read through ``torch.export``, rebuilt from submodules of ``torch.nn``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from reluce.io._kinds import hand_over, measure, rebuild, runtime
from reluce.io._loaded import Loaded, Run, Runtime, Sizes
from reluce.io._measure import dense_macs
from reluce.io._torch_program import Program, operation
from reluce.io._torch_read import Read, read_program
from reluce.io._torch_trace import trace
from reluce.io._torch_write import Origin, to_module
from reluce.io._verbatim import untouched
from reluce.network import Array, Network


@dataclass(frozen=True, eq=False, kw_only=True)
class TorchLoaded(Loaded):
    """A PyTorch module as read.

    Parameters
    ----------
    program
        The module (a copy in eval mode) and its trace.
    read
        What that was read as; ``network`` is the same but for the names of its outputs.
    device
        Where the parameters of the module lie.
    """

    program: Program
    read: Read
    device: torch.device


def read_module(module: nn.Module, example_inputs: Any, batched: bool = True) -> TorchLoaded:
    """Read a module; see ``trace`` for arguments and errors."""
    program = trace(module, example_inputs, batched)
    read = read_program(program)
    first = next(iter((*module.parameters(), *module.buffers())), None)
    device = torch.device("cpu") if first is None else first.device
    name = type(module).__name__
    notes = (*read.notes, *_fixed_shapes(read.network))
    return TorchLoaded(network=read.network, notes=notes, name=name, program=program, read=read, device=device)


def _fixed_shapes(network: Network) -> list[str]:
    if network.batched:
        return []
    shapes = ", ".join(f"{name} {list(network.shape(name))}" for name in network.inputs)
    return [f"what is proved holds for inputs of the shapes of the examples only: {shapes}"]


@rebuild.register
def _rebuild(loaded: TorchLoaded, network: Network, metadata: Mapping[str, str]) -> Loaded:
    if untouched(loaded.network, network):
        return loaded
    module = to_module(network, Origin(loaded.program, loaded.read))
    again = read_module(module, loaded.program.examples, loaded.network.batched)
    renamed = _renamed(again.network, dict(zip(again.network.outputs, loaded.network.outputs, strict=True)))
    return replace(again, network=renamed, name=loaded.name, device=loaded.device)


def _renamed(network: Network, names: Mapping[str, str]) -> Network:
    """The network with other names for its outputs, and for tensors that have these names already."""
    taken = set(network.tensors) | set(names.values())
    for clash in set(names.values()) & (set(network.tensors) - set(names)):
        name = f"{clash}_inner"
        while name in taken:
            name += "_"
        names = {**names, clash: name}
        taken.add(name)

    def new(name: str) -> str:
        return names.get(name, name)

    nodes = tuple(
        replace(node, inputs=tuple(map(new, node.inputs)), outputs=tuple(map(new, node.outputs)))
        for node in network.nodes
    )
    tensors = {new(name): replace(tensor, name=new(name)) for name, tensor in network.tensors.items()}
    return replace(network, outputs=tuple(map(new, network.outputs)), nodes=nodes, tensors=tensors)


@measure.register
def _measure(loaded: TorchLoaded) -> Sizes:
    program = loaded.program
    tensors = [entry.tensor for node, entry in program.stored.items() if node.users]
    used = {(tensor.data_ptr(), tensor.shape): tensor for tensor in tensors}  # tied ones once
    floats = [tensor for tensor in used.values() if tensor.is_floating_point()]
    parameters = sum(tensor.numel() for tensor in floats)
    nonzeros = sum(int(tensor.count_nonzero()) for tensor in floats)
    size = sum(tensor.numel() * tensor.element_size() for tensor in used.values())
    return Sizes(parameters, nonzeros, dense_macs(loaded.network) + _convolutions(program), size)


def _convolutions(program: Program) -> int:
    """Multiply-adds of the convolutions for one sample."""
    total = 0
    for node in program.calls:
        if "conv" in operation(node) and isinstance(node.meta.get("val"), torch.Tensor):
            shape, weight = node.meta["val"].shape, node.all_input_nodes[1].meta["val"].shape
            total += prod(int(size) for size in shape[bool(program.batch) :]) * prod(map(int, weight[1:]))
    return total


@runtime.register
def _runtime(loaded: TorchLoaded) -> Runtime:
    return Runtime("torch", lambda: _started(loaded))


def _started(loaded: TorchLoaded) -> Run:
    tensors = [value for value in loaded.program.outputs if value in loaded.read.names]
    names = dict(zip(loaded.read.network.outputs, loaded.network.outputs, strict=True))

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        found = loaded.program.run([torch.from_numpy(feed[name].copy()) for name in loaded.network.inputs])
        named = zip((names[loaded.read.names[value]] for value in tensors), found, strict=True)
        return {name: value.numpy() for name, value in named}

    return run


@hand_over.register
def _hand_over(loaded: TorchLoaded) -> Any:
    return loaded.program.module.to(loaded.device)
