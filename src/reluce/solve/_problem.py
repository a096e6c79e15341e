"""What is asked of a solver, and what it answers: a mixed-integer linear problem whose objective changes.

The feasible set is loaded once; after that only the objective and the bounds of columns change, so that a solver can
start warm. All problems are maximised. Only ``dual_bound`` and ``point`` of an answer may feed anything, and only as a
hint: solvers work with tolerances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType

import numpy as np
from scipy.sparse import csr_array

from reluce.network import Array


@dataclass(frozen=True, eq=False)
class Problem:
    """``row_lower <= matrix @ x <= row_upper``, ``lower <= x <= upper``, ``x[i]`` integer where ``integer[i]``.

    ``matrix`` is ``(rows, columns)`` in float64; infinite ends are allowed.
    """

    matrix: csr_array
    row_lower: Array
    row_upper: Array
    lower: Array
    upper: Array
    integer: Array


class Status(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    STOPPED = "stopped early"  # a limit on the objective was reached: ``Limits.above`` or ``Limits.below``
    LIMIT = "out of time"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"  # an error, a crash, a lost worker, or a status that the adapter does not know


@dataclass(frozen=True)
class Limits:
    """When to stop: after ``seconds``; once a solution is better than ``above``; once the bound is below ``below``."""

    seconds: float = np.inf
    above: float = np.inf
    below: float = -np.inf


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer. ``dual_bound`` is infinite where there is none, ``point`` is ``None`` where no solution was found.

    ``objective`` is that of ``point`` (``-inf`` without one). ``note`` says what the solver said, for the report.
    """

    status: Status
    dual_bound: float = np.inf
    objective: float = -np.inf
    point: Array | None = None
    nodes: int = 0
    seconds: float = 0.0
    note: str = ""


class Session(ABC):
    """A problem that is loaded into a solver. A context manager: leaving it frees the solver's memory or process."""

    @abstractmethod
    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        """Maximise ``objective @ x``; never raises for what a solver does."""

    @abstractmethod
    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        """Change the bounds of some columns for the solves to come."""

    @abstractmethod
    def close(self) -> None:
        """Free what the session holds."""

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
