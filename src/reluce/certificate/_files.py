"""Where a certificate goes, and the files that belong to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from reluce.certificate._certify import Certified
from reluce.errors import UsageError
from reluce.io import beside, demand_writable

Where = str | os.PathLike[str] | bool | None
"""A path; ``None`` for the default; ``False`` for nowhere."""

SUFFIX = ".cert"


def certificate_path(certificate: Where, output: Any, model: Any) -> Path | None:
    """Where the certificate goes: by default next to the output, where that is a path.

    Raises
    ------
    UsageError
        When it would replace the model or the output, or ``True`` leaves open where it goes.
    OutputError
        When it cannot be written there.
    """
    named = isinstance(output, str | os.PathLike)
    if certificate is False or (certificate is None and not named):
        return None
    if certificate is None or certificate is True:
        if not named:
            raise UsageError("certificate=True goes with an output that is a path; else say where the certificate goes")
        place = beside(output, SUFFIX)
    else:
        place = Path(certificate)
    others = [other for other in (output, model) if isinstance(other, str | os.PathLike)]
    if any(os.path.realpath(other) == os.path.realpath(place) for other in others):
        raise UsageError(f"{place}: the certificate would replace a model; give it another name")
    demand_writable(place)
    return place


def files_of(certified: Certified, place: Path, output: Any, model: Any) -> list[tuple[str | os.PathLike[str], bytes]]:
    """The files to write: the certificate, and before it the ONNX files that it is about where there are none.

    Parameters
    ----------
    certified
        What was proved.
    place
        Where the certificate goes.
    output, model
        As the user gave them.
    """
    found: list[tuple[str | os.PathLike[str], bytes]] = []
    stem = place.name.removesuffix(SUFFIX)
    path = isinstance(model, str | os.PathLike) and os.fspath(model).lower()
    if not path or path.removesuffix(".gz").endswith(".nnet"):
        found.append((place.with_name(stem + ".original.onnx"), certified.original))
    if not isinstance(output, str | os.PathLike):
        found.append((place.with_name(stem + ".compressed.onnx"), certified.compressed))
    return [*found, (place, certified.certificate)]
