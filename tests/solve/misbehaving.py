"""Adapters that do what real solvers do on bad days. They run in the processes that sessions start."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from problems import problem

from reluce.network import Array
from reluce.solve import SOLVERS, Limits, Outcome, Problem, Session, Status

SLEEP, EXIT, CRASH, RAISE, CHATTER = range(1, 6)
"""What the first coefficient of an objective orders; anything else is answered with the sum of the upper bounds."""


class Misbehaving(Session):
    def __init__(self, problem: Problem) -> None:
        self._upper = problem.upper.copy()

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        order = objective[0]
        if order == SLEEP:
            time.sleep(600)
        elif order == EXIT:
            os._exit(3)
        elif order == CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif order == RAISE:
            raise MemoryError("too much")
        elif order == CHATTER:
            os.write(1, b"Restricted licence, for non-production use only\n")
        return Outcome(Status.OPTIMAL, dual_bound=float(self._upper.sum()))

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        self._upper[columns] = upper

    def close(self) -> None:
        pass


def refuse(problem: Problem) -> Session:
    raise ValueError("this problem is not to my taste")


def load_locked(problem: Problem) -> Session:
    """The solver named by SOLVER, in a process that holds the file named by LOCK for as long as it lives."""
    fcntl.flock(os.open(os.environ["LOCK"], os.O_RDWR), fcntl.LOCK_EX)
    return SOLVERS[os.environ["SOLVER"]].load(problem)


def nothing() -> Problem:
    """Two columns between 0 and 1, and nothing else."""
    return problem([], ([], []), ([0, 0], [1, 1]), [False] * 2)
