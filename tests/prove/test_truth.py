"""Verdicts, bounds and witnesses of random networks against the truth. No tolerance anywhere."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from oracle import forward, ranges
from strategies import Builder, Case, box_of, chain, chains, networks, with_positions

from reluce.domain import Box
from reluce.facts import LayerFacts, Verdict
from reluce.network import Add, Dense, Network, Node, Relu
from reluce.prove import Proof, prove

Range = tuple[list[Fraction], list[Fraction]]


def by_unit(values: list[Fraction], units: int) -> list[list[Fraction]]:
    """Per unit its values at all positions (units lie along the last axis)."""
    return [values[unit::units] for unit in range(units)]


def check(network: Network, box: Box) -> Proof:
    proof, truth = prove(network, box), ranges(network, box)
    for name, known in proof.bounds.intervals.items():
        least, most = truth[name]
        assert not np.isnan(known.lower).any()
        assert not np.isnan(known.upper).any()
        assert all(Fraction(lo) <= v for lo, v in zip(known.lower.ravel().tolist(), least, strict=True)), name
        assert all(v <= Fraction(hi) for hi, v in zip(known.upper.ravel().tolist(), most, strict=True)), name
    points = [{name: x[row] for name, x in proof.facts.points.items()} for row in range(len(proof.facts.points["x"]))]
    seen = [forward(network, point) for point in points]
    for point in points:
        inside = zip(box.lower["x"].ravel(), point["x"].ravel().tolist(), box.upper["x"].ravel(), strict=True)
        assert all(lo <= Fraction(value) <= hi for lo, value, hi in inside)
    for node in network.relus:
        check_layer(node, proof.facts.layers[node.name], truth[node.inputs[0]], [v[node.inputs[0]] for v in seen])
    return proof


def check_layer(node: Node, layer: LayerFacts, truth: Range, seen: list[list[Fraction]]) -> None:
    least, most = ([*by_unit(side, layer.units)] for side in truth)
    assert sum(layer.count(verdict) for verdict in Verdict) == layer.units
    for unit in range(layer.units):
        low, high, verdict = min(least[unit]), max(most[unit]), Verdict(layer.verdict[unit])
        constant = least[unit] == most[unit]
        match verdict:
            case Verdict.CONSTANT:
                assert constant
            case Verdict.INACTIVE:
                assert high <= 0
            case Verdict.ACTIVE:
                assert low >= 0
            case Verdict.UNSTABLE:
                assert low < 0 < high
                for witness, sign in ((layer.positive[unit], 1), (layer.negative[unit], -1)):
                    assert 0 <= witness < len(seen)
                    assert any(sign * value > 0 for value in by_unit(seen[witness], layer.units)[unit])
        assert Fraction(float(layer.lower[unit])) <= low
        assert high <= Fraction(float(layer.upper[unit]))


@given(networks())
def test_random_networks(case: Case) -> None:
    check(*case)


@pytest.mark.long
@settings(max_examples=2000)
@given(networks())
def test_many_random_networks(case: Case) -> None:
    check(*case)


@given(with_positions())
def test_units_with_two_positions(case: Case) -> None:
    check(*case)


@given(chains(layers=1, rational=False))
@example((chain(([[1, -1]], [0]), ([[1]], None), box=box_of((0, 1), (1, 2))), box_of((0, 1), (1, 2))))
def test_one_layer_is_decided_completely(case: Case) -> None:
    network, box = case
    proof, (least, most) = check(network, box), ranges(network, box)["z1"]
    for unit, verdict in enumerate(proof.facts.layers["node_h1"].verdict):
        low, high = least[unit], most[unit]
        if low == high:
            assert verdict in (Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE)
        elif high <= 0:
            assert verdict == Verdict.INACTIVE
        elif low >= 0:
            assert verdict == Verdict.ACTIVE
        else:
            assert verdict == Verdict.UNSTABLE


def test_maximum_of_exactly_zero_in_one_layer() -> None:
    box = box_of((-1, 1), (0, 1))
    # float64 rounds: 1/3 in float32 is no short number, and the bias that makes the maximum 0 sums both
    third = np.float32(1 / 3)
    network = chain(([[third, third]], [-2 * third]), ([[1]], [0]), box=box)
    assert ranges(network, box)["z1"][1] == [0]
    assert check(network, box).facts.layers["node_h1"].verdict == [Verdict.INACTIVE]


def test_a_hair_above_zero_is_unstable() -> None:
    box = box_of((-1, 1), (0, 1))
    third = np.float32(1 / 3)
    network = chain(([[third, third]], [np.nextafter(-2 * third, np.float32(0))]), ([[1]], [0]), box=box)
    assert ranges(network, box)["z1"][1][0] > 0
    assert check(network, box).facts.layers["node_h1"].verdict == [Verdict.UNSTABLE]


def test_a_stable_position_beside_another_is_no_witness() -> None:
    # At position 0 the last unit is 0 everywhere, but its bounds are [0, 1/4096]; at position 1 it is -1.
    low = np.array([[Fraction(0), Fraction(0)], [Fraction(0), Fraction(1)]], dtype=object)
    box = Box({"x": low}, {"x": low + np.array([[1, 0], [0, 0]], dtype=object)})
    first = [[1, 0], [-1, 0], [0, 1]], [-0.5, 0.5, 0]
    network = chain(first, ([[1, 1, 0], [0, 0, 1]], [-0.5, 0]), ([[1, -1]], [0]), ([[1]], [0]), box=box)
    assert ranges(network, box)["z3"] == ([0, -1], [0, -1])
    check(network, box)


def many_readers(count: int, gap: int) -> Case:
    """x/2^54 added up ``count`` times to x, minus 1 and minus ``gap`` units in the last place of 1, then a ReLU."""
    box = box_of((0, 1), (1, 1))
    b = Builder(np.random.default_rng(0), box)
    constants = {0: -gap * 2.0**-52, 1: -1.0}
    total = ""
    for k in range(count + 1):
        weight = np.array([[1.0 if k == count else 2.0**-54, constants.get(k, 0.0)]], np.float32)
        term = b.put(f"t{k}", Dense(weight), ["x"], (1,))
        total = b.put(f"s{k}", Add(), [total, term], (1,)) if total else term
    h = b.put("h", Relu(), [total], (1,))
    return b.network(b.put("y", Dense(np.array([[2.0**100]], np.float32)), [h], (1,))), box


def test_many_readers_of_one_tensor() -> None:
    check(*many_readers(400, 60))


def test_weights_whose_product_underflows() -> None:
    box = box_of((0, 2**900))
    layers = ([[2.0**-600]], [0]), ([[2.0**-600]], [-(2.0**-320)]), ([[2.0**600]], [0])
    check(chain(*layers, box=box, dtype=np.float64), box)


def test_a_position_that_is_zero_beside_an_inactive_one() -> None:
    low = np.array([[Fraction(0)], [Fraction(-1, 4)]], dtype=object)
    box = Box({"x": low}, {"x": low + np.array([[1], [0]], dtype=object)})
    check(chain(([[-0.09375]], [-0.0234375]), ([[1]], [0]), box=box), box)


@pytest.mark.parametrize("lie", [Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE])
def test_the_check_can_fail(lie: Verdict) -> None:
    box = box_of((-1, 1))
    network = chain(([[1]], None), ([[1]], None), box=box)
    proof = check(network, box)
    (node,) = network.relus
    layer = proof.facts.layers[node.name]
    assert layer.verdict.tolist() == [Verdict.UNSTABLE]
    seen = [forward(network, {"x": x})[node.inputs[0]] for x in proof.facts.points["x"]]
    truth = ranges(network, box)[node.inputs[0]]
    check_layer(node, layer, truth, seen)
    swapped = replace(layer, positive=layer.negative, negative=layer.positive)
    narrow = replace(layer, upper=np.array([0.5]))
    for false in (replace(layer, verdict=np.array([lie], dtype=np.int8)), swapped, narrow):
        with pytest.raises(AssertionError):
            check_layer(node, false, truth, seen)
