"""Forged states: each passes for the original in weights and map alone, and computes something else."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from reluce.domain import Box
from reluce.network import Affine, Dense, Network, Node, Op, Opaque, Relu, Select, Softmax, Tensor, readonly
from reluce.prove import prove
from reluce.rewrite import Original, rewrite, uniform_budget
from reluce.rewrite._relation import epsilons
from reluce.rewrite._state import Rewritten

Steps = Iterable[tuple[Op, tuple[str, ...], tuple[str, ...]]]
Shapes = dict[str, tuple[int, ...]]


def dense(weight: Any, bias: Any = None) -> Dense:
    return Dense(readonly(weight, np.float32), None if bias is None else readonly(bias, np.float32))


def select(indices: Any, shape: tuple[int, ...]) -> Select:
    return Select(readonly(indices, np.int64), shape)


def network(outputs: tuple[str, ...], shapes: Shapes, steps: Steps) -> Network:
    nodes = tuple(Node(f"node_{out[0]}", op, names, out) for op, names, out in steps)
    return Network(("x",), outputs, nodes, {name: Tensor(name, shape) for name, shape in shapes.items()})


def original(net: Network) -> Original:
    shape = net.shape("x")
    low, high = (np.full(shape, Fraction(end), dtype=object) for end in (0, 1))
    proof = prove(net, Box({"x": low}, {"x": high}))
    return Original(net, proof.facts, proof.bounds)


def forged(net: Network, shapes: Shapes | None = None, **ops: Op) -> Network:
    nodes = tuple(replace(node, op=ops.get(node.output, node.op)) for node in net.nodes)
    tensors = {**net.tensors, **{name: Tensor(name, shape) for name, shape in (shapes or {}).items()}}
    return replace(net, nodes=nodes, tensors=tensors)


CHAIN = network(
    ("y",),
    {"x": (1,), "z": (1,), "h": (1,), "y": (1,)},
    [(dense([[1]], [0]), ("x",), ("z",)), (Relu(), ("z",), ("h",)), (dense([[3]]), ("h",), ("y",))],
)
LINE = network(("y",), {"x": (2,), "y": (1,)}, [(dense([[1, 2]]), ("x",), ("y",))])
INNER = network(
    ("y",), {"x": (2,), "z": (1,), "y": (1,)}, [(dense([[1, 2]]), ("x",), ("z",)), (Relu(), ("z",), ("y",))]
)
TWO = network(
    ("y", "w"), {"x": (2,), "y": (1,), "w": (1,)}, [(dense([[1, 2]]), ("x",), ("y",)), (Relu(), ("y",), ("w",))]
)
BIG = network(
    ("y",),
    {"x": (2,), "a": (1,), "b": (1,), "c": (1,), "y": (1,)},
    [(Opaque("Big"), ("x",), ("a", "b", "c")), (Relu(), ("b",), ("y",))],
)
SQUARE = network(
    ("y",),
    {"x": (4,), "s": (2, 2), "p": (2, 2), "y": (4,)},
    [
        (select(range(4), (2, 2)), ("x",), ("s",)),
        (Softmax(), ("s",), ("p",)),
        (select(range(4), (4,)), ("p",), ("y",)),
    ],
)
ROWS = network(
    ("y",),
    {"x": (2, 1), "z": (2, 2), "a": (2, 2), "y": (2, 1)},
    [
        (dense([[1], [2]]), ("x",), ("z",)),
        (Affine(readonly([[1, 3], [1, 7]], np.float32)), ("z",), ("a",)),
        (dense([[0, 1]]), ("a",), ("y",)),
    ],
)

FORGERIES = {
    "a unit twice": (
        CHAIN,
        Rewritten(
            forged(CHAIN, {"z": (2,), "h": (2,)}, z=dense([[1], [1]], [0, 0]), y=dense([[3, 3]])),
            {"z": np.array([0, 0]), "h": np.array([0, 0])},
        ),
    ),
    "a map of a graph input": (LINE, Rewritten(forged(LINE, y=dense([[2, 1]])), {"x": np.array([1, 0])})),
    "a tensor declared an input": (INNER, Rewritten(replace(INNER, inputs=("x", "z"), nodes=INNER.nodes[1:]), {})),
    "outputs swapped": (TWO, Rewritten(replace(TWO, outputs=("w", "y")), {})),
    "an output dropped": (TWO, Rewritten(replace(TWO, outputs=("y",)), {})),
    "outputs of an opaque node renamed": (
        BIG,
        Rewritten(replace(BIG, nodes=(replace(BIG.nodes[0], outputs=("a", "c", "b")), BIG.nodes[1])), {}),
    ),
    "another shape before a softmax": (
        SQUARE,
        Rewritten(forged(SQUARE, {"s": (4,), "p": (4,)}, s=select(range(4), (4,))), {}),
    ),
    "negative coordinates": (
        ROWS,
        Rewritten(
            forged(
                ROWS,
                {"z": (2, 1), "a": (2, 1)},
                z=dense([[2]]),
                a=Affine(readonly([[7], [3]], np.float32)),
                y=dense([[1]]),
            ),
            {"z": np.array([-1, 1]), "a": np.array([-1, 1])},
        ),
    ),
}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", FORGERIES)
def test_forged_states_deviate_without_bound(name: str, exact: bool) -> None:
    net, state = FORGERIES[name]
    found = epsilons(original(net), state, exact)
    assert all(np.isinf(values).all() for values in found.values())
    assert set(found) == set(net.outputs)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("name", FORGERIES)
def test_the_same_networks_unforged_do_not_deviate(name: str, exact: bool) -> None:
    net, _ = FORGERIES[name]
    assert not any(values.any() for values in epsilons(original(net), Rewritten.nothing_done(net), exact).values())


def test_a_layer_that_is_read_twice_shrinks() -> None:
    net = network(
        ("y",),
        {"x": (1,), "z": (3,), "h": (3,), "c": (6,), "y": (1,)},
        [
            (dense([[1], [-1], [2]], [0, -1, -1]), ("x",), ("z",)),
            (Relu(), ("z",), ("h",)),
            (select(range(6), (6,)), ("h", "h"), ("c",)),
            (dense([[3, 1, 1, 2, 1, 5]]), ("c",), ("y",)),
        ],
    )
    result = rewrite(original(net), uniform_budget(net, 0))
    assert result.kept["node_h"].tolist() == [0, 2]
    assert result.network.shape("c") == (4,)
    assert result.epsilons["y"] == 0
