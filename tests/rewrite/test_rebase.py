"""Smaller bases of active units: what is written down is right, wherever the numbers come from."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rewriting import check, rewritten
from strategies import box_of, chain

from reluce.guarantee import Exact, Level, Roundoff, Within
from reluce.network import Dense, Network, Relu
from reluce.prove import prove
from reluce.rewrite import Original
from reluce.rewrite._residual import lowest
from reluce.rewrite._state import Rows

BOX = box_of((-1, "1/3"), (0, 1))
LEVELS: list[Level] = [Exact(), Roundoff(), Within(1e-6), Within(0.3)]


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_a_layer_of_which_nothing_is_left(level: Level) -> None:
    """Its readers take differences that vanish: no unit is needed, and the readers are constants."""
    rows = [[1, 1], [1, 1], [2, 2]]
    network = chain((rows, [3, 4, 8]), ([[1, 1, -1], [2, 0, -1]], [0.25, 0]), ([[1, -1]], [0]), box=BOX)
    result = check(network, BOX, level)
    assert not any(isinstance(node.op, Relu) for node in result.network.nodes)


@given(st.integers(0, 2**32 - 1), st.sampled_from(LEVELS), st.sampled_from([np.float16, np.float32, np.float64]))
def test_redundant_active_units_with_any_weights(seed: int, level: Level, dtype: type) -> None:
    generator = np.random.default_rng(seed)
    width, scale = int(generator.integers(2, 7)), 10.0 ** generator.integers(-3, 3)
    first = (generator.normal(size=(width, 1 + seed % 2)) @ generator.normal(size=(1 + seed % 2, 2))) * scale
    first *= 1 + generator.normal(size=first.shape) * generator.choice([0.0, 1e-12, 1e-7, 1e-3])
    bias = np.abs(first).sum(axis=1) * generator.choice([0.0, 0.4, 1.25], width)
    second = generator.normal(size=(int(generator.integers(1, 4)), width)) / scale
    network = chain((first, bias), (second, np.zeros(len(second))), box=BOX, dtype=dtype)
    check(network, BOX, level)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (1.0, 0.1), (1 / 3, -1.0)])
def test_layers_with_factors(alpha: float, beta: float) -> None:
    network = chain(([[1, 2], [2, 4], [0.3, 0.6]], [9, 9, 9]), ([[1, 1, 1]], [0]), box=BOX)
    factors = float(np.float32(alpha)), float(np.float32(beta))
    nodes = tuple(
        type(n)(n.name, Dense(n.op.weight, n.op.bias, *factors), n.inputs, n.outputs) if isinstance(n.op, Dense) else n
        for n in network.nodes
    )
    changed = Network(network.inputs, network.outputs, nodes, network.tensors)
    for level in LEVELS:
        check(changed, BOX, level)


def test_a_lower_bound_lies_below() -> None:
    network = chain(([[0.1, 0.7], [0.3, -0.9]], [0.2, 1]), ([[1, 1]], [0]), box=BOX)
    proof = prove(network, BOX)
    known = Original(network, proof.facts, proof.bounds)
    generator = np.random.default_rng(0)
    M, s = generator.normal(size=(20, 2)), generator.normal(size=20)
    found = lowest(known, Rows("z1", M, s, s, s, np.full(20, -1)))
    op = network.producer["z1"].op
    assert isinstance(op, Dense)
    assert op.bias is not None
    for row, shift, low in zip(M.tolist(), s.tolist(), found.tolist(), strict=True):
        corners = []
        for x in (Fraction(-1), Fraction(1, 3)):
            for y in (Fraction(0), Fraction(1)):
                z = [Fraction(float(a)) * x + Fraction(float(b)) * y + Fraction(float(c))
                     for (a, b), c in zip(op.weight, op.bias, strict=True)]  # fmt: skip
                corners.append(sum(Fraction(m) * v for m, v in zip(row, z, strict=True)) + Fraction(shift))
        assert Fraction(low) <= min(corners) <= Fraction(low) + Fraction(1, 10**9)


def test_active_units_become_as_few_as_their_readers_tell_apart() -> None:
    network = chain(
        ([[1, 0], [0, 1], [1, 1], [1, -1]], [4, 4, 4, 4]), ([[1, 2, 1, 0], [2, 4, 2, 0]], [0, 0]),
        ([[1, 1]], [0]), box=BOX,
    )  # fmt: skip
    result, _ = rewritten(network, BOX, Within(1e-6))
    assert sum(len(kept) for kept in result.kept.values()) <= 2
    check(network, BOX, Within(1e-6))
