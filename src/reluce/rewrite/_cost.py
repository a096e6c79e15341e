"""What a network costs, and whether a rewrite saves any of it.

Numbers that a file stores: weights, biases and other parameters, an array that several nodes share once. Places
that a selection lists, where a rewrite has put one in, count as parameters, but not as non-zeros: none is multiplied.
A rewrite must make the objective smaller, or leave it as it is and make another number smaller; and no result has more
parameters or non-zeros than the original.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from reluce.network import Constant, Dense, Network, Opaque, Select

Objective = Literal["parameters", "nonzeros", "macs", "bytes"]

INDEX_BYTES = 8
"""ONNX lists the places of a Gather as 64-bit integers."""


@dataclass(frozen=True)
class Cost:
    """How much a network stores and computes; MACs are those of its dense layers, for one sample."""

    parameters: int
    nonzeros: int
    macs: int
    bytes: int


def cost(network: Network, original: Network) -> Cost:
    """Count what a rewritten network stores and computes."""
    parameters = nonzeros = macs = size = 0
    seen: set[int] = set()
    for node in network.nodes:
        op = node.op
        if isinstance(op, Dense):
            macs += network.tensors[node.output].size * op.weight.shape[1]
        if isinstance(op, Select):
            whole = np.arange(sum(network.tensors[name].size for name in node.inputs))
            listed = not np.array_equal(op.indices, whole)  # else tensors side by side
            if node.name not in original.by_name and listed:
                parameters += len(op.indices)
                size += INDEX_BYTES * len(op.indices)
            continue
        if isinstance(op, Opaque | Constant):
            continue
        for entry in fields(op):
            array = getattr(op, entry.name)
            if isinstance(array, np.ndarray) and id(array) not in seen:
                seen.add(id(array))
                parameters, nonzeros = parameters + array.size, nonzeros + int(np.count_nonzero(array))
                size += array.nbytes
    return Cost(parameters, nonzeros, macs, size)


def saves_nothing(before: Cost, after: Cost, limit: Cost, objective: Objective) -> str | None:
    """Why a rewrite is refused that saves nothing; None where it saves.

    Parameters
    ----------
    before, after
        Without and with the rewrite.
    limit
        Of the original: no result may have more parameters or non-zeros.
    objective
        What has to become less.
    """
    old, new = getattr(before, objective), getattr(after, objective)
    for name in ("parameters", "nonzeros"):
        most = max(getattr(limit, name), getattr(before, name))
        if getattr(after, name) > most:
            return f"it would not save: {getattr(after, name):,} {_WORDS[name]} instead of {most:,}"
    if new > old or (new == old and not _less(before, after)):
        return f"it would not save: {new:,} {_WORDS[objective]} instead of {old:,}"
    return None


def _less(before: Cost, after: Cost) -> bool:
    """Whether nothing became more, and something less."""
    pairs = [(getattr(before, entry.name), getattr(after, entry.name)) for entry in fields(Cost)]
    return all(new <= old for old, new in pairs) and any(new < old for old, new in pairs)


_WORDS = {"parameters": "parameters", "nonzeros": "non-zeros", "macs": "multiply-adds", "bytes": "bytes of parameters"}
