"""Solving: mixed-integer linear problems, by HiGHS, SCIP or Gurobi. Their answers are hints, never proofs."""

from reluce.solve._encode import Encoding, Switch, encode, obstacle
from reluce.solve._open import open_session
from reluce.solve._problem import Limits, Outcome, Problem, Session, Status
from reluce.solve._solvers import SOLVERS, Solver, find_solver

__all__ = [
    "SOLVERS",
    "Encoding",
    "Limits",
    "Outcome",
    "Problem",
    "Session",
    "Solver",
    "Status",
    "Switch",
    "encode",
    "find_solver",
    "obstacle",
    "open_session",
]
