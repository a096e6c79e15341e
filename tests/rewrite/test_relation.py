"""The relation must see through forged rewrites: what it lets pass is no further from the original than it says."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import max_difference
from strategies import Builder, Case, box_of, chain, chains, graphs

from reluce.domain import Box
from reluce.errors import ModelError
from reluce.network import Affine, Array, Dense, Network, Node
from reluce.prove import prove
from reluce.rewrite import Original, _relation, rewrite, uniform_budget
from reluce.rewrite._relation import epsilons
from reluce.rewrite._rewrite import _Work
from reluce.rewrite._state import Rewritten

RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def prepared(network: Network, box: Box, budget: float | None = None) -> tuple[Original, Rewritten]:
    proof = prove(network, box)
    original = Original(network, proof.facts, proof.bounds)
    return original, _Work(original, uniform_budget(network, budget or 0), lambda: False).run()


def judge(original: Original, forged: Rewritten, box: Box, exact: bool) -> None:
    """Whatever is claimed of a forgery must hold."""
    try:
        claimed = epsilons(original, forged, exact)
    except ModelError:
        return  # refused outright
    difference = max_difference(original.network, forged.network, box)
    for name, values in claimed.items():
        for bound, truth in zip(values.ravel().tolist(), difference[name], strict=True):
            assert bound == np.inf or truth <= Fraction(bound)


def with_op(state: Rewritten, node: Node, op: Any) -> Rewritten:
    nodes = tuple(replace(n, op=op) if n is node else n for n in state.network.nodes)
    return replace(state, network=replace(state.network, nodes=nodes))


def nudged(values: Array, generator: np.random.Generator) -> Array:
    """One entry moved by one unit in the last place, or by a lot."""
    changed = np.array(values)
    index = generator.integers(changed.size)
    entry = changed.flat[index]
    changed.flat[index] = np.nextafter(entry, np.float32(np.inf)) if generator.random() < 0.5 else entry + 1
    return changed


@pytest.mark.parametrize("budget", [None, 0.5])
@given(case=st.one_of(chains(), graphs()), generator=RANDOM)
def test_a_changed_parameter(budget: float | None, case: Case, generator: np.random.Generator) -> None:
    network, box = case
    original, state = prepared(network, box, budget)
    for node in state.network.nodes:
        if isinstance(node.op, Dense):
            changes = [replace(node.op, weight=nudged(node.op.weight, generator))]
            if node.op.bias is not None:
                changes.append(replace(node.op, bias=nudged(node.op.bias, generator)))
            for op in changes:
                judge(original, with_op(state, node, op), box, budget is None)


@given(chains(layers=2), RANDOM, st.booleans())
def test_a_permuted_map(case: Case, generator: np.random.Generator, exact: bool) -> None:
    network, box = case
    original, state = prepared(network, box)
    for name in state.network.tensors:
        if name.startswith("z"):
            both = {name: generator.permutation(state.coordinates(name))}
            both["h" + name[1:]] = both[name]
            judge(original, replace(state, kept={**state.kept, **both}), box, exact)


def test_a_map_that_a_relu_does_not_follow() -> None:
    """The map of h is permuted together with the weights behind it, that of z is not: the function changes."""
    box = box_of((-1, 1), (-1, 1))
    network = chain(([[1, 0], [0, 1]], [0, 0]), ([[1, 2]], [0]), box=box)
    original, state = prepared(network, box)
    last = state.network.nodes[-1]
    assert isinstance(last.op, Dense)
    forged = with_op(state, last, replace(last.op, weight=last.op.weight[:, ::-1]))
    judge(original, replace(forged, kept={**forged.kept, "h1": forged.coordinates("h1")[::-1]}), box, exact=True)


def test_outputs_in_another_order() -> None:
    box = box_of((-1, 1), (-1, 1))
    network = chain(([[1, 0], [0, 1]], [0, 0]), ([[1, 2], [3, 4]], [0, 0]), box=box)
    original, state = prepared(network, box)
    last = state.network.nodes[-1]
    assert isinstance(last.op, Dense)
    forged = with_op(state, last, replace(last.op, weight=last.op.weight[::-1]))
    judge(original, replace(forged, kept={**forged.kept, "y": forged.coordinates("y")[::-1]}), box, exact=True)


def test_a_changed_elementwise_parameter() -> None:
    box = box_of((-1, 1))
    b = Builder(np.random.default_rng(0), box)
    b.put("a", Affine(np.array([2], np.float32), np.array([1], np.float32)), ["x"], (1,))
    original, state = prepared(b.network("a"), box)
    judge(original, with_op(state, state.network.nodes[0], Affine(np.array([3], np.float32), None)), box, exact=True)


def test_the_judge_itself_must_fail_on_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    box = box_of((-1, 1))
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [0]), box=box)
    original, state = prepared(network, box)
    last = state.network.nodes[-1]
    assert isinstance(last.op, Dense)
    forged = with_op(state, last, replace(last.op, weight=last.op.weight + 1))
    monkeypatch.setitem(globals(), "epsilons", lambda *_: {"y": np.zeros(1)})
    with pytest.raises(AssertionError):
        judge(original, forged, box, exact=True)


def test_what_overflows_is_not_equal() -> None:
    # A fold would need 1e20 * 1e20, which is no float32; the second input is fixed at 0, so that 0 * inf lurks.
    low, high = (np.array([Fraction(a), Fraction(0)], dtype=object) for a in (1, 2))
    box = Box({"x": low}, {"x": high})
    network = chain(([[1, 1e20]], None), ([[1e20]], [-1.5e20]), ([[1e-20]], None), box=box)
    proof = prove(network, box)
    for budget in (None, 1e-9, 1.0):
        result = rewrite(Original(network, proof.facts, proof.bounds), uniform_budget(network, budget or 0))
        assert result.epsilons["y"] <= (budget or 0.0)
        for node in result.network.nodes:
            weight = getattr(node.op, "weight", np.zeros(1))
            assert np.isfinite(weight).all()


def test_what_cannot_be_computed_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain(([[1]], None), ([[1]], None), box=(box := box_of((0, 1))))
    proof = prove(network, box)
    original, whole = Original(network, proof.facts, proof.bounds), Rewritten.nothing_done(network)
    assert epsilons(original, whole, exact=False)["y"] == 0
    monkeypatch.setattr(_relation, "_node_deviation", lambda *_: np.array([np.nan]))
    assert np.isinf(epsilons(original, whole, exact=False)["y"]).all()
