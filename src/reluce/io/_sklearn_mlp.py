"""The network of scikit-learn's ``MLPClassifier`` and ``MLPRegressor`` with ReLU units.

    h_0 = x,   h_k = max(0, h_{k-1} C_k + b_k),   y = h_{n-1} C_n + b_n       C_k = coefs_[k-1], b_k = intercepts_[k-1]

It ends at y; behind it the estimator applies ``out_activation_``. Source: ``_forward_pass_fast`` of scikit-learn's
``BaseMultilayerPerceptron``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from reluce.errors import ModelError
from reluce.network import Array, Dense, Network, Node, Relu, Tensor, readonly, validate

ACCEPTED = "an MLPClassifier, an MLPRegressor, or a Pipeline of scalers that ends in one"
INPUT = "X"
OUTPUTS = {"softmax": "logits", "logistic": "logits", "identity": "output", "exp": "log_output"}
"""What the network's output is called, by the estimator's output function."""
INSIDE = {
    "GridSearchCV": "best_estimator_",
    "RandomizedSearchCV": "best_estimator_",
    "TransformedTargetRegressor": "regressor_",
}
"""Where estimators that wrap another keep it."""

Layer = tuple[Array, Array]
"""Weights ``(in, out)`` and bias ``(out,)``, as scikit-learn keeps them."""


def mlp_network(model: Any, where: str) -> Network:
    """Read a fitted MLP.

    Parameters
    ----------
    model
        An ``MLPClassifier`` or ``MLPRegressor``.
    where
        What messages begin with.

    Returns
    -------
    Network
        ``X`` ``(features,)`` to ``logits`` (of a classifier), ``output`` or ``log_output``, ``(outputs,)``, in the
        format of ``coefs_``; the ReLUs are ``hidden_1``, ``hidden_2``, ...

    Raises
    ------
    ModelError
        When it is another estimator, not fitted, without ReLU, or holds parameters that do not go together.
    """
    layers = _layers(model, where)
    width, dtype = len(layers[0][0]), layers[0][0].dtype
    tensors = {INPUT: Tensor(INPUT, (width,), dtype)}
    nodes: list[Node] = []

    def put(name: str, op: Dense | Relu, source: str, size: int) -> str:
        nodes.append(Node(name, op, (source,), (name,)))
        tensors[name] = Tensor(name, (size,), dtype)
        return name

    source, output = INPUT, OUTPUTS[model.out_activation_]
    for number, (weight, bias) in enumerate(layers, 1):
        op = Dense(readonly(np.ascontiguousarray(weight.T)), readonly(bias))
        if number == len(layers):
            put(output, op, source, len(bias))
        else:
            source = put(f"hidden_{number}", Relu(), put(f"hidden_{number}/z", op, source, len(bias)), len(bias))
    return validate(Network((INPUT,), (output,), tuple(nodes), tensors))


def _layers(model: Any, where: str) -> list[Layer]:
    """The parameters of a fitted MLP, as they are."""
    _demand_fitted_mlp(model, where)
    layers = list(zip(map(np.asarray, model.coefs_), map(np.asarray, model.intercepts_), strict=False))
    if not len(layers) == len(model.coefs_) == len(model.intercepts_) == model.n_layers_ - 1 > 0:
        raise ModelError(
            f"{where}: coefs_, intercepts_ and n_layers_ speak of different numbers of layers; fit it anew"
        )
    dtype = layers[0][0].dtype
    for number, (weight, bias) in enumerate(layers):
        for part, array in ((f"coefs_[{number}]", weight), (f"intercepts_[{number}]", bias)):
            if array.dtype not in (np.float32, np.float64) or array.dtype != dtype:
                raise ModelError(f"{where}: {part} is {array.dtype}; all must be float32, or all float64")
            if not np.isfinite(array).all():
                raise ModelError(f"{where}: {part} holds NaN or infinity; fit it anew")
        if weight.ndim != 2 or not weight.size or bias.shape != weight.shape[1:]:
            raise ModelError(
                f"{where}: coefs_[{number}] has shape {weight.shape} and intercepts_[{number}] {bias.shape}; "
                "expected (inputs, outputs) and (outputs,), none of them 0"
            )
    _demand_chained([weight for weight, _ in layers], model, where)
    return layers


def _demand_fitted_mlp(model: Any, where: str) -> None:
    # A class of one's own may compute anything, even if it inherits from one of these.
    if type(model) not in (MLPClassifier, MLPRegressor):
        inside = INSIDE.get(type(model).__name__)
        hint = f" (perhaps its {inside})" if inside else ""
        raise ModelError(f"{where}: not a model that Reluce reads; give {ACCEPTED}{hint}")
    if "coefs_" not in vars(model):
        raise ModelError(f"{where}: not fitted; call fit first")
    if model.activation != "relu":
        raise ModelError(f"{where}: its units are {model.activation!r}; only activation='relu' can be compressed")
    if model.out_activation_ not in OUTPUTS:
        raise ModelError(f"{where}: its output function {model.out_activation_!r} is none that scikit-learn fits")


def _demand_chained(weights: list[Array], model: Any, where: str) -> None:
    for number, (before, after) in enumerate(pairwise(weights)):
        if before.shape[1] != after.shape[0]:
            raise ModelError(
                f"{where}: coefs_[{number}] writes {before.shape[1]} values, but coefs_[{number + 1}] reads "
                f"{after.shape[0]}; fit it anew"
            )
    found, stated = (weights[0].shape[0], weights[-1].shape[1]), (model.n_features_in_, model.n_outputs_)
    if found != stated:
        raise ModelError(
            f"{where}: coefs_ lead from {found[0]} features to {found[1]} outputs, "
            f"but n_features_in_ and n_outputs_ are {stated[0]} and {stated[1]}; fit it anew"
        )
