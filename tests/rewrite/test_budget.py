"""Budgets per output: what fits, what is left, and that an output without a budget does not move."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import max_difference
from strategies import Case, box_of, chain, chains, graphs

from reluce.domain import Box
from reluce.network import Array, Network, Node, Opaque, Tensor
from reluce.prove import prove
from reluce.rewrite import Original, Rewriting, rewrite, uniform_budget
from reluce.rewrite._budget import fits, is_exact, room_left

AMOUNTS = [0.0, 0.0, 1e-18, 1e-6, 0.5]


def run(network: Network, box: Box, budget: dict[str, Array]) -> Rewriting:
    proof = prove(network, box)
    return rewrite(Original(network, proof.facts, proof.bounds), budget)


def judge(network: Network, box: Box, result: Rewriting, budget: dict[str, Array]) -> None:
    difference = max_difference(network, result.network, box)
    for name, allowed in budget.items():
        for d, e, b in zip(difference[name], result.epsilons[name].tolist(), allowed.tolist(), strict=True):
            assert d <= Fraction(e) <= Fraction(b)


@given(st.one_of(chains(), graphs()), st.randoms(use_true_random=False))
def test_every_output_has_its_own_budget(case: Case, chance: random.Random) -> None:
    network, box = case
    budget = {
        name: np.array([chance.choice(AMOUNTS) for _ in range(network.tensors[name].size)]) for name in network.outputs
    }
    judge(network, box, run(network, box, budget), budget)


def test_the_judge_can_fail() -> None:
    network = chain(([[2.0**-12, 0], [1, -1]], [1, 0]), ([[1, 1]], [0]), box=(box := box_of((0, 1), (0, 1))))
    result = run(network, box, uniform_budget(network, 1e-2))
    judge(network, box, result, uniform_budget(network, 1e-2))
    with pytest.raises(AssertionError):
        judge(network, box, result, uniform_budget(network, 1e-6))
    with pytest.raises(AssertionError):
        judge(network, box, run(network, box, uniform_budget(network, 0)), {"y": np.array([-1.0])})


def test_only_what_the_poorest_output_can_bear_goes() -> None:
    """Unit 0 is nearly constant and read by output 0 alone, unit 1 by output 1 alone; unit 2 is unstable."""
    rows = [[2.0**-12, 0], [0, 2.0**-12], [1, -1]]
    network = chain((rows, [1, 1, 0]), ([[1, 0, 1], [0, 1, 1]], [0, 0]), box=(box := box_of((0, 1), (0, 1))))
    for budget, left in (([0, 1e-2], [0, 2]), ([1e-2, 0], [1, 2]), ([1e-2, 1e-2], [2]), ([0, 0], [0, 1, 2])):
        result = run(network, box, {"y": np.array(budget)})
        assert result.kept["node_h1"].tolist() == left
        assert ((result.epsilons["y"] > 0) <= (np.array(budget) > 0)).all()


def test_a_budget_below_the_rounding_of_its_bound_costs_nothing_that_is_free() -> None:
    """Merging x + 1 and 2 x + 2 is exact; the float64 pass that bounds it says 1e-16."""
    layers = ([[1, 0.1], [2, 0.3], [2, -1]], [1, 2, -1]), ([[1, 1, 1], [1, 2, 3]], [0.1, 0])
    box = box_of((0, 1), (0, 0))
    network = chain(*layers, box=box)
    for budget in (0.0, 1e-300):
        assert len(run(network, box, uniform_budget(network, budget)).kept["node_h1"]) == 2


def test_what_fits() -> None:
    budget = {"y": np.array([0.0, 1.0])}
    assert fits({"y": np.array([0.0, 1.0])}, budget)
    for beyond in ([0.0, 1.1], [1e-300, 0.0], [0.0, np.nan], [0.0, np.inf]):
        assert not fits({"y": np.array(beyond)}, budget)
    assert not fits({"y": np.zeros(2), "z": np.zeros(1)}, budget)
    assert not fits({}, budget)
    assert not is_exact(budget)
    assert is_exact({"y": np.zeros(2)})


def test_what_is_left() -> None:
    network = chain(([[1]], [0]), ([[1], [2]], None), box=box_of((0, 1)))
    room = room_left(network, {"y": np.array([1.0, 2.0])}, {"y": np.array([0.25, 3.0])})
    assert room[0] == np.nextafter(0.75, 0)
    assert room[1] == 0


def test_many_outputs_share_the_least_room() -> None:
    network = chain(([[1]], [0]), (np.ones((600, 1)), None), box=box_of((0, 1)))
    budget = {"y": np.linspace(1, 2, 600)}
    assert room_left(network, budget, uniform_budget(network, 0)).tolist() == [1.0]


def test_outputs_of_unknown_shape_have_one_entry() -> None:
    network = chain(([[1]], [0]), ([[1]], None), box=box_of((0, 1)))
    tensors = {**network.tensors, "far": Tensor("far", None)}
    odd = Network(("x",), ("far",), (*network.nodes, Node("odd", Opaque("Mystery"), ("y",), ("far",))), tensors)
    assert uniform_budget(odd, 1.0)["far"].tolist() == [1.0]
    assert room_left(odd, uniform_budget(odd, 1.0), uniform_budget(odd, 0)).tolist() == [0.0]
