"""A session in a process of its own, so that it can be killed: solvers ignore their limits, hang and crash.

The child is started as a plain interpreter, not by ``multiprocessing``: both its ``spawn`` and its ``forkserver`` run
the caller's main script again in the child (a script without ``if __name__ == "__main__"`` would compress twice), and
``fork`` is unsafe once BLAS, onnxruntime or torch have started threads.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from typing import Any

from reluce.network import Array
from reluce.solve._problem import Limits, Outcome, Problem, Session, Status
from reluce.solve._worker import Request

_POLL = 0.05  # seconds between two looks at the clock and at `stop`
_GRACE = 2.0  # seconds past the limit of a solve; sooner, a kill costs more (a new start, the bound) than it saves
_START = 120.0  # seconds for the start of the interpreter and the loading of the problem; not charged to the solve

# `sys.path` goes first, so that the child finds what the parent found; until then `-P` keeps the current folder out.
_CODE = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from reluce.solve._worker import serve
serve()
"""
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class RemoteSession(Session):
    """A session in a child process. The child starts at once, in the background, and anew after it was lost.

    Parameters
    ----------
    load
        What loads the problem in the child; a function that can be imported there.
    problem
        The problem to load.
    stop
        Asked every few hundredths of a second during a solve; when it is true the solve is killed.
    """

    def __init__(self, load: Callable[[Problem], Session], problem: Problem, stop: Callable[[], bool]) -> None:
        self._load, self._problem, self._stop = load, problem, stop
        self._changes: tuple[tuple[Array, Array, Array], ...] = ()
        self._child: _Child | None = _Child(load, problem)

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        began = time.monotonic()
        if self._stop():
            return Outcome(Status.LIMIT, note="stopped before it began")
        if self._child is None:
            self._child = _Child(self._load, self._problem)
            self._changes = ()
        child, request = self._child, Request(self._changes, objective, limits)
        self._changes = ()
        try:
            self._wait(child.loaded, _START)
            outcome: Outcome = self._wait(child.ask(request), limits.seconds + _GRACE)
            return outcome
        except _Killed as reason:
            self.close()
            status, note = Status.LIMIT, f"killed: {reason}"
        except (OSError, EOFError, pickle.PickleError) as error:
            status, note = Status.FAILED, f"the solver's process was lost (exit code {child.exit_code()}): {error!r}"
            self.close()
        except BaseException:  # a second Ctrl-C, for one: the child must not go on
            self.close()
            raise
        return Outcome(status, seconds=time.monotonic() - began, note=note)

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        new_lower, new_upper = self._problem.lower.copy(), self._problem.upper.copy()
        new_lower[columns], new_upper[columns] = lower, upper
        self._problem = replace(self._problem, lower=new_lower, upper=new_upper)
        self._changes += ((columns.copy(), lower.copy(), upper.copy()),)

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child = None

    def _wait(self, answer: Future[Any], seconds: float) -> Any:
        end = time.monotonic() + seconds
        while not wait([answer], timeout=_POLL).done:
            if self._stop():
                raise _Killed("stopped from outside")
            if time.monotonic() > end:
                raise _Killed(f"no answer after {seconds:.3g} s")
        return answer.result()


class _Killed(Exception):
    """The answer is not waited for any longer."""


class _Child:
    """A running interpreter, and a thread that writes to it and waits for its answers."""

    def __init__(self, load: Callable[[Problem], Session], problem: Problem) -> None:
        self._process = process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
            start_new_session=True,  # the terminal's Ctrl-C does not reach it, not even before it can ignore it
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.loaded = self._thread.submit(self._exchange, list(sys.path), (load, problem))

    def exit_code(self) -> int | None:
        """That of a process which has closed its pipe and is about to end."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=1.0)
        return None

    def ask(self, request: Request) -> Future[Any]:
        return self._thread.submit(self._exchange, request)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.shutdown()  # what it waits for has ended now
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):  # unsent bytes for a process that is gone
                stream.close()

    def _exchange(self, *messages: Any) -> Any:
        for message in messages:
            pickle.dump(message, self._stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self._stdin.flush()
        return pickle.load(self._stdout)
