"""Take coordinates out of a network: inactive units, constants, and whatever nothing reads any more.

A coordinate j of a tensor T may go when every consumer can do without it:

* Dense reads it with weight 0 in all rows that stay, or knows its constant value v:  b' = b + W_j v
* elementwise operations and sums lose the same coordinate on either side, which must itself be able to go
* data movement loses all copies of it
* an opaque node, softmax or a graph output reads it as it is: it stays (boundary rule)

The largest set that satisfies all of this is a greatest fixed point, found by starting from everything and taking out
what breaks a rule. On tensors of rank > 1 whole slices of the last axis go, or nothing. Deleting a coordinate whose
value is 0, or whose column is 0, is exact; all other weights stay as they are. Sources: LEO 1.3 A; METHODS 4.1, 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Dyadic,
    Network,
    Node,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
    Tensor,
    readonly,
)
from reluce.rewrite._state import Rewritten

Masks = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Values:
    """Coordinates of one (rewritten) tensor that may be replaced by a constant, flat, and the values to use."""

    mask: Array
    value: Dyadic


def droppable(network: Network, constants: Mapping[str, Values]) -> Masks:
    """The largest set of coordinates that the network can do without, as a flat mask per tensor.

    Parameters
    ----------
    network
        The network.
    constants
        For each tensor the coordinates that dense consumers may replace by constants.
    """
    drop = {name: np.full(tensor.size, True) for name, tensor in network.tensors.items()}
    for name in _fixed(network):
        drop[name] = np.broadcast_to(False, network.tensors[name].size)
    while True:
        before = sum(int(mask.sum()) for mask in drop.values())
        for node in reversed(network.nodes):
            if any(drop[name].any() for name in (*node.inputs, *node.outputs)):
                _restrict(node.op, node, network, drop, constants)
                for name in (*node.inputs, *node.outputs):
                    drop[name] = drop[name] & _whole_slices(drop[name], network.tensors[name].shape)
        if sum(int(mask.sum()) for mask in drop.values()) == before:
            return drop


def _fixed(network: Network) -> set[str]:
    """Tensors that keep their shape whatever happens, found without looking at coordinates (they may be many)."""
    fixed = {name for name, tensor in network.tensors.items() if not tensor.shape}
    fixed.update(network.inputs, network.outputs)
    for node in network.nodes:
        if isinstance(node.op, Opaque | Softmax):
            fixed.update(node.inputs, node.outputs)
    elementwise = [node for node in network.nodes if isinstance(node.op, Relu | Activation | Affine | BatchNorm | Add)]
    before = -1
    while len(fixed) != before:
        before = len(fixed)
        for node in elementwise:
            if fixed.intersection((*node.inputs, *node.outputs)):
                fixed.update(node.inputs, node.outputs)
    return fixed


def _whole_slices(mask: Array, shape: tuple[int, ...] | None) -> Array:
    if not shape or len(shape) < 2:
        return mask
    rows = mask.reshape(-1, shape[-1])
    return np.broadcast_to(rows.all(axis=0), rows.shape).ravel()


@singledispatch
def _restrict(op: Op, node: Node, network: Network, drop: Masks, constants: Mapping[str, Values]) -> None:
    """Take out of ``drop`` what this node cannot do without. By default it needs all that it reads and writes."""
    for name in (*node.inputs, *node.outputs):
        drop[name] = np.zeros_like(drop[name])


@_restrict.register
def _(op: Dense, node: Node, network: Network, drop: Masks, constants: Mapping[str, Values]) -> None:
    name = node.inputs[0]
    width = op.weight.shape[1]
    rows = ~drop[node.output].reshape(-1, op.weight.shape[0]).all(axis=0)
    unread = ~(op.weight[rows] != 0).any(axis=0)
    able = np.broadcast_to(unread, (drop[name].size // max(width, 1), width)).ravel()
    known = constants.get(name)
    if known is not None:
        able = able | _same_everywhere(known, width)
    drop[name] = drop[name] & able


def _same_everywhere(known: Values, width: int) -> Array:
    """A bias can take up a constant only if it is the same at every position."""
    mask, mantissa = known.mask.reshape(-1, width), known.value.mantissa.reshape(-1, width)
    same = mask.all(axis=0) & np.asarray(mantissa == mantissa[0]).all(axis=0)
    return np.broadcast_to(same, mask.shape).ravel()


@_restrict.register(Relu)
@_restrict.register(Activation)
@_restrict.register(Affine)
@_restrict.register(BatchNorm)
@_restrict.register(Add)
def _(op: Op, node: Node, network: Network, drop: Masks, constants: Mapping[str, Values]) -> None:
    names = (*node.inputs, *node.outputs)
    common = np.logical_and.reduce([drop[name] for name in names])
    for name in names:
        drop[name] = common.copy()


@_restrict.register
def _(op: Select, node: Node, network: Network, drop: Masks, constants: Mapping[str, Values]) -> None:
    needed = op.indices[~drop[node.output]]
    start = 0
    for name in node.inputs:
        size = drop[name].size
        mine = needed[(needed >= start) & (needed < start + size)] - start
        if drop[name].any():
            drop[name] = drop[name].copy()
            drop[name][mine] = False
        start += size


@_restrict.register
def _(op: Constant, node: Node, network: Network, drop: Masks, constants: Mapping[str, Values]) -> None:
    return


def shrink(state: Rewritten, drop: Mapping[str, Array], constants: Mapping[str, Values]) -> Rewritten:
    """Take the coordinates in ``drop`` (as ``droppable`` found them) out of the network."""
    network = state.network
    if not any(mask.any() for mask in drop.values()):
        return state
    work = _Shrinking(network, {name: ~mask for name, mask in drop.items()}, constants)
    gone = {
        name
        for node in network.nodes
        for name in node.outputs
        if network.tensors[name].size and not work.keep[name].any()
    }
    nodes = tuple(
        _shrunk(node.op, node, work) for node in network.nodes if not (node.outputs and gone.issuperset(node.outputs))
    )
    tensors = {name: work.tensor(name) for name in network.tensors if name not in gone}
    return state.taken(replace(network, nodes=nodes, tensors=tensors), work.keep, gone)


@dataclass(frozen=True, eq=False)
class _Shrinking:
    """What the rules of ``_shrunk`` look up: which coordinates stay, and the values of those that go."""

    network: Network
    keep: Mapping[str, Array]
    constants: Mapping[str, Values]

    def columns(self, name: str) -> Array:
        """The mask along the last axis."""
        shape = self.network.shape(name)
        return np.asarray(self.keep[name].reshape(-1, shape[-1])[0])

    def tensor(self, name: str) -> Tensor:
        tensor = self.network.tensors[name]
        if not tensor.shape or self.keep[name].all():
            return tensor
        return replace(tensor, shape=(*tensor.shape[:-1], int(self.columns(name).sum())))

    def sliced(self, values: Array, name: str) -> Array:
        """A full-shape parameter of an elementwise operation, without the coordinates that go."""
        shape = self.network.shape(name)
        return readonly(np.broadcast_to(values, shape)[..., self.columns(name)])


@singledispatch
def _shrunk(op: Op, node: Node, work: _Shrinking) -> Node:
    """The node on smaller tensors; operations without parameters do not change."""
    return node


@_shrunk.register
def _(op: Dense, node: Node, work: _Shrinking) -> Node:
    name = node.inputs[0]
    columns, rows = work.columns(name), work.columns(node.output)
    if columns.all() and rows.all():
        return node
    smaller = absorb(op, np.flatnonzero(~columns), work.constants.get(name))
    weight = readonly(smaller.weight[np.ix_(rows, columns)])
    bias = None if smaller.bias is None else readonly(smaller.bias[rows])
    if columns.any():
        return replace(node, op=replace(smaller, weight=weight, bias=bias))
    value = np.zeros(int(rows.sum()), dtype=op.weight.dtype)
    if bias is not None:
        value = bias if smaller.beta == 1.0 else (smaller.beta * bias.astype(np.float64)).astype(bias.dtype)
    return constant_node(
        work.network, node, np.broadcast_to(value, (*work.network.shape(node.output)[:-1], len(value)))
    )


def constant_node(network: Network, node: Node, value: Array) -> Node:
    """A node that writes ``value`` in place of ``node``; a graph input supplies the size of the batch."""
    source = network.inputs[:1] if network.batched else ()
    return replace(node, op=Constant(readonly(value)), inputs=source)


def absorb(op: Dense, columns: Array, known: Values | None) -> Dense:
    """Move the constant values of the given input columns into the bias: ``b' = b + W_j v`` (rounded to its format)."""
    value = absorbed_bias(op, columns, known)
    if value is None:
        return op
    dtype = op.weight.dtype if op.bias is None else op.bias.dtype
    with np.errstate(over="ignore"):
        return replace(op, bias=readonly(value.nearest().astype(dtype)), beta=1.0)


