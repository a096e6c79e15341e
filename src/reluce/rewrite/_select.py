"""Leave out of a dense layer what it does not read, where the tensor itself has to stay as it is.

A graph input, or a tensor that something else reads whole, cannot lose coordinates. A dense layer that reads some of
them with weight 0 only, or knows their values on the domain, can still lose these columns: a selection in front of it
passes on the others, at the price of listing their places. Source: METHODS 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from itertools import chain, count

import numpy as np

from reluce.network import Array, Dense, Node, Select, readonly
from reluce.rewrite._shrink import Values, absorb
from reluce.rewrite._state import Judge, Original, Rewritten


def select_inputs(
    original: Original, state: Rewritten, constants: Mapping[str, Values], saving: Callable[[Rewritten], Judge]
) -> Rewritten:
    """Put selections in front of dense layers that do not read all of a tensor.

    Parameters
    ----------
    original, state
        What is known, and what became of it so far.
    constants
        For tensors the coordinates that are known on the domain, and their values.
    saving
        Makes for a state the judge of candidates that are to replace it.
    """
    for name in list(state.network.tensors):
        if name in state.rows or (state.source(name) not in original.network.tensors):
            continue
        for known in (constants.get(name), None):
            candidate = _selected(state, name, known)
            if candidate is not None and saving(state)(candidate) is None:
                state = candidate
                break
    return state


def _selected(state: Rewritten, name: str, known: Values | None) -> Rewritten | None:
    """A candidate in which dense layers read only some coordinates of a tensor."""
    network = state.network
    shape, readers = network.tensors[name].shape, [n for n in network.consumers[name] if isinstance(n.op, Dense)]
    producer = network.producer.get(name)
    if not shape or not readers or network.tensors[name].size != shape[-1]:
        return None
    if producer is not None and isinstance(producer.op, Select):
        return None  # it loses coordinates by itself
    needed = np.zeros(shape[-1], dtype=bool)
    for node in readers:
        assert isinstance(node.op, Dense)
        needed |= (node.op.weight != 0).any(axis=0)
    if known is not None:
        needed &= ~known.mask
    if needed.all() or not needed.any():
        return None
    return _behind_selection(state, name, readers, needed, known)


def _behind_selection(
    state: Rewritten, name: str, readers: list[Node], needed: Array, known: Values | None
) -> Rewritten:
    network, places = state.network, np.flatnonzero(needed)
    tensor = network.tensors[name]
    small = replace(
        tensor, name=unused(network.tensors, f"{name}_read"), shape=(*(tensor.shape or ())[:-1], len(places))
    )
    node_name = unused(network.by_name, f"{name}_read")
    selection = Node(node_name, Select(readonly(places), small.shape or ()), (name,), (small.name,))
    changed = {}
    for node in readers:
        assert isinstance(node.op, Dense)
        op = absorb(node.op, np.flatnonzero(~needed), known)
        narrow = replace(op, weight=readonly(op.weight[:, needed]))
        changed[node.name] = replace(node, op=narrow, inputs=(small.name,))
    first = next(place for place, node in enumerate(network.nodes) if node.name in changed)
    nodes = [changed.get(node.name, node) for node in network.nodes]
    nodes.insert(first, selection)
    return replace(
        state,
        network=replace(network, nodes=tuple(nodes), tensors={**network.tensors, small.name: small}),
        kept={**state.kept, small.name: state.coordinates(name)[places]},
        of={**state.of, small.name: state.source(name)},
    )


def unused(taken: Container[str], wanted: str) -> str:
    """A name that is not taken: the wanted one, or that with the first number that makes it new."""
    names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)
