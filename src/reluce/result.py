"""What ``compress`` and ``inspect`` give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from reluce.certificate import Certified
from reluce.facts import Verdict
from reluce.io import Loaded, hand_over
from reluce.report import Report


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of ``compress`` or ``inspect``; printing it shows the tables that the command line shows.

    Parameters
    ----------
    report
        Sizes, verdicts, guarantee, deviation and seconds.
    loaded
        The compressed model as read back, for ``inspect`` the original.
    certified
        The certificate, with the bytes of the files that it is about; ``None`` where there is none.
    """

    report: Report
    loaded: Loaded = field(repr=False)
    certified: Certified | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> Any:
        """The compressed model (for ``inspect``: the original), of the kind that was given.

        An ``onnx.ModelProto`` for paths, files and ONNX objects, a ``torch.nn.Module``, a scikit-learn estimator.
        """
        return hand_over(self.loaded)

    @property
    def certificate(self) -> bytes | None:
        """The certificate, as ``reluce-check`` reads it."""
        return None if self.certified is None else self.certified.certificate

    @property
    def verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """For each ReLU, by its name in the report, the verdict of each unit of the original."""
        return {row.name: tuple(Verdict[verdict.upper()] for verdict in row.verdicts) for row in self.report.layers}

    def __str__(self) -> str:
        return str(self.report)