def absorbed_bias(op: Dense, columns: Array, known: Values | None) -> Dyadic | None:
    """The exact bias after absorbing columns; None when it does not change."""
    if known is None:
        return None
    width = op.weight.shape[1]
    first = known.value.reshape((-1, width))[0]
    used = columns[(first.mantissa[columns] != 0) & known.mask.reshape(-1, width)[0][columns]]
    if used.size == 0:
        return None
    product = Dyadic.of(op.weight[:, used]) @ first[used] * Dyadic.of(np.array(op.alpha))
    bias = np.zeros(len(op.weight)) if op.bias is None else op.bias
    return product + Dyadic.of(bias) * Dyadic.of(np.array(op.beta))


@_shrunk.register
def _(op: Affine, node: Node, work: _Shrinking) -> Node:
    name = node.output
    if work.keep[name].all():
        return node
    scale = None if op.scale is None else work.sliced(op.scale, name)
    shift = None if op.shift is None else work.sliced(op.shift, name)
    return replace(node, op=Affine(scale, shift, op.divide))


@_shrunk.register
def _(op: BatchNorm, node: Node, work: _Shrinking) -> Node:
    name = node.output
    if work.keep[name].all():
        return node
    scale, shift, mean, variance = (work.sliced(part, name) for part in (op.scale, op.shift, op.mean, op.variance))
    return replace(node, op=BatchNorm(scale, shift, mean, variance, op.epsilon))


@_shrunk.register
def _(op: Select, node: Node, work: _Shrinking) -> Node:
    masks = [work.keep[name] for name in node.inputs]
    wanted = work.keep[node.output]
    if wanted.all() and all(mask.all() for mask in masks):
        return node
    joined = np.concatenate(masks)
    renumbered = np.cumsum(joined) - 1
    indices = readonly(renumbered[op.indices[wanted]].astype(np.int64))
    inputs = tuple(name for name, mask in zip(node.inputs, masks, strict=True) if mask.any())
    return replace(node, op=Select(indices, work.tensor(node.output).shape or ()), inputs=inputs)


@_shrunk.register
def _(op: Constant, node: Node, work: _Shrinking) -> Node:
    name = node.output
    if work.keep[name].all():
        return node
    return replace(node, op=Constant(readonly(op.value[..., work.columns(name)])))
