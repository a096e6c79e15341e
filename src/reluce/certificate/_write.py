"""A certificate of a finished rewriting: the facts that it needs, and what each tensor stands for.

Only pre-activations that matter get facts: those whose units went, or whose activity carries a merge, and everything in
front of these that a linear bound was made with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from reluce._version import __version__
from reluce.bounds import SLOPES, Bounds
from reluce.certificate._container import pack
from reluce.certificate._ground import Claims, Ground, units_of
from reluce.domain import Box
from reluce.facts import Guarantee, Verdict
from reluce.network import Array, Dense, Network, Select
from reluce.prove import BoxProof, LeafProof, Record
from reluce.rewrite import Rewritten

BELOW = {"adaptive": "table", "zero": "zero", "one": "one"}
"""What the passes of ``analyse`` are called in a certificate."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What a certificate is about: the bytes of two ONNX files, the box, and the compressed network's guard if any."""

    original: bytes
    compressed: bytes
    box: Box
    guard: str | None = None


def write_certificate(
    subject: Subject,
    network: Network,
    ground: Ground,
    guarantee: Guarantee,
    kept: Mapping[str, Array],
    state: Rewritten,
    points: Mapping[str, Array],
    settings: Mapping[str, Any],
) -> bytes:
    """The bytes of a certificate.

    Parameters
    ----------
    subject
        The files.
    network, ground
        The original network and what is proved of it.
    guarantee
        Level, budget and epsilons that were proved.
    kept, state
        As in ``Rewriting``.
    points
        Points of the domain that show how large the outputs become, ``(points, *sample shape)`` per graph input.
    settings
        What the run was determined by, for the reader's information.
    """
    needed = _needed(network, ground, kept, state, guarantee.epsilon > 0)
    return pack(
        {
            "producer": f"reluce {__version__}",
            "settings": dict(settings),
            "original": _file(subject.original),
            "compressed": _file(subject.compressed),
            "domain": [
                {"input": name, "lower": _ends(subject.box.lower[name]), "upper": _ends(subject.box.upper[name])}
                for name in network.inputs
            ],
            "level": guarantee.level,
            "budget": guarantee.asked.partition("=")[2] or "0",
            "epsilon": [
                {"output": name, "values": np.asarray(guarantee.epsilons[name], dtype=np.float64).ravel()}
                for name in network.outputs
            ],
            "points": [
                {
                    "input": name,
                    "values": np.asarray(values, dtype=np.float64).reshape(len(values), network.tensors[name].size),
                }
                for name, values in points.items()
            ],
            "slopes": _slopes(network, ground.bounds, needed),
            "facts": [*_records(network, ground, needed), *_facts(network, ground.bounds, needed)],
            "stable": [
                {"tensor": name, "inactive": _rows(need.inactive), "active": _rows(need.active)}
                for name, need in needed.items()
                if need.inactive.size or need.active.size
            ],
            "relations": [_relation(state, name) for name in state.kept],
            **({"multiples": _multiples(state)} if state.parallels else {}),
            **({"shift": [{"output": n, "by": k} for n, k in state.shifted.items()]} if state.shifted else {}),
            **({} if subject.guard is None else {"guard": subject.guard}),
        }
    )


def _relation(state: Rewritten, name: str) -> dict[str, Any]:
    """What a tensor of the compressed network stands for."""
    found: dict[str, Any] = {"tensor": name, "of": state.source(name), "kept": _rows(state.kept[name])}
    rows = state.rows.get(name)
    if rows is None:
        return {**found, "factor": np.zeros(0), "matrix": np.zeros((0, 0)), "shift": np.zeros(0)}
    turned, new = rows.turned >= 0, np.flatnonzero(state.kept[name] < 0)
    kept, factor = state.kept[name].copy(), np.ones(len(state.kept[name]))
    kept[new[turned]], factor[new[turned]] = rows.turned[turned], -1.0
    matrix, shift = rows.matrix[~turned], rows.shift[~turned]
    return {**found, "kept": _rows(kept), "factor": factor, "matrix": matrix, "shift": shift, "over": rows.over}


