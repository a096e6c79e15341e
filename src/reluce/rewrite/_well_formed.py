"""Whether a rewritten network and its map can be compared with the original at all: same interface, sound shapes.

The relation reads weights and maps as they come. What it takes for granted about their form is checked here, so that
a duplicated coordinate, a renamed output or a reshaped tensor cannot pass for equality.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import numpy as np

from reluce.errors import ModelError
from reluce.network import Affine, Array, BatchNorm, Constant, Dense, Network, Node, Op, Select, Tensor, validate
from reluce.rewrite._state import Rewritten, Rows


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
    nodes = all(_same_outputs(original, state, node) for node in network.nodes)
    return (
        nodes
        and all(name in network.tensors for node in network.nodes for name in (*node.inputs, *node.outputs))
        and all(_sound(original, state, name) for name in network.tensors)
        and all(_fits(node.op, node, network) for node in network.nodes)
    )


def _same_outputs(original: Network, state: Rewritten, node: Node) -> bool:
    if not node.outputs:
        return True
    if node.outputs[0] in state.of:
        return isinstance(node.op, Select) and len(node.outputs) == 1
    before = original.producer.get(node.outputs[0])
    return before is not None and before.outputs == node.outputs


def _sound(original: Network, state: Rewritten, name: str) -> bool:
    """A tensor has the original's shape, or a map that picks distinct coordinates of it, and new rows beside them."""
    old, new, kept = original.tensors.get(state.source(name)), state.network.tensors[name], state.kept.get(name)
    if old is None or old.dtype != new.dtype or (name in state.of and name in original.tensors):
        return False
    rows = state.rows.get(name)
    if rows is not None:
        if kept is None or not new.shape or kept.size != new.size or not _sound_rows(original, rows, old, kept):
            return False
        if name in state.of and not _coordinates_only(rows):
            return False
        old_units = kept[kept >= 0]
        kept, new = old_units, replace(new, shape=(*new.shape[:-1], len(old_units)))
        if np.isin(rows.turned, kept).any() or len(np.unique(rows.turned[rows.turned >= 0])) < (rows.turned >= 0).sum():
            return False
    if kept is None:
        return old.shape == new.shape
    if old.shape is None or new.shape is None or len(old.shape) != len(new.shape) or old.shape[:-1] != new.shape[:-1]:
        return False
    inside = kept.dtype.kind == "i" and kept.size == new.size and bool(((kept >= 0) & (kept < old.size)).all())
    return inside and len(np.unique(kept)) == kept.size


def _sound_rows(original: Network, rows: Rows, old: Tensor, kept: Array) -> bool:
    """New coordinates are as many as the map has places for, and functions of a whole tensor; one position each."""
    over = original.tensors.get(rows.over)
    if over is None or not over.shape or not old.shape or kept.ndim != 1 or (kept < -1).any():
        return False
    if over.size != over.shape[-1] or old.size != old.shape[-1]:
        return False
    count = int((kept == -1).sum())
    finite = bool(np.isfinite(rows.matrix).all() and np.isfinite(rows.shift).all())
    whole = finite and rows.matrix.shape == (count, over.size) and rows.shift.shape == rows.turned.shape == (count,)
    return whole and _sound_opposites(rows)


def _coordinates_only(rows: Rows) -> bool:
    """Whether rows are nothing but different coordinates of the tensor that they are over."""
    one = rows.matrix == 1
    single = (one.sum(axis=1) == 1).all() and (one.sum(axis=0) <= 1).all() and not rows.matrix[~one].any()
    return bool(single and (rows.turned < 0).all() and not rows.shift.any())


def _sound_opposites(rows: Rows) -> bool:
    """Rows that are said to be the opposite of a coordinate are that."""
    mine = rows.turned >= 0
    expected = np.zeros_like(rows.matrix)
    inside = bool((rows.turned < rows.matrix.shape[1]).all())
    if inside:
        expected[np.flatnonzero(mine), rows.turned[mine]] = -1.0
    return inside and np.array_equal(rows.matrix[mine], expected[mine]) and not rows.shift[mine].any()


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
