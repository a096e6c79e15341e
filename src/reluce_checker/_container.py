"""The file format: a text part that says what is there, and the arrays that it refers to.

    8 bytes   b"RELUCERT"
    4 bytes   version, little-endian
    8 bytes   length of what follows once it is decompressed, little-endian
    rest      zlib:  8 bytes length of the text, the text (JSON, UTF-8), the arrays' bytes one after the other

In the text, ``{"array": [offset, type, [dimensions]]}`` stands for an array: where it starts behind the text, one of
``TYPES``, and its shape. Everything is checked before it is allocated.
"""

from __future__ import annotations

import json
import struct
import zlib
from math import prod
from typing import Any

import numpy as np

from reluce_checker._errors import Unreadable

MAGIC = b"RELUCERT"
VERSION = 1
TYPES = {"f8": "<f8", "i8": "<i8", "i4": "<i4", "u2": "<u2", "u1": "|u1", "s1": "|i1"}
LARGEST = 1 << 31
"""Most bytes of a decompressed certificate."""

LONGEST = 1 << 23
"""Most bytes of its text; lists and objects of it take up to a hundred times as much memory."""

SHARED = 1 << 26
"""Arrays may share bytes: together they have at most so many more than there are."""

DEEPEST = 12
"""Deepest nesting of the text."""


def unpack(data: bytes) -> dict[str, Any]:
    """The text of a certificate with its arrays in place.

    Raises
    ------
    Unreadable
        When the bytes are not a certificate of this version.
    """
    if data[:8] != MAGIC or len(data) < 20:
        raise Unreadable("the certificate does not start as one: is this another kind of file, or a part of one?")
    version, length = struct.unpack("<IQ", data[8:20])
    if version != VERSION:
        raise Unreadable(f"the certificate has format version {version}; this checker reads version {VERSION}")
    if length > LARGEST:
        raise Unreadable(f"the certificate claims {length} bytes; at most {LARGEST} are read")
    body = _decompressed(data[20:], length)
    if len(body) < 8 or struct.unpack("<Q", body[:8])[0] > len(body) - 8:
        raise Unreadable("the certificate's text is cut off")
    end = 8 + struct.unpack("<Q", body[:8])[0]
    if end > LONGEST:
        raise Unreadable(f"the certificate's text has {end} bytes; at most {LONGEST} are read")
    try:
        text = json.loads(body[8:end].decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the certificate's text is not JSON: {error}") from error
    if not isinstance(text, dict) or set(text) == {"array"}:
        raise Unreadable("the certificate's text is not an object")
    arrays = memoryview(body)[end:]
    filled = _filled(text, arrays, [len(arrays) + SHARED], 0)
    return {str(key): value for key, value in filled.items()}


def _decompressed(data: bytes, length: int) -> bytes:
    worker = zlib.decompressobj()
    try:
        body = worker.decompress(data, length + 1)
    except zlib.error as error:
        raise Unreadable(f"the certificate cannot be decompressed: {error}") from error
    if len(body) != length or not worker.eof or worker.unused_data:
        raise Unreadable("the certificate is cut off, or longer than it says")
    return body


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _filled(value: Any, arrays: memoryview, left: list[int], depth: int) -> Any:
    """The text with every reference replaced by its array; ``left`` counts the bytes that may still be referred to."""
    if depth > DEEPEST:
        raise Unreadable("the certificate's text is nested too deeply")
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return _array(value["array"], arrays, left)
        return {key: _filled(part, arrays, left, depth + 1) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, arrays, left, depth + 1) for part in value]
    return value


def _array(reference: Any, arrays: memoryview, left: list[int]) -> np.ndarray[Any, Any]:
    match reference:
        case [int(offset), str(kind), list(shape)] if kind in TYPES and all(type(n) is int for n in shape):
            kind = TYPES[kind]
        case _:
            raise Unreadable("the certificate refers to an array in a way that is not understood")
    if type(offset) is not int or offset < 0 or not all(0 <= n <= LARGEST for n in shape) or len(shape) > 2:
        raise Unreadable("the certificate refers to an array of impossible place or shape")
    end = offset + prod(shape) * np.dtype(kind).itemsize
    if end > len(arrays) or prod(n or 1 for n in shape) > LARGEST:
        raise Unreadable("the certificate refers to an array beyond its end")
    left[0] -= end - offset
    if left[0] < 0:  # a few bytes of text for each array, and as much memory as is wished
        raise Unreadable("the certificate refers to the same bytes again and again")
    return np.frombuffer(arrays[offset:end], dtype=kind).reshape(shape)
