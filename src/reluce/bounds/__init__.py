"""Bounds: rigorous enclosures of what the tensors of a network can be on the domain. One rule per op and method."""

from reluce.bounds._analysis import RUNGS, Bounds, Corners, Known, Settled, analyse
from reluce.bounds._constants import Constancy, constancy
from reluce.bounds._exact import ExactInterval, exact_cost, exact_intervals, exact_linear_upper_bound
from reluce.bounds._float_error import float_error, lipschitz
from reluce.bounds._forms import AffineForm, DenseForm, affine_form, dense_form
from reluce.bounds._interval import Interval, interval, meet
from reluce.bounds._layered import Layered, layered
from reluce.bounds._linear import SLOPES, LinearBound, Relaxation, linear_upper_bound, relax
from reluce.bounds._subbox_exact import holds_exactly
from reluce.bounds._subboxes import Engine, Rows, SubBoxes, Tightened

__all__ = [
    "RUNGS",
    "SLOPES",
    "AffineForm",
    "Bounds",
    "Constancy",
    "Corners",
    "DenseForm",
    "Engine",
    "ExactInterval",
    "Interval",
    "Known",
    "Layered",
    "LinearBound",
    "Relaxation",
    "Rows",
    "Settled",
    "SubBoxes",
    "Tightened",
    "affine_form",
    "analyse",
    "constancy",
    "dense_form",
    "exact_cost",
    "exact_intervals",
    "exact_linear_upper_bound",
    "float_error",
    "holds_exactly",
    "interval",
    "layered",
    "linear_upper_bound",
    "lipschitz",
    "meet",
    "relax",
]
