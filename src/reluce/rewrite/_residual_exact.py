"""The residual of a dense layer against the original's, settled in dyadic integers: equal, or not shown to be.

The same substitutions as in ``_residual``, without rounding: exactly known constants move into the constant term,
stably active units are replaced by their pre-activations, and what is left has to be 0.
"""

from __future__ import annotations

import numpy as np

from reluce.network import Array, Constant, Dense, Dyadic, Node, Op, Relu
from reluce.rewrite._residual import Multiples, Proved, columns_of, sound
from reluce.rewrite._state import Original, Parallels, Rewritten


def exact_residual(
    original: Original, state: Rewritten, node: Node, before: Node, source: str | None, known: Proved
) -> Array:
    """0 for the rows that are proved equal in dyadic integers, infinity for the others."""
    assert isinstance(before.op, Dense)
    name, target = before.inputs[0], None if source is None else state.source(source)
    new_weight, new_bias = _exact_parameters(node.op)
    C, c, possible = _wanted(original, state, node.output, before)
    C, c = -C, new_bias - c
    while name != target:
        C, c = _absorb_constants(original, name, C, c)
        step = None if target is None else _exact_through(original, name, C, c, None, known)
        if step is None:
            break
        name, C, c = step
    linear, ahead = None, None
    if name == target and source is not None:
        columns, new = columns_of(state, original.network, source), state.rows.get(source)
        assert columns is not None
        scattered = np.zeros(C.shape, dtype=object)
        scattered[:, columns[columns >= 0]] = new_weight.mantissa[:, columns >= 0]
        C = C + Dyadic(scattered, new_weight.exponent)
        if new is not None and source in state.of:
            ahead = new.over, new_weight[:, columns < 0] @ Dyadic.of(new.matrix)
        elif new is not None:
            relu = original.network.producer.get(name)
            if relu is None or relu.inputs != (new.over,):
                return np.full(c.shape, np.inf)
            mine, opposite = new_weight[:, columns < 0], new.turned >= 0
            turned = np.zeros(C.shape, dtype=object)
            turned[:, new.turned[opposite]] = mine.mantissa[:, opposite]  # relu(-z_i) = h_i - z_i
            C = C + Dyadic(turned, mine.exponent)
            linear, c = mine @ Dyadic.of(new.matrix), c + mine @ Dyadic.of(new.shift)
    elif source is not None:
        return np.full(c.shape, np.inf)
    equal = _exactly_zero(original, name, C, c, linear, known, ahead)
    return np.where(possible, equal, np.inf)


def _exactly_zero(
    original: Original,
    name: str,
    C: Dyadic,
    c: Dyadic,
    linear: Dyadic | None,
    known: Proved,
    ahead: tuple[str, Dyadic] | None = None,
) -> Array:
    """0 where ``C @ T + linear @ z + c`` vanishes, as it is or one or more layers down; infinity elsewhere.

    ``ahead`` has coefficients of another tensor in front of T, which count as well.
    """
    C, c = _absorb_constants(original, name, C, c)
    best = _zero_or_unknown(C, c) if ahead is None else np.full(c.shape, np.inf)
    if linear is not None:
        best = np.where((linear.sign() == 0).all(axis=1), best, np.inf)
    rows = np.flatnonzero(best)
    C, c, linear = C[rows], c[rows], None if linear is None else linear[rows]
    while rows.size:
        step = _exact_through(original, name, C, c, linear, known)
        if step is None:
            break
        name, C, c = step
        if ahead is not None and ahead[0] == name:
            C, ahead = C + ahead[1][rows], None
        C, c = _absorb_constants(original, name, C, c)
        zero = (_zero_or_unknown(C, c) == 0) & (ahead is None)
        best[rows[zero]] = 0.0
        rows, C, c, linear = rows[~zero], C[~zero], c[~zero], None
    return best


def _wanted(original: Original, state: Rewritten, name: str, before: Node) -> tuple[Dyadic, Dyadic, Array]:
    """Rows of what a dense layer's output stands for, as functions of the layer's input; and which of them are such."""
    assert isinstance(before.op, Dense)
    weight, bias = _exact_parameters(before.op)
    rows, new = columns_of(state, original.network, name), state.rows.get(name)
    assert rows is not None
    C, c = weight[rows], bias[rows]
    if new is None:
        return C, c, np.ones(len(rows), dtype=bool)
    mine, matrix = rows < 0, Dyadic.of(new.matrix)
    C = _replaced(C, np.flatnonzero(mine), matrix @ weight)
    c = _replaced(c, np.flatnonzero(mine), matrix @ bias + Dyadic.of(new.shift))
    return C, c, ~mine if new.over != before.output else np.ones(len(rows), dtype=bool)


