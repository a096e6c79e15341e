"""Selections in front of dense layers: by hand, against the truth, and where there is none."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from oracle import max_difference
from rewriting import check, rewritten
from strategies import Builder, Case, box_of, chain, networks

from reluce.domain import Box
from reluce.guarantee import Exact, Level, Within, allowance
from reluce.network import Add, Dense, Network, Node, Op, Relu, Select
from reluce.prove import prove
from reluce.rewrite import STEPS, Objective, Original, Rewriting, Rewritten, Step, cost, rewrite
from reluce.rewrite._constants import exact_values
from reluce.rewrite._relation import epsilons
from reluce.rewrite._select import select_inputs, unused
from reluce.rewrite._state import Rows

WITHOUT: tuple[Step, ...] = tuple(step for step in STEPS if step != "select")

# x0 varies and is read, x1 varies and is not read, x2 is 1/2. The units change sign where x0 is -1/2, -1/4, 1/4, ...
BOX = box_of((-1, 1), (-1, 1), ("1/2", "1/2"))
SQUARE = box_of((-1, 1), (-1, 1))
WEIGHT = np.array([[2, 0, 4], [1, 0, -2], [-4, 0, 2], [1, 0, 2], [3, 0, 0]])
FILLED = np.array([1, 0.25, 1, -0.5, 2.25])
BIAS = FILLED - WEIGHT[:, 2] / 2
OUT = ([[1, -2, 3, 1, -1]], [0.5])


def selections(network: Network) -> list[Node]:
    return [node for node in network.nodes if isinstance(node.op, Select)]


def places(node: Node) -> list[int]:
    assert isinstance(node.op, Select)
    return [int(place) for place in node.op.indices]


def dense(network: Network, name: str) -> Dense:
    op = network.producer[name].op
    assert isinstance(op, Dense)
    return op


def bias_of(network: Network, name: str) -> list[float]:
    bias = dense(network, name).bias
    assert bias is not None
    return [float(value) for value in bias]


def exactly(network: Network, box: Box, objective: Objective = "parameters") -> Rewriting:
    proof = prove(network, box)
    allowed = allowance(Exact(), network, box, proof.bounds, proof.facts)
    return rewrite(Original(network, proof.facts, proof.bounds), allowed.budget, objective=objective)


def anywhere(network: Network, box: Box) -> tuple[Original, Rewritten]:
    """Selections wherever there can be one, whether they save or not."""
    proof = prove(network, box)
    original, state = Original(network, proof.facts, proof.bounds), Rewritten.nothing_done(network)
    return original, select_inputs(original, state, exact_values(original, state, {}), lambda _: lambda _: None)


def builder(box: Box = BOX) -> Builder:
    return Builder(np.random.default_rng(0), box)


def put(b: Builder, name: str, weight: Any, bias: Any, source: str) -> str:
    """A dense layer with these numbers."""
    b.low[name] = b.high[name] = []  # nothing is drawn from them
    bias = None if bias is None else np.float32(bias)
    return b.put(name, Dense(np.float32(weight), bias), [source], (len(weight),))


def relu(b: Builder, name: str, source: str) -> str:
    return b.put(name, Relu(), [source], b.tensors[source].shape or ())


def with_op(network: Network, name: str, op: Op) -> Network:
    nodes = (replace(node, op=op) if node.output == name else node for node in network.nodes)
    return replace(network, nodes=tuple(nodes))


# What is left out


def test_a_graph_input_by_hand() -> None:
    """Nobody reads x1, and x2 is known: 4 * 1/2 goes into the bias -1, and so on."""
    result = check(chain((WEIGHT, BIAS), OUT, box=BOX), BOX, Exact())
    (selection,) = selections(result.network)
    assert (selection.inputs, selection.outputs, places(selection)) == (("x",), ("x_read",), [0])
    assert result.network.shape("x_read") == (1,)
    assert result.network.producer["z1"].inputs == ("x_read",)
    assert dense(result.network, "z1").weight.tolist() == WEIGHT[:, :1].tolist()
    assert bias_of(result.network, "z1") == FILLED.tolist()
    assert result.state.of == {"x_read": "x"}
    assert result.state.kept["x_read"].tolist() == [0]
    assert not result.epsilons["y"].any()


def test_factors_of_gemm() -> None:
    network = chain((WEIGHT, BIAS), OUT, box=BOX)
    halves = replace(dense(network, "z1"), weight=np.float32(WEIGHT / 2), bias=np.float32(BIAS / 4), alpha=2, beta=4)
    op = dense(check(with_op(network, "z1", halves), BOX, Exact()).network, "z1")
    assert (op.alpha, op.beta) == (2, 1)
    assert op.weight.tolist() == (WEIGHT[:, :1] / 2).tolist()
    assert op.bias is not None
    assert op.bias.tolist() == FILLED.tolist()


def test_a_bias_that_was_not_there() -> None:
    weight = np.column_stack([WEIGHT[:, :2], 2 * FILLED])
    result = check(chain((weight, None), OUT, box=BOX), BOX, Exact()).network
    assert [places(node) for node in selections(result)] == [[0]]
    assert bias_of(result, "z1") == FILLED.tolist()


def test_zeros_of_the_input_leave_the_bias_alone() -> None:
    box = box_of((-1, 1), (-1, 1), (0, 0))
    result = anywhere(chain((WEIGHT, None), OUT, box=box), box)[1].network
    assert [places(node) for node in selections(result)] == [[0]]
    assert dense(result, "z1").bias is None


def test_values_that_no_float_has_are_read() -> None:
    box = box_of((-1, 1), (-1, 1), ("1/3", "1/3"))
    result = check(chain((WEIGHT, BIAS), OUT, box=box), box, Exact()).network
    assert [places(node) for node in selections(result)] == [[0, 2]]
    assert bias_of(result, "z1") == BIAS.tolist()


@pytest.mark.parametrize(("level", "expected"), [(Exact(), [0, 2]), (Within(1e-3), [0])], ids=str)
def test_a_bias_that_would_be_rounded(level: Level, expected: list[int]) -> None:
    """2^-30 and 1 make no float32: exactly, the value is read as before, and only what nobody reads is left out."""
    box = box_of((-1, 1), (-1, 1), (Fraction(1, 2**30), Fraction(1, 2**30)))
    weight = np.column_stack([WEIGHT[:, :2], np.ones(5)])
    result = check(chain((weight, FILLED), OUT, box=box), box, level)
    assert [places(node) for node in selections(result.network)] == [expected]
    assert bias_of(result.network, "z1") == FILLED.tolist()
    assert result.epsilons["y"].any() == (level != Exact())


def test_a_sample_of_several_axes_and_one_position() -> None:
    flat = chain((WEIGHT, BIAS), OUT, box=BOX)
    box = Box(*({"x": ends["x"].reshape(1, 3)} for ends in (BOX.lower, BOX.upper)), "test")
    network = chain((WEIGHT, BIAS), OUT, box=box)
    result = check(network, box, Exact()).network
    assert result.shape("x_read") == (1, 1)
    assert [places(node) for node in selections(result)] == [[0]]
    assert cost(result, network).parameters == cost(exactly(flat, BOX).network, flat).parameters


# Who reads


def test_several_readers_share_a_selection() -> None:
    """What any of them needs is passed on to all of them."""
    b = builder(box_of((-1, 1), (-1, 1), (0, 0), (0, 0)))
    first = put(b, "z1", np.eye(4, 4)[[0, 0, 0]] * [[1], [2], [-1]], [0.5, 0.25, 0.125], "x")
    second = put(b, "z2", np.eye(4, 4)[[1, 1, 1]] * [[1], [2], [-1]], [0.5, 0.25, 0.125], "x")
    total = b.put("s", Add(), [relu(b, "h1", first), relu(b, "h2", second)], (3,))
    network = b.network(put(b, "y", [[1, 2, 3]], [1], total))
    result = check(network, b.box, Exact()).network
    (selection,) = selections(result)
    assert places(selection) == [0, 1]
    assert [node.name for node in result.consumers["x_read"]] == ["node_z1", "node_z2"]
    assert not [node for node in result.consumers["x"] if node is not selection]


def test_who_is_no_dense_layer_reads_the_whole() -> None:
    b = builder(SQUARE)
    z = put(b, "z", [[1, 0], [2, 0], [-3, 0]], [0.5, 0.25, 0.125], "x")
    network = b.network(put(b, "y", [[1, 2, 3]], [1], relu(b, "h", z)), relu(b, "w", "x"))
    result = check(network, b.box, Exact()).network
    assert [places(node) for node in selections(result)] == [[0]]
    assert result.producer["w"].inputs == ("x",)


def test_units_that_are_a_graph_output() -> None:
    """The layer has to stay whole for the output, and its reader leaves out a unit all the same."""
    b = builder(SQUARE)
    units = relu(b, "h", put(b, "z", [[1, 0], [1, 2], [-1, 1]], [0, 0.5, 0.25], "x"))
    after = relu(b, "g", put(b, "v", [[0, 1, -1], [0, 2, -1], [0, -1, 1], [0, -3, 2]], [0.5, -1, 0, 1], units))
    network = b.network(put(b, "y", [[1, 2, 3, -1]], [1], after), units)
    result = check(network, SQUARE, Exact())
    (selection,) = selections(result.network)
    assert (selection.inputs, places(selection)) == (("h",), [1, 2])
    assert result.state.of == {"h_read": "h"}


def test_a_layer_that_lost_units_and_stays_otherwise() -> None:
    """What is selected is counted among the units of the original."""
    b = builder(SQUARE)
    h = relu(b, "h", put(b, "z", [[1, 1], [1, 2], [-1, 1]], [-4, 0.5, 0.25], "x"))
    g = relu(b, "g", put(b, "v", [[1, 2, 0], [1, 1, 0], [1, -1, 0]], [-1, -0.25, 0.5], h))
    total = b.put("s", Add(), [h, put(b, "w", [[1, 1, 1], [1, -2, 3], [2, 1, -1]], [1, 1, 1], g)], (3,))
    network = b.network(put(b, "y", [[0, 2, 3], [0, -1, 2]], [1, 1], total))
    result = check(network, b.box, Exact())
    assert result.state.kept["h"].tolist() == [1, 2]  # the first is inactive, and nobody reads it in the sum
    assert [(node.inputs, places(node)) for node in selections(result.network)] == [(("h",), [0])]
    assert result.state.kept["h_read"].tolist() == [1]


# Where there is none


def test_units_that_may_go_by_themselves_get_no_selection() -> None:
    first = ([[1, 0], [1, 2], [-1, 1]], [0, 0.5, 0.25])
    weight = [[0, 1, -1], [0, 2, -1], [0, -1, 1], [0, -3, 2]]
    result = check(chain(first, (weight, [0.5, -1, 0, 1]), ([[1, 2, 3, -1]], [1]), box=SQUARE), SQUARE, Exact())
    assert not selections(result.network)
    assert result.kept["node_h1"].tolist() == [1, 2]


def test_a_selection_loses_coordinates_by_itself() -> None:
    """None is put behind one, neither of the original's nor of those that were put in."""
    b = builder(SQUARE)
    doubled = b.put("c", Select(np.array([0, 1, 0]), (3,)), ["x"], (3,))
    network = b.network(put(b, "y", [[0, 1, 2], [0, -1, 2]], [1, 1], doubled))
    assert not anywhere(network, b.box)[1].of
    once = anywhere(chain((WEIGHT, BIAS), OUT, box=BOX), BOX)
    assert set(once[1].of) == {"x_read"}
    again = select_inputs(*once, {"x_read": exact_values(*once, {})["x_read"]}, lambda _: lambda _: None)
    assert again is once[1]


