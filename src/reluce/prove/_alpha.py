"""alpha-CROWN on many coordinates of one pre-activation: slopes optimised for each bound, then evaluated rigorously.

Source: Xu et al., "Fast and complete", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reluce.bounds import Interval
from reluce.network import Array, Network
from reluce.prove._arrays import Arrays
from reluce.prove._dual import Dual
from reluce.prove._rigorous import Rigorous, rounded
from reluce.prove._slopes import Descent, optimise

NUMBERS = 30_000_000
"""Numbers in one block of slopes or coefficients: bounds the memory."""


def upper_bounds(
    dual: Dual, rows: Array, signs: Array, kind: Descent, stop: Callable[[], bool] = lambda: False
) -> Array:
    """Rigorous upper bounds of ``sign * z[row]`` with optimised slopes; infinite where ``stop`` came first.

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
    """
    network, tensor = dual.network, dual.tensor
    shape = network.shape(tensor)
    rigorous, upper = Rigorous(dual), np.full(len(rows), np.inf)
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
        upper[chunk] = rigorous.upper(functional, *rounded(best, dual))
    return upper


def tightened(
    network: Network,
    tensor: str,
    intervals: dict[str, Interval],
    kind: Descent,
    arrays: Arrays,
    stop: Callable[[], bool] = lambda: False,
) -> Interval:
    """The interval of a pre-activation with both ends of every unstable coordinate tightened."""
    z = intervals[tensor]
    low, high = z.lower.ravel().copy(), z.upper.ravel().copy()
    rows = np.flatnonzero((low < 0) & (high > 0) & np.isfinite(low) & np.isfinite(high))
    if rows.size:
        dual = Dual(network, tensor, intervals, arrays)
        upper = upper_bounds(dual, np.tile(rows, 2), np.repeat([1.0, -1.0], len(rows)), kind, stop)
        high[rows] = np.minimum(high[rows], upper[: len(rows)])
        low[rows] = np.maximum(low[rows], -upper[len(rows) :])
    return Interval(low.reshape(z.lower.shape), high.reshape(z.lower.shape), z.slack)
