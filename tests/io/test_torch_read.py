"""PyTorch modules in: the network says what the module does for every length of the batch, or says nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.utils import checkpoint
from torch_models import Fn, Fn2, kinds, largest_gap, linear, read, samples

from reluce import ModelError, UsageError
from reluce.io import measure
from reluce.io._torch import TorchLoaded, read_module

W = nn.Parameter(samples((4,), 4, seed=5))
V = nn.Parameter(samples((4,), 1, seed=6)[0] + 4)
Body = Callable[[Any, torch.Tensor], Any]


def fn(body: Body, **parts: Any) -> Fn:
    return Fn(body, w=nn.Parameter(W.detach().clone()), v=nn.Parameter(V.detach().clone()), **parts)


def assert_same(module: nn.Module, *shapes: tuple[int, ...], rounding: float = 1e-12) -> TorchLoaded:
    """Read from three samples, compare for one, two and five: other lengths than torch has seen."""
    loaded = read(module, *(samples(shape, 3) for shape in shapes))
    assert loaded.network.batched
    for count in (1, 2, 5):
        inputs = [samples(shape, count, seed=place) for place, shape in enumerate(shapes, 7)]
        assert largest_gap(loaded, module, *inputs) <= rounding
    return loaded


def test_a_gap_is_seen() -> None:
    module = nn.Sequential(nn.Linear(4, 2)).double()
    loaded = read(module, samples((4,), 3))
    with torch.no_grad():
        module[0].bias += 1e-6
    assert largest_gap(loaded, module, samples((4,), 2)) > 1e-7
    with pytest.raises(AssertionError):
        assert_same(Fn(lambda s, x: x[:100]), (4,))


MODELLED: dict[str, tuple[Body, list[str]]] = {
    "linear": (lambda s, x: functional.linear(x, s.w, s.v), ["Dense"]),
    "addmm": (lambda s, x: torch.addmm(s.v, x, s.w, alpha=0.3, beta=0.7), ["Dense"]),
    "addmm without bias": (lambda s, x: torch.addmm(s.v, x, s.w, beta=0), ["Dense"]),
    "matmul": (lambda s, x: x @ s.w, ["Dense"]),
    "matmul with a vector": (lambda s, x: x @ s.v, ["Dense", "Select"]),
    "matmul with a computed weight": (lambda s, x: x @ s.w.t(), ["Dense"]),
    "number": (lambda s, x: (1 - x) / 3 + 0.1, ["Affine", "Affine", "Affine"]),
    "constants": (lambda s, x: (s.v - x) * s.v / s.v + s.v[0], ["Affine"] * 4),
    "rsub": (lambda s, x: torch.rsub(x, 2.5), ["Affine"]),
    "difference": (lambda s, x: x - x.relu(), ["Relu", "Affine", "Add"]),
    "broadcast": (lambda s, x: x + x[:, :1], ["Select", "Select", "Add"]),
    "constant made on the way": (lambda s, x: x * torch.full((4,), 2.0, dtype=x.dtype), ["Affine"]),
    "constant for each sample": (lambda s, x: x + s.v.expand(x.shape[0], 4), ["Constant", "Add"]),
    "zeros for each sample": (lambda s, x: x + torch.zeros(x.shape[0], 4, dtype=x.dtype), ["Constant", "Add"]),
    "negative": (lambda s, x: -x, ["Affine"]),
    "relu in place": (lambda s, x: (x * 1.0).relu_(), ["Affine", "Relu"]),
    "clamp as relu": (lambda s, x: x.clamp(min=0), ["Relu"]),
    "clamps": (lambda s, x: x.clamp(-1, 1).clamp_max(0.5), ["Activation", "Activation"]),
    "leaky relu": (lambda s, x: functional.leaky_relu(x), ["Activation"]),
    "elu": (lambda s, x: functional.elu(x, 0.3), ["Activation"]),
    "hardtanh": (lambda s, x: functional.relu6(functional.hardtanh(x)), ["Activation", "Activation"]),
    "sigmoid": (lambda s, x: torch.sigmoid(x).tanh(), ["Activation", "Activation"]),
    "softmax": (lambda s, x: x.softmax(-1), ["Softmax"]),
    "picked by a list": (lambda s, x: x[:, [2, 0]], ["Select"]),
    "moves": (lambda s, x: torch.cat(x.view(-1, 2, 2).transpose(1, 2).flatten(1).split([1, 3], 1)[::-1], 1), []),
    "stack": (lambda s, x: torch.stack(x.unbind(1)[::-1], 1).roll(1, 1).flip(1), []),
    "repeat": (lambda s, x: x.repeat(1, 2).unsqueeze(1).expand(-1, 3, 8)[..., ::2].movedim(1, 2), []),
    "chunk": (lambda s, x: sum(x.chunk(2, 1)), []),
    "inputs and results twice": (lambda s, x: {"a": (y := x.relu()), "b": [x, (y, None)], "c": 3}, ["Relu"]),
    "checkpoint": (lambda s, x: checkpoint.checkpoint(lambda y: functional.relu(y @ s.w), x, use_reentrant=False), []),
}


@pytest.mark.parametrize(("body", "expected"), MODELLED.values(), ids=MODELLED)
def test_what_is_modelled_is_computed(body: Body, expected: list[str]) -> None:
    found = kinds(assert_same(fn(body), (4,)))
    assert not any(kind.startswith("?") for kind in found)
    assert found == expected or not expected


def test_the_rank_of_a_sample_may_be_two() -> None:
    body = fn(lambda s, x: (s.w @ functional.linear(x, s.w, s.v)).softmax(1) + s.v)
    assert kinds(assert_same(body, (4, 4))) == ["Dense", "Select", "Dense", "Select", "Softmax", "Affine"]


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(4), (4,)),
        (nn.BatchNorm1d(3, eps=0.3), (3, 5)),
        (nn.BatchNorm1d(4, affine=False), (4,)),
        (nn.BatchNorm2d(2), (2, 3, 3)),
    ],
)
def test_batch_normalisation(norm: Any, shape: tuple[int, ...]) -> None:
    norm.double()
    torch.nn.init.uniform_(norm.running_mean)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    assert kinds(assert_same(norm, shape)) == ["BatchNorm"]


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.float16, 1e-2)])
def test_formats(dtype: torch.dtype, rounding: float) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.LeakyReLU(), nn.Hardtanh(-0.1, 0.3)).to(dtype)
    loaded = read(module, samples((4,), 3, dtype))
    assert largest_gap(loaded, module, samples((4,), 5, dtype)) <= rounding
    slope = loaded.network.nodes[2].op.parameters[0]  # type: ignore[attr-defined]
    assert slope == float(torch.tensor(0.01))


def test_formats_are_not_mixed_silently() -> None:
    x = samples((4,), 3, torch.float32)
    assert kinds(read(Fn(lambda s, x: x + x.double()), x)) == ["Select", "?add"]
    assert kinds(read(Fn(lambda s, x: x.half().float()), x)) == ["?_to_copy", "Select"]
    assert kinds(read(Fn(lambda s, x: x * 0.1), x.half())) == ["?mul"]  # torch multiplies by the float32 number
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        assert "?linear" in kinds(read(nn.Linear(4, 2, dtype=torch.bfloat16), x.bfloat16()))


OPAQUE: dict[str, Body] = {
    "gelu": lambda s, x: functional.gelu(x),
    "softplus": lambda s, x: functional.softplus(x),
    "mean": lambda s, x: x.mean(1),
    "sum": lambda s, x: x.sum(1),
    "maximum": lambda s, x: torch.maximum(x, -x),
    "masked": lambda s, x: x.masked_fill(x > 0, 0),
    "masked by a product": lambda s, x: x * (x > 0),
    "embedding": lambda s, x: functional.embedding((x > 0).long(), s.w).flatten(1),
    "integers": lambda s, x: x + x.int(),
    "rounding": lambda s, x: torch.div(x, 2, rounding_mode="floor"),
    "flip of the batch": lambda s, x: x.flip(0),
    "centred over the batch": lambda s, x: x - x.mean(0),
    "first of the batch": lambda s, x: x + x[:1],
    "roll of the batch": lambda s, x: x.roll(6, 0),  # by a multiple of every length that is tried
    "roll of everything": lambda s, x: x.roll(24),
    "roll by the batch": lambda s, x: x.roll(x.shape[0] // 4, 1),
    "transposed batch": lambda s, x: x.t(),
    "mixed batch": lambda s, x: x.reshape(-1, 2),
    "doubled batch": lambda s, x: torch.cat([x, x]),
    "softmax over the batch": lambda s, x: x.softmax(0),
    "scaled by the batch": lambda s, x: x * x.shape[0],
    "shifted by the batch": lambda s, x: x + x.shape[0] * 0.5,
    "numbered": lambda s, x: x + torch.arange(x.shape[0], dtype=x.dtype)[:, None],
    "squeezed": lambda s, x: x.squeeze(),
}


@pytest.mark.parametrize("body", OPAQUE.values(), ids=OPAQUE)
def test_what_is_not_modelled_is_opaque(body: Body) -> None:
    assert any(kind.startswith("?") for kind in kinds(assert_same(fn(body), (4,))))


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(2, 2)),
        Fn(lambda s, x: s.lstm(x)[0][..., -1], lstm=nn.LSTM(4, 3, batch_first=True)),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    ],
    ids=["convolution", "lstm", "attention"],
)
def test_modules_that_are_not_modelled(module: nn.Module) -> None:
    assert any(kind.startswith("?") for kind in kinds(assert_same(module.double(), (1, 4))))


def test_normalisation_by_the_batch_at_hand_is_opaque() -> None:
    module = nn.BatchNorm1d(4, track_running_stats=False).double().eval()
    loaded = read(module, samples((4,), 3))
    assert kinds(loaded) == ["?_native_batch_norm_legit"]


SPECIAL: dict[str, Body] = {
    "odd": lambda s, x: x * 2 if x.shape[0] % 2 else x,
    "one": lambda s, x: x * 2 if x.shape[0] == 1 else x,
    "two": lambda s, x: x * 2 if x.shape[0] == 2 else x,
    "few": lambda s, x: x * 2 if x.numel() < 17 else x,
    "at most 100": lambda s, x: x[:100],
}


@pytest.mark.parametrize("body", SPECIAL.values(), ids=SPECIAL)
def test_a_path_for_some_lengths_of_the_batch_is_not_taken_for_all(body: Body) -> None:
    module = Fn(body)
    loaded = read(module, samples((4,), 3))
    assert not loaded.network.batched
    assert largest_gap(loaded, module, samples((4,), 3, seed=9)) == 0
    assert any("shapes of the examples only: x [3, 4]" in note for note in loaded.notes)


def test_a_module_may_fix_its_batch() -> None:
    module = Fn(lambda s, x: s.fc(x.view(1, -1)), fc=linear([[1.0] * 12], [0.5]))
    loaded = read(module, samples((4,), 3))
    assert kinds(loaded) == ["Select", "Dense"]
    assert largest_gap(loaded, module, samples((4,), 3, seed=9)) <= 1e-12


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 4)])
def test_examples_of_one_sample_or_none(shape: tuple[int, ...]) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).double()
    loaded = read(module, torch.ones(shape, dtype=torch.float64))
    assert loaded.network.batched is (len(shape) == 2)
    point = samples((4,), 5, seed=2) if len(shape) == 2 else samples((4,), 1)[0]
    assert largest_gap(loaded, module, point) <= 1e-12


def test_several_inputs() -> None:
    for body in (lambda s, a, b: a - 2 * b, lambda s, a, b: (a.relu(), torch.cat([a, b], 1))):
        assert_same(Fn2(body), (4,), (4,))
    assert "?matmul" in kinds(assert_same(Fn2(lambda s, a, b: a @ b.t()), (4,), (4,)))
    named = read_module(Fn2(lambda s, a, b: a - 2 * b), {"b": samples((4,), 3), "a": samples((4,), 2)[:1].expand(3, 4)})
    assert named.network.inputs == ("a", "b")


class Signature(nn.Module):
    def forward(self, input: torch.Tensor, *rest: torch.Tensor, scale: float = 2.0, **named: torch.Tensor) -> Any:  # noqa: A002
        return input * scale - sum(rest) - sum(named.values())


def test_any_signature() -> None:
    x, y = samples((4,), 3), samples((4,), 3, seed=1)
    assert largest_gap(read(Signature(), x, y), Signature(), y, x) == 0
    loaded = read_module(Signature(), {"input": x, "other": y})
    assert [found.tolist() for found in loaded.program.run([x, y])] == [(2 * x - y).tolist()]


class Shared(nn.Module):
    """One layer, called three times, under two names, tied to another."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a
        self.c = nn.Linear(4, 4)
        self.c.weight = self.a.weight
        self.r = nn.ReLU()

    def forward(self, x: torch.Tensor) -> Any:
        return self.c(self.r(self.b(self.r(self.a(self.r(self.a(x)))))))


