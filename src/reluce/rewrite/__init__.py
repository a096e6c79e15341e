"""Rewriting: facts become a smaller network. One file per rewrite, each opening with its maths."""

from reluce.rewrite._budget import Budget, uniform_budget
from reluce.rewrite._cost import Objective
from reluce.rewrite._rewrite import STEPS, Rewriting, rewrite
from reluce.rewrite._state import Original, Rewritten

__all__ = [
    "STEPS",
    "Budget",
    "Objective",
    "Original",
    "Rewriting",
    "Rewritten",
    "rewrite",
    "uniform_budget",
]
