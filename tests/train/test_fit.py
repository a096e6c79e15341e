import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook
from train_tools import SHORT, digit_arrays, digits, same, state

from reluce.errors import DomainError, OutputError, UsageError
from reluce.run import open_locked
from reluce.train import (
    Cosine,
    Epoch,
    Recipe,
    Samples,
    Trained,
    accuracy,
    build,
    fit,
    relu_bounds,
    share_of_zeros,
    training_data,
    weights,
)

CNN = Recipe(
    channels=(6, 6),
    widths=(12,),
    epochs=4,
    batch=20,
    lr=0.02,
    optimizer="adam",
    l1=(0.0, 1e-3, 0.3, 0.0),
    shift=1,
)


RECIPES = {
    "dense": SHORT,
    "convolutions": CNN,
    "stability": replace(SHORT, l1=0.0, stability=0.1, epochs=4),
    "another seed": replace(SHORT, seed=1, epochs=4),
    "early stop": replace(SHORT, patience=1),
    "adam": replace(SHORT, optimizer="adam", epochs=4),
    "budget": replace(SHORT, l1=0.0, rows=1e-4, keep=(20, 8, 8), centre=True, nesterov=True, weight_decay=1e-2),
}
SHAPES_OF_CNN = [(6, 1, 3, 3), (6, 6, 3, 3), (12, 24), (10, 12)]


class Stop(Exception):
    """What a user's callback may raise, or Ctrl-C."""


def stopping(after: int) -> Any:
    def progress(epoch: Epoch) -> None:
        if epoch.number == after:
            raise Stop

    return progress


def test_a_network_is_trained() -> None:
    seen: list[Epoch] = []
    trained = fit(digits(), SHORT, progress=seen.append)
    assert tuple(seen) == trained.history
    assert [epoch.number for epoch in seen] == [*range(1, 9)]
    assert seen[-1].loss < seen[0].loss / 2
    assert trained.test_accuracy is not None
    assert min(trained.train_accuracy, trained.test_accuracy, trained.valid_accuracy or 0) > 0.75
    assert trained.valid_accuracy == seen[-1].valid
    assert seen[-1].zeros == share_of_zeros(trained.model) > 0.1
    assert trained.recipe == SHORT
    assert not trained.model.training
    assert all(parameter.grad is None for parameter in trained.model.parameters())


def test_zeros_are_frozen_while_polishing() -> None:
    zeros = [epoch.zeros for epoch in fit(digits(), SHORT).history]
    assert SHORT.polishing == 3
    assert zeros[7] == zeros[6] == zeros[5] == zeros[4] > zeros[3]


def test_the_learning_rate_follows_its_schedule() -> None:
    rates: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        rates.append(optimizer.param_groups[0]["lr"])

    handle = register_optimizer_step_post_hook(note)
    try:
        fit(digits(), replace(SHORT, epochs=3, warmup=0.2))
    finally:
        handle.remove()
    assert rates == [0.05 * Cosine(0.2)(k / 81) for k in range(81)]


def test_accuracy_by_hand() -> None:
    samples = Samples(torch.eye(3), torch.tensor([0, 1, 0]))
    assert accuracy(nn.Identity(), samples) == pytest.approx(2 / 3)


def test_accuracy_on_more_samples_than_are_looked_at_together() -> None:
    samples = Samples(torch.eye(3).repeat(1500, 1), torch.tensor([0, 1, 0]).repeat(1500))
    assert accuracy(nn.Identity(), samples) == pytest.approx(2 / 3)


