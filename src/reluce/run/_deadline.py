"""A budget of wall-clock time that also honours Ctrl-C and SIGTERM: work asks between steps, nothing ends half-way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Deadline:
    """A point in time after which no new step of proving or rewriting starts.

    Parameters
    ----------
    seconds
        The budget in seconds; ``None`` for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._interrupted = threading.Event()
        self._cut = threading.Event()

    @property
    def passed(self) -> bool:
        """Whether to stop now. Remembers that work was cut short, see ``cut``."""
        over = self._interrupted.is_set() or (self._end is not None and time.monotonic() >= self._end)
        if over:
            self._cut.set()
        return over

    @property
    def cut(self) -> bool:
        """Whether some work was left undone because of this deadline."""
        return self._cut.is_set()

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed, or SIGTERM came."""
        return self._interrupted.is_set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into ``passed``; a second one raises ``KeyboardInterrupt``."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_signal: int, _frame: FrameType | None) -> None:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            self._interrupted.set()

        previous = {kind: signal.signal(kind, stop) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in previous.items():
                signal.signal(kind, handler)
