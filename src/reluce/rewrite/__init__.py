"""Rewriting: facts become a smaller network. One file per rewrite, each opening with its maths."""

from reluce.rewrite._budget import Budget, uniform_budget
from reluce.rewrite._rewrite import Rewriting, rewrite
from reluce.rewrite._state import Original

__all__ = ["Budget", "Original", "Rewriting", "rewrite", "uniform_budget"]
