"""One logit subtracted from all: against the exact largest difference to the shifted original, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from oracle import forward, max_difference
from strategies import box_of, chain

from reluce.domain import Box
from reluce.guarantee import Exact, Level, Roundoff, Within, allowance
from reluce.network import Dense, Network
from reluce.prove import prove
from reluce.rewrite import Original, Rewriting, cost, rewrite
from reluce.rewrite._relation import epsilons
from reluce.rewrite._shift import is_shift, shift_of, shifted_errors

BOX = box_of((0, 1), (0, 1))
# Three active units and one that is not; two logits tell two combinations of the former apart, their difference one.
W1, B1 = [[1, 0], [0, 1], [1, 1], [1, -1]], [1, 1, 1, 0]
W2, B2 = [[1, 2, 0, 1], [0, 1, 3, -1]], [0, 1]
NETWORK = chain((W1, B1), (W2, B2), box=BOX)
LEVELS = [Exact(), Roundoff(), Within(1e-3)]


def original_of(network: Network, box: Box) -> Original:
    proof = prove(network, box)
    return Original(network, proof.facts, proof.bounds)


def shifted(network: Network, box: Box, level: Level) -> tuple[Rewriting, Rewriting]:
    """Without and with a shift."""
    proof = prove(network, box)
    original = Original(network, proof.facts, proof.bounds)
    budget = allowance(level, network, box, proof.bounds, proof.facts).budget
    return rewrite(original, budget), rewrite(original, budget, softmax_shift=True)


def less(network: Network, by: int) -> Network:
    """The original with one logit subtracted from all, in float64: exact, since its numbers have few digits."""
    node = network.producer["y"]
    op = node.op
    assert isinstance(op, Dense)
    assert op.bias is not None
    weight, bias = op.weight.astype(np.float64), op.bias.astype(np.float64)
    new = replace(node, op=Dense(weight - weight[by], bias - bias[by]))
    return replace(network, nodes=tuple(new if other is node else other for other in network.nodes))


def holds(network: Network, result: Rewriting, box: Box, by: int) -> bool:
    difference = max_difference(less(network, by), result.network, box)["y"]
    return all(d <= Fraction(e) for d, e in zip(difference, result.epsilons["y"].tolist(), strict=True))


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_the_last_layer_needs_a_unit_less(level: Level) -> None:
    plain, result = shifted(NETWORK, BOX, level)
    assert not plain.state.shifted
    assert cost(result.network, NETWORK).parameters < cost(plain.network, NETWORK).parameters
    assert [len(kept) for kept in (*plain.kept.values(), *result.kept.values())] == [3, 2]
    (by,) = result.state.shifted.values()
    assert holds(NETWORK, result, BOX, by)
    assert not any(holds(NETWORK, result, BOX, other) for other in range(2) if other != by)  # the check can fail


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("level", LEVELS[:2], ids=str)
def test_small_networks(seed: int, level: Level) -> None:
    rng = np.random.default_rng(seed)
    inner, outer = rng.integers(-3, 4, (6, 3)), rng.integers(-3, 4, (int(rng.integers(2, 5)), 6))
    bias = np.where(rng.random(6) < 0.7, np.abs(inner).sum(axis=1), 0)  # most are active
    box = box_of((0, 1), (-1, 1), ("1/3", "1/3"))
    network = chain((inner, bias), (outer, rng.integers(-3, 4, len(outer))), box=box)
    plain, result = shifted(network, box, level)
    if not result.state.shifted:
        assert result.network.digest == plain.network.digest
        assert [refusal.what for refusal in result.refusals if refusal.where == "y"] == ["no logit subtracted from all"]
        return
    by = result.state.shifted["y"]
    assert holds(network, result, box, by)
    most = 2 * max(Fraction(e) for e in result.epsilons["y"].tolist())
    for point in box.sample(rng, 20)["x"]:
        before, after = (forward(net, {"x": point})["y"] for net in (network, result.network))
        assert before[after.index(max(after))] >= max(before) - most


def test_outputs_have_to_be_what_is_said_of_them() -> None:
    result = shifted(NETWORK, BOX, Exact())[1]
    original, state = original_of(NETWORK, BOX), result.state
    assert not epsilons(original, state, exact=True)["y"].any()
    for wrong in ({}, {"y": (state.shifted["y"] + 1) % 2}, {"y": 2}, {"y": -1}):
        assert np.isinf(epsilons(original, replace(state, shifted=wrong), exact=True)["y"]).all()
    plain = shifted(NETWORK, BOX, Exact())[0].state
    assert not epsilons(original, plain, exact=True)["y"].any()
    assert np.isinf(epsilons(original, replace(plain, shifted={"y": 0}), exact=True)["y"]).all()


def test_only_the_very_shift_is_one() -> None:
    state = shifted(NETWORK, BOX, Exact())[1].state
    rows, kept, by = state.rows["y"], state.kept["y"], state.shifted["y"]
    assert is_shift(rows, kept, "y", by)
    assert not is_shift(rows, kept, "z1", by)
    assert not is_shift(None, kept, "y", by)
    assert not is_shift(replace(rows, shift=np.array([0, 1e-300])), kept, "y", by)
    assert not is_shift(replace(rows, matrix=2 * rows.matrix), kept, "y", by)
    assert shift_of(2, 1).tolist() == [[1, -1], [0, 0]]


def test_errors_of_differences_add_up() -> None:
    assert shifted_errors({"y": np.array([1.0, 2.0])}, {"y": 1})["y"].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([(W1, B1), (W2[:1], B2[:1])], "it is a single number"),
        ([(W1[:2], B1[:2]), ([[1, 0], [0, 1], [1, 1]], [0, 1, 2])], "it would not save"),
    ],
)
def test_refusals(layers: list[tuple[list[list[int]], list[int]]], why: str) -> None:
    plain, result = shifted(chain(*layers, box=BOX), BOX, Exact())
    assert result.network.digest == plain.network.digest
    (refusal,) = [refusal for refusal in result.refusals if refusal.what == "no logit subtracted from all"]
    assert why in refusal.why
