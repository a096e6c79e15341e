"""Renaming: a network that was read back bears the names of the one that it was built from, and computes the same."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch_models
from hypothesis import given
from hypothesis import strategies as st
from strategies import networks
from torch import nn

from reluce import compress
from reluce.io import Loaded, as_onnx, named_like, rebuild
from reluce.io._torch import _renamed
from reluce.network import Network, evaluate, validate


def points(network: Network) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=(3, *network.shape(name))) for name in network.inputs}


def assert_same_function(first: Network, second: Network) -> None:
    assert (first.inputs, first.outputs) == (second.inputs, second.outputs)
    one, two = evaluate(first, points(first)), evaluate(validate(second), points(first))
    for name in first.outputs:
        assert first.tensors[name] == second.tensors[name]
        assert np.array_equal(one[name], two[name])


@given(networks(), st.randoms())
def test_names_are_found_again(case: Any, random: Any) -> None:
    """Also where the names of the one are those of other tensors of the other."""
    network, _ = case
    inner = [name for name in network.tensors if name not in (*network.inputs, *network.outputs)]
    others = random.sample(inner, len(inner))
    nodes = [node.name for node in network.nodes]
    called = dict(zip(nodes, random.sample(nodes, len(nodes)), strict=True))
    mixed = _renamed(network, dict(zip(inner, others, strict=True)))
    mixed = replace(mixed, nodes=tuple(replace(node, name=called[node.name]) for node in mixed.nodes))
    found = named_like(mixed, network)
    assert_same_function(network, found)
    assert found.digest == network.digest
    assert as_onnx(found) == as_onnx(network)


@given(networks(), networks())
def test_any_two_networks(first: Any, second: Any) -> None:
    """Whatever the other network is, only names change, and none is given twice."""
    found = named_like(first[0], second[0])
    assert_same_function(first[0], found)
    assert len(found.tensors) == len(first[0].tensors)
    assert len({node.name for node in found.nodes}) == len(found.nodes)


def test_a_module_that_calls_its_tensors_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    rewritten: list[Network] = []

    def kept(loaded: Loaded, network: Network, metadata: Any) -> Loaded:
        rewritten.append(network)
        return rebuild(loaded, network, metadata)

    monkeypatch.setattr(sys.modules["reluce.compress"], "rebuild", kept)
    example = torch_models.samples((2, 3), 3, torch.float32)
    found = compress(module, "0,1", example_inputs=example).loaded.network
    named = named_like(found, rewritten[0])
    assert {node.output for node in found.nodes} != {node.output for node in rewritten[0].nodes}
    assert {node.output for node in named.nodes} == {node.output for node in rewritten[0].nodes}
    assert_same_function(found, named)
    assert as_onnx(named) == as_onnx(rewritten[0])
