from typing import Any

import pytest
import torch
from torch import nn
from train_tools import plain_loop, small_net

from reluce.errors import UsageError
from reluce.train import (
    L1,
    Proximal,
    Ramp,
    SparseGroup,
    Window,
    effective_step,
    freeze_zeros,
    penalise,
    share_of_zeros,
    weights,
)

STRENGTH = 2e-3


def sgd(model: nn.Module, momentum: float = 0.9, lr: float = 0.05, **more: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, **more)


def test_one_line_in_a_plain_loop_makes_exact_zeros_where_the_subgradient_makes_none() -> None:
    model = small_net()
    optimizer = sgd(model)
    Proximal(optimizer, penalise(model, L1(STRENGTH)))
    plain_loop(model, optimizer)
    assert share_of_zeros(model) > 0.2

    other = small_net()
    plain_loop(other, sgd(other), extra=lambda: STRENGTH * sum(w.abs().sum() for w in weights(other)))
    reading = (weights(other)[0].abs() > 0).any(
        0
    )  # an image border that is always 0 moves no weight but by the penalty
    assert int((weights(other)[0][:, reading] == 0).sum()) == 0
    assert share_of_zeros(other) < 0.01


def test_biases_are_never_penalised() -> None:
    model = small_net()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e-3)
            parameter.grad = torch.zeros_like(parameter)
    optimizer = sgd(model)
    Proximal(optimizer, penalise(model, L1(100.0)))
    optimizer.step()
    assert all((parameter == 0).all() == (parameter.ndim > 1) for parameter in model.parameters())


@pytest.mark.parametrize(
    ("make", "step"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), 0.1),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 1.0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), 1.0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5, dampening=0.5), 0.1),
        (lambda p: torch.optim.Adam(p, lr=0.1), 0.1),
        (lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9), 0.1),
    ],
)
def test_the_step(make: Any, step: float) -> None:
    weight = nn.Parameter(torch.ones(3, 3))
    optimizer = make([weight])
    assert effective_step(optimizer, optimizer.param_groups[0]) == pytest.approx(step, rel=1e-12)
    Proximal(optimizer, {weight: L1(0.25)})
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert weight.flatten().tolist() == pytest.approx([1 - step / 4] * 9)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.99, False)])
def test_with_any_momentum_the_penalty_balances_the_same_gradient(momentum: float, nesterov: bool) -> None:
    """``w`` minimises ``(w - 1)^2 / 2 + 0.25 |w|`` at 0.75, and stays at 0 where the pull is below the strength."""
    weight = nn.Parameter(torch.tensor([[1.0, 0.2]], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.01, momentum=momentum, nesterov=nesterov)
    Proximal(optimizer, {weight: L1(0.25)})
    goal = torch.tensor([[1.0, 0.2]], dtype=torch.float64)
    for _ in range(5000):
        optimizer.zero_grad()
        ((weight - goal) ** 2 / 2).sum().backward()
        optimizer.step()
    assert weight.tolist() == [[pytest.approx(0.75, abs=1e-9), 0.0]]


def test_each_group_of_parameters_has_its_own_step() -> None:
    slow, fast = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1, 1))
    optimizer = torch.optim.SGD([{"params": [slow], "lr": 0.01}, {"params": [fast], "lr": 0.1}], lr=1.0)
    Proximal(optimizer, {slow: L1(1.0), fast: L1(1.0)})
    slow.grad = fast.grad = torch.zeros(1, 1)
    optimizer.step()
    assert (slow.item(), fast.item()) == (pytest.approx(0.99), pytest.approx(0.9))


def test_a_schedule_follows_the_steps() -> None:
    weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64))
    weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    proximal = Proximal(optimizer, {weight: L1(0.125)}, Ramp(0.5), steps=4)
    seen = []
    for _ in range(5):
        optimizer.step()
        seen.append(weight.item())
    assert seen == [1.0, 1 - 0.0625, 1 - 0.1875, 1 - 0.3125, 1 - 0.4375]
    assert proximal.done == 5
    proximal.remove()
    optimizer.step()
    assert weight.item() == seen[-1]


def test_a_penalty_that_has_ended_changes_nothing() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    Proximal(optimizer, {weight: L1(0.125)}, Window(0.5), steps=4)
    for _ in range(4):
        optimizer.step()
    assert (weight == 1 - 2 * 0.125).all()


def test_the_value_is_that_of_all_penalties() -> None:
    model = small_net()
    proximal = Proximal(sgd(model), penalise(model, [L1(1.0), L1(0.0)]))
    assert proximal.value().item() == pytest.approx(weights(model)[0].abs().sum().item())


def test_penalties_for_each_layer() -> None:
    model = small_net()
    first, second = weights(model)
    assert penalise(model, [L1(1.0), SparseGroup(2.0)]) == {first: L1(1.0), second: SparseGroup(2.0)}
    with pytest.raises(UsageError, match="3 penalties for 2 layers; give one, or one for each"):
        penalise(model, [L1(1.0)] * 3)


def test_a_shared_weight_is_penalised_once() -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert penalise(model, L1(1.0)) == {layer.weight: L1(1.0)}


def test_calls_that_make_no_sense() -> None:
    model = small_net()
    with pytest.raises(UsageError, match="a parameter with a penalty is none that the optimizer trains"):
        Proximal(sgd(small_net()), penalise(model, L1(1.0)))
    with pytest.raises(UsageError, match="a schedule goes with steps"):
        Proximal(sgd(model), penalise(model, L1(1.0)), Ramp(0.1))
    with pytest.raises(UsageError, match="a schedule goes with steps"):
        Proximal(sgd(model), penalise(model, L1(1.0)), steps=10)


# Zeros that stay


def test_frozen_zeros_stay_and_all_else_moves() -> None:
    model = small_net()
    optimizer = sgd(model)
    plain_loop(model, optimizer, epochs=1)  # momentum of its own, which would move the zeros on
    with torch.no_grad():
        for weight in weights(model):
            weight[:, ::2] = 0.0
            weight[0] = 0.0
    zero = [(weight == 0) for weight in weights(model)]
    before = [weight.detach().clone() for weight in weights(model)]
    frozen = freeze_zeros(optimizer, model)
    plain_loop(model, optimizer, epochs=1)
    for weight, was, old in zip(weights(model), zero, before, strict=True):
        assert ((weight == 0) == was).all()
        assert (weight[~was] != old[~was]).float().mean() > 0.5
    frozen.remove()
    plain_loop(model, optimizer, epochs=1)
    assert share_of_zeros(model) < 0.2


def test_what_has_no_weights_has_no_zeros() -> None:
    assert share_of_zeros(nn.Sequential(nn.ReLU())) == 0.0
