"""Reports: what a run found and did, as data, JSON and tables."""

from reluce.report._report import LayerRow, Report, RungRow, SolverUse, layer_rows, rung_rows
from reluce.report._tables import as_text, render

__all__ = ["LayerRow", "Report", "RungRow", "SolverUse", "as_text", "layer_rows", "render", "rung_rows"]
