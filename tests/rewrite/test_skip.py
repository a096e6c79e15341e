"""Skips: what reads a layer reads the layer's input beside it. Against the truth, by hand, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import max_difference
from rewriting import check, rewritten
from strategies import Case, box_of, chain, chains

from reluce.domain import Box
from reluce.guarantee import Exact, Level, Roundoff, Within
from reluce.network import Dense, Network, Node, Relu, Select
from reluce.prove import prove
from reluce.rewrite import STEPS, Original, Rewritten, Step, cost
from reluce.rewrite._fold import fold_layer
from reluce.rewrite._relation import epsilons
from reluce.rewrite._skip import skip_layer
from reluce.rewrite._state import Sandwich, sandwich

WITH_SKIPS: tuple[Step, ...] = (*STEPS, "skip")
LEVELS: list[Level] = [Exact(), Roundoff(), Within(1e-6), Within(0.3)]


def original_of(network: Network, box: Box) -> Original:
    proof = prove(network, box)
    return Original(network, proof.facts, proof.bounds)


def around(original: Original, state: Rewritten, relu: str) -> Rewritten | str:
    """A skip around a layer, whether it saves or not."""
    node = next((node for node in state.network.relus if node.name == relu), None)
    pattern = "gone" if node is None else sandwich(original, state, node)
    return skip_layer(original, state, pattern, lambda candidate: None) if isinstance(pattern, Sandwich) else pattern


def true(original: Original, state: Rewritten, box: Box) -> bool:
    """Whether nothing moves by more than is proved, in floats and in exact arithmetic."""
    difference = max_difference(original.network, state.network, box)
    return all(
        d <= Fraction(e)
        for exact in (False, True)
        for name, found in epsilons(original, state, exact).items()
        for d, e in zip(difference[name], found.tolist(), strict=True)
        if np.isfinite(e)
    )


# Where it saves


def wide(seed: int, width: int, unstable: int, readers: int) -> tuple[Network, Box]:
    """A layer with as many active units as inputs, which its readers tell apart, and some that are not stable."""
    generator = np.random.default_rng(seed)
    rows = generator.choice([-2.0, -1.0, 1.0, 2.0, 3.0], (width + unstable, width))
    rows[:width] = np.eye(width) + np.triu(generator.choice([0.0, 1.0], (width, width)), 1)
    bias = np.abs(rows).sum(axis=1) + 1
    bias[width:] = -rows[width:].sum(axis=1) / 2
    second = generator.choice([-3.0, -1.0, 1.0, 2.0], (readers, width + unstable)) + 4 * np.eye(
        readers, width + unstable
    )
    box = box_of(*[(0, 1)] * width)
    return chain((rows, bias), (second, np.zeros(readers)), box=box), box


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_planted_linear_parts_are_read_from_the_input(seed: int, level: Level) -> None:
    width, unstable, readers = 4 + seed, 2, 4 + seed
    network, box = wide(seed, width, unstable, readers)
    plain = rewritten(network, box, level)[0].network
    result = rewritten(network, box, level, steps=WITH_SKIPS)[0]
    first = next(node for node in result.network.relus if node.name == "node_h1")
    assert result.network.shape(first.output) == (unstable,)
    assert result.kept["node_h1"].tolist() == [width, width + 1]
    (joined,) = (node for node in result.network.nodes if isinstance(node.op, Select))
    assert joined.inputs == ("h1", "x")
    assert result.state.skips == {"h1": "x"}
    layers = {node.name: node.op for node in result.network.nodes if isinstance(node.op, Dense)}
    assert layers["node_z1"].weight.shape == (unstable, width)
    assert layers["node_y"].weight.shape[1] == unstable + width
    whole, less = cost(plain, network), cost(result.network, network)
    assert less.parameters < whole.parameters
    assert less.macs < whole.macs
    if level == Exact():
        assert not result.epsilons["y"].any()


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_truth_about_what_is_skipped(seed: int, level: Level) -> None:
    network, box = wide(seed, 2, 1, 2)
    result = check(network, box, level, WITH_SKIPS)
    assert result.state.skips == {"h1": "x"}


def test_nothing_is_skipped_unless_it_is_asked_for() -> None:
    network, box = wide(0, 4, 2, 4)
    result = rewritten(network, box, Exact())[0]
    assert not result.state.skips
    assert not any(isinstance(node.op, Select) for node in result.network.nodes)


# What is proved is true, whether it saves or not


@given(chains(layers=2, units=5), st.integers(1, 2))
def test_skips_around_any_layer(case: Case, layer: int) -> None:
    network, box = case
    original = original_of(network, box)
    state = around(original, Rewritten.nothing_done(network), f"node_h{layer}")
    assume(isinstance(state, Rewritten))  # hypothesis fails where that is hardly ever so
    assert isinstance(state, Rewritten)
    assert true(original, state, box)


@given(chains(layers=3, units=4))
def test_skips_around_what_is_rewritten(case: Case) -> None:
    network, box = case
    original = original_of(network, box)
    state = rewritten(network, box, Exact())[0].state
    for name in ("node_h1", "node_h2", "node_h3"):
        found = around(original, state, name)
        state = found if isinstance(found, Rewritten) else state
    assert true(original, state, box)


BOX = box_of((0, 1), (0, 1))
MIXED = ([[1, 0], [1, 1], [1, -1]], [1, 1, 0])  # two active units, and one that is not stable
OUT = ([[1, 2, 3], [-1, 1, 2]], [0.5, 1])
NETWORK = chain(MIXED, OUT, box=BOX)


def by_hand() -> tuple[Original, Rewritten]:
    original = original_of(NETWORK, BOX)
    state = around(original, Rewritten.nothing_done(NETWORK), "node_h1")
    assert isinstance(state, Rewritten)
    return original, state


@pytest.mark.parametrize("exact", [True, False])
def test_a_skip_by_hand(exact: bool) -> None:
    original, state = by_hand()
    op = state.network.producer["y"].op
    assert isinstance(op, Dense)
    assert op.weight.tolist() == [[3, 3, 2], [2, 0, 1]]  # 1 (x + 1) + 2 (x + y + 1) = 3 x + 2 y + 3
    assert op.bias is not None
    assert op.bias.tolist() == [3.5, 1]
    assert state.kept["h1_and_input"].tolist() == [2, -1, -1]
    found = epsilons(original, state, exact)["y"]
    assert not found.any() if exact else 0 < found.max() < 1e-13


def test_a_layer_in_front_that_was_folded() -> None:
    """What is read from the input stands for something two layers of the original further in front."""
    front = ([[1, 0], [1, 2]], [1, 1])
    rows, bias = np.array([[1, 0], [1, 1], [1, -1]]), np.array([1.0, 1.0, 0.5])
    network = chain(front, (rows, bias), OUT, box=BOX)
    original, state = original_of(network, BOX), Rewritten.nothing_done(network)
    pattern = sandwich(original, state, network.producer["h1"])
    assert isinstance(pattern, Sandwich)
    folded = fold_layer(state, pattern, True, lambda candidate: None)
    assert isinstance(folded, Rewritten)
    result = around(original, folded, "node_h2")
    assert isinstance(result, Rewritten)
    assert result.skips == {"h2": "x"}
    assert not epsilons(original, result, exact=True)["y"].any()
    assert epsilons(original, result, exact=False)["y"].max() < 1e-13
    assert true(original, result, BOX)


def changed(state: Rewritten, name: str, op: Dense | Select, inputs: tuple[str, ...] | None = None) -> Rewritten:
    def one(node: Node) -> Node:
        return replace(node, op=op, inputs=inputs or node.inputs) if node.output == name else node

    return replace(state, network=replace(state.network, nodes=tuple(map(one, state.network.nodes))))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_another_weight_shows(column: int, exact: bool) -> None:
    original, state = by_hand()
    op = state.network.producer["y"].op
    assert isinstance(op, Dense)
    weight = op.weight.copy()
    weight[0, column] += 0.25
    other = changed(state, "y", replace(op, weight=weight))
    found = epsilons(original, other, exact)["y"]
    assert found[0] >= (np.inf if exact else 0.25)
    assert exact or found[1] < 1e-13


@pytest.mark.parametrize(
    "indices",
    [[0, 2, 1], [1, 0, 2], [0, 1, 1], [0, 0, 2]],
    ids=str,
)
def test_another_selection_is_not_what_it_stands_for(indices: list[int]) -> None:
    original, state = by_hand()
    other = changed(state, "h1_and_input", Select(np.array(indices), (3,)))
    assert np.isinf(epsilons(original, other, exact=False)["y"]).all()


@pytest.mark.parametrize("forged", ["other row", "sum", "factor", "shift", "twice", "other tensor", "turned"])
def test_rows_that_are_no_coordinates(forged: str) -> None:
    original, state = by_hand()
    rows = state.rows["h1_and_input"]
    matrix, shift, turned, over = rows.matrix.copy(), rows.shift.copy(), rows.turned.copy(), rows.over
    match forged:
        case "other row":
            matrix = matrix[::-1].copy()
        case "sum":
            matrix[0] = 1.0
        case "factor":
            matrix[0] *= 2.0
        case "shift":
            shift[0] = 1.0
        case "twice":
            matrix[1] = matrix[0]
        case "other tensor":
            over, matrix = "y", matrix.copy()
        case "turned":
            turned[0] = 0
    other = replace(rows, over=over, matrix=matrix, shift=shift, turned=turned)
    state = replace(state, rows={**state.rows, "h1_and_input": other})
    for exact in (True, False):
        assert np.isinf(epsilons(original, state, exact)["y"]).all()


@pytest.mark.parametrize("kept", [[2, -1, -2], [-2, -1, -1], [2, -1], [2, -1, -1, -1], [2, 0, -1, -1]], ids=str)
def test_a_map_that_does_not_fit(kept: list[int]) -> None:
    """Neither other marks than -1, nor more or fewer places than the selection has."""
    original, state = by_hand()
    state = replace(state, kept={**state.kept, "h1_and_input": np.array(kept)})
    for exact in (True, False):
        assert np.isinf(epsilons(original, state, exact)["y"]).all()


# What is refused


@pytest.mark.parametrize(
    ("rows", "bias", "why"),
    [
        ([[1, -1], [2, -1]], [0, 0], "it has no active units"),
        ([[1, 1], [2, 1]], [1, 1], "all of it is linear"),
    ],
)
def test_layers_without_a_skip(rows: list[list[float]], bias: list[float], why: str) -> None:
    network = chain((rows, bias), ([[1, 2], [2, -1]], [0, 0]), box=BOX)
    assert around(original_of(network, BOX), Rewritten.nothing_done(network), "node_h1") == why


def test_a_skip_around_a_skip() -> None:
    network = chain(MIXED, ([[1, 2, 3], [-1, 1, -2], [1, 1, -1]], [9, 0, 0]), ([[1, 2, 3]], [0]), box=BOX)
    original = original_of(network, BOX)
    state = around(original, Rewritten.nothing_done(network), "node_h1")
    assert isinstance(state, Rewritten)
    assert around(original, state, "node_h2") == "its input has new units, or is the result of a skip itself"


def test_a_layer_on_several_positions() -> None:
    box = box_of((0, 1), (0, 1))
    whole = Box({"x": np.tile(box.lower["x"], (2, 1))}, {"x": np.tile(box.upper["x"], (2, 1))})
    network = chain(MIXED, OUT, box=whole)
    found = around(original_of(network, whole), Rewritten.nothing_done(network), "node_h1")
    assert found == "the layer has several positions"


def test_what_would_not_save_is_refused_and_says_so() -> None:
    """One active unit on three inputs for three readers costs less than the product."""
    cube = box_of(*[(0, 1)] * 3)
    rows = [[1, 1, 1], [1, -1, 0.5], [-1, 1, 0.5], [0.5, -1, 1]]
    readers = [[1, 2, 3, 1], [-1, 1, 2, -1], [1, 1, -2, 3]]
    result = rewritten(chain((rows, [1, 0, 0, 0]), (readers, [0, 0, 0]), box=cube), cube, Exact(), steps=WITH_SKIPS)[0]
    (refusal,) = [refusal for refusal in result.refusals if refusal.what == "no skip"]
    assert refusal.where == "h1"
    assert refusal.why.startswith("it would not save: ")
    assert any(isinstance(node.op, Relu) for node in result.network.nodes)
