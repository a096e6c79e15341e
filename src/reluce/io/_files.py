"""Files: reading bytes, and replacing a file so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reluce.errors import ModelError, OutputError
from reluce.io._limits import FILE_BYTES, INFLATED, INFLATION
from reluce.run import LOCKS, Taken, open_locked

PathLike = str | os.PathLike[str]

LONGEST_NAME = 255
"""Bytes in the name of a file, on every usual file system."""


def read_bytes(path: PathLike, compressed: bool | None = None) -> bytes:
    """Return the bytes of a file, decompressed where it is ``compressed`` (by default: its name ends in ``.gz``).

    Raises
    ------
    ModelError
        When there is no such file, it is no regular one, it cannot be read, it is empty, its compression is damaged, or
        it is larger than ``FILE_BYTES``.
    """
    where = os.fspath(path)
    try:
        data = _content(path, where)
    except FileNotFoundError:
        raise ModelError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{where}: is a directory, not an ONNX file") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: cannot be read ({_reason(error)})") from None
    if not data:
        raise ModelError(f"{where}: the file is empty (0 bytes)")
    return decompress(data, where) if (where.endswith(".gz") if compressed is None else compressed) else data


def _content(path: PathLike, where: str) -> bytes:
    # Opening a pipe that nobody writes to would wait for ever; a device may never end.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{where}: is a pipe or a device, not a file")
        if status.st_size > FILE_BYTES:
            raise ModelError(f"{where}: the file has {status.st_size:,} bytes; the limit is {FILE_BYTES:,}")
        return file.read(status.st_size)


def decompress(data: bytes, where: str) -> bytes:
    """Undo gzip.

    Raises
    ------
    ModelError
        When the data is cut short, damaged, empty, or too large once decompressed.
    """
    limit = min(FILE_BYTES, max(INFLATED, INFLATION * len(data)))
    try:
        plain = _inflated(data, limit)
    except EOFError:
        raise ModelError(f"{where}: the gzip data is cut short") from None
    except (OSError, zlib.error) as error:
        raise ModelError(f"{where}: the gzip data is damaged ({_reason(error)})") from None
    if not plain:
        raise ModelError(f"{where}: the file is empty (0 bytes once decompressed)")
    if len(plain) > limit:
        raise ModelError(
            f"{where}: {len(data):,} bytes of gzip data become more than {limit:,}, which is the limit; decompress the "
            "file if you trust it"
        )
    return plain


def _inflated(data: bytes, limit: int) -> bytes:
    """At most a little more than ``limit`` bytes."""
    plain = io.BytesIO()
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        while plain.tell() <= limit and (chunk := file.read(1 << 20)):
            plain.write(chunk)
    return plain.getvalue()


def beside(path: PathLike, suffix: str) -> Path:
    """The name of a file that belongs to a model: next to it, with ``suffix`` for ``.onnx`` or ``.onnx.gz``."""
    target = Path(path)
    return target.with_name(target.name.removesuffix(".gz").removesuffix(".onnx") + suffix)


def demand_writable(path: PathLike) -> None:
    """Find out early, before the work, that a file cannot be written.

    Raises
    ------
    OutputError
        When ``path`` is a folder, a device or write-protected, or its folder does not exist.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target}: is a directory, cannot write a file there")
    if target.exists() and not target.is_file():
        raise OutputError(f"{target}: is a pipe or a device; only a regular file is replaced")
    if not target.parent.is_dir():
        raise OutputError(f"{target}: its folder does not exist")
    if target.exists() and not target.stat().st_mode & 0o222:  # renaming over it would not ask
        raise OutputError(f"{target}: is write-protected")


@dataclass(frozen=True)
class Temporary:
    """A file that is written and has not taken its name yet: ``path`` beside ``target``, locked by ``descriptor``."""

    path: Path
    target: Path
    descriptor: int

    def commit(self) -> None:
        """Put it in the place of its target, in one step.

        Raises
        ------
        OutputError
            When that fails; the temporary file is removed and an older file at the target is untouched.
        """
        if not LOCKS:
            self._unlock()
        try:
            self.path.replace(self.target)
        except OSError as error:
            self.discard()
            raise OutputError(f"{self.target}: cannot be replaced ({_reason(error)})") from None
        if LOCKS:
            self._unlock()
        # The new name is durable only once its folder is; not every file system can synchronise a folder.
        with suppress(OSError):
            folder = os.open(self.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove it."""
        if not LOCKS:
            self._unlock()
        with suppress(OSError):
            self.path.unlink()
        if LOCKS:
            self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)


def write_temporary(path: PathLike, data: bytes) -> Temporary:
    """Write ``data`` to a temporary file beside ``path``.

    It is always called the same, so that what a killed run has left is taken over by the next one.

    Parameters
    ----------
    path
        Where the data is to end up; compressed with gzip, without a time stamp, where the name ends in ``.gz``.
    data
        The uncompressed bytes.

    Raises
    ------
    OutputError
        When the file cannot be written, or another run is writing it; nothing is left behind.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target}: is a directory, cannot write a file there")
    stored = gzip.compress(data, mtime=0) if target.name.endswith(".gz") else data
    place = target.with_name(_temporary_name(target.name))
    try:
        temporary = Temporary(place, target, open_locked(place))
    except Taken:
        raise OutputError(f"{target}: another run is writing it") from None
    except OSError as error:
        raise OutputError(f"{target}: cannot write into its folder ({_reason(error)})") from None
    try:
        temporary.path.chmod(_mode(target))
        os.ftruncate(temporary.descriptor, 0)
        with os.fdopen(temporary.descriptor, "wb", closefd=False) as file:
            file.write(stored)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.discard()
        if isinstance(error, OSError):
            raise OutputError(f"{target}: cannot be written ({_reason(error)})") from None
        raise
    return temporary


def _temporary_name(name: str) -> str:
    """Hidden, and no longer than a file system allows."""
    long = len(os.fsencode(name)) > LONGEST_NAME - len("..reluce-tmp")
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest() if long else name}.reluce-tmp"


def replace_file(path: PathLike, data: bytes) -> None:
    """Write ``data`` to ``path`` (gzip where the name ends in ``.gz``), in whole or not at all.

    Raises
    ------
    OutputError
        When that fails; an older file at ``path`` is untouched and no temporary file is left.
    """
    write_temporary(path, data).commit()


def _mode(target: Path) -> int:
    """The permissions that a plain ``open`` would give (a temporary file is private until told otherwise)."""
    with suppress(OSError):
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__
