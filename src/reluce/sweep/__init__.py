"""Sweeps: strengths times seeds, each trained and compressed, and which one loses nothing. Needs torch, matplotlib."""

from reluce.sweep._choice import choose
from reluce.sweep._plan import PENALTIES, recipes_for, text_of
from reluce.sweep._plot import plotted
from reluce.sweep._results import Choice, Failure, Figures, Row, Run, Sweep
from reluce.sweep._sweep import sweep
from reluce.sweep._tables import tables

__all__ = [
    "PENALTIES",
    "Choice",
    "Failure",
    "Figures",
    "Row",
    "Run",
    "Sweep",
    "choose",
    "plotted",
    "recipes_for",
    "sweep",
    "tables",
    "text_of",
]
