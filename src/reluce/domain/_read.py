"""Domains and samples as users state them: ranges in decimals, ``.npz`` boxes, boxes around data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from math import prod
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np

from reluce.domain._arrays import read_arrays
from reluce.domain._box import ONLY_INPUT, Box, rounded, spell
from reluce.errors import DomainError
from reluce.network import Array, Network

LARGEST_EXPONENT = 10_000
"""Decimal exponents beyond this are refused; float64 ends at 308."""

DomainLike = Box | str | Path | Sequence[str] | Sequence[float] | Mapping[str, Any]
"""Whatever ``make_box`` understands."""


def make_box(network: Network, domain: DomainLike) -> Box:
    """The box that a user means.

    Parameters
    ----------
    network
        The network.
    domain
        A ``Box``; ranges in words, ``"0,1"`` or ``["x=0,1", "y=-1,1"]``; a pair of numbers for all inputs; the path of
        an ``.npz`` or VNN-LIB file; arrays ``{"lo": ..., "hi": ...}``; or ``{"x": (lo, hi), ...}`` for each input.

    Raises
    ------
    DomainError
        When it cannot be read or does not fit the network's inputs.
    """
    if isinstance(domain, Box):
        return _fitting(network, domain)
    if isinstance(domain, Mapping):
        return _box_from_arrays(network, _by_input(network, domain), "arrays")
    if isinstance(domain, (str, Path)) and str(domain).lower().endswith((".vnnlib", ".vnnlib.gz")):
        from reluce.domain._vnnlib import load_vnnlib  # which builds on this file

        return load_vnnlib(network, domain)
    if isinstance(domain, Path) or (isinstance(domain, str) and domain.endswith(".npz")):
        return load_box(network, domain)
    if isinstance(domain, str):
        return box_from_ranges(network, [domain])
    parts: list[Any] = list(domain) if isinstance(domain, tuple | list) else []
    if len(parts) == 2 and all(isinstance(end, int | float) for end in parts):
        return box_from_ranges(network, [f"{parts[0]},{parts[1]}"])
    if not parts or not all(isinstance(text, str) for text in parts):
        raise DomainError(
            f"a domain of type {type(domain).__name__} is not understood; give ranges such as '0,1', the path of an "
            ".npz or VNN-LIB file, arrays {'lo': ..., 'hi': ...}, or a Box (Box.from_data goes around samples)"
        )
    return box_from_ranges(network, [str(text) for text in parts])


def _by_input(network: Network, domain: Mapping[str, Any]) -> dict[str, Array]:
    """Pairs ``NAME: (lo, hi)`` as ``NAME.lo`` and ``NAME.hi``, in the shape of the input; other keys as they are."""
    arrays: dict[str, Array] = {}
    for key, value in domain.items():
        if key in network.inputs and isinstance(value, tuple | list) and len(value) == 2:
            for side, end in zip(("lo", "hi"), value, strict=True):
                array = np.asarray(end)
                arrays[f"{key}.{side}"] = (
                    np.broadcast_to(array, _input_shape(network, key)) if not array.ndim else array
                )
        else:
            arrays[key] = np.asarray(value)
    return arrays


def _fitting(network: Network, box: Box) -> Box:
    """The box of a network's inputs, in their sample shapes."""
    if ONLY_INPUT in box.lower and len(network.inputs) == 1:
        ((low,), (high,)), (name,) = (box.lower.values(), box.upper.values()), network.inputs
        box = replace(box, lower={name: low}, upper={name: high})
    lower, upper = dict(box.lower), dict(box.upper)
    for name in network.inputs:
        if name not in lower:
            raise DomainError(f"no domain for input {name!r}; the box has {_names(lower)}")
        shape = _input_shape(network, name)
        for ends in (lower[name], upper[name]):
            if ends.size != prod(shape) or not same_order(ends.shape, shape):
                raise DomainError(f"domain of input {name!r} has shape {ends.shape}, expected {shape}")
        lower[name], upper[name] = lower[name].reshape(shape), upper[name].reshape(shape)
    return replace(
        box, lower={name: lower[name] for name in network.inputs}, upper={name: upper[name] for name in network.inputs}
    )


