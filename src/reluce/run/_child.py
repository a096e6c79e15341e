"""Both ends of the pipe to a sandboxed process, and that process's main loop.

The child runs this file by its path, without the package around it, which takes five times as long to import. A message
is ``magic, length of head, head, parts``: the head is JSON and lists the format and the shape of each part, a part is
the bytes of an array. Nothing is pickled: a child that a hostile file has taken over can send wrong numbers, but it
cannot make its parent run anything.
"""

from __future__ import annotations

import json
import os
import runpy
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import prod
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Parts = Sequence[npt.NDArray[Any]]
Handler = Callable[[Mapping[str, Any], Parts], tuple[Mapping[str, Any], Parts]]

MAGIC = b"RLC1"
HEAD_BYTES = 1 << 24  # of JSON
FORMATS = {
    np.dtype(kind).name: np.dtype(kind)
    for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
}


class Garbled(Exception):
    """What came over the pipe is no message, or too long."""


def send(stream: IO[bytes], head: Mapping[str, Any], parts: Parts) -> None:
    """Write one message."""
    arrays = [np.ascontiguousarray(part).reshape(part.shape) for part in parts]
    listed = [[array.dtype.name, array.shape] for array in arrays]
    text = json.dumps({"head": head, "parts": listed}).encode()
    stream.write(MAGIC + struct.pack("<Q", len(text)) + text)
    for array in arrays:
        stream.write(array.data.cast("B") if array.size else b"")
    stream.flush()


def receive(stream: IO[bytes], most: int) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
    """Read one message of at most ``most`` bytes of arrays.

    Raises
    ------
    EOFError
        When the other end is gone.
    Garbled
        When this is no message.
    """
    magic, length = struct.unpack("<4sQ", _exactly(stream, 12))
    if magic != MAGIC or length > HEAD_BYTES:
        raise Garbled
    head, formats = _head(_exactly(stream, length))
    sizes = [prod(shape) * dtype.itemsize for dtype, shape in formats]
    if sum(sizes) > most:
        raise Garbled
    parts = []
    for (dtype, shape), size in zip(formats, sizes, strict=True):
        try:
            parts.append(np.frombuffer(_exactly(stream, size), dtype).reshape(shape))
        except ValueError:  # more axes than numpy has
            raise Garbled from None
    return head, parts


def _head(text: bytes) -> tuple[dict[str, Any], list[tuple[np.dtype[Any], tuple[int, ...]]]]:
    try:
        message = json.loads(text)
        formats = [(FORMATS[name], tuple(shape)) for name, shape in message["parts"]]
        head = message["head"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Garbled from None
    lengths = [length for _, shape in formats for length in shape]
    if not isinstance(head, dict) or any(type(length) is not int or length < 0 for length in lengths):
        raise Garbled
    return head, formats


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def limit(seconds: float, memory: int) -> None:
    """Bound what this process may use from now on, where the operating system can do that."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    # The parent's clock decides; this one is for a child whose parent was killed in the meantime.
    cores = os.cpu_count() or 1
    processor = int(used.ru_utime + used.ru_stime + cores * seconds) + 2
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: processor}
    wanted[resource.RLIMIT_AS] = memory
    for which, value in wanted.items():
        most = [given for given in _given(which) if given != resource.RLIM_INFINITY]
        with suppress(ValueError, OSError):
            resource.setrlimit(which, (min(value, *most) if most else value, _given(which)[1]))


@cache
def _given(which: int) -> tuple[int, int]:
    """The limits that the parent had, which this process does not go beyond."""
    import resource

    return resource.getrlimit(which)


def serve(handle: Handler) -> None:
    """Answer requests until the parent closes its end."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
    with suppress(EOFError, BrokenPipeError):
        while True:
            request, parts = receive(sys.stdin.buffer, sys.maxsize)
            limit(request["seconds"], request["memory"])
            try:
                reply, results = handle(request, parts)
                reply = {"reply": reply}
            except Exception as error:
                reply, results = {"error": f"{type(error).__name__}: {error}"[:1000]}, []
            del request, parts
            send(answers, reply, results)
            del results


if __name__ == "__main__":
    serve(runpy.run_path(sys.argv[1])["handle"])
