"""What a network computes, in float arithmetic, for a batch of samples.

One rule per op; arrays are ``(samples, *sample shape)``. Nothing is known behind an opaque node: tensors that depend on
one are simply absent from the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch

import numpy as np
from scipy.special import expit, log_softmax, softmax

from reluce.network._graph import Network
from reluce.network._ops import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
)

MOST_NUMBERS = 1 << 25
"""Numbers that all tensors of a batch may hold together (256 MB in float64)."""


def at_once(network: Network, most: int) -> int:
    """How many samples to evaluate at once: at most ``most``, fewer where a sample is large."""
    return max(1, min(most, MOST_NUMBERS // max(1, network.size)))


def evaluate(
    network: Network,
    points: Mapping[str, Array],
    until: str | None = None,
    relu: Callable[[str, Array], Array] | None = None,
) -> dict[str, Array]:
    """Evaluate a network in the float format of ``points``.

    Parameters
    ----------
    network
        The network.
    points
        For each graph input an array ``(samples, *sample shape)``.
    until
        Stop once this tensor is known; evaluate everything by default.
    relu
        Stands in for every ReLU: from the name of its output and its pre-activation to its output.

    Returns
    -------
    dict
        Every tensor that can be computed, ``(samples, *sample shape)`` each.
    """
    values = dict(points)
    needed = None if until is None else network.ancestors([until])
    first = next(iter(points.values()))
    for node in network.nodes:
        if isinstance(node.op, Opaque) or any(name not in values for name in node.inputs):
            continue
        if needed is not None and node.output not in needed:
            continue
        inputs = [values[name] for name in node.inputs]
        if relu is not None and isinstance(node.op, Relu):
            values[node.output] = relu(node.output, inputs[0])
            continue
        result = apply(node.op, inputs)
        if isinstance(node.op, Constant):  # it reads nothing, so the points tell it how many samples, and their format
            result = np.broadcast_to(result.astype(first.dtype), (len(first), *result.shape[1:]))
        values[node.output] = result
    return values


@singledispatch
def apply(op: Op, inputs: list[Array]) -> Array:
    """One operation on a batch: ``(samples, *sample shape)`` in and out."""
    raise NotImplementedError(f"no float evaluation for {type(op).__name__}")


@apply.register
def _(op: Dense, inputs: list[Array]) -> Array:
    (x,) = inputs
    product: Array = x @ op.weight.astype(x.dtype).T
    if op.alpha != 1.0:
        product *= op.alpha
    if op.bias is not None:
        product += op.bias.astype(x.dtype) if op.beta == 1.0 else op.beta * op.bias.astype(x.dtype)
    return product


@apply.register
def _(op: Affine, inputs: list[Array]) -> Array:
    (x,) = inputs
    if op.scale is not None:
        scale = op.scale.astype(x.dtype)
        x = x / scale if op.divide else x * scale
    return x if op.shift is None else x + op.shift.astype(x.dtype)


@apply.register
def _(op: BatchNorm, inputs: list[Array]) -> Array:
    (x,) = inputs
    deviation = np.sqrt(op.variance.astype(np.float64) + op.epsilon).astype(x.dtype)
    centred = (x - op.mean.astype(x.dtype)) / deviation
    return np.asarray(centred * op.scale.astype(x.dtype) + op.shift.astype(x.dtype))


@apply.register
def _(op: Relu, inputs: list[Array]) -> Array:
    return np.maximum(inputs[0], 0)


@apply.register
def _(op: Activation, inputs: list[Array]) -> Array:
    return activation(op, inputs[0])


@apply.register
def _(op: Softmax, inputs: list[Array]) -> Array:
    axis = op.axis if op.axis < 0 else op.axis + 1
    return np.asarray(log_softmax(inputs[0], axis=axis) if op.log else softmax(inputs[0], axis=axis))


@apply.register
def _(op: Add, inputs: list[Array]) -> Array:
    return np.asarray(inputs[0] + inputs[1])


@apply.register
def _(op: Select, inputs: list[Array]) -> Array:
    samples = len(inputs[0])
    flat = [x.reshape(samples, -1) for x in inputs]
    joined = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)
    return joined[:, op.indices].reshape(samples, *op.shape)


@apply.register
def _(op: Constant, inputs: list[Array]) -> Array:
    return np.asarray(op.value[None])


def scatter(rows: Array, indices: Array, size: int) -> Array:
    """The transpose of ``x[:, indices]`` for ``x`` of ``size`` columns: entries of a column read twice add up."""
    result = np.zeros((len(rows), size), dtype=rows.dtype)
    if len(np.unique(indices)) == len(indices):
        result[:, indices] = rows
    else:
        np.add.at(result.T, indices, rows.T)
    return result


def activation(op: Activation, x: Array) -> Array:
    """The elementwise function of an ``Activation``, on an array of any shape."""
    match op.function, op.parameters:
        case "Sigmoid", ():
            return np.asarray(expit(x))
        case "Tanh", ():
            return np.tanh(x)
        case "LeakyRelu", (alpha,):
            return np.where(x < 0, alpha * x, x)
        case "Clip", (low, high):
            return np.clip(x, low, high)
        case "HardSigmoid", (alpha, beta):
            return np.clip(alpha * x + beta, 0, 1)
        case "Elu", (alpha,):
            return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)
        case "Softplus", ():
            return np.logaddexp(x, 0)
        case "Selu", (alpha, gamma):
            return gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)
    raise NotImplementedError(f"no rule for activation {op.function} with parameters {op.parameters}")
