"""Where a compressed ONNX model goes: a file under its name, or one that the user has opened."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

from reluce.errors import OutputError, UsageError
from reluce.io._files import commit, demand_writable, read_bytes, write_temporary
from reluce.io._loaded import Loaded, OnnxLoaded

Output = str | os.PathLike[str] | BinaryIO


def demand_output(model: Any, loaded: Loaded, output: Any) -> None:
    """Find out before the work that a result cannot go where it should.

    Raises
    ------
    UsageError
        When ``output`` is the model's own file, or the model is of a kind that is not written to files.
    OutputError
        When it cannot be written.
    """
    if output is not None and not isinstance(loaded, OnnxLoaded):
        raise UsageError("only ONNX is written to a file; save the .model of the result as such models are saved")
    if output is None:
        return
    if not isinstance(output, str | os.PathLike):
        if isinstance(output, io.TextIOBase) or not callable(getattr(output, "write", None)):
            raise UsageError(f"output of type {type(output).__name__}: give a path, or a file opened for writing bytes")
        return
    where = os.fspath(output)
    if where.lower().endswith(".nnet"):
        raise UsageError(f"{where}: the result is an ONNX model; give it a name that ends in .onnx")
    source = model if isinstance(model, str | os.PathLike) else getattr(model, "name", None)
    if isinstance(source, str | os.PathLike) and os.path.realpath(source) == os.path.realpath(output):
        raise UsageError(f"{where}: the result would replace the original; give it another name")
    demand_writable(output)


def save(loaded: Loaded, output: Output | None) -> None:
    """Write an ONNX model, under its name only once the disk gives back what was written.

    Raises
    ------
    OutputError
        When that fails; an older file is untouched.
    """
    if output is None or not isinstance(loaded, OnnxLoaded):
        return
    if not isinstance(output, str | os.PathLike):
        try:
            output.write(loaded.data)
        except (OSError, ValueError) as error:  # full, closed, or opened for reading
            raise OutputError(f"the result cannot be written to the open file ({error})") from error
        return
    temporary = write_temporary(output, loaded.data)
    try:
        if read_bytes(temporary, compressed=os.fspath(output).endswith(".gz")) != loaded.data:
            raise OutputError(f"{os.fspath(output)}: the disk gives back other bytes than were written")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    commit(temporary, output)
