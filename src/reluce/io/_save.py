"""Where a compressed ONNX model goes: a file under its name, or one that the user has opened."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from reluce.errors import OutputError, UsageError
from reluce.io._files import PathLike, Temporary, demand_writable, read_bytes, write_temporary
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


def save(loaded: Loaded, output: Output | None, beside: Sequence[tuple[PathLike, bytes]] = ()) -> None:
    """Write files that belong together, each under its name only once the disk gives back what was written.

    All are written to temporary files first; then they take their names, the model last.

    Parameters
    ----------
    loaded
        The model; only ONNX is written.
    output
        Where it goes.
    beside
        Other files: paths and contents.

    Raises
    ------
    OutputError
        When that fails; older files are untouched, as far as none has taken its name yet.
    """
    files = list(beside)
    if isinstance(output, str | os.PathLike) and isinstance(loaded, OnnxLoaded):
        files.append((output, loaded.data))
    temporary: list[Temporary] = []
    try:
        for path, data in files:
            temporary.append(write_temporary(path, data))
            if read_bytes(temporary[-1].path, compressed=os.fspath(path).endswith(".gz")) != data:
                raise OutputError(f"{os.fspath(path)}: the disk gives back other bytes than were written")
        while temporary:
            temporary.pop(0).commit()
    except BaseException:
        for written in temporary:
            written.discard()
        raise
    if output is None or isinstance(output, str | os.PathLike) or not isinstance(loaded, OnnxLoaded):
        return
    try:
        output.write(loaded.data)
    except (OSError, ValueError) as error:  # full, closed, or opened for reading
        raise OutputError(f"the result cannot be written to the open file ({error})") from error
