"""Rewriting: facts become a smaller network. One file per rewrite, each opening with its maths."""

from reluce.rewrite._budget import Budget, uniform_budget
from reluce.rewrite._cost import Cost, Objective, cost
from reluce.rewrite._rewrite import STEPS, Rewriting, Step, rewrite
from reluce.rewrite._state import Original, Rewritten

__all__ = [
    "STEPS",
    "Budget",
    "Cost",
    "Objective",
    "Original",
    "Rewriting",
    "Rewritten",
    "Step",
    "cost",
    "rewrite",
    "uniform_budget",
]
