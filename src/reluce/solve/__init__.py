"""Solving: mixed-integer linear problems, by HiGHS, SCIP or Gurobi. Their answers are hints, never proofs."""

from reluce.solve._problem import Limits, Outcome, Problem, Session, Status

__all__ = ["Limits", "Outcome", "Problem", "Session", "Status"]
