"""Float evaluation against exact evaluation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from oracle import forward
from strategies import Case, box_of, chain, networks

from reluce.network import Add, Constant, Network, Node, Opaque, Select, Tensor, evaluate


@given(networks(layers=2, units=4, rational=False))
def test_small_integers_are_evaluated_exactly(case: Case) -> None:
    network, _ = case
    ops = [getattr(node.op, "weight", None) for node in network.nodes]
    if any(weight is not None and (weight * 64 != np.round(weight * 64)).any() for weight in ops):
        return  # wild weights round
    if any(weight is not None and np.abs(weight).max(initial=0) > 2**10 for weight in ops):
        return
    shape = network.shape("x")
    points = np.arange(2 * np.prod(shape), dtype=np.float64).reshape(2, *shape) - 3
    values = evaluate(network, {"x": points})
    for row in range(2):
        for name, exact in forward(network, {"x": points[row]}).items():
            found = values[name][row].ravel().tolist()
            if all(abs(value) < 2**40 and value.denominator <= 2**10 for value in exact):
                assert [Fraction(value) for value in found] == exact


def test_the_format_of_the_points_is_kept() -> None:
    network = chain(([[1, 2]], [0.5]), ([[3]], None), box=box_of((0, 1), (0, 1)))
    for dtype in (np.float32, np.float64):
        values = evaluate(network, {"x": np.ones((4, 2), dtype=dtype)})
        assert {value.dtype for value in values.values()} == {np.dtype(dtype)}
        assert values["y"].tolist() == [[10.5]] * 4


def test_only_what_is_needed_is_evaluated() -> None:
    network = chain(([[1]], [0]), ([[1]], [0]), ([[1]], [0]), box=box_of((0, 1)))
    assert set(evaluate(network, {"x": np.ones((1, 1))}, until="z2")) == {"x", "z1", "h1", "z2"}


def test_nothing_is_known_behind_opaque_nodes() -> None:
    nodes = (
        Node("o", Opaque("Resize"), ("x",), ("o",)),
        Node("s", Add(), ("o", "x"), ("s",)),
        Node("p", Select(np.array([1, 0]), (2,)), ("x",), ("p",)),
    )
    network = Network(("x",), ("s", "p"), nodes, {name: Tensor(name, (2,)) for name in ("x", "o", "s", "p")})
    values = evaluate(network, {"x": np.array([[1.0, 2.0]])})
    assert set(values) == {"x", "p"}
    assert values["p"].tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize("samples", [1, 5])
def test_constants_take_the_batch_of_their_input(samples: int) -> None:
    node = Node("c", Constant(np.array([1.0, 2.0])), ("x",), ("c",))
    network = Network(("x",), ("c",), (node,), {"x": Tensor("x", (3,)), "c": Tensor("c", (2,))})
    assert evaluate(network, {"x": np.zeros((samples, 3))})["c"].tolist() == [[1.0, 2.0]] * samples
