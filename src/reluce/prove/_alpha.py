"""alpha-CROWN on many coordinates of one pre-activation: slopes optimised for each bound, then evaluated rigorously.

Source: Xu et al., "Fast and complete", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reluce.bounds import Interval
from reluce.network import Array
from reluce.prove._dual import Dual
from reluce.prove._evidence import SlopeProof, in_units
from reluce.prove._rigorous import Rigorous, rounded
from reluce.prove._slopes import Descent, optimise

NUMBERS = 30_000_000
"""Numbers in one block of slopes or coefficients: bounds the memory."""


def upper_bounds(
    dual: Dual, rows: Array, signs: Array, kind: Descent, stop: Callable[[], bool] = lambda: False
) -> SlopeProof:
    """Rigorous upper bounds of ``sign * z[row]`` with optimised slopes, where they are better than the interval of z.

    Parameters
    ----------
    dual
        The network in front of z.
    rows, signs
        Flat coordinates of z, and +1 or -1 for each.
    kind
        How long to optimise.
    stop
        Asked between blocks.

    Returns
    -------
    SlopeProof
        Of those functionals whose bound got better; of none behind the block where ``stop`` came.
    """
    network, tensor = dual.network, dual.tensor
    shape = network.shape(tensor)
    z = dual.intervals[tensor]
    known = np.where(signs > 0, z.upper.ravel()[rows], -z.lower.ravel()[rows])
    rigorous, upper = Rigorous(dual), np.full(len(rows), np.inf)
    slopes = [np.zeros((0, dual.coordinates), dtype=np.uint16)]
    widest = max([int(np.prod(shape)), dual.coordinates, *(low.size for low, _ in dual.inputs.values())])
    step = max(1, NUMBERS // (8 * widest))
    for start in range(0, len(rows), step):
        if stop():
            break
        chunk = slice(start, start + step)
        functional = np.zeros((len(rows[chunk]), int(np.prod(shape))))
        functional[np.arange(len(functional)), rows[chunk]] = signs[chunk]
        functional = functional.reshape(len(functional), *shape)
        _, best = optimise(dual, dual.arrays.of(functional), dual.start(len(functional)), kind, stop=stop)
        split, alpha, beta = rounded(best, dual)
        upper[chunk] = rigorous.upper(functional, split, alpha, beta)
        slopes.append(in_units(np.where(dual.unstable, alpha, 0.0)[upper[chunk] < known[chunk]]))
    gained = upper < known
    above, alpha = in_units(rigorous.above), np.concatenate(slopes)
    return SlopeProof(tensor, rows[gained], signs[gained].astype(np.int8), dual.places, alpha, above, upper[gained])


def unstable_ends(z: Interval) -> tuple[Array, Array]:
    """Both ends of every unstable coordinate, as rows and signs for ``upper_bounds``."""
    low, high = z.lower.ravel(), z.upper.ravel()
    rows = np.flatnonzero((low < 0) & (high > 0) & np.isfinite(low) & np.isfinite(high))
    return np.tile(rows, 2), np.repeat([1.0, -1.0], len(rows))
