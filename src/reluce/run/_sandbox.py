"""A process that does one kind of work on untrusted data: it may crash, hang or run out of memory, and is killed then.

The child is a plain interpreter that runs one file (see ``_child.py``); it is not forked, since BLAS and onnxruntime
have threads, and it does not import the caller's script or this package. It is no defence against code that has taken
the child over: that has the user's rights. It is one against everything short of that.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reluce.run import _child
from reluce.run._child import Garbled, Parts, receive, send

_POLL = 0.1  # seconds between two looks at the clock

# `sys.path` goes first, so that the child finds what the parent found; until then `-P` keeps the current folder out.
_CODE = "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); " + (
    "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)


class Lost(Exception):
    """The process was killed, or crashed, or its answer is no answer; says which."""


class Failed(Exception):
    """The work raised an exception, whose text this is; the process goes on."""


@dataclass(frozen=True)
class Limits:
    """What one request may use.

    Parameters
    ----------
    seconds
        Of wall-clock time, the start of the process included.
    memory
        Bytes of address space of the process.
    reply
        Bytes of the arrays that come back.
    """

    seconds: float
    memory: int
    reply: int


class Sandbox:
    """A process that answers requests, one at a time; it starts at the first, and anew after it was lost.

    Parameters
    ----------
    service
        A Python file with a function ``handle(request, arrays) -> (reply, arrays)``, where request and reply are
        JSON objects. It runs without this package, with the ``sys.path`` of the parent.
    """

    def __init__(self, service: Path) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def ask(self, request: Mapping[str, Any], parts: Parts, limits: Limits) -> tuple[dict[str, Any], Parts]:
        """Send a request and wait for the reply.

        Raises
        ------
        Lost
            When the process had to be killed or crashed; the next request starts another one.
        Failed
            When the work raised an exception.
        """
        with self._lock:
            try:
                head, results = self._running().exchange(request, parts, limits)
            except BaseException:  # Ctrl-C, for one: what is still under way would answer the next request
                self._close()
                raise
        if "error" in head:
            raise Failed(head["error"])
        return head["reply"], results

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._close()

    def _running(self) -> _Child:
        if self._child is None or self._child.process.poll() is not None:
            self._close()
            try:
                self._child = _Child(self._service)
            except (OSError, TypeError) as error:  # no interpreter (embedded Python), no room for another process
                raise Lost(f"the process cannot be started ({error})") from None
            weakref.finalize(self, self._child.end)
        return self._child

    def _close(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


class _Child:
    """A running interpreter, and a thread that kills it when it is late."""

    def __init__(self, service: Path) -> None:
        self._owner = os.getpid()
        self._late_from = math.inf  # on the monotonic clock
        self._ended = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path), _child.__file__, str(service)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the terminal's Ctrl-C does not reach it
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        threading.Thread(target=self._watch, daemon=True).start()

    def exchange(self, request: Mapping[str, Any], parts: Parts, limits: Limits) -> tuple[dict[str, Any], Parts]:
        self._late_from = end = time.monotonic() + limits.seconds
        try:
            send(self._stdin, {**request, "seconds": limits.seconds, "memory": limits.memory}, parts)
            head, results = receive(self._stdout, limits.reply)
        except (OSError, EOFError):
            if time.monotonic() >= end:
                raise Lost(f"no answer after {limits.seconds:.3g} s") from None
            raise Lost(f"the process was lost (exit code {self._exit_code()})") from None
        except Garbled:
            raise Lost("its answer is garbled") from None
        finally:
            self._late_from = math.inf
        if not isinstance(head.get("reply"), dict) and not isinstance(head.get("error"), str):
            raise Lost("its answer is garbled")
        return head, results

    def end(self) -> None:
        """Kill and forget; not in a process that was forked from the owner and has only copies of the pipes."""
        self._ended.set()
        if os.getpid() == self._owner:
            self.process.kill()
            self.process.wait()
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):  # unsent bytes for a process that is gone
                stream.close()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL):
            if time.monotonic() >= self._late_from:
                self.process.kill()

    def _exit_code(self) -> int | None:
        """That of a process which has closed its pipe and is about to end."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=1.0)
        return None
