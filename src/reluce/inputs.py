"""The domain and the samples that a user gives, as the network of a model takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reluce.domain import Box, DomainLike, fit_data, load_data, make_box, scaled_box, stated_box
from reluce.errors import UsageError
from reluce.io import Loaded
from reluce.network import Array

PathLike = str | os.PathLike[str]
Data = PathLike | Mapping[str, Array] | Array


def domain_of(loaded: Loaded, domain: DomainLike | None, space: str) -> Box:
    """The box that the network of a model is looked at on.

    Parameters
    ----------
    loaded
        The model.
    domain
        Whatever ``make_box`` understands; ``None`` for the ranges that the model states itself.
    space
        Where the model scales its inputs first: ``"input"`` for a domain before that, ``"scaled"`` for one after it.

    Raises
    ------
    UsageError
        When there is no domain, or ``space`` does not go with the model.
    DomainError
        When the domain cannot be read or does not fit.
    """
    if space not in ("input", "scaled"):
        raise UsageError(f"domain_space {space!r}: expected 'input' or 'scaled'")
    if loaded.scaling is None and space == "scaled":
        raise UsageError("domain_space 'scaled' goes with a pipeline that has a scaler only")
    if domain is not None:
        box = make_box(loaded.network, domain)
    elif loaded.ranges is not None:
        box = stated_box(loaded.network, loaded.ranges.ends, loaded.ranges.source)
    else:
        said = "; ".join(note for note in loaded.notes if note.startswith("metadata "))  # ranges that cannot be read
        why = said or "the model states no input ranges"
        raise UsageError(f"no domain: give a range, a box, data or a VNN-LIB file; {why}")
    scaling = loaded.scaling
    if scaling is None:
        return box
    if space == "scaled":
        return replace(box, description=f"{box.description} (after scaling)")
    box = replace(box, description=f"{box.description} (before scaling)")
    return scaled_box(box, scaling.slope, scaling.offset, scaling.apply)


def samples_of(loaded: Loaded, data: Data) -> dict[str, Array]:
    """Samples of a model's inputs as its network takes them, ``(samples, *sample shape)`` per graph input.

    Raises
    ------
    DomainError
        When they cannot be read or do not fit.
    """
    network = loaded.network
    if isinstance(data, str | os.PathLike):
        samples = load_data(network, Path(data))
    else:
        samples = fit_data(network, data if isinstance(data, Mapping) else {network.inputs[0]: data})
    return samples if loaded.scaling is None else {name: loaded.scaling.apply(x) for name, x in samples.items()}


def outside(box: Box, samples: Mapping[str, Array]) -> tuple[str, ...]:
    """A note where samples lie outside the domain."""
    inside = box.contains(samples)
    lost = int((~inside).sum())
    if not lost:
        return ()
    if lost == inside.size:
        return ("all data samples lie outside the domain: are they scaled as the domain is?",)
    return (f"{lost:,} of {inside.size:,} data samples lie outside the domain and were passed over",)
