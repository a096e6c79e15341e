"""Proofs of fewer digits: slopes on coarse grids, split multipliers of few bits, nothing where it does not matter.

Whatever is changed is evaluated rigorously; what does not prove its row or leaf any more is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from reluce.bounds import SLOPES, Interval
from reluce.network import Array, Network
from reluce.prove._evidence import LeafProof, Record, SlopeProof
from reluce.prove._replay import Replay

BLOCK = 512
"""Rows that are looked at together."""

GRIDS = (512, 256, 64)
"""Slopes become multiples of so many units, the coarsest grid that still proves the leaf."""

BITS = (1, 2, 3, 4, 6, 8)
"""Split multipliers get as many significant bits as their leaf needs."""


def compact(network: Network, intervals: Mapping[str, Interval], record: Record) -> Record:
    """A smaller proof of the same.

    Parameters
    ----------
    network, intervals
        The network, and what was known of its tensors before this proof.
    record
        The proof; trees of boxes need no slopes and stay as they are.
    """
    match record:
        case SlopeProof():
            return compact_slopes(network, intervals, record)
        case LeafProof():
            return compact_leaves(network, intervals, record)
    return record


def compact_leaves(network: Network, intervals: Mapping[str, Interval], proof: LeafProof) -> LeafProof:
    """The same leaves, with slopes on the coarsest grid and split multipliers of the fewest bits that close each."""
    replay = Replay(network, intervals, proof)

    def upper(some: Array, alpha: Array, beta: Array) -> Array:
        rows, signs = np.full(some.size, proof.row), np.full(some.size, proof.sign)
        return replay.upper(rows, signs, proof.split[some], alpha, beta)

    alpha, beta, bound = proof.alpha[proof.kind], proof.beta.copy(), proof.upper.copy()
    for values, tried in ((alpha, _grids), (beta, _bits)):
        open_ = np.arange(len(alpha))
        for digits in GRIDS if values is alpha else BITS:
            if not open_.size:
                break
            before = values[open_].copy()
            values[open_] = tried(before, digits)
            found = upper(open_, alpha[open_], beta[open_])
            good = found <= 0
            values[open_[~good]], bound[open_[good]] = before[~good], found[good]
            open_ = open_[~good]
    kinds, kind = np.unique(alpha, axis=0, return_inverse=True)
    return replace(proof, alpha=kinds, kind=kind.reshape(-1), beta=beta, upper=bound)


def _grids(alpha: Array, units: int) -> Array:
    return np.minimum(np.round(alpha / units) * units, SLOPES).astype(np.uint16)


def _bits(beta: Array, bits: int) -> Array:
    mantissa, exponent = np.frexp(beta)
    return np.asarray(np.ldexp(np.round(mantissa * 2**bits), exponent - bits))


def compact_slopes(network: Network, intervals: Mapping[str, Interval], proof: SlopeProof) -> SlopeProof:
    """The same proof with slopes 0 where they do not matter, because the unit is bounded from above.

    Parameters
    ----------
    network, intervals
        The network, and what was known of its tensors before this proof.
    proof
        As the search has left it.
    """
    replay, alpha = Replay(network, intervals, proof), proof.alpha.copy()
    for start in range(0, len(alpha), BLOCK):
        some = slice(start, start + BLOCK)
        nothing = np.zeros(alpha[some].shape)
        given = proof.rows[some], proof.signs[some], nothing.astype(np.int8)
        slim = np.where(replay.coefficients(*given, alpha[some], nothing) < 0, alpha[some], 0).astype(np.uint16)
        good = replay.upper(*given, slim, nothing) <= proof.upper[some]
        alpha[some] = np.where(good[:, None], slim, alpha[some])
    return replace(proof, alpha=alpha)
