"""Guarantee levels: what the outputs may do, and how far that lets each of them move in one run."""

from reluce.guarantee._allowance import Allowance, allowance
from reluce.guarantee._levels import Exact, Level, Roundoff, Within, parse_guarantee
from reluce.guarantee._magnitudes import Magnitudes, magnitudes

__all__ = [
    "Allowance",
    "Exact",
    "Level",
    "Magnitudes",
    "Roundoff",
    "Within",
    "allowance",
    "magnitudes",
    "parse_guarantee",
]
