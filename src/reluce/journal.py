"""Where the journal of a run is, and what it belongs to: killed at any moment, the same command goes on from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reluce._version import __version__
from reluce.domain import Box
from reluce.errors import UsageError
from reluce.io import Loaded, OnnxLoaded, beside
from reluce.run import Journal
from reluce.settings import Settings

SUFFIX = ".journal"


def journal_path(output: Any) -> Path | None:
    """Where it is: next to the output, where that is a path."""
    return beside(output, SUFFIX) if isinstance(output, str | os.PathLike) else None


def demand_free(output: Any, others: Iterable[str | os.PathLike[str] | None]) -> None:
    """Find out before the work that no other file of a run is where its journal is to be.

    Raises
    ------
    UsageError
        When one is.
    """
    path = journal_path(output)
    if path is not None and any(other and os.path.realpath(other) == os.path.realpath(path) for other in others):
        raise UsageError(f"{path}: the journal of the run is there; give the other file another name")


@contextmanager
def journal_of(output: Any, loaded: Loaded, box: Box, settings: Settings) -> Iterator[Journal | None]:
    """The journal of a run, which no other run can open meanwhile; ``None`` where the output is no path.

    Parameters
    ----------
    output
        As the user gave it.
    loaded, box, settings
        What the run is determined by. Samples and the time limit are not part of it: they may change.

    Raises
    ------
    OutputError
        When another run has it, or it cannot be written.
    """
    path = journal_path(output)
    if path is None:
        yield None
        return
    journal = Journal.open(path, _identity(loaded, box, settings))
    try:
        yield journal
    finally:
        journal.close()


def _identity(loaded: Loaded, box: Box, settings: Settings) -> str:
    data = hashlib.sha256(loaded.data).hexdigest() if isinstance(loaded, OnnxLoaded) else ""
    shapes = sorted((settings.input_shapes or {}).items())
    parts = [__version__, data, box.digest, repr(settings.prover), repr(shapes)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
