"""Sensitivity bounds how far an error moves the outputs."""

import numpy as np
from hypothesis import given
from strategies import Case, networks

from reluce.network import Dense, Network, Node, Opaque, Relu, Tensor, evaluate, readonly
from reluce.rewrite._sensitivity import sensitivity


@given(networks())
def test_an_error_at_a_tensor_moves_the_outputs_by_at_most_that_much(case: Case) -> None:
    network, _ = case
    factors = sensitivity(network)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4, *network.shape("x")))
    moved = x + generator.uniform(-1, 1, x.shape)
    before, after = evaluate(network, {"x": x}), evaluate(network, {"x": moved})
    error = np.abs(moved - x).reshape(4, -1)
    change = np.concatenate([np.abs(after[n] - before[n]).reshape(4, -1) for n in network.outputs], axis=1)
    allowed = error @ factors["x"].T
    size = sum(np.abs(values[n]).max(initial=0) for values in (before, after) for n in values)
    assert (change <= allowed * (1 + 1e-9) + 1e-9 * (1 + size)).all()


def test_outputs_of_unknown_shape_have_no_budget_to_spend() -> None:
    nodes = (
        Node("z", Dense(readonly([[1.0, 2.0]], np.float32)), ("x",), ("z",)),
        Node("h", Relu(), ("z",), ("h",)),
        Node("far", Opaque("ZipMap"), ("h",), ("y",)),
    )
    tensors = {"x": Tensor("x", (2,)), "z": Tensor("z", (1,)), "h": Tensor("h", (1,)), "y": Tensor("y", None)}
    factors = sensitivity(Network(("x",), ("y",), nodes, tensors))
    assert np.isinf(factors["h"]).all()
    assert np.isinf(factors["x"]).all()
