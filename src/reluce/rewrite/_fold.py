"""Fold a layer that is linear: two dense layers with nothing between them, or stably active units only, are one.

    h = z = W h_prev + b   gives   W_next h + b_next = (W_next W) h_prev + (W_next b + b_next)

Refused when the product has more parameters than the two layers had, and, at the exact guarantee, when a product is not
representable. Sources: LEO 1.3 D; Serra et al. 2021 Prop. 5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Dense, Dyadic, Node, readonly
from reluce.rewrite._state import Judge, Rewritten, Sandwich

EXACT_PRODUCTS = 5_000_000
"""Multiplications that checking one exact fold may take."""


def fold_layer(state: Rewritten, pattern: Sandwich, exact: bool, judge: Judge) -> Rewritten | str:
    """Fold one layer of stably active units into the dense layers behind it.

    Parameters
    ----------
    state, pattern
        The network so far, and the layer.
    exact
        Whether every new weight has to be representable.
    judge
        Says why the finished candidate must not be taken, if so.

    Returns
    -------
    Rewritten or str
        The smaller network, or the reason why the layer stays.
    """
    if len(pattern.active) < len(pattern.units):
        return "not all of its units are stably active"
    return _folded(state, (pattern.before, pattern.relu), pattern.after, exact, judge)


def fold_linear(state: Rewritten, before: Node, exact: bool, judge: Judge) -> Rewritten | str | None:
    """Fold a dense layer into those that read it as it is; ``before`` is its node, the rest as in ``fold_layer``.

    None where anything else reads it: then there is nothing to fold.
    """
    network = state.network
    after = network.consumers[before.output]
    if not after or not all(isinstance(node.op, Dense) for node in after) or before.output in network.outputs:
        return None
    return _folded(state, (before,), after, exact, judge)


def _folded(
    state: Rewritten, gone: tuple[Node, ...], after: tuple[Node, ...], exact: bool, judge: Judge
) -> Rewritten | str:
    """The network without the nodes of a linear layer, the first of which is its dense node."""
    before = gone[0].op
    assert isinstance(before, Dense)
    dense = [node.op for node in after if isinstance(node.op, Dense)]
    old = _size(before) + sum(_size(op) for op in dense)
    new = sum(len(op.weight) * (before.weight.shape[1] + 1) for op in dense)
    if new > old:
        return f"folding would need more parameters ({new} instead of {old})"
    products = sum(op.weight.size * before.weight.shape[1] for op in dense)
    if exact and products > EXACT_PRODUCTS:
        return "too large to check that every new weight is representable"
    if exact and not all(_representable(before, op) for op in dense):
        return "a new weight is not exactly representable (--guarantee roundoff or within=EPS allows more)"
    folded = _without(state, gone, after)
    why = judge(folded)
    return folded if why is None else why


def _size(op: Dense) -> int:
    return op.weight.size + (0 if op.bias is None else op.bias.size)


def _representable(before: Dense, after: Dense) -> bool:
    """Whether every entry of the product, and of the new bias, is a number of the weights' format."""
    outer = Dyadic.of(after.weight) * Dyadic.of(np.array(after.alpha))
    inner = Dyadic.of(before.weight) * Dyadic.of(np.array(before.alpha))
    bias = Dyadic.of(np.zeros(len(before.weight)) if before.bias is None else before.bias)
    last = Dyadic.of(np.zeros(len(after.weight)) if after.bias is None else after.bias)
    lift = outer @ (bias * Dyadic.of(np.array(before.beta))) + last * Dyadic.of(np.array(after.beta))
    dtype = after.weight.dtype
    return bool((outer @ inner).representable(dtype).all() and lift.representable(dtype).all())


def _without(state: Rewritten, gone: tuple[Node, ...], after: tuple[Node, ...]) -> Rewritten:
    network, before = state.network, gone[0]
    assert isinstance(before.op, Dense)
    inner = dense_form(before.op)
    replaced = {}
    for node in after:
        assert isinstance(node.op, Dense)
        outer = dense_form(node.op)
        dtype = node.op.weight.dtype
        with np.errstate(over="ignore"):
            weight = readonly((outer.weight @ inner.weight).astype(dtype))
            bias = readonly((outer.weight @ inner.bias + outer.bias).astype(dtype))
        replaced[node.name] = replace(node, op=Dense(weight, bias), inputs=before.inputs)
    nodes = tuple(replaced.get(node.name, node) for node in network.nodes if node not in gone)
    lost = {node.output for node in gone}
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in lost}
    return state.taken(replace(network, nodes=nodes, tensors=tensors), {}, lost)