# The same bytes


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_recipe_gives_the_same_bytes(name: str) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(1)
    first = fit(digits(), recipe)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = fit(digits(), recipe)
    assert same(first, second)
    assert first.onnx() == second.onnx()
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """What sets the number of threads that torch uses around a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_bytes_do_not_depend_on_the_threads_of_the_process(threads: Callable[[int], None]) -> None:
    found = set()
    for around in (1, 2, 4):
        threads(around)
        found.add(fit(digits(), SHORT).onnx())
        assert torch.get_num_threads() == around
    assert len(found) == 1


def test_as_many_threads_as_asked_for_and_no_more_afterwards(threads: Callable[[int], None]) -> None:
    seen: list[int] = []

    def look(epoch: Epoch) -> None:
        seen.append(torch.get_num_threads())
        raise Stop

    threads(1)
    with pytest.raises(Stop):
        fit(digits(), SHORT, progress=look, threads=3)
    assert seen == [3]
    assert torch.get_num_threads() == 1


def test_no_thread_is_refused() -> None:
    with pytest.raises(UsageError, match="threads=0: expected at least 1"):
        fit(digits(), SHORT, threads=0)


def test_another_seed_gives_another_network() -> None:
    assert not same(fit(digits(), SHORT), fit(digits(), replace(SHORT, seed=1)))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stops", [(1,), (2, 3), (3,)], ids=str)
def test_what_was_stopped_goes_on_to_the_same_bytes(name: str, stops: tuple[int, ...], tmp_path: Path) -> None:
    recipe, checkpoint = RECIPES[name], tmp_path / "run.train"
    for stop in stops:
        with pytest.raises(Stop):
            fit(digits(), recipe, checkpoint, stopping(stop))
    seen: list[Epoch] = []
    resumed = fit(digits(), recipe, checkpoint, seen.append)
    assert [epoch.number for epoch in seen] == [*range(stops[-1] + 1, len(resumed.history) + 1)]
    assert same(resumed, fit(digits(), recipe))
    assert same(fit(digits(), recipe, checkpoint, stopping(99)), resumed)  # what has ended has ended
    assert {path.name for path in tmp_path.iterdir()} == {"run.train"}


def test_a_run_that_is_stopped_within_an_epoch_begins_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 60:  # 27 batches an epoch
            raise Stop
        return cross_entropy(*arguments)

    monkeypatch.setattr("reluce.train._fit.cross_entropy", failing)
    with pytest.raises(Stop):
        fit(digits(), SHORT, tmp_path / "run.train")
    monkeypatch.undo()
    seen: list[Epoch] = []
    assert same(fit(digits(), SHORT, tmp_path / "run.train", seen.append), fit(digits(), SHORT))
    assert seen[0].number == 3


def test_checkpoints_that_are_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.train"
    with pytest.raises(Stop):
        fit(digits(), SHORT, checkpoint, stopping(1))
    good = checkpoint.read_bytes()
    with pytest.raises(UsageError, match=r"is the checkpoint of another recipe, .*; remove it, or start afresh"):
        fit(digits(), replace(SHORT, epochs=9), checkpoint)
    arrays = dict(digit_arrays())
    arrays["train_x"] = arrays["train_x"][::-1]
    with pytest.raises(UsageError, match="is the checkpoint of a run on other data; remove it"):
        fit(training_data(arrays), SHORT, checkpoint)
    assert checkpoint.read_bytes() == good
    for damaged in (b"", b"hello", good[: len(good) // 2]):
        checkpoint.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"run\.train: cannot be read as a checkpoint"):
            fit(digits(), SHORT, checkpoint)


def test_checkpoints_that_hold_something_else(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.train"
    with pytest.raises(Stop):
        fit(digits(), SHORT, checkpoint, stopping(1))
    good = torch.load(checkpoint, weights_only=True)
    for entries in (["list"], {"format": "other"}, {**good, "format": "reluce.train 0"}, {**good, "more": 1}):
        torch.save(entries, checkpoint)
        with pytest.raises(UsageError, match="is no checkpoint of this version"):
            fit(digits(), SHORT, checkpoint)
    for entries in ({**good, "model": {}}, {**good, "history": [{"number": 1}]}, {**good, "optimizer": 3}):
        torch.save(entries, checkpoint)
        with pytest.raises(UsageError, match="the checkpoint is damaged"):
            fit(digits(), SHORT, checkpoint)


def test_nothing_that_a_checkpoint_holds_is_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save(Trap(), tmp_path / "run.train")
    with pytest.raises(UsageError, match="cannot be read as a checkpoint"):
        fit(digits(), SHORT, tmp_path / "run.train")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="the checkpoint cannot be written"):
        fit(digits(), SHORT, tmp_path / "nowhere" / "run.train")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"run\.train: the checkpoint cannot be written \(No space left on device\)"):
        fit(digits(), SHORT, tmp_path / "run.train")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_another_run_is_writing(tmp_path: Path) -> None:
    held = open_locked(tmp_path / ".run.train.reluce-tmp")
    try:
        with pytest.raises(OutputError, match="another run is writing this checkpoint"):
            fit(digits(), SHORT, tmp_path / "run.train")
    finally:
        os.close(held)


# Early stop


def test_early_stop_keeps_the_best_epoch_of_the_last_phase() -> None:
    recipe = replace(SHORT, epochs=40, patience=2, polish=0.5, lr=0.02)
    trained = fit(digits(), recipe)
    assert 20 < len(trained.history) < 40
    phase = [epoch.valid or 0.0 for epoch in trained.history[20:]]
    assert trained.valid_accuracy == max(phase)
    assert phase[-2:] < phase[-3:-2] * 2 or max(phase[-2:]) <= max(phase[:-2])
    assert share_of_zeros(trained.model) == trained.history[20].zeros


def test_early_stop_without_polishing(tmp_path: Path) -> None:
    recipe = Recipe(widths=(16,), epochs=60, patience=2, lr=0.02, valid=0.3)
    trained = fit(digits(), recipe)
    assert len(trained.history) < 60
    reached = [epoch.valid or 0.0 for epoch in trained.history]
    assert trained.valid_accuracy == max(reached) == reached[-3]
    with pytest.raises(Stop):  # behind the best epoch
        fit(digits(), recipe, tmp_path / "run.train", stopping(len(reached) - 1))
    assert same(fit(digits(), recipe, tmp_path / "run.train"), trained)


# Variants


def test_by_subgradient_nothing_becomes_exactly_zero() -> None:
    recipe = replace(SHORT, polish=0.0)
    prox, published = fit(digits(), recipe), fit(digits(), replace(recipe, subgradient=True))
    assert prox.history[-1].zeros > 0.2
    assert published.history[-1].zeros < 0.01
    near = [float((weight.abs() < 1e-3).float().mean()) for weight in weights(published.model)]
    assert max(near) > 0.1  # though many are nearly so


def test_strengths_for_each_layer() -> None:
    trained = fit(digits(), replace(SHORT, l1=(0.0, 1e-2, 0.0)))
    shares = [float((weight == 0).float().mean()) for weight in weights(trained.model)]
    assert shares[0] == shares[2] == 0
    assert shares[1] > 0.3


def test_groups_remove_whole_units_and_inputs() -> None:
    trained = fit(digits(), replace(SHORT, l1=0.0, rows=5e-3, columns=(2e-2, 0.0, 0.0)))
    first = weights(trained.model)[0].detach()
    zero_rows, zero_columns = (first == 0).all(1), (first == 0).all(0)
    assert zero_rows.any()
    assert zero_columns.any()
    assert (first[~zero_rows][:, ~zero_columns] != 0).all()


@pytest.mark.parametrize("kind", ["hinge", "rs"])
def test_with_stability(kind: Any) -> None:
    plain = fit(digits(), replace(SHORT, epochs=16))
    trained = fit(digits(), replace(SHORT, epochs=16, stability=1.0, stability_kind=kind))
    assert stable(trained) > stable(plain)


def stable(trained: Trained) -> int:
    with torch.no_grad():
        found = relu_bounds(trained.model, torch.zeros(8, 8), torch.ones(8, 8))
    return sum(int(((u <= 0) | (l >= 0)).sum()) for l, u in found)


def test_stability_over_another_range() -> None:
    recipe = replace(SHORT, epochs=2, stability=1.0)
    assert same(fit(digits(), recipe), fit(digits(), replace(recipe, domain=(0.0, 1.0))))
    assert not same(fit(digits(), recipe), fit(digits(), replace(recipe, domain=(0.0, 2.0))))


def test_convolutions() -> None:
    trained = fit(digits(), CNN)
    assert [tuple(weight.shape) for weight in weights(trained.model)] == SHAPES_OF_CNN
    assert trained.history[-1].loss < trained.history[0].loss
    shares = [float((weight == 0).float().mean()) for weight in weights(trained.model)]
    assert shares[0] == shares[3] == 0
    assert shares[2] > 0.05


def test_images_with_channels() -> None:
    x = np.repeat(digit_arrays()["train_x"][:, None], 3, axis=1)
    data = training_data({"train_x": x, "train_y": digit_arrays()["train_y"]})
    trained = fit(data, replace(CNN, epochs=1, flip=True))
    assert trained.test_accuracy is None
    assert trained.model[0].weight.shape == (6, 3, 3, 3)
    assert trained.shape == (3, 8, 8)


def test_without_a_validation_split() -> None:
    trained = fit(digits(), replace(SHORT, valid=0.0, epochs=1))
    assert trained.valid_accuracy is None
    assert trained.history[0].valid is None


def test_no_hidden_layer() -> None:
    assert [*fit(digits(), Recipe(widths=(), epochs=1)).model.state_dict()] == ["1.weight", "1.bias"]


def test_the_default_type_of_numbers_does_not_matter() -> None:
    expected = fit(digits(), SHORT)
    torch.set_default_dtype(torch.float64)
    try:
        assert same(expected, fit(digits(), SHORT))
    finally:
        torch.set_default_dtype(torch.float32)


def test_weights_are_drawn_for_relu() -> None:
    first = build(Recipe(widths=(400,)), (28, 28), 10)[1].weight
    assert float(first.detach().std()) == pytest.approx((2 / 784) ** 0.5, rel=0.02)


# What cannot be


@pytest.mark.parametrize("recipe", [CNN, Recipe(shift=1), Recipe(flip=True)], ids=["convolutions", "shift", "flip"])
def test_data_that_are_no_images(recipe: Recipe) -> None:
    flat = training_data({"train_x": digit_arrays()["train_x"].reshape(600, 64), "train_y": digit_arrays()["train_y"]})
    with pytest.raises(DomainError, match=r"samples of shape \(64,\) are no images; give \(height, width\)"):
        fit(flat, recipe)


def test_channels_that_come_last() -> None:
    x = np.repeat(digit_arrays()["train_x"][..., None], 3, axis=3)
    data = training_data({"train_x": x, "train_y": digit_arrays()["train_y"]})
    with pytest.raises(DomainError, match="channels come first"):
        fit(data, CNN)


def test_a_loss_that_becomes_infinite() -> None:
    with pytest.raises(
        UsageError, match=r"training diverged: the loss is (nan|inf) in epoch 1; lower the learning rate"
    ):
        fit(digits(), replace(SHORT, lr=1e20))


def test_the_state_is_that_of_a_plain_sequential() -> None:
    assert [*state(fit(digits(), replace(SHORT, epochs=1)))] == [
        f"{k}.{p}" for k in (1, 3, 5) for p in ("weight", "bias")
    ]
