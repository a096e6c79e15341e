"""Encodings against the truth: a point of the domain is feasible, exactly, and a solution is a point of the domain."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from oracle import forward
from scipy.optimize import Bounds, LinearConstraint, milp
from strategies import Case, box_of, chain, networks

from reluce.bounds import Interval, analyse
from reluce.domain import Box
from reluce.network import (
    Activation,
    Array,
    BatchNorm,
    Dense,
    Network,
    Node,
    Opaque,
    Relu,
    Softmax,
    Tensor,
    evaluate,
    validate,
)
from reluce.solve import Encoding, Problem, encode, obstacle

Values = dict[str, list[Fraction]]


def encodable(case: Case) -> bool:
    intervals = analyse(*case, stop=lambda: True).intervals
    return not any(obstacle(case[0], name, intervals) for name in case[0].outputs)  # wild weights make huge bounds


def encoded(network: Network, box: Box) -> Encoding:
    intervals = analyse(network, box, stop=lambda: True).intervals
    return encode(network, network.outputs, intervals)


def exact_point(network: Network, box: Box) -> Values:
    corners = box.sample(np.random.default_rng(0), 1)
    return forward(network, {name: values[0] for name, values in corners.items()})


def solution(encoding: Encoding, network: Network, values: Values) -> list[Fraction]:
    """The solution that the tensors of one point make up."""
    columns = [Fraction(0)] * len(encoding.problem.lower)
    for name, places in encoding.columns.items():
        for place, value in zip(places.ravel().tolist(), values[name], strict=True):
            columns[place] = value
    for node in network.relus:
        if node.name in encoding.switches:
            switch = encoding.switches[node.name]
            triples = zip(switch.complement.ravel(), switch.binary.ravel(), values[node.inputs[0]], strict=True)
            for complement, binary, g in triples:
                if binary >= 0:
                    columns[complement], columns[binary] = max(-g, Fraction(0)), Fraction(int(g > 0))
    return columns


def broken(problem: Problem, columns: list[Fraction]) -> list[str]:
    """What a solution violates, in fractions."""
    rows = [Fraction(0)] * problem.matrix.shape[0]
    matrix = problem.matrix.tocoo()
    for row, column, value in zip(*matrix.coords, matrix.data.tolist(), strict=True):
        rows[row] += Fraction(value) * columns[column]
    found = [f"column {k}" for k in outside(columns, problem.lower, problem.upper)]
    found += [f"row {k}" for k in outside(rows, problem.row_lower, problem.row_upper)]
    return found + [f"integer {k}" for k in np.flatnonzero(problem.integer) if columns[k].denominator != 1]


def outside(values: list[Fraction], lower: Array, upper: Array) -> list[int]:
    ends = enumerate(zip(lower.tolist(), values, upper.tolist(), strict=True))
    return [k for k, (lo, value, hi) in ends if not ((lo == -np.inf or lo <= value) and (hi == np.inf or value <= hi))]


@given(networks().filter(encodable))
def test_each_point_of_the_domain_is_feasible(case: Case) -> None:
    network, box = case
    encoding = encoded(network, box)
    assert broken(encoding.problem, solution(encoding, network, exact_point(network, box))) == []


UNSTABLE = chain(([[1, 1], [1, -1]], [0, 0.5]), ([[1, -1]], [0]), box=box_of((-1, 1), (-1, 1)))


@pytest.mark.parametrize("wrong", ["binary", "complement", "h1", "z1", "y", "x", "big-M"])
def test_the_check_can_fail(wrong: str) -> None:
    box = box_of((-1, 1), (-1, 1))
    encoding = encoded(UNSTABLE, box)
    problem, columns = encoding.problem, solution(encoding, UNSTABLE, forward(UNSTABLE, {"x": [0.5, 0.25]}))
    assert broken(problem, columns) == []
    switch = encoding.switches["node_h1"]
    if wrong == "big-M":
        problem = replace(problem, upper=np.where(problem.upper > 1.9, 0.5, problem.upper))
    elif wrong == "binary":
        columns[switch.binary[0]] = 1 - columns[switch.binary[0]]
    elif wrong == "complement":
        columns[switch.complement[0]] += Fraction(1, 1000)
    else:
        columns[encoding.columns[wrong][0]] += Fraction(1, 10**9) if wrong != "x" else 2
    assert broken(problem, columns)


def solved(encoding: Encoding, column: int, sign: float) -> Array:
    problem = encoding.problem
    cost = -sign * encoding.objective(np.array([column]), 1.0)
    rows = LinearConstraint(problem.matrix, problem.row_lower, problem.row_upper)
    found = milp(cost, integrality=problem.integer, bounds=Bounds(problem.lower, problem.upper), constraints=rows)
    assert found.status == 0, found.message
    return np.asarray(found.x)


def gap(encoding: Encoding, network: Network, point: Array) -> float:
    """How far a solution is from what the network makes of its inputs."""
    values = evaluate(network, encoding.inputs(point, network.inputs))
    return max(float(np.abs(values[name][0] - point[places]).max()) for name, places in encoding.columns.items())


@given(networks(layers=2, units=4).filter(encodable))
def test_a_solution_is_a_point_of_the_domain(case: Case) -> None:
    network, box = case
    encoding = encoded(network, box)
    size = max(1.0, *(float(known.magnitude.max()) for known in analyse(network, box, lambda: True).intervals.values()))
    if size < 1e4:  # beyond it, solvers' tolerances show
        for sign in (1.0, -1.0):
            point = solved(encoding, int(encoding.columns[network.outputs[0]].ravel()[0]), sign)
            assert gap(encoding, network, point) <= 1e-4 * size


def test_a_solution_without_binaries_is_none() -> None:
    encoding = encoded(UNSTABLE, box_of((-1, 1), (-1, 1)))
    relaxed = replace(encoding, problem=replace(encoding.problem, integer=np.zeros_like(encoding.problem.integer)))
    column = int(encoding.columns["y"][0])
    assert gap(encoding, UNSTABLE, solved(encoding, column, 1.0)) < 1e-6
    assert gap(encoding, UNSTABLE, solved(relaxed, column, 1.0)) > 0.1


def test_a_stable_unit_has_no_binary_and_an_active_one_is_its_own_output() -> None:
    box = box_of((-1, 1))
    network = chain(([[1], [1], [1]], [2, -2, 0]), ([[1, 1, 1]], None), box=box)
    encoding = encoded(network, box)
    assert (encoding.switches["node_h1"].binary >= 0).tolist() == [False, False, True]
    assert encoding.columns["h1"][0] == encoding.columns["z1"][0]
    dead = encoding.columns["h1"][1]
    assert encoding.problem.lower[dead] == encoding.problem.upper[dead] == 0


def test_two_inputs_and_only_what_is_asked() -> None:
    tensors = {name: Tensor(name, (1,)) for name in ("a", "b", "z", "h", "far")}
    nodes = (
        Node("dense", Dense(np.array([[2.0]], np.float32)), ("a",), ("z",)),
        Node("relu", Relu(), ("z",), ("h",)),
        Node("last", Dense(np.array([[1.0]], np.float32)), ("h",), ("far",)),
    )
    network = validate(Network(("a", "b"), ("far",), nodes, tensors))
    ends = {name: np.array([Fraction(value)], dtype=object) for name, value in (("a", -1), ("b", -3))}
    box = Box(ends, {name: end + 2 for name, end in ends.items()})
    encoding = encode(network, ["z"], analyse(network, box).intervals)
    assert set(encoding.columns) == {"a", "b", "z"}
    point = encoding.problem.lower
    assert encoding.inputs(point, network.inputs)["b"].tolist() == [[-3.0]]


def wide(op: object, size: int = 2) -> Network:
    tensors = {name: Tensor(name, (size,)) for name in ("x", "m", "z")}
    nodes = (Node("op", op, ("x",), ("m",)), Node("dense", Dense(np.eye(size, dtype=np.float32)), ("m",), ("z",)))  # type: ignore[arg-type]
    return validate(Network(("x",), ("z",), nodes, tensors))


@pytest.mark.parametrize("op", [Activation("Tanh"), Softmax(), Opaque("Erf")], ids=lambda op: type(op).__name__)
def test_what_has_no_form_is_bounded_by_its_interval_alone(op: object) -> None:
    network, box = wide(op), box_of((-1, 1), (-1, 1))
    intervals = analyse(network, box).intervals
    if isinstance(op, Opaque):
        assert "not finite" in obstacle(network, "z", intervals)
    encoding = encode(network, ["z"], intervals)
    assert encoding.problem.matrix[:, encoding.columns["x"]].nnz == 0
    assert (encoding.problem.upper[encoding.columns["m"]] == intervals["m"].upper).all()


def test_parameters_that_are_no_float64_make_bands() -> None:
    ones = np.ones(2, np.float32)
    network, box = wide(BatchNorm(ones, 0 * ones, 0 * ones, 3 * ones, 0.0)), box_of((-1, 1), (-1, 1))
    problem = encode(network, ["m"], analyse(network, box).intervals).problem
    width = problem.row_upper - problem.row_lower
    assert ((width > 0) & (width < 1e-13)).all()


def test_coefficients_that_a_solver_drops_are_paid_for() -> None:
    box = box_of((-1, 1), (-1, 1))
    network = chain(([[1, 4e-10]], [0.25]), ([[1]], None), box=box, dtype=np.float64)
    encoding = encoded(network, box)
    assert np.abs(encoding.problem.matrix.data).min() > 1e-9
    assert broken(encoding.problem, solution(encoding, network, forward(network, {"x": [1, 1]}))) == []
    narrow = replace(encoding.problem, row_lower=encoding.problem.row_upper)
    assert broken(narrow, solution(encoding, network, forward(network, {"x": [1, -1]})))


@pytest.mark.parametrize("end", [np.inf, 1e13])
def test_no_finite_bound_no_encoding(end: float) -> None:
    intervals = dict(analyse(UNSTABLE, box_of((-1, 1), (-1, 1))).intervals)
    assert obstacle(UNSTABLE, "y", intervals) == ""
    intervals["z1"] = Interval(intervals["z1"].lower, np.array([1.0, end]))
    assert "not finite, or larger than 1e+12" in obstacle(UNSTABLE, "y", intervals)
    del intervals["z1"]
    assert obstacle(UNSTABLE, "y", intervals) == "its shape is not known"