def test_new_units_lose_coordinates_by_themselves() -> None:
    original, state = anywhere(chain((WEIGHT[:, [0, 2]], BIAS), OUT, box=SQUARE), SQUARE)
    zeros = np.zeros(1)
    new = Rows("z1", np.ones((1, 5)), zeros, zeros, zeros, np.array([-1]))
    op = replace(dense(state.network, "y"), weight=np.float32([[0, 1, 2, 3, 4]]))
    state = replace(state, network=with_op(state.network, "y", op))
    assert select_inputs(original, state, {}, lambda _: lambda _: None) is not state
    state = replace(state, kept={"h1": np.array([0, 1, 2, 3, -1])}, rows={"h1": new})
    assert select_inputs(original, state, {}, lambda _: lambda _: None) is state


@pytest.mark.parametrize(
    "weight", [[[1, 2], [3, 4], [5, 0]], [[0, 0], [0, 0], [0, 0]]], ids=["all are needed", "none is needed"]
)
def test_all_or_none(weight: Any) -> None:
    network = chain((weight, [1, 1, 1]), box=SQUARE)
    original, state = anywhere(network, SQUARE)
    assert state.network is original.network


def test_all_are_known() -> None:
    """Then nothing would be selected: the layer is a constant, and becomes one elsewhere."""
    box = box_of((1, 1), (2, 2))
    original, state = anywhere(chain(([[1, 2], [3, 0]], [1, 1]), box=box), box)
    assert state.network is original.network


