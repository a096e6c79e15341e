"""Proving: which units are stable on the domain, and witnesses against the others."""

from reluce.prove._ascent import Climb
from reluce.prove._attest import Effort, Question, Word
from reluce.prove._branch import BranchSettings
from reluce.prove._closing import ClosingSettings
from reluce.prove._compact import compact
from reluce.prove._evidence import BoxProof, Evidence, LeafProof, Record, SlopeProof
from reluce.prove._followed import followed
from reluce.prove._input_split import SplitSettings
from reluce.prove._isa import isa
from reluce.prove._ladder import Method, Proof, ProverSettings, prove
from reluce.prove._leo import leo
from reluce.prove._refute import SearchSettings
from reluce.prove._split_tree import SplitTree
from reluce.prove._steps import Memory
from reluce.prove._witnesses import Witnesses

__all__ = [
    "BoxProof",
    "BranchSettings",
    "Climb",
    "ClosingSettings",
    "Effort",
    "Evidence",
    "LeafProof",
    "Memory",
    "Method",
    "Proof",
    "ProverSettings",
    "Question",
    "Record",
    "SearchSettings",
    "SlopeProof",
    "SplitSettings",
    "SplitTree",
    "Witnesses",
    "Word",
    "compact",
    "followed",
    "isa",
    "leo",
    "prove",
]
