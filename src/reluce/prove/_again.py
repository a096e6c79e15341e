"""Records that were written down, proved anew: nothing that they say counts unless it is evaluated here.

Any slopes in [0, 1], any split multipliers >= 0 and any tree of splits are valid; so what has to be looked at is that
they are such numbers, that leaves and boxes cover the domain, and what bounds they give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from reluce.bounds import SLOPES, Interval
from reluce.network import Array, Network
from reluce.prove._arrays import Arrays
from reluce.prove._dual import Dual
from reluce.prove._evidence import LeafProof, SlopeProof
from reluce.prove._replay import leaf_bounds, slope_bounds

MOST_CELLS = 1_000_000_000
"""Cells of tables that may be looked at to follow a tree of splits."""


def slopes_again(
    network: Network, intervals: Mapping[str, Interval], tensor: str, entry: Mapping[str, Any]
) -> SlopeProof:
    """Bounds by slopes, as they come out now.

    Parameters
    ----------
    network, intervals
        The network, and what is known of its tensors.
    tensor
        The pre-activation that it is about.
    entry
        What was written.

    Raises
    ------
    ValueError
        When it is not such a record.
    """
    dual = Dual(network, tensor, intervals, Arrays())
    rows, signs = coordinates(entry, intervals[tensor].lower.size)
    alpha = _slopes(entry["alpha"], (len(rows), dual.coordinates))
    above = _slopes(entry["above"], (dual.coordinates,))
    proof = SlopeProof(tensor, rows, signs, dual.places, alpha, above, np.full(len(rows), np.inf))
    z, upper = intervals[tensor], slope_bounds(network, intervals, proof)
    gained = upper < np.where(signs > 0, z.upper.ravel()[rows], -z.lower.ravel()[rows])
    return replace(proof, rows=rows[gained], signs=signs[gained], alpha=alpha[gained], upper=upper[gained])


def leaves_again(
    network: Network, intervals: Mapping[str, Interval], tensor: str, entry: Mapping[str, Any]
) -> LeafProof:
    """A sign by splits of ReLUs; arguments as for ``slopes_again``.

    Raises
    ------
    ValueError
        When it is not such a record, the leaves do not cover the domain, or one of them is not closed.
    """
    dual = Dual(network, tensor, intervals, Arrays())
    row, sign = entry["row"], entry["sign"]
    demand(type(row) is int and 0 <= row < intervals[tensor].lower.size and sign in (1, -1))
    split, beta, which = entry["split"], entry["beta"], entry["which"]
    leaves = len(split)
    demand(split.shape == beta.shape == (leaves, dual.coordinates) and split.dtype == np.int8)
    demand(bool(((split >= -1) & (split <= 1)).all()) and bool((np.isfinite(beta) & (beta >= 0)).all()))
    alpha = _slopes(entry["alpha"], (len(entry["alpha"]), dual.coordinates))
    demand(which.shape == (leaves,) and which.dtype == np.int64 and bool(((which >= 0) & (which < len(alpha))).all()))
    above = _slopes(entry["above"], (dual.coordinates,))
    demand(leaves > 0 and covers(split))
    nothing = np.full(leaves, np.inf)
    proof = LeafProof(tensor, row, int(sign), dual.places, above, split, which, alpha, beta, nothing)
    upper = leaf_bounds(network, intervals, proof)
    demand(bool((upper <= 0).all()))
    return replace(proof, upper=upper)


def coordinates(entry: Mapping[str, Any], size: int) -> tuple[Array, Array]:
    """The coordinates and signs of a record."""
    rows, signs = entry["rows"], entry["signs"]
    demand(
        rows.ndim == 1
        and rows.dtype == np.int64
        and len(rows) <= 2 * size
        and bool(((rows >= 0) & (rows < size)).all())
    )
    demand(signs.shape == rows.shape and signs.dtype == np.int8 and bool((abs(signs) == 1).all()))
    return rows, signs


def demand(holds: bool) -> None:
    """Refuse a record."""
    if not holds:
        raise ValueError("a record that does not hold")


def covers(split: Array) -> bool:
    """Whether leaves cover the domain: ``split`` is ``(leaves, columns)`` with 1, -1 or 0, a leaf's sign for each.

    A leaf without splits covers it. Else some column must be split on by all leaves, as that of a tree's root is, and
    those of either sign must cover their half.
    """
    waiting, cells = [(np.arange(len(split)), np.zeros(0, dtype=np.int64))], 0
    while waiting:
        leaves, done = waiting.pop()
        signs = split[leaves]
        signs[:, done] = 0
        cells += signs.size
        if not len(leaves) or cells > MOST_CELLS:
            return False
        if not signs.any(axis=1).all():
            continue
        common = np.flatnonzero((signs != 0).all(axis=0))
        if not common.size:
            return False
        halves = (leaves[signs[:, common[0]] == sign] for sign in (1, -1))
        waiting += [(half, np.append(done, common[0])) for half in halves]
    return True


def _slopes(values: Array, shape: tuple[int, ...]) -> Array:
    demand(values.shape == shape and values.dtype == np.uint16 and bool((values <= SLOPES).all()))
    return values
