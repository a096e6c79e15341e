"""What a certificate says, as frozen data: parsed with care, believed in nothing. See ``docs/certificate.md``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from reluce_checker._container import unpack
from reluce_checker._errors import Unreadable
from reluce_checker._graph import Array, objects

LEVELS = ("exact", "roundoff", "within")
BELOW = ("table", "zero", "one")
FRACTION = re.compile(r"-?[0-9]{1,3000}(/[1-9][0-9]{0,2999})?")


@dataclass(frozen=True, eq=False)
class Linear:
    """Bounds ``sign * z[row] <= ...`` by default slopes; ``below`` picks the lower ones: the table's, or all 0 or 1."""

    tensor: str
    sign: int
    rows: Array
    below: str


@dataclass(frozen=True, eq=False)
class Split:
    """Bounds of ``sign * z[row]``, each as the largest over leaves that cover the domain.

    ``rows`` ``(leaves,)`` says whose leaf each is. ``over`` names pre-activations, whose coordinates are the columns,
    one after the other: ``split`` ``(leaves, columns)`` has 1, -1 or 0, ``above`` ``(columns,)`` upper slopes,
    ``below`` ``(kinds, columns)`` lower slopes, ``which`` ``(leaves,)`` rows of it, and ``beta`` the multipliers of the
    splits in the order of ``np.nonzero(split)``.
    """

    tensor: str
    sign: int
    rows: Array
    over: tuple[str, ...]
    split: Array
    above: Array
    below: Array
    which: Array
    beta: Array


@dataclass(frozen=True, eq=False)
class Boxes:
    """Signs of ``sign * z[row] <= 0`` proved on parts of the domain.

    Dimension d is coordinate ``places[d]`` of graph input ``inputs[d]``. Node n of the tree is cut in the middle along
    ``dimension[n]``, or is not (-1). Nodes are numbered level by level: the k-th node that is cut, from 0, has the
    children 2 k + 1 and 2 k + 2. ``closed[n, g]`` says that goal g holds on node n by linear bounds of its box.
    """

    tensor: str
    rows: Array
    signs: Array
    inputs: tuple[str, ...]
    places: Array
    dimension: Array
    closed: Array


Fact = Linear | Split | Boxes


@dataclass(frozen=True, eq=False)
class Stable:
    """Coordinates of a pre-activation that are claimed to be never positive, or never negative."""

    inactive: Array
    active: Array


@dataclass(frozen=True, eq=False)
class Relation:
    """Which affine functions of an original tensor the coordinates of a compressed one stand for.

    Coordinate k stands for ``factor[k] * T[kept[k]]`` (where T is a ReLU's output, for the ReLU of so much of its
    input), or where ``kept[k]`` is -1 for the next row of ``matrix @ S + shift``. T is the tensor ``of``, and S is
    ``over``: T itself, or another.
    """

    of: str
    kept: Array
    factor: Array
    matrix: Array
    shift: Array
    over: str


@dataclass(frozen=True, eq=False)
class Multiples:
    """Claims about coordinates of a pre-activation: ``z[unit] = factor * z[to]``, nearly; none is in both."""

    unit: Array
    to: Array
    factor: Array


@dataclass(frozen=True, eq=False)
class Certificate:
    """All of it. ``facts`` and ``stable`` are keyed by pre-activation, ``slopes`` has (above, below) for each.

    ``guard`` names an output that only the compressed network has, ``shift`` outputs that stand for the original's less
    one of its coordinates.
    """

    original: str
    compressed: str
    producer: str
    level: str
    budget: Fraction
    domain: Mapping[str, tuple[Array, Array]]
    epsilon: Mapping[str, Array]
    points: Mapping[str, Array]
    slopes: Mapping[str, tuple[Array, Array]]
    facts: Mapping[str, tuple[Fact, ...]]
    stable: Mapping[str, Stable]
    relations: Mapping[str, Relation]
    multiples: Mapping[str, Multiples]
    guard: str | None
    shift: Mapping[str, int]


