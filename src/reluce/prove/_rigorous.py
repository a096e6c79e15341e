"""From hints to bounds: multipliers that ``_slopes`` found, rounded to few digits and evaluated rigorously.

Any slopes in [0, 1] and any split multipliers >= 0 give a valid bound, so rounding them costs a little tightness and
nothing else; a proof stays small and its exact replay cheap.
"""

from __future__ import annotations

import numpy as np

from reluce.bounds import SLOPES, Relaxation, linear_upper_bound, relax
from reluce.network import Array
from reluce.prove._dual import Dual, Multipliers

BETA_BITS = 12
"""Significant bits of split multipliers in a proof."""


class Rigorous:
    """Rigorous bounds of functionals of one tensor for given multipliers.

    Parameters
    ----------
    dual
        The network part that the multipliers are about.
    above
        Upper slopes ``(coordinates,)`` of unstable units; by default those of the chord, rounded down.
    """

    def __init__(self, dual: Dual, above: Array | None = None) -> None:
        self._dual = dual
        self._relaxed = {}
        for node in dual.relus:
            z = dual.intervals[node.inputs[0]]
            given = None if above is None else above[dual.places[node.name]].reshape(z.lower.shape)
            self._relaxed[node.name] = relax(z, above=given)
        flat = [self._relaxed[node.name].above.ravel() for node in dual.relus]
        self.above = np.concatenate(flat) if flat else np.zeros(0)

    def upper(self, functional: Array, split: Array, alpha: Array, beta: Array) -> Array:
        """Upper bounds ``(rows,)`` of functionals ``(rows, *sample shape)`` where the splits of each row hold."""
        network, rows = self._dual.network, len(functional)
        relaxations, lagrangian = {}, {}
        for node in self._dual.relus:
            shape = (rows, *network.shape(node.inputs[0]))
            place = self._dual.places[node.name]
            relaxed = self._relaxed[node.name]
            signs = split[:, place].reshape(shape)
            z, free = self._dual.intervals[node.inputs[0]], signs == 0
            below = np.where((z.lower < 0) & (z.upper > 0), alpha[:, place].reshape(shape), relaxed.below)
            relaxations[node.name] = Relaxation(
                below=np.where(free, below, signs > 0),
                above=np.where(free, relaxed.above, signs > 0),
                offset=np.where(free, relaxed.offset, 0.0),
            )
            if beta[:, place].any():
                lagrangian[node.inputs[0]] = beta[:, place].reshape(shape) * signs
        start = {self._dual.tensor: functional}
        return linear_upper_bound(network, start, np.zeros(rows), self._dual.intervals, relaxations, lagrangian).upper


def rounded(multipliers: Multipliers, dual: Dual) -> tuple[Array, Array, Array]:
    """Splits, slopes and split multipliers with few digits, on the host: still valid, as any are."""
    host = dual.arrays.numpy
    alpha = np.round(np.clip(host(multipliers.alpha).astype(np.float64), 0, 1) * SLOPES) / SLOPES
    mantissa, exponent = np.frexp(np.maximum(host(multipliers.beta).astype(np.float64), 0))
    beta = np.ldexp(np.round(mantissa * 2**BETA_BITS), exponent - BETA_BITS)
    return host(multipliers.split).astype(np.int8), alpha, beta
