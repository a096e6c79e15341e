"""The image of a box under a scaler that acts on each coordinate by itself: again a box.

    z = x * slope + offset   maps  [l, u]  onto  [l slope + offset, u slope + offset]   (ends exchanged where slope < 0)

A library computes z in floats, and may land a rounding error outside. Each of its operations is monotone in every
coordinate, so what it makes of the two ends encloses what it makes of anything between them: the hull of both images
holds for the reals and for what the library does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from reluce.domain._box import Box
from reluce.errors import DomainError
from reluce.network import Array


def scaled_box(box: Box, slope: Array, offset: Array, apply: Callable[[Array], Array]) -> Box:
    """The image of a box on a single input.

    Parameters
    ----------
    box
        The domain in front of the scaler.
    slope, offset
        Object arrays of ``Fraction`` with the input's sample shape.
    apply
        The scaler as its library computes it, for ``(samples, *sample shape)`` of float32 or float64.

    Raises
    ------
    DomainError
        When the library makes something of an end that is no finite number.
    """
    ((name, low),) = box.lower.items()
    ends = [low * slope + offset, box.upper[name] * slope + offset]
    lower, upper = box.outer[name]
    for dtype in (np.float32, np.float64):
        most = np.finfo(dtype).max  # where the domain goes beyond the format, its largest numbers are the ends
        inputs = np.clip(np.stack([lower, upper]), -most, most).astype(dtype)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            images = apply(inputs)
        if not np.isfinite(images).all():
            raise DomainError(
                f"domain of input {name!r}: the scaler makes no finite number of an end in {np.dtype(dtype)}; "
                "narrow the domain, or scale by less"
            )
        ends.extend(_fractions(image) for image in images)
    least, greatest = ends[0], ends[0]
    for end in ends[1:]:
        least, greatest = np.minimum(least, end), np.maximum(greatest, end)
    return replace(box, lower={name: least}, upper={name: greatest})


def _fractions(values: Array) -> Array:
    result = np.empty(values.size, dtype=object)
    result[:] = [Fraction(value) for value in values.ravel().tolist()]
    return result.reshape(values.shape)
