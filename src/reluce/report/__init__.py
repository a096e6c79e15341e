"""Reports: what a run found and did, as data, JSON and tables."""

from reluce.report._report import (
    CertificateRow,
    LayerRow,
    Report,
    RungRow,
    SolverUse,
    certificate_row,
    layer_rows,
    rung_rows,
)
from reluce.report._tables import as_text, render

__all__ = [
    "CertificateRow",
    "LayerRow",
    "Report",
    "RungRow",
    "SolverUse",
    "as_text",
    "certificate_row",
    "layer_rows",
    "render",
    "rung_rows",
]