def test_samples_of_several_positions() -> None:
    low, high = (np.array([[end, 0], [end, 0]], dtype=object) for end in (-1, 1))
    box = Box({"x": low}, {"x": high}, "test")
    original, state = anywhere(chain(([[1, 0], [2, 0], [3, 0]], [1, 1, 1]), box=box), box)
    assert state.network is original.network


UNREAD = np.array([[0, 1, 2], [0, 2, 1], [0, 1, -1], [0, -3, 1]])


@pytest.mark.parametrize(
    ("readers", "objective", "expected"),
    [
        (3, "parameters", True),  # 3 weights less, 2 places more
        (2, "parameters", False),  # as many, of twice the bytes
        (2, "macs", True),
        (1, "macs", False),  # more parameters than the original
        (4, "bytes", True),  # 16 less and 16 more, but less of all else
        (3, "bytes", False),
        (4, "nonzeros", True),  # as many, and nothing is more
        (3, "nonzeros", False),  # as many, and 4 bytes more
    ],
)
def test_what_saves_nothing_is_left(readers: int, objective: Objective, expected: bool) -> None:
    box = box_of((-1, 1), (-1, 1), (-1, 1))
    network = chain((UNREAD[:readers], [0.5, 0.25, 1, -1][:readers]), box=box)
    result = exactly(network, box, objective).network
    assert [places(node) for node in selections(result)] == [[1, 2]] * expected


