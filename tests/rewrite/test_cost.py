"""What a network costs, counted by hand, and which rewrites save nothing."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import pytest
from strategies import Builder, box_of, chain

from reluce.domain import Box
from reluce.network import Affine, Array, Constant, Dense, Network, Select
from reluce.rewrite import Cost, Objective, cost
from reluce.rewrite._cost import INDEX_BYTES, saves_nothing

BOX = box_of((-1, 1), (-1, 1))
FIRST = ([[1, 0], [2, 3], [0, 0]], [1, 0, 2])
LAST = ([[1, -2, 0]], [0])


def builder(box: Box = BOX) -> Builder:
    return Builder(np.random.default_rng(0), box)


def put(b: Builder, name: str, weight: Any, bias: Any, source: str) -> str:
    """A dense layer with these very arrays."""
    *positions, _ = b.tensors[source].shape or ()
    b.low[name] = b.high[name] = []  # nothing is drawn from them
    return b.put(name, Dense(weight, bias), [source], (*positions, len(weight)))


def of(network: Network) -> Cost:
    return cost(network, network)


# What is counted


@pytest.mark.parametrize(("dtype", "width"), [(np.float32, 4), (np.float64, 8)])
def test_a_chain_by_hand(dtype: Any, width: int) -> None:
    network = chain(FIRST, LAST, box=BOX, dtype=dtype)
    parameters, nonzeros, macs = 6 + 3 + 3 + 1, 3 + 2 + 2 + 0, 3 * 2 + 1 * 3
    assert of(network) == Cost(parameters, nonzeros, macs, width * parameters)


def test_a_bias_that_is_not_there_costs_nothing() -> None:
    network = chain((FIRST[0], None), (LAST[0], None), box=BOX)
    assert of(network) == Cost(9, 5, 9, 36)


def test_positions_multiply_macs_only() -> None:
    low = np.array([[0, 0]] * 5, dtype=object)
    network = chain(FIRST, LAST, box=Box({"x": low}, {"x": low + 1}, "test"))
    assert of(network) == Cost(13, 7, 5 * 9, 52)


def test_other_parameters_count_without_macs() -> None:
    b = builder()
    scaled = b.put("a", Affine(np.float32([2, 0]), np.float32([1, 1])), ["x"], (2,))
    assert of(b.network(scaled)) == Cost(4, 3, 0, 16)


def test_values_of_constants_do_not_count() -> None:
    b = builder()
    b.put("c", Constant(np.float32([1, 2, 3])), ["x"], (3,))
    network = b.network(put(b, "y", np.float32([[1, 1, 1]]), None, "c"))
    assert of(network) == Cost(3, 3, 3, 12)


@pytest.mark.parametrize("shared", [True, False])
def test_an_array_of_several_nodes_is_stored_once(shared: bool) -> None:
    weight, bias = np.float32([[1, 0], [2, 3]]), np.float32([1, 0])

    def array(given: Array) -> Array:
        return given if shared else given.copy()

    b = builder()
    h = b.relu("h", put(b, "z", array(weight), array(bias), "x"))
    network = b.network(put(b, "y", array(weight), array(bias), h))
    times = 1 if shared else 2
    assert of(network) == Cost(6 * times, 4 * times, 8, 24 * times)


# Places of selections


def joined(indices: list[int]) -> tuple[Network, Network]:
    """Two layers of 2 and 1 units, and the same with a selection of their units behind them."""
    b = builder()
    first, second = put(b, "p", np.float32([[1, 2], [3, 4]]), None, "x"), put(b, "q", np.float32([[5, 6]]), None, "x")
    nodes, tensors = list(b.nodes), dict(b.tensors)
    b.put("s", Select(np.array(indices), (len(indices),)), [first, second], (len(indices),))
    return Network(("x",), (first, second), tuple(nodes), tensors), b.network("s")


@pytest.mark.parametrize(
    "indices",
    [
        [1],
        [1, 2],
        [1, 0, 2],
        [0, 1, 2, 2],
        [0, 0, 2],
        [0],
        [0, 1],
    ],
    ids=str,
)
def test_places_that_a_rewrite_lists_are_parameters(indices: list[int]) -> None:
    original, network = joined(indices)
    listed = len(indices)
    assert cost(network, original) == Cost(6 + listed, 6, 6, 24 + INDEX_BYTES * listed)


def test_tensors_side_by_side_list_no_places() -> None:
    original, network = joined([0, 1, 2])
    assert cost(network, original) == cost(original, original) == Cost(6, 6, 6, 24)


def test_selections_of_the_original_are_free() -> None:
    _, network = joined([2, 0])
    assert of(network) == Cost(6, 6, 6, 24)


# What saves nothing

BASE = Cost(parameters=1000, nonzeros=800, macs=2000, bytes=4000)
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
WORDS = {"parameters": "parameters", "nonzeros": "non-zeros", "macs": "multiply-adds", "bytes": "bytes of parameters"}


def moved(**by: int) -> Cost:
    """``BASE`` with some numbers changed by so much."""
    return replace(BASE, **{name: getattr(BASE, name) + change for name, change in by.items()})


def refusal(objective: Objective, number: int, most: int | None = None) -> str:
    most = getattr(BASE, objective) if most is None else most
    return f"it would not save: {number:,} {WORDS[objective]} instead of {most:,}"


def test_every_number_can_be_the_objective() -> None:
    assert set(OBJECTIVES) == {entry.name for entry in fields(Cost)} == set(WORDS)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_becomes_less(objective: Objective) -> None:
    assert saves_nothing(BASE, moved(**{objective: -1}), BASE, objective) is None


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_becomes_more(objective: Objective) -> None:
    others = {name: -1 for name in OBJECTIVES if name != objective}
    wide = Cost(9999, 9999, 9999, 9999)
    after = moved(**others, **{objective: 1})
    assert saves_nothing(BASE, after, wide, objective) == refusal(objective, getattr(BASE, objective) + 1)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_becomes_less(objective: Objective) -> None:
    assert saves_nothing(BASE, BASE, BASE, objective) == refusal(objective, getattr(BASE, objective))


@pytest.mark.parametrize("other", OBJECTIVES)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_stays_and_something_else_becomes_less(objective: Objective, other: Objective) -> None:
    if other != objective:
        assert saves_nothing(BASE, moved(**{other: -1}), BASE, objective) is None


def test_the_objective_stays_and_something_else_becomes_more() -> None:
    after = moved(macs=-500, bytes=1)
    assert saves_nothing(BASE, after, BASE, "parameters") == refusal("parameters", 1000)
    assert saves_nothing(BASE, after, BASE, "macs") is None


@pytest.mark.parametrize("name", ["parameters", "nonzeros"])
def test_no_more_than_the_original(name: Objective) -> None:
    """Whatever the objective, parameters and non-zeros may grow up to the original's, and no further."""
    limit = replace(BASE, **{name: getattr(BASE, name) + 10})
    objective: Objective = "macs"
    assert saves_nothing(BASE, moved(**{name: 10, objective: -1}), limit, objective) is None
    more = getattr(BASE, name) + 11
    expected = refusal(name, more, getattr(limit, name))
    assert saves_nothing(BASE, moved(**{name: 11, objective: -1}), limit, objective) == expected


@pytest.mark.parametrize("name", ["parameters", "nonzeros"])
def test_what_is_beyond_the_original_may_stay(name: Objective) -> None:
    """A state that has more than the original (a bias that was not there) may be improved all the same."""
    limit = replace(BASE, **{name: getattr(BASE, name) - 10})
    assert saves_nothing(BASE, moved(macs=-1), limit, "macs") is None
    expected = refusal(name, getattr(BASE, name) + 1)
    assert saves_nothing(BASE, moved(**{name: 1, "macs": -1}), limit, "macs") == expected


@pytest.mark.parametrize("name", ["macs", "bytes"])
def test_only_parameters_and_nonzeros_are_limited(name: Objective) -> None:
    assert saves_nothing(BASE, moved(parameters=-1, **{name: 5000}), BASE, "parameters") is None
