"""Fold a layer whose remaining units are all stably active: on the domain it is linear, so it needs no layer.

    h = z = W h_prev + b   gives   W_next h + b_next = (W_next W) h_prev + (W_next b + b_next)

Refused when the product has more parameters than the two layers had, and, at the exact guarantee, when a product is not
representable. Sources: LEO 1.3 D; Serra et al. 2021 Prop. 5.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Dense, Dyadic, readonly
from reluce.rewrite._state import Judge, Rewritten, Sandwich

EXACT_PRODUCTS = 5_000_000
"""Multiplications that checking one exact fold may take."""


def fold_layer(state: Rewritten, pattern: Sandwich, exact: bool, judge: Judge) -> Rewritten | str:
    """Fold one layer into the dense layers behind it.

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
    assert isinstance(pattern.before.op, Dense)
    before, after = pattern.before.op, [node.op for node in pattern.after]
    dense = [op for op in after if isinstance(op, Dense)]
    old = _size(before) + sum(_size(op) for op in dense)
    new = sum(len(op.weight) * (before.weight.shape[1] + 1) for op in dense)
    if new > old:
        return f"folding would need more parameters ({new} instead of {old})"
    products = sum(op.weight.size * before.weight.shape[1] for op in dense)
    if exact and products > EXACT_PRODUCTS:
        return "too large to check that every new weight is representable"
    if exact and not all(_representable(before, op) for op in dense):
        return "a new weight is not exactly representable (--guarantee roundoff or within=EPS allows more)"
    folded = _folded(state, pattern)
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


def _folded(state: Rewritten, pattern: Sandwich) -> Rewritten:
    network = state.network
    assert isinstance(pattern.before.op, Dense)
    inner = dense_form(pattern.before.op)
    replaced = {}
    for node in pattern.after:
        assert isinstance(node.op, Dense)
        outer = dense_form(node.op)
        dtype = node.op.weight.dtype
        with np.errstate(over="ignore"):
            weight = readonly((outer.weight @ inner.weight).astype(dtype))
            bias = readonly((outer.weight @ inner.bias + outer.bias).astype(dtype))
        replaced[node.name] = replace(node, op=Dense(weight, bias), inputs=pattern.before.inputs)
    gone = {pattern.before.name, pattern.relu.name}
    nodes = tuple(replaced.get(node.name, node) for node in network.nodes if node.name not in gone)
    lost = {pattern.before.output, pattern.relu.output}
    tensors = {name: tensor for name, tensor in network.tensors.items() if name not in lost}
    return state.taken(replace(network, nodes=nodes, tensors=tensors), {}, lost)
