"""For classifiers: one logit is subtracted from all, so that the readers of the last layer tell one rank less apart.

    N'_i(x) = N_i(x) - N_k(x) for all i:    W'_i = W_i - W_k,  b'_i = b_i - b_k,  row k is 0.

``softmax(z - c) = softmax(z)`` for every number c, and an order stays as it is: probabilities and argmax are the
original's. The logits are not, so that this is done only where it is asked for, and what is promised then is about
``N_i - N_k``. By itself it saves next to nothing; but of the columns of all ``W'`` only ``n_out - 1`` rows are
independent, and so many units are enough for what is linear in front of it (``_rebase``). Any k would do. Rows whose
differences are small lose least in rounding: tried are those k first with the smallest ``sum_ij |W_ij - W_kj| H_j``,
with H the largest magnitudes of what the layer reads.

Done for a graph output of one position that a dense layer writes and that nothing else reads.
Source: METHODS 4.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from reluce.bounds import dense_form
from reluce.network import Array, Dense, Node, readonly
from reluce.rewrite._residual import lowest
from reluce.rewrite._state import Original, Rewritten, Rows, describe

TRIES = 10
"""So many logits are tried as the one to subtract."""


def shift_of(size: int, by: int) -> Array:
    """``I - 1 e_k^T``: every coordinate less coordinate k."""
    matrix = np.eye(size)
    matrix[:, by] -= 1.0
    return matrix


def is_shift(rows: Rows | None, kept: Array | None, name: str, by: int) -> bool:
    """Whether the coordinates of an output stand for exactly those of the original's less one of them, no other way."""
    if rows is None or kept is None or rows.over != name or not (kept < 0).all() or not 0 <= by < len(kept):
        return False
    plain = not rows.shift.any() and bool((rows.turned < 0).all())
    return plain and np.array_equal(rows.matrix, shift_of(len(kept), by))


def shifted_errors(errors: Mapping[str, Array], shifted: Mapping[str, int]) -> dict[str, Array]:
    """What evaluation errors of logits are as errors of differences: both add up."""
    return {name: part + part[shifted[name]] if name in shifted else part for name, part in errors.items()}


def shifts(original: Original, state: Rewritten) -> Iterator[Rewritten] | str:
    """Networks with one logit subtracted from all, those first that should lose least; or why there are none."""
    if len(original.network.outputs) != 1:
        return "it has several outputs"
    (name,) = original.network.outputs
    node, before = state.network.producer.get(name), original.network.producer.get(name)
    if node is None or before is None:
        return "it is an input"
    if not isinstance(before.op, Dense):
        return f"it is written by {describe(before)}, not by a dense layer"
    if not isinstance(node.op, Dense):
        return "it is constant"
    shape = original.network.shape(name)
    if original.network.tensors[name].size != shape[-1]:
        return "it has several positions"
    if shape[-1] < 2:
        return "it is a single number"
    if original.network.consumers[name] or state.network.consumers[name]:
        return "it is read by other nodes"
    return _candidates(original, state, node, _order(original, state, node))


def _order(original: Original, state: Rewritten, node: Node) -> Array:
    """The logits in the order in which they are tried."""
    assert isinstance(node.op, Dense)
    weight = dense_form(node.op).weight
    box = state.interval(original, node.inputs[0])
    reach = np.ones(weight.shape[1]) if box is None else box.magnitude.reshape(-1)
    reach = np.where(np.isfinite(reach), reach, 1.0)
    sizes = [float((np.abs(weight - row) @ reach).sum()) for row in weight]
    return np.argsort(sizes, kind="stable")[:TRIES]


def _candidates(original: Original, state: Rewritten, node: Node, order: Array) -> Iterator[Rewritten]:
    op, name = node.op, node.output
    assert isinstance(op, Dense)
    size, form = len(op.weight), dense_form(op)
    ends, none = np.zeros(size), np.full(size, -1)
    for by in order.tolist():
        rows = Rows(name, shift_of(size, by), np.zeros(size), ends, ends, none)
        rows = replace(rows, low=lowest(original, rows), high=-lowest(original, replace(rows, matrix=-rows.matrix)))
        with np.errstate(over="ignore", invalid="ignore"):
            weight = readonly((form.weight - form.weight[by]).astype(op.weight.dtype))
            bias = None if op.bias is None else readonly((form.bias - form.bias[by]).astype(op.bias.dtype))
        nodes = tuple(
            replace(node, op=Dense(weight, bias)) if other is node else other for other in state.network.nodes
        )
        yield replace(
            state,
            network=replace(state.network, nodes=nodes),
            kept={**state.kept, name: none},
            rows={**state.rows, name: rows},
            shifted={name: by},
        )
