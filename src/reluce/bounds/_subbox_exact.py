"""Bounds on one part of a box without rounding: exact replay with the slopes found there (``_exact``)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.bounds._exact import exact_linear_upper_bound
from reluce.bounds._interval import Interval
from reluce.bounds._layered import Layered
from reluce.bounds._linear import Relaxation
from reluce.bounds._subboxes import Tightened
from reluce.domain import Box
from reluce.network import Array, Network


def holds_exactly(
    network: Network,
    box: Box,
    intervals: Mapping[str, Interval],
    form: Layered,
    known: Tightened,
    row: int,
    units: Array,
    signs: Array,
) -> Array:
    """Whether ``sign * z[unit] <= 0`` follows on one sub-box, for the last layer's pre-activation z.

    Parameters
    ----------
    network, box, intervals
        The network, its domain and proven intervals on it.
    form
        Its layers.
    known, row
        Sub-boxes, and which of them is meant.
    units, signs
        The functionals, one each.
    """
    tensor = form.nodes[-1].inputs[0]
    shape = network.shape(tensor)
    functional = np.zeros((len(units), network.tensors[tensor].size))
    functional[np.arange(len(units)), units] = signs
    relaxations = {}
    for node, relaxed in zip(form.nodes, known.relaxed, strict=False):
        fields = (relaxed.below[row], relaxed.above[row], relaxed.offset[row])
        relaxations[node.name] = Relaxation(*(values.reshape(network.shape(node.inputs[0])) for values in fields))
    part = form.part(box, known.boxes.low[row], known.boxes.high[row])
    coefficients = functional.reshape(len(units), *shape)
    found = exact_linear_upper_bound(network, tensor, coefficients, {**intervals, **part}, relaxations)
    return np.zeros(len(units), dtype=bool) if found is None else np.asarray(found.reshape((len(units),)).sign() <= 0)
