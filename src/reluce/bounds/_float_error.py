"""A-priori float evaluation error of a network over the domain: any summation order, FMA allowed.

    e_0 = 0;   e_k = |W| e_{k-1} + 2 m u (|W| (H_{k-1} + e_{k-1}) + |b|) + m eta,   m = inputs + 2

with u the unit roundoff and eta the smallest normal number of the format (flush-to-zero included), H proven bounds of
the activations. Source: SOUNDNESS 3; Jeannerod & Rump 2013 for the dot products. It serves three times: to trust a
float64 witness, to judge the float64 comparison of two networks, and to judge onnxruntime's float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch

import numpy as np

from reluce.bounds._forms import affine_form, dense_form
from reluce.bounds._interval import Interval
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Op,
    Relu,
    Select,
    Softmax,
)
from reluce.rounding import LARGEST, SMALLEST, UNIT_ROUNDOFF, dot_error, mask_product

LIPSCHITZ = {"Sigmoid": 0.25, "Tanh": 1.0, "LeakyRelu": 1.0, "Clip": 1.0, "Softplus": 1.0}
"""Largest slope of the activations; those with parameters are in ``lipschitz``."""


def lipschitz(op: Activation) -> float:
    """The largest slope of an activation."""
    match op.function, op.parameters:
        case "HardSigmoid", (alpha, _):
            return alpha
        case "Elu", (alpha,):
            return max(1.0, alpha)
        case "Selu", (alpha, gamma):
            return gamma * max(1.0, alpha)
    return LIPSCHITZ.get(op.function, np.inf)


def float_error(network: Network, intervals: Mapping[str, Interval], dtype: np.dtype[np.generic]) -> dict[str, Array]:
    """Bound the error of evaluating a network in a float format anywhere in the domain.

    Parameters
    ----------
    network
        The network.
    intervals
        Proven intervals of its tensors.
    dtype
        The format of the arithmetic.

    Returns
    -------
    dict
        For each tensor an array of the sample shape; infinite behind opaque nodes and where bounds are missing.
    """
    u, eta, most = (table[np.dtype(dtype)] for table in (UNIT_ROUNDOFF, SMALLEST, LARGEST))
    errors: dict[str, Array] = {name: np.zeros(network.shape(name)) for name in network.inputs if name in intervals}
    for node in network.nodes:
        for name in node.outputs:
            if name not in intervals:
                continue
            shape = intervals[name].lower.shape
            if len(node.outputs) != 1 or any(part not in errors for part in node.inputs):
                errors[name] = np.full(shape, np.inf)
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                result = _error(
                    node.op,
                    [errors[part] for part in node.inputs],
                    [intervals[part].magnitude for part in node.inputs],
                    intervals[name],
                    u,
                    eta,
                )
            # Where the computed value may overflow, nothing is known; intermediate sums are covered by the rules.
            overflow = ~(intervals[name].magnitude + result < most)
            errors[name] = np.where(np.isnan(result) | overflow, np.inf, result)
    return errors


@singledispatch
def _error(op: Op, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    return np.full(output.lower.shape, np.inf)


@_error.register
def _(op: Dense, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    form = dense_form(op)
    weight = np.abs(form.weight) if form.weight_radius is None else np.abs(form.weight) + form.weight_radius
    terms = weight.shape[1] + 4  # the sum, the bias, and the products with alpha and beta
    size: Array = (sizes[0] + errors[0]) @ weight.T + np.abs(form.bias)
    before_alpha: Array = (sizes[0] + errors[0]) @ np.abs(op.weight.astype(np.float64)).T
    carried = errors[0] @ weight.T
    error = carried + dot_error(terms, carried) + 2 * terms * u * size + terms * eta * max(1.0, abs(op.alpha))
    # Partial sums must not overflow on the way, whatever they end in.
    return np.where((size < LARGEST_SUM[u]) & (before_alpha < LARGEST_SUM[u]), error, np.inf)


LARGEST_SUM = {UNIT_ROUNDOFF[dtype]: 0.5 * LARGEST[dtype] for dtype in LARGEST}
"""Sums of absolute values below this cannot overflow, rounding included; by unit roundoff."""


@_error.register(Affine)
@_error.register(BatchNorm)
def _(op: Affine | BatchNorm, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    form = affine_form(op, output.lower.shape)
    size = mask_product(np.abs(form.scale), sizes[0] + errors[0]) + np.abs(form.shift)
    if isinstance(op, BatchNorm):  # (x - mean) / deviation * scale + shift: the mean's term cancels, its error does not
        size = size + np.abs(form.scale) * np.abs(op.mean.astype(np.float64)) + np.abs(op.shift.astype(np.float64))
        eta = eta * (1.0 + float(np.abs(op.scale.astype(np.float64)).max()) + float(np.abs(form.scale).max()))
    carried = mask_product(np.abs(form.scale) + form.scale_radius, errors[0])
    error = carried * (1 + 2.0**-40) + 16 * u * size + 8 * eta
    return np.where(size + carried < LARGEST_SUM[u], error, np.inf)


@_error.register
def _(op: Relu, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    return errors[0]


@_error.register
def _(op: Select, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    return np.concatenate([error.ravel() for error in errors])[op.indices].reshape(output.lower.shape)


@_error.register
def _(op: Constant, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    return np.zeros(output.lower.shape)


@_error.register
def _(op: Add, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    total: Array = errors[0] + errors[1]
    return total * (1 + 2.0**-40) + 2 * u * (sizes[0] + sizes[1] + total) + eta


@_error.register
def _(op: Activation, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    # Library functions are charged 64 units in the last place of their range.
    size = 1.0 + output.magnitude
    if op.function == "HardSigmoid":
        size = size + abs(op.parameters[0]) * (sizes[0] + errors[0]) + abs(op.parameters[1])
    return lipschitz(op) * errors[0] * (1 + 2.0**-40) + 64 * u * size + 64 * eta


@_error.register
def _(op: Softmax, errors: list[Array], sizes: list[Array], output: Interval, u: float, eta: float) -> Array:
    worst = errors[0].max(axis=op.axis, keepdims=True)
    terms = errors[0].shape[op.axis] + 64
    if op.log:  # the Jacobian's absolute row sums 2 (1 - p) are at most 2
        size = 1.0 + sizes[0] + errors[0] + (sizes[0] + errors[0]).max(axis=op.axis, keepdims=True)
        return np.asarray(2 * worst * (1 + 2.0**-40) + 64 * u * (size + output.magnitude) + 4 * terms * u + 64 * eta)
    # The Jacobian's absolute row sums 2 p (1 - p) are at most 1/2.
    return np.broadcast_to(0.5 * worst * (1 + 2.0**-40) + 4 * terms * u, output.lower.shape)
