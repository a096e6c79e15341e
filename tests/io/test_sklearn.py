"""scikit-learn's MLPs and pipelines in, the same class out: fitted, smaller, and computing the same."""

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import forward, max_difference
from rewriting import level_of
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)
from strategies import Case, box_of, chains
from tiny_models import KNOWN_B1, KNOWN_B2, KNOWN_W1, KNOWN_W2, chain

import reluce
from reluce import Box, Exact, ModelError, Settings, UsageError, Within
from reluce.io import hand_over, measure, rebuild, runtime
from reluce.io._sklearn import read_estimator
from reluce.network import Constant, Dense, Network, Node, Relu, Select, evaluate

Array = np.ndarray[Any, Any]
Layers = Sequence[tuple[Any, Any]]
KINDS = {1: ("regressor", "binary"), 2: ("regressor", "multilabel"), 3: ("regressor", "multilabel", "multiclass")}
KNOWN: Layers = [(KNOWN_W1, KNOWN_B1), (KNOWN_W2, KNOWN_B2)]
WITHIN = Settings(Within(1e-3))
GRID = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * 2), axis=-1).reshape(-1, 2)


# Estimators


def targets(kind: str, outputs: int, samples: int = 12) -> Array:
    generator = np.random.default_rng(outputs)
    match kind:
        case "regressor" | "poisson":
            y = generator.random((samples, outputs))
            return y[:, 0] if outputs == 1 else y
        case "multilabel":
            return generator.integers(0, 2, (samples, outputs))
    return np.arange(samples) % max(2, outputs)


@cache
def trained(kind: str, inputs: int, outputs: int, dtype: str, solver: str, early: bool) -> Any:
    """An estimator after one step of training on noise."""
    options = {"hidden_layer_sizes": (3,), "max_iter": 1, "random_state": 0, "solver": solver, "early_stopping": early}
    if kind == "poisson":
        options["loss"] = "poisson"
    model = (MLPRegressor if kind in ("regressor", "poisson") else MLPClassifier)(**options)
    x = np.random.default_rng(inputs).random((12, inputs)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, targets(kind, outputs))


def fitted(
    layers: Layers,
    kind: str = "regressor",
    dtype: str = "float64",
    solver: str = "adam",
    early: bool = False,
) -> Any:
    """An estimator of a kind with the given parameters, ``(weight (out, in), bias)`` for each layer."""
    weights = [np.array(weight, dtype) for weight, _ in layers]
    model = copy.deepcopy(trained(kind, weights[0].shape[1], len(weights[-1]), dtype, solver, early))
    model.coefs_ = [np.ascontiguousarray(weight.T) for weight in weights]
    model.intercepts_ = [np.array(bias, dtype) for _, bias in layers]
    model.hidden_layer_sizes = tuple(len(weight) for weight in weights[:-1])
    model.n_layers_ = len(layers) + 1
    model._best_coefs = [weight.copy() for weight in model.coefs_]
    model._best_intercepts = [bias.copy() for bias in model.intercepts_]
    return model


def of_network(network: Network, kind: str, dtype: str = "float64") -> Any:
    ops = [node.op for node in network.nodes if isinstance(node.op, Dense)]
    return fitted([(op.weight, np.zeros(len(op.weight)) if op.bias is None else op.bias) for op in ops], kind, dtype)


def renamed(box: Box) -> Box:
    return Box({"X": box.lower["x"]}, {"X": box.upper["x"]}, box.description)


def sizes_of(model: Any) -> list[int]:
    return [len(bias) for bias in model.intercepts_[:-1]]


# Comparisons, each with a twin that must fail


def assert_consistent(model: Any) -> None:
    """The estimator's attributes speak of one and the same network."""
    assert tuple(model.hidden_layer_sizes) == tuple(sizes_of(model))
    assert model.n_layers_ == len(model.coefs_) + 1 == len(model.intercepts_) + 1
    widths = [model.n_features_in_, *sizes_of(model), model.n_outputs_]
    assert [weight.shape for weight in model.coefs_] == list(pairwise(widths))
    for best, now in ((model._best_coefs, model.coefs_), (model._best_intercepts, model.intercepts_)):
        assert [array.shape for array in best] == [array.shape for array in now]
        assert not any(np.shares_memory(a, b) for a, b in zip(best, now, strict=True))
    assert all(array.flags.writeable and array.flags.c_contiguous for array in (*model.coefs_, *model.intercepts_))


