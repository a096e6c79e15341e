"""The bounds on which records rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from reluce.bounds import Bounds, Interval, Known, analyse
from reluce.domain import Box
from reluce.network import Network
from reluce.prove._evidence import Record, with_claims


def followed(network: Network, box: Box, records: Iterable[Record]) -> Iterator[Bounds]:
    """The bounds on which each record rests: those of ``analyse`` and of the records before; last, those after all."""
    claimed: dict[str, Interval] = {}
    for record in records:
        yield _bounds(network, box, claimed)
        tensor = record.tensor
        nothing = Interval.unknown(network.shape(tensor))
        claimed = {**claimed, tensor: with_claims(claimed.get(tensor, nothing), record)}
    yield _bounds(network, box, claimed)


def _bounds(network: Network, box: Box, claimed: dict[str, Interval]) -> Bounds:
    """What follows from the network, and from claims alone: whatever else is proved of a tensor is proved anew."""
    known = {name: Known(z, np.zeros(z.lower.size, dtype=np.int8)) for name, z in claimed.items()}
    return analyse(network, box, known=known)
