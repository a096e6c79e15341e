"""Rewrites held against the oracle: what the tests of rewriting share."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from oracle import max_difference

from reluce.domain import Box
from reluce.network import Network, Relu, validate
from reluce.prove import prove
from reluce.rewrite import Original, Rewriting, rewrite


def rewritten(network: Network, box: Box, budget: float | None) -> Rewriting:
    proof = prove(network, box)
    return rewrite(Original(network, proof.facts, proof.bounds), budget)


def check(network: Network, box: Box, budget: float | None) -> Rewriting:
    result = rewritten(network, box, budget)
    validate(result.network)
    check_shapes(result.network)
    assert (result.network.inputs, result.network.outputs) == (network.inputs, network.outputs)
    difference = max_difference(network, result.network, box)
    for name in network.outputs:
        promised = result.guarantee.epsilons[name].ravel().tolist()
        assert len(promised) == len(difference[name])
        if budget is None:
            assert not any(promised)
        assert all(d <= Fraction(e) <= Fraction(budget or 0) for d, e in zip(difference[name], promised, strict=True))
    if budget is None:
        assert result.guarantee.epsilon == 0
        assert not any(value for values in difference.values() for value in values)
    check_kept(network, result)
    return result


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
        assert kept == sorted(set(kept))
        assert all(0 <= unit < network.shape(node.output)[-1] for unit in kept)
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