def assert_trainable(model: Any, x: Array, y: Array) -> None:
    """Whatever one does with an estimator works, and training goes on from where it is."""
    assert repr(clone(model)) == repr(model)
    assert clone(model).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(x), model.predict(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if model.solver == "adam" and not model.early_stopping:
            assert sizes_of(copy.deepcopy(model).partial_fit(x, y)) == sizes_of(model)
        warm = copy.deepcopy(model).set_params(warm_start=True).fit(x, y)
        assert sizes_of(warm) == sizes_of(model)
        warm.predict(x)
        assert sizes_of(clone(model).fit(x, y)) == sizes_of(model)


def assert_same_predictions(before: Any, after: Any, x: Array, epsilon: float = 0.0) -> None:
    """Labels equal, probabilities within half of epsilon, values within epsilon; and rounding."""
    rounding = 1e-12 if before.coefs_[0].dtype == np.float64 else 1e-4
    if isinstance(before, MLPClassifier):
        gap = np.abs(before.predict_proba(x) - after.predict_proba(x)).max()
        assert gap <= epsilon / 2 + rounding
        assert np.array_equal(before.predict(x), after.predict(x))
    else:
        assert before.predict(x).shape == after.predict(x).shape
        assert np.abs(before.predict(x) - after.predict(x)).max() <= epsilon + rounding * max(
            1, np.abs(before.predict(x)).max()
        )


def assert_untouched(model: Any, copied: bytes) -> None:
    assert pickle.dumps(model) == copied


def assert_equal_on(before: Any, after: Any, box: Box, epsilon: float = 0.0) -> None:
    """In fractions: the largest difference of any output over the box."""
    networks = [read_estimator(model).network for model in (before, after)]
    (differences,) = max_difference(*networks, box).values()
    assert max(differences) <= Fraction(epsilon)


class TestTwins:
    """The comparisons can fail."""

    def test_predictions(self) -> None:
        model = fitted(KNOWN)
        other = fitted([KNOWN[0], (KNOWN_W2, [1, -2.125])])
        with pytest.raises(AssertionError):
            assert_same_predictions(model, other, GRID, 0.124)
        assert_same_predictions(model, other, GRID, 0.126)

    @pytest.mark.parametrize("shift", [0.5, 8.0])
    def test_probabilities(self, shift: float) -> None:
        layers = [([[1, 1]], [0]), ([[1]], [-1])]
        other = fitted([layers[0], ([[1]], [-1 + shift])], "binary")
        with pytest.raises(AssertionError):
            assert_same_predictions(fitted(layers, "binary"), other, GRID, 0.0)

    def test_exactly(self) -> None:
        model, other = fitted(KNOWN), fitted([KNOWN[0], (KNOWN_W2, [1, -2 - 2.0**-40])])
        box = Box(box_of((0, 1), (0, 1)).lower, box_of((0, 1), (0, 1)).upper)
        with pytest.raises(AssertionError):
            assert_equal_on(model, other, renamed(box))
        assert_equal_on(model, other, renamed(box), 2.0**-40)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda model: setattr(model, "hidden_layer_sizes", (7,)),
            lambda model: setattr(model, "n_layers_", 4),
            lambda model: setattr(model, "_best_coefs", model.coefs_),
            lambda model: model._best_intercepts.pop(),
            lambda model: model.coefs_[0].setflags(write=False),
            lambda model: model.coefs_.__setitem__(0, np.zeros((2, 5))),
        ],
    )
    def test_consistency(self, spoil: Callable[[Any], None]) -> None:
        model = fitted(KNOWN)
        assert_consistent(model)
        spoil(model)
        with pytest.raises(AssertionError):
            assert_consistent(model)

    def test_training(self) -> None:
        model = fitted(KNOWN)
        model._optimizer.velocities = []  # what belongs to other shapes
        model._optimizer.ms = [np.zeros(1)]
        with pytest.raises((AssertionError, ValueError)):
            assert_trainable(model, GRID, targets("regressor", 2, len(GRID)))

    def test_untouched(self) -> None:
        model = fitted(KNOWN)
        before = pickle.dumps(model)
        model.coefs_[0][0, 0] += 1
        with pytest.raises(AssertionError):
            assert_untouched(model, before)


