"""Evidence made small and cheap to check, record by record; every record still proves what it claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from reluce.bounds import Bounds, Known, analyse
from reluce.domain import Box
from reluce.network import Network
from reluce.prove._compact import CompactSettings, compact_leaves, compact_slopes
from reluce.prove._evidence import BoxProof, Evidence, LeafProof, Record, SlopeProof, with_claims
from reluce.prove._input_split import SplitSettings


@dataclass(frozen=True)
class SmallerSettings:
    """Budgets: of leaves of ReLU splits, and of boxes."""

    leaves: CompactSettings = field(default_factory=CompactSettings)
    boxes: SplitSettings = field(default_factory=lambda: SplitSettings(boxes=1_000_000))


def smaller(
    network: Network,
    box: Box,
    evidence: Evidence,
    settings: SmallerSettings = SmallerSettings(),
    stop: Callable[[], bool] = lambda: False,
) -> Evidence:
    """The same proofs, smaller: leaves compacted, trees of boxes that need no slopes.

    Parameters
    ----------
    network, box
        What the evidence is about.
    evidence
        As ``prove`` has left it.
    settings
        Budgets.
    stop
        Asked between records; once True, the others stay as they are.

    Returns
    -------
    Evidence
        A record for each; a tree of boxes that would get too large stays as it is, and is not ``plain``.
    """
    records: list[Record] = []
    for record, bounds in zip(evidence.records, followed(network, box, evidence), strict=False):
        if stop():
            break
        records.append(_smaller(network, box, record, bounds, settings))
    return Evidence((*records, *evidence.records[len(records) :]))


def _smaller(network: Network, box: Box, record: Record, bounds: Bounds, settings: SmallerSettings) -> Record:
    match record:
        case SlopeProof():
            return compact_slopes(network, bounds.intervals, record)
        case LeafProof():
            return compact_leaves(network, bounds.intervals, record, settings.leaves)
        case BoxProof():
            return record


def followed(network: Network, box: Box, evidence: Evidence) -> Iterator[Bounds]:
    """The bounds on which each record rests: those of ``analyse`` and of the records before; last, those after all."""
    known: dict[str, Known] = {}
    for record in evidence.records:
        bounds = analyse(network, box, known=known)
        yield bounds
        read = {node.inputs[0] for node in network.relus}
        intervals = {name: bounds.intervals[name] for name in read if name in bounds.intervals}
        intervals[record.tensor] = with_claims(intervals[record.tensor], record)
        known = {name: Known(z, np.zeros(z.lower.size, dtype=np.int8)) for name, z in intervals.items()}
    yield analyse(network, box, known=known)
