from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from train_tools import SHORT, digit_arrays, digits, small_net

from reluce.errors import DomainError
from reluce.train import Centre, Samples, accuracy, deviations, fit, training_data, weights


def test_moments_are_those_of_numpy() -> None:
    x = digit_arrays()["train_x"] / 255.0
    centre = Centre.of(digits().train)
    assert (centre.mean, centre.deviation) == pytest.approx((x.mean(), x.std()), rel=1e-6)
    assert deviations(digits().train).numpy() == pytest.approx(x.reshape(600, -1).std(0), abs=1e-6)


def test_centred_samples_have_mean_0_and_deviation_1() -> None:
    samples = digits().train
    x = Centre.of(samples)(samples.inputs(slice(None)))
    assert (float(x.mean()), float(x.std())) == pytest.approx((0, 1), abs=1e-3)


def test_more_samples_than_are_looked_at_together() -> None:
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) + 5
    samples = Samples(x, torch.zeros(5000, dtype=torch.int64))
    assert Centre.of(samples).mean == pytest.approx(float(x.mean()), rel=1e-5)
    assert deviations(samples).numpy() == pytest.approx(x.std(0, correction=0).numpy(), rel=1e-5)


@torch.no_grad()
def test_folding_changes_nothing_but_by_rounding_and_keeps_zeros() -> None:
    model, centre = small_net(), Centre(0.3, 0.25)
    weights(model)[0][:, 5] = 0.0
    x = digits().train.inputs(slice(None))
    folded = centre.folded(model)
    assert torch.allclose(folded(x), model(centre(x)), atol=1e-4)
    assert torch.equal(weights(folded)[0] == 0, weights(model)[0] == 0)
    assert weights(folded)[0] is not weights(model)[0]


def test_nothing_is_done_where_nothing_is_asked_for() -> None:
    model, x = small_net(), torch.rand(3, 64)
    assert Centre()(x) is x
    assert all(torch.equal(*pair) for pair in zip(weights(Centre().folded(model)), weights(model), strict=True))


def test_inputs_that_are_all_the_same() -> None:
    arrays = {"train_x": np.full((20, 3), 0.5), "train_y": np.arange(20) % 2}
    with pytest.raises(DomainError, match="all inputs are the same number"):
        fit(training_data(arrays), replace(SHORT, centre=True))


def test_a_network_that_learned_on_centred_inputs_takes_them_as_they_are() -> None:
    recipe = replace(SHORT, centre=True, l1=1e-3)
    trained = fit(digits(), recipe)
    _, valid = digits().split(recipe.valid, recipe.seed)
    assert valid is not None
    assert accuracy(trained.model, valid) == trained.valid_accuracy
    assert trained.valid_accuracy == pytest.approx(trained.history[-1].valid or 0, abs=0.02)
    assert [type(layer) for layer in trained.model] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert trained.test_accuracy is not None
    assert trained.test_accuracy > 0.75
