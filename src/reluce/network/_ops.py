"""The operations that Reluce models: frozen data, no behaviour.

Every meaning of an op (evaluate, interval, linear bound, ONNX, ...) is a ``singledispatch`` function in the room that
owns that meaning. Shapes are *sample* shapes: the batch axis, where a network has one, is never part of them.
Parameters are kept in the dtype that the model stores and stand for the exact rational numbers that they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Op:
    """Base of all operations."""


@dataclass(frozen=True, eq=False)
class Dense(Op):
    """``y[..., o] = alpha * sum_i weight[o, i] * x[..., i] + beta * bias[o]``.

    ``weight`` is ``(out, in)``, ``bias`` is ``(out,)`` or ``None``. ``alpha`` and ``beta`` are Gemm's, kept because
    their products with the weights need not be representable.
    """

    weight: Array
    bias: Array | None = None
    alpha: float = 1.0
    beta: float = 1.0


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """``y = x * scale + shift``, or ``x / scale + shift`` when ``divide``; both have the full sample shape of ``x``."""

    scale: Array | None = None
    shift: Array | None = None
    divide: bool = False


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """``y = (x - mean) / sqrt(variance + epsilon) * scale + shift``, all arrays of the full sample shape of ``x``."""

    scale: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float


@dataclass(frozen=True, eq=False)
class Relu(Op):
    """``y = max(0, x)``. The units lie along ``axis`` of the sample shape; the other axes are positions of a unit."""

    axis: int = -1


@dataclass(frozen=True, eq=False)
class Activation(Op):
    """A non-decreasing elementwise function with known bounds on its range and slope.

    ``function`` is the ONNX operator name; ``parameters`` are its attributes in the order of ``ACTIVATIONS``.
    """

    function: str
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Softmax(Op):
    """Softmax along ``axis`` of the sample shape, or its logarithm."""

    axis: int = -1
    log: bool = False


@dataclass(frozen=True, eq=False)
class Add(Op):
    """The sum of two tensors of the same sample shape."""


@dataclass(frozen=True, eq=False)
class Select(Op):
    """Data movement: ``y.flat[k] = concatenate([x.flat for x in inputs])[indices[k]]``.

    Reshape, Transpose, Slice, Gather, Split, Concat and their kin are all this one op. ``indices`` is flat int64,
    ``shape`` is the sample shape of ``y``.
    """

    indices: Array
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """``y = value`` whatever the input. Its one input, where there is one, only supplies the size of the batch."""

    value: Array


@dataclass(frozen=True, eq=False)
class Opaque(Op):
    """An operation that Reluce does not model; ``kind`` is its ONNX operator name, ``why`` says what stood in the way.

    Its inputs are every tensor that it reads, those captured by subgraphs included. Nothing is known of its outputs.
    """

    kind: str
    why: str = ""


def readonly(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Array:
    """Return ``array`` as a read-only numpy array (a copy only where one is needed)."""
    result = np.array(array, dtype=dtype) if dtype is not None else np.array(array)
    result.setflags(write=False)
    return result
