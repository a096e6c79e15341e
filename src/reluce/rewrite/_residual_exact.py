"""The residual of a dense layer against the original's, settled in dyadic integers: equal, or not shown to be.

The same substitutions as in ``_residual``, without rounding: exactly known constants move into the constant term,
stably active units are replaced by their pre-activations, and what is left has to be 0.
"""

from __future__ import annotations

import numpy as np

from reluce.network import Array, Constant, Dense, Dyadic, Node, Op, Relu
from reluce.rewrite._residual import columns_of
from reluce.rewrite._state import Original, Rewritten


def exact_residual(
    original: Original, state: Rewritten, node: Node, before: Node, rows: Array, source: str | None
) -> Array:
    """0 for the rows that are proved equal in dyadic integers, infinity for the others."""
    assert isinstance(before.op, Dense)
    name = before.inputs[0]
    weight, bias = _exact_parameters(before.op)
    new_weight, new_bias = _exact_parameters(node.op)
    C, c = -weight[rows], new_bias - bias[rows]
    while name != source:
        C, c = _absorb_constants(original, name, C, c)
        step = None if source is None else _exact_through(original, name, C, c)
        if step is None:
            break
        name, C, c = step
    if name == source:
        columns = columns_of(state, original.network, name)
        assert columns is not None
        scattered = np.zeros(C.shape, dtype=object)
        scattered[:, columns] = new_weight.mantissa
        C = C + Dyadic(scattered, new_weight.exponent)
    elif source is not None:
        return np.full(len(rows), np.inf)
    C, c = _absorb_constants(original, name, C, c)
    if (C.sign() != 0).any():
        step = _exact_through(original, name, C, c)
        if step is None:
            return _zero_or_unknown(C, c)
        name, C, c = step
        C, c = _absorb_constants(original, name, C, c)
    return _zero_or_unknown(C, c)


def _zero_or_unknown(C: Dyadic, c: Dyadic) -> Array:
    return np.where((C.sign() == 0).all(axis=1) & (c.sign() == 0), 0.0, np.inf)


def plainly_equal(
    original: Original, state: Rewritten, node: Node, before: Node, rows: Array, source: str | None
) -> bool:
    """Whether a dense layer kept its weights and lost only columns that are zero or read zeros (the common case)."""
    if source != before.inputs[0] or not isinstance(node.op, Dense) or not isinstance(before.op, Dense):
        return False
    new, old = node.op, before.op
    if (new.alpha, new.beta) != (old.alpha, old.beta) or (new.bias is None) != (old.bias is None):
        return False
    if new.bias is not None and old.bias is not None and not np.array_equal(new.bias, old.bias[rows]):
        return False
    columns = columns_of(state, original.network, source)
    if columns is None or not np.array_equal(new.weight, old.weight[np.ix_(rows, columns)]):
        return False
    lost = np.setdiff1d(np.arange(old.weight.shape[1]), columns)
    box = original.bounds.intervals[source]
    zero = ((box.lower == 0) & (box.upper == 0)).reshape(-1, old.weight.shape[1]).all(axis=0)[lost]
    return bool((zero | ~(old.weight[np.ix_(rows, lost)] != 0).any(axis=0)).all())


def _exact_parameters(op: Op) -> tuple[Dyadic, Dyadic]:
    if isinstance(op, Constant):
        value = op.value.reshape(-1, op.value.shape[-1])
        return Dyadic(np.zeros((value.shape[1], 0), dtype=object), 0), Dyadic.of(value[0])
    assert isinstance(op, Dense)
    bias = np.zeros(len(op.weight)) if op.bias is None else op.bias
    alpha, beta = Dyadic.of(np.array(op.alpha)), Dyadic.of(np.array(op.beta))
    return Dyadic.of(op.weight) * alpha, Dyadic.of(bias) * beta


def _absorb_constants(original: Original, name: str, C: Dyadic, c: Dyadic) -> tuple[Dyadic, Dyadic]:
    """Move exactly known constants of a tensor from the coefficients into the constant term."""
    known = original.bounds.constants[name]
    width = C.shape[1]
    value = known.value.mantissa.reshape(-1, width)
    fixed = known.exact.reshape(-1, width).all(axis=0) & np.asarray(value == value[0]).all(axis=0)
    used = np.flatnonzero(fixed & (C.sign() != 0).any(axis=0))
    if used.size:
        c = c + C[:, used] @ Dyadic(value[0][used], known.value.exponent)
        rest = C.mantissa.copy()
        rest[:, used] = 0
        C = Dyadic(rest, C.exponent)
    return C, c


def _exact_through(original: Original, name: str, C: Dyadic, c: Dyadic) -> tuple[str, Dyadic, Dyadic] | None:
    """Substitute stably active units exactly; None when anything else carries a coefficient."""
    relu = original.network.producer.get(name)
    below = original.network.producer.get(relu.inputs[0]) if relu is not None and isinstance(relu.op, Relu) else None
    if relu is None or below is None or not isinstance(below.op, Dense):
        return None
    used = np.flatnonzero((C.sign() != 0).any(axis=0))
    lower = original.bounds.intervals[relu.inputs[0]].lower.reshape(-1, C.shape[1])
    if not (lower[:, used] >= 0).all():
        return None
    weight, bias = _exact_parameters(below.op)
    return below.inputs[0], C[:, used] @ weight[used], c + C[:, used] @ bias[used]