def test_modules_called_again_and_tied_weights() -> None:
    loaded = assert_same(Shared().double(), (4,))
    assert [node.name for node in loaded.network.nodes] == ["a", "r", "a#2", "r#2", "b", "r#3", "c"]
    assert measure(loaded).parameters == 16 + 4 + 4


class Kept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.ones(4, dtype=torch.float64), persistent=False)
        self.p = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.wide = nn.Parameter(torch.ones(1, dtype=torch.float64).expand(4))
        self.turned = nn.Parameter(samples((3,), 4).t())
        self.plain = torch.ones(4, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> Any:
        with torch.no_grad():
            y = x * self.p * self.wide + self.k + self.plain
        return functional.linear(y, self.turned), torch.tensor([1.0, 2.0]), x


def test_all_ways_to_store_a_tensor() -> None:
    assert kinds(assert_same(Kept(), (4,)))[:5] == ["Affine", "Affine", "Affine", "Affine", "Dense"]


def test_hooks_and_writing_into_the_input() -> None:
    layer = nn.Linear(4, 4).double()
    layer.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    layer.register_forward_hook(lambda module, given, result: functional.relu(result) * 2)
    assert kinds(assert_same(nn.Sequential(layer), (4,))) == ["Affine", "Dense", "Relu", "Affine"]
    x = samples((4,), 3)
    for module in (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2)).double(), Fn(lambda s, x: x.add_(1) * 2)):
        loaded = read(module, x)
        assert torch.equal(x, samples((4,), 3))
        (found,), (expected,) = loaded.program.replay([x.clone()]), [module(x.clone())]
        assert torch.equal(found, expected)


