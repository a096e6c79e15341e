"""PyTorch modules out: smaller, computing the same, and good for all that one does with a module."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import level_of
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch_models import Fn, known, linear, samples, tensors

import reluce
from reluce import Exact, Settings

Module = nn.Module
DOUBLE = torch.float64


def compressed(module: Module, *shapes: tuple[int, ...], budget: float | None = None) -> reluce.Result:
    examples = tuple(torch.zeros(3, *shape, dtype=DOUBLE) for shape in shapes)
    return reluce.compress(module.eval(), "0,1", example_inputs=examples, settings=Settings(level_of(budget)))


def points(shape: tuple[int, ...], count: int, corners: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    steps = 1 if corners else 8
    return torch.randint(0, steps + 1, (count, *shape), generator=generator).to(DOUBLE) / steps


def largest_difference(first: Module, second: Module, *shapes: tuple[int, ...]) -> float:
    """Over corners and points of the unit box, in batches of one, two and sixty-four."""
    worst = 0.0
    for count, corners in ((1, False), (2, True), (64, False), (64, True)):
        inputs = [points(shape, count, corners) for shape in shapes]
        with torch.no_grad():
            pairs = zip(tensors(first(*inputs)), tensors(second(*inputs)), strict=True)
            for a, b in pairs:
                assert a.shape == b.shape
                assert a.dtype == b.dtype
                worst = max(worst, float((a - b).abs().max()))
    return worst


def assert_trains(module: Module, *inputs: torch.Tensor) -> None:
    """One step of an optimiser moves every parameter that is not frozen, and changes no shape."""
    copied = copy.deepcopy(module).train()
    before = {name: value.detach().clone() for name, value in copied.named_parameters()}
    optimizer = torch.optim.SGD(copied.parameters(), 0.1)
    sum(value.pow(2).sum() for value in tensors(copied(*inputs)) if value.requires_grad).backward()
    optimizer.step()
    for name, value in copied.named_parameters():
        assert value.shape == before[name].shape
        assert value.requires_grad is not torch.equal(value, before[name])


def assert_saves(module: Module, *inputs: torch.Tensor) -> None:
    """A state_dict goes through a file into a copy; the whole module can be pickled."""
    with torch.no_grad():
        expected = tensors(module(*inputs))
    copied, file = copy.deepcopy(module), io.BytesIO()
    torch.save(module.state_dict(), file)
    with torch.no_grad():
        for value in copied.parameters():
            value.add_(1)
    file.seek(0)
    copied.load_state_dict(torch.load(file))
    for other in (copied, pickle.loads(pickle.dumps(module))):
        with torch.no_grad():
            assert all(map(torch.equal, tensors(other(*inputs)), expected))


def assert_exports(module: Module, *inputs: torch.Tensor) -> None:
    with torch.no_grad():
        expected = tensors(module(*inputs))
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, inputs).module()
        onnx = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
        assert onnx is not None
        found = onnx(*inputs)
    for result in (tensors(exported(*inputs)), found):
        assert all(np.allclose(a.detach(), b, rtol=0, atol=1e-5) for a, b in zip(result, expected, strict=True))


def names(module: Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def test_comparisons_can_fail() -> None:
    a, _ = known()
    other = copy.deepcopy(a)
    with torch.no_grad():
        other.bias[0] += 1e-9
    assert largest_difference(a, other, (2,)) > 1e-10
    x = points((2,), 2)
    with pytest.raises(AssertionError):
        assert_trains(Fn(lambda s, x: s.a(x), a=a, b=other), x)  # b is not read
    with pytest.raises((AssertionError, AttributeError, pickle.PicklingError)):
        assert_saves(Fn(lambda s, x: x, a=a), x)


class Residual(nn.Module):
    """Two branches whose first and fifth units are dead, summed or joined."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.joined = joined
        self.left, self.right = known()[0], known()[0]
        with torch.no_grad():
            self.right.weight[4], self.right.bias[4] = 0.0, -1.0
            self.left.bias[4] = -1.0
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.out = linear(np.arange(1, 37 if joined else 19).reshape(3, -1).tolist(), [0.0, 1.0, 2.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.relu(self.left(x)), self.drop(self.relu(self.right(1 - x)))
        return self.out(torch.cat([left, right], 1) if self.joined else left + right)


def sequential(*between: Module) -> nn.Sequential:
    a, b = known()
    return nn.Sequential(a, *between, b)


def test_a_sequential_stays_one_under_its_names() -> None:
    module = sequential(nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Dropout(0.2))
    before = copy.deepcopy(module.state_dict())
    module.train()
    result = reluce.compress(module, "0,1", example_inputs=torch.zeros(3, 2, dtype=DOUBLE))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    small = result.model
    assert type(small) is nn.Sequential
    assert names(small) == ["0.weight", "0.bias", "4.weight", "4.bias"]
    assert [type(layer).__name__ for layer in small] == ["Linear", "Dropout", "ReLU", "Dropout", "Linear"]
    assert [small[0].out_features, small[1].p, small[3].p] == [3, 0.5, 0.2]
    assert not small.training
    assert largest_difference(module.eval(), small, (2,)) <= 1e-12
    x = points((2,), 4)
    assert_trains(small, x)
    assert_saves(small, x)
    assert_exports(small, x)
    torch.manual_seed(0)
    assert not torch.equal(small.train()(x), small(x))


def test_within_a_budget() -> None:
    module = sequential(nn.ReLU())
    with torch.no_grad():
        module[0].weight[5] *= 1e-5
    result = compressed(module, (2,), budget=1e-3)
    assert result.report.compressed is not None
    assert result.report.guarantee is not None
    assert result.report.compressed.parameters < compressed(module, (2,)).report.compressed.parameters
    assert largest_difference(module, result.model, (2,)) <= result.report.guarantee.epsilon + 1e-12 <= 1e-3 + 1e-12


@pytest.mark.parametrize("joined", [False, True])
def test_branches_shrink_together(joined: bool) -> None:
    module = Residual(joined)
    small = compressed(module, (2,)).model
    assert names(small) == [f"{layer}.{what}" for layer in ("left", "right", "out") for what in ("weight", "bias")]
    assert small.left.out_features < 6
    assert small.right.out_features < 6
    assert largest_difference(module, small, (2,)) <= 1e-11
    assert_trains(small, points((2,), 4))
    assert_saves(small, points((2,), 4))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_shrinks_and_goes_on_learning(affine: bool) -> None:
    norm = nn.BatchNorm1d(6, eps=0.25, momentum=None, affine=affine).double()
    norm(samples((6,), 8))
    module = sequential(norm, nn.ReLU())
    module[0].bias.data[0] -= 5
    small = compressed(module, (2,)).model
    assert small[1].num_features < 6
    assert (small[1].eps, small[1].momentum, small[1].affine) == (0.25, None, affine)
    assert small[1].num_batches_tracked == 1
    assert largest_difference(module, small, (2,)) <= 1e-12
    mean = small[1].running_mean.clone()
    small.train()(points((2,), 4))
    assert not torch.equal(mean, small[1].running_mean)


def test_frozen_stays_frozen_and_tied_stays_tied() -> None:
    module = sequential(nn.ReLU())
    module[0].requires_grad_(False)
    small = compressed(module, (2,)).model
    assert [value.requires_grad for value in small.parameters()] == [False, False, True, True]
    first, second = linear([[1.0, 2.0], [0.5, 1.0]], [0.0, 0.0]), linear([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.0])
    second.weight = first.weight
    tied = nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), *sequential(nn.ReLU()))
    small = compressed(tied, (2,)).model
    assert small[0].weight is small[2].weight
    assert small[4].out_features == 3


