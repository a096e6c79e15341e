"""The oracle itself on functions whose extremes are known, with twins that must fail."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle import forward, max_difference, ranges
from strategies import Case, box_of, chain, networks

from reluce.network import Add, Affine, Dense, Network, Node, Select, Tensor

SQUARE = box_of((-1, 1), (-1, 1))


def test_absolute_value() -> None:
    box = box_of((-1, 2))
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [0]), box=box)
    assert ranges(network, box)["y"] == ([0], [2])
    assert ranges(network, box)["z1"] == ([-1, -2], [2, 1])


def test_extreme_inside_the_square() -> None:
    # relu(1 - |a| - |b|) written with relu(|a| + |b|): the peak is at the middle, where no corner of the box is.
    ones = ([[1, 0], [-1, 0], [0, 1], [0, -1]], [0] * 4)
    network = chain(ones, ([[-1, -1, -1, -1]], [1]), ([[3]], [0]), box=SQUARE)
    found = ranges(network, SQUARE)
    assert found["z2"] == ([-1], [1])
    assert found["y"] == ([0], [3])


def test_maximum_of_two() -> None:
    # max(a, b) = a + relu(b - a), against a: differs by relu(b - a) <= 2
    network = chain(([[-1, 1], [1, 0], [-1, 0]], [0, 0, 0]), ([[1, 1, -1]], [0]), box=SQUARE)
    linear = chain(([[0, 0], [1, 0], [-1, 0]], [0, 0, 0]), ([[0, 1, -1]], [0]), box=SQUARE)
    assert max_difference(network, linear, SQUARE) == {"y": [2]}
    assert max_difference(network, network, SQUARE) == {"y": [0]}


def test_difference_in_a_thin_spike() -> None:
    tiny = 2.0**-24
    box = box_of((0, 1))
    spike = chain(([[1]], [-(1 - tiny)]), ([[2.0**24]], [0]), box=box)
    flat = chain(([[1]], [-1]), ([[2.0**24]], [0]), box=box)
    assert max_difference(spike, flat, box) == {"y": [1]}


def test_a_fixed_input_and_a_single_point() -> None:
    box = box_of(("1/3", "1/3"), (2, 2))
    network = chain(([[3, -1]], [0.5]), ([[1]], [0.25]), box=box)
    assert ranges(network, box)["z1"] == ([Fraction(-1, 2)], [Fraction(-1, 2)])
    assert ranges(network, box)["y"] == ([Fraction(1, 4)], [Fraction(1, 4)])


def test_all_operations() -> None:
    ops = [
        Node("d", Dense(np.array([[2.0, 1.0]]), np.array([4.0]), alpha=0.5, beta=-1.0), ("x",), ("d",)),
        Node("a", Affine(np.array([2.0]), np.array([1.0]), divide=True), ("d",), ("a",)),
        Node("s", Add(), ("a", "d"), ("s",)),
        Node("c", Select(np.array([1, 0, 1]), (3,)), ("s", "a"), ("c",)),
    ]
    tensors = {name: Tensor(name, (size,)) for name, size in (("x", 2), ("d", 1), ("a", 1), ("s", 1), ("c", 3))}
    values = forward(Network(("x",), ("c",), tuple(ops), tensors), {"x": [3, 4]})
    assert (values["d"], values["a"], values["s"]) == ([1], [Fraction(3, 2)], [Fraction(5, 2)])
    assert values["c"] == [Fraction(3, 2), Fraction(5, 2), Fraction(3, 2)]


@given(networks(layers=2, units=5), st.integers(0, 2**32 - 1))
def test_points_lie_within_the_ranges(case: Case, seed: int) -> None:
    network, box = case
    found = ranges(network, box)
    generator = np.random.default_rng(seed)
    for _ in range(5):
        share = [Fraction(int(k), 7) for k in generator.integers(0, 8, box.lower["x"].size)]
        ends = zip(box.lower["x"].ravel(), box.upper["x"].ravel(), share, strict=True)
        values = forward(network, {"x": np.array([lo + t * (hi - lo) for lo, hi, t in ends], dtype=object)})
        for name, (least, most) in found.items():
            assert all(lo <= v <= hi for lo, v, hi in zip(least, values[name], most, strict=True))


@given(networks(layers=2, units=5))
def test_a_changed_bias_is_seen(case: Case) -> None:
    network, box = case
    last = network.producer[network.outputs[0]]
    if not isinstance(last.op, Dense):
        return
    bias = np.zeros(len(last.op.weight), np.float32) if last.op.bias is None else last.op.bias.copy()
    changed = bias.copy()
    changed[0] = np.nextafter(changed[0], np.float32(np.inf))
    nodes = tuple(replace(n, op=replace(n.op, bias=changed)) if n is last else n for n in network.nodes)
    difference = max_difference(network, replace(network, nodes=nodes), box)[network.outputs[0]]
    assert difference[0] == Fraction(float(changed[0])) - Fraction(float(bias[0])) > 0
    assert not any(difference[1 : len(bias)])
