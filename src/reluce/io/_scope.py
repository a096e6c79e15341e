"""What is known of each tensor while a model is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, prod

import numpy as np
from onnx import NodeProto

from reluce.errors import ModelError
from reluce.io._limits import TENSOR
from reluce.io._names import Names
from reluce.io._proto import FLOATS, PLAIN
from reluce.network import Array, Op

BATCH = -1  # the length of the batch axis in Value.dims
TRIALS = (1, 2, 3)  # batch sizes at which whatever depends on the batch is tried


class NotModelled(Exception):
    """Says why a node becomes opaque."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the file.

    Parameters
    ----------
    elem
        ONNX element type, 0 where it is not known.
    dims
        All axes, ``BATCH`` for one as long as the batch, ``None`` for an unknown length; ``None`` where not even the
        rank is known.
    constant
        Its value where that depends on no input: one array, or one for each of ``TRIALS`` where the size of the batch
        matters (a computed target shape, for example).
    fixed
        True for a constant, also where its value is not known (a sparse or a quantised initialiser).
    channels
        Sample axis of the channels behind a convolution, else ``None``.
    """

    elem: int
    dims: tuple[int | None, ...] | None
    constant: tuple[Array, ...] | None = None
    fixed: bool = False
    channels: int | None = None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy type of the elements (``void`` where numpy has none)."""
        return np.dtype(PLAIN.get(self.elem, np.void))


@dataclass(frozen=True, eq=False)
class Made:
    """An IR node that a rule wants; ``elem`` 0 stands for the element type of the first input."""

    op: Op
    inputs: tuple[str, ...]
    output: str
    shape: tuple[int, ...]
    elem: int = 0


class Scope:
    """All tensors known so far; grows as the reader walks the nodes."""

    def __init__(
        self, opset: int, imports: Mapping[str, int], batched: bool, taken: Iterable[str], budget: float = inf
    ) -> None:
        self.opset = opset
        self.imports = imports
        self.batched = batched
        self.values: dict[str, Value] = {}
        self.inputs: list[str] = []
        self.turned: dict[int, tuple[Array, Array]] = {}  # weights and their transposes, by the weights' ids
        self.wanted: frozenset[str] = frozenset()  # tensors that something reads, graph outputs included
        self.asked = self.lost = 0  # questions to the standard's implementation, and those that it did not survive
        self.fresh = Names(taken).fresh  # a name that nothing else bears
        self._budget = budget  # numbers that may still be made up

    def charge(self, numbers: int) -> None:
        """Announce that index tensors or constants of so many elements are going to be made up.

        Raises
        ------
        NotModelled
            When there have been too many.
        """
        self._budget -= numbers
        if self._budget < 0:
            raise NotModelled("too many indices or computed constants to follow")

    def dims(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """All axes of a tensor of the given sample shape."""
        return (BATCH, *shape) if self.batched else shape

    def sample(self, name: str) -> tuple[int, ...] | None:
        """Sample shape of a tensor, ``None`` where it is not known or does not carry the batch."""
        return sample_shape(self.values[name].dims, self.batched)

    def at(self, name: str, trial: int) -> Array:
        """A constant at a trial batch size."""
        constant = self.values[name].constant
        if constant is None:
            raise NotModelled(f"{name!r} is not a constant")
        return constant[trial if len(constant) > 1 else 0]

    def constant(self, name: str) -> Array | None:
        """A constant for every size of the batch; one that only repeats along the batch comes with one row."""
        constant = self.values[name].constant
        if constant is None:
            return None
        if len(constant) == 1:
            return constant[0]
        rows = [array[:1] for array in constant if array.ndim]
        if len(rows) < len(TRIALS) or any(len(a) != size for a, size in zip(constant, TRIALS, strict=True)):
            return None
        same = all(np.array_equal(array, np.broadcast_to(rows[0], array.shape)) for array in constant)
        return rows[0] if same else None

    def variable(self, name: str) -> tuple[int, ...]:
        """Sample shape of a float tensor that an operation may be modelled on.

        Raises
        ------
        NotModelled
            When it is a constant, no float16, float32 or float64, or its shape is not known.
        """
        if name not in self.values:
            raise NotModelled("an input is missing")
        value = self.values[name]
        if value.fixed:
            raise NotModelled(f"{name!r} is a constant")
        if value.elem not in FLOATS:
            raise NotModelled(f"{name!r} is not float16, float32 or float64")
        shape = self.sample(name)
        if shape is None:
            raise NotModelled(f"the shape of {name!r} is not known")
        if prod(shape) > TENSOR:
            raise NotModelled(f"{name!r} is too large to follow")
        return shape

    def weights(self, name: str, like: str) -> Array:
        """A finite float constant of the element type of the tensor ``like``."""
        array = self.constant(name)
        if array is None:
            raise NotModelled(f"{name!r} is not a constant")
        if array.dtype != self.values[like].dtype:
            raise NotModelled(f"{name!r} is {array.dtype.name}, {like!r} is {self.values[like].dtype.name}")
        if not np.isfinite(array).all():
            raise NotModelled(f"{name!r} is not finite")
        return array

    def batch_source(self) -> str:
        """The first graph input that carries the batch."""
        return next(name for name in self.inputs if (self.values[name].dims or (None,))[0] == BATCH)

    def is_fixed(self, name: str) -> bool:
        """True for a constant."""
        return name in self.values and self.values[name].fixed


def sample_shape(dims: tuple[int | None, ...] | None, batched: bool) -> tuple[int, ...] | None:
    """The sample shape that belongs to all axes of a tensor, ``None`` where there is none."""
    if dims is None or (batched and (not dims or dims[0] != BATCH)):
        return None
    rest = dims[1:] if batched else dims
    known = tuple(dim for dim in rest if dim is not None and dim >= 0)
    return known if len(known) == len(rest) else None


def operand(node: NodeProto, index: int) -> str:
    """Name of an input, empty where it is left out."""
    return node.input[index] if index < len(node.input) else ""


def mismatch(node: NodeProto, tensor: str, message: str) -> ModelError:
    """The error for sizes that cannot go together."""
    return ModelError(f"node {node.name or node.output[0]!r} ({node.op_type}), tensor {tensor!r}: {message}")
