"""Proves from three files that a compressed network computes what the original does. Believes none of them.

It imports numpy, onnx (to parse) and python-flint (exact integers), and nothing of ``reluce``: whoever trusts this
folder need not trust the tool that wrote the certificate, its solvers or its floating-point arithmetic.
"""

from reluce_checker._check import Proved, check
from reluce_checker._domain import Domain, from_npz, from_ranges
from reluce_checker._errors import NotProved, Unreadable, Usage

__all__ = ["Domain", "NotProved", "Proved", "Unreadable", "Usage", "check", "from_npz", "from_ranges"]
