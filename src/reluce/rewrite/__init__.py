"""Rewriting: facts become a smaller network. One file per rewrite, each opening with its maths."""

from reluce.rewrite._rewrite import Rewriting, rewrite
from reluce.rewrite._state import Original

__all__ = ["Original", "Rewriting", "rewrite"]
