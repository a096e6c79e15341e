"""The input domain: a box with exact ends, and the ways in which a user can state one."""

from reluce.domain._box import Box
from reluce.domain._read import (
    DomainLike,
    box_from_data,
    box_from_ranges,
    fit_data,
    load_box,
    load_data,
    make_box,
)

__all__ = [
    "Box",
    "DomainLike",
    "box_from_data",
    "box_from_ranges",
    "fit_data",
    "load_box",
    "load_data",
    "make_box",
]