# Digits


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Array, Array]:
    """A classifier of digits whose first layers were trained with a proximal L1 step."""
    x, y = load_digits(return_X_y=True)
    model = MLPClassifier((40, 24), learning_rate_init=0.003, batch_size=64, random_state=0)
    for _ in range(25):
        model.partial_fit(x, y, classes=np.arange(10))
        for weight in model.coefs_[:2]:
            weight[:] = np.sign(weight) * np.maximum(np.abs(weight) - 0.01, 0)
    assert model.score(x, y) > 0.9
    return model, x, y


@pytest.mark.parametrize("settings", [Settings(Exact()), Settings(), WITHIN], ids=["exact", "roundoff", "within"])
def test_digits(digits: tuple[Any, Array, Array], settings: Settings) -> None:
    model, x, y = digits
    before = pickle.dumps(model)
    result = reluce.compress(model, "0,16", data=x, settings=settings)
    small, report = result.model, result.report
    assert type(small) is MLPClassifier
    assert report.name == "MLPClassifier"
    assert report.guarantee is not None
    assert all((e <= report.guarantee.budgets[name]).all() for name, e in report.guarantee.epsilons.items())
    assert report.compressed is not None
    assert report.compressed.parameters < report.model.parameters
    assert report.compressed.parameters == sum(array.size for array in (*small.coefs_, *small.intercepts_))
    assert report.compressed.bytes == 8 * report.compressed.parameters
    assert [layer.name for layer in report.layers] == ["hidden_1", "hidden_2"]
    assert [len(layer.verdicts) for layer in report.layers] == [40, 24]
    assert [layer.kept for layer in report.layers if layer.kept] == sizes_of(small)
    assert report.check is not None
    assert report.check.runtime == "scikit-learn"
    assert_untouched(model, before)
    assert_consistent(small)
    assert_same_predictions(model, small, x, report.guarantee.epsilon)
    assert_trainable(small, x[:300], y[:300])
    small.coefs_[0][:] = 0  # what is handed over belongs to the user
    assert_untouched(model, before)


def test_digits_as_onnx_gives_the_same_verdicts(digits: tuple[Any, Array, Array]) -> None:
    model, _, _ = digits
    layers = [(weight.T, bias) for weight, bias in zip(model.coefs_, model.intercepts_, strict=True)]
    mine, theirs = (reluce.compress(given, "0,16") for given in (model, chain(layers, np.float64)))
    assert list(mine.verdicts.values()) == list(theirs.verdicts.values())
    assert [layer.kept for layer in mine.report.layers] == [layer.kept for layer in theirs.report.layers]
    assert mine.report.compressed is not None
    assert theirs.report.compressed is not None
    # A file has a place for a selection of the inputs that are read; an estimator has none.
    border = (theirs.report.model.macs - theirs.report.compressed.macs) - (
        mine.report.model.macs - mine.report.compressed.macs
    )
    assert border > 0
    assert border % theirs.report.layers[0].kept == 0
    assert mine.report.compressed.parameters - theirs.report.compressed.parameters == border


def test_tuned_digits_stay_a_classifier_that_can_be_tuned(digits: tuple[Any, Array, Array]) -> None:
    model, x, y = digits
    small = reluce.compress(model, "0,16").model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(small.set_params(max_iter=2), {"alpha": [1e-4, 1e-2]}, cv=2).fit(x[:200], y[:200])
    assert sizes_of(search.best_estimator_) == sizes_of(small)


# Any chain, every kind of estimator


@given(case=chains(), data=st.data())
@settings(max_examples=60)
def test_any_chain(case: Case, data: st.DataObject) -> None:
    network, box = case
    kind = data.draw(st.sampled_from(KINDS[network.tensors["y"].size]))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    budget = data.draw(st.sampled_from([None, 1e-6, 0.3]))
    model, box = of_network(network, kind, dtype), renamed(box)
    before = pickle.dumps(model)
    (differences,) = max_difference(network, renamed_network(network, model), box_of_x(box)).values()
    assert not any(differences)
    result = reluce.compress(model, box, settings=Settings(level_of(budget)))
    assert type(result.model) is type(model)
    assert_untouched(model, before)
    assert_consistent(result.model)
    assert result.report.guarantee is not None
    assert_equal_on(model, result.model, box, result.report.guarantee.epsilon)
    assert result.report.compressed is not None
    assert result.report.compressed.parameters <= result.report.model.parameters
    x = np.stack([ends.astype(dtype) for ends in box.outer["X"]])
    for own in (model, result.model):
        assert_same_logits(own, x)


