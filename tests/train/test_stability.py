from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from train_tools import plain_loop, small_net

from reluce.errors import UsageError
from reluce.train import L1, Proximal, penalise, relu_bounds, stability_penalty

F64 = torch.float64


def drawn(model: nn.Sequential, seed: int = 0) -> nn.Sequential:
    """Random parameters and running statistics, in double precision and eval mode."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator, dtype=F64) / 2
                tensor.copy_(values.abs() + 0.1 if "var" in name else values)
    return model


def read_by_relus(model: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    found = []
    for layer in model:
        if isinstance(layer, nn.ReLU):
            found.append(x)
        x = layer(x)
    return found


MODELS: dict[str, tuple[tuple[int, ...], Any]] = {
    "dense": ((2, 3), lambda: [nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)]),
    "convolutions": (
        (2, 6, 6),
        lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 2, groups=3), nn.ReLU()],
    ),
    "normalised": (
        (2, 4, 4),
        lambda: [
            *(nn.Conv2d(2, 3, 3, stride=2, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(1), nn.Flatten()),
            *(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2)),
        ],
    ),
    "average": ((1, 4, 4), lambda: [nn.AvgPool2d(2), nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Identity()]),
    "unflattened": ((4, 4), lambda: [nn.Unflatten(1, (1, 4)), nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU()]),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_bounds_hold_what_is_reached(name: str, seed: int) -> None:
    shape, make = MODELS[name]
    model = drawn(nn.Sequential(*make()), seed)
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(shape, generator=generator, dtype=F64)
    high = low + torch.rand(shape, generator=generator, dtype=F64)
    points = low + (high - low) * torch.rand((300, *shape), generator=generator, dtype=F64).round(decimals=1)
    bounds = relu_bounds(model, low, high)
    reached = read_by_relus(model, points)
    assert len(bounds) == len(reached) > 0
    for (l, u), values in zip(bounds, reached, strict=True):
        assert l.shape == (1, *values.shape[1:])
        assert (l - 1e-12 <= values).all()
        assert (values <= u + 1e-12).all()
        assert (l < u).all()


def test_bounds_of_the_first_layer_are_those_of_the_corners() -> None:
    model = drawn(nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    low, high = torch.tensor([-1.0, 0, 0.5, -2], dtype=F64), torch.tensor([1.0, 1, 0.5, -1], dtype=F64)
    corners = torch.stack([torch.where(torch.tensor(ends), high, low) for ends in product([False, True], repeat=4)])
    ((l, u),) = relu_bounds(model, low, high)
    values = model[0](corners)
    assert torch.allclose(l[0], values.amin(0), rtol=0, atol=1e-12)
    assert torch.allclose(u[0], values.amax(0), rtol=0, atol=1e-12)


def test_a_point_has_the_bounds_of_its_values() -> None:
    model = drawn(nn.Sequential(*MODELS["normalised"][1]()))
    point = torch.rand(2, 4, 4, dtype=F64)
    for (l, u), values in zip(relu_bounds(model, point, point), read_by_relus(model, point[None]), strict=True):
        assert torch.allclose(l, values, rtol=0, atol=1e-12)
        assert torch.allclose(u, values, rtol=0, atol=1e-12)


def test_what_a_relu_overwrites_is_not_handed_out() -> None:
    layers = [nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2), nn.ReLU(inplace=True)]
    model = drawn(nn.Sequential(*layers))
    found = relu_bounds(model, torch.zeros(4, dtype=F64), torch.ones(4, dtype=F64))
    assert any((l < 0).any() for l, _ in found)


def test_the_penalty_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -3.0], [-1.0, -1.0]]))  # [0, 2], [-3, 1], [-2, 0]
    ends = torch.zeros(2), torch.ones(2)
    assert stability_penalty(model, *ends, "hinge").item() == pytest.approx(1 / 3)
    rs = -(torch.tanh(torch.tensor([1.0, -2.0, 1.0])).sum()) / 3
    assert stability_penalty(model, *ends, "rs").item() == pytest.approx(rs.item())
    assert stability_penalty(model, *ends).item() == stability_penalty(model, *ends, "hinge").item()


def weighted(factor: float, *arguments: Any) -> torch.Tensor:
    return factor * stability_penalty(*arguments)


def stable(model: nn.Sequential) -> int:
    with torch.no_grad():
        found = relu_bounds(model, torch.zeros(8, 8), torch.ones(8, 8))
    return sum(int(((u <= 0) | (l >= 0)).sum()) for l, u in found)


@pytest.mark.parametrize(("kind", "strength", "l1"), [("rs", 1.0, 5e-3), ("hinge", 0.1, 0.0)])
def test_more_units_become_stable_on_digits(kind: Any, strength: float, l1: float) -> None:
    ends = torch.zeros(8, 8), torch.ones(8, 8)
    counts = []
    for factor in (0.0, strength):
        model = small_net(widths=(20, 20))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        Proximal(optimizer, penalise(model, L1(l1)))
        extra = partial(weighted, factor, model, *ends, kind)
        plain_loop(model, optimizer, epochs=20, extra=extra)
        counts.append(stable(model))
    assert counts[1] > counts[0] + 5


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(4, 4), nn.Tanh(), nn.ReLU()], "no interval bounds through a Tanh: the stability penalty knows"),
        ([nn.Linear(4, 4)], "the model has no ReLU whose stability could be trained"),
        ([nn.BatchNorm1d(4, track_running_stats=False), nn.ReLU()], "a batch normalisation without running statistics"),
    ],
)
def test_models_that_are_not_known(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stability_penalty(nn.Sequential(*layers), torch.zeros(4), torch.ones(4))


def test_other_paddings_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), nn.ReLU())
    with pytest.raises(UsageError, match="padding mode 'reflect'"):
        stability_penalty(model, torch.zeros(1, 4, 4), torch.ones(1, 4, 4))


def test_calls_that_make_no_sense() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    wrong: Any = "tanh"
    with pytest.raises(UsageError, match="stability 'tanh': expected one of hinge, rs"):
        stability_penalty(model, torch.zeros(4), torch.ones(4), wrong)
    for low, high in ((torch.ones(4), torch.zeros(4)), (torch.zeros(3), torch.ones(4))):
        with pytest.raises(UsageError, match="are no ends of a box"):
            stability_penalty(model, low, high)
