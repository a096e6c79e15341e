"""The input domain: a box with exact ends, and the ways in which a user can state one."""

from reluce.domain._arrays import read_arrays
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
from reluce.domain._scaled import scaled_box
from reluce.domain._stated import stated_box
from reluce.domain._vnnlib import load_vnnlib

__all__ = [
    "Box",
    "DomainLike",
    "box_from_data",
    "box_from_ranges",
    "fit_data",
    "load_box",
    "load_data",
    "load_vnnlib",
    "make_box",
    "read_arrays",
    "scaled_box",
    "stated_box",
]
