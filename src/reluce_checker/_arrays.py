"""Arrays of an ``.npz`` file: a zip archive of ``.npy`` members, each a header in Python's syntax and numbers.

A member is taken for what it says only once that agrees with how many bytes it has, and these are few.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from math import prod

import numpy as np

from reluce_checker._errors import Unreadable
from reluce_checker._graph import Array

LONGEST_HEADER = 1000
"""Bytes in front of the numbers of a member; about a hundred suffice."""

PREAMBLE = re.compile(rb"\x93NUMPY(?:\x01\x00(?P<short>..)|\x02\x00(?P<long>....))", re.DOTALL)
HEADER = re.compile(
    r"\s*\{\s*'descr'\s*:\s*'(?P<type>[<>|=]?[fiu][1248])'\s*,\s*'fortran_order'\s*:\s*(?P<order>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<shape>[0-9, ]*)\)\s*,?\s*\}\s*"
)
SHAPE = re.compile(r"([0-9]{1,12}(, ?[0-9]{1,12})*,?)?")


class Archive:
    """The members of an archive, none of them read yet.

    Raises
    ------
    Unreadable
        When it is none, or has a member twice.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = archive.infolist()
        except Exception as error:  # zipfile lets through whatever it meets
            raise Unreadable(f"the domain file cannot be used: {_reason(error)}") from error
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            raise Unreadable("the domain file cannot be used: it has two members of one name")

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._members

    def array(self, name: str, most: int) -> Array:
        """One array, if it has at most so many numbers.

        Raises
        ------
        Unreadable
            When it is not there, or not as the format has it.
        """
        try:
            return _array(self._bytes(name, LONGEST_HEADER + 8 * most), most)
        except Exception as error:
            raise Unreadable(f"the domain file cannot be used: {name!r}: {_reason(error)}") from error

    def _bytes(self, name: str, most: int) -> bytes:
        member = self._members.get(f"{name}.npy")
        if member is None:
            raise ValueError("it is missing")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.file_size > most:
            raise ValueError(f"it is compressed in a way that is not read, or has more than {most} bytes")
        with zipfile.ZipFile(io.BytesIO(self._data)) as archive, archive.open(member) as stream:
            content = stream.read(most + 1)
        if len(content) != member.file_size:
            raise ValueError("it has another size than it says")
        return content


def _array(content: bytes, most: int) -> Array:
    start = PREAMBLE.match(content)
    if start is None:
        raise ValueError("it is no array")
    (length,) = struct.unpack("<H", start["short"]) if start["short"] else struct.unpack("<I", start["long"])
    header = HEADER.fullmatch(content[start.end() : start.end() + min(length, LONGEST_HEADER)].decode("latin-1"))
    if header is None or not SHAPE.fullmatch(header["shape"]):
        raise ValueError("its header is damaged, or it does not hold finite numbers of at most 8 bytes")
    shape = [int(text) for text in header["shape"].split(",") if text.strip()]
    dtype, numbers = np.dtype(header["type"]), content[start.end() + length :]
    if prod(n or 1 for n in shape) > most:
        raise ValueError(f"it has {prod(shape)} numbers where the input has {most}")
    if prod(shape) * dtype.itemsize != len(numbers):
        raise ValueError(f"its shape {shape} does not fit its {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype).reshape(shape, order="F" if header["order"] == "True" else "C")


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