def read_certificate(data: bytes) -> Certificate:
    """A certificate from the bytes of its file.

    Raises
    ------
    Unreadable
        Saying what is wrong.
    """
    top = _Part(unpack(data), "certificate")
    facts: dict[str, list[Fact]] = {}
    for part in top.parts("facts"):
        fact = _fact(part)
        facts.setdefault(fact.tensor, []).append(fact)
    return Certificate(
        original=top.part("original").text("sha256"),
        compressed=top.part("compressed").text("sha256"),
        producer=top.printable("producer"),
        level=top.word("level", LEVELS),
        budget=top.number("budget"),
        domain={name: (part.ends("lower"), part.ends("upper")) for name, part in top.named("domain", "input")},
        epsilon={name: part.floats("values", 1) for name, part in top.named("epsilon", "output")},
        points={name: part.floats("values", 2) for name, part in top.named("points", "input")},
        slopes={n: (part.slopes("above", 1), part.slopes("below", 1)) for n, part in top.named("slopes", "tensor")},
        facts={name: tuple(found) for name, found in facts.items()},
        stable={n: Stable(part.rows("inactive"), part.rows("active")) for n, part in top.named("stable", "tensor")},
        relations={name: _relation(part) for name, part in top.named("relations", "tensor")},
        multiples={
            name: _multiples(part) for name, part in (top.named("multiples", "tensor") if top.has("multiples") else ())
        },
        guard=top.printable("guard") if top.has("guard") else None,
        shift={n: part.place("by") for n, part in top.named("shift", "output")} if top.has("shift") else {},
    )


def _fact(part: _Part) -> Fact:
    tensor = part.text("tensor")
    match part.word("kind", ("linear", "split", "boxes")):
        case "linear":
            rows = part.rows("rows")
            if (np.diff(rows) <= 0).any():
                raise part.wrong("rows", "coordinates in rising order")
            return Linear(tensor, part.sign("sign"), rows, part.word("below", BELOW))
        case "split":
            split = part.array("split", "s1", 2)
            if not np.isin(split, (-1, 0, 1)).all():
                raise part.wrong("split", "1, -1 or 0")
            above, below = part.slopes("above", 1), part.slopes("below", 2)
            which, beta = part.rows("which"), part.floats("beta", 1)
            if above.shape != split.shape[1:]:
                raise part.wrong("above", "a slope for each column")
            rows = part.rows("rows")
            if rows.shape != split.shape[:1]:
                raise part.wrong("rows", "a coordinate for each leaf")
            if which.shape != split.shape[:1] or (which >= len(below)).any() or below.shape[1] != split.shape[1]:
                raise part.wrong("which", "a row of 'below' for each leaf")
            if beta.shape != (np.count_nonzero(split),) or (beta < 0).any():
                raise part.wrong("beta", "a number that is not negative for each split")
            over = tuple(part.texts("over"))
            return Split(tensor, part.sign("sign"), rows, over, split, above, below, which, beta)
    signs, dimension = part.array("signs", "s1", 1), part.array("dimension", "s1", 1)
    found = Boxes(
        tensor,
        part.rows("rows"),
        signs,
        tuple(part.texts("inputs")),
        part.rows("places"),
        dimension,
        part.array("closed", "u1", 2),
    )
    if signs.shape != found.rows.shape or not np.isin(signs, (-1, 1)).all():
        raise part.wrong("signs", "1 or -1 for each goal")
    if len(np.unique(2 * found.rows + (signs > 0))) < len(signs):
        raise part.wrong("rows", "every goal once")
    if len(found.inputs) != len(found.places) or len(set(zip(found.inputs, found.places.tolist(), strict=True))) < len(
        found.places
    ):
        raise part.wrong("places", "a coordinate for each of 'inputs', none twice")
    if len(dimension) != 1 + 2 * np.count_nonzero(dimension >= 0) or (dimension >= len(found.places)).any():
        raise part.wrong("dimension", "the nodes of a tree, cut along the dimensions that there are")
    if found.closed.shape != (len(dimension), len(signs)):
        raise part.wrong("closed", "a row for each node, a column for each goal")
    return found


def _relation(part: _Part) -> Relation:
    kept = part.array("kept", "i4", 1)
    if (kept < -1).any():
        raise part.wrong("kept", "coordinates, or -1")
    factor, matrix, shift = part.floats("factor", 1), part.floats("matrix", 2), part.floats("shift", 1)
    affine = int((kept == -1).sum())
    if factor.shape not in (kept.shape, (0,)) or (factor == 0).any():
        raise part.wrong("factor", "nothing, or a number that is not 0 for each coordinate")
    if len(matrix) != affine or len(shift) != affine:
        raise part.wrong("matrix", "a row for each coordinate that is -1 in 'kept'")
    of = part.text("of")
    return Relation(of, kept, factor, matrix, shift, part.text("over") if part.has("over") else of)


