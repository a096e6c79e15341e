"""Whether two operations are the same, and how much one magnifies a difference."""

from __future__ import annotations

import numpy as np

from reluce_checker._graph import Array, BatchNorm, Constant, Dense, Monotone, Op, Opaque, Scale, Select


def same_operation(new: Op, old: Op, kept: Array | None = None) -> bool:
    """Whether two operations compute the same, on the coordinates ``kept`` of the old one where it is elementwise."""
    if type(new) is not type(old):
        return False
    match new, old:
        case Dense(), Dense():
            same = _equal(new.weight, old.weight) and (new.alpha, new.beta) == (old.alpha, old.beta)
            return same and _equal(new.bias, old.bias)
        case Scale(), Scale():
            parts = _equal(new.factor, old.factor, kept) and _equal(new.shift, old.shift, kept)
            return parts and new.divide == old.divide
        case BatchNorm(), BatchNorm():
            names = ("scale", "shift", "mean", "variance")
            return new.epsilon == old.epsilon and all(
                _equal(getattr(new, name), getattr(old, name), kept) for name in names
            )
        case Select(), Select():
            return np.array_equal(new.indices, old.indices)
        case Constant(), Constant():
            return _equal(new.value, old.value)
    return new == old


def _equal(new: Array | None, old: Array | None, kept: Array | None = None) -> bool:
    if new is None or old is None:
        return new is old
    if kept is not None:
        new, old = new.reshape(-1), old.reshape(-1)[kept]
    return new.shape == old.shape and bool((new == old).all())


def lipschitz(op: Monotone) -> float | None:
    """The largest slope of a function; None where it is not known here."""
    simple = {
        "Sigmoid": 0.25,
        "Tanh": 1.0,
        "Softplus": 1.0,
        "Clip": 1.0,
        "Softsign": 1.0,
        "Erf": 1.25,
        "LeakyRelu": 1.0,
    }
    if op.function == "Elu":
        return max(1.0, *op.parameters)
    return op.parameters[0] if op.function == "HardSigmoid" else simple.get(op.function)


def kind_of(op: Op) -> str:
    return op.kind if isinstance(op, Opaque) else type(op).__name__
