"""The network: an immutable DAG of operations in topological order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from math import prod

import numpy as np

from reluce.errors import ModelError
from reluce.network._ops import Array, Op, Opaque, Relu


@dataclass(frozen=True)
class Tensor:
    """A value that flows through the network.

    ``shape`` is the sample shape (without the batch axis), ``None`` where it is not known; ``dtype`` is the element
    type that the model declares.
    """

    name: str
    shape: tuple[int, ...] | None
    dtype: np.dtype[np.generic] = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def size(self) -> int:
        """Number of coordinates of one sample; 0 where the shape is not known."""
        return 0 if self.shape is None else prod(self.shape)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation with the names of the tensors that it reads and writes."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def output(self) -> str:
        """The single output of a modelled operation."""
        return self.outputs[0]


@dataclass(frozen=True, eq=False)
class Network:
    """An immutable DAG.

    Parameters
    ----------
    inputs, outputs
        Names of the tensors that come in and go out, in the model's order.
    nodes
        In topological order; every tensor is written once.
    tensors
        All tensors by name.
    batched
        True when axis 0 of the model's inputs is a batch axis of free length, which sample shapes leave out.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    batched: bool = True

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by their names."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def producer(self) -> Mapping[str, Node]:
        """The node that writes each tensor (graph inputs have none)."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, each once."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    @cached_property
    def relus(self) -> tuple[Node, ...]:
        """The ReLU nodes, in topological order."""
        return tuple(node for node in self.nodes if isinstance(node.op, Relu))

    @property
    def opaque(self) -> tuple[Node, ...]:
        """The nodes that Reluce does not model."""
        return tuple(node for node in self.nodes if isinstance(node.op, Opaque))

    def shape(self, name: str) -> tuple[int, ...]:
        """Sample shape of a tensor.

        Raises
        ------
        ModelError
            When the shape is not known.
        """
        shape = self.tensors[name].shape
        if shape is None:
            raise ModelError(f"the shape of tensor {name!r} is not known")
        return shape

    @cached_property
    def size(self) -> int:
        """Numbers in one sample of all tensors together."""
        return sum(tensor.size for tensor in self.tensors.values())

    def entries(self, name: str) -> int:
        """How many numbers tell something of each coordinate of a tensor; one in all where its shape is not known."""
        tensor = self.tensors[name]
        return 1 if tensor.shape is None else tensor.size

    def ancestors(self, names: Iterable[str]) -> frozenset[str]:
        """All tensors that the given ones depend on, themselves included."""
        wanted = set(names)
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                wanted.update(node.inputs)
        return frozenset(wanted)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over structure and parameters; equal digests mean the same network."""
        state = hashlib.sha256()
        for part in _canonical(self):
            state.update(part)
        return state.hexdigest()


def validate(network: Network) -> Network:
    """Return ``network`` after checking that it is a DAG in topological order with every tensor written once.

    Raises
    ------
    ModelError
        Naming the node and tensor at fault.
    """
    known = set(network.inputs)
    for node in network.nodes:
        for name in node.inputs:
            if name not in known:
                raise ModelError(f"node {node.name!r} reads tensor {name!r}, which nothing before it writes")
        for name in node.outputs:
            if name in known:
                raise ModelError(f"tensor {name!r} is written twice (again by node {node.name!r})")
            known.add(name)
    for name in network.outputs:
        if name not in known:
            raise ModelError(f"graph output {name!r} is written by no node")
    return network


def _canonical(network: Network) -> Iterator[bytes]:
    yield repr((network.inputs, network.outputs, network.batched)).encode()
    for node in network.nodes:
        yield repr((type(node.op).__name__, node.name, node.inputs, node.outputs)).encode()
        for entry in fields(node.op):
            value = getattr(node.op, entry.name)
            if isinstance(value, np.ndarray):
                yield repr((entry.name, value.dtype.str, value.shape)).encode()
                yield np.ascontiguousarray(value).tobytes()
            else:
                yield repr((entry.name, value)).encode()


__all__ = ["Array", "Network", "Node", "Tensor", "validate"]
