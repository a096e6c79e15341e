"""A node of the file with what is known of its operands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from reluce_checker._graph import Array, Shape

FORMATS: Mapping[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in (
        *((1, "float32"), (10, "float16"), (11, "float64"), (9, "bool")),
        *((3, "int8"), (5, "int16"), (6, "int32"), (7, "int64")),
        *((2, "uint8"), (4, "uint16"), (12, "uint32"), (13, "uint64")),
    )
}
"""TensorProto.DataType to numpy."""

LIMIT = 1 << 23
"""Elements: nothing larger is followed, so that a few bytes of a file cannot ask for terabytes."""


MOST_ELEMENTS = 1 << 27
"""Elements of all that is modelled or computed together; what lies beyond is not followed."""


class NotModelled(Exception):
    """Why a node becomes Opaque."""


FAILURES = (NotModelled, ArithmeticError, LookupError, TypeError, ValueError)
"""What a rule raises where a node is not what the standard says, or not what the rule understands."""


@dataclass(frozen=True, eq=False)
class Value:
    """What is known of a tensor: element type ("" for unknown), shape, and its value where no input matters.

    ``stored`` holds the bytes of a constant in a format that numpy does not have.
    """

    format: str
    shape: Shape | None
    constant: Array | None = None
    stored: bytes = b""

    @cached_property
    def digest(self) -> bytes:
        """What a constant holds, by its SHA-256 (many nodes may read a large one); of a variable only the format."""
        array = self.constant
        if array is None:
            return self.stored or b"variable " + self.format.encode()
        found = hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).data)
        return b"constant " + found.digest()

    @property
    def fixed(self) -> bool:
        """Whether this is a constant."""
        return self.constant is not None or bool(self.stored)


def known(array: Array) -> Value:
    """What is known of a constant."""
    return Value(array.dtype.name, array.shape, array)


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the file: its operator, attributes and operands (``""`` and None where one is left out)."""

    kind: str
    opset: int
    flags: Mapping[str, Any]
    inputs: Sequence[str]
    values: Sequence[Value | None]
    outputs: Sequence[str]

    def demand(self, attributes: str) -> None:
        """Refuse attributes other than these: they may change the meaning."""
        if not self.flags.keys() <= set(attributes.split()):
            raise NotModelled("an attribute that is not understood")

    def flag(self, name: str, default: Any) -> Any:
        """An attribute, of the same type as its default value."""
        value = self.flags.get(name, default)
        if type(value) is not type(default):
            raise NotModelled(f"{name} is of another type")
        return value

    def value(self, position: int) -> Value | None:
        """What is known of an operand, None where it is left out."""
        return self.values[position] if position < len(self.values) else None

    def constant(self, position: int) -> Array | None:
        """The value of a constant operand, None where it is left out."""
        value = self.value(position)
        if value is not None and value.constant is None:
            raise NotModelled("an operand that is no constant")
        return None if value is None else value.constant

    def whole(self, name: str, position: int, since: int) -> list[int] | None:
        """Whole numbers: an attribute, or an operand since some operator set; None where they are left out."""
        if self.opset < since:
            return self.flag(name, []) if name in self.flags else None
        array = self.constant(position)
        if name in self.flags or (array is not None and (array.dtype.kind not in "iu" or array.ndim > 1)):
            raise NotModelled(f"{name} is not as the standard has it")
        return None if array is None else [int(k) for k in array.reshape(-1)]


def bounded(shape: Sequence[int]) -> Shape:
    """A shape that is not too large to follow."""
    if min(shape, default=0) < 0 or prod(shape) > LIMIT:
        raise NotModelled("too large")
    return tuple(shape)


def given(numbers: list[int] | None) -> list[int]:
    """Numbers that may not be left out."""
    if numbers is None:
        raise NotModelled("an operand is missing")
    return numbers


def axis_of(axis: int, rank: int) -> int:
    """An axis that is not negative."""
    if not -rank <= axis < rank:
        raise NotModelled(f"axis {axis} of {rank}")
    return axis % rank
