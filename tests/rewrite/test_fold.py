"""Linear layers become one: dense layers with nothing between them. (Layers of active units: test_lossless_cases.)"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import max_difference
from rewriting import check, rewritten
from strategies import Builder, box_of, builders

from reluce.domain import Box
from reluce.guarantee import Exact, Level, Roundoff, Within
from reluce.network import Array, Dense, Network, Node, Relu, Tensor, validate
from reluce.prove import prove
from reluce.rewrite import Original, Rewritten, cost
from reluce.rewrite._fold import fold_linear
from reluce.rewrite._relation import epsilons

LEVELS: list[Level] = [Exact(), Roundoff(), Within(1e-6), Within(0.3)]
BOX = box_of((0, 1), (-1, 1))


def network_of(*layers: tuple[str, str, str, Array], outputs: tuple[str, ...] = ("y",), inputs: int = 2) -> Network:
    """``(name, "dense" or "relu", source, weight)`` for each tensor; biases are 1, 2, ..."""
    tensors = {"x": Tensor("x", (inputs,), np.dtype(np.float32))}
    nodes = []
    for name, kind, source, weight in layers:
        op = Relu() if kind == "relu" else Dense(weight, np.arange(1, len(weight) + 1, dtype=np.float32))
        shape = tensors[source].shape if kind == "relu" else (len(weight),)
        nodes.append(Node(f"node_{name}", op, (source,), (name,)))
        tensors[name] = Tensor(name, shape, np.dtype(np.float32))
    return validate(Network(("x",), outputs, tuple(nodes), tensors))


def array(rows: object) -> Array:
    return np.array(rows, dtype=np.float32)


NONE = array([])
FIRST, SECOND = array([[1, 2], [3, -1], [0.5, 1]]), array([[1, 1, 2], [0, -1, 4]])


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_two_dense_layers_are_one(level: Level) -> None:
    network = network_of(("a", "dense", "x", FIRST), ("y", "dense", "a", SECOND))
    result = check(network, BOX, level)
    (node,) = result.network.nodes
    assert isinstance(node.op, Dense)
    assert node.inputs == ("x",)
    assert node.op.weight.tolist() == (SECOND @ FIRST).tolist()
    assert node.op.bias is not None
    assert node.op.bias.tolist() == [1 + 2 + 6 + 1, -2 + 12 + 2]
    if level == Exact():
        assert not result.epsilons["y"].any()


def test_several_in_a_row_and_several_readers() -> None:
    network = network_of(
        ("a", "dense", "x", FIRST),
        ("b", "dense", "a", array(np.eye(3))),
        ("z", "dense", "b", SECOND),
        ("h", "relu", "z", NONE),
        ("y", "dense", "h", array([[1, 1]])),
        ("w", "dense", "b", array([[1, 2, 3]])),
        outputs=("y", "w"),
    )
    result = check(network, BOX, Exact())
    assert {node.output: node.inputs for node in result.network.nodes} == {"y": ("x",), "w": ("x",)}


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (
            network_of(("a", "dense", "x", array([[1, 2]])), ("y", "dense", "a", array([[1], [2], [3], [4]]))),
            r"folding would need more parameters \(12 instead of 11\)",
        ),
        (network_of(("a", "dense", "x", FIRST / 3), ("y", "dense", "a", SECOND / 3)), "not exactly representable"),
    ],
)
def test_layers_that_stay(network: Network, why: str) -> None:
    found = fold_linear(Rewritten.nothing_done(network), network.nodes[0], True, lambda candidate: None)
    assert isinstance(found, str)
    assert re.search(why, found)


@pytest.mark.parametrize(
    "network",
    [
        network_of(("a", "dense", "x", FIRST), ("y", "dense", "a", SECOND), outputs=("y", "a")),
        network_of(("a", "dense", "x", FIRST), ("h", "relu", "a", NONE), ("y", "dense", "h", SECOND)),
    ],
)
def test_what_others_read_is_not_for_folding(network: Network) -> None:
    state = Rewritten.nothing_done(network)
    assert fold_linear(state, network.nodes[0], True, lambda candidate: None) is None


def test_a_narrow_layer_stays() -> None:
    """One number between four and four is no product of sixteen."""
    narrow = network_of(
        ("a", "dense", "x", array([[1, -2, 3, 1]])),
        ("z", "dense", "a", array([[1], [-2], [3], [4]])),
        ("h", "relu", "z", NONE),
        ("y", "dense", "h", array([[1, 1, 2, 1]])),
        inputs=4,
    )
    box = box_of(*[(-1, 1)] * 4)
    result = rewritten(narrow, box, Within(1e-3))[0]
    assert cost(result.network, narrow).parameters <= cost(narrow, narrow).parameters
    assert result.network.producer["z"].inputs == ("a",)
    (refusal,) = [refusal for refusal in result.refusals if refusal.where == "a"]
    assert refusal.what == "dense layers in a row not made one"
    assert refusal.why.startswith("folding would need more parameters")


@pytest.mark.parametrize("exact", [True, False])
def test_another_product_shows(exact: bool) -> None:
    network = network_of(("a", "dense", "x", FIRST), ("y", "dense", "a", SECOND))
    proof = prove(network, BOX)
    original = Original(network, proof.facts, proof.bounds)
    folded = fold_linear(Rewritten.nothing_done(network), network.nodes[0], True, lambda candidate: None)
    assert isinstance(folded, Rewritten)
    assert not epsilons(original, folded, exact=True)["y"].any()
    op = folded.network.nodes[0].op
    assert isinstance(op, Dense)
    weight = op.weight.copy()
    weight[0, 1] += 0.5  # of an input in [-1, 1]
    changed = replace(folded.network.nodes[0], op=replace(op, weight=weight))
    other = replace(folded, network=replace(folded.network, nodes=(changed,)))
    found = epsilons(original, other, exact)["y"]
    assert found[0] >= (np.inf if exact else 0.5)
    assert found[1] < 1e-12


def lines(b: Builder, widths: list[int], relus: list[bool]) -> Network:
    last = "x"
    for depth, (width, active) in enumerate(zip(widths, relus, strict=True)):
        last = b.dense(f"z{depth}", last, width)
        last = b.relu(f"h{depth}", last) if active else last
    return b.network(b.dense("y", last, 2))


@given(
    builders(), st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=4), st.sampled_from(LEVELS)
)
def test_the_truth_about_dense_layers_in_a_row(b: Builder, layers: list[tuple[int, bool]], level: Level) -> None:
    network = lines(b, [width for width, _ in layers], [active for _, active in layers])
    check(network, b.box, level)


@given(builders(), st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=3))
def test_the_truth_where_it_does_not_save(b: Builder, layers: list[tuple[int, bool]]) -> None:
    network = lines(b, [width for width, _ in layers], [active for _, active in layers])
    proof = prove(network, b.box)
    original, state = Original(network, proof.facts, proof.bounds), Rewritten.nothing_done(network)
    for node in network.nodes:
        now = state.network.producer.get(node.output)
        if now is not None and isinstance(now.op, Dense):
            found = fold_linear(state, now, False, lambda candidate: None)
            state = found if isinstance(found, Rewritten) else state
    assert_true(original, state, b.box)


def assert_true(original: Original, state: Rewritten, box: Box) -> None:
    difference = max_difference(original.network, state.network, box)
    for exact in (False, True):
        for name, found in epsilons(original, state, exact).items():
            for d, e in zip(difference[name], found.tolist(), strict=True):
                assert not np.isfinite(e) or d <= Fraction(e)
