"""The ONNX nodes and initialisers of the new file while they are collected."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from reluce.io._loaded import OnnxLoaded
from reluce.io._names import Names
from reluce.io._proto import all_names, attributes, decode, encode, opset, reads
from reluce.network import Array, Network, Node


class Writer:
    """Grows while nodes are written; remembers which names are spoken for."""

    def __init__(self, loaded: OnnxLoaded, network: Network, model: ModelProto) -> None:
        self.loaded = loaded
        self.network = network
        self.model = model
        self.opset = opset(model)
        self._originals: dict[int, NodeProto] = {}  # those that stay, by their place in the file
        self._new: list[tuple[int, NodeProto]] = []  # (place in the original file, node)
        self.kept: set[str] = set()  # outputs of original nodes
        self.claimed: dict[str, TensorProto] = {}  # new initialisers by name
        self._read = {info.name for info in model.graph.output}  # and the names that original nodes read
        self._node_names: set[str] = set()
        self.fresh = Names((*all_names(model.graph), *network.tensors)).fresh  # a name that nothing else bears
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        computing = (index for group in loaded.groups if not group.made for index in group.nodes)
        self._computed = {name for index in computing for name in model.graph.node[index].output}
        self._origins: tuple[NodeProto, ...] = ()
        self._place = 0

    @property
    def written(self) -> tuple[tuple[int, NodeProto], ...]:
        """The nodes of the new file, each with the place in the original file where it belongs."""
        return *self._originals.items(), *self._new

    def keep(self, index: int) -> None:
        """Write an original node as it was."""
        node = self.model.graph.node[index]
        self._originals[index] = node
        self.kept.update(node.output)
        self._node_names.update([node.name] if node.name else [])
        self._read.update(reads(node))

    def discard(self, index: int) -> None:
        """Take back an original node, which is going to be written in another form."""
        node = self.model.graph.node[index]
        del self._originals[index]
        self.kept.difference_update(node.output)
        self._place = index

    def start(self, origins: tuple[int, ...]) -> None:
        """Begin the nodes that replace the original ones of the given indices (none for a new node)."""
        self._origins = tuple(self.model.graph.node[index] for index in origins)
        self._place = min(origins, default=self._place)

    def origin(self, *kinds: str) -> NodeProto | None:
        """The original node of one of the given operators, if there is one."""
        return next((node for node in self._origins if node.op_type in kinds), None)

    def origin_of(self, node: Node) -> NodeProto | None:
        """The original node that wrote a tensor of the given IR node, if it is among those being replaced."""
        return next((old for old in self._origins if node.output in old.output), None)

    def is_constant(self, name: str) -> bool:
        """Whether the original file stores or computes a tensor as a constant."""
        return name in self._stored or name in self._computed

    def rank(self, tensor: str) -> int:
        """Number of axes of a tensor, the batch included."""
        return len(self.network.shape(tensor)) + self.network.batched

    def node(self, kind: str, inputs: list[str], output: str, name: str = "", **flags: Any) -> str:
        """Write a node and return the name of its output."""
        name = self.fresh(name) if name in self._node_names else name
        self._node_names.update([name] if name else [])
        self._new.append((self._place, helper.make_node(kind, inputs, [output], name=name, **flags)))
        return output

    def step(self, kind: str, inputs: list[str], base: str, **flags: Any) -> str:
        """Write a node that leads up to another one; returns the name of its output, which is a new one."""
        return self.node(kind, inputs, self.fresh(base), **flags)

    def store(self, name: str, array: Array) -> None:
        """Make a name of the original file an initialiser."""
        self.claimed[name] = encode(array, name)

    def constant(self, array: Array, base: str, original: str = "") -> str:
        """Name of an initialiser of the given value: the original one where it may be used or replaced."""
        array = np.asarray(array)
        if original and self.is_constant(original):
            known = self.claimed.get(original) or self._stored.get(original)
            if known is not None and _equal(decode(known), array):
                self._read.add(original)
                return original
            if original not in self._read and original not in self.claimed:
                self.claimed[original] = encode(array, original)
                return original
        name = self.fresh(base)
        self.claimed[name] = encode(array, name)
        return name

    def integers(self, values: Any, base: str) -> str:
        """Name of a new initialiser of 64-bit integers (a shape, indices)."""
        return self.constant(np.asarray(values, np.int64), base)


def _equal(stored: Array | None, array: Array) -> bool:
    """The same bits: +0 and -0 are not the same here."""
    if stored is None or stored.dtype != array.dtype or stored.shape != array.shape:
        return False
    return stored.tobytes() == np.ascontiguousarray(array).tobytes()


def flag(node: NodeProto | None, name: str, default: int) -> int:
    """An integer attribute of a node, if there is a node."""
    return default if node is None else int(attributes(node).get(name, default))
