"""Bounds anew from a record alone and the intervals known before it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.bounds import Interval
from reluce.network import Array, Network
from reluce.prove._arrays import Arrays
from reluce.prove._dual import Dual, Multipliers
from reluce.prove._evidence import LeafProof, SlopeProof, as_slopes
from reluce.prove._rigorous import Rigorous

NUMBERS = 4_000_000
"""Numbers in one block of coefficients: bounds the memory (32 MB)."""


class Replay:
    """Rigorous bounds with multipliers of a record.

    Parameters
    ----------
    network, intervals
        The network, and proven intervals of its tensors.
    proof
        Names the tensor and has the upper slopes.
    """

    def __init__(self, network: Network, intervals: Mapping[str, Interval], proof: SlopeProof | LeafProof) -> None:
        self.dual = Dual(network, proof.tensor, intervals, Arrays())
        self._rigorous = Rigorous(self.dual, as_slopes(proof.above))
        self._shape = network.shape(proof.tensor)
        widest = max((tensor.size for tensor in network.tensors.values()), default=1)
        self._step = max(1, NUMBERS // max(1, widest))

    def coefficients(self, rows: Array, signs: Array, split: Array, alpha: Array, beta: Array) -> Array:
        """The coefficients of ReLU outputs that the same bounds meet, nearly: where they are negative, slopes count."""
        of = self.dual.arrays.of
        multipliers = Multipliers(of(as_slopes(alpha)), of(beta), of(split))
        functional = of(self._functional(rows, signs))
        return self.dual.arrays.numpy(self.dual.evaluate(functional, multipliers).coefficients)

    def _functional(self, rows: Array, signs: Array) -> Array:
        functional = np.zeros((len(rows), int(np.prod(self._shape))))
        functional[np.arange(len(rows)), rows] = signs
        return functional.reshape(len(rows), *self._shape)

    def upper(self, rows: Array, signs: Array, split: Array, alpha: Array, beta: Array) -> Array:
        """Upper bounds ``(n,)`` of ``signs * z[rows]``, each with its own splits, slopes (in units) and multipliers."""
        found = [np.zeros(0)]
        for start in range(0, len(rows), self._step):
            some = slice(start, start + self._step)
            functional = self._functional(rows[some], signs[some])
            found.append(self._rigorous.upper(functional, split[some], as_slopes(alpha[some]), beta[some]))
        return np.concatenate(found)


def slope_bounds(network: Network, intervals: Mapping[str, Interval], proof: SlopeProof) -> Array:
    """What the slopes of a record prove of each of its rows."""
    nothing = np.zeros(proof.alpha.shape)
    replay = Replay(network, intervals, proof)
    return replay.upper(proof.rows, proof.signs, nothing.astype(np.int8), proof.alpha, nothing)


def leaf_bounds(network: Network, intervals: Mapping[str, Interval], proof: LeafProof) -> Array:
    """What each leaf of a record proves where its splits hold."""
    rows, signs = np.full(len(proof.split), proof.row), np.full(len(proof.split), proof.sign)
    replay = Replay(network, intervals, proof)
    return replay.upper(rows, signs, proof.split, proof.alpha[proof.kind], proof.beta)
