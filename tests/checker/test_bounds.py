"""Intervals and linear bounds of the checker, against the exact cells of the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from checking import forward_intervals, fractions, graph_of, on_box
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from oracle import at, cells, forward, whole_domain
from strategies import Case, box_of, chain, networks
from tiny_models import build

from reluce.domain import Box
from reluce.network import Network
from reluce_checker import NotProved
from reluce_checker._exact import Exact
from reluce_checker._forms import Forms
from reluce_checker._graph import Graph, Monotone, Node, Relu
from reluce_checker._intervals import Interval, interval
from reluce_checker._linear import SLOPE_BITS, Backward, Functional, Slopes
from reluce_checker._read import read_graph

Array = np.ndarray[Any, Any]
ONE = 1 << SLOPE_BITS
seeds = st.integers(0, 2**32 - 1)


def corners(network: Network, box: Box) -> list[dict[str, list[Fraction]]]:
    """Every tensor at the corners of every cell: a linear functional is largest at one of these."""
    return [
        {name: [at(form, corner) for form in forms] for name, forms in cell.forms.items()}
        for cell in cells(network, [whole_domain(box)])
        for corner in cell.corners
    ]


def slopes_of(graph: Graph, generator: np.random.Generator) -> dict[str, Slopes]:
    """Any slopes at all."""
    names = [node.inputs[0] for node in graph.nodes if isinstance(node.op, Relu)]
    return {
        name: Slopes(*(generator.integers(0, ONE + 1, graph.size(name)) for _ in range(2)))
        for name in names
        if generator.random() < 0.9  # a ReLU without slopes is not passed
    }


def functional_of(graph: Graph, names: list[str], rows: int, generator: np.random.Generator) -> Functional:
    coefficients = {
        name: Exact.of(generator.integers(-4, 5, (rows, graph.size(name))) / 4.0)
        for name in names
        if generator.random() < 0.5
    }
    return Functional(coefficients, Exact.of(generator.integers(-4, 5, rows) * 1.0), Exact.zeros((rows,)))


def values(functional: Functional, point: Mapping[str, list[Fraction]]) -> list[Fraction]:
    total = fractions(functional.constant)
    for name, A in functional.coefficients.items():
        entries = np.array(fractions(A), dtype=object).reshape(A.shape)
        total = [
            t + sum(a * x for a, x in zip(row, point[name], strict=True)) for t, row in zip(total, entries, strict=True)
        ]
    return total


def copied(functional: Functional) -> Functional:
    return Functional(dict(functional.coefficients), functional.constant, functional.slack)


@given(networks(layers=2, units=5))
def test_intervals_hold_everything_that_is_reached(case: Case) -> None:
    network, box = case
    found = on_box(graph_of(network), box)
    for point in corners(network, box):
        for name, reached in point.items():
            low, high = fractions(found[name].low), fractions(found[name].high)
            assert found[name].known.all()
            assert all(l <= x <= u for l, x, u in zip(low, reached, high, strict=True))


@given(networks(layers=2, units=5, rational=False), seeds)
def test_a_point_is_evaluated_exactly(case: Case, seed: int) -> None:
    network, box = case
    generator, graph = np.random.default_rng(seed), graph_of(network)
    points = {name: generator.choice([-1.5, 0.0, 0.25, 3.0], (4, low.size)) for name, low in box.lower.items()}
    ends = {name: Interval.of(Exact.of(rows), Exact.of(rows)) for name, rows in points.items()}
    found = forward_intervals(graph, Forms(), ends)
    for k in range(4):
        truth = forward(network, {name: rows[k] for name, rows in points.items()})
        for name, expected in truth.items():
            assert fractions(found[name].low[k]) == fractions(found[name].high[k]) == expected


@given(networks(layers=2, units=4), seeds)
def test_linear_bounds_are_never_exceeded(case: Case, seed: int) -> None:
    network, box = case
    generator, graph = np.random.default_rng(seed), graph_of(network)
    backward = Backward(graph, Forms(), on_box(graph, box))
    functional = functional_of(graph, sorted(network.tensors), 3, generator)
    points = corners(network, box)
    truth = [max(column) for column in zip(*(values(functional, point) for point in points), strict=True)]
    size = [max(map(abs, column)) for column in zip(*(values(functional, point) for point in points), strict=True)]
    upper, unbounded = backward.upper(copied(functional), slopes_of(graph, generator))
    assert not unbounded.any()
    assert all(t <= bound for t, bound in zip(truth, fractions(upper), strict=True))
    largest, unbounded = backward.largest(copied(functional))
    assert not unbounded.any()
    assert all(t <= bound for t, bound in zip(size, fractions(largest), strict=True))


@given(networks(layers=2, units=4), seeds)
def test_bounds_of_units_with_splits_hold_where_the_splits_do(case: Case, seed: int) -> None:
    network, box = case
    generator, graph = np.random.default_rng(seed), graph_of(network)
    backward, points = Backward(graph, Forms(), on_box(graph, box)), corners(network, box)
    target = str(generator.choice(sorted(name for name in network.tensors if name in graph.producer)))
    rows = generator.integers(0, graph.size(target), 3)
    slopes = {}
    for name, part in slopes_of(graph, generator).items():
        split = generator.choice([0, 0, 1, -1], (3, graph.size(name)))
        beta = Exact.of(generator.integers(0, 9, split.shape) / 4.0 * (split != 0))
        slopes[name] = Slopes(part.above, generator.integers(0, ONE + 1, split.shape), split, beta)
    sign = int(generator.choice([1, -1]))
    upper, _ = backward.upper(backward.unit_rows(target, rows, sign), slopes)
    for k, bound in enumerate(fractions(upper)):
        for point in points:
            inside = all(
                s * z >= 0
                for name, part in slopes.items()
                if part.split is not None
                for s, z in zip(part.split[k].tolist(), point[name], strict=True)
            )
            assert not inside or sign * point[target][rows[k]] <= bound


KINK = chain(([[1]], [0]), ([[1]], [0]), box=box_of((-1, 1)))


@pytest.mark.parametrize(
    ("sign", "above", "below", "bound"),
    [(1, ONE, ONE, Fraction(2)), (1, ONE // 2, 0, Fraction(1)), (-1, 0, 0, Fraction(0)), (-1, 0, ONE, Fraction(1))],
)
def test_the_bounds_of_one_kink(sign: int, above: int, below: int, bound: Fraction) -> None:
    graph = graph_of(KINK)
    backward = Backward(graph, Forms(), on_box(graph, box_of((-1, 1))))
    slopes = {"z1": Slopes(np.array([above]), np.array([below]))}
    upper, _ = backward.upper(backward.unit_rows("y", np.array([0]), sign), slopes)
    assert fractions(upper) == [bound]


@pytest.mark.parametrize(("slope", "weight"), [(2 * ONE, 2.0), (-ONE, -1.0)])
def test_lower_slopes_out_of_range_make_wrong_bounds(slope: int, weight: float) -> None:
    """The reader of certificates keeps these away; here they show that the tests above could fail."""
    graph, box = graph_of(KINK), box_of((-1, 1))
    functional = Functional(
        {"h1": Exact.of(np.array([[-1.0]])), "x": Exact.of(np.array([[weight]]))}, Exact.zeros((1,)), Exact.zeros((1,))
    )
    truth = max(values(functional, point)[0] for point in corners(KINK, box))
    slopes = {"z1": Slopes(np.array([ONE]), np.array([slope]))}
    upper, _ = Backward(graph, Forms(), on_box(graph, box)).upper(functional, slopes)
    assert fractions(upper)[0] < truth


def test_intervals_that_are_too_small_make_wrong_bounds() -> None:
    graph, box = graph_of(KINK), box_of((-1, 1))
    narrow = {**on_box(graph, box), "x": Interval.of(Exact.of(np.array([[-1.0]])), Exact.of(np.array([[0.5]])))}
    narrow = forward_intervals(graph, Forms(), {"x": narrow["x"]})
    backward = Backward(graph, Forms(), narrow)
    upper, _ = backward.upper(backward.unit_rows("y", np.array([0]), 1), {})
    assert fractions(upper)[0] < max(point["y"][0] for point in corners(KINK, box))


@pytest.mark.parametrize("method", ["upper", "largest"])
@pytest.mark.parametrize("columns", [1, 3])
def test_coefficients_are_never_broadcast(method: str, columns: int) -> None:
    """One coefficient for two coordinates would once have stood for both."""
    network = chain(([[1], [1]], [0, 0]), ([[1, 1]], [0]), box=box_of((-1, 1)))
    graph = graph_of(network)
    backward = Backward(graph, Forms(), on_box(graph, box_of((-1, 1))))
    functional = Functional({"h1": Exact.of(np.ones((1, columns)))}, Exact.zeros((1,)), Exact.zeros((1,)))
    call = (lambda: backward.upper(functional, {})) if method == "upper" else (lambda: backward.largest(functional))
    with pytest.raises(NotProved, match="coefficients for the 2 coordinates of 'h1'"):
        call()


def elementwise(kind: str) -> Graph:
    nodes = [
        helper.make_node("Gemm", ["x", "W"], ["z"], transB=1),
        helper.make_node(kind, ["z"], ["o"]),
        helper.make_node("Gemm", ["o", "V"], ["y"], transB=1),
    ]
    constants = {"W": np.array([[1], [2]], np.float32), "V": np.array([[1, -1], [0, 0]], np.float32)}
    return read_graph(build(nodes, {"x": ["N", 1]}, {"y": ["N", 2]}, constants).SerializeToString())


FUNCTIONS: dict[str, tuple[tuple[float, ...], Any]] = {
    "Sigmoid": ((), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": ((), np.tanh),
    "Softplus": ((), lambda x: np.logaddexp(0, x)),
    "LeakyRelu": ((0.25,), lambda x: np.where(x > 0, x, 0.25 * x)),
    "Elu": ((2.0,), lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0)))),
    "HardSigmoid": ((0.25, 0.5), lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    "Clip": ((-0.5, 2.0), lambda x: np.clip(x, -0.5, 2.0)),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@given(st.lists(st.floats(-40, 40), min_size=2, max_size=2), st.floats(0, 1))
def test_functions_that_do_not_decrease(function: str, ends: list[float], share: float) -> None:
    parameters, value = FUNCTIONS[function]
    low, high = sorted(ends)
    x = Interval.of(Exact.of(np.array([[low]])), Exact.of(np.array([[high]])))
    found = interval(Node(Monotone(function, parameters), ("x",), ("y",)), [x], 1, Forms())
    assert found.known.all()
    for point in (low, high, min(max(low + share * (high - low), low), high)):
        reached = Fraction(float(value(np.float64(point))))
        assert fractions(found.low)[0] - Fraction(1, 2**40) <= reached <= fractions(found.high)[0] + Fraction(1, 2**40)


@pytest.mark.parametrize("kind", ["Exp", "Abs"])
def test_what_is_not_known_has_no_bound(kind: str) -> None:
    graph = elementwise(kind)
    found = on_box(graph, box_of((-1, 1)))
    assert found["y"].known[0].tolist() == [False, True]
    backward = Backward(graph, Forms(), found)
    rows = backward.unit_rows("y", np.array([0, 1]), 1)
    assert backward.upper(copied(rows), {})[1].tolist() == [True, False]
    assert backward.largest(copied(rows))[1].tolist() == [True, False]
    assert not found["o"].active.any()
    assert not found["o"].inactive.any()
    assert not found["o"].fixed.any()


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=2), st.floats(0.125, 8), seeds)
def test_quotients_are_enclosed_on_the_way_back(factor: list[float], divisor: float, seed: int) -> None:
    """``x / d`` is no exact form: what it costs is charged."""
    generator = np.random.default_rng(seed)
    nodes = [helper.make_node("Div", ["x", "d"], ["q"]), helper.make_node("Gemm", ["q", "W"], ["y"], transB=1)]
    constants = {"d": np.array([[divisor, -3.0]], np.float64), "W": np.array([factor], np.float64)}
    model = build(nodes, {"x": ["N", 2]}, {"y": ["N", 1]}, constants, np.float64)
    graph, box = read_graph(model.SerializeToString()), box_of((-1, 2), (0, 3))
    found = on_box(graph, box)
    backward = Backward(graph, Forms(), found)
    upper, _ = backward.upper(backward.unit_rows("y", np.array([0]), 1), {})
    largest, _ = backward.largest(backward.unit_rows("y", np.array([0]), 1))
    for _ in range(4):
        x = [Fraction(float(v)) for v in generator.choice([-1.0, 0.0, 2.0, 0.3], 2)]
        x = [min(max(x[0], Fraction(-1)), Fraction(2)), min(max(x[1], Fraction(0)), Fraction(3))]
        y = Fraction(factor[0]) * x[0] / Fraction(divisor) + Fraction(factor[1]) * x[1] / -3
        assert y <= fractions(upper)[0]
        assert abs(y) <= fractions(largest)[0]
        assert fractions(found["y"].low)[0] <= y <= fractions(found["y"].high)[0]
