"""Proving: which units are stable on the domain, and witnesses against the others."""

from reluce.prove._ascent import AscentSettings
from reluce.prove._ladder import Proof, ProverSettings, prove

__all__ = ["AscentSettings", "Proof", "ProverSettings", "prove"]
