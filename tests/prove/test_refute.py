"""The search: surrogates that become the network, climbs that stay in the box, and witnesses behind plateaus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from strategies import Case, networks

from reluce.bounds import analyse
from reluce.domain import Box, box_from_ranges
from reluce.facts import Verdict
from reluce.io import load
from reluce.network import Array, Dense, Network, Node, Relu, Tensor, evaluate, readonly
from reluce.prove import Climb, ProverSettings, SearchSettings, prove
from reluce.prove._ascent import Goals, _balanced, climb, goals_of, vertices
from reluce.prove._gradient import pull_back
from reluce.prove._refute import Search
from reluce.prove._smooth import surrogate
from reluce.prove._witnesses import Witnesses


def dense(*layers: tuple[Array, Array]) -> Network:
    nodes, tensors, last = [], {"x": Tensor("x", (layers[0][0].shape[1],))}, "x"
    for k, (W, b) in enumerate(layers, 1):
        nodes.append(Node(f"z{k}", Dense(readonly(W, np.float32), readonly(b, np.float32)), (last,), (f"z{k}",)))
        nodes.append(Node(f"h{k}", Relu(), (f"z{k}",), (f"h{k}",)))
        tensors |= {name: Tensor(name, (len(W),)) for name in (f"z{k}", f"h{k}")}
        last = f"h{k}"
    return Network(("x",), (last,), tuple(nodes), tensors)


def plateau() -> tuple[Network, Box]:
    """``z2 = relu(sum x - 9.5) - 1/4`` on [0, 1]^10: flat nearly everywhere, positive at one corner only."""
    network = dense((np.ones((1, 10)), np.array([-9.5])), (np.ones((1, 1)), np.array([-0.25])))
    return network, box_from_ranges(network, ["0,1"])


@given(networks())
def test_without_tails_the_surrogate_is_the_network(case: Case) -> None:
    network, _ = case
    x = np.random.default_rng(0).standard_normal((3, *network.shape("x")))
    exact = evaluate(network, {"x": x})
    for node in network.relus:
        values, slopes = surrogate(network, {"x": x}, node.inputs[0], 0.0)
        assert np.array_equal(values[node.inputs[0]], exact[node.inputs[0]])
        for name, slope in slopes.items():
            assert np.array_equal(slope, exact[name] > 0)


def test_tails_have_the_slope_that_is_said() -> None:
    network = dense((np.array([[1.0], [-2.0], [3.0]]), np.array([0.1, -0.2, -0.7])))
    whole = replace(network, nodes=(*network.nodes, Node("y", Dense(readonly(np.eye(3))), ("h1",), ("y",))))
    whole = replace(whole, tensors={**network.tensors, "y": Tensor("y", (3,))})
    z = {"x": np.array([[0.05]])}
    values, slopes = surrogate(whole, z, "y", 2.0)
    size = 2.0 * np.median(np.abs(values["z1"]))
    assert (values["h1"] > -size).all()
    assert np.allclose(slopes["h1"], np.where(values["z1"] > 0, 1, np.exp(values["z1"] / size)))
    assert np.allclose(values["h1"], np.where(values["z1"] > 0, values["z1"], size * (slopes["h1"] - 1)))
    assert (slopes["h1"] > 0).all()
    assert not (surrogate(whole, z, "y", 0.0)[1]["h1"] > 0).all()


def test_climbing_goes_up_and_stays_in_the_box() -> None:
    generator = np.random.default_rng(0)
    network = dense(
        (generator.standard_normal((20, 6)), generator.standard_normal(20)),
        (generator.standard_normal((8, 20)), generator.standard_normal(8)),
    )
    box = box_from_ranges(network, ["-0.3,1.7"])
    goals = Goals(network.relus[1], np.tile(np.arange(8), 2), np.repeat([1.0, -1.0], 8))
    starts = box.sample(generator, 16)
    ends = climb(network, box, goals, starts, Climb(restarts=1, steps=60, rate=0.03))
    assert box.contains(ends).all()
    assert box.contains(vertices(box, ends)).all()
    before, after = (goals.of(evaluate(network, points)["z2"]) for points in (starts, ends))
    assert (after >= before - 1e-6).all()
    assert (after > before).mean() > 0.9
    assert not (before > after).any()  # and the other way round this would fail


def test_a_witness_behind_a_plateau_is_found_by_a_tail_only() -> None:
    network, box = plateau()
    node = network.relus[1]
    start = {"x": np.full((1, 10), 0.4)}
    up = Goals(node, np.array([0]), np.array([1.0]))
    flat = climb(network, box, up, start, Climb(restarts=1, steps=150, rate=0.1))
    smooth = climb(network, box, up, start, Climb(restarts=1, steps=150, rate=0.1, tail=1.0))
    assert np.allclose(flat["x"], 0.4)
    assert up.of(evaluate(network, flat)["z2"])[0] < 0 < up.of(evaluate(network, smooth)["z2"])[0]


def test_positive_tails_have_the_slope_that_is_said() -> None:
    network = dense((np.array([[1.0], [-2.0], [3.0]]), np.array([0.1, -0.2, -0.7])), (np.eye(3), np.zeros(3)))
    x, step = np.array([[0.05]]), 1e-6
    size = 2.0 * np.median(np.abs(evaluate(network, {"x": x})["z1"]))
    values, slopes = surrogate(network, {"x": x}, "z2", 2.0, positive=True)
    assert np.allclose(values["h1"], size * np.log1p(np.exp(values["z1"] / size)))
    ends = [size * np.log1p(np.exp((values["z1"] + sign * step) / size)) for sign in (1, -1)]
    assert np.allclose(slopes["h1"], (ends[0] - ends[1]) / (2 * step))


def test_balanced_covectors_point_where_the_logarithm_of_the_ratio_grows() -> None:
    generator = np.random.default_rng(0)
    network = dense(
        (generator.standard_normal((30, 6)), generator.standard_normal(30)),
        (generator.standard_normal((8, 30)), generator.standard_normal(8)),
    )
    x, covectors, W = generator.standard_normal((8, 6)), np.eye(8), network.nodes[2].op.weight  # type: ignore[attr-defined]
    b = network.nodes[2].op.bias  # type: ignore[attr-defined]

    def ratio(x: Array) -> Array:
        h = evaluate(network, {"x": x})["h1"]
        excites, inhibits = (np.diag(h @ np.maximum(s * W, 0).T) + np.maximum(s * b, 0) for s in (1, -1))
        return np.asarray(np.log(excites / inhibits))

    values = evaluate(network, {"x": x})
    found = pull_back(network, values, _balanced(network, values, "z2", covectors), ["x"])["x"]
    step = 1e-6
    exact = np.stack([(ratio(x + step * e) - ratio(x - step * e)) / (2 * step) for e in np.eye(6)], axis=1)
    cosine = (found * exact).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    assert np.allclose(cosine, 1, atol=1e-6)


def test_a_balanced_climb_does_not_end_where_all_is_dead() -> None:
    """``z2 = relu(x0 + x2 - 1) - 3 relu(x1) - 1/10``: plain climbs only shrink ``x1``, for the other ReLU is dead."""
    network = dense(
        (np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), np.array([-1.0, 0.0])),
        (np.array([[1.0, -3.0]]), np.array([-0.1])),
    )
    box = box_from_ranges(network, ["0,1"])
    up = Goals(network.relus[1], np.array([0]), np.array([1.0]))
    kind = Climb(restarts=1, steps=100, rate=0.05, tail=0.2, balanced=True)
    ends = climb(network, box, up, {"x": np.array([[0.2, 0.9, 0.2]])}, kind)
    assert up.of(evaluate(network, ends)["z2"])[0] > 0.5
    plain = climb(network, box, up, {"x": np.array([[0.2, 0.9, 0.2]])}, replace(kind, balanced=False, tail=0.0))
    assert up.of(evaluate(network, plain)["z2"])[0] < 0


def searched(settings: SearchSettings, stop: bool = False) -> Witnesses:
    network, box = plateau()
    bounds = analyse(network, box)
    witnesses = Witnesses(network, box, bounds.intervals)
    generator = np.random.default_rng(0)
    Search(network, box, witnesses, bounds.settled, generator, settings, lambda: stop).layer(network.relus[1])
    return witnesses


def test_the_search_finds_it_unless_it_may_spend_nothing() -> None:
    node = plateau()[0].relus[1]
    assert not len(goals_of(searched(SearchSettings()), node).units)
    assert len(goals_of(searched(SearchSettings(work=0.0, insistence=0.0)), node).units) == 2
    assert len(goals_of(searched(SearchSettings(), stop=True), node).units) == 2


def test_it_is_known_how_near_a_unit_has_come() -> None:
    network, box = plateau()
    node = network.relus[1]
    witnesses = Witnesses(network, box, analyse(network, box).intervals)
    witnesses.feed({"x": np.array([[1.0] * 10, [0.0] * 10])[:1] * 0.5})
    assert witnesses.best[node.name][0][0] == -0.25
    assert witnesses.best[node.name][1][0] == 0.25
    witnesses.feed({"x": np.full((1, 10), 0.97)})
    assert np.isclose(witnesses.best[node.name][0][0], -0.05)
    assert witnesses.best[node.name][1][0] == 0.25  # it has its witness, and nothing more is measured


def test_the_same_seed_finds_the_same() -> None:
    network, box = plateau()
    found = [prove(network, box, settings=ProverSettings(seed=3)).facts.points["x"] for _ in range(2)]
    assert np.array_equal(*found)


@pytest.mark.shared
def test_every_unit_of_a_deep_network_that_nobody_regularised_is_refuted(shared: Path) -> None:
    network = load(shared / "networks" / "vnncomp2021/mnistfc/mnist-net_256x4.onnx").network
    facts = prove(network, box_from_ranges(network, ["0,1"])).facts
    assert sum(layer.count(Verdict.UNDECIDED) for layer in facts.layers.values()) <= 2  # 0 where it was measured
    assert sum(layer.count(Verdict.UNSTABLE) for layer in facts.layers.values()) >= 1022


@pytest.mark.shared
def test_balanced_climbs_find_what_the_others_leave_open(shared: Path) -> None:
    network = load(shared / "networks" / "vnncomp2021/mnistfc/mnist-net_256x6.onnx").network
    box = box_from_ranges(network, ["0,1"])
    without = SearchSettings(insistence=0.0)
    found = [
        prove(network, box, settings=ProverSettings(search=search)).facts for search in (SearchSettings(), without)
    ]
    left, more = (sum(layer.count(Verdict.UNDECIDED) for layer in facts.layers.values()) for facts in found)
    assert left <= 2 < more  # 0 and more than a dozen where it was measured
