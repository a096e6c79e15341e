"""Float evaluation in any order of summation stays within the a-priori error of the exact value."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import forward
from strategies import Case, box_of, chain, networks

from reluce.bounds import analyse, float_error
from reluce.network import Add, Affine, Array, Dense, Network, Op, Relu, Select


def total(generator: np.random.Generator, terms: list[Any]) -> Any:
    """Sum in a random tree; every partial sum is rounded."""
    while len(terms) > 1:
        i, j = sorted(generator.choice(len(terms), 2, replace=False).tolist())
        b, a = terms.pop(j), terms.pop(i)
        terms.append(a + b)
    return terms[0]


def step(op: Op, inputs: list[Array], generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    x, dtype = inputs[0], inputs[0].dtype
    match op:
        case Dense():
            bias = np.zeros(len(op.weight), dtype) if op.bias is None else op.bias.astype(dtype)
            weight = op.weight.astype(dtype)
            rows = x.reshape(-1, weight.shape[1])
            flat = [total(generator, [*(w * row), b]) for row in rows for w, b in zip(weight, bias, strict=True)]
            return np.array(flat, dtype=dtype).reshape(shape)
        case Relu():
            return np.maximum(x, dtype.type(0))
        case Add():
            return x + inputs[1]
        case Select():
            return np.concatenate([part.ravel() for part in inputs])[op.indices].reshape(shape)
        case Affine():
            return x * op.scale.astype(dtype) + op.shift.astype(dtype)
    raise NotImplementedError(type(op).__name__)


def run(network: Network, point: Array, generator: np.random.Generator) -> dict[str, Array]:
    values = {"x": point}
    for node in network.nodes:
        values[node.output] = step(node.op, [values[n] for n in node.inputs], generator, network.shape(node.output))
    return values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(case=networks(rational=False), seed=st.integers(0, 2**32 - 1))
def test_any_order(dtype: type, case: Case, seed: int) -> None:
    network, box = case
    generator = np.random.default_rng(seed)
    errors = float_error(network, analyse(network, box).intervals, np.dtype(dtype))
    low, high = box.inner["x"]
    for _ in range(3):
        point = np.clip((low + (high - low) * generator.random(low.shape)).astype(dtype), low, high).astype(dtype)
        computed, exact = run(network, point, generator), forward(network, {"x": point})
        for name, values in computed.items():
            bounds = errors[name].ravel().tolist()
            for value, truth, bound in zip(values.ravel().tolist(), exact[name], bounds, strict=True):
                assert abs(Fraction(value) - truth) <= Fraction(bound)


def test_cancellation_is_charged() -> None:
    box = box_of((1, 1), (0, 1))
    network = chain(([[2.0**30, 1], [2.0**30, 0]], [0, 0]), ([[1, -1]], [0]), box=box)
    errors = float_error(network, analyse(network, box).intervals, np.dtype(np.float32))
    point = np.array([1, 1], dtype=np.float32)
    computed = run(network, point, np.random.default_rng(0))["y"][0]
    exact = forward(network, {"x": point})["y"][0]
    assert exact == 1
    assert computed == 0
    assert errors["y"][0] >= 1