def box_from_ranges(network: Network, ranges: Sequence[str]) -> Box:
    """A box from ``LO,HI`` (all inputs) and ``NAME=LO,HI`` specifications.

    Raises
    ------
    DomainError
        When a specification cannot be read, names an unknown input, or an input is left without a domain.
    """
    ends: dict[str, tuple[Fraction, Fraction]] = {}
    general: tuple[Fraction, Fraction] | None = None
    for text in ranges:
        name, separator, interval = text.rpartition("=")
        pair = _interval(interval, text)
        if name in ends or (not separator and general is not None):
            raise DomainError(f"range {text!r}: a range for {repr(name) if separator else 'all inputs'} is given twice")
        if not separator:
            general = pair
        elif name not in network.inputs:
            raise DomainError(f"range {text!r}: the network has no input {name!r}; it has {_names(network.inputs)}")
        else:
            ends[name] = pair
    if general is not None:
        ends = {name: ends.get(name, general) for name in network.inputs}
    _demand_all(network, ends)
    shapes = {name: _input_shape(network, name) for name in network.inputs}
    return Box(
        {name: np.full(shapes[name], ends[name][0], dtype=object) for name in network.inputs},
        {name: np.full(shapes[name], ends[name][1], dtype=object) for name in network.inputs},
        "range " + " ".join(ranges),
    )


def load_box(network: Network, path: str | Path) -> Box:
    """A box from an ``.npz`` file with arrays ``lo`` and ``hi``, or ``NAME.lo`` and ``NAME.hi`` for several inputs.

    Raises
    ------
    DomainError
        When the file cannot be read, an array is missing or has the wrong size, or holds NaN or lo > hi.
    """
    return _box_from_arrays(network, read_arrays(path), Path(path).name)


def _box_from_arrays(network: Network, arrays: Mapping[str, Array], label: str) -> Box:
    lower, upper = {}, {}
    for name in network.inputs:
        prefix = f"{name}." if f"{name}.lo" in arrays or len(network.inputs) > 1 else ""
        for key in (f"{prefix}lo", f"{prefix}hi"):
            if key not in arrays and label.endswith(".npy"):
                raise DomainError(f"{label}: a box is an .npz with lo and hi; for samples there is --domain-from-data")
            if key not in arrays:
                raise DomainError(
                    f"{label}: no domain for input {name!r}: array {key!r} is missing (found {_names(arrays)})"
                )
        lower[name] = _exact(arrays[f"{prefix}lo"], _input_shape(network, name), f"{label}: {prefix}lo")
        upper[name] = _exact(arrays[f"{prefix}hi"], _input_shape(network, name), f"{label}: {prefix}hi")
    return Box(lower, upper, f"box {label}")


def box_from_data(network: Network, data: Mapping[str, Array], margin: str = "0", label: str = "data") -> Box:
    """The smallest box around data, widened by a margin; see ``box_around``.

    Parameters
    ----------
    network
        The network whose inputs the data feeds.
    data
        For each graph input an array ``(samples, *sample shape)``.
    margin
        A non-negative decimal, added on either side of every coordinate.
    label
        Where the data came from, for reports.
    """
    return _fitting(network, box_around({name: data[name] for name in network.inputs}, margin, label))


def box_around(data: Mapping[str, Array], margin: str, label: str) -> Box:
    """The smallest box around data, widened by a margin. An assumption: nothing keeps later inputs inside.

    Parameters
    ----------
    data
        For each input an array ``(samples, *sample shape)``.
    margin
        A non-negative decimal, added on either side of every coordinate.
    label
        Where the data came from, for reports.

    Raises
    ------
    DomainError
        When there are no samples, one is not finite, or the margin is no such decimal.
    """
    width = _decimal(margin, f"margin {margin!r}")
    if width < 0:
        raise DomainError(f"margin {margin!r}: the margin must not be negative")
    lower, upper = {}, {}
    for name, given in data.items():
        values = np.asarray(given)
        owner = f" of {name}" if name else ""
        if values.dtype.kind not in "fiub" or values.ndim == 0 or not len(values):
            raise DomainError(f"{label}{owner}: expected an array of numbers with one row per sample")
        shape, ends = values.shape[1:], []
        for what, extreme, move, direction in (("least", np.min, -width, -1), ("largest", np.max, width, 1)):
            exact = _exact(np.asarray(extreme(values, axis=0)), shape, f"{label}: {what} value{owner}")
            # Rounded outward, so that the box that is used is the box that a file can hold.
            moved = np.asarray(exact + move, dtype=object)  # of a single number numpy makes no array
            ends.append(_exact(rounded(moved, direction), shape, f"{label}: {what} value{owner}"))
        lower[name], upper[name] = ends
    return Box(lower, upper, f"data {label} with margin {margin}", assumption=True)


