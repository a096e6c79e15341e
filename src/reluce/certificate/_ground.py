"""What a certificate can stand on: bounds that a checker gets from the same multipliers, and what follows from them.

The bounds are those of one ``analyse`` over the whole network: it says which backward passes it made and with which
slopes, so that the checker can repeat them. What other provers found enters it as ``known``, and has its records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reluce.bounds import Bounds, Interval
from reluce.domain import Box
from reluce.facts import Facts, LayerFacts, Rung, Verdict
from reluce.network import Array, Network, Node, Relu
from reluce.prove import Record, compact, followed


@dataclass(frozen=True, eq=False)
class Ground:
    """Bounds that can be certified, the verdicts that follow from them, and the records that some of them rest on."""

    facts: Facts
    bounds: Bounds
    records: tuple[Record, ...] = ()


def supported(network: Network, facts: Facts, bounds: Bounds, records: tuple[Record, ...] = ()) -> Ground:
    """Keep the verdicts that follow from some bounds; the others become undecided, and their units stay."""
    layers = {node.name: _supported(node, facts.layers[node.name], bounds, network) for node in network.relus}
    return Ground(replace(facts, layers=layers), bounds, records)


def grounds(
    network: Network, box: Box, facts: Facts, records: tuple[Record, ...], wanted: Mapping[str, Claims]
) -> Iterator[Ground]:
    """What a certificate may stand on, from the smallest to all that was proved.

    First what the bounds of ``analyse`` give by themselves, then with the records that the wanted signs rest on, then
    with all of them. Each is made when it is asked for.

    Parameters
    ----------
    network, box
        The network and its domain.
    facts, records
        What was proved, and how.
    wanted
        For pre-activations, the coordinates whose signs are needed.
    """
    few: list[Record] = []
    for _ in range(2):
        found = _followed(network, box, few)
        missing = {name: claims.missing(found.bounds.intervals[name]) for name, claims in wanted.items()}
        if not any(claims for claims in missing.values()):
            yield supported(network, facts, found.bounds, found.records)
        few = _resting(network, records, {name for name, claims in missing.items() if claims}, missing)
    found = _followed(network, box, records)
    yield supported(network, facts, found.bounds, found.records)


@dataclass(frozen=True, eq=False)
class Claims:
    """Flat coordinates of a pre-activation that are claimed to be inactive, and active."""

    inactive: Array
    active: Array

    def missing(self, z: Interval) -> set[tuple[int, int]]:
        """The claims that do not follow from an interval, as (coordinate, sign of what has to be bounded above)."""
        low, high = z.lower.ravel(), z.upper.ravel()
        open_ = [(int(k), 1) for k in self.inactive[~(high[self.inactive] <= 0)]]
        return {*open_, *((int(k), -1) for k in self.active[~(low[self.active] >= 0)])}


def _resting(
    network: Network, records: Sequence[Record], tensors: set[str], missing: Mapping[str, set[tuple[int, int]]]
) -> list[Record]:
    """The records that prove missing signs, and those about tensors in front of them, which they may rest on."""
    producers = [network.producer[name] for name in tensors if name in network.producer]
    front = network.ancestors([name for node in producers for name in node.inputs])
    chosen = []
    for record in records:
        rows, signs, upper = record.claims
        mine = {(int(row), int(sign)) for row, sign in zip(rows[upper <= 0], signs[upper <= 0], strict=True)}
        if record.tensor in front or mine & missing.get(record.tensor, set()):
            chosen.append(record)
    return chosen


@dataclass(frozen=True, eq=False)
class _Followed:
    bounds: Bounds
    records: tuple[Record, ...]


def _followed(network: Network, box: Box, records: Sequence[Record]) -> _Followed:
    """The bounds that follow from records, and the records with as few digits as they need."""
    *before, last = followed(network, box, records)
    with np.errstate(all="ignore"):  # a record that overflows when it is replayed stays as it is
        small = [compact(network, known.intervals, record) for known, record in zip(before, records, strict=True)]
    return _Followed(last, tuple(small))


def without(ground: Ground, network: Network, wrong: Mapping[str, Array]) -> Ground:
    """The same without the verdicts of units that have some of the given coordinates, by pre-activation.

    Their bounds, and those of what the ReLU makes of them, then leave room for either sign: what lies behind keeps its
    bounds, which the checker proves anew or does not accept either.
    """
    layers, bounds = dict(ground.facts.layers), ground.bounds
    for node in network.relus:
        if node.inputs[0] in wrong:
            units = units_of(network, node)
            lost = np.isin(np.arange(layers[node.name].units), units[wrong[node.inputs[0]]])
            layers[node.name] = _undecided(layers[node.name], lost)
            bounds = _open(bounds, node, lost[units])
    return replace(ground, facts=replace(ground.facts, layers=layers), bounds=bounds)


LEAST = float(np.nextafter(0.0, 1.0))


def _open(bounds: Bounds, node: Node, lost: Array) -> Bounds:
    """Bounds that say of some coordinates of a ReLU neither that they are silent nor that they are constant."""
    intervals, constants = dict(bounds.intervals), dict(bounds.constants)
    for name in (node.inputs[0], *node.outputs):
        x, known = intervals[name], constants[name]
        mask = lost.reshape(x.lower.shape)
        lower = np.where(mask, np.minimum(x.lower, -LEAST if name == node.inputs[0] else 0.0), x.lower)
        intervals[name] = Interval(lower, np.where(mask, np.maximum(x.upper, LEAST), x.upper), x.slack)
        constants[name] = known.without(mask)
    return replace(bounds, intervals=intervals, constants=constants)


def units_of(network: Network, node: Node) -> Array:
    """For each flat coordinate of a ReLU's pre-activation the unit that it belongs to."""
    shape = network.shape(node.inputs[0])
    if not shape or not isinstance(node.op, Relu):
        return np.zeros(1, dtype=np.int64)
    axis = node.op.axis % len(shape)
    along = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return np.broadcast_to(along, shape).ravel()


def _supported(node: Node, layer: LayerFacts, bounds: Bounds, network: Network) -> LayerFacts:
    z = bounds.intervals.get(node.inputs[0])
    if z is None:
        return layer
    low, high = _by_unit(network, node, z)
    inactive = (layer.verdict == Verdict.INACTIVE) & ~(high <= 0)
    active = (layer.verdict == Verdict.ACTIVE) & ~(low >= 0)
    return _undecided(layer, inactive | active)


def _by_unit(network: Network, node: Node, z: Interval) -> tuple[Array, Array]:
    units = units_of(network, node)
    low, high = np.full(units.max(initial=-1) + 1, np.inf), np.full(units.max(initial=-1) + 1, -np.inf)
    np.minimum.at(low, units, z.lower.ravel())
    np.maximum.at(high, units, z.upper.ravel())
    return low, high


def _undecided(layer: LayerFacts, units: Array) -> LayerFacts:
    if not units.any():
        return layer
    rung = tuple(Rung.NONE if lost else rung for lost, rung in zip(units, layer.rung, strict=True))
    return replace(layer, verdict=np.where(units, Verdict.UNDECIDED, layer.verdict), rung=rung)
