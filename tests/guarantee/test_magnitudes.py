"""Where outputs are large: points that lie in the domain, and lower bounds that hold there. No tolerance anywhere."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from rewriting import check_magnitudes
from strategies import Case, box_of, chain, chains, networks

from reluce.domain import Box
from reluce.facts import Facts
from reluce.guarantee import Allowance, Magnitudes, Roundoff, allowance, magnitudes
from reluce.network import Network, Node, Opaque, Softmax, Tensor
from reluce.prove import Proof, prove


def found(network: Network, box: Box) -> Allowance:
    proof = prove(network, box)
    return allowance(Roundoff(), network, box, proof.bounds, proof.facts)


def on(proof: Proof, network: Network, box: Box, **more: np.ndarray) -> Magnitudes:
    return magnitudes(network, box, proof.bounds, proof.facts, more or None)


@given(networks())
def test_what_is_said_of_random_networks_is_true(case: Case) -> None:
    check_magnitudes(*case, found(*case))


@given(chains(rational=False))
def test_the_best_corner_of_a_linear_network_is_found(case: Case) -> None:
    """Without ReLUs one step of the climb ends at the best corner of one sign."""
    network, box = case
    last = next(node for node in network.nodes if node.output == "z1")
    linear = Network(("x",), ("z1",), (last,), {name: network.tensors[name] for name in ("x", "z1")})
    proof = prove(linear, box)
    low, high = np.abs(proof.bounds.intervals["z1"].lower), np.abs(proof.bounds.intervals["z1"].upper)
    said = on(proof, linear, box).lower["z1"]
    assert (said <= np.maximum(low, high)).all()
    assert (said >= np.minimum(low, high) * (1 - 1e-9) - 1e-12).all()


def test_a_lie_about_a_magnitude_is_noticed() -> None:
    network = chain(([[1], [-1]], [0, 0]), ([[1, 2]], [1]), box=(box := box_of((-1, 1))))
    honest = found(network, box)
    assert honest.magnitudes is not None
    check_magnitudes(network, box, honest)
    lie = replace(honest.magnitudes, lower={"y": np.nextafter(honest.magnitudes.lower["y"] + 1e-9, np.inf)})
    outside = replace(honest.magnitudes, points={"x": honest.magnitudes.points["x"] * 2 - 1e-3})
    for wrong in (lie, outside):
        with pytest.raises(AssertionError):
            check_magnitudes(network, box, replace(honest, magnitudes=wrong))


def test_decimal_ends_are_not_overstepped() -> None:
    box = box_of(("1/10", "3/10"))
    network = chain(([[1]], [1]), ([[1]], [0]), box=box)
    said = found(network, box).magnitudes
    assert said is not None
    assert Fraction(1, 10) <= Fraction(said.points["x"].item()) <= Fraction(3, 10)
    assert Fraction(said.lower["y"].item()) <= 1 + Fraction(said.points["x"].item())


def test_one_point_serves_several_outputs() -> None:
    box = box_of((0, 1), (0, 1))
    network = chain(([[1, 0], [0, 1]], [0, 0]), ([[1, 1], [2, 1], [3, 1]], None), box=box)
    said = found(network, box).magnitudes
    assert said is not None
    assert said.points["x"].tolist() == [[1, 1]]
    assert said.rows["y"].tolist() == [0, 0, 0]
    assert said.lower["y"] == pytest.approx([2, 3, 4], rel=1e-12)


def test_samples_are_looked_at_but_only_inside() -> None:
    # The only place where y is large is a spike that neither corners nor the middle show.
    box = box_of((0, 1))
    network = chain(([[64], [64], [64]], [-16, -17, -18]), ([[1, -2, 1]], [0]), box=box)
    proof = prove(network, box)
    data = np.array([[0.265625], [7.0]])
    said = magnitudes(network, box, proof.bounds, replace(proof.facts, points={"x": np.zeros((0, 1))}), {"x": data})
    assert said.points["x"].tolist() == [[0.265625]]
    assert 0.999 < said.lower["y"].item() <= 1


@pytest.mark.parametrize("kind", ["opaque", "nowhere", "zero"])
def test_where_nothing_can_be_evaluated_nothing_may_move(kind: str) -> None:
    box = box_of((0, 1)) if kind != "nowhere" else Box({"x": third()}, {"x": third()})
    network = chain(([[1]], [1]), ([[0 if kind == "zero" else 1]], [0]), box=box)
    if kind == "opaque":
        odd = Node("odd", Opaque("Mystery"), ("y",), ("far",))
        tensors = {**network.tensors, "far": Tensor("far", None)}
        network = Network(("x",), ("far",), (*network.nodes, odd), tensors)
    allowed = found(network, box)
    (output,) = network.outputs
    assert allowed.budget[output].tolist() == [0.0]
    assert allowed.magnitudes is not None
    assert allowed.magnitudes.rows[output].tolist() == [-1]
    assert len(allowed.magnitudes.points.get("x", ())) == 0


def third() -> np.ndarray:
    return np.array([Fraction(1, 3)], dtype=object)  # no float64 lies in a box of this point


def test_outputs_behind_a_softmax_may_not_move() -> None:
    """The independent checker cannot evaluate it, and so could not prove the level."""
    box = box_of((0, 1))
    network = chain(([[1]], [1]), ([[1], [-1]], [0, 0]), box=box)
    soft = Node("soft", Softmax(-1, False), ("y",), ("p",))
    network = Network(("x",), ("p",), (*network.nodes, soft), {**network.tensors, "p": Tensor("p", (2,))})
    said = found(network, box)
    assert not said.budget["p"].any()


def test_more_outputs_than_points() -> None:
    box = box_of((-1, 1), (-1, 1))
    generator = np.random.default_rng(0)
    network = chain((generator.integers(-4, 5, (300, 2)), None), (np.eye(300), None), box=box)
    proof = prove(network, box)
    said = on(proof, network, box)
    assert len(said.points["x"]) <= 64
    positive = said.lower["y"] > 0
    assert (positive <= (proof.bounds.intervals["y"].upper > 0)).all()
    assert positive.mean() > 0.8


def test_no_witnesses_no_data_still_gives_points() -> None:
    box = box_of((0, 1))
    network = chain(([[1]], [1]), ([[1]], [0]), box=box)
    proof = prove(network, box)
    nothing = Facts(proof.facts.layers, {"x": np.zeros((0, 1))})
    assert magnitudes(network, box, proof.bounds, nothing).lower["y"] == pytest.approx([2], rel=1e-12)
