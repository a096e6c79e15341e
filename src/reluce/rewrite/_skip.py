"""Let the readers of a layer read the layer's input directly, in place of its linear part (a skip).

On the domain a stably active unit is its own pre-activation, so of the active units of a layer its readers take

    V (L x + b_L) = P x + V b_L,   P = V L,

with x the layer's input, L the rows of the active units and V what the readers take of them. A tensor with the other
units and x side by side, read with the weights [V_U | P], needs no active unit. That changes the architecture, and
saves where r active units on n inputs cost their m readers more than P does: r (n + m + 1) > n m.
Source: METHODS 4.6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Array, Dense, Node, Select, readonly
from reluce.rewrite._merge import scaled_rows
from reluce.rewrite._rebase import LARGEST_LAYER, reading
from reluce.rewrite._select import unused
from reluce.rewrite._shrink import droppable, shrink
from reluce.rewrite._state import Judge, Original, Rewritten, Rows, Sandwich


def skip_layer(original: Original, state: Rewritten, pattern: Sandwich, judge: Judge) -> Rewritten | str:
    """Put the input of a layer beside its units that are not active, and take the active ones out.

    Parameters
    ----------
    original, state, pattern
        What is known, what became of it so far, and the layer.
    judge
        Says why the finished candidate must not be taken, if so.

    Returns
    -------
    Rewritten or str
        The network with the skip, or why the layer stays.
    """
    why = _impossible(original, state, pattern)
    if why is None:
        candidate = _applied(original, state, pattern)
        why = judge(candidate)
        if why is None:
            return candidate
    return why


def _impossible(original: Original, state: Rewritten, pattern: Sandwich) -> str | None:
    """Why there can be no skip around a layer, if so."""
    network, z, x = state.network, pattern.relu.inputs[0], pattern.before.inputs[0]
    box = original.bounds.intervals.get(state.source(x))
    if not len(pattern.active):
        return "it has no active units"
    if len(pattern.active) == len(pattern.units):
        return "all of it is linear"
    if pattern.turned.any():
        return "some of its units are the opposites of the original's"
    if x in state.rows:
        return "its input has new units, or is the result of a skip itself"
    if box is None or not (np.isfinite(box.lower).all() and np.isfinite(box.upper).all()):
        return "its input is unbounded"
    names = (z, state.source(x))
    if any(original.network.tensors[name].size != original.network.shape(name)[-1] for name in names):
        return "the layer has several positions"
    if network.tensors[x].dtype != network.tensors[z].dtype:
        return "its input has another format"
    width = max(network.tensors[name].size for name in (x, *(node.output for node in pattern.after)))
    if width * original.network.tensors[state.source(x)].size > LARGEST_LAYER:
        return "the layer is too large for a skip"
    return None


def _applied(original: Original, state: Rewritten, pattern: Sandwich) -> Rewritten:
    network, x, h = state.network, pattern.before.inputs[0], pattern.relu.output
    assert isinstance(pattern.before.op, Dense)
    form, active = dense_form(pattern.before.op), pattern.active
    left = ~np.isin(np.arange(len(pattern.units)), active)
    units, width = np.flatnonzero(left), network.tensors[x].size
    shape = (*network.shape(h)[:-1], len(units) + width)
    joined = replace(network.tensors[h], name=unused(network.tensors, f"{h}_and_input"), shape=shape)
    places = np.concatenate([units, len(left) + np.arange(width)])
    selection = Node(unused(network.by_name, joined.name), Select(readonly(places), shape), (h, x), (joined.name,))
    _, centre, _ = scaled_rows(original, state, pattern)
    changed = {}
    for node in pattern.after:
        assert isinstance(node.op, Dense)
        V = dense_form(node.op).weight[:, active]
        P = V @ form.weight[active]
        rounded = P.astype(node.op.weight.dtype)
        lift = V @ form.bias[active] + (P - rounded) @ centre
        changed[node.name] = replace(reading(node, P, lift, left), inputs=(joined.name,))
    nodes = [changed.get(node.name, node) for node in network.nodes]
    nodes.insert(next(place for place, node in enumerate(network.nodes) if node.name in changed), selection)
    candidate = replace(
        state,
        network=replace(network, nodes=tuple(nodes), tensors={**network.tensors, joined.name: joined}),
        kept={**state.kept, joined.name: np.concatenate([pattern.units[left], np.full(width, -1)])},
        rows={**state.rows, joined.name: _themselves(original, state, x)},
        of={**state.of, joined.name: h},
    )
    return shrink(candidate, droppable(candidate.network, {}), {})


def _themselves(original: Original, state: Rewritten, x: str) -> Rows:
    """The coordinates that a tensor has, as rows over the original's."""
    over, kept = state.source(x), state.coordinates(x)
    matrix: Array = np.zeros((len(kept), original.network.tensors[over].size))
    matrix[np.arange(len(kept)), kept] = 1.0
    box = original.bounds.intervals[over]
    ends = box.lower.ravel()[kept], box.upper.ravel()[kept]
    return Rows(over, matrix, np.zeros(len(kept)), *ends, np.full(len(kept), -1))
