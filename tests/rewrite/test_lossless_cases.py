"""What has to go, and what must not, at the exact guarantee: one network by hand for each case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rewriting import check, units
from strategies import box_of, chain

from reluce.domain import Box
from reluce.guarantee import Exact, Within
from reluce.network import Constant, Network, Relu
from reluce.rewrite import Rewriting

UNIT = box_of((0, 1))
SQUARE = box_of((0, 1), (0, 1))


def left(result: Rewriting) -> list[list[int]]:
    return [kept.tolist() for kept in result.kept.values()]


def exactly(*layers: tuple[Any, Any], box: Box) -> tuple[Network, Rewriting]:
    network = chain(*layers, box=box)
    return network, check(network, box, Exact())


def test_wholly_inactive_layer_leaves_a_constant() -> None:
    _, result = exactly(([[1, 1], [-1, 2]], [-3, -2.5]), ([[3, 1]], [0.75]), box=SQUARE)
    assert left(result) == [[]]
    (node,) = result.network.nodes
    assert isinstance(node.op, Constant)
    assert node.op.value.tolist() == [0.75]


def test_wholly_inactive_second_layer_takes_the_first_along() -> None:
    layers = ([[1, 1], [1, -1]], [-0.5, 0]), ([[-1, -1]], [-0.25]), ([[2], [1]], [1, -1])
    _, result = exactly(*layers, box=SQUARE)
    assert left(result) == [[], []]
    assert [type(node.op) for node in result.network.nodes] == [Constant]


def test_constant_positive_layer_leaves_a_constant() -> None:
    _, result = exactly(([[0, 0], [0, 0]], [2, 0.5]), ([[3, 1]], [0.75]), box=SQUARE)
    (node,) = result.network.nodes
    assert isinstance(node.op, Constant)
    assert node.op.value.tolist() == [7.25]


def test_wholly_active_last_hidden_layer_folds() -> None:
    layers = ([[1, -1], [-1, 1]], [0, 0.5]), ([[1, 2], [2, 1]], [1, 0.5]), ([[1, -1]], [0.5])
    _, result = exactly(*layers, box=SQUARE)
    assert left(result) == [[0, 1], []]
    assert [type(node.op).__name__ for node in result.network.nodes] == ["Dense", "Relu", "Dense"]


def test_wholly_active_network_becomes_affine() -> None:
    layers = ([[1, 2], [2, 1]], [1, 1]), ([[1, 2], [2, 1]], [1, 0.5]), ([[1, -1]], [0.5])
    _, result = exactly(*layers, box=SQUARE)
    assert left(result) == [[], []]
    assert [type(node.op).__name__ for node in result.network.nodes] == ["Dense"]


def test_one_unit_is_left() -> None:
    _, result = exactly(([[1, 1], [-1, 0], [-1, -1]], [-1, 0, -1]), ([[1, 5, 5]], [0]), box=SQUARE)
    assert left(result) == [[0]]


@pytest.mark.parametrize("bias", [-1.0, 0.0, 1.0])
def test_zero_rows(bias: float) -> None:
    _, result = exactly(([[1, -1], [0, 0], [-1, 1]], [0, bias, 0]), ([[1, 2, 1], [0, 1, 1]], [0, 0]), box=SQUARE)
    assert left(result) == [[0, 2]]
    assert result.network.nodes[-1].op.bias.tolist() == [2 * max(bias, 0), max(bias, 0)]


def test_duplicate_rows_merge() -> None:
    layers = ([[1, 1], [1, 1], [1, -1]], [1, 1, 0]), ([[1, 2, 1], [3, -1, 2]], None)
    network, result = exactly(*layers, box=SQUARE)
    assert units(result.network) == units(network) - 1


def test_rank_one_layer_merges_to_one_unit_beside_an_unstable_one() -> None:
    layers = ([[1, 1], [2, 2], [-4, -4], [1, -1]], [1, 0, 8, 0]), ([[1, 2, 1, 1]], [0])
    _, result = exactly(*layers, box=SQUARE)
    assert len(left(result)[0]) == 2


def test_several_folds_in_a_row() -> None:
    layers = [([[1, 1], [1, 2]], [1, 1])] * 4
    _, result = exactly(*layers, ([[1, -1], [0, 2]], [0, 0]), box=SQUARE)
    assert left(result) == [[], [], [], []]


def test_fixed_inputs_make_units_constant_or_dependent() -> None:
    box = box_of((0, 1), (0.5, 0.5))
    # unit 0 reads the fixed input only; units 1 and 2 differ in the fixed input only; unit 3 is unstable
    layers = ([[0, 3], [1, 1], [1, 7], [1, -1]], [0, 1, 1, 0]), ([[1, 1, 1, 1]], [0])
    _, result = exactly(*layers, box=box)
    assert len(left(result)[0]) == 2
    assert 3 in left(result)[0]


def test_maximum_of_exactly_zero_goes() -> None:
    _, result = exactly(([[1, 1], [1, -1]], [-2, 0]), ([[4, 1]], [0]), box=SQUARE)
    assert left(result) == [[1]]


def test_maximum_of_exactly_zero_in_the_second_layer_goes() -> None:
    layers = ([[1, 1], [1, 0], [1, -1]], [0, 0, 0]), ([[-1, 1, 0], [1, 1, 1]], [0, -0.5]), ([[1, 1]], [0])
    _, result = exactly(*layers, box=SQUARE)
    assert left(result)[1] == [1]


def test_a_spike_stays() -> None:
    spike = chain(([[2.0**-20]], [-(2.0**-20) * (1 - 2.0**-20)]), ([[2.0**26]], [0]), box=UNIT)
    result = check(spike, UNIT, Exact())
    assert result.network.digest == spike.digest


def test_inexact_fold_is_refused_exactly_and_done_within() -> None:
    # (2^24 + 1) is no float32
    network = chain(([[1, 0], [1, 1]], [1, 1]), ([[2.0**24, 1]], [0]), box=SQUARE)
    assert left(check(network, SQUARE, Exact())) == [[0, 1]]
    result = check(network, SQUARE, Within(16.0))
    assert left(result) == [[]]
    assert result.epsilons["y"].max() > 0


def test_near_dependent_rows_stay_apart_exactly_and_merge_within() -> None:
    hair = np.nextafter(np.float32(3), np.float32(4))
    network = chain(
        ([[1, 2], [2, 1], [3, hair], [1, -1]], [1, 1, 1, 0]), ([[1, 1, 1, 1], [1, 2, 5, -1]], None), box=SQUARE
    )
    assert left(check(network, SQUARE, Exact())) == [[0, 1, 2, 3]]
    result = check(network, SQUARE, Within(1e-2))
    assert len(left(result)[0]) == 3
    assert result.epsilons["y"].max() > 0


def test_near_constant_goes_within_only() -> None:
    network = chain(([[2.0**-12, 0], [1, -1]], [1, 0]), ([[1, 1]], [0]), box=SQUARE)
    assert left(check(network, SQUARE, Exact())) == [[0, 1]]
    assert left(check(network, SQUARE, Within(1e-2))) == [[1]]


def test_a_whole_constant_layer_has_no_units_left() -> None:
    network = chain(([[1]], [-2]), ([[1], [1]], [1, -1]), box=UNIT)
    nodes = (*network.nodes[:-1], *chain(([[1]], [-2]), ([[1], [1]], [1, -1]), ([[1, 1]], None), box=UNIT).nodes[2:4])
    assert isinstance(nodes[-1].op, Relu)
    tensors = chain(([[1]], [-2]), ([[1], [1]], [1, -1]), ([[1, 1]], None), box=UNIT).tensors
    network = Network(("x",), ("h2",), (*network.nodes[:2], *nodes[-2:]), tensors)
    result = check(network, UNIT, Exact())
    assert left(result) == [[], []]


def test_constants_that_differ_by_position() -> None:
    low = np.array([[0, 0], [1, 0]], dtype=object)
    box = Box({"x": low}, {"x": low + np.array([[0, 1], [0, 0]], dtype=object)})
    network = chain(([[-2, 0]], [0.5]), ([[1], [4]], [0.75, 6]), ([[-1, 1]], [0]), box=box)
    check(network, box, Exact())


def test_dependent_rows_whose_merge_does_not_fit() -> None:
    box = box_of((0, 1), (0, 0))
    rows = [[0.0029296875, 2.0**-18], [0.75, 0.25], [0, 0], [-682.66669, -42.666668], [-0.015625, 0], [1, 0]]
    network = chain((rows, None), ([[-512, 21845.334, 2.5431316e-06, 2.0**18, 0, -0.0052083335]], [-8191.25]), box=box)
    check(network, box, Within(1e-6))
