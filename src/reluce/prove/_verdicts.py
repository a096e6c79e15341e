"""From bounds and witnesses to a verdict for every unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reluce.bounds import RUNGS, Bounds
from reluce.facts import LayerFacts, Rung, Verdict
from reluce.network import Array, Network, Node, Relu
from reluce.prove._witnesses import LACKING, Witnesses, by_unit


@dataclass(frozen=True, eq=False)
class Standing:
    """What the bounds say about the units of a ReLU, over all their positions; one entry per unit."""

    lower: Array
    upper: Array
    constant: Array

    @property
    def stable(self) -> Array:
        return np.asarray(self.constant | (self.upper <= 0) | (self.lower >= 0))


def standing(node: Node, bounds: Bounds) -> Standing:
    """What the bounds say about the units of a ReLU whose pre-activation has bounds."""
    z = bounds.intervals[node.inputs[0]]
    return Standing(
        by_unit(z.lower[None], node)[0].min(axis=0),
        by_unit(z.upper[None], node)[0].max(axis=0),
        by_unit(bounds.constants[node.inputs[0]].constant[None], node)[0].all(axis=0),
    )


def layer_facts(network: Network, node: Node, witnesses: Witnesses, bounds: Bounds) -> LayerFacts:
    """The verdict of every unit of a ReLU, by bounds first, then by witnesses."""
    z_name = node.inputs[0]
    settled = bounds.settled.get(node.name)
    if settled is None:
        return _unknown(network, node)
    known = standing(node, bounds)
    nothing = np.full(len(known.lower), LACKING)
    positive, negative = (
        np.where(known.stable, LACKING, np.maximum(side.get(node.name, nothing), LACKING))
        for side in (witnesses.positive, witnesses.negative)
    )
    verdict = np.select(
        [known.constant, known.upper <= 0, known.lower >= 0, (positive >= 0) & (negative >= 0)],
        [Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE, Verdict.UNSTABLE],
        Verdict.UNDECIDED,
    ).astype(np.int8)
    rung = by_unit(settled.rung.reshape(1, *network.shape(z_name)), node)[0].max(axis=0)
    names = tuple(
        RUNGS[r] if v <= Verdict.ACTIVE else Rung.WITNESS if v == Verdict.UNSTABLE else Rung.NONE
        for r, v in zip(rung, verdict, strict=True)
    )
    reason = "" if node.name in witnesses.positive else "behind an operation that is not modelled"
    ends, signs = (known.lower, known.upper), (positive, negative)
    attested = np.full(len(verdict), Verdict.UNDECIDED, dtype=np.int8)
    reached = witnesses.best.get(node.name, np.full((2, len(verdict)), -np.inf))
    return LayerFacts(node.output, node.name, verdict, names, *ends, *signs, attested, reached, reason)


def _unknown(network: Network, node: Node) -> LayerFacts:
    """A ReLU whose pre-activation has no bounds at all: every unit is undecided."""
    assert isinstance(node.op, Relu)
    shape = network.tensors[node.output].shape
    units = 0 if not shape else shape[node.op.axis]
    nothing, everything = np.full(units, -1), np.full(units, np.inf)
    verdict = np.full(units, Verdict.UNDECIDED, dtype=np.int8)
    rung = (Rung.NONE,) * units
    why = "its shape is not known" if shape is None else "behind an operation that is not modelled"
    ends, signs, reached = (-everything, everything), (nothing, nothing), np.full((2, units), -np.inf)
    return LayerFacts(node.output, node.name, verdict, rung, *ends, *signs, verdict, reached, why)
