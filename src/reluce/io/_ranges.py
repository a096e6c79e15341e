"""Input ranges that other tools store in a model's metadata.

onnxsim keeps, one entry a tensor, ``onnxsim.range.<tensor> = {"min": end, "max": end}`` in the ``metadata_props`` of
the model: a promise about real use. An end is a number, a nested list that broadcasts to all axes of the tensor, the
batch included, or ``null``: unbounded on that side. ``onnxsim.precondition.range.<input>`` has the same form and says
that an earlier rewrite of the model is valid only inside that box.

The decimals are taken at their word: ``0.1`` is 1/10.

Source: https://github.com/onnxsim/onnxsim, ``onnxsim/ranges.py``, ``onnxsim/range_opt.py``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from onnx import ModelProto

from reluce.io._loaded import Ranges
from reluce.network import Array

KEYS = ("onnxsim.range", "onnxsim.precondition.range")
"""Whose entries are read, the first that has a usable one for an input."""

LARGEST_EXPONENT = 1000
"""Decimal exponents beyond this are refused; float64 ends at 308."""


class _Malformed(Exception):
    """Says why an entry is not used."""


def stored_ranges(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...] | None], batched: bool
) -> tuple[Ranges | None, tuple[str, ...]]:
    """The input ranges that a model's metadata states.

    Parameters
    ----------
    model
        The model.
    shapes
        The sample shape of each graph input, ``None`` where it is not known. Entries for other tensors are passed over.
    batched
        Whether sample shapes leave out axis 0.

    Returns
    -------
    tuple
        The ranges, ``None`` where there are none; and one note for each entry that cannot be read: a hint that nobody
        can read is no reason to refuse a model.
    """
    ends: dict[str, tuple[Array, Array]] = {}
    used: dict[str, None] = {}
    notes = []
    for key in KEYS:
        for name, texts in _entries(model, f"{key}.").items():
            if name not in shapes or name in ends:
                continue
            try:
                ends[name] = _ends(texts, shapes[name], batched)
            except _Malformed as why:
                notes.append(f"metadata {key}.{name} cannot be read ({why}) and is not used")
            else:
                used[key] = None
    if not ends:
        return None, tuple(notes)
    return Ranges(ends, f"metadata {' and '.join(used)} (onnxsim)"), tuple(notes)


def _entries(model: ModelProto, prefix: str) -> dict[str, list[str]]:
    """What stands under each tensor's name; a file can hold a key more than once."""
    found: dict[str, list[str]] = {}
    for entry in model.metadata_props:
        if entry.key.startswith(prefix):
            found.setdefault(entry.key.removeprefix(prefix), []).append(entry.value)
    return found


def _ends(texts: list[str], shape: tuple[int, ...] | None, batched: bool) -> tuple[Array, Array]:
    if len(set(texts)) > 1:
        raise _Malformed("it is given twice")
    if shape is None:
        raise _Malformed("the shape of the input is not known")
    stated = _parsed(texts[0])
    if not isinstance(stated, dict) or not {"min", "max"} & stated.keys():
        raise _Malformed('expected {"min": ..., "max": ...}')
    # A side that is left out is open, as for onnxsim itself.
    lower, upper = (_end(stated.get(side), side, shape, batched) for side in ("min", "max"))
    pairs = zip(lower.ravel(), upper.ravel(), strict=True)
    if any(low is not None and high is not None and low > high for low, high in pairs):
        raise _Malformed("min exceeds max")
    return lower, upper


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text, parse_float=_number, parse_int=_number, parse_constant=_refused, object_pairs_hook=_object
        )
    except json.JSONDecodeError as error:
        raise _Malformed(f"no JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _Malformed("its lists are nested too deeply") from None


def _number(text: str) -> Fraction:
    try:
        exponent = text.lower().partition("e")[2]
        if exponent and abs(int(exponent)) > LARGEST_EXPONENT:  # Fraction would write out all its digits
            raise OverflowError
        value = Fraction(text)
        float(value)
    except (ValueError, OverflowError):  # int() refuses thousands of digits with a ValueError
        return _refused(text)
    return value


def _refused(text: str) -> Fraction:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise _Malformed(f"{shown} is not a finite number that float64 can hold")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Malformed("it states a key twice")
    return found


def _end(value: Any, side: str, shape: tuple[int, ...], batched: bool) -> Array:
    """One end in the input's sample shape."""
    if value is None:
        return np.full(shape, None, dtype=object)
    dims, flat = _flattened(value, side)
    rank = len(shape) + batched
    if len(dims) > rank:
        raise _Malformed(f"{side} has {len(dims)} axes, the input has {rank}")
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    array = array.reshape(dims)
    if batched and len(dims) == rank:
        if (array != array[:1]).any():
            raise _Malformed(f"{side} differs between the {dims[0]} samples of a batch")
        array = array[0]
    try:
        # A copy: what broadcast_to returns shares its elements. np.array keeps a scalar an array.
        return np.array(np.broadcast_to(array, shape), dtype=object)
    except ValueError:
        expected = f"{['N'] * batched + list(shape)}".replace("'", "")
        raise _Malformed(f"{side} has the shape {dims}, which does not broadcast to {expected}") from None


def _flattened(value: Any, side: str) -> tuple[list[int], list[Fraction]]:
    """Lengths of the axes of a nested list, and its numbers in order."""
    dims: list[int] = []
    level = [value]
    while isinstance(level[0], list):
        first = len(level[0])
        if not first or any(not isinstance(part, list) or len(part) != first for part in level):
            raise _Malformed(f"the lists of {side} are empty or of different lengths")
        dims.append(first)
        level = [entry for part in level for entry in part]
    if not all(isinstance(entry, Fraction) for entry in level):
        raise _Malformed(f"{side} is neither null, nor a number, nor lists of numbers")
    return dims, level