def load_data(network: Network, path: str | Path) -> dict[str, Array]:
    """Samples from an ``.npy`` file (one input), or an ``.npz`` file with one array per input.

    Returns
    -------
    dict
        For each graph input a float64 array ``(samples, *sample shape)``.

    Raises
    ------
    DomainError
        When the file cannot be read or its arrays do not fit the network's inputs.
    """
    arrays = read_arrays(path)
    if len(network.inputs) == 1 and network.inputs[0] not in arrays:
        if "X" not in arrays and len(arrays) > 1:
            raise DomainError(
                f"{path}: holds {_names(arrays)}; name the samples 'X' or {network.inputs[0]!r}, after the input"
            )
        chosen = arrays.get("X", next(iter(arrays.values()), None))
        arrays = {} if chosen is None else {network.inputs[0]: chosen}
    return fit_data(network, arrays, str(path))


def fit_data(network: Network, arrays: Mapping[str, Array], label: str = "data") -> dict[str, Array]:
    """Bring samples into the sample shapes of the inputs: one array per input, one row per sample.

    Raises
    ------
    DomainError
        When an input has no array, sizes do not fit, or the numbers of samples differ.
    """
    data = {}
    for name in network.inputs:
        if name not in arrays:
            raise DomainError(f"{label}: no array for input {name!r} (found {_names(arrays)})")
        values, shape = np.asarray(arrays[name]), _input_shape(network, name)
        if values.dtype.kind not in "fiub":
            raise DomainError(f"{label}: array for input {name!r} holds {values.dtype}, not numbers")
        size = int(np.prod(shape, dtype=np.int64))
        rows = values.ndim > 0 and len(values) > 0 and values[0].size == size
        if not rows or not same_order(values.shape[1:], shape):
            raise DomainError(
                f"{label}: array for input {name!r} has shape {values.shape}; "
                f"expected one row per sample with {size} values each (shape {shape})"
            )
        data[name] = values.reshape(len(values), *shape).astype(np.float64)
    if len({len(values) for values in data.values()}) > 1:
        raise DomainError(f"{label}: the inputs have different numbers of samples")
    return data


def _exact(values: Array, shape: tuple[int, ...], label: str) -> Array:
    size = int(np.prod(shape, dtype=np.int64))
    if values.dtype.kind not in "fiub":
        raise DomainError(f"{label}: holds {values.dtype}, not numbers")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        raise DomainError(f"{label}: holds {values.dtype}; store float64")
    if values.size != size:
        fault = f"coordinate {values.size} is missing" if values.size < size else f"coordinate {size} is one too many"
        raise DomainError(f"{label}: has {values.size} values, expected {size}: {fault}")
    if not same_order(values.shape, shape):
        raise DomainError(f"{label}: has shape {spell(values.shape)}, expected {spell(shape)}")
    values = values.reshape(shape)
    for index in np.argwhere(~np.isfinite(values))[:1] if values.dtype.kind == "f" else ():
        place = tuple(int(i) for i in index)
        raise DomainError(f"{label}: {values[place]} at coordinate {spell(place)}; every end must be finite")
    known: dict[object, Fraction] = {}
    flat = [known.setdefault(value, Fraction(value)) for value in values.ravel().tolist()]
    result = np.empty(size, dtype=object)
    result[:] = flat
    return result.reshape(shape)


def same_order(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether one of two shapes of one size only splits axes of the other: [6] and [1, 2, 3], not [3, 2] and [2, 3]."""
    first, second = (set(accumulate((n for n in shape if n != 1), mul)) for shape in (given, wanted))
    return first <= second or second <= first


def _interval(text: str, whole: str) -> tuple[Fraction, Fraction]:
    parts = text.split(",")
    if len(parts) != 2:
        raise DomainError(f"range {whole!r}: expected LO,HI or NAME=LO,HI")
    low, high = (_decimal(part.strip(), f"range {whole!r}") for part in parts)
    if low > high:
        raise DomainError(f"range {whole!r}: the lower end exceeds the upper end")
    return low, high


def _decimal(text: str, label: str) -> Fraction:
    try:
        exponent = text.lower().partition("e")[2]
        if exponent and abs(int(exponent)) > LARGEST_EXPONENT:  # Fraction would write out all its digits
            raise OverflowError
        value = Fraction(text)
        float(value)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise DomainError(f"{label}: {text!r} is not a finite decimal number") from error
    return value


def _demand_all(network: Network, ends: Mapping[str, object]) -> None:
    for name in network.inputs:
        if name not in ends:
            raise DomainError(f"no domain for input {name!r}; give a range for it, such as {name}=0,1")


def _input_shape(network: Network, name: str) -> tuple[int, ...]:
    shape = network.tensors[name].shape
    if shape is None:
        raise DomainError(
            f"input {name!r} has dimensions that the model leaves open; "
            f"fix them, with numbers for all but the batch: --input-shape {name}:-1,D1,.."
        )
    return shape


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
