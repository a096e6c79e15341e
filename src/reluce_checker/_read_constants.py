"""Constants that the file computes instead of storing: only what is exact is followed."""

from __future__ import annotations

from math import prod

import numpy as np

from reluce_checker._graph import Array
from reluce_checker._read_call import FORMATS, Call, NotModelled, bounded, known
from reluce_checker._read_movement import MOVES, moved

ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}


def computed(call: Call) -> list[Array] | None:
    """The outputs of a node that depends on no input, where they are exact; None where they are not followed."""
    first = call.value(0)
    if call.kind in ("Shape", "Size") and first is not None and first.shape is not None and -1 not in first.shape:
        call.demand("start end" if call.kind == "Shape" and call.opset >= 15 else "")
        part = first.shape[call.flag("start", 0) : call.flag("end", len(first.shape))]
        return [np.array(part if call.kind == "Shape" else prod(part), np.int64)]
    arrays = [part.constant for part in call.values if part is not None and part.constant is not None]
    if not arrays or len(arrays) != len(call.values):
        return None
    if call.kind in MOVES:
        return moved(call, arrays if call.kind == "Concat" else arrays[:1])
    x, y = arrays[0], arrays[-1]
    match call.kind, len(arrays):
        case "Identity", 1:
            return [x]
        case "Neg", 1 if x.dtype.kind == "f":
            return [-x]
        case "Cast", 1:
            return [_cast(call, x)]
        case "ConstantOfShape", 1:
            fill = call.flag("value", known(np.zeros(1, np.float32))).constant
            if fill is None or x.ndim != 1 or x.dtype.kind != "i":
                raise NotModelled("not as the standard has it")
            return [np.full(bounded([int(k) for k in x]), fill.item(), fill.dtype)]
        case "Add" | "Sub" | "Mul" | "Div", 2 if call.opset >= 7 or not y.ndim:
            return [_arithmetic(call.kind, x, y)]
    return None


def _arithmetic(kind: str, a: Array, b: Array) -> Array:
    """Whole numbers, in Python's arithmetic, which does not overflow; of floats only a sum with nothing but zeros."""
    bounded(np.broadcast_shapes(a.shape, b.shape))
    if a.dtype == b.dtype and a.dtype.kind == "f" and kind == "Add" and not (a.any() and b.any()):
        return np.asarray(a + b)
    if a.dtype != b.dtype or a.dtype.kind != "i" or (kind == "Div" and ((a < 0).any() or (b <= 0).any())):
        raise NotModelled("may round")  # towards zero or down: implementations differ on negative quotients
    if max(a.size, b.size) > 1 << 12:
        raise NotModelled("too many numbers for Python's arithmetic")
    exact = np.asarray(ARITHMETIC[kind](a.astype(object), b.astype(object)), object)
    limits = np.iinfo(a.dtype)
    if not all(limits.min <= k <= limits.max for k in exact.reshape(-1)):
        raise NotModelled("too large a number")
    return exact.astype(a.dtype)


def _cast(call: Call, x: Array) -> Array:
    """A cast that changes no number."""
    call.demand("to")
    target = FORMATS.get(call.flag("to", 0))
    if target is None:
        raise NotModelled("a format that numpy does not have")
    with np.errstate(all="ignore"):
        result = x.astype(target)
        if not np.array_equal(result.astype(x.dtype), x):
            raise NotModelled("changes numbers")
    return result
