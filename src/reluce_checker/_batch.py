"""Whether the samples of a batch are kept apart: what is proved of one sample then holds for each of a batch.

A network is read with one and with two samples. Everything that moves data has to do with the second sample what it
does with the first, and must not let them mix. Operations that are not modelled are taken to keep them apart, and are
the same in both networks anyway.
"""

from __future__ import annotations

import numpy as np

from reluce_checker._graph import Array, BatchNorm, Constant, Graph, Node, Scale, Select, Softmax


def separate(one: Graph, two: Graph) -> bool | None:
    """Whether two samples are two times one; None where the inputs have no axis of free length."""
    if all(one.shapes[name] == two.shapes[name] for name in one.inputs):
        return None
    if len(one.nodes) != len(two.nodes):
        return False
    return all(_apart(one, two, first, second) for first, second in zip(one.nodes, two.nodes, strict=True))


def _apart(one: Graph, two: Graph, first: Node, second: Node) -> bool:
    if type(first.op) is not type(second.op) or (first.inputs, first.outputs) != (second.inputs, second.outputs):
        return False
    if not all(_twice(one, two, name) for name in (*first.inputs, *first.outputs)):
        return False
    match first.op, second.op:
        case Select(old), Select(new):
            return _blocks(one, first, old, new)
        case (Scale(), Scale()) | (BatchNorm(), BatchNorm()) | (Constant(), Constant()):
            pairs = ((value, getattr(second.op, name)) for name, value in vars(first.op).items())
            return all(
                not isinstance(a, np.ndarray) or np.array_equal(b.ravel(), np.tile(a.ravel(), 2)) for a, b in pairs
            )
        case Softmax(axis), Softmax():
            return axis > 0
    return True


def _twice(one: Graph, two: Graph, name: str) -> bool:
    """Whether a tensor has the same shape for each of two samples, one after the other."""
    a, b = one.shapes[name], two.shapes[name]
    if a is None or b is None:
        return a is b
    return len(a) == len(b) > 0 and a[1:] == b[1:] and b[0] == 2 * a[0]


def _blocks(one: Graph, node: Node, old: Array, new: Array) -> bool:
    """Whether data movement takes each sample's coordinates from that sample, in the same way."""
    sizes = [one.size(name) for name in node.inputs]
    start = np.concatenate([np.full(size, 2 * (end - size)) for size, end in zip(sizes, np.cumsum(sizes), strict=True)])
    inside = np.concatenate([np.arange(size) for size in sizes])
    stride = np.repeat(sizes, sizes)
    parts = [(start + inside + sample * stride)[old] for sample in (0, 1)]
    return np.array_equal(new, np.concatenate(parts))
