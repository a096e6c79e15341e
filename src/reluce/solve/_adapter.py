"""What all adapters share: nothing that a solver does reaches the caller as an exception or as an absurd claim."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import replace

import numpy as np

from reluce.network import Array
from reluce.solve._problem import Limits, Outcome, Problem, Session, Status

SEED = 0
"""Every solver gets one thread and this seed: the same problem, the same answer."""

GAP = 1e-6
"""The absolute gap at which a solution counts as optimal; relative gaps are switched off, because signs matter."""

_HUGE = 1e15  # solvers write "no bound" as 1e20 or 1e100, and beyond 1e15 their tolerances mean nothing
_CONTRADICTION = 1e-3  # relative; feasibility tolerances, magnified by large coefficients, stay below this
_MARGIN = 1e-8  # relative; more than the 1e-9 by which SCIP compares
_BOUNDED = (Status.OPTIMAL, Status.STOPPED, Status.LIMIT)  # the only answers that carry a bound


class Adapter(Session):
    """A problem inside a solver, in this process. Subclasses speak to the solver; this class doubts it."""

    def maximise(self, objective: Array, limits: Limits) -> Outcome:
        if not (abs(objective) < _HUGE).all():  # also where it is NaN
            return Outcome(Status.FAILED, note=f"the objective holds NaN or numbers beyond {_HUGE:g}")
        if not limits.seconds > 0:
            return Outcome(Status.LIMIT, note="no time was left to start")
        began = time.monotonic()
        try:
            outcome = believed(self._maximise(objective, limits), objective, limits)
        except Exception as error:  # whatever a solver's wrapper raises is that solver's failure
            outcome = Outcome(Status.FAILED, note=f"{type(error).__name__}: {error}")
        return replace(outcome, seconds=time.monotonic() - began)

    @abstractmethod
    def _maximise(self, objective: Array, limits: Limits) -> Outcome:
        """Ask the solver; may raise, and may repeat whatever the solver claims."""


def believed(claim: Outcome, objective: Array, limits: Limits) -> Outcome:
    """What may be taken over of a solver's claim.

    Parameters
    ----------
    claim
        The solver's words; its objective is not looked at but computed again.
    objective
        The coefficients that were maximised.
    limits
        What the solver was told; ``STOPPED`` must have a reason here.

    Returns
    -------
    Outcome
        The same with a bound that is finite or ``inf``, a finite point or none, and ``FAILED`` where the parts do not
        fit together.
    """
    point = claim.point
    if point is not None:  # NaN is not below _HUGE either; adding 0 turns -0 into 0
        point = point + 0.0 if point.shape == objective.shape and (abs(point) < _HUGE).all() else None
    reached = -np.inf if point is None else _number(float(objective @ point), -np.inf)
    bound = _number(claim.dual_bound, np.inf) if claim.status in _BOUNDED else np.inf
    outcome = replace(claim, dual_bound=bound, objective=reached, point=point)

    doubt = _contradiction(outcome, limits)
    if doubt:
        return replace(outcome, status=Status.FAILED, dual_bound=np.inf, note=f"{doubt}; {claim.note}")
    return outcome


def _contradiction(outcome: Outcome, limits: Limits) -> str:
    """What does not fit together in an outcome; empty if nothing."""
    status, bound, reached = outcome.status, outcome.dual_bound, outcome.objective

    if bound < reached - _CONTRADICTION * max(1.0, abs(reached)):
        return "bound below a solution"
    if status is Status.OPTIMAL and not (np.isfinite(bound) and np.isfinite(reached)):
        return "optimal without a bound or a solution"
    if status is Status.STOPPED and not (reached > limits.above or bound <= limits.below + _margin(limits.below)):
        return "stopped without a reason"
    return ""


def _number(value: float, otherwise: float) -> float:
    """``value`` as a finite float that is no negative zero, ``otherwise`` where it is none."""
    return value + 0.0 if abs(value) < _HUGE else otherwise


def targets(limits: Limits) -> tuple[float, float]:
    """Where a solver that minimises ``-objective`` may stop: at a solution down to the first, a bound up to the second.

    The first lies a little further than ``limits`` says, because solvers compare with "at least" and tolerances, and a
    solution that only equals ``above`` must not stop them.
    """
    return -limits.above - _margin(limits.above), -limits.below


def _margin(value: float) -> float:
    return _MARGIN * max(1.0, abs(value)) if np.isfinite(value) else 0.0


def check_numbers(problem: Problem) -> None:
    """Refuse a problem with NaN or with huge coefficients; solvers do different things to them.

    Raises
    ------
    ValueError
        There is such a number; the message says where.
    """
    if not (abs(problem.matrix.data) < _HUGE).all():
        raise ValueError(f"the matrix holds NaN or numbers beyond {_HUGE:g}")
    for name in ("row_lower", "row_upper", "lower", "upper"):
        if np.isnan(getattr(problem, name)).any():
            raise ValueError(f"{name} holds NaN")