def test_weights_made_of_others() -> None:
    pruned = nn.Linear(4, 3)
    prune.l1_unstructured(pruned, "weight", 0.5)
    for layer in (pruned, parametrizations.weight_norm(nn.Linear(4, 3)), parametrizations.orthogonal(nn.Linear(4, 4))):
        loaded = assert_same(nn.Sequential(layer, nn.ReLU()).double(), (4,))
        assert kinds(loaded) == ["Dense", "Relu"]
        assert any("depends on weights alone" in note for note in loaded.notes)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad


def test_autograd_functions_are_followed() -> None:
    assert kinds(assert_same(Fn(lambda s, x: Twice.apply(x)), (4,))) == ["Affine"]


def _count(s: Any, x: torch.Tensor) -> Any:
    s.calls += 1
    return x * s.calls


def _mutate(s: Any, x: torch.Tensor) -> Any:
    s.n.add_(1)
    return x * s.n


BROKEN: dict[str, tuple[nn.Module, str]] = {
    "dropout": (Fn(lambda s, x: functional.dropout(x, training=True)), "random in eval mode"),
    "noise": (nn.Sequential(Fn(lambda s, x: x + torch.rand(4))), "aten.rand in submodule '0' (Fn) is random"),
    "counter": (Fn(_count, calls=0), "does the module keep a state between calls"),
    "buffer": (Fn(_mutate, n=torch.ones(())), "changes its buffer n"),
    "branch": (nn.Sequential(nn.Identity(), Fn(lambda s, x: x if x.sum() > 0 else -x)), "in submodule '1' (Fn)"),
    "shape": (nn.Sequential(nn.Linear(4, 3), nn.Linear(4, 3)), "does not run on the example inputs, in submodule '1'"),
}


@pytest.mark.parametrize(("module", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_function_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError) as error:
        read(module.double(), samples((4,), 3))
    assert message in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lazy_modules_have_to_run_first() -> None:
    with pytest.raises(ModelError, match=r"'0\.weight' has no shape yet"):
        read(nn.Sequential(nn.LazyLinear(3)), samples((4,), 3, torch.float32))


def test_weights_that_are_not_finite_are_named() -> None:
    module = nn.Sequential(linear([[1.0, float("nan")]], [0.0]))
    with pytest.raises(ModelError, match=r"'0.weight' holds nan at index \[0, 1\]"):
        read(module, samples((2,), 3))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (None, "needs example_inputs"),
        ([[1.0]], "expected tensors, found list"),
        ({"x": torch.ones(3, 4), "y": torch.ones(1)}, "no argument 'y'; it has x"),
    ],
)
def test_example_inputs(examples: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_module(Fn(lambda s, x: x), examples)
