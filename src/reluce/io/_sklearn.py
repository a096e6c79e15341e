"""scikit-learn's ``MLPClassifier`` and ``MLPRegressor`` with ReLU units, alone or behind the scalers of a ``Pipeline``.

The network ends at y, in front of the estimator's output function (``_sklearn_mlp``). What is promised of y holds for
``predict_proba``: in the maximum norm softmax and the logistic function are contractions (the absolute row sums of
softmax's Jacobian are 2 p (1 - p) <= 1/2, the logistic slope is p (1 - p) <= 1/4), so that probabilities differ by at
most epsilon / 2. ``predict`` of a regressor is y itself, or exp(y) with the Poisson loss.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from reluce.errors import ModelError
from reluce.io._kinds import hand_over, measure, puts_out_logits, rebuild, runtime, takes_selections
from reluce.io._loaded import Loaded, Run, Runtime, Sizes
from reluce.io._measure import dense_macs
from reluce.io._sklearn_mlp import INPUT, Layer, mlp_network
from reluce.io._sklearn_scaler import read_scaling, without_names
from reluce.network import Array, Constant, Dense, Network, Relu

POISSON = "loss 'poisson': the guarantee holds for the logarithm of what predict gives"


@dataclass(frozen=True, eq=False, kw_only=True)
class SklearnLoaded(Loaded):
    """A scikit-learn estimator as read.

    Parameters
    ----------
    estimator
        The fitted ``MLPClassifier`` or ``MLPRegressor``; nobody else holds it.
    pipeline
        The ``Pipeline`` whose last step is to be replaced by ``estimator``, if there is one.
    """

    estimator: Any
    pipeline: Any = None


def read_estimator(model: Any) -> SklearnLoaded:
    """Read a fitted estimator.

    Parameters
    ----------
    model
        An ``MLPClassifier``, an ``MLPRegressor``, or a ``Pipeline`` of scalers and one of these. It is not changed, and
        later changes of it do not matter.

    Returns
    -------
    SklearnLoaded
        Its network reads ``X`` ``(features,)`` and writes ``logits`` (of a classifier), ``output`` or ``log_output``.

    Raises
    ------
    ModelError
        When it is another estimator, not fitted, without ReLU, or holds parameters that do not go together.
    """
    name = type(model).__name__
    if type(model) is not Pipeline:
        network = mlp_network(model, name)
        return SklearnLoaded(network=network, notes=_notes(model), name=name, estimator=copy.deepcopy(model))
    if not model.steps:
        raise ModelError("Pipeline: has no steps; give one that ends in a fitted MLPClassifier or MLPRegressor")
    label, last = model.steps[-1]
    network = mlp_network(last, f"Pipeline: step {label!r} ({type(last).__name__})")
    own = copy.deepcopy(model)
    return SklearnLoaded(
        network=network,
        notes=_notes(last),
        name=name,
        scaling=read_scaling(own.steps[:-1], network.tensors[INPUT].size),
        estimator=own.steps[-1][1],
        pipeline=own,
    )


def _notes(model: Any) -> tuple[str, ...]:
    return (POISSON,) if model.out_activation_ == "exp" else ()


@rebuild.register
def _rebuild_sklearn(loaded: SklearnLoaded, network: Network, metadata: Mapping[str, str]) -> Loaded:
    if network.nodes == loaded.network.nodes:  # nodes are equal when they are the same objects
        return loaded
    model = copy.deepcopy(loaded.estimator)
    layers = _chain(network)
    model.coefs_ = [np.array(weight, order="C") for weight, _ in layers]
    model.intercepts_ = [np.array(bias) for _, bias in layers]
    model.n_layers_ = len(layers) + 1
    model.hidden_layer_sizes = tuple(len(bias) for _, bias in layers[:-1])
    # What fitting left behind has the old shapes. Optimizers and indices are made anew when fitting goes on; the best
    # parameters so far, to which early stopping returns, are those that the estimator has.
    for name in ("_optimizer", "_coef_indptr", "_intercept_indptr"):
        vars(model).pop(name, None)
    if "_best_coefs" in vars(model):
        model._best_coefs = [weight.copy() for weight in model.coefs_]
        model._best_intercepts = [bias.copy() for bias in model.intercepts_]
    return SklearnLoaded(
        network=mlp_network(model, loaded.name),
        notes=loaded.notes,
        name=loaded.name,
        ranges=loaded.ranges,
        scaling=loaded.scaling,
        estimator=model,
        pipeline=loaded.pipeline,
    )


def _chain(network: Network) -> list[Layer]:
    """The layers of a rewritten network, found from its output on.

    Rewriting leaves a chain of dense layers with a ReLU between. It may begin with a constant instead of the input: in
    place of a dense layer, or of a ReLU, where it is not negative.

    Raises
    ------
    ValueError
        When anything else comes, which no estimator could compute.
    """
    layers: list[Layer] = []
    name = network.outputs[0]
    while name not in network.inputs:
        node = network.producer[name]
        match node.op:
            case Constant(value=value):
                return _constant(network, value) + layers[::-1]
            case Dense(weight=weight, bias=bias, alpha=1.0, beta=1.0):
                layers.append((weight.T, np.zeros(len(weight), weight.dtype) if bias is None else bias))
            case op:
                raise ValueError(f"{type(op).__name__} {node.name!r} is no layer of a scikit-learn estimator")
        name = _before_relu(network, node.inputs[0])
    return layers[::-1]


def _before_relu(network: Network, name: str) -> str:
    """The pre-activation of a layer; the tensor itself where a ReLU would not change it, as it is a constant >= 0."""
    if name in network.inputs:
        return name
    node = network.producer[name]
    match node.op:
        case Relu():
            return node.inputs[0]
        case Constant(value=value) if (value >= 0).all():
            return name
        case op:
            raise ValueError(f"{type(op).__name__} {node.name!r} stands where a scikit-learn estimator has a ReLU")


def _constant(network: Network, value: Array) -> list[Layer]:
    """Weights of 0 in front of a constant, by way of one unit of value 0 where that is smaller."""
    width, size, dtype = network.tensors[network.inputs[0]].size, value.size, value.dtype
    if width * size <= width + 1 + size:
        return [(np.zeros((width, size), dtype), value)]
    return [(np.zeros((width, 1), dtype), np.zeros(1, dtype)), (np.zeros((1, size), dtype), value)]


@puts_out_logits.register
@takes_selections.register
def _neither(loaded: SklearnLoaded) -> bool:
    return False


@measure.register
def _measure_sklearn(loaded: SklearnLoaded) -> Sizes:
    arrays = [*loaded.estimator.coefs_, *loaded.estimator.intercepts_]
    return Sizes(
        parameters=sum(array.size for array in arrays),
        nonzeros=sum(int(np.count_nonzero(array)) for array in arrays),
        macs=dense_macs(loaded.network),
        bytes=sum(array.nbytes for array in arrays),
    )


@runtime.register
def _runtime_sklearn(loaded: SklearnLoaded) -> Runtime:
    return Runtime("scikit-learn", lambda: _predictor(loaded))


def _predictor(loaded: SklearnLoaded) -> Run:
    """The estimator without its output function, whose own rounding no bound on the network covers."""
    model = without_names(loaded.estimator)
    model.out_activation_ = "identity"
    predict = model.predict_proba if isinstance(model, MLPClassifier) else model.predict
    (output,) = loaded.network.outputs
    width = loaded.network.tensors[output].size

    def run(feed: Mapping[str, Array]) -> dict[str, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.asarray(predict(feed[INPUT]))
        # One output comes as a vector from a regressor, and from a classifier as the last of two columns.
        return {output: found.reshape(len(feed[INPUT]), -1)[:, -width:]}

    return run


@hand_over.register
def _hand_over_sklearn(loaded: SklearnLoaded) -> Any:
    if loaded.pipeline is None:
        return copy.deepcopy(loaded.estimator)
    pipeline = copy.deepcopy(loaded.pipeline)
    pipeline.steps[-1] = (pipeline.steps[-1][0], copy.deepcopy(loaded.estimator))
    return pipeline
