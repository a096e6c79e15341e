"""A process that does one kind of work on untrusted data: it may crash, hang or run out of memory, and is killed then.

The child is a plain interpreter that runs one file (see ``_child.py``); it is not forked, since BLAS and onnxruntime
have threads, and it does not import the caller's script or this package. It is no defence against code that has taken
the child over: that has the user's rights. It is one against everything short of that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reluce.run import _child
from reluce.run._child import Garbled, Parts, receive, send

# `sys.path` goes first, so that the child finds what the parent found.
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
        Of wall-clock time, the start of the process not included.
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
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None

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
                process = self._running()
                head, results = _exchange(process, request, parts, limits)
            except BaseException:  # Ctrl-C, for one: what is still under way would answer the next request
                self._close()
                raise
        if "error" in head:
            raise Failed(head["error"])
        return head["reply"], results

    def start(self) -> None:
        """Start the process now, in the background, if it does not run."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._close()
            self._process = _started(self._service)
            self._end = weakref.finalize(self, _ended, self._process, os.getpid())
        return self._process

    def _close(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _started(service: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, json.dumps(sys.path), _child.__file__, str(service)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the terminal's Ctrl-C does not reach it
    )


def _ended(process: subprocess.Popen[bytes], owner: int) -> None:
    """Kill and forget; not in a process that was forked from the owner and has only copies of the pipes."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # unsent bytes for a process that is gone
            assert stream is not None
            stream.close()


def _exchange(
    process: subprocess.Popen[bytes], request: Mapping[str, Any], parts: Parts, limits: Limits
) -> tuple[dict[str, Any], Parts]:
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Event()

    def kill() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limits.seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        limited = {**request, "seconds": limits.seconds, "memory": limits.memory}
        send(process.stdin, limited, parts)
        head, results = receive(process.stdout, limits.reply)
        if not isinstance(head.get("reply"), dict) and not isinstance(head.get("error"), str):
            raise Garbled
        return head, results
    except (OSError, EOFError):
        if late.is_set():
            raise Lost(f"no answer after {limits.seconds:.3g} s") from None
        raise Lost(f"the process was lost (exit code {process.wait(timeout=5)})") from None
    except Garbled:
        raise Lost("its answer is garbled") from None
    finally:
        timer.cancel()
