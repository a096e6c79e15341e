"""The input domain: a closed box with exact rational ends.

Decimals such as 0.1 are kept as the rational numbers that they spell. Where floats are needed, ``outer`` rounds
outward (every statement proved for it holds on the domain) and ``inner`` rounds inward (every float point in it lies in
the domain, so it can serve as a witness).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import nextafter
from typing import Any

import numpy as np

from reluce.errors import DomainError
from reluce.network import Array

Ends = tuple[Array, Array]

LONG = 10_000
"""Bits of a number from which on it is written in hexadecimal."""

ONLY_INPUT = ""
"""Stands for the name of the only input, where a box is made before the network is known."""


@dataclass(frozen=True, eq=False)
class Box:
    """A box for each graph input.

    Parameters
    ----------
    lower, upper
        For each graph input an object array of ``Fraction`` with the input's sample shape.
    description
        How the box was stated, for reports.
    assumption
        True when the box was derived from data: nothing guarantees that later inputs stay inside.
    notes
        What the user should know of how the box was read, one line each.

    Raises
    ------
    DomainError
        When a lower end exceeds the upper end; the message names the coordinate.
    """

    lower: Mapping[str, Array]
    upper: Mapping[str, Array]
    description: str = ""
    assumption: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ends: tuple[Any, Any] = (self.lower, self.upper)
        if not all(isinstance(side, Mapping) for side in ends):
            raise DomainError(
                "a Box has ends by input name; give two arrays as {'lo': ..., 'hi': ...} instead of a Box"
            )
        for name, low in self.lower.items():
            if name not in self.upper or self.upper[name].shape != low.shape:
                raise DomainError(f"domain of input {name!r}: lower and upper ends must have the same shape")
            for index in np.argwhere(low > self.upper[name])[:1]:
                place = tuple(int(i) for i in index)
                raise DomainError(
                    f"domain of input {name!r}: lower end {float(low[place])!r} exceeds upper end "
                    f"{float(self.upper[name][place])!r} at coordinate {spell(place)}"
                )

    @classmethod
    def from_data(cls, X: Array | Mapping[str, Array], margin: str | float = 0) -> Box:
        """The smallest box around samples, widened by a margin. An assumption: nothing keeps later inputs inside.

        Parameters
        ----------
        X
            ``(samples, ...)``, for a network of one input; or such an array for each input by its name.
        margin
            Added on either side of every coordinate, in its units; the decimal number that it spells.

        Raises
        ------
        DomainError
            When there are no samples, one is not finite, or the margin is negative.
        """
        from reluce.domain._read import box_around  # which needs Box

        return box_around(X if isinstance(X, Mapping) else {ONLY_INPUT: X}, str(margin), "samples")

    @cached_property
    def outer(self) -> Mapping[str, Ends]:
        """For each input float64 ends ``(lower, upper)`` rounded outward."""
        return {name: (rounded(self.lower[name], -1), rounded(self.upper[name], 1)) for name in self.lower}

    @cached_property
    def inner(self) -> Mapping[str, Ends]:
        """For each input float64 ends rounded inward; ``lower > upper`` where no float64 lies between them."""
        return {name: (rounded(self.lower[name], 1), rounded(self.upper[name], -1)) for name in self.lower}

    @cached_property
    def has_points(self) -> bool:
        """Whether any float64 point lies in the box."""
        return all(bool((low <= high).all()) for low, high in self.inner.values())

    def contains(self, points: Mapping[str, Array]) -> Array:
        """Which of the given float points lie in the box, exactly; ``points`` are ``(samples, *sample shape)``."""
        masks = []
        for name, (low, high) in self.inner.items():
            x = points[name]
            masks.append(((x >= low) & (x <= high)).reshape(len(x), -1).all(axis=1))
        return np.asarray(np.logical_and.reduce(masks))

    def clip(self, points: Mapping[str, Array]) -> dict[str, Array]:
        """Move points into the box."""
        return {name: np.clip(points[name], low, high) for name, (low, high) in self.inner.items()}

    def sample(self, generator: np.random.Generator, samples: int) -> dict[str, Array]:
        """Uniform random points, ``(samples, *sample shape)`` each."""
        points = {}
        for name, (low, high) in self.inner.items():
            share = generator.random((samples, *low.shape))
            points[name] = low * (1 - share) + high * share
        return self.clip(points)

    def corners(self, generator: np.random.Generator, samples: int) -> dict[str, Array]:
        """The lowest and the highest corner, then random ones; ``samples`` rows in all."""
        points = {}
        for name, (low, high) in self.inner.items():
            high_side = generator.random((samples, *low.shape)) < 0.5
            high_side[0] = False
            high_side[1 % samples] = samples > 1
            points[name] = np.where(high_side, high, low)
        return points

    def to_arrays(self) -> dict[str, Array]:
        """The outward-rounded ends in the layout that ``load_box`` reads."""
        if len(self.lower) == 1:
            ((low, high),) = self.outer.values()
            return {"lo": low, "hi": high}
        arrays = {}
        for name, (low, high) in self.outer.items():
            arrays[f"{name}.lo"], arrays[f"{name}.hi"] = low, high
        return arrays

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the exact ends."""
        state = hashlib.sha256()
        for name in self.lower:
            for ends in (self.lower[name], self.upper[name]):
                state.update(repr((name, ends.shape)).encode())
                known: dict[int, str] = {}
                state.update(";".join(known.setdefault(id(value), _digits(value)) for value in ends.ravel()).encode())
        return state.hexdigest()

    def to_bytes(self) -> bytes:
        """The box as an ``.npz`` file that ``load_box`` reads."""
        buffer = io.BytesIO()
        np.savez(buffer, **self.to_arrays())  # type: ignore[arg-type]
        return buffer.getvalue()


def rounded(ends: Array, direction: int) -> Array:
    known: dict[int, float] = {}
    flat = ends.ravel()
    result = np.empty(flat.size, dtype=np.float64)
    for i, value in enumerate(flat):
        key = id(value)
        if key not in known:
            known[key] = _directed(value, direction)
        result[i] = known[key]
    return result.reshape(ends.shape)


def _directed(value: Fraction, direction: int) -> float:
    try:
        nearest = float(value)
    except OverflowError as error:
        raise DomainError("domain: an end is larger than any float64") from error
    if direction > 0 and Fraction(nearest) < value:
        return nextafter(nearest, float("inf"))
    if direction < 0 and Fraction(nearest) > value:
        return nextafter(nearest, float("-inf"))
    return nearest


def _digits(value: Fraction) -> str:
    """A number as text, however long: Python refuses to write thousands of decimal digits."""
    value = Fraction(value)
    if max(abs(value.numerator), value.denominator).bit_length() < LONG:
        return str(value)
    return f"{value.numerator:#x}/{value.denominator:#x}"


def spell(place: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, place)) + "]"
