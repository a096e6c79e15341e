"""Behind operations that are not modelled nothing is known: no NaN, no warning, and no wrong conclusion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from strategies import box_of

from reluce.bounds import Interval, analyse, float_error, interval
from reluce.facts import Verdict
from reluce.network import Add, Dense, Network, Node, Opaque, Relu, Tensor
from reluce.prove import prove
from reluce.rewrite import Original, rewrite, uniform_budget

BOX = box_of((0, 1), (-1, 1))


def behind_opaque(weight: Any, bias: Any, add_input: bool = False) -> Network:
    """x -> something -> ReLU (in [0, inf)) -> dense -> ReLU."""
    dense = Dense(np.array(weight, dtype=np.float32), np.array(bias, dtype=np.float32))
    width = len(dense.weight)
    nodes = [Node("o", Opaque("Resize"), ("x",), ("o",)), Node("r1", Relu(), ("o",), ("h1",))]
    last = "h1"
    if add_input:
        nodes.append(Node("a", Add(), ("h1", "x"), ("a",)))
        last = "a"
    nodes += [Node("d", dense, (last,), ("z2",)), Node("r2", Relu(), ("z2",), ("h2",))]
    tensors = {name: Tensor(name, (2,)) for name in ("x", "o", "h1", "a")}
    return Network(("x",), ("h2",), tuple(nodes), {**tensors, **{n: Tensor(n, (width,)) for n in ("z2", "h2")}})


@pytest.mark.parametrize("add_input", [False, True])
@pytest.mark.parametrize(
    ("weight", "bias"),
    [([[-1, -2]], [1]), ([[1, -1]], [0]), ([[0, 0]], [-1]), ([[0, -1], [3, 0], [-1, 1]], [2, -2, 0])],
)
def test_dense_layers(weight: Any, bias: Any, add_input: bool) -> None:
    network = behind_opaque(weight, bias, add_input)
    bounds = analyse(network, BOX)
    known = bounds.intervals["z2"]
    assert not np.isnan([known.lower, known.upper]).any()
    least = [0, -1] if add_input else [0, 0]
    for row, shift, low, high in zip(weight, bias, known.lower, known.upper, strict=True):
        assert low <= shift + sum(min(w * a, w * 2.0**99) for w, a in zip(row, least, strict=True))
        assert high >= shift + sum(max(w * a, w * 2.0**99) for w, a in zip(row, least, strict=True))
        if not add_input and max(row) <= 0:
            assert high <= shift + 1e-9
    errors = float_error(network, bounds.intervals, np.dtype(np.float32))
    assert not any(np.isnan(error).any() for error in errors.values())


@pytest.mark.parametrize("add_input", [False, True])
def test_verdicts_and_rewriting(add_input: bool) -> None:
    network = behind_opaque([[-1, -2], [1, 1], [0, 0], [-1, 1]], [1, 5, 3, 0], add_input)
    proof = prove(network, BOX)
    layers = proof.facts.layers
    assert layers["r1"].verdict.tolist() == [Verdict.UNDECIDED] * 2
    assert layers["r2"].verdict[0] == Verdict.UNDECIDED
    assert layers["r2"].verdict[3] == Verdict.UNDECIDED
    assert layers["r2"].verdict[2] == Verdict.CONSTANT
    result = rewrite(Original(network, proof.facts, proof.bounds), uniform_budget(network, 0))
    assert result.network.digest == network.digest


def test_certainly_inactive_behind_an_unknown() -> None:
    proof = prove(behind_opaque([[-1, -2]], [-1]), BOX)
    assert proof.facts.layers["r2"].verdict.tolist() == [Verdict.INACTIVE]


@pytest.mark.parametrize("pair", [(-np.inf, np.inf), (0.0, np.inf), (-np.inf, 0.0), (-np.inf, 1.0)])
def test_infinite_ends_through_every_sign_of_weight(pair: tuple[float, float]) -> None:
    x = Interval(np.array([pair[0], 1.0]), np.array([pair[1], 2.0]))
    op = Dense(np.array([[1, 1], [-1, 1], [0, 1], [0, 0]], dtype=np.float32), None)
    found = interval(op, [x], (4,))
    assert not np.isnan([found.lower, found.upper]).any()
    for w, low, high in zip([1, -1], found.lower, found.upper, strict=False):
        inner = sorted(np.clip([w * pair[0], w * pair[1]], -(2.0**99), 2.0**99))
        assert low <= inner[0] + 1
        assert high >= inner[1] + 2
    assert np.isfinite([found.lower[2:], found.upper[2:]]).all()