def _replaced(values: Dyadic, rows: Array, others: Dyadic) -> Dyadic:
    """The same with other values in some rows."""
    low = min(values.exponent, others.exponent)
    mantissa = values.aligned(low).copy()
    mantissa[rows] = others.aligned(low)
    return Dyadic(mantissa, low)


def exact_multiples(original: Original, name: str, claim: Parallels, known: Proved) -> Multiples:
    """Which pre-activations are exactly the multiples that they are claimed to be: error 0, of the others infinity."""
    before = original.network.producer.get(name)
    if before is None or not isinstance(before.op, Dense) or not sound(claim):
        return Multiples(claim, np.full(len(claim.unit), np.inf))
    weight, bias = _exact_parameters(before.op)
    factor = Dyadic.of(claim.factor)
    C = weight[claim.unit] - weight[claim.to] * factor.reshape((-1, 1))
    c = bias[claim.unit] - bias[claim.to] * factor
    source = before.inputs[0]
    return Multiples(claim, _exactly_zero(original, source, C, c, None, known))


def _zero_or_unknown(C: Dyadic, c: Dyadic) -> Array:
    return np.where((C.sign() == 0).all(axis=1) & (c.sign() == 0), 0.0, np.inf)


def plainly_equal(
    original: Original, state: Rewritten, node: Node, before: Node, rows: Array, source: str | None
) -> bool:
    """Whether a dense layer kept its weights and lost only columns that are zero or read zeros (the common case)."""
    if source is None or state.source(source) != before.inputs[0] or {source, node.output} & set(state.rows):
        return False
    if not isinstance(node.op, Dense) or not isinstance(before.op, Dense):
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
    box = original.bounds.intervals[before.inputs[0]]
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


def _exact_through(
    original: Original, name: str, C: Dyadic, c: Dyadic, linear: Dyadic | None, known: Proved
) -> tuple[str, Dyadic, Dyadic] | None:
    """Substitute stably active units exactly, with multiples expressed by each other and what is linear anyway.

    None when anything else carries a coefficient.
    """
    relu = original.network.producer.get(name)
    if relu is not None and isinstance(relu.op, Dense) and linear is None:  # a dense layer that is read as it is
        weight, bias = _exact_parameters(relu.op)
        return relu.inputs[0], C @ weight, c + C @ bias
    below = original.network.producer.get(relu.inputs[0]) if relu is not None and isinstance(relu.op, Relu) else None
    if relu is None or below is None or not isinstance(below.op, Dense):
        return None
    active = np.asarray((original.bounds.intervals[relu.inputs[0]].lower >= 0).reshape(-1, C.shape[1]).all(axis=0))
    if relu.inputs[0] in known:
        C, linear = _without_multiples(C, linear, known[relu.inputs[0]], active)
    used = np.flatnonzero((C.sign() != 0).any(axis=0))
    if not active[used].all():
        return None
    total = C if linear is None else C + linear
    used = np.flatnonzero((total.sign() != 0).any(axis=0))
    weight, bias = _exact_parameters(below.op)
    return below.inputs[0], total[:, used] @ weight[used], c + total[:, used] @ bias[used]


def _without_multiples(C: Dyadic, linear: Dyadic | None, known: Multiples, active: Array) -> tuple[Dyadic, Dyadic]:
    """Express units that are exactly multiples by those that they are multiples of, unless they are linear anyway."""
    claim = known.claim
    mine = (known.error == 0) & ~active[claim.unit] & (C.sign()[:, claim.unit] != 0).any(axis=0)
    part = Dyadic(np.zeros(C.shape, dtype=object), 0) if linear is None else linear
    for unit, to, factor in zip(claim.unit[mine], claim.to[mine], claim.factor[mine], strict=True):
        A = C[:, unit]
        C = _moved(C, unit, to, A * Dyadic.of(np.array(abs(factor))))
        if factor < 0:
            part = _moved(part, None, to, A * Dyadic.of(np.array(factor)))
    return C, part


def _moved(values: Dyadic, column: int | None, to: int, more: Dyadic) -> Dyadic:
    """The same with a column emptied, and more in another."""
    low = min(values.exponent, more.exponent)
    mantissa = values.aligned(low).copy()
    if column is not None:
        mantissa[:, column] = 0
    mantissa[:, to] = mantissa[:, to] + more.aligned(low)
    return Dyadic(mantissa, low)
