"""The child's side of a session: holds the loaded problem, answers one request after the other.

It speaks pickle: over stdin come ``(load, problem)`` and then requests, over stdout go ``None`` when the problem is
loaded and then one outcome for each request.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, BinaryIO

from reluce.network import Array
from reluce.solve._problem import Limits, Outcome, Problem, Session, Status


@dataclass(frozen=True, eq=False)
class Request:
    """One solve, and the changes of bounds that come before it: ``(columns, lower, upper)`` each."""

    changes: tuple[tuple[Array, Array, Array], ...]
    objective: Array
    limits: Limits


def serve() -> None:
    """Answer until stdin closes. The main function of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it decides what becomes of the child
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # solvers print banners on stdout
    inbox: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, inbox), daemon=True).start()

    session = _load(*inbox.get())
    _send(answers, None)
    while True:
        _send(answers, _answer(session, inbox.get()))


def _listen(stdin: BinaryIO, inbox: SimpleQueue[Any]) -> None:
    """Pass on what comes in, and end the process when nothing can come any more.

    The parent's end closes also when the parent is killed, and this thread notices even in the middle of a solve:
    no orphan stays.
    """
    try:
        while True:
            inbox.put(pickle.load(stdin))
    finally:
        os._exit(0)


def _load(load: Callable[[Problem], Session], problem: Problem) -> Session | str:
    try:
        return load(problem)
    except Exception as error:  # told with every answer
        return f"the problem could not be loaded: {type(error).__name__}: {error}"


def _answer(session: Session | str, request: Request) -> Outcome:
    if isinstance(session, str):
        return Outcome(Status.FAILED, note=session)
    try:
        for columns, lower, upper in request.changes:
            session.bound(columns, lower, upper)
        return session.maximise(request.objective, request.limits)
    except Exception as error:
        return Outcome(Status.FAILED, note=f"{type(error).__name__}: {error}")


def _send(answers: BinaryIO, answer: Outcome | None) -> None:
    pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
    answers.flush()
