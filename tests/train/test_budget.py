from dataclasses import replace
from typing import Any

import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from train_tools import SHORT, digits, plain_loop, small_net

from reluce import compress
from reluce.errors import UsageError
from reluce.train import Budget, KeepGroups, SparseGroup, deviations, fit, penalise, weights
from reluce.train import Proximal as ProximalSteps

ALL = (64, 20, 16)
KEEP = (25, 8, 6)
STEPS = 10 * 12


def net() -> nn.Sequential:
    return small_net(widths=ALL[1:])


def pruned(budget: Budget, group: float = 0.0, **more: Any) -> tuple[nn.Sequential, KeepGroups]:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    if group:
        ProximalSteps(optimizer, penalise(model, SparseGroup(rows=group, columns=group)))
    hook = KeepGroups(optimizer, model, budget, STEPS, **more)
    plain_loop(model, optimizer)
    return model, hook


def left(model: nn.Module) -> tuple[int, ...]:
    """How many inputs, and units of each hidden layer, somebody reads."""
    return tuple(int((weight != 0).any(0).sum()) for weight in weights(model))


# How many


def test_counts_by_hand() -> None:
    budget = Budget((10, 200), start=0.2, end=0.6)
    assert [budget.counts((90, 100), k / 10) for k in (0, 2, 4, 6, 10)] == [
        (90, 100),
        (90, 100),
        (20, 100),  # 10 + 80 / 8; of the second there are no more than 100
        (10, 100),
        (10, 100),
    ]


@given(
    keep=st.integers(1, 50),
    size=st.integers(1, 100),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    points=st.lists(st.floats(0, 1), min_size=2),
)
def test_counts_fall_from_all_to_the_budget(keep: int, size: int, ends: list[float], points: list[float]) -> None:
    budget = Budget((keep,), *ends)
    counts = [budget.counts((size,), point)[0] for point in sorted(points)]
    assert counts == sorted(counts, reverse=True)
    assert all(min(keep, size) <= count <= size for count in counts)
    assert budget.counts((size,), 1.0) == (min(keep, size),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (((),), "a budget of ()"),
        (((3, 0),), r"a budget of (3, 0); give whole numbers above 0"),
        (((3,), 0.5, 0.4), "a budget from 0.5 to 0.4 of training"),
        (((3,), -0.1, 0.4), "a budget from -0.1"),
        (((3,), 0.1, 0.4, 0), "every 0 steps"),
    ],
    ids=str,
)
def test_budgets_that_make_no_sense(values: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Budget(*values)
    assert message in str(raised.value)


# Which


def test_importance_by_hand() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, 1.0], [4.0, 0.0]]))
        model[2].weight.copy_(torch.tensor([[2.0, -5.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, units = KeepGroups(optimizer, model, Budget((1, 1)), 1, torch.tensor([0.1, 2.0])).importance()
    assert inputs.tolist() == pytest.approx([0.5, 2.0])
    assert units.tolist() == pytest.approx([2 * 10**0.5, 20.0])


@torch.no_grad()
def test_the_most_important_stay_as_they_are_and_the_others_become_zero() -> None:
    model = net()
    before = [weight.clone() for weight in weights(model)]
    for layer in model[1::2]:
        layer.bias.fill_(1.0)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook = KeepGroups(optimizer, model, Budget(KEEP, 0.0, 0.0), 1)
    importance = hook.importance()
    optimizer.step()
    assert left(model) == KEEP
    stay = [set(values.topk(count).indices.tolist()) for values, count in zip(importance, KEEP, strict=True)]
    for number, (weight, old) in enumerate(zip(weights(model), before, strict=True)):
        rows = stay[number + 1] if number + 1 < len(stay) else set(range(10))
        for i in range(weight.shape[0]):
            for j in range(weight.shape[1]):
                assert weight[i, j] == (old[i, j] if i in rows and j in stay[number] else 0.0)
    biases = [set(layer.bias.nonzero().flatten().tolist()) for layer in model[1::2]]
    assert biases == [stay[1], stay[2], set(range(10))]


@pytest.mark.parametrize("group", [0.0, 1e-3])
def test_a_budget_in_a_plain_loop(group: float) -> None:
    model, hook = pruned(Budget(KEEP, 0.1, 0.5), group)
    assert hook.done == STEPS
    assert all(count <= most for count, most in zip(left(model), KEEP, strict=True))
    if not group:
        assert left(model) == KEEP
    hook.remove()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    plain_loop(model, optimizer, epochs=1)
    assert left(model)[0] > KEEP[0]


def test_inputs_that_never_change_go_first() -> None:
    deviation = deviations(digits().train)
    model, _ = pruned(Budget((40, *ALL[1:]), 0.1, 0.5), deviation=deviation)
    read = (weights(model)[0] != 0).any(0)
    assert left(model)[0] == 40
    assert not (read & (deviation == 0)).any()


def test_the_budget_is_kept_when_the_end_comes_between_two_decisions() -> None:
    model, _ = pruned(Budget(KEEP, 0.1, 0.5, every=10**6))
    assert left(model) == KEEP


def test_models_that_have_no_such_groups() -> None:
    convolutions = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    normed = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    unchained = nn.ModuleList([nn.Linear(4, 4), nn.Linear(5, 2)])
    for model, message in (
        (convolutions, "not with a Conv2d"),
        (normed, "not with a BatchNorm1d"),
        (unchained, "a chain of dense layers"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)), "2 numbers for 3"),
    ):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(UsageError, match=message):
            KeepGroups(optimizer, model, Budget((3, 3)), 10)


# In the plain trainer


def test_a_trained_network_keeps_its_budget_and_is_as_small_when_compressed() -> None:
    recipe = replace(SHORT, l1=0.0, rows=1e-4, columns=1e-4, keep=(30, 10, 8), polish=0.4)
    trained = fit(digits(), recipe)
    assert all(count <= most for count, most in zip(left(trained.model), recipe.keep, strict=True))
    assert trained.history[-1].zeros == trained.history[-2].zeros > 0.4
    plain = fit(digits(), replace(SHORT, l1=0.0))
    assert trained.test_accuracy is not None
    assert plain.test_accuracy is not None
    assert trained.test_accuracy > plain.test_accuracy - 0.1
    report = compress(onnx.load_from_string(trained.onnx()), "0,1").report
    small = report.compressed
    assert small is not None
    assert small.parameters <= 30 * 10 + 10 + 10 * 8 + 8 + 8 * 10 + 10, report


def test_a_budget_beyond_what_there_is_takes_nothing_away() -> None:
    trained = fit(digits(), replace(SHORT, l1=0.0, keep=(100, 100, 12), polish=0.0))
    plain = fit(digits(), replace(SHORT, l1=0.0, polish=0.0))
    one, other = ([value.tolist() for value in each.model.state_dict().values()] for each in (trained, plain))
    assert one == other
