"""What the checker knows of a network: a list of nodes in topological order over named tensors.

Shapes are those of one sample: a batch axis of free length counts as 1. Numbers are kept as the file stores them and
stand for the exact rationals that they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Dense:
    """``y[..., o] = alpha * sum_i weight[o, i] x[..., i] + beta * bias[o]``; ``weight`` is ``(out, in)``."""

    weight: Array
    bias: Array | None = None
    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class Scale:
    """``y = x * factor + shift``, or ``x / factor + shift`` when ``divide``; full shape of ``y``, None for none."""

    factor: Array | None = None
    shift: Array | None = None
    divide: bool = False


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + shift``, all of the full shape of ``y``."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float


@dataclass(frozen=True)
class Relu:
    """``y = max(0, x)``."""


@dataclass(frozen=True)
class Monotone:
    """A non-decreasing elementwise function, by its ONNX name and attributes: known range, known Lipschitz bound."""

    function: str
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True)
class Softmax:
    """Softmax along ``axis`` (of the sample's shape, not negative), or its logarithm."""

    axis: int
    log: bool = False


@dataclass(frozen=True)
class Add:
    """The sum of two tensors of one shape."""


@dataclass(frozen=True, eq=False)
class Select:
    """Data movement: ``y.flat[k] = concatenate([x.flat for x in inputs])[indices[k]]``."""

    indices: Array


@dataclass(frozen=True, eq=False)
class Constant:
    """``y = value`` whatever the input."""

    value: Array


@dataclass(frozen=True)
class Opaque:
    """Anything else. Two of them compute the same if their ``signature`` is equal and so are their inputs.

    The signature holds the operator, its attributes (subgraphs included) and the contents of its constant inputs, and
    which inputs are left out; names do not count.
    """

    kind: str
    signature: bytes


Op = Dense | Scale | BatchNorm | Relu | Monotone | Softmax | Add | Select | Constant | Opaque


@dataclass(frozen=True, eq=False)
class Node:
    """One operation with the tensors that it reads and writes."""

    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network. ``shapes`` has None where a shape is not known; ``formats`` names each tensor's element type."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape | None]
    formats: Mapping[str, str]

    @cached_property
    def producer(self) -> Mapping[str, Node]:
        """The node that writes each tensor; graph inputs have none."""
        return {name: node for node in self.nodes for name in node.outputs}

    def size(self, name: str) -> int:
        """Number of coordinates of a tensor; 0 where its shape is not known."""
        shape = self.shapes[name]
        return 0 if shape is None else int(np.prod(shape, dtype=np.int64))


def objects(values: list[Any]) -> Array:
    """A flat array of Python objects."""
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result
