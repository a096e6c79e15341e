"""The journal of a run: what has been worked out so far, in an append-only file beside the output.

    line 1    what the run is determined by
    line n    one step: its name and its outcome

Each line is ``CHECKSUM JSON``: the first half of the SHA-256 of the JSON text, in hexadecimal. An array is
``{"array": [type, [dimensions], data]}`` with zlib in base64. A line that is cut off or damaged ends the journal: it
and all behind it is dropped. Nothing in it is believed; whoever recalls a step proves it again.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reluce.errors import OutputError
from reluce.run._lock import LOCKS, Taken, open_locked

Array = NDArray[Any]

TYPES = frozenset(["<f8", "<i8", "<i2", "<u2", "|i1", "|b1"])
LONGEST_LINE = 1 << 25
"""Bytes of one line."""

LARGEST = 1 << 29
"""Bytes of a journal; what would make it longer is not written."""

MOST_BYTES = 1 << 28
"""Bytes of the arrays of one step, once they are decompressed."""

LONGEST_NAME = 1 << 16
"""Bytes of the name of a step."""

HEAD, VERSION = "reluce journal", 1
STEP = b'{"step":'


class Journal:
    """Remembers the outcome of steps across runs; made by :meth:`open`, and locked until it is closed.

    Attributes
    ----------
    path
        Where it is.
    notes
        What the user should know, one line each.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.notes: list[str] = []
        self._file = os.fdopen(descriptor, "r+b", buffering=0)
        self._steps: dict[str, bytes] = {}  # as they were written: one at a time is decompressed
        self._size = 0  # bytes that are whole lines
        self._full = self._kept = self._removed = False

    @classmethod
    def open(cls, path: Path, identity: str) -> Journal:
        """Open the journal of an output, with the steps that an earlier run of the same identity has left.

        Parameters
        ----------
        path
            Where it is, or is to be.
        identity
            What the run is determined by; a journal of another one is begun anew.

        Raises
        ------
        OutputError
            When another run has it, it cannot be written, or there is a file of another kind.
        """
        try:
            journal = cls(path, open_locked(path))
        except Taken:
            raise OutputError(
                f"{path}: another run is writing this output; wait for it, or give another output"
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        try:
            journal._begin({HEAD: VERSION, "of": identity})
        except BaseException as error:
            journal._file.close()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise _unwritable(path, error) from None
            raise
        return journal

    def recall(self, step: str) -> Mapping[str, Any] | None:
        """What an earlier run has written about a step. Nobody may believe it."""
        text = self._steps.get(step)
        if text is None:
            return None
        try:
            outcome = _Decoder().decoded(json.loads(text)["outcome"])
        except (ValueError, LookupError, TypeError, RecursionError, MemoryError, zlib.error):
            return None
        return outcome if isinstance(outcome, dict) else None

    def keep(self, step: str, outcome: Mapping[str, Any]) -> None:
        """Write the outcome of a step: JSON values, and arrays of the formats in ``TYPES`` anywhere among them.

        A disk that is full ends the journal, not the run.
        """
        line = _line({"step": step, "outcome": _encoded(outcome)})
        if self._full or len(line) > LONGEST_LINE or self._size + len(line) > LARGEST:
            return
        try:
            self._append(line)
            self._kept = True
        except OSError as error:
            self._full = True
            self.notes.append(
                f"{self.path} could not be continued ({error.strerror or error}); if this run had been killed, what it "
                "proved after that would have been lost"
            )

    @property
    def holds_steps(self) -> bool:
        """Whether there is anything to go on from."""
        return bool(self._steps) or self._kept

    def remove(self) -> None:
        """Remove the file: the run has come to its end."""
        if not self._removed:  # a second time it might be that of another run
            self._removed = True
            if not LOCKS:
                self._file.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it; one that has no steps is removed."""
        if not self.holds_steps:
            self.remove()
        self._file.close()

    def _begin(self, head: Mapping[str, Any]) -> None:
        """Read what is there, and drop what is damaged or does not belong to this run."""
        lines = self._lines()
        first, self._size = next(lines, (b"", 0))
        found = _parsed(first)
        if found == head:
            for text, self._size in lines:
                self._steps[_name(text)] = text
            self._cut()
            return
        ours = isinstance(found, dict) and HEAD in found
        if not ours and os.fstat(self._file.fileno()).st_size:
            raise OutputError(f"{self.path} is in the way and is no journal of Reluce, or is damaged: move it away")
        if ours:
            self.notes.append(f"{self.path} was of another model, domain, settings or version, and was begun anew")
        self._size = 0
        self._cut()
        try:
            self._append(_line(head))
        except OSError:
            self.remove()
            raise

    def _lines(self) -> Iterator[tuple[bytes, int]]:
        """The texts of whole lines, each with the place where it ends; up to the first that is damaged."""
        end = 0
        reader = io.BufferedReader(self._file)
        try:
            while line := reader.readline(LONGEST_LINE + 1):
                end += len(line)
                checksum, _, text = line.partition(b" ")
                if not text.endswith(b"\n") or checksum != _checksum(text[:-1]) or end > LARGEST:
                    return
                yield text, end
        finally:
            reader.detach()

    def _append(self, line: bytes) -> None:
        """Write a line as a whole, or nothing."""
        self._file.seek(self._size)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._cut()
            raise
        self._size += len(line)

    def _cut(self) -> None:
        """Drop what stands behind the last whole line; what cannot be dropped is recognised as damaged later."""
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._size)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: the journal of the run cannot be written there ({error.strerror or error})")


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:32].encode()


def _parsed(text: bytes) -> Any:
    """The JSON value of a text, ``None`` where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(text: bytes) -> str:
    """The name of a step, without a look at its outcome; empty where there is none."""
    if not text.startswith(STEP):
        return ""
    try:
        name, _ = json.JSONDecoder().raw_decode(text[len(STEP) : len(STEP) + LONGEST_NAME].decode(errors="ignore"))
    except ValueError:
        return ""
    return name if isinstance(name, str) else ""


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        kind = value.dtype.newbyteorder("<").str
        if kind not in TYPES:
            raise ValueError(f"the journal holds no arrays of {value.dtype}")
        data = zlib.compress(np.ascontiguousarray(value, dtype=kind).tobytes(), 1)
        return {"array": [kind, list(value.shape), base64.b64encode(data).decode()]}
    if isinstance(value, Mapping):
        return {key: _encoded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(part) for part in value]
    return value


class _Decoder:
    """Puts the arrays of one step in place; sizes are looked at before anything is decompressed."""

    def __init__(self) -> None:
        self._left = MOST_BYTES

    def decoded(self, value: Any) -> Any:
        match value:
            case {"array": [str(kind), list(shape), str(data)]}:
                return self._array(kind, shape, data)
            case dict():
                return {key: self.decoded(part) for key, part in value.items()}
            case list():
                return [self.decoded(part) for part in value]
        return value

    def _array(self, kind: str, shape: list[Any], data: str) -> Array:
        if kind not in TYPES or len(shape) > 8 or any(type(n) is not int or not 0 <= n <= MOST_BYTES for n in shape):
            raise ValueError("an array of impossible type or shape")
        size = prod(shape) * np.dtype(kind).itemsize
        self._left -= size
        if self._left < 0:
            raise ValueError("arrays of too many bytes")
        plain = zlib.decompressobj().decompress(base64.b64decode(data, validate=True), size + 1)
        if len(plain) != size:
            raise ValueError("an array of other length than it says")
        return np.frombuffer(plain, dtype=kind).reshape(shape)
