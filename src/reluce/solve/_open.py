"""Opening a session by the name of a solver."""

from __future__ import annotations

from collections.abc import Callable

from reluce.solve._problem import Problem, Session
from reluce.solve._process import RemoteSession
from reluce.solve._solvers import find_solver


def open_session(solver: str, problem: Problem, stop: Callable[[], bool]) -> Session:
    """Load a problem into a solver, in a process of its own that can be killed.

    Parameters
    ----------
    solver
        ``highs``, ``scip`` or ``gurobi``.
    problem
        What to load; it is loaded once, in the background.
    stop
        Asked every few hundredths of a second while a solve runs; when it is true the solve is killed.

    Returns
    -------
    Session
        A context manager. It stays usable after a solve was killed or the solver crashed: the next solve starts a new
        process with the bounds as they are then.

    Raises
    ------
    UsageError
        There is no such solver, or its package is not installed.
    """
    return RemoteSession(find_solver(solver).load, problem, stop)