def test_what_the_judge_refuses_is_left() -> None:
    network = chain((WEIGHT, BIAS), OUT, box=BOX)
    proof = prove(network, BOX)
    original, state = Original(network, proof.facts, proof.bounds), Rewritten.nothing_done(network)
    tried = []

    def judge(candidate: Rewritten) -> str:
        tried.extend(places(node) for node in selections(candidate.network))
        return "no"

    assert select_inputs(original, state, exact_values(original, state, {}), lambda _: judge) is state
    assert tried == [[0], [0, 2]]  # with known values filled in, and without


def test_what_it_is_for() -> None:
    """The twin of the tests above: without this step the same network keeps its columns."""
    network = chain((WEIGHT, BIAS), OUT, box=BOX)
    result = rewritten(network, BOX, Exact(), steps=WITHOUT)[0].network
    assert not selections(result)
    assert dense(result, "z1").weight.shape[1] == 3


# Names


@pytest.mark.parametrize("tensor", ["z", "x_read"])
@pytest.mark.parametrize("node", ["first", "x_read"])
def test_names_that_are_taken(tensor: str, node: str) -> None:
    b = builder()
    b.put(tensor, Dense(np.float32(WEIGHT), np.float32(BIAS)), ["x"], (5,))
    b.nodes[0] = replace(b.nodes[0], name=node)
    network = b.network(put(b, "y", *OUT, relu(b, "h", tensor)))
    (selection,) = selections(check(network, b.box, Exact()).network)
    assert selection.name == ("x_read_2" if node == "x_read" else "x_read")
    assert selection.output == ("x_read_2" if tensor == "x_read" else "x_read")


@pytest.mark.parametrize(
    ("taken", "expected"),
    [([], "a"), (["b"], "a"), (["a"], "a_2"), (["a", "a_2"], "a_3"), (["a", "a_3"], "a_2"), (["a_2"], "a")],
)
def test_unused_names(taken: list[str], expected: str) -> None:
    assert unused(taken, "a") == expected


# What is proved is true, whether it saves or not


@given(networks())
def test_selections_anywhere(case: Case) -> None:
    network, box = case
    original, state = anywhere(network, box)
    difference = max_difference(network, state.network, box)
    for exact in (False, True):
        for name, found in epsilons(original, state, exact).items():
            pairs = zip(difference[name], found.tolist(), strict=True)
            assert all(d <= Fraction(e) for d, e in pairs if np.isfinite(e))


def test_another_place_is_not_what_it_stands_for() -> None:
    """The twin: what is not the tensor that it is said to be gets no bound."""
    original, state = anywhere(chain((WEIGHT, BIAS), OUT, box=BOX), BOX)
    assert not epsilons(original, state, exact=True)["y"].any()
    forged = replace(state, network=with_op(state.network, "x_read", Select(np.array([1]), (1,))))
    for exact in (False, True):
        assert np.isinf(epsilons(original, forged, exact)["y"]).all()