def _multiples(state: Rewritten) -> list[dict[str, Any]]:
    """Which pre-activations are multiples of others."""
    return [
        {"tensor": name, "unit": _rows(claim.unit), "to": _rows(claim.to), "factor": claim.factor.astype(np.float64)}
        for name, claim in state.parallels.items()
    ]


def _file(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _ends(ends: Array) -> Any:
    """Ends of ranges: float64 numbers where they are such, else fractions as texts."""
    flat = [Fraction(end) for end in ends.ravel()]
    floats = np.array([float(end) for end in flat], dtype=np.float64)
    if all(Fraction(float(number)) == end for number, end in zip(floats, flat, strict=True)):
        return floats
    return [str(end) for end in flat]


def _rows(rows: Array) -> Array:
    return np.asarray(rows, dtype=np.int32)


@dataclass(frozen=True, eq=False)
class _Need:
    """Flat coordinates of a pre-activation: claims about signs, and those that a bound is wanted of."""

    inactive: Array
    active: Array
    bounded: Array


def claimed(network: Network, ground: Ground, kept: Mapping[str, Array], state: Rewritten) -> dict[str, Claims]:
    """The signs that a rewriting rests on: of units that went, and of active units where active ones were merged.

    Data movement may leave inactive coordinates behind although the ReLU keeps them: then all of these count.
    """
    movement = any(isinstance(network.producer[name].op, Select) for name in state.kept if name in network.producer)
    found: dict[str, Claims] = {}
    for node in network.relus:
        layer, z = ground.facts.layers[node.name], ground.bounds.intervals.get(node.inputs[0])
        gone = np.setdiff1d(np.arange(layer.units), kept[node.name])
        if z is None or not (gone.size or movement):
            continue
        units = units_of(network, node)
        inactive = np.isin(units, np.intersect1d(gone, np.flatnonzero(layer.verdict == Verdict.INACTIVE)))
        active = np.flatnonzero(layer.verdict == Verdict.ACTIVE)
        active = active if np.isin(gone, active).any() else active[:0]
        left = movement & (z.upper.ravel() <= 0)
        found[node.inputs[0]] = Claims(np.flatnonzero(inactive | left), np.flatnonzero(np.isin(units, active)))
    return found


def _needed(
    network: Network, ground: Ground, kept: Mapping[str, Array], state: Rewritten, deviates: bool
) -> dict[str, _Need]:
    """What the rewriting rests on, by pre-activation, in the order of the network."""
    claims, found = claimed(network, ground, kept, state), dict[str, _Need]()
    for node in network.relus:
        name = node.inputs[0]
        if name in claims:
            gone = np.setdiff1d(np.arange(ground.facts.layers[node.name].units), kept[node.name])
            units, mine = units_of(network, node), claims[name]
            near = np.flatnonzero(np.isin(units, gone)) if deviates else np.zeros(0, dtype=np.int64)
            bounded = np.unique(np.concatenate([mine.inactive, mine.active, np.setdiff1d(near, mine.inactive)]))
            found[name] = _Need(mine.inactive, mine.active, bounded)
    producers = [network.producer[name] for name in found if name in network.producer]
    front = network.ancestors([name for node in producers for name in node.inputs])
    # Where weights on units that stay were rounded, the effect of that is bounded over the ranges of these units.
    rounded = deviates and bool(state.shifted or state.parallels)
    nothing = np.zeros(0, dtype=np.int64)
    needed: dict[str, _Need] = {}
    for node in network.relus:
        name = node.inputs[0]
        if (name in front or rounded) and name in ground.bounds.intervals:
            need = found.get(name, _Need(nothing, nothing, nothing))
            needed[name] = replace(need, bounded=np.arange(network.tensors[name].size))
        elif name in found:
            needed[name] = found[name]
    return needed


def _closed_form(network: Network, name: str) -> bool:
    """Whether intervals are exact already: one dense layer on a box."""
    node = network.producer.get(name)
    return node is not None and isinstance(node.op, Dense) and node.inputs[0] in network.inputs


def _facts(network: Network, bounds: Bounds, needed: Mapping[str, _Need]) -> list[dict[str, Any]]:
    """The backward passes that gave the bounds which are needed."""
    found = []
    for node in network.relus:
        name = node.inputs[0]
        need = needed.get(name)
        if need is None or node.name not in bounds.settled or _closed_form(network, name):
            continue
        partly = need.bounded.size < network.tensors[name].size
        for made in bounds.settled[node.name].passes:
            # Of a claim one side is needed only; what is bounded for its own sake needs both.
            for sign, rows, other in ((1, made.upper, need.active), (-1, made.lower, need.inactive)):
                mine = np.setdiff1d(np.intersect1d(rows, need.bounded), other if partly else other[:0])
                if mine.size:
                    fact = {"kind": "linear", "tensor": name, "sign": sign, "rows": _rows(mine)}
                    found.append({**fact, "below": BELOW[made.below]})
    return found


def _slopes(network: Network, bounds: Bounds, needed: Mapping[str, _Need]) -> list[dict[str, Any]]:
    """The slopes of all pre-activations in front of those that are needed."""
    producers = [network.producer[key] for key in needed if key in network.producer]
    front = network.ancestors([name for node in producers for name in node.inputs])
    found: dict[str, dict[str, Any]] = {}
    for node in network.relus:
        name = node.inputs[0]
        if name in front and node.name in bounds.relaxations:
            relaxation = bounds.relaxations[node.name]
            above, below = (
                np.round(part * SLOPES).astype(np.uint16).ravel() for part in (relaxation.above, relaxation.below)
            )
            found[name] = {"tensor": name, "above": above, "below": below}
    return list(found.values())


def _records(network: Network, ground: Ground, needed: Mapping[str, _Need]) -> list[dict[str, Any]]:
    """What other provers found, in the order in which it was found."""
    return [part for record in ground.records if record.tensor in needed for part in _record(network, record)]


def _record(network: Network, record: Record) -> list[dict[str, Any]]:
    if isinstance(record, BoxProof):
        tree = record.tree
        order = [0]
        for node in order:  # level by level: it grows while it is walked through
            order += [tree.child[node], tree.child[node] + 1] if tree.dimension[node] >= 0 else []
        box = {
            "kind": "boxes",
            "tensor": record.tensor,
            "rows": _rows(record.rows),
            "signs": record.signs.astype(np.int8),
            "inputs": list(record.inputs),
            "places": _rows(record.elements),
            "dimension": tree.dimension[order].astype(np.int8),
            "closed": tree.closed[order].astype(np.uint8),
        }
        return [box]
    tensors = {node.name: node.inputs[0] for node in network.relus}
    common = {
        "kind": "split",
        "tensor": record.tensor,
        "over": [tensors[name] for name in record.places],
        "above": record.above.astype(np.uint16),
        "below": record.alpha.astype(np.uint16),
    }
    if isinstance(record, LeafProof):
        rows, used = np.full(len(record.split), record.row), record.split != 0
        leaves = {"rows": _rows(rows), "split": record.split.astype(np.int8), "which": _rows(record.kind)}
        return [{**common, **leaves, "sign": int(record.sign), "beta": record.beta[used].astype(np.float64)}]
    found = []
    for sign in (1, -1):
        mine = np.flatnonzero(record.signs == sign)
        if mine.size:
            leaves = {"rows": _rows(record.rows[mine]), "split": np.zeros((mine.size, record.alpha.shape[1]), np.int8)}
            part = {"below": record.alpha[mine].astype(np.uint16), "which": _rows(np.arange(mine.size))}
            found.append({**common, **leaves, **part, "sign": sign, "beta": np.zeros(0)})
    return found
