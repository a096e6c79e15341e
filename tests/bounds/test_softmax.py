"""What is claimed of softmax and its logarithm holds: interval, rounding error, gradient, sensitivity and deviation."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce.bounds import Interval, analyse, float_error, interval
from reluce.domain import box_from_ranges
from reluce.network import Array, Dense, Network, Node, Softmax, Tensor, evaluate, readonly
from reluce.prove import prove
from reluce.prove._gradient import _pull_back
from reluce.rewrite import Original
from reluce.rewrite._relation import epsilons
from reluce.rewrite._sensitivity import sensitivity
from reluce.rewrite._state import Rewritten

SIZE = 4
NUMBERS = st.floats(-30, 30, width=32)
VECTORS = st.lists(NUMBERS, min_size=SIZE, max_size=SIZE).map(np.array)
OPS = pytest.mark.parametrize("op", [Softmax(), Softmax(log=True)], ids=["softmax", "log"])


def truth(op: Softmax, x: Array) -> list[Decimal]:
    """Sixty digits."""
    with localcontext() as context:
        context.prec = 60
        powers = [Decimal(float(v)).exp() for v in x]
        shares = [power / sum(powers) for power in powers]
        return [share.ln() for share in shares] if op.log else shares


@OPS
@given(a=VECTORS, b=VECTORS, share=st.floats(0, 1))
def test_values_lie_in_the_interval(op: Softmax, a: Array, b: Array, share: float) -> None:
    low, high = np.minimum(a, b), np.maximum(a, b)
    found = interval(op, [Interval(low, high)], (SIZE,))
    corner = np.where(np.arange(SIZE) == int(share * (SIZE - 1)), low, high)  # the least of one coordinate
    for x in (low, high, corner, np.clip(low + share * (high - low), low, high)):
        for value, lower, upper in zip(truth(op, x), found.lower.tolist(), found.upper.tolist(), strict=True):
            assert Decimal(lower) <= value <= Decimal(upper)


def test_a_narrower_interval_would_not_hold() -> None:
    op, ones = Softmax(log=True), np.ones(SIZE)
    found = interval(op, [Interval(-ones, ones)], (SIZE,))
    # (-1, 1, 1, 1) has -1 - log(e^-1 + 3 e); the interval is loose by less than log 4 - log(3 + e^-2)
    value = truth(op, np.array([-1.0, 1.0, 1.0, 1.0]))[0]
    assert Decimal(0) <= value - Decimal(float(found.lower[0])) < Decimal("0.25")


@pytest.mark.parametrize("end", [(-np.inf, 1.0), (0.0, np.inf), (-np.inf, np.inf)])
def test_open_ends_give_no_nan(end: tuple[float, float]) -> None:
    found = interval(Softmax(log=True), [Interval(np.full(SIZE, end[0]), np.full(SIZE, end[1]))], (SIZE,))
    assert (found.lower == -np.inf).all()
    assert (found.upper == 0).all()


def network(op: Softmax, weight: Array) -> Network:
    nodes = (Node("z", Dense(readonly(weight, np.float64)), ("x",), ("z",)), Node("y", op, ("z",), ("y",)))
    tensors = {name: Tensor(name, (SIZE,), np.dtype(np.float64)) for name in "xzy"}
    return Network(("x",), ("y",), nodes, tensors)


@OPS
@given(seed=st.integers(0, 10**6))
def test_float32_stays_within_the_rounding_error(op: Softmax, seed: int) -> None:
    generator = np.random.default_rng(seed)
    net = network(op, generator.integers(-8, 9, (SIZE, SIZE)) / 4)
    box = box_from_ranges(net, ["-2,2"])
    allowed = float_error(net, analyse(net, box).intervals, np.dtype(np.float32))["y"]
    x = generator.uniform(-2, 2, (1, SIZE)).astype(np.float32)
    found = evaluate(net, {"x": x})["y"][0]
    weight = net.nodes[0].op.weight  # type: ignore[attr-defined]
    exact = [sum(Fraction(w) * Fraction(float(v)) for w, v in zip(row, x[0], strict=True)) for row in weight.tolist()]
    with localcontext() as context:
        context.prec = 60
        powers = [(Decimal(v.numerator) / Decimal(v.denominator)).exp() for v in exact]
        shares = [power / sum(powers) for power in powers]
    for got, share, bound in zip(found.tolist(), shares, np.broadcast_to(allowed, SIZE).tolist(), strict=True):
        assert abs(Decimal(got) - (share.ln() if op.log else share)) <= Decimal(bound)


@OPS
@given(x=VECTORS.map(lambda v: v / 8), rows=VECTORS)
def test_the_gradient_is_the_difference_quotient(op: Softmax, x: Array, rows: Array) -> None:
    net = network(op, np.eye(SIZE))
    y = evaluate(net, {"x": x[None]})["y"]
    (found,) = _pull_back(op, rows[None], [x[None]], y)
    step = 1e-6
    for k in range(SIZE):
        moved = evaluate(net, {"x": (x + step * np.eye(SIZE)[k])[None]})["y"]
        assert abs((rows * (moved - y)[0]).sum() / step - found[0, k]) < 1e-3


@OPS
@given(x=VECTORS, move=VECTORS.map(lambda v: v / 100))
def test_sensitivity_bounds_the_change(op: Softmax, x: Array, move: Array) -> None:
    net = network(op, np.eye(SIZE))
    change = np.abs(evaluate(net, {"x": (x + move)[None]})["y"] - evaluate(net, {"x": x[None]})["y"])[0]
    assert (change <= np.abs(move) @ sensitivity(net)["x"].T + 1e-9).all()


@OPS
@given(seed=st.integers(0, 10**6))
def test_the_relation_bounds_the_deviation(op: Softmax, seed: int) -> None:
    generator = np.random.default_rng(seed)
    net = network(op, generator.integers(-8, 9, (SIZE, SIZE)) / 4)
    box = box_from_ranges(net, ["-1,1"])
    proof = prove(net, box)
    moved = generator.integers(-8, 9, (SIZE, SIZE)) / 4
    forged = network(op, moved)
    forged = replace(forged, nodes=(forged.nodes[0], net.nodes[1]))
    allowed = epsilons(Original(net, proof.facts, proof.bounds), Rewritten(forged, {}), exact=False)["y"]
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * SIZE)).reshape(SIZE, -1).T
    gap = np.abs(evaluate(net, {"x": corners})["y"] - evaluate(forged, {"x": corners})["y"])
    assert (gap <= allowed * (1 + 1e-12) + 1e-12).all()


def test_a_deviation_that_is_too_small_would_be_noticed() -> None:
    # Two logits that move apart by 2 d in all: the logarithm of the smaller share moves by nearly 2 d.
    net = network(Softmax(log=True), np.eye(SIZE))
    a, b = np.array([[-9.0, 9, 0, 0]]), np.array([[-9.5, 9.5, 0, 0]])
    gap = np.abs(evaluate(net, {"x": a})["y"] - evaluate(net, {"x": b})["y"])
    assert gap.max() > 1.9 * 0.5
