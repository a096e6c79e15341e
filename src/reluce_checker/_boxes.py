"""Signs proved on parts of the domain: a tree of boxes, and on each of them linear bounds of its own.

On a box every pre-activation in front is bounded in order: by its interval, then, where it has no sign, by a linear
bound from either side. Slopes follow from these bounds by a fixed rule, ``s = floor(4096 u / (u - l)) / 4096`` and ``a
= 1`` where ``u > -l``, so that none need be stored. A goal holds where every way from the root meets a box that closes
it: the two halves of a box share the point at which it was cut. Source: Wang et al., "Formal security analysis of
neural networks using symbolic intervals", USENIX Security 2018.
"""

from __future__ import annotations

import numpy as np

from reluce_checker._certificate import Boxes
from reluce_checker._errors import NotProved
from reluce_checker._exact import Exact
from reluce_checker._graph import Array, Node, Relu
from reluce_checker._intervals import Interval, interval
from reluce_checker._layers import Layers
from reluce_checker._linear import SLOPE_BITS, Backward, Slopes

CHUNK = 256
"""Boxes at a time: bounds the memory."""


def closes(fact: Boxes, backward: Backward) -> Array:
    """Which goals of a tree are proved, ``(goals,)``.

    Raises
    ------
    NotProved
        When the tree is no tree, or its boxes do not cover the domain.
    """
    graph = backward.graph
    if any(
        name not in graph.inputs or place >= graph.size(name)
        for name, place in zip(fact.inputs, fact.places, strict=True)
    ):
        raise NotProved(f"the boxes for {fact.tensor!r} are cut along inputs that are not there")
    order = _order(fact)
    covered = fact.closed.astype(bool)
    for node in reversed(order):
        if fact.dimension[node] >= 0:
            covered[node] |= covered[fact.child[node]] & covered[fact.child[node] + 1]
    holds = _hold_in_float64(fact, order, backward)
    left = fact.closed.astype(bool) & ~holds
    nodes = np.array([node for node in order if left[node].any()], dtype=np.int64)
    if nodes.size:
        ends = _ends(fact, order, backward)
        for start in range(0, len(nodes), EXACT_CHUNK):
            part = nodes[start : start + EXACT_CHUNK]
            boxes = {name: Interval.of(low[part], high[part]) for name, (low, high) in ends.items()}
            holds[part] |= _goals_hold(fact, boxes, left[part], backward)
    return np.asarray(covered[0] & ~(fact.closed.astype(bool) & ~holds).any(axis=0))


EXACT_CHUNK = 64
"""Boxes at a time in exact arithmetic."""


def _hold_in_float64(fact: Boxes, order: list[int], backward: Backward) -> Array:
    """Which goals are closed on which nodes by float64 bounds."""
    goals = fact.closed.astype(bool)
    holds = np.zeros(goals.shape, dtype=bool)
    try:
        layers = Layers(backward, fact.tensor, fact.inputs, fact.places)
    except ValueError:
        return holds
    low, high = (np.repeat(side[None], len(goals), axis=0) for side in (layers.low, layers.high))
    for node in order:
        if fact.dimension[node] >= 0:
            child, dimension, point = fact.child[node], fact.dimension[node], fact.point[node]
            low[child : child + 2], high[child : child + 2] = low[node], high[node]
            high[child, dimension] = min(high[node, dimension], point)
            low[child + 1, dimension] = max(low[node, dimension], point)
    nodes = np.flatnonzero(goals.any(axis=1))
    for start in range(0, len(nodes), CHUNK):
        part = nodes[start : start + CHUNK]
        boxes, relaxed = layers.tightened(layers.parts(low[part], high[part]))
        row, goal = np.nonzero(goals[part])
        signs = fact.signs[goal].astype(np.float64)
        upper = layers.bound(len(layers.layers) - 1, boxes, relaxed, row, fact.rows[goal], signs)
        holds[part[row], goal] = upper <= 0
    return holds


def _order(fact: Boxes) -> list[int]:
    """The nodes of the tree, parents first."""
    if not len(fact.dimension):
        raise NotProved(f"the boxes for {fact.tensor!r} are no tree")
    nodes, waiting, seen, order = len(fact.dimension), [0], np.zeros(len(fact.dimension), dtype=bool), []
    while waiting:
        node = waiting.pop()
        if seen[node]:  # a node with two parents would stand for two boxes
            raise NotProved(f"the boxes for {fact.tensor!r} are no tree")
        seen[node] = True
        order.append(node)
        if fact.dimension[node] < 0:
            continue
        if fact.dimension[node] >= len(fact.places) or not 0 < fact.child[node] < nodes - 1:
            raise NotProved(
                f"the boxes for {fact.tensor!r} are cut along dimensions, or into boxes, that are not there"
            )
        waiting += [int(fact.child[node]), int(fact.child[node]) + 1]
    return order


