"""Signs proved on parts of the domain: a tree of boxes, and on each of them linear bounds of its own.

A box inherits the bounds of the box that it was cut from. Every pre-activation in front that has no sign yet is then
bounded from either side, layer by layer, with slopes that follow from the bounds so far by a fixed rule (``Layers``),
so that none need be stored. A goal holds where every way from the root meets a box that closes it: the halves of a box
share the point at which it was cut. Bounds are computed in float64 with a bound of all rounding; where that alone keeps
a goal from 0, the same linear bound is evaluated exactly. Source: Wang et al., "Formal security analysis of neural
networks using symbolic intervals", USENIX Security 2018.
"""

from __future__ import annotations

import numpy as np

from reluce_checker._certificate import Boxes
from reluce_checker._errors import NotProved
from reluce_checker._exact import Exact
from reluce_checker._graph import Array
from reluce_checker._intervals import Interval
from reluce_checker._layers import Boxes64, Layers, Relaxed
from reluce_checker._linear import SLOPE_BITS, Backward, Slopes

CHUNK = 128
"""Boxes at a time: bounds the memory."""

MOST_DOUBTFUL = 5000
"""So often float64 may leave a goal to exact arithmetic."""


def closes(fact: Boxes, backward: Backward) -> Array:
    """Which goals of a tree are proved, ``(goals,)``.

    Raises
    ------
    NotProved
        When it cannot be followed.
    """
    graph, places = backward.graph, zip(fact.inputs, fact.places, strict=True)
    if any(name not in graph.inputs or place >= graph.size(name) for name, place in places):
        raise NotProved(f"the boxes for {fact.tensor!r} are cut along inputs that are not there")
    try:
        layers = Layers(backward, fact.tensor, fact.inputs, fact.places)
    except ValueError as error:
        raise NotProved(f"the boxes for {fact.tensor!r} cannot be followed: {error}") from error
    covered, children = fact.closed.astype(bool) & _holds(fact, layers, backward), _children(fact)
    for node in np.flatnonzero(fact.dimension >= 0)[::-1]:
        covered[node] |= covered[children[node]] & covered[children[node] + 1]
    return np.asarray(covered[0])


def _children(fact: Boxes) -> Array:
    """The first of both children of each node that is cut; of nodes that can be reached they have larger numbers."""
    return np.asarray(2 * np.cumsum(fact.dimension >= 0) - 1)


def _holds(fact: Boxes, layers: Layers, backward: Backward) -> Array:
    """Which goals that are said to be closed on a node are so, ``(nodes, goals)``."""
    goals = fact.closed.astype(bool)
    holds, doubtful = np.zeros(goals.shape, dtype=bool), 0
    stack = [(np.zeros(1, dtype=np.int64), layers.whole())]
    while stack:
        nodes, boxes = stack.pop()
        if len(nodes) > CHUNK:
            stack.append((nodes[CHUNK:], boxes.rows(np.arange(CHUNK, len(nodes)))))
            nodes, boxes = nodes[:CHUNK], boxes.rows(np.arange(CHUNK))
        boxes, relaxed = layers.tightened(boxes)
        row, goal = np.nonzero(goals[nodes])
        units, signs = fact.rows[goal], fact.signs[goal]
        found = layers.bound(len(layers.layers) - 1, boxes, relaxed, row, units, signs.astype(np.float64)) <= 0
        for k in np.flatnonzero(~found):
            doubtful += 1
            if doubtful > MOST_DOUBTFUL:
                raise NotProved(f"the boxes for {fact.tensor!r}: too many of them do not follow in float64")
            found[k] = _exactly(layers, boxes.rows(row[[k]]), relaxed, row[k], units[k], int(signs[k]), backward)
        holds[nodes[row], goal] = found
        inner = np.flatnonzero(fact.dimension[nodes] >= 0)
        if inner.size:
            stack.append(_halves(fact, nodes[inner], boxes.rows(inner)))
    return holds


def _halves(fact: Boxes, nodes: Array, boxes: Boxes64) -> tuple[Array, Boxes64]:
    """The children of nodes and their boxes, which share the point at which a box was cut."""
    rows, dimension = np.arange(len(nodes)), fact.dimension[nodes]
    point = 0.5 * boxes.low[rows, dimension] + 0.5 * boxes.high[rows, dimension]
    below, above = boxes.high.copy(), boxes.low.copy()
    below[rows, dimension] = above[rows, dimension] = point
    twice = boxes.rows(np.tile(rows, 2))
    first = _children(fact)[nodes]
    ends = np.concatenate([boxes.low, above]), np.concatenate([below, boxes.high])
    return np.concatenate([first, first + 1]), Boxes64(*ends, twice.lower, twice.upper)


def _exactly(
    layers: Layers, box: Boxes64, relaxed: list[Relaxed], row: int, unit: int, sign: int, backward: Backward
) -> bool:
    """Whether ``sign * z[unit] <= 0`` on one box by the same linear bound in exact arithmetic."""
    intervals, slopes = _in_front(layers.layers[-1].tensor, backward), dict[str, Slopes]()
    for layer, lower, upper, part in zip(layers.layers, box.lower, box.upper, relaxed, strict=False):
        intervals[layer.tensor] = Interval.of(Exact.of(lower), Exact.of(upper))
        above, below = (np.round(side[row] * (1 << SLOPE_BITS)).astype(np.int64) for side in (part.above, part.below))
        slopes[layer.tensor] = Slopes(above, below)
    for name, x in layers.inputs(box).items():
        intervals[name] = x
    functional = backward.unit_rows(layers.layers[-1].tensor, np.array([unit]), sign)
    bound, unbounded = Backward(backward.graph, backward.forms, intervals).upper(functional, slopes)
    return bool(bound.sign[0] <= 0 and not unbounded[0])


def _in_front(tensor: str, backward: Backward) -> dict[str, Interval]:
    """The intervals of all tensors that come before one in the order of the nodes."""
    names = list(backward.graph.inputs)
    for node in backward.graph.nodes:
        if tensor in node.outputs:
            break
        names += node.outputs
    return {name: backward.intervals[name] for name in names if name in backward.intervals}
