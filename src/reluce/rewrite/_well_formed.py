"""Whether a rewritten network and its map can be compared with the original at all: same interface, sound shapes.

The relation reads weights and maps as they come. What it takes for granted about their form is checked here, so that
a duplicated coordinate, a renamed output or a reshaped tensor cannot pass for equality.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from reluce.errors import ModelError
from reluce.network import Affine, Array, BatchNorm, Constant, Dense, Network, Node, Op, Select, validate
from reluce.rewrite._state import Rewritten


def well_formed(original: Network, state: Rewritten) -> bool:
    """Check interface, graph, tensors, map and parameter shapes of a rewritten network against the original."""
    network = state.network
    same = (network.inputs, network.outputs, network.batched) == (original.inputs, original.outputs, original.batched)
    if not same or any(name in state.kept for name in network.inputs):
        return False
    try:
        validate(network)
    except ModelError:
        return False
    nodes = all(_same_outputs(original, node) for node in network.nodes)
    return (
        nodes
        and all(name in network.tensors for node in network.nodes for name in (*node.inputs, *node.outputs))
        and all(_sound(original, state, name) for name in network.tensors)
        and all(_fits(node.op, node, network) for node in network.nodes)
    )


def _same_outputs(original: Network, node: Node) -> bool:
    if not node.outputs:
        return True
    before = original.producer.get(node.outputs[0])
    return before is not None and before.outputs == node.outputs


def _sound(original: Network, state: Rewritten, name: str) -> bool:
    """A tensor has the original's shape, or a map that picks distinct coordinates of it."""
    old, new, kept = original.tensors.get(name), state.network.tensors[name], state.kept.get(name)
    if old is None or old.dtype != new.dtype:
        return False
    if kept is None:
        return old.shape == new.shape
    if old.shape is None or new.shape is None or len(old.shape) != len(new.shape) or old.shape[:-1] != new.shape[:-1]:
        return False
    inside = kept.dtype.kind == "i" and kept.size == new.size and bool(((kept >= 0) & (kept < old.size)).all())
    return inside and len(np.unique(kept)) == kept.size


@singledispatch
def _fits(op: Op, node: Node, network: Network) -> bool:
    """Whether the parameters of an operation have the shapes of the tensors around it."""
    return True


@_fits.register
def _(op: Dense, node: Node, network: Network) -> bool:
    before, after = network.shape(node.inputs[0]), network.shape(node.output)
    bias = op.bias is None or op.bias.shape == after[-1:]
    return bias and before[:-1] == after[:-1] and op.weight.shape == (after[-1], before[-1])


@_fits.register
def _(op: Constant, node: Node, network: Network) -> bool:
    return op.value.shape == network.shape(node.output)


@_fits.register
def _(op: Select, node: Node, network: Network) -> bool:
    total = sum(network.tensors[name].size for name in node.inputs)
    shape = network.shape(node.output)
    size = int(np.prod(shape, dtype=np.int64))
    inside = bool(((op.indices >= 0) & (op.indices < total)).all())
    return op.shape == shape and op.indices.shape == (size,) and inside


@_fits.register
def _(op: Affine, node: Node, network: Network) -> bool:
    return _elementwise([op.scale, op.shift], node, network)


@_fits.register
def _(op: BatchNorm, node: Node, network: Network) -> bool:
    return _elementwise([op.scale, op.shift, op.mean, op.variance], node, network)


def _elementwise(parameters: list[Array | None], node: Node, network: Network) -> bool:
    shape = network.shape(node.output)
    return network.shape(node.inputs[0]) == shape and all(part is None or part.shape == shape for part in parameters)
