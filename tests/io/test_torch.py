"""PyTorch in and out of ``compress``, ``inspect`` and ``to_torch``: the result, its errors, and ONNX as a module."""

import dataclasses
import io
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from onnx import ModelProto, helper
from tiny_models import DIGITS, all_unstable, build, known, opaque_between, random_chain, residual, run, two_inputs
from torch import nn
from torch_models import known as known_layers

import reluce
from reluce import ModelError, UsageError
from reluce.facts import Verdict
from reluce.io import loads

EXAMPLE = torch.zeros(3, 2, dtype=torch.float64)


def module() -> nn.Module:
    a, b = known_layers()
    return nn.Sequential(a, nn.ReLU(), b)


def test_the_result_is_frozen_and_tells_all() -> None:
    for result in (
        reluce.compress(module(), "0,1", example_inputs=EXAMPLE),
        reluce.inspect(module(), "0,1", example_inputs=EXAMPLE),
    ):
        expected = [Verdict.INACTIVE, *[Verdict.ACTIVE] * 3, Verdict.CONSTANT, Verdict.UNSTABLE]
        assert list(result.verdicts["1"]) == expected
        assert "inactive" in str(result)
        assert str(result) == str(result.report)
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.report = None  # type: ignore[misc]


def test_only_onnx_goes_to_a_file() -> None:
    with pytest.raises(UsageError, match="only ONNX is written to a file"):
        reluce.compress(module(), "0,1", example_inputs=EXAMPLE, output="small.onnx")


@pytest.mark.parametrize("build", [known, all_unstable, residual, two_inputs, lambda: random_chain([3, 5, 4, 2])])
def test_onnx_becomes_a_module_and_onnx_again(build: Callable[[], ModelProto]) -> None:
    model = build()
    network = loads(model.SerializeToString()).network
    made = reluce.to_torch(model)
    generator = np.random.default_rng(0)
    feeds = {name: generator.random((4, *network.shape(name)), np.float32) for name in network.inputs}
    examples = tuple(map(torch.from_numpy, feeds.values()))
    (expected,) = run(model.SerializeToString(), **feeds)
    assert np.allclose(made(*examples).detach().numpy(), expected, rtol=0, atol=1e-5)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(made, examples, dynamo=True, verbose=False)
    assert program is not None
    (again,) = run(
        program.model_proto.SerializeToString(),
        **dict(zip(made_inputs(program.model_proto), feeds.values(), strict=True)),
    )
    assert np.allclose(again, expected, rtol=0, atol=1e-5)
    before = reluce.inspect(model, "0,1")
    after = reluce.inspect(made, "0,1", example_inputs=examples)
    assert list(before.verdicts.values()) == list(after.verdicts.values())


def made_inputs(model: ModelProto) -> list[str]:
    return [entry.name for entry in model.graph.input]


def test_the_digits() -> None:
    made = reluce.to_torch(DIGITS)
    points = np.random.default_rng(0).random((8, 64), np.float32)
    (name,) = reluce.inspect(DIGITS, "0,1").loaded.network.inputs
    (expected,) = run(DIGITS, **{name: points})
    assert np.allclose(made(torch.from_numpy(points)).detach().numpy(), expected, rtol=0, atol=1e-4)


def test_what_is_not_modelled_cannot_become_a_module() -> None:
    with pytest.raises(ModelError, match="Erf"):
        reluce.to_torch(opaque_between())


@pytest.mark.parametrize("flags", [{}, {"transB": 1}])
def test_weights_that_nodes_share_stay_shared(flags: dict[str, int]) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["z1"], **flags),
        helper.make_node("Relu", ["z1"], ["h1"]),
        helper.make_node("Gemm", ["h1", "W", "b"], ["y"], **flags),
    ]
    constants = {"W": np.array([[1, -2], [3, 4]], np.float32), "b": np.array([1, -1], np.float32)}
    module = reluce.to_torch(build(nodes, {"x": ["N", 2]}, {"y": ["N", 2]}, constants))
    assert sum(parameter.numel() for parameter in module.parameters()) == 6
    assert reluce.inspect(module, "0,1", example_inputs=torch.zeros(1, 2)).report.model.parameters == 6


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reluce.io._torch_write", None)
    with pytest.raises(UsageError, match="needs the extra 'torch'"):
        reluce.to_torch(known())
