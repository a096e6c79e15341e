"""What several commands need: options that hold several numbers, files that must be distinct, exit codes, printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from reluce.errors import UsageError
from reluce.io import demand_writable

TIME_RAN_OUT, INTERNAL_ERROR = 4, 70
"""Exit codes that no exception of ours stands for."""

WIDE = 240
"""Columns for output that no terminal shows, so that lines can be searched."""


def whole_numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between; none for an empty text."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected whole numbers, such as 400,400") from None


def strengths_of(option: str, text: str) -> float | tuple[float, ...]:
    """The strength of a penalty: one number, or one for each layer with commas between."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected a number, or one for each layer, such as 1e-4") from None
    return found[0] if len(found) == 1 else found


def range_of(text: str | None) -> tuple[float, float] | None:
    """The two ends of a ``--range`` for all inputs; None where it is not given."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--range {text!r}: expected LO,HI, such as 0,1") from None
    return low, high


def demand_distinct(read: Mapping[str, Path | None], written: Mapping[str, Path | None]) -> None:
    """No file that is written may be one that is read, or written twice; and each must be writable."""
    seen = {os.path.realpath(path): role for role, path in read.items() if path is not None}
    for role, path in written.items():
        if path is None:
            continue
        other = seen.setdefault(os.path.realpath(path), role)
        if other != role:
            raise UsageError(f"{other} and {role} name the same file: {path}")
        demand_writable(path)


def training_room() -> Any:
    """The room that needs torch, opened only when it is used."""
    try:
        import reluce.train as room
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        raise UsageError("training needs torch: pip install 'reluce[train]'") from None
    return room


def print_tables(what: RenderableType) -> None:
    """Print tables; a terminal that lacks a letter, or a reader that hangs up, is no failure of the run."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    with console.capture() as captured:
        console.print(what)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(captured.get().encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
