"""What is known while a file is read, and what rules work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from reluce_checker._graph import Array, Node, Op, Select, Shape
from reluce_checker._read_call import Call, NotModelled, Value, bounded

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Made:
    """A node that a rule wants; its output has this shape and, where a format is given, that."""

    op: Op
    inputs: tuple[str, ...]
    output: str
    shape: Shape
    format: str = ""


@dataclass(eq=False)
class Scope:
    """All that is known of the tensors so far, and the nodes made of the file's."""

    opset: int
    batched: bool
    taken: set[str]
    readers: Mapping[str, int]
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    products: dict[str, int] = field(default_factory=dict)  # output of a MatMul that is one Dense -> place in nodes

    def fresh(self, base: str) -> str:
        """A name that nothing else bears."""
        name, count = base, 0
        while name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        return name

    def add(self, made: Made) -> None:
        """Append a node."""
        self.values[made.output] = Value(made.format or self.values[made.inputs[0]].format, made.shape)
        self.nodes.append(Node(made.op, made.inputs, (made.output,)))

    def variable(self, name: str) -> Shape:
        """Shape of a float tensor that is no constant."""
        value = self.values.get(name)
        if value is None or value.fixed or value.format not in FLOATS or value.shape is None:
            raise NotModelled("a constant, not a float tensor, or of unknown shape")
        return bounded(value.shape)

    def weights(self, name: str, like: str) -> Array:
        """A finite constant of the element type of another tensor."""
        value = self.values.get(name)
        if value is None or value.constant is None or value.format != self.values[like].format:
            raise NotModelled("no constant of the same format")
        if not np.isfinite(value.constant).all():
            raise NotModelled("not finite")
        return value.constant

    def fixed(self, name: str) -> bool:
        """Whether a tensor is a constant."""
        return name in self.values and self.values[name].fixed


def operands(call: Call, count: int, most: int = 0) -> None:
    """Demand a number of operands, the first ``count`` of which are there."""
    if not count <= len(call.inputs) <= max(count, most) or not all(call.inputs[:count]):
        raise NotModelled("other operands than the standard has")


def select(indices: Array, inputs: tuple[str, ...], output: str, form: str = "") -> Made:
    """A Select, from the indices in the shape of its output."""
    return Made(Select(indices.reshape(-1)), inputs, output, indices.shape, form)


def expanded(shape: Shape, target: Shape, source: str, output: str) -> Made:
    """A tensor repeated to another shape by numpy's rules."""
    return select(np.broadcast_to(np.arange(prod(shape)).reshape(shape), bounded(target)), (source,), output)
