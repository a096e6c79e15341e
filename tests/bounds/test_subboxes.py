"""Bounds of sub-boxes, and the layers behind them, against the exact extremes of random networks. No tolerance."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import forward, ranges
from strategies import Case, box_of, chain, networks

from reluce.bounds import Engine, Layered, Rows, SubBoxes, Tightened, analyse, layered
from reluce.domain import Box
from reluce.network import Activation, Array, Network, Node, Opaque

RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def engine_of(network: Network, box: Box, node: Node) -> Engine | None:
    bounds = analyse(network, box, stop=lambda: True)
    form = layered(network, box, bounds.intervals, node)
    return None if form is None else Engine(form, [bounds.intervals[other.inputs[0]] for other in form.nodes])


def some_parts(engine: Engine, generator: np.random.Generator, count: int = 6) -> SubBoxes:
    """The whole box, a point of it, and random parts."""
    form, root = engine.form, engine.root()
    ends = np.sort(generator.random((2, count, form.low.size)), axis=0)
    low, high = (np.clip(form.low + share * (form.high - form.low), form.low, form.high) for share in ends)
    low, high = np.minimum(low, high), np.maximum(low, high)
    low[0], high[0], high[1] = form.low, form.high, low[1]
    rows = np.zeros(count, dtype=np.int64)
    return SubBoxes(low, high, root.lower[rows], root.upper[rows])


def part_of(box: Box, form: Layered, low: Array, high: Array) -> Box:
    """The part of a box between the given ends of the varying inputs, exactly; with what the floats left outside."""
    lower, upper = ({name: ends.copy() for name, ends in side.items()} for side in (box.lower, box.upper))
    for known, side, values in ((box.lower, lower, low), (box.upper, upper, high)):
        flat = np.concatenate([known[name].ravel() for name in form.inputs])
        flat[form.varying] = [Fraction(value) for value in values.tolist()]
        ends = np.cumsum([known[name].size for name in form.inputs])[:-1]
        for name, part in zip(form.inputs, np.split(flat, ends), strict=True):
            side[name] = part.reshape(known[name].shape)
    return Box(lower, upper, "part")


def inside(known: Tightened, row: int, engine: Engine, box: Box, network: Network) -> list[str]:
    """What is wrong with the intervals of one sub-box."""
    boxes = known.boxes
    truth = ranges(network, part_of(box, engine.form, boxes.low[row], boxes.high[row]))
    wrong = []
    for node, place in list(zip(engine.form.nodes, engine.places, strict=True))[:-1]:
        least, most = truth[node.inputs[0]]
        lower, upper = boxes.lower[row, place].tolist(), boxes.upper[row, place].tolist()
        if not all(Fraction(a) <= v for a, v in zip(lower, least, strict=True)):
            wrong.append(f"lower of {node.inputs[0]}")
        if not all(v <= Fraction(b) for v, b in zip(most, upper, strict=True)):
            wrong.append(f"upper of {node.inputs[0]}")
    return wrong


@given(networks(), RANDOM)
@settings(deadline=None)
def test_intervals_of_sub_boxes(case: Case, generator: np.random.Generator) -> None:
    network, box = case
    engine = engine_of(network, box, network.relus[-1])
    assert engine is not None
    known = engine.tighten(some_parts(engine, generator))
    for row in range(len(known.boxes)):
        assert not inside(known, row, engine, box, network)


@given(networks(), RANDOM)
@settings(deadline=None)
def test_goals(case: Case, generator: np.random.Generator) -> None:
    network, box = case
    node = network.relus[-1]
    engine = engine_of(network, box, node)
    assert engine is not None
    known = engine.tighten(some_parts(engine, generator))
    size = network.tensors[node.inputs[0]].size
    for row in range(len(known.boxes)):
        part = part_of(box, engine.form, known.boxes.low[row], known.boxes.high[row])
        least, most = ranges(network, part)[node.inputs[0]]
        for sign, truth in ((1.0, most), (-1.0, [-value for value in least])):
            rows = Rows(np.full(size, row), np.arange(size), np.full(size, sign))
            upper, blame = engine.goals(known, rows)
            assert all(value <= Fraction(bound) for value, bound in zip(truth, upper.tolist(), strict=True))
            assert (blame >= 0).all()


@given(networks(), RANDOM)
@settings(deadline=None)
def test_layers_are_what_they_replace(case: Case, generator: np.random.Generator) -> None:
    network, box = case
    bounds = analyse(network, box, stop=lambda: True)
    form = layered(network, box, bounds.intervals, network.relus[-1])
    assert form is not None
    share = generator.integers(0, 9, form.low.size) / 8
    x = np.clip(form.low + share * (form.high - form.low), form.low, form.high)
    whole = part_of(box, form, x, x).lower
    values = forward(network, whole)
    sources = [list(map(Fraction, x.tolist()))] + [
        [max(v, Fraction(0)) for v in values[n.inputs[0]]] for n in form.nodes
    ]
    for node, layer in zip(form.nodes, form.layers, strict=True):
        for i, true in enumerate(values[node.inputs[0]]):
            total = Fraction(layer.bias[i])
            for source, weight in layer.weight.items():
                total += sum(Fraction(w) * h for w, h in zip(weight[i].tolist(), sources[source], strict=True))
            assert abs(total - true) <= Fraction(layer.error[i])


def test_the_whole_box_cannot_pass_for_a_part() -> None:
    """The comparison itself: intervals of a part are wrong for the whole, and for a part elsewhere."""
    box = box_of((-1, 1))
    network = chain(([[1.0]], [0.0]), ([[1.0]], [0.0]), ([[1.0]], None), box=box)
    engine = engine_of(network, box, network.relus[-1])
    assert engine is not None
    root = engine.root()
    part = engine.tighten(SubBoxes(np.array([[0.5]]), np.array([[1.0]]), root.lower, root.upper))
    assert not inside(part, 0, engine, box, network)
    forged = replace(part, boxes=replace(part.boxes, low=root.low))
    assert inside(forged, 0, engine, box, network) == ["lower of z1"]
    forged = replace(part, boxes=replace(part.boxes, upper=np.array([[0.75, 1.0]])))
    assert inside(forged, 0, engine, box, network) == ["upper of z1"]


def test_rounding_is_charged() -> None:
    """A sum that floats get wrong by 2: 2**54 x + x - 2**54 x at x = 1."""
    box = box_of((1, 2), (1, 2), (1, 2))
    network = chain(([[2.0**54, 1.0, -(2.0**54)]], None), ([[1.0]], None), ([[1.0]], None), box=box)
    engine = engine_of(network, box, network.relus[0])
    assert engine is not None
    point = SubBoxes(np.ones((1, 3)), np.ones((1, 3)), *(end[None] for end in (engine.lower, engine.upper)))
    upper, _ = engine.goals(engine.tighten(point), Rows(np.array([0]), np.array([0]), np.array([1.0])))
    assert upper[0] >= 1
    engine.cost[-1][:] = 0.0  # the twin that must fail
    free, _ = engine.goals(engine.tighten(point), Rows(np.array([0]), np.array([0]), np.array([1.0])))
    assert free[0] < 1


def test_inputs_that_are_fixed_are_not_split() -> None:
    box = box_of(("1/3", "1/3"), (0, 1))
    network = chain(([[3.0, 1.0]], [-1.0]), ([[1.0]], None), ([[1.0]], None), box=box)
    engine = engine_of(network, box, network.relus[-1])
    assert engine is not None
    assert engine.form.varying.tolist() == [1]
    known = engine.tighten(engine.root())
    assert not inside(known, 0, engine, box, network)
    assert known.boxes.upper[0, 0] < 1 + 1e-12


@pytest.mark.parametrize("op", [Activation("Sigmoid"), Opaque("Sin")])
def test_other_operations_are_refused(op: Activation | Opaque) -> None:
    network = chain(([[1.0]], None), ([[1.0]], None), ([[1.0]], None), box=(box := box_of((-1, 1))))
    nodes = tuple(
        Node(node.name, op, node.inputs, node.outputs) if node.output == "h1" else node for node in network.nodes
    )
    network = replace(network, nodes=nodes)
    assert engine_of(network, box, network.relus[-1]) is None
