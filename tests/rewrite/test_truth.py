"""Rewritten networks against the original, by the exact largest difference over the domain. No tolerance anywhere."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import rewriting
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rewriting import check, rewritten, size, units
from strategies import Builder, Case, box_of, chain, chains, graphs, networks

from reluce.domain import Box
from reluce.guarantee import Exact, Level, Roundoff, Within
from reluce.network import Dense, Network, Node
from reluce.prove import prove
from reluce.rewrite import Rewriting

LEVELS = st.sampled_from([Exact(), Roundoff(), Roundoff(), *map(Within, (1e-6, 1e-3, 0.5, 8.0))])


def exactly(network: Network, box: Box) -> Rewriting:
    return rewritten(network, box, Exact())[0]


@given(chains(), LEVELS)
def test_random_chains(case: Case, level: Level) -> None:
    check(*case, level)


@given(networks())
def test_random_networks_exactly(case: Case) -> None:
    check(*case, Exact())


@given(graphs(), LEVELS)
def test_random_graphs(case: Case, level: Level) -> None:
    check(*case, level)


@pytest.mark.long
@settings(max_examples=2000)
@given(networks(), LEVELS)
def test_many_random_networks(case: Case, level: Level) -> None:
    check(*case, level)


@given(networks())
def test_a_second_run_with_the_same_verdicts_changes_nothing(case: Case) -> None:
    network, box = case
    facts = prove(network, box).facts.layers
    once = exactly(network, box)
    again = prove(once.network, box).facts.layers
    for name, layer in again.items():  # tighter bounds may decide more units of a smaller network
        assume(layer.verdict.tolist() == facts[name].verdict[once.kept[name]].tolist())
    assert exactly(once.network, box).network.digest == once.network.digest


def test_a_second_run_finds_no_unit_that_is_zero_everywhere() -> None:
    box = box_of((0, 1), ("1/4", "5/4"))
    b = Builder(np.random.default_rng(0), box)
    first = Dense(np.array([[0.0029296875, 2.0**-18], [0.75, 0.25], [0, 0]], np.float32), np.float32([0, -0.5, 0]))
    h = b.relu("h1", put_dense(b, "z1", first, "x"))
    c = b.select("c", [h], [1, 2, 0, 0])
    zero = Dense(np.array([[-1.5, 0, 1, -1], [0, 4, 2, -2]], np.float32), np.float32([-0.5, 0]))
    g = b.relu("h2", put_dense(b, "z2", zero, c))
    network = b.network(put_dense(b, "y", Dense(np.array([[1, 0.5], [-1, 0]], np.float32)), g))
    once = exactly(network, box).network
    assert "z2" not in once.producer
    assert exactly(once, box).network.digest == once.digest


def put_dense(b: Builder, name: str, op: Dense, source: str) -> str:
    b.low[name] = b.high[name] = [Fraction(0)] * len(op.weight)  # no bias is drawn from them
    return b.put(name, op, [source], (len(op.weight),))


@given(networks())
def test_nothing_grows(case: Case) -> None:
    network, box = case
    result = exactly(network, box).network
    assert size(result) <= size(network)
    assert units(result) <= units(network)


@pytest.mark.parametrize("level", [Exact(), Roundoff(), Within(1e-9)], ids=str)
def test_the_check_can_fail(level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    box = box_of((-1, 1))
    network = chain(([[1], [2]], [0, -8]), ([[1, 1]], [1]), box=box)
    honest = check(network, box, level)
    allowed = rewritten(network, box, level)[1]

    def nudged(node: Node) -> Node:
        op = node.op
        if node.output != "y" or not isinstance(op, Dense) or op.bias is None:
            return node
        return replace(node, op=replace(op, bias=np.nextafter(op.bias, np.float32(2))))

    nodes = tuple(nudged(node) for node in honest.network.nodes)
    forged = replace(honest, state=replace(honest.state, network=replace(honest.network, nodes=nodes)))
    monkeypatch.setattr(rewriting, "rewritten", lambda *_, **__: (forged, allowed))
    with pytest.raises(AssertionError):
        check(network, box, level)
