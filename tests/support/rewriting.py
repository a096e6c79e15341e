"""Rewrites held against the oracle: what the tests of rewriting share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from oracle import forward, max_difference, ranges

from reluce.domain import Box
from reluce.guarantee import Allowance, Exact, Level, Within, allowance
from reluce.network import Array, Network, Relu, validate
from reluce.prove import prove
from reluce.rewrite import STEPS, Original, Rewriting, Step, rewrite

Run = tuple[Rewriting, Allowance]


def level_of(budget: float | None) -> Level:
    return Exact() if budget is None else Within(budget)


def rewritten(
    network: Network,
    box: Box,
    level: Level,
    spent: Mapping[str, Array] | None = None,
    steps: Sequence[Step] = STEPS,
) -> Run:
    proof = prove(network, box)
    allowed = allowance(level, network, box, proof.bounds, proof.facts, spent=spent)
    return rewrite(Original(network, proof.facts, proof.bounds), allowed.budget, steps=steps), allowed


def check(network: Network, box: Box, level: Level, steps: Sequence[Step] = STEPS) -> Rewriting:
    """The result of one run, held against the truth of what its level promises."""
    result, allowed = rewritten(network, box, level, steps=steps)
    validate(result.network)
    check_shapes(result.network)
    assert (result.network.inputs, result.network.outputs) == (network.inputs, network.outputs)
    difference = max_difference(network, result.network, box)
    for name in network.outputs:
        promised = result.epsilons[name].tolist()
        assert len(promised) == len(difference[name])
        assert all(d <= Fraction(e) for d, e in zip(difference[name], promised, strict=True))
        assert all(Fraction(e) <= b for e, b in zip(promised, true_budget(network, box, level, name), strict=True))
    if level == Exact():
        assert not any(value for values in difference.values() for value in values)
    check_magnitudes(network, box, allowed)
    check_kept(network, result)
    return result


def true_budget(network: Network, box: Box, level: Level, name: str) -> list[Fraction]:
    """What a level allows each coordinate of an output at most, by the truth about the network."""
    low, high = ranges(network, box)[name]
    match level:
        case Exact():
            return [Fraction(0)] * len(low)
        case Within(epsilon):
            return [Fraction(epsilon)] * len(low)
    u = Fraction(1, 2**53 if network.tensors[name].dtype == np.float64 else 2**24)
    return [16 * u * max(abs(a), abs(b)) for a, b in zip(low, high, strict=True)]


def check_magnitudes(network: Network, box: Box, allowed: Allowance) -> None:
    """The stored points lie in the box, and the outputs are as large there as is said."""
    found = allowed.magnitudes
    if found is None:
        return
    for name, points in found.points.items():
        for point in points:
            ends = zip(box.lower[name].ravel(), point.ravel().tolist(), box.upper[name].ravel(), strict=True)
            assert all(lo <= Fraction(x) <= hi for lo, x, hi in ends)
    for name in network.outputs:
        for index, (row, lower) in enumerate(zip(found.rows[name], found.lower[name].tolist(), strict=True)):
            assert (row >= 0) == (lower > 0)
            if row >= 0:
                point = {source: points[row] for source, points in found.points.items()}
                assert Fraction(lower) <= abs(forward(network, point)[name][index])


def check_shapes(network: Network) -> None:
    """Every parameter fits the tensors around it (the oracle would notice only some misfits)."""
    for node in network.nodes:
        weight = getattr(node.op, "weight", None)
        if weight is not None:
            assert weight.shape == (network.shape(node.output)[-1], network.shape(node.inputs[0])[-1])


def check_kept(network: Network, result: Rewriting) -> None:
    present = {node.name: node for node in result.network.relus}
    assert set(result.kept) == {node.name for node in network.relus}
    for node in network.relus:
        kept = result.kept[node.name].tolist()
        old = [unit for unit in kept if unit != -1]  # the others are new
        assert old == sorted(set(old))
        assert all(0 <= unit < network.shape(node.output)[-1] for unit in old)
        if node.name in present:
            assert len(kept) == result.network.shape(node.output)[-1]
        else:  # gone, or a constant
            assert kept == []
    assert set(present) <= set(result.kept)


def size(network: Network) -> int:
    ops = [vars(node.op) for node in network.nodes]
    return sum(np.size(op[key]) for op in ops for key in ("weight", "bias") if op.get(key) is not None)


def units(network: Network) -> int:
    return sum(network.tensors[node.output].size for node in network.nodes if isinstance(node.op, Relu))
