"""Reluce: make a trained ReLU network smaller without changing what it computes over a stated input domain."""

from reluce._version import __version__
from reluce.compress import compress, inspect
from reluce.domain import Box
from reluce.errors import (
    CheckFailed,
    DomainError,
    Interrupted,
    ModelError,
    OutputError,
    ReluceError,
    UsageError,
)
from reluce.facts import Guarantee, Verdict
from reluce.guarantee import Exact, Roundoff, Within, parse_guarantee
from reluce.io import to_torch
from reluce.prove import ProverSettings
from reluce.report import Report
from reluce.result import Result
from reluce.settings import Settings

__all__ = [
    "Box",
    "CheckFailed",
    "DomainError",
    "Exact",
    "Guarantee",
    "Interrupted",
    "ModelError",
    "OutputError",
    "ProverSettings",
    "ReluceError",
    "Report",
    "Result",
    "Roundoff",
    "Settings",
    "UsageError",
    "Verdict",
    "Within",
    "__version__",
    "compress",
    "inspect",
    "parse_guarantee",
    "to_torch",
]
