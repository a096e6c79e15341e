"""Bounds on boxes in float64: never below the same linear bound in exact arithmetic, however wild the weights."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from oracle import ranges
from strategies import Builder, box_of, chain
from tiny_models import build

from certificates import as_model
from reluce.domain import Box
from reluce.network import Network
from reluce_checker import _layers
from reluce_checker._domain import enclosed
from reluce_checker._exact import Exact
from reluce_checker._forms import Forms
from reluce_checker._graph import Graph
from reluce_checker._intervals import Interval, interval
from reluce_checker._layers import Boxes64, Layers, Relaxed
from reluce_checker._linear import SLOPE_BITS, Backward, Slopes
from reluce_checker._read import read_graph

Array = np.ndarray[Any, Any]
seeds = st.integers(0, 2**32 - 1)
BOX = box_of((-1, 1), ("1/3", 2))
PLACES = np.array([0, 1])


def fractions(values: Exact) -> list[Fraction]:
    return [Fraction(int(m)) * Fraction(2) ** values.exponent for m in values.mantissa.ravel()]


def backward_of(graph: Graph, box: Box) -> Backward:
    forms = Forms()
    found = {name: enclosed((low.ravel(), box.upper[name].ravel())) for name, low in box.lower.items()}
    for node in graph.nodes:
        for name in node.outputs:
            found[name] = interval(node, [found[source] for source in node.inputs], graph.size(name), forms)
    return Backward(graph, forms, found)


def wild(seed: int) -> Network:
    """A chain, sometimes with a sum, whose weights differ by many powers of two."""
    generator = np.random.default_rng(seed)
    b = Builder(generator, BOX, wild=True)
    h = b.relu("h1", b.dense("z1", "x", int(generator.integers(1, 6))))
    width = b.tensors[h].shape[-1]  # type: ignore[index]
    if generator.random() < 0.3:
        h = b.add("s", h, b.relu("h1b", b.dense("z1b", "x", width)))
    h = b.relu("h2", b.dense("z2", h, int(generator.integers(1, 6))))
    if generator.random() < 0.3:
        h = b.add("t", h, h)
    return b.network(b.dense("z3", h, 2))


def exact_bound(layers: Layers, box: Boxes64, relaxed: list[Relaxed], row: int, unit: int, sign: int) -> Fraction:
    """The same linear bound with the same slopes, in exact arithmetic."""
    backward = layers._backward
    intervals, slopes = dict(backward.intervals), dict[str, Slopes]()
    for layer, lower, upper, part in zip(layers.layers, box.lower, box.upper, relaxed, strict=False):
        intervals[layer.tensor] = Interval.of(Exact.of(lower), Exact.of(upper))
        above, below = ((side[row] * (1 << SLOPE_BITS)).astype(np.int64) for side in (part.above, part.below))
        slopes[layer.tensor] = Slopes(above, below)
    intervals.update(layers.inputs(box))
    functional = backward.unit_rows(layers.layers[-1].tensor, np.array([unit]), sign)
    upper, unbounded = Backward(backward.graph, backward.forms, intervals).upper(functional, slopes)
    assert not unbounded.any()
    return fractions(upper)[0]


def random_boxes(layers: Layers, generator: np.random.Generator, count: int) -> Boxes64:
    whole = layers.whole()
    ends = np.sort(generator.random((2, count, len(layers.low))), axis=0)
    ends[:, generator.random(count) < 0.2] = 0.5  # boxes without extent
    width = layers.high - layers.low
    low, high = (np.clip(layers.low + end * width, layers.low, layers.high) for end in ends)
    same = whole.rows(np.zeros(count, dtype=np.int64))
    return Boxes64(low, high, same.lower, same.upper)


def check_boxes(network: Network, seed: int) -> int:
    """How many bounds were compared."""
    generator = np.random.default_rng(seed)
    layers = Layers(backward_of(read_graph(as_model(network).SerializeToString()), BOX), "z3", ("x", "x"), PLACES)
    boxes, relaxed = layers.tightened(random_boxes(layers, generator, 3))
    compared = 0
    for row in range(3):
        box = boxes.rows(np.array([row]))
        lower, upper = ([Fraction(end) for end in side[0].tolist()] for side in (box.low, box.high))
        inside = [max(a, b) for a, b in zip(lower, BOX.lower["x"].tolist(), strict=True)]
        beyond = [min(a, b) for a, b in zip(upper, BOX.upper["x"].tolist(), strict=True)]
        truth = ranges(network, box_of(*zip(inside, beyond, strict=True)))
        for layer, low, high in zip(layers.layers, box.lower, box.upper, strict=False):
            least, most = truth[layer.tensor]
            assert all(Fraction(l) <= t for l, t in zip(low[0].tolist(), least, strict=True))
            assert all(Fraction(u) >= t for u, t in zip(high[0].tolist(), most, strict=True))
        for unit in range(2):
            for sign in (1, -1):
                where = np.array([row]), np.array([unit]), np.array([float(sign)])
                (found,) = layers.bound(len(layers.layers) - 1, boxes, relaxed, *where).tolist()
                assert Fraction(found) >= exact_bound(layers, box, relaxed, row, unit, sign)
                assert Fraction(found) >= (truth["z3"][1][unit] if sign > 0 else -truth["z3"][0][unit])
                compared += 1
    return compared


@given(seeds)
def test_float_bounds_are_no_smaller_than_exact_ones(seed: int) -> None:
    assert check_boxes(wild(seed), seed) == 12


def test_without_the_charge_for_rounding_they_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of a hundred networks fail then: the test above sees what it is there for."""
    monkeypatch.setattr(Layers, "_costs", lambda self: [np.zeros(len(layer.bias)) for layer in self.layers])
    failed = 0
    for seed in range(100):
        try:
            check_boxes(wild(seed), seed)
        except AssertionError:
            failed += 1
    assert failed > 0


