"""The domain as the user states it: ranges in decimals, or an ``.npz`` with ``lo`` and ``hi``. Exact fractions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from reluce_checker._arrays import Archive
from reluce_checker._errors import Unreadable, Usage
from reluce_checker._exact import Exact
from reluce_checker._graph import Array, Graph, objects
from reluce_checker._intervals import Interval

Domain = Mapping[str, tuple[Array, Array]]
"""For each graph input its lower and upper ends: flat object arrays of ``Fraction``."""

DECIMAL = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,3})?")
FINE = 512
"""Ends that are no dyadic numbers are rounded outward to multiples of ``2**-FINE``."""


def from_ranges(graph: Graph, ranges: Sequence[str]) -> Domain:
    """The box of ``LO,HI`` (all inputs) and ``NAME=LO,HI`` (one input).

    Raises
    ------
    Usage
        When a range cannot be read, or an input is left without one.
    """
    given: dict[str, tuple[Fraction, Fraction]] = {}
    for text in ranges:
        name, _, ends = text.rpartition("=")
        parts = [part.strip() for part in ends.split(",")]
        if len(parts) != 2 or not all(DECIMAL.fullmatch(part) for part in parts):
            raise Usage(f"range {text!r}: expected LO,HI or NAME=LO,HI with decimal numbers")
        if name in given or (name and name not in graph.inputs):
            raise Usage(f"range {text!r}: given twice, or the network has no input {name!r}")
        given[name] = Fraction(parts[0]), Fraction(parts[1])
    missing = [name for name in graph.inputs if name not in given and "" not in given]
    if missing:
        raise Usage(f"no range for input {missing[0]!r}")
    return demand_box(graph, {name: _filled(given.get(name, given.get("")), graph.size(name)) for name in graph.inputs})


def _filled(ends: tuple[Fraction, Fraction] | None, size: int) -> tuple[Array, Array]:
    low, high = ends or (Fraction(0), Fraction(0))
    return np.full(size, low, dtype=object), np.full(size, high, dtype=object)


def from_npz(graph: Graph, data: bytes) -> Domain:
    """The box of an ``.npz`` with arrays ``lo`` and ``hi``, or ``NAME.lo`` and ``NAME.hi`` for several inputs.

    Raises
    ------
    Unreadable
        When it is not such a file, or does not fit the network.
    """
    only = graph.inputs[0] if len(graph.inputs) == 1 else None
    arrays, found = Archive(data), {}
    for name in graph.inputs:
        prefix, size = "" if name == only and f"{name}.lo" not in arrays else f"{name}.", graph.size(name)
        low, high = (_ends(arrays.array(prefix + side, max(size, 1)), size) for side in ("lo", "hi"))
        found[name] = low, high
    return demand_box(graph, found)


def _ends(values: Array, size: int) -> Array:
    if not np.isfinite(values).all():
        raise Unreadable("the domain file cannot be used: its ends must be finite numbers")
    if values.size not in (1, size):
        raise Unreadable(f"the domain file cannot be used: an end has {values.size} numbers where the input has {size}")
    numbers = [Fraction(x) for x in values.ravel().tolist()]
    return objects(numbers if len(numbers) == size else numbers * size)


def demand_box(graph: Graph, domain: Domain) -> Domain:
    """The same domain, once it is known to be a box of a network's inputs.

    Raises
    ------
    Unreadable
        When it has other inputs, other sizes, or a lower end above its upper end.
    """
    if set(domain) != set(graph.inputs):
        raise Unreadable(f"the domain is of inputs {sorted(domain)}, the network has {sorted(graph.inputs)}")
    for name, (low, high) in domain.items():
        if graph.shapes[name] is None:
            raise Unreadable(
                f"the model leaves dimensions of input {name!r} open, other than its batch: fix them in it"
            )
        if not len(low) == len(high) == graph.size(name):
            raise Unreadable(f"the domain of input {name!r} does not have {graph.size(name)} numbers")
        if (low > high).any():
            raise Unreadable(f"the domain of input {name!r} has a lower end above its upper end")
    return domain


def within(inner: Domain, outer: Domain) -> str | None:
    """None where one box lies in the other; else the input that sticks out."""
    for name, (low, high) in inner.items():
        if (low < outer[name][0]).any() or (high > outer[name][1]).any():
            return name
    return None


def enclosed(ends: tuple[Array, Array]) -> Interval:
    """The interval of an input; ends that are no dyadic numbers are rounded outward."""
    low, high = ends
    return Interval.of(_rounded(low, 1), _rounded(high, -1))


def _rounded(ends: Array, sign: int) -> Exact:
    """The numbers themselves, or next to those that are not dyadic a multiple of ``2**-FINE``: below for sign 1."""
    dyadic = [end.denominator.bit_length() - 1 for end in ends if end.denominator & (end.denominator - 1) == 0]
    bits = max([FINE, *dyadic])
    whole = [sign * (((sign * end.numerator) << bits) // end.denominator) for end in ends]
    return Exact(objects(whole).reshape(1, -1), -bits)