def renamed_network(network: Network, model: Any) -> Network:
    """What was read of ``model``, with the names of ``network``."""
    read = read_estimator(model).network
    names = {read.inputs[0]: network.inputs[0], read.outputs[0]: network.outputs[0]}
    nodes = tuple(
        Node(
            node.name,
            node.op,
            tuple(names.get(n, n) for n in node.inputs),
            tuple(names.get(n, n) for n in node.outputs),
        )
        for node in read.nodes
    )
    tensors = {names.get(name, name): tensor for name, tensor in read.tensors.items()}
    return Network(network.inputs, network.outputs, nodes, tensors)


def box_of_x(box: Box) -> Box:
    return Box({"x": box.lower["X"]}, {"x": box.upper["X"]})


def assert_same_logits(model: Any, x: Array) -> None:
    """The estimator's runtime, its public methods and its network in fractions agree."""
    loaded = read_estimator(model)
    (name,) = loaded.network.outputs
    found = runtime(loaded).start()({"X": x})[name]
    exact = np.array([[float(value) for value in forward(loaded.network, {"X": row})[name]] for row in x])
    assert found.shape == exact.shape
    scale = max(1.0, *(np.abs(array).max(initial=0) for array in evaluate(loaded.network, {"X": x}).values()))
    assert np.abs(found - exact).max() <= (1e-10 if x.dtype == np.float64 else 1e-3) * scale


# Cases by hand


