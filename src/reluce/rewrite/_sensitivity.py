"""How much an error at each coordinate can move the outputs: products of absolute weights, back to front.

    G_out = I,   G_h = G_z |W|,   ReLU: G_z = G_h

An error of at most e_j at coordinate j moves output i by at most G[i, j] e_j, and such bounds add over coordinates.
Used to order candidates by cost; what is finally claimed comes from ``_relation``. Source: METHODS 4.C.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from reluce.bounds import affine_form, dense_form, lipschitz
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Node,
    Op,
    Relu,
    Select,
    Softmax,
    scatter,
)

MOST_ROWS = 512
"""Above this many output coordinates one row that bounds their sum stands for all."""


def output_rows(network: Network) -> int:
    """One row for each output coordinate, or one in all where they are too many or their shapes are not known."""
    total = sum(network.tensors[name].size for name in network.outputs)
    return total if 0 < total <= MOST_ROWS else 1


def sensitivity(network: Network) -> dict[str, Array]:
    """For each tensor non-negative ``(outputs, size)``: the factor from an error there to each output coordinate.

    Infinite where a path to an output crosses an operation without a Lipschitz bound.
    """
    rows, total = output_rows(network), sum(network.tensors[name].size for name in network.outputs)
    found = {name: np.zeros((rows, tensor.size)) for name, tensor in network.tensors.items()}
    start = 0
    for name in network.outputs:
        size = network.tensors[name].size
        if rows == total:
            found[name][np.arange(start, start + size), np.arange(size)] += 1.0
        else:
            found[name] += 1.0
        start += size
    with np.errstate(invalid="ignore", over="ignore"):
        for node in reversed(network.nodes):
            for name, part in zip(node.inputs, _pull(node.op, node, network, found), strict=True):
                found[name] = found[name] + np.where(np.isnan(part), np.inf, part)
    return found


@singledispatch
def _pull(op: Op, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    """Sensitivity of each input; by default infinite."""
    return [np.full_like(found[name], np.inf) for name in node.inputs]


@_pull.register
def _(op: Dense, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    G = found[node.output]
    weight = np.abs(dense_form(op).weight)
    shaped = G.reshape(len(G), -1, len(weight))
    return [(shaped @ weight).reshape(len(G), -1)]


@_pull.register(Affine)
@_pull.register(BatchNorm)
def _(op: Affine | BatchNorm, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    return [found[node.output] * np.abs(affine_form(op, network.shape(node.output)).scale).ravel()]


@_pull.register
def _(op: Relu, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    return [found[node.output]]


@_pull.register
def _(op: Activation, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    return [found[node.output] * lipschitz(op)]


@_pull.register
def _(op: Softmax, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    shape = network.shape(node.output)
    G = found[node.output].reshape(-1, *shape)
    if op.log:  # |d log p_i / dx_j| <= 1 + [i = j]
        return [(G + G.sum(axis=op.axis, keepdims=True)).reshape(len(G), -1)]
    # |dp_i / dx_j| <= 1/4 for every pair along the axis.
    return [np.broadcast_to(0.25 * G.sum(axis=op.axis, keepdims=True), G.shape).reshape(len(G), -1)]


@_pull.register
def _(op: Add, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    return [found[node.output], found[node.output]]


@_pull.register
def _(op: Select, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    G = found[node.output]
    sizes = [network.tensors[name].size for name in node.inputs]
    return np.split(scatter(G, op.indices, sum(sizes)), np.cumsum(sizes)[:-1], axis=1)


@_pull.register
def _(op: Constant, node: Node, network: Network, found: dict[str, Array]) -> list[Array]:
    return [np.zeros_like(found[name]) for name in node.inputs]
