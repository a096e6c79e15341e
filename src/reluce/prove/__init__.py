"""Proving: which units are stable on the domain, and witnesses against the others."""

from reluce.prove._ascent import Climb
from reluce.prove._attest import Effort, Question, Word
from reluce.prove._isa import isa
from reluce.prove._ladder import Method, Proof, ProverSettings, prove
from reluce.prove._leo import leo
from reluce.prove._refute import SearchSettings
from reluce.prove._witnesses import Witnesses

__all__ = [
    "Climb",
    "Effort",
    "Method",
    "Proof",
    "ProverSettings",
    "Question",
    "SearchSettings",
    "Witnesses",
    "Word",
    "isa",
    "leo",
    "prove",
]