@pytest.mark.parametrize("kind", ["regressor", "multilabel"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_known_units(kind: str, dtype: str) -> None:
    model = fitted(KNOWN, kind, dtype)
    result = reluce.compress(model, "0,1", settings=Settings(Exact()))
    names = [verdict.name for verdict in result.verdicts["hidden_1"]]
    assert names == ["INACTIVE", "ACTIVE", "ACTIVE", "ACTIVE", "CONSTANT", "UNSTABLE"]
    assert sizes_of(result.model) == [3]
    assert {array.dtype for array in (*result.model.coefs_, *result.model.intercepts_)} == {np.dtype(dtype)}
    assert_equal_on(model, result.model, renamed(box_of((0, 1), (0, 1))))
    assert_same_predictions(model, result.model, GRID.astype(dtype))
    assert_trainable(result.model, GRID.astype(dtype), targets(kind, 2, len(GRID)))


def test_one_output() -> None:
    for kind in KINDS[1]:
        model = fitted([KNOWN[0], ([KNOWN_W2[1]], [-0.5])], kind)
        result = reluce.compress(model, "0,1")
        assert sizes_of(result.model) == [2]  # of x1 + 1, x2 + 2 and their sum one cancels
        assert_equal_on(model, result.model, renamed(box_of((0, 1), (0, 1))))
        assert_same_predictions(model, result.model, GRID)
        assert_trainable(result.model, GRID, targets(kind, 1, len(GRID)))


@pytest.mark.parametrize(("kind", "outputs"), [(kind, k) for k, kinds in KINDS.items() for kind in kinds])
def test_no_hidden_unit_left(kind: str, outputs: int) -> None:
    # Two active units, folded away: h = (x1 + 1, x2 + 2), every product exact.
    last = [[1, 2], [0.5, -1], [3, 0.25]][:outputs]
    model = fitted([([[1, 0], [0, 1]], [1, 2]), (last, [0.5] * outputs)], kind)
    small = reluce.compress(model, "0,1").model
    assert small.hidden_layer_sizes == ()
    assert small.n_layers_ == 2
    assert_same_predictions(model, small, GRID)
    assert_equal_on(model, small, renamed(box_of((0, 1), (0, 1))))
    assert_trainable(small, GRID, targets(kind, outputs, len(GRID)))
    again = reluce.compress(small, "0,1")  # and it can be read again
    assert again.model.hidden_layer_sizes == ()
    assert again.report.layers == ()


@pytest.mark.parametrize(("kind", "outputs"), [(kind, k) for k, kinds in KINDS.items() for kind in kinds])
def test_constant_network(kind: str, outputs: int) -> None:
    rows = np.arange(outputs * 4).reshape(outputs, 4)
    model = fitted([(-np.ones((4, 2)), [0, -1, -2, -3]), (rows, [0.25] * outputs)], kind)
    small = reluce.compress(model, "0,1").model
    assert_consistent(small)
    assert_equal_on(model, small, renamed(box_of((0, 1), (0, 1))))
    assert_same_predictions(model, small, GRID)
    assert measure(read_estimator(small)).parameters < measure(read_estimator(model)).parameters
    assert_trainable(small, GRID, targets(kind, outputs, len(GRID)))


def test_constant_behind_a_narrow_layer_does_not_make_the_estimator_larger() -> None:
    model = fitted([(-np.ones((2, 30)), [0, 0]), (np.ones((20, 2)), [0.5] * 20)])
    small = reluce.compress(model, "0,1").model
    assert small.hidden_layer_sizes == (1,)
    assert measure(read_estimator(small)).parameters == 30 + 1 + 20 + 20
    x = np.random.default_rng(0).random((20, 30))
    assert np.array_equal(small.predict(x), model.predict(x))


def test_constant_hidden_layer_whose_image_no_float_can_be() -> None:
    # hidden_1 is constant (1, 2**-30); its image 1 + 2**-30 is no float32.
    model = fitted([([[0, 0], [0, 0]], [1, 2.0**-30]), ([[1, 1]], [0])], dtype="float32")
    result = reluce.compress(model, "0,1")
    assert_consistent(result.model)
    assert_equal_on(model, result.model, renamed(box_of((0, 1), (0, 1))))


def test_duplicated_units_are_merged() -> None:
    model = fitted([([[1, 1], [1, 1], [1, -1]], [1, 1, 0]), ([[1, 2, 1], [1, -1, 3]], [0, 0])])
    small = reluce.compress(model, "0,1").model
    assert sizes_of(small) == [2]
    assert_equal_on(model, small, renamed(box_of((0, 1), (0, 1))))


def test_fixed_inputs_keep_their_columns() -> None:
    model = fitted([([[1, 4], [1, -4], [-1, 0.25]], [0, 0, 0.5]), ([[1, 2, 1]], [0])])
    box = renamed(box_of((0, 1), ("1/2", "1/2")))
    small = reluce.compress(model, box).model
    assert small.n_features_in_ == 2
    assert len(small.coefs_[0]) == 2
    assert sum(sizes_of(small)) < 3
    assert_equal_on(model, small, box)


def test_a_deep_estimator_loses_a_layer_in_the_middle() -> None:
    first = ([[1, -1], [-1, 1]], [0, 0.25])
    model = fitted([first, ([[1, 0], [0, 1]], [1, 1]), ([[1, -1], [-1, 1]], [0, 0]), ([[1, 1]], [0])])
    result = reluce.compress(model, "0,1")
    assert [layer.kept for layer in result.report.layers] == [2, 0, 2]
    assert result.model.hidden_layer_sizes == (2, 2)
    assert_equal_on(model, result.model, renamed(box_of((0, 1), (0, 1))))


def test_nothing_to_remove() -> None:
    model = fitted([([[1, -1], [-1, 1]], [0, 0.25]), ([[1, 2]], [0])])
    before = pickle.dumps(model)
    result = reluce.compress(model, "0,1")
    assert "Nothing could be removed" in str(result)
    assert result.model is not model
    assert pickle.dumps(result.model) == before
    expected = model.predict(GRID)
    result.model.coefs_[0][:] = 7
    assert_untouched(model, before)
    assert np.array_equal(hand_over(result.loaded).predict(GRID), expected)
    model.coefs_[0][:] = 7
    assert np.array_equal(hand_over(result.loaded).predict(GRID), expected)


def test_later_changes_of_the_original_do_not_matter() -> None:
    model = make_pipeline(StandardScaler().fit(GRID), fitted(KNOWN))
    result = reluce.compress(model, "0,1")
    expected = model.predict(GRID)
    model[0].mean_ += 1
    model[1].coefs_[0][:] = 0
    assert np.abs(result.model.predict(GRID) - expected).max() < 1e-12


def test_hidden_layer_sizes_as_a_number() -> None:
    model = fitted(KNOWN)
    model.hidden_layer_sizes = 6
    assert reluce.compress(model, "0,1").model.hidden_layer_sizes == (3,)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_every_solver_goes_on(solver: str) -> None:
    model = fitted(KNOWN, solver=solver)
    small = reluce.compress(model, "0,1").model
    assert_consistent(small)
    assert_trainable(small, GRID, targets("regressor", 2, len(GRID)))


def test_early_stopping_goes_back_to_the_smaller_network() -> None:
    model = fitted(KNOWN, early=True)
    model.best_validation_score_ = np.inf  # no step will be better
    small = reluce.compress(model, "0,1").model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        small.set_params(warm_start=True).fit(GRID, targets("regressor", 2, len(GRID)))
    assert_same_predictions(model, small, GRID)


def test_poisson_regression_bounds_the_logarithm() -> None:
    model = fitted([KNOWN[0], ([[0.25, 0.5, 0, 0.25, 0.25, -0.25]], [0])], "poisson")
    result = reluce.compress(model, "0,1", settings=WITHIN)
    assert result.report.guarantee is not None
    assert list(result.report.guarantee.epsilons) == ["log_output"]
    assert "logarithm of what predict gives" in str(result)
    assert sum(sizes_of(result.model)) < 6
    gap = np.abs(np.log(result.model.predict(GRID)) - np.log(model.predict(GRID))).max()
    assert gap <= result.report.guarantee.epsilon + 1e-12


def test_estimators_fitted_on_tables_are_run_in_silence() -> None:
    names = np.array(["length", "width"], dtype=object)
    model = fitted(KNOWN)
    scaler = StandardScaler().fit(GRID)
    model.feature_names_in_ = scaler.feature_names_in_ = names
    for given_model in (model, make_pipeline(scaler, model)):
        result = reluce.compress(given_model, "0,1", data=GRID)
        assert result.report.check is not None
        assert result.report.check.measured is not None  # a warning would be an error, and the check would go without
        small = result.model
        last = small if given_model is model else small[-1]
        assert list(last.feature_names_in_) == list(names)
        assert list(small.feature_names_in_) == list(names)


def test_the_check_sees_logits_and_not_probabilities() -> None:
    model = fitted([([[1, 1]], [0]), ([[1]], [100])], "binary")
    run = runtime(read_estimator(model)).start()
    assert run({"X": GRID})["logits"].min() == 100
    assert model.out_activation_ == "logistic"


def test_inspect() -> None:
    result = reluce.inspect(fitted(KNOWN), "0,1")
    assert result.report.compressed is None
    assert type(result.model) is MLPRegressor


def test_nothing_is_written_to_a_file(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="only ONNX"):
        reluce.compress(fitted(KNOWN), "0,1", output=tmp_path / "out.onnx")


def test_there_is_no_place_for_skips() -> None:
    with pytest.raises(UsageError, match="has no place for skips"):
        reluce.compress(fitted(KNOWN), "0,1", settings=Settings(skips=True))


# Rewritten networks that no estimator is


def test_rebuilding_refuses_what_is_no_chain() -> None:
    loaded = read_estimator(fitted(KNOWN))
    first, relu, last = loaded.network.nodes
    tensors = loaded.network.tensors

    def built(*nodes: Node) -> Any:
        return rebuild(loaded, Network(("X",), ("output",), nodes, tensors), {})

    select = Node("pick", Select(np.arange(6), (6,)), (first.output,), (relu.output,))
    with pytest.raises(ValueError, match="Select 'pick' stands where a scikit-learn estimator has a ReLU"):
        built(first, select, last)
    negative = Node("c", Constant(np.full(6, -1.0)), ("X",), (relu.output,))
    with pytest.raises(ValueError, match="Constant 'c' stands where"):
        built(negative, last)
    with pytest.raises(ValueError, match="Relu 'end' is no layer"):
        built(Node("end", Relu(), ("X",), ("output",)))
    scaled = Node("output", Dense(np.ones((2, 6)), np.ones(2), alpha=2.0), (relu.output,), ("output",))
    with pytest.raises(ValueError, match="Dense 'output' is no layer"):
        built(first, relu, scaled)


@pytest.mark.parametrize("place", ["hidden_1/z", "hidden_1"])
def test_a_constant_may_stand_for_a_layer(place: str) -> None:
    loaded = read_estimator(fitted(KNOWN))
    _, relu, last = loaded.network.nodes
    value = np.array([1.0, 0, 2, 3, 0, 5])
    constant = Node(place, Constant(value), ("X",), (place,))
    nodes = (constant, relu, last) if place.endswith("z") else (constant, last)
    made = rebuild(loaded, Network(("X",), ("output",), nodes, loaded.network.tensors), {})
    expected = value @ np.array(KNOWN_W2).T + KNOWN_B2
    assert np.array_equal(hand_over(made).predict(GRID), np.tile(expected, (len(GRID), 1)))


# Pipelines


def standard() -> Pipeline:
    return make_pipeline(StandardScaler().fit(GRID * 4 - 1), fitted(KNOWN))


def test_pipeline_before_scaling() -> None:
    model = Pipeline([("shrink", MinMaxScaler().fit(GRID * 16)), ("mlp", fitted(KNOWN, "multilabel"))])
    before = pickle.dumps(model)
    result = reluce.compress(model, "0,16")
    assert "(before scaling)" in str(result)
    assert result.report.name == "Pipeline"
    assert type(result.model) is Pipeline
    assert [label for label, _ in result.model.steps] == ["shrink", "mlp"]
    assert sizes_of(result.model[-1]) == [3]
    assert_untouched(model, before)
    x = GRID * 16
    assert np.array_equal(result.model.predict(x), model.predict(x))
    assert np.abs(result.model.predict_proba(x) - model.predict_proba(x)).max() < 1e-12
    assert repr(clone(result.model)) == repr(result.model)
    assert np.array_equal(pickle.loads(pickle.dumps(result.model)).predict(x), model.predict(x))


def test_pipeline_after_scaling() -> None:
    model = standard()
    result = reluce.compress(model, "0,1", domain_space="scaled")
    assert "(after scaling)" in str(result)
    assert sizes_of(result.model[-1]) == [3]
    x = model[0].inverse_transform(GRID)
    assert np.abs(result.model.predict(x) - model.predict(x)).max() < 1e-12


def test_the_same_domain_before_and_after_scaling_differs() -> None:
    model = make_pipeline(MaxAbsScaler().fit(GRID * 8), fitted(KNOWN))
    before, after = (reluce.inspect(model, "0,8", domain_space=space).verdicts for space in ("input", "scaled"))
    assert before != after
    assert reluce.inspect(model, "0,1", domain_space="scaled").verdicts == before


def test_a_pipeline_hands_back_its_scalers_as_they_were() -> None:
    model = make_pipeline(StandardScaler().fit(GRID), "passthrough", RobustScaler().fit(GRID), fitted(KNOWN))
    small = reluce.compress(model, "0,1").model
    assert pickle.dumps(small.steps[:-1]) == pickle.dumps(copy.deepcopy(model.steps[:-1]))
    assert small[0] is not model[0]


@pytest.mark.parametrize("step", ["passthrough", None, FunctionTransformer()])
def test_a_pipeline_without_a_scaler_has_one_domain(step: Any) -> None:
    model = Pipeline([("nothing", step), ("mlp", fitted(KNOWN))])
    result = reluce.compress(model, "0,1")
    assert "scaling)" not in str(result)
    assert type(result.model) is Pipeline
    assert sizes_of(result.model[-1]) == [3]
    with pytest.raises(UsageError, match="scaler"):
        reluce.compress(model, "0,1", domain_space="scaled")


def test_data_of_a_pipeline_are_those_before_scaling() -> None:
    model = make_pipeline(MinMaxScaler().fit(GRID * 16), fitted(KNOWN))
    x = np.concatenate([GRID * 16, [[np.nan, 0], [np.inf, 0], [99, 0]]])
    before = x.copy()
    result = reluce.compress(model, "0,16", data=x)
    assert np.array_equal(x, before, equal_nan=True)
    assert "3 of 84 data samples lie outside" in str(result)


def test_scalers_that_give_tables_are_read_all_the_same() -> None:
    scaler = StandardScaler().fit(GRID).set_output(transform="pandas")  # which need not be installed
    scaling = read_estimator(make_pipeline(scaler, fitted(KNOWN))).scaling
    assert scaling is not None
    assert np.array_equal(scaling.apply(GRID), StandardScaler().fit_transform(GRID))


def test_scalers_that_write_over_their_argument_do_not_write_over_ours() -> None:
    scaler = StandardScaler(copy=False).fit(GRID.copy())
    scaling = read_estimator(make_pipeline(scaler, fitted(KNOWN))).scaling
    assert scaling is not None
    x = GRID.copy()
    scaling.apply(x)
    assert np.array_equal(x, GRID)


# Errors


class Mine(MLPRegressor):
    pass


def spoiled(**attributes: Any) -> Any:
    model = fitted(KNOWN)
    vars(model).update(attributes)
    return model


def with_nan(attribute: str) -> Any:
    model = fitted(KNOWN)
    getattr(model, attribute)[1].flat[0] = np.nan
    return model


def piped(*front: Any, last: Any = None) -> Pipeline:
    return make_pipeline(*front, fitted(KNOWN) if last is None else last)


W1, W2 = np.array(KNOWN_W1, float).T, np.array(KNOWN_W2, float).T
B1, B2 = np.array(KNOWN_B1, float), np.array(KNOWN_B2, float)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (MLPClassifier(), ["MLPClassifier: not fitted", "call fit"]),
        (spoiled(activation="tanh"), ["MLPRegressor: ", "'tanh'", "relu"]),
        (spoiled(out_activation_="tanh"), ["output function 'tanh'"]),
        (LogisticRegression(), ["LogisticRegression: not a model", "MLPClassifier", "MLPRegressor", "Pipeline"]),
        (RandomForestClassifier(), ["RandomForestClassifier: not a model"]),
        (Mine(), ["Mine: not a model"]),
        (TransformedTargetRegressor(MLPRegressor()), ["TransformedTargetRegressor: not a model", "regressor_"]),
        (GridSearchCV(MLPRegressor(), {}), ["GridSearchCV: not a model", "best_estimator_"]),
        (with_nan("coefs_"), ["coefs_[1] holds NaN"]),
        (with_nan("intercepts_"), ["intercepts_[1] holds NaN"]),
        (spoiled(coefs_=[W1, W2.astype(np.float32)]), ["coefs_[1] is float32", "all"]),
        (spoiled(coefs_=[W1.astype(int), W2]), ["coefs_[0] is int64"]),
        (spoiled(coefs_=[W1]), ["different numbers of layers"]),
        (spoiled(coefs_=[], intercepts_=[], n_layers_=1), ["different numbers of layers"]),
        (spoiled(n_layers_=4), ["different numbers of layers"]),
        (spoiled(coefs_=[W1[:, :5], W2], intercepts_=[B1[:5], B2]), ["coefs_[0] writes 5", "coefs_[1] reads 6"]),
        (spoiled(intercepts_=[B1[:5], B2]), ["coefs_[0] has shape (2, 6) and intercepts_[0] (5,)"]),
        (spoiled(coefs_=[W1[:, :0], W2[:0]], intercepts_=[B1[:0], B2]), ["shape (2, 0)", "none of them 0"]),
        (spoiled(n_features_in_=3), ["2 features to 2 outputs", "are 3 and 2"]),
        (spoiled(n_outputs_=1), ["2 features to 2 outputs", "are 2 and 1"]),
        (piped(StandardScaler().fit(GRID), last=MLPRegressor()), ["step 'mlpregressor' (MLPRegressor): not fitted"]),
        (piped(last=PCA()), ["Pipeline: step 'pca' (PCA): not a model", "MLPClassifier"]),
        (piped(last="passthrough"), ["Pipeline: step 'passthrough' (str): not a model"]),
        (Pipeline([]), ["Pipeline: has no steps"]),
        (piped(PCA().fit(GRID)), ["Pipeline: step 'pca' (PCA) is not understood", "StandardScaler"]),
        (piped(FunctionTransformer(np.sqrt)), ["(FunctionTransformer) is not understood"]),
        (piped(StandardScaler()), ["step 'standardscaler' (StandardScaler) is not fitted"]),
        (piped(MinMaxScaler(clip=True).fit(GRID)), ["(MinMaxScaler) clips", "clip=False"]),
        (piped(StandardScaler().fit(GRID[:, :1])), ["scales 1 features", "reads 2"]),
    ],
)
def test_errors(model: Any, words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        reluce.compress(model, "0,1")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("attribute", "value"), [("scale_", 0.0), ("scale_", np.inf), ("mean_", np.nan)])
def test_a_scaler_that_divides_by_nothing(attribute: str, value: float) -> None:
    scaler = StandardScaler().fit(GRID)
    getattr(scaler, attribute)[1] = value
    with pytest.raises(ModelError, match="scale of 0, or a number that is not finite"):
        reluce.compress(piped(scaler), "0,1")
