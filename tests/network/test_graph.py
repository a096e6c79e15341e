"""The immutable graph: what it knows of itself, what is refused, and when two are the same."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from strategies import Case, box_of, chain, networks

from reluce.errors import ModelError
from reluce.network import Dense, Network, Node, Opaque, Relu, Tensor, readonly, validate


def two_layers() -> Network:
    return chain(([[1, 2]], [0.5]), ([[3], [4]], None), box=box_of((0, 1), (0, 1)))


@given(networks())
def test_random_networks_are_valid(case: Case) -> None:
    network, _ = case
    assert validate(network) is network
    for node in network.nodes:
        assert network.producer[node.output] is node
        assert all(node in network.consumers[name] for name in node.inputs)
    assert network.ancestors(network.inputs) == set(network.inputs)
    assert [node.op for node in network.relus] == [n.op for n in network.nodes if isinstance(n.op, Relu)]


def test_ancestors() -> None:
    network = two_layers()
    assert network.ancestors(["z1"]) == {"x", "z1"}
    assert network.ancestors(["y"]) == {"x", "z1", "h1", "y"}


def test_a_reader_is_listed_once_though_it_reads_twice() -> None:
    network = two_layers()
    twice = Node("twice", Opaque("Mul"), ("y", "y"), ("w",))
    wider = replace(network, nodes=(*network.nodes, twice), tensors={**network.tensors, "w": Tensor("w", None)})
    assert wider.consumers["y"] == (twice,)
    assert wider.opaque == (twice,)


def test_nodes_out_of_order_are_refused() -> None:
    network = two_layers()
    with pytest.raises(ModelError, match=r"node 'node_y' reads tensor 'h1', which nothing before it writes"):
        validate(replace(network, nodes=network.nodes[::-1]))


def test_a_tensor_written_twice_is_refused() -> None:
    network = two_layers()
    with pytest.raises(ModelError, match=r"tensor 'y' is written twice .*'node_y'"):
        validate(replace(network, nodes=(*network.nodes, network.nodes[-1])))


def test_an_output_that_nothing_writes_is_refused() -> None:
    with pytest.raises(ModelError, match="graph output 'nowhere' is written by no node"):
        validate(replace(two_layers(), outputs=("nowhere",)))


def test_an_unknown_shape_is_refused() -> None:
    network = Network(("x",), ("x",), (), {"x": Tensor("x", None)})
    assert network.tensors["x"].size == 0
    with pytest.raises(ModelError, match="shape of tensor 'x' is not known"):
        network.shape("x")


def test_digest_is_the_same_for_equal_networks_only() -> None:
    network = two_layers()
    assert network.digest == two_layers().digest
    first = network.nodes[0].op
    assert isinstance(first, Dense)
    bias = np.nextafter(first.bias, np.float32(1))
    variants = [
        replace(first, bias=bias),
        replace(first, bias=None),
        replace(first, alpha=2.0),
        replace(first, weight=first.weight.astype(np.float64)),
        replace(first, weight=first.weight.reshape(2, 1)),
        replace(first, weight=-first.weight),
    ]
    digests = {replace(network, nodes=(replace(network.nodes[0], op=op), *network.nodes[1:])).digest for op in variants}
    digests |= {replace(network, outputs=("h1",)).digest, replace(network, batched=False).digest, network.digest}
    assert len(digests) == len(variants) + 3


def test_networks_cannot_be_changed() -> None:
    network = two_layers()
    with pytest.raises(FrozenInstanceError):
        network.nodes = ()  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        readonly([1.0, 2.0])[0] = 3.0


def test_readonly_does_not_lock_what_it_was_given() -> None:
    mine = np.zeros(2)
    readonly(mine)
    mine[0] = 1.0
    assert mine.tolist() == [1.0, 0.0]
