"""Files as users name them: regular ones only, and decompressed only so far."""

from __future__ import annotations

import gzip
import io
import stat
from pathlib import Path


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a file for reading; a pipe would block for ever, and a device never ends.

    Raises
    ------
    OSError
        When there is no such file, it cannot be read, or it is not a regular file.
    """
    found = Path(path)
    if not found.is_dir() and not stat.S_ISREG(found.stat().st_mode):
        raise OSError("it is not a regular file")
    return found.open("rb")


def read_text(path: str | Path, longest: int) -> bytes:
    """The bytes of a text file, decompressed where its name ends in ``.gz``.

    Raises
    ------
    OSError, EOFError, zlib.error
        When it cannot be read, or has more than ``longest`` bytes.
    """
    with open_regular(path) as file:
        if str(path).lower().endswith(".gz"):
            with gzip.open(file) as plain:
                data = plain.read(longest + 1)
        else:
            data = file.read(longest + 1)
    if len(data) > longest:
        raise OSError(f"it has more than {longest:,} bytes")
    return data
