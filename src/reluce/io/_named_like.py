"""A network under the names of another one, so that two files can be compared tensor by tensor."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import fields, replace

import numpy as np

from reluce.network import Constant, Network, Node, Opaque, Relu


def named_like(network: Network, like: Network) -> Network:
    """Rename what computes the same as a node of another network after that node.

    A model that was rebuilt and read back may call its tensors otherwise than the network that it was built from. Only
    names change here, whatever the other network is: the result computes what ``network`` computes.

    Parameters
    ----------
    network
        What to rename. Its inputs and outputs keep their names.
    like
        Where the names come from: a node is taken to be the same where it is the same operation, bit for bit, on the
        same inputs.

    Returns
    -------
    Network
        Other nodes and tensors keep their names, unless these are given to others.
    """
    partners = _partners(network, like)
    tensors = {node.output: other.output for node, other in partners}
    tensors |= {name: name for name in (*network.inputs, *network.outputs)}
    _complete(tensors, network.tensors)
    names = {node.name: other.name for node, other in partners}
    _complete(names, [node.name for node in network.nodes])
    nodes = tuple(
        replace(
            node,
            name=names[node.name],
            inputs=tuple(tensors[name] for name in node.inputs),
            outputs=tuple(tensors[name] for name in node.outputs),
        )
        for node in network.nodes
    )
    renamed = {tensors[name]: replace(tensor, name=tensors[name]) for name, tensor in network.tensors.items()}
    return replace(network, nodes=nodes, tensors=renamed)


def _partners(network: Network, like: Network) -> list[tuple[Node, Node]]:
    """Nodes of both networks that do the same, each at most once."""
    known: dict[Hashable, list[Node]] = {}
    for other in like.nodes:
        known.setdefault(_key(other, {}), []).append(other)
    found: list[tuple[Node, Node]] = []
    names = {name: name for name in network.inputs}
    for node in network.nodes:
        if isinstance(node.op, Opaque) or not all(name in names for name in node.inputs):
            continue
        candidates = known.get(_key(node, names), [])
        fitting = [other for other in candidates if _may(node, other, network, like)]
        if fitting:
            candidates.remove(fitting[0])
            names[node.output] = fitting[0].output
            found.append((node, fitting[0]))
    return found


def _may(node: Node, other: Node, network: Network, like: Network) -> bool:
    """Whether a node may take the names of another: ends keep theirs, and give them to nobody."""
    ends = {*network.inputs, *network.outputs}
    fixed = node.output in ends or other.output in ends
    mine, theirs = network.tensors[node.output], like.tensors[other.output]
    same = (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    return same and (not fixed or node.output == other.output)


def _key(node: Node, names: Mapping[str, str]) -> Hashable:
    """What a node computes, in names of the other network; where a constant learns the size of the batch is no part."""
    parts: list[Hashable] = [type(node.op).__name__, len(node.outputs)]
    if not isinstance(node.op, Constant):
        parts += [names.get(name, name) for name in node.inputs]
    for entry in fields(node.op) if not isinstance(node.op, Relu) else ():
        value = getattr(node.op, entry.name)
        if isinstance(value, np.ndarray):
            value = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
        parts.append(value)
    return tuple(parts)


def _complete(names: dict[str, str], everything: Iterable[str]) -> None:
    """Names for the rest: their own, or where that is given away, one that nothing bears."""
    everything, taken = tuple(everything), set(names.values())
    for name in everything:
        if name not in names:
            fresh, count = name, 0
            while fresh in taken or (count and fresh in everything):
                count += 1
                fresh = f"{name}_{count}"
            names[name] = fresh
            taken.add(fresh)
