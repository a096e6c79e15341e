"""Gradients of pre-activations with respect to the inputs, one row per sample: what projected gradient ascent follows.

``A`` holds one covector per sample, ``(samples, *sample shape of the output)``; each rule pulls it back through one op.
These are search directions only; nothing rigorous depends on them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import singledispatch

import numpy as np

from reluce.bounds import affine_form
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Op,
    Relu,
    Select,
    Softmax,
    scatter,
)


def gradient(
    network: Network,
    values: Mapping[str, Array],
    tensor: str,
    covectors: Array,
    slopes: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Gradient of ``sum(covectors * tensor)`` per sample, for each graph input it depends on.

    Parameters
    ----------
    network
        The network.
    values
        Its tensors at the samples, as ``evaluate`` returns them.
    tensor
        The tensor to differentiate.
    covectors
        ``(samples, *sample shape)`` of that tensor.
    slopes
        Derivatives to use for ReLUs, by their outputs.
    """
    return pull_back(network, values, {tensor: covectors}, network.inputs, slopes)


def pull_back(
    network: Network,
    values: Mapping[str, Array],
    covectors: Mapping[str, Array],
    to: Collection[str],
    slopes: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """Pull covectors of several tensors back together, as far as the tensors ``to``; ``gradient`` says what is what."""
    pending = dict(covectors)
    for node in reversed(network.nodes):
        if len(node.outputs) != 1 or node.output in to or node.output not in pending:
            continue
        A = pending.pop(node.output)
        inputs = [values[name] for name in node.inputs]
        given = None if slopes is None else slopes.get(node.output)
        parts = _pull_back(node.op, A, inputs, values[node.output]) if given is None else [A * given]
        for name, part in zip(node.inputs, parts, strict=True):
            pending[name] = pending[name] + part if name in pending else part
    return {name: pending[name] for name in to if name in pending}


@singledispatch
def _pull_back(op: Op, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    raise NotImplementedError(f"no gradient for {type(op).__name__}")


@_pull_back.register
def _(op: Dense, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    product = A @ op.weight.astype(A.dtype)
    return [product if op.alpha == 1.0 else op.alpha * product]


@_pull_back.register(Affine)
@_pull_back.register(BatchNorm)
def _(op: Affine | BatchNorm, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    return [A * affine_form(op, A.shape[1:]).scale.astype(A.dtype)]


@_pull_back.register
def _(op: Relu, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    return [A * (output > 0)]


@_pull_back.register
def _(op: Activation, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    match op.function:
        case "Sigmoid":
            return [A * output * (1 - output)]
        case "Tanh":
            return [A * (1 - output**2)]
    return [A]


@_pull_back.register
def _(op: Softmax, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    axis = op.axis if op.axis < 0 else op.axis + 1
    if op.log:
        return [A - np.exp(output) * A.sum(axis=axis, keepdims=True)]
    return [output * (A - (A * output).sum(axis=axis, keepdims=True))]


@_pull_back.register
def _(op: Add, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    return [A, A]


@_pull_back.register
def _(op: Select, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    sizes = [x[0].size for x in inputs]
    gathered = scatter(A.reshape(len(A), -1), op.indices, sum(sizes))
    parts = np.split(gathered, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(x.shape) for part, x in zip(parts, inputs, strict=True)]


@_pull_back.register
def _(op: Constant, A: Array, inputs: list[Array], output: Array) -> list[Array]:
    return [np.zeros_like(x) for x in inputs]
