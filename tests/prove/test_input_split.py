"""Input splitting: what it proves is true, it finishes on small networks, and its trees cover the box."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import ranges
from strategies import Builder, Case, box_of, chain, networks

from reluce.bounds import Bounds, SubBoxes, analyse
from reluce.domain import Box
from reluce.facts import Verdict
from reluce.network import Array, Dense, Network, Node, Relu
from reluce.prove import prove
from reluce.prove._input_split import InputSplit, SplitSettings, split_inputs
from reluce.prove._split_tree import LEAF, SplitTree, halves

RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)
SMALL = SplitSettings(batch=16, boxes=2000, sample=32)


def goals_of(bounds: Bounds, node: Node) -> tuple[Array, Array]:
    z = bounds.intervals[node.inputs[0]]
    open_ = np.flatnonzero(((z.lower < 0) & (z.upper > 0)).ravel())
    return np.tile(open_, 2), np.repeat([1, -1], len(open_))


def split(network: Network, box: Box, node: Node, **kind: object) -> tuple[InputSplit, Array, Array]:
    bounds = analyse(network, box, stop=lambda: True)
    units, signs = goals_of(bounds, node)
    kind = {"settings": SMALL, **kind}
    return split_inputs(network, box, bounds, node, units, signs, np.random.default_rng(0), **kind), units, signs  # type: ignore[arg-type]


def check_tree(tree: SplitTree, box: Box, proved: Array) -> None:
    """Walk the tree: children share a point of their parent, and every path meets a node that closes the goal."""
    low, high = (np.concatenate([ends[side].ravel() for ends in box.outer.values()]) for side in (0, 1))
    fixed = np.concatenate([(box.lower[name] == box.upper[name]).ravel() for name in box.lower])
    waiting = [(0, low[~fixed], high[~fixed], np.zeros(len(proved), dtype=bool))]
    seen = []
    while waiting:
        node, low, high, closed = waiting.pop()
        seen.append(node)
        closed = closed | tree.closed[node]
        if tree.dimension[node] == LEAF:
            assert (closed >= proved).all()
            continue
        d, point = tree.dimension[node], tree.point[node]
        assert low[d] <= point <= high[d]
        left, right = high.copy(), low.copy()
        left[d] = right[d] = point
        waiting += [(int(tree.child[node]), low, left, closed), (int(tree.child[node]) + 1, right, high, closed)]
    assert sorted(seen) == list(range(len(tree.child)))


def check_trees(result: InputSplit, box: Box) -> None:
    """Every goal that is proved is proved by a tree."""
    by_trees = np.zeros(len(result.proved), dtype=bool)
    for goals, tree in result.trees:
        by_trees[goals] = tree.proved()
        check_tree(tree, box, tree.proved())
    assert np.array_equal(by_trees, result.proved)


@given(networks())
@settings(deadline=None, max_examples=30)
def test_what_is_proved_is_true(case: Case) -> None:
    network, box = case
    truth = ranges(network, box)
    for node in network.relus:
        result, units, signs = split(network, box, node)
        least, most = truth[node.inputs[0]]
        for unit, sign, proved in zip(units, signs, result.proved, strict=True):
            if proved:
                assert most[unit] <= 0 if sign > 0 else least[unit] >= 0
        check_trees(result, box)
        assert ((result.volume == 1) >= result.proved).all()


@given(networks())
@settings(deadline=None, max_examples=30)
def test_it_finishes_where_there_is_a_margin(case: Case) -> None:
    network, box = case
    truth = ranges(network, box)
    node = network.relus[-1]
    result, units, signs = split(network, box, node)
    least, most = truth[node.inputs[0]]
    for unit, sign, proved in zip(units, signs, result.proved, strict=True):
        width = float(most[unit] - least[unit])
        margin = float(-most[unit] if sign > 0 else least[unit])
        if margin > width / 16:
            assert proved


def tent() -> tuple[Network, Box]:
    """``|s| + |t| - 3`` on [-1, 1]^2: at most -1, but with a loose bound; and its negative."""
    box = box_of((-1, 1), (-1, 1))
    first = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    second = [[3.0, 3.0, -1.0, -1.0], [-3.0, -3.0, 1.0, 1.0]]
    return chain((first, None), (second, [-3.5, 3.5]), ([[1.0, 1.0]], None), box=box), box


def test_one_tree_for_all_goals() -> None:
    network, box = tent()
    result, units, signs = split(network, box, network.relus[-1])
    assert sorted(zip(units.tolist(), signs.tolist(), strict=True)) == [(0, -1), (0, 1), (1, -1), (1, 1)]
    proved = {(int(u), int(s)) for u, s, p in zip(units, signs, result.proved, strict=True) if p}
    assert proved == {(0, 1), (1, -1)} or proved == set()


def test_a_tree_with_a_hole_proves_nothing() -> None:
    dimension, point = np.array([0, LEAF, LEAF]), np.array([0.0, 0.0, 0.0])
    tree = SplitTree(dimension, point, np.array([1, LEAF, LEAF]), np.array([[False], [True], [True]]))
    assert tree.proved().tolist() == [True]
    assert tree.volume().tolist() == [1.0]
    hole = replace(tree, closed=np.array([[False], [True], [False]]))
    assert hole.proved().tolist() == [False]
    assert hole.volume().tolist() == [0.5]
    with pytest.raises(AssertionError):
        check_tree(hole, box_of((-1, 1)), np.array([True]))
    with pytest.raises(AssertionError):
        check_tree(replace(tree, point=np.array([2.0, 0.0, 0.0])), box_of((-1, 1)), np.array([True]))


def deep() -> tuple[Network, Box]:
    """A network of which input splitting has something to prove."""
    generator = np.random.default_rng(4)
    box = box_of((-1, 1), (-1, 1))
    layers = [(generator.normal(size=(8, n)), generator.normal(size=8) / 2) for n in (2, 8, 8)]
    network = chain(*layers, ([[1.0] * 8], None), box=box, dtype=np.float64)
    least, most = ranges(network, box)["z3"]
    shift = [-float(b) - 0.02 * float(b - a) for a, b in zip(least, most, strict=True)]
    layers[-1] = (layers[-1][0], layers[-1][1] + shift)
    return chain(*layers, ([[1.0] * 8], None), box=box, dtype=np.float64), box


def test_margins_of_a_fiftieth() -> None:
    network, box = deep()
    result, _, signs = split(network, box, network.relus[-1], settings=replace(SMALL, boxes=50_000))
    assert len(signs) > 4
    assert (result.proved == (signs > 0)).all()
    check_trees(result, box)
    assert result.boxes > sum(len(tree.child) for _, tree in result.trees) > 10
    assert (result.estimate[signs > 0] < 50_000).all()


def test_the_same_seed_gives_the_same_tree() -> None:
    network, box = deep()
    first, second = (split(network, box, network.relus[-1])[0] for _ in range(2))
    assert first.boxes == second.boxes
    for (goals, tree), (others, other) in zip(first.trees, second.trees, strict=True):
        assert np.array_equal(goals, others)
        assert np.array_equal(tree.closed, other.closed)


def test_stop_and_budget_are_honoured() -> None:
    network, box = deep()
    stopped, *_ = split(network, box, network.relus[-1], stop=lambda: True)
    assert stopped.boxes == 0
    assert not stopped.proved.any()
    asked = iter([False] * 12)
    cut, *_ = split(network, box, network.relus[-1], stop=lambda: next(asked, True))
    assert 0 < cut.boxes <= 12 * SMALL.sample
    poor, *_ = split(network, box, network.relus[-1], settings=replace(SMALL, boxes=20))
    assert not poor.proved.any()
    few, *_ = split(network, box, network.relus[-1], settings=replace(SMALL, most_inputs=1))
    assert few.boxes == 0


def test_goals_with_a_witness_are_dropped() -> None:
    network, box = deep()
    shown = []

    def found(points: Mapping[str, Array]) -> Array:
        shown.append(points["x"])
        return np.ones(count, dtype=bool)

    count = len(goals_of(analyse(network, box, stop=lambda: True), network.relus[-1])[0])
    result, *_ = split(network, box, network.relus[-1], found=found)
    assert len(shown) == 1
    assert not result.proved.any()
    assert (np.abs(np.concatenate(shown)) <= 1).all()


def test_a_maximum_of_exactly_zero() -> None:
    """The same unit twice, with opposite signs: rounding hides that nothing is left, exact replay shows it."""
    box = box_of((-1, 1), (-1, 1))
    first = [[0.1, 0.3], [0.1, 0.3]]
    network = chain((first, [1.0, 1.0]), ([[1.0, -1.0]], None), ([[1.0]], None), box=box)
    result, units, _ = split(network, box, network.relus[-1])
    assert len(units) == 2
    assert result.proved.all()
    without, *_ = split(network, box, network.relus[-1], settings=replace(SMALL, exact=0, deepest=8))
    assert not without.proved.any()


def covers(whole: SubBoxes, below: SubBoxes, above: SubBoxes, dimension: Array, point: Array) -> bool:
    """Whether two halves are the whole but for one input, where they share the point."""
    rows = np.arange(len(whole))
    high, low = whole.high.copy(), whole.low.copy()
    high[rows, dimension] = low[rows, dimension] = point
    ends = ((below.low, whole.low), (below.high, high), (above.low, low), (above.high, whole.high))
    return all(np.array_equal(mine, due) for mine, due in ends)


@given(RANDOM)
def test_halves_cover(generator: np.random.Generator) -> None:
    low = generator.normal(size=(5, 3)) * 10.0 ** generator.integers(-5, 5)
    high = low + generator.choice([0.0, 1e-9, 1.0], (5, 3))
    high[:, 1] = np.maximum(high[:, 1], np.nextafter(low[:, 1], np.inf))
    whole = SubBoxes(low, high, np.zeros((5, 0)), np.zeros((5, 0)))
    below, above, dimension, point = halves(whole, generator.choice([0.0, 1.0, 2.0], (5, 3)))
    assert covers(whole, below, above, dimension, point)
    assert (high > low)[np.arange(5), dimension].all()
    assert ((low <= high) & (below.low <= below.high) & (above.low <= above.high)).all()
    gap = replace(above, low=np.nextafter(above.low, np.inf))
    assert not covers(whole, below, gap, dimension, point)


def wild(*factors: float, bias: float = 0.0, box: Box) -> Network:
    """``relu(x)`` times each factor in turn, with no ReLU in between, plus a bias; float64."""
    b = Builder(np.random.default_rng(0), box, dtype=np.float64)
    last = b.put("h", Relu(), [b.put("z", Dense(np.array([[1.0, 0.0]])), ["x"], (1,))], (1,))
    for number, factor in enumerate(factors, 1):
        offset = np.array([bias if number == len(factors) else 0.0])
        last = b.put(f"t{number}", Dense(np.array([[factor]]), offset), [last], (1,))
    return b.network(b.put("y", Relu(), [last], (1,)))


THIRD = ("1/3", "1/3")  # no float64: the box has no points, so that no witness can hide a false proof
OVERFLOWS = box_of(("1e-210", "3e-210"), THIRD)
VANISHES = box_of(("-1e150", "1e150"), THIRD)
WILD = {
    "coefficients overflow": (
        chain(([[1e200, 0.0]], [-2e-10]), ([[-1e200]], [5e189]), ([[1.0]], [0.0]), box=OVERFLOWS, dtype=np.float64),
        OVERFLOWS,
    ),
    "composed weights vanish and come back": (wild(1e-200, 1e-200, 1e200, bias=-0.5e-50, box=VANISHES), VANISHES),
}


@pytest.mark.parametrize("name", WILD)
def test_wild_weights_prove_nothing_false(name: str) -> None:
    network, box = WILD[name]
    node = network.relus[-1]
    least, most = (Fraction(side[0]) for side in ranges(network, box)[node.inputs[0]])
    assert least < 0 < most
    facts = prove(network, box).facts.layers[node.name]
    assert facts.verdict.tolist() == [Verdict.UNDECIDED]
    assert Fraction(float(facts.lower[0])) <= least
    assert most <= Fraction(float(facts.upper[0]))


def test_a_tame_twin_is_decided() -> None:
    """The twin: with a bias below the maximum of nothing, the same chain of factors is proved inactive."""
    box = box_of((-1, 1), THIRD)
    network = wild(0.5, 0.5, 4.0, bias=-1.5, box=box)
    assert prove(network, box).facts.layers[network.relus[-1].name].verdict.tolist() == [Verdict.INACTIVE]


def test_inputs_of_no_width_and_layers_of_no_units() -> None:
    """What has nothing to split or to read is no error."""
    box = box_of((-1, 1), (2, 2))
    b = Builder(np.random.default_rng(3), box)
    none = b.select("none", ["x"], [])
    dead = b.relu("h0", none)
    joined = b.select("joined", [b.relu("h1", b.dense("z1", "x", 4)), dead], [0, 1, 2, 3])
    network = b.network(b.relu("h2", b.dense("z2", joined, 3)))
    facts = prove(network, box).facts
    assert [layer.units for layer in facts.layers.values()] == [0, 4, 3]