def _ends(fact: Boxes, order: list[int], backward: Backward) -> dict[str, tuple[Exact, Exact]]:
    """The ends of all boxes for each graph input, ``(nodes, size)``."""
    points, nodes = Exact.of(fact.point), len(fact.dimension)
    whole = {name: backward.intervals[name] for name in backward.graph.inputs}
    exponent = min(points.exponent, *(min(x.low.exponent, x.high.exponent) for x in whole.values()))
    low = {name: np.repeat(x.low.at(exponent), nodes, axis=0) for name, x in whole.items()}
    high = {name: np.repeat(x.high.at(exponent), nodes, axis=0) for name, x in whole.items()}
    cuts = points.at(exponent)
    for node in order:
        if fact.dimension[node] < 0:
            continue
        child, cut, dimension = fact.child[node], cuts[node], fact.dimension[node]
        cut_input, place = fact.inputs[dimension], fact.places[dimension]
        if not low[cut_input][node, place] <= cut <= high[cut_input][node, place]:
            raise NotProved(f"a box for {fact.tensor!r} is cut at a point outside of it")
        for side in (low, high):
            for ends in side.values():
                ends[child : child + 2] = ends[node]
        high[cut_input][child, place] = low[cut_input][child + 1, place] = cut
    return {name: (Exact(low[name], exponent), Exact(high[name], exponent)) for name in whole}


def _goals_hold(fact: Boxes, boxes: dict[str, Interval], wanted: Array, backward: Backward) -> Array:
    """Which wanted goals follow on each box, ``(boxes, goals)``."""
    graph, found = backward.graph, dict(boxes)
    slopes: dict[str, Slopes] = {}
    for node in _in_front(fact.tensor, backward):
        (name,) = node.outputs
        found[name] = _met(
            interval(node, [found[source] for source in node.inputs], graph.size(name), backward.forms),
            backward.intervals[name],
        )
        if any(isinstance(reader.op, Relu) and name in reader.inputs for reader in graph.nodes) and name != fact.tensor:
            found[name] = _sharpened(name, found, slopes, backward)
            slopes[name] = default_slopes(found[name])
    box, goal = np.nonzero(wanted)
    holds = np.zeros(wanted.shape, dtype=bool)
    for sign in (1, -1):
        mine = fact.signs[goal] == sign
        upper, unbounded = _upper(fact.tensor, box[mine], fact.rows[goal[mine]], sign, found, slopes, backward)
        holds[box[mine], goal[mine]] = (upper.sign <= 0) & ~unbounded
    return holds


def _in_front(tensor: str, backward: Backward) -> list[Node]:
    """The nodes that a tensor depends on, in order."""
    needed, nodes = {tensor}, []
    for node in reversed(backward.graph.nodes):
        if needed.intersection(node.outputs) and len(node.outputs) == 1:
            needed.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def _sharpened(name: str, found: dict[str, Interval], slopes: dict[str, Slopes], backward: Backward) -> Interval:
    """The interval of a pre-activation with linear bounds where it has no sign."""
    z = found[name]
    box, unit = np.nonzero(z.known & (z.low.sign < 0) & (z.high.sign > 0))
    for sign in (1, -1):
        upper, unbounded = _upper(name, box, unit, sign, found, slopes, backward)
        place, bound = (box[~unbounded], unit[~unbounded]), upper[~unbounded]
        if sign > 0:
            z = Interval(z.low, z.high.replaced(place, bound.minimum(z.high[place])), z.known)
        else:
            z = Interval(z.low.replaced(place, (-bound).maximum(z.low[place])), z.high, z.known)
    return z


def _upper(
    name: str, box: Array, unit: Array, sign: int, found: dict[str, Interval], slopes: dict[str, Slopes],
    backward: Backward,
) -> tuple[Exact, Array]:  # fmt: skip
    """Upper bounds of ``sign * T[unit]`` on some of the boxes, a row each."""
    own = {key: Interval(x.low[box], x.high[box], x.known[box]) for key, x in found.items() if len(x.known) > 1}
    own.update({key: x for key, x in found.items() if len(x.known) == 1})
    mine = {
        key: Slopes(value.above[_rows(value.above, box)], value.below[_rows(value.below, box)])
        for key, value in slopes.items()
    }
    functional = backward.unit_rows(name, unit, sign)
    return Backward(backward.graph, backward.forms, own).upper(functional, mine)


def _rows(values: Array, box: Array) -> Array:
    return box if len(values) > 1 else np.zeros(1, dtype=np.int64)


def default_slopes(z: Interval) -> Slopes:
    """Slopes that follow from an interval, a row for each box."""
    low, high = z.low, z.high
    exponent = min(low.exponent, high.exponent)
    l, u = low.at(exponent), high.at(exponent)
    mixed = z.known & (l < 0) & (u > 0)
    above = np.zeros(mixed.shape, dtype=np.int64)
    above[mixed] = (u[mixed] * (1 << SLOPE_BITS) // (u[mixed] - l[mixed])).astype(np.int64)
    return Slopes(above, np.where(mixed & (u > -l), 1 << SLOPE_BITS, 0))


def _met(x: Interval, other: Interval) -> Interval:
    """What lies in both intervals."""
    both = other.known & x.known
    low = Exact.maximum(x.low, other.low).where(both) + x.low.where(x.known & ~other.known)
    high = Exact.minimum(x.high, other.high).where(both) + x.high.where(x.known & ~other.known)
    only = other.known & ~x.known
    return Interval(low + other.low.where(only), high + other.high.where(only), x.known | other.known)