def layers_of(network: Network, inputs: tuple[str, ...] = ("x", "x"), places: Any = PLACES, box: Box = BOX) -> Layers:
    graph = read_graph(as_model(network).SerializeToString())
    return Layers(backward_of(graph, box), network.outputs[0], inputs, np.array(places))


def test_an_input_that_varies_has_to_be_cut() -> None:
    network = chain(([[1, 1]], [0]), ([[1]], [0]), box=BOX)
    with pytest.raises(ValueError, match="varies is not among"):
        layers_of(network, ("x",), [0])
    fixed = box_of((-1, 1), (2, 2))
    found = layers_of(network, ("x",), [0], fixed)
    assert found.layers[0].weight[0].tolist() == [[1.0]]
    assert found.layers[0].bias.tolist() == [2.0]


def test_numbers_that_float64_should_not_be_trusted_with() -> None:
    huge = chain(([[1e30, 0]], [0]), ([[1e30]], [0]), ([[1e30]], [0]), ([[1e30]], [0]), box=BOX)
    with pytest.raises(ValueError, match="numbers beyond"):
        layers_of(huge)


def test_a_function_that_is_not_modelled_cannot_be_followed() -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["o"]), helper.make_node("Gemm", ["o", "W"], ["y"], transB=1)]
    model = build(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, {"W": np.ones((1, 2), np.float32)})
    graph = read_graph(model.SerializeToString())
    with pytest.raises(ValueError, match="'o' is neither an input nor a ReLU's output"):
        Layers(backward_of(graph, BOX), "y", ("x", "x"), PLACES)


def test_tensors_that_are_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_layers, "WIDEST", 1)
    with pytest.raises(ValueError, match="more than 1 coordinates"):
        layers_of(chain(([[1, 1], [1, 0]], [0, 0]), ([[1, 1]], [0]), box=BOX))


def test_ends_of_the_domain_are_rounded_outward() -> None:
    found = layers_of(chain(([[1, 1]], [0]), ([[1]], [0]), box=BOX))
    assert Fraction(float(found.low[1])) < Fraction(1, 3) < Fraction(float(np.nextafter(found.low[1], 1)))
    inside = found.inputs(found.whole())["x"]
    assert fractions(inside.high) == [1, 2]
    assert (
        Fraction(float(found.low[1])) < fractions(inside.low)[1] <= Fraction(1, 3)
    )  # what was proved, not what was rounded


@given(seeds)
def test_relaxations_hold(seed: int) -> None:
    """On any interval, the two lines enclose the ReLU."""
    generator = np.random.default_rng(seed)
    scale = 2.0 ** generator.integers(-200, 200, 8)
    l, u = np.sort(generator.normal(size=(2, 8)) * scale, axis=0)
    found = _layers._relaxed(l[None], u[None])
    for k in range(8):
        s, a, b = (Fraction(float(part[0, k])) for part in (found.above, found.below, found.offset))
        assert 0 <= s <= 1
        assert 0 <= a <= 1
        for z in (Fraction(float(l[k])), Fraction(float(u[k])), Fraction(0)):
            if Fraction(float(l[k])) <= z <= Fraction(float(u[k])):
                relu = max(z, Fraction(0))
                assert a * z <= relu <= s * z + b
