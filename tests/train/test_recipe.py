from typing import Any

import pytest

from reluce.errors import UsageError
from reluce.train import Budget, Constant, Cosine, Recipe, SparseGroup, Steps


def test_one_strength_is_for_all_layers_but_rows_leave_the_output_out() -> None:
    recipe = Recipe(channels=(4,), widths=(10, 8), l1=1e-4, rows=2e-4, columns=3e-4)
    assert recipe.penalties == (SparseGroup(1e-4, 2e-4, 3e-4),) * 3 + (SparseGroup(1e-4, 0.0, 3e-4),)


def test_strengths_for_each_layer() -> None:
    recipe = Recipe(widths=(10,), l1=(1e-3, 0), rows=(0, 1))
    assert recipe.penalties == (SparseGroup(1e-3), SparseGroup(0.0, rows=1.0))
    assert recipe.penalised
    assert not Recipe().penalised


def test_the_phases() -> None:
    recipe = Recipe(epochs=10, l1=1e-4, polish=0.3, ramp=0.2)
    assert recipe.polishing == 3
    assert [recipe.penalty_schedule(k / 10) for k in range(10)] == [0, 0.5, 1, 1, 1, 1, 1, 0, 0, 0]
    assert [recipe.stability_schedule(k / 10) for k in range(10)] == [0, 0.5, *[1] * 8]
    assert Recipe(epochs=10, polish=0.3).polishing == 0  # nothing to recover from
    assert Recipe(epochs=1, l1=1e-4, polish=0.9).polishing == 0


def test_a_budget_is_reached_before_the_polishing() -> None:
    recipe = Recipe(epochs=10, keep=(50, 20, 20), polish=0.4)
    assert recipe.polishing == 4
    assert recipe.budget == Budget((50, 20, 20), 0.1 * 0.6, 0.9 * 0.6)
    assert Recipe().budget is None


def test_weight_decay_holds_at_the_end_with_and_without_penalties() -> None:
    for recipe in (Recipe(epochs=10, polish=0.4), Recipe(epochs=10, polish=0.4, l1=1e-4)):
        assert [recipe.decay_schedule(k / 10) for k in range(10)] == [*[0] * 6, *[1] * 4]


@pytest.mark.parametrize("epochs", range(1, 40))
def test_the_penalty_ends_at_the_first_step_of_polishing(epochs: int) -> None:
    recipe, batches = Recipe(epochs=epochs, l1=1e-4, polish=0.3, ramp=0.0), 7
    on = [recipe.penalty_schedule(k / (epochs * batches)) for k in range(epochs * batches)]
    assert on == [1.0] * (epochs - recipe.polishing) * batches + [0.0] * recipe.polishing * batches


def test_learning_rates() -> None:
    assert (Recipe().rate, Recipe(optimizer="adam").rate, Recipe(lr=0.3).rate) == (0.05, 1e-3, 0.3)
    assert Recipe(warmup=0.1).rate_schedule == Cosine(0.1)
    assert Recipe(decay="none").rate_schedule == Constant()
    assert Recipe(decay="step", milestones=(0.5,)).rate_schedule == Steps((0.5,))


def test_as_json_and_back() -> None:
    dense = Recipe(widths=(7,), keep=(5, 3), centre=True, nesterov=True, weight_decay=0.1)
    assert Recipe.from_json(dense.to_json()) == dense
    recipe = Recipe(widths=(7,), channels=(2,), l1=(1e-4, 1e-5, 0.1), domain=(-1.0, 1.0), patience=3, valid=0.2)
    assert Recipe.from_json(recipe.to_json()) == recipe
    for text in ("{", "[]", "null", '{"width": 3}', '{"epochs": 0}'):
        with pytest.raises(UsageError):
            Recipe.from_json(text)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"widths": (0,)}, "widths is (0,); give a tuple of whole numbers above 0"),
        ({"widths": [5]}, "widths is [5]; give a tuple"),
        ({"channels": (2.5,)}, "channels is (2.5,)"),
        ({"epochs": 0}, "epochs is 0; give a whole number >= 1"),
        ({"epochs": True}, "epochs is True"),
        ({"batch": 0}, "batch is 0"),
        ({"seed": -1}, "seed is -1; give a whole number >= 0"),
        ({"polish": 1.0}, "polish is 1.0; give a part of the whole, at least 0 and below 1"),
        ({"ramp": -0.1}, "ramp is -0.1"),
        ({"valid": float("nan")}, "valid is nan"),
        ({"optimizer": "lbfgs"}, "optimizer is 'lbfgs'; give one of sgd, adam"),
        ({"decay": "linear"}, "decay is 'linear'; give one of cosine, step, none"),
        ({"stability_kind": "tanh"}, "stability_kind is 'tanh'; give one of hinge, rs"),
        ({"lr": 0.0}, "lr is 0.0; give a number above 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"l1": -1e-4}, "l1 is (-0.0001, -0.0001, -0.0001); give numbers >= 0"),
        ({"rows": float("nan")}, "rows is (nan, nan, 0.0)"),
        ({"columns": (1.0, 2.0)}, "columns has 2 strengths for 3 layers; give one, or one for each"),
        ({"stability": -1.0}, "stability is -1.0; give a number >= 0"),
        ({"domain": (1.0, 0.0)}, "domain is (1.0, 0.0); give two finite ends"),
        ({"milestones": (1.5,)}, "milestones is (1.5,)"),
        ({"patience": 0}, "patience is 0"),
        ({"patience": 3, "valid": 0.0}, "patience needs a validation split; give valid, such as 0.1"),
        ({"keep": (100, 50)}, "keep has 2 numbers for 2 hidden layers; give one for the inputs, and one for each"),
        ({"keep": (100, 0, 50)}, "keep is (100, 0, 50); give a tuple of whole numbers above 0"),
        ({"keep": (100, 5, 5), "channels": (3,)}, "keep is for dense networks; leave out channels"),
        ({"centre": True, "channels": (3,)}, "centre is for dense networks; leave out channels"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; give a number >= 0"),
        ({"nesterov": True, "momentum": 0.0}, "momentum is 0.0; give a number above 0 for nesterov"),
        ({"subgradient": True, "rows": 1e-4}, "a recipe by subgradient has l1 only; leave out rows and columns"),
    ],
    ids=str,
)
def test_values_that_make_no_sense(entries: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        Recipe(**entries)
    assert message in str(raised.value)
