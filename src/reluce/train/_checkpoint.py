"""Checkpoints: all that a run needs to go on, in one file that is replaced in whole.

Random numbers need no place there: they follow from the seed and the number of the epoch. A checkpoint is read without
running anything that it holds (``weights_only``), and only for the recipe and the data that it was written for.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from reluce.errors import OutputError, UsageError
from reluce.run import LOCKS, Taken, open_locked

FORMAT = "reluce.train 1"
KEYS = {"format", "recipe", "data", "model", "optimizer", "history", "best"}


def write_checkpoint(path: str | Path, state: Mapping[str, Any]) -> None:
    """Replace a checkpoint, so that a crash leaves the old one or the new one.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    target, buffer = Path(path), io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    temporary = target.with_name(f".{target.name}.reluce-tmp")
    try:
        descriptor = open_locked(temporary)
    except Taken:
        raise OutputError(f"{target}: another run is writing this checkpoint") from None
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        try:
            _fill(descriptor, buffer)
            if LOCKS:
                temporary.replace(target)
        finally:
            os.close(descriptor)
        if not LOCKS:  # where an open file cannot be renamed
            temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _unwritable(target, error) from error
        raise


def _fill(descriptor: int, buffer: io.BytesIO) -> None:
    os.ftruncate(descriptor, 0)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(descriptor)


def _unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(f"{target}: the checkpoint cannot be written ({error.strerror or error})")


def read_checkpoint(path: str | Path, recipe: str, data: str) -> dict[str, Any] | None:
    """What was written last, or ``None`` where nothing was.

    Parameters
    ----------
    path
        The file.
    recipe, data
        What the checkpoint must be of: a recipe as JSON, the digest of the data.

    Raises
    ------
    UsageError
        When the file is damaged, or of another recipe or other data.
    """
    target = Path(path)
    if not target.exists():
        return None
    advice = "remove it, or start afresh"
    try:
        state = torch.load(target, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its parts do
        raise UsageError(f"{target}: cannot be read as a checkpoint ({type(error).__name__}); {advice}") from error
    if not isinstance(state, dict) or state.keys() != KEYS or state["format"] != FORMAT:
        raise UsageError(f"{target}: is no checkpoint of this version; {advice}")
    if state["recipe"] != recipe:
        raise UsageError(f"{target}: is the checkpoint of another recipe, {state['recipe']}; {advice}")
    if state["data"] != data:
        raise UsageError(f"{target}: is the checkpoint of a run on other data; {advice}")
    return state