def _multiples(part: _Part) -> Multiples:
    unit, to, factor = part.rows("unit"), part.rows("to"), part.floats("factor", 1)
    if to.shape != unit.shape or factor.shape != unit.shape:
        raise part.wrong("to", "a coordinate and a factor for each of 'unit'")
    if len(np.unique(unit)) != len(unit) or np.isin(unit, to).any():
        raise part.wrong("unit", "coordinates once, and none of 'to'")
    return Multiples(unit, to, factor)


class _Part:
    """One object of the text; every access says what was expected where."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise Unreadable(f"{where}: expected an object")
        self._value, self._where = value, where

    def wrong(self, key: str, expected: str) -> Unreadable:
        """The error for an entry that is not as expected."""
        return Unreadable(f"{self._where}, {key!r}: expected {expected}")

    def _get(self, key: str, kind: type, expected: str) -> Any:
        value = self._value.get(key)
        if type(value) is not kind:
            raise self.wrong(key, expected)
        return value

    def has(self, key: str) -> bool:
        """Whether there is an entry at all, for those that may be left out."""
        return key in self._value

    def text(self, key: str) -> str:
        return str(self._get(key, str, "text"))

    def printable(self, key: str) -> str:
        value = self.text(key)
        if not value.isprintable() or len(value) > 200:
            raise self.wrong(key, "a short printable text")
        return value

    def texts(self, key: str) -> list[str]:
        values = self._get(key, list, "a list of texts")
        if any(type(value) is not str for value in values):
            raise self.wrong(key, "a list of texts")
        return list(values)

    def word(self, key: str, words: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in words:
            raise self.wrong(key, "one of " + ", ".join(words))
        return value

    def number(self, key: str) -> Fraction:
        """A float64 number that is not negative, as text."""
        value = self._get(key, str, "a number, as text")
        try:
            number = float(value)
        except ValueError as error:
            raise self.wrong(key, "a number, as text") from error
        if not 0 <= number < float("inf"):
            raise self.wrong(key, "a finite number that is not negative")
        return Fraction(number)

    def sign(self, key: str) -> int:
        value = self._get(key, int, "1 or -1")
        if value not in (1, -1):
            raise self.wrong(key, "1 or -1")
        return int(value)

    def place(self, key: str) -> int:
        value = int(self._get(key, int, "a coordinate"))
        if value < 0:
            raise self.wrong(key, "a coordinate")
        return value

    def array(self, key: str, kind: str, dimensions: int) -> Array:
        value = self._value.get(key)
        expected = f"an array of {dimensions} dimension(s) of type {kind}"
        if not isinstance(value, np.ndarray) or value.ndim != dimensions:
            raise self.wrong(key, expected)
        if value.dtype.kind + str(value.dtype.itemsize) != kind.replace("s", "i"):
            raise self.wrong(key, expected)
        return value

    def floats(self, key: str, dimensions: int) -> Array:
        value = self.array(key, "f8", dimensions)
        if not np.isfinite(value).all():
            raise self.wrong(key, "finite numbers")
        return value

    def slopes(self, key: str, dimensions: int) -> Array:
        value = self.array(key, "u2", dimensions)
        if (value > 4096).any():
            raise self.wrong(key, "slopes from 0 to 4096")
        return value.astype(np.int64)

    def rows(self, key: str) -> Array:
        value = self.array(key, "i4", 1)
        if (value < 0).any():
            raise self.wrong(key, "coordinates that are not negative")
        return value.astype(np.int64)

    def ends(self, key: str) -> Array:
        """Ends of ranges: float64 numbers, or fractions as texts."""
        value = self._value.get(key)
        if not isinstance(value, list):
            return objects([Fraction(float(x)) for x in self.floats(key, 1)])
        texts = self.texts(key)
        if not all(FRACTION.fullmatch(text) for text in texts):
            raise self.wrong(key, "fractions such as -1/3")
        return objects([Fraction(text) for text in texts])

    def part(self, key: str) -> _Part:
        return _Part(self._value.get(key), f"{self._where}, {key!r}")

    def parts(self, key: str) -> list[_Part]:
        values = self._get(key, list, "a list")
        return [_Part(value, f"{self._where}, {key!r}, entry {number}") for number, value in enumerate(values)]

    def named(self, key: str, name: str) -> list[tuple[str, _Part]]:
        """Parts with the text that names each; no name twice."""
        found = [(part.text(name), part) for part in self.parts(key)]
        if len(dict(found)) != len(found):
            raise self.wrong(key, f"every {name} once")
        return found
