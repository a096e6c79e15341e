r"""Arrays in ``.npy`` and ``.npz`` files, read with care: nothing is allocated for what a file only claims to hold.

An ``.npy`` file is ``\x93NUMPY``, a version, the length of its header, the header (a Python dictionary with the keys
``descr``, ``fortran_order`` and ``shape``), and the numbers. An ``.npz`` file is a zip archive of them. numpy's reader
takes all of these at their word.

Source: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import ast
import io
import os
import re
import struct
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from reluce.domain._files import open_regular
from reluce.errors import DomainError
from reluce.network import Array

MOST_NUMBERS = 1 << 30
"""Numbers in all arrays of a file: 8 GiB once they are float64."""

MOST_MEMBERS = 1000
"""Arrays of an archive."""

LARGEST_DIRECTORY = 1 << 20
"""Bytes of an archive's table of contents, which takes a dozen times as many in memory."""

LARGEST_HEADER = 2000
"""Characters of an array's header; for a plain array about a hundred suffice."""

DEEPEST = 32
"""Axes of an array."""

SMALL = 1 << 28
"""Bytes of an archive that may be compressed however well."""

LARGEST_RATIO = 100
"""Larger archives may not be compressed better than that; real data is not, unless nearly all of it is the same."""

MAGIC = b"\x93NUMPY"
DTYPE = re.compile(r"[<>|=]?([fiubc](1|2|4|8|16|32)|[SU][1-9][0-9]{0,5})")
ORDINARY = re.compile(r"""[\w'"{}(),:<>|=\[\] \n-]*""", re.ASCII)
PIECE = 1 << 18


class _Unfit(Exception):
    """What is wrong with a file."""


def read_arrays(path: str | Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file by name, or the one of an ``.npy`` file as ``X``.

    Raises
    ------
    DomainError
        When it is no such file, or not what it says; says why.
    """
    try:
        with _Cautious(open_regular(path).detach()) as file:
            start = file.read(len(MAGIC))
            file.seek(0)
            if start == MAGIC:
                return {"X": _array(file, os.fstat(file.fileno()).st_size, [MOST_NUMBERS])}
            return _archive(file)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise DomainError(f"{path}: cannot be read as .npy or .npz: {reason}") from error
    except Exception as error:  # zipfile lets through whatever it meets
        reason = str(error) or type(error).__name__
        raise DomainError(f"{path}: cannot be read as .npy or .npz: {reason}") from error


class _Cautious(io.BufferedReader):
    """A file of which zipfile reads its table of contents: never much of it at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Some bytes; all that are left, where no size is given."""
        most = LARGEST_DIRECTORY + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        if len(data) > LARGEST_DIRECTORY:
            raise _Unfit(f"its table of contents has more than {LARGEST_DIRECTORY:,} bytes")
        return data


def _archive(file: _Cautious) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    left = [MOST_NUMBERS]
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _demand_plausible(members, os.fstat(file.fileno()).st_size)
        for member in members:
            key = member.filename.removesuffix(".npy")
            if key in arrays:
                raise _Unfit(f"its member {key!r} is there twice")
            try:
                with archive.open(member) as stream:
                    arrays[key] = _array(stream, member.file_size, left)
            except _Unfit as error:
                raise _Unfit(f"its member {key!r}: {error}") from None
    return arrays


def _demand_plausible(members: list[zipfile.ZipInfo], size: int) -> None:
    """Whether the sizes that an archive states can be true."""
    if len(members) > MOST_MEMBERS:
        raise _Unfit(f"it has {len(members):,} members; at most {MOST_MEMBERS:,} are read")
    for member in members:
        if member.flag_bits & 1:
            raise _Unfit(f"its member {member.filename!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _Unfit(f"its member {member.filename!r} is compressed in a way that is not read; use numpy.savez")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise _Unfit(f"its member {member.filename!r} has two sizes")
    stored, plain = sum(member.compress_size for member in members), sum(member.file_size for member in members)
    if stored > size:
        raise _Unfit("its members are larger than the file, or lie over each other")
    if plain > SMALL and plain > LARGEST_RATIO * stored:
        raise _Unfit(
            f"it would become {plain:,} bytes, more than {LARGEST_RATIO} times as many as it has; use numpy.savez"
        )


def _array(stream: IO[bytes], size: int, left: list[int]) -> Array:
    """One array from a stream of ``size`` bytes; ``left`` counts how many numbers may still come."""
    dtype, fortran, shape, used = _header(stream)
    count = prod(shape)
    if prod(n or 1 for n in shape) > left[0]:
        raise _Unfit(f"it says that it holds {count:,} numbers; at most {MOST_NUMBERS:,} are read")
    left[0] -= count
    wanted, have = count * dtype.itemsize, size - used
    if wanted != have:
        much = "cut short" if have < wanted else "longer than it says"
        raise _Unfit(f"it is {much}: shape {shape} of {dtype} needs {wanted:,} bytes, it has {have:,}")
    flat = np.empty(count, dtype)
    view, done = flat.view(np.uint8).data, 0
    while done < wanted:
        read = stream.readinto(view[done : done + PIECE])  # type: ignore[attr-defined]
        if not read:
            raise _Unfit(f"it is cut short: {done:,} of {wanted:,} bytes are there")
        done += read
    if stream.read(1):  # where an archive ends, its check sum is looked at
        raise _Unfit("it is longer than it says")
    if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise _Unfit("it holds truth values other than 0 and 1")
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Type, order, shape, and how many bytes that took."""
    start = stream.read(8)
    if start[:6] != MAGIC:
        raise _Unfit("it is no array")
    form = {b"\1\0": "<H", b"\2\0": "<I"}.get(start[6:])
    if form is None:
        raise _Unfit("it is of a version of the format for arrays with named fields, or of none")
    length = stream.read(struct.calcsize(form))
    (characters,) = struct.unpack(form, length)
    if characters > LARGEST_HEADER:
        raise _Unfit(f"its header has {characters:,} characters; at most {LARGEST_HEADER:,} are read")
    text = stream.read(characters).decode("latin-1")
    return *_parsed(text), 8 + len(length) + characters


def _parsed(text: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    try:
        found = ast.literal_eval(text.strip()) if ORDINARY.fullmatch(text) else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        found = None
    match found:
        case {"descr": str(name), "fortran_order": bool(fortran), "shape": tuple(shape), **rest} if not rest:
            pass
        case {"descr": list()}:
            raise _Unfit("it holds records, not numbers")
        case _:
            raise _Unfit("its header is damaged")
    if "O" in name:
        raise _Unfit("it holds Python objects, not numbers")
    try:
        dtype = np.dtype(name if DTYPE.fullmatch(name) else "")
    except TypeError:
        raise _Unfit(f"it holds {name[:20]!r}, not numbers") from None
    if len(shape) > DEEPEST or not all(type(n) is int and n >= 0 for n in shape):
        raise _Unfit("its header states an impossible shape")
    return dtype, fortran, shape
