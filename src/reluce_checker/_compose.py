"""Chains of data movement as one: writers state some movements in several nodes, with helper tensors between them.

With ``p = concatenate(inputs of S)`` a Select ``S`` has ``s = p[i]``, and a Select that reads it ``y = q[j]``, where
``q`` is the concatenation of ``s`` and what else it reads. In the concatenation ``q'`` of the same with ``p`` in place
of ``s``, coordinate ``k`` of ``s`` lies at ``start of p + i[k]``; every other coordinate is moved on by the difference
of the sizes. So ``y = q'[j']``, with ``j'[m]`` the place in ``q'`` of coordinate ``j[m]`` of ``q``: the same numbers,
without ``s``.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np

from reluce_checker._graph import Graph, Node, Select

MOST_INPUTS = 1000
"""Helpers that read more tensors than this stay: chains that double would grow without end."""


def composed(small: Graph, known: Container[str]) -> Graph:
    """The same graph without helper tensors between one Select and the next.

    Parameters
    ----------
    small
        A graph.
    known
        Names of tensors that stay.

    Returns
    -------
    Graph
        The same function. Gone are the Selects whose output is not known, no graph output, and read by Selects only;
        these read what the Select read. Element types do not matter: a Select changes no number.
    """
    readers: dict[str, list[Node]] = {}
    for node in small.nodes:
        for name in set(node.inputs):
            readers.setdefault(name, []).append(node)
    helpers: dict[str, tuple[Select, tuple[str, ...]]] = {}
    nodes = []
    for node in small.nodes:
        if isinstance(node.op, Select):
            node = _without(node, node.op, helpers, small)
            (name,) = node.outputs
            own = [name not in known, name not in small.outputs, bool(readers.get(name)), _sized(small, node)]
            movements = all(isinstance(reader.op, Select) and _sized(small, reader) for reader in readers.get(name, ()))
            if all(own) and movements and isinstance(node.op, Select) and len(node.inputs) <= MOST_INPUTS:
                helpers[name] = (node.op, node.inputs)
                continue
        nodes.append(node)
    shapes = {name: shape for name, shape in small.shapes.items() if name not in helpers}
    formats = {name: form for name, form in small.formats.items() if name not in helpers}
    return replace(small, nodes=tuple(nodes), shapes=shapes, formats=formats)


def _sized(small: Graph, node: Node) -> bool:
    """Whether the sizes of all that a node reads and writes are known."""
    return all(small.shapes[name] is not None for name in (*node.inputs, *node.outputs))


def _without(node: Node, op: Select, helpers: Mapping[str, tuple[Select, tuple[str, ...]]], small: Graph) -> Node:
    """A Select that reads what its helpers read instead of them; a tensor that comes twice is read twice."""
    if not any(name in helpers for name in node.inputs):
        return node
    inputs: list[str] = []
    places, start = [], 0  # for each coordinate that the node reads, its place among the new ones
    for name in node.inputs:
        helper = helpers.get(name)
        if helper is None:
            inputs.append(name)
            places.append(start + np.arange(small.size(name)))
            start += small.size(name)
            continue
        movement, sources = helper
        inputs += sources
        places.append(start + movement.indices)
        start += sum(small.size(source) for source in sources)
    return Node(Select(np.concatenate(places)[op.indices]), tuple(inputs), node.outputs)