class Block(nn.Module):
    """A module of the user's own, of several operations that no rewrite touches."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = linear([[1.0, 2.0], [3.0, 4.0]], [0.5, 0.5])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.tanh(self.fc(x)) * 2)


STEMS: dict[str, tuple[Callable[[], Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Sequential(nn.Conv1d(1, 1, 3), nn.MaxPool1d(2), nn.Flatten(), nn.Sigmoid()), (1, 6)),
    "lstm": (lambda: Fn(lambda s, x: s.lstm(x)[0][:, -1].sigmoid(), lstm=nn.LSTM(3, 2, batch_first=True)), (4, 3)),
    "attention": (
        lambda: Fn(lambda s, x: s.t(x)[:, 0].sigmoid(), t=nn.TransformerEncoderLayer(2, 1, 4, batch_first=True)),
        (4, 2),
    ),
    "indices": (lambda: Fn(lambda s, x: s.pool(x)[0].sigmoid(), pool=nn.MaxPool1d(2, return_indices=True)), (4,)),
    "output size": (
        lambda: Fn(
            lambda s, x: s.up(x[:, None], output_size=(2,)).flatten(1).sigmoid(), up=nn.ConvTranspose1d(1, 1, 2)
        ),
        (1,),
    ),
    "own block": (Block, (2,)),
    "weight norm": (lambda: nn.Sequential(parametrizations.weight_norm(Block().fc), nn.Sigmoid()), (2,)),
    "hook": (lambda: nn.Sequential(prune.l1_unstructured(Block().fc, "weight", 0.5), nn.Sigmoid()), (2,)),
}


@pytest.mark.parametrize(("stem", "shape"), STEMS.values(), ids=STEMS)
def test_a_dense_tail_shrinks_behind_what_stays(stem: Callable[[], Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    front = stem().double().eval()
    module = nn.Sequential(front, *sequential(nn.ReLU()))
    small = compressed(module, shape).model
    before, after = dict(module.named_parameters()), dict(small.named_parameters())
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("0."))
    assert len(after["1.weight"]) < 6
    assert largest_difference(module, small, shape) <= 1e-12
    assert_trains(small, points(shape, 4))


def test_what_worked_in_place_overwrites_nothing() -> None:
    a, b = known()

    def forward(s: Any, x: torch.Tensor) -> Any:
        z = s.a(x)
        return s.b(s.r(z.clone())), z[:, :2]

    module = Fn(forward, a=a, b=b, r=nn.ReLU(inplace=True))
    small = compressed(module, (2,)).model
    assert isinstance(small, torch.fx.GraphModule)
    assert largest_difference(module, small, (2,)) <= 1e-12
    first = nn.Sequential(nn.ReLU(inplace=True), *sequential(nn.ReLU()))
    small, x = compressed(first, (2,)).model, -points((2,), 4)
    small(x)
    assert torch.equal(x, -points((2,), 4))


def test_a_hook_that_computes_is_not_called_again() -> None:
    a, b = known()
    a.register_forward_hook(lambda module, given, result: result.relu())
    b.register_forward_pre_hook(lambda module, given: (given[0].clone(),))
    module = nn.Sequential(a, b)
    small = compressed(module, (2,)).model
    assert largest_difference(module, small, (2,)) <= 1e-12
    assert sum(value.numel() for value in small.parameters()) == 17


def test_results_of_any_structure() -> None:
    a, b = known()
    module = Fn(
        lambda s, x: {"y": s.b(s.a(x).relu()), "n": [3, x, None, s.k, s.k * 2], "s": x.shape[0]},
        a=a,
        b=b,
        k=torch.ones(3).double(),
    )
    small = compressed(module, (2,)).model
    x = points((2,), 5)
    found, expected = small(x), module(x)
    assert found.keys() == expected.keys()
    assert (found["s"], found["n"][0], found["n"][2]) == (5, 3, None)
    assert largest_difference(module, small, (2,)) <= 1e-12


def test_a_constant_network() -> None:
    module = nn.Sequential(*sequential(nn.ReLU()), nn.ReLU(), linear([[1.0, 1.0]], [0.5]))
    half = torch.full((3, 2), 0.5, dtype=DOUBLE)
    result = reluce.compress(module, "0.5,0.5", example_inputs=half)
    assert result.report.compressed.parameters == 1
    for count in (1, 5):
        with torch.no_grad():
            assert torch.allclose(
                result.model(half[:1].expand(count, 2)), module(half[:1]).expand(count, 1), atol=1e-12
            )
    assert_saves(result.model, half)


def test_a_network_that_is_unchanged_is_a_copy() -> None:
    module = Residual(False)
    with torch.no_grad():
        module.left.bias += 100
        module.right.bias += 100
        module.left.weight.normal_()
        module.right.weight.normal_()
    small = reluce.compress(
        module, "0,1", example_inputs=torch.zeros(3, 2, dtype=DOUBLE), settings=Settings(time_limit=0)
    ).model
    assert type(small) is Residual
    assert small is not module
    assert small.left.weight is not module.left.weight


def test_a_skip_is_a_concatenation() -> None:
    """Four active units and one that is not stable; what reads them reads the input instead, and the one."""
    first = linear([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, -1, 1, -1]], [1, 1, 1, 1, 0])
    last = linear([[1, 2, 0, 1, 1], [0, 1, 3, 1, -1], [2, 0, 1, 4, 1], [1, 1, 2, -1, 1]], [0, 1, -1, 0])
    module = nn.Sequential(first, nn.ReLU(), last)
    examples, chosen = (torch.zeros(3, 4, dtype=DOUBLE),), Settings(Exact(), skips=True)
    result = reluce.compress(module.eval(), "0,1", example_inputs=examples, settings=chosen)
    assert sum(value.numel() for value in result.model.parameters()) == 4 + 1 + 5 * 4 + 4
    assert largest_difference(module, result.model, (4,)) < 1e-12
    assert_trains(result.model, points((4,), 8))
    assert_saves(result.model, points((4,), 8))


ROWS = st.lists(st.sampled_from([0, 0, 0, 1, -1, 0.5, 2]), min_size=3, max_size=3)


@st.composite
def modules(draw: st.DrawFn) -> Module:
    """MLP-like modules with dyadic weights, many of them zero or equal."""

    def layer(outputs: int, shift: float) -> nn.Linear:
        rows = draw(st.lists(ROWS, min_size=2, max_size=2))
        weight = [rows[draw(st.integers(0, 1))] for _ in range(outputs)]
        return linear(weight, [draw(st.sampled_from([0.0, 1.0, -1.0, shift])) for _ in range(outputs)])

    inner = nn.Sequential(layer(3, -4.0), nn.Dropout(), nn.ReLU(inplace=draw(st.booleans())))
    parts: dict[str, Any] = {"first": layer(3, 4.0), "inner": inner, "last": layer(2, 0.25)}
    shape = draw(st.sampled_from(["chain", "residual", "joined", "normalised"]))
    match shape:
        case "residual":
            return Fn(lambda s, x: s.last((h := s.first(x).relu()) + s.inner(h)), **parts)
        case "joined":
            wide = layer(3, 0.5)
            return Fn(
                lambda s, x: s.last(s.wide(torch.cat([s.first(x).relu()[:, :2], s.inner(x)[:, 1:2]], 1))),
                wide=wide,
                **parts,
            )
        case "normalised":
            norm = nn.BatchNorm1d(3, eps=0.0).double()
            norm.running_mean = torch.tensor([0.5, 0.0, -1.0], dtype=DOUBLE)
            norm.running_var = torch.tensor([4.0, 0.25, 1.0], dtype=DOUBLE)
            return Fn(lambda s, x: s.last(s.inner(torch.clamp(s.norm(s.first(x)), min=0))), norm=norm, **parts)
    return nn.Sequential(nn.Sequential(parts["first"], nn.ReLU(inplace=True)), inner, parts["last"])


@settings(max_examples=12, deadline=None)
@given(modules(), st.sampled_from([None, 1e-3]))
def test_any_module_keeps_its_function(module: Module, budget: float | None) -> None:
    result = compressed(module, (3,), budget=budget)
    assert result.report.guarantee is not None
    assert largest_difference(module, result.model, (3,)) <= result.report.guarantee.epsilon + 1e-12
