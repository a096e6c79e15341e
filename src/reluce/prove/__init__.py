"""Proving: which units are stable on the domain, and witnesses against the others."""

from reluce.prove._ascent import Climb
from reluce.prove._ladder import Proof, ProverSettings, prove
from reluce.prove._refute import SearchSettings

__all__ = ["Climb", "Proof", "ProverSettings", "SearchSettings", "prove"]
