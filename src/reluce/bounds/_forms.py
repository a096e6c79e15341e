"""Linear operations as float64 arrays with the radius by which their exact parameters may differ.

float16, float32 and float64 weights are exact in float64; only Gemm's ``alpha`` and ``beta``, division and batch
normalisation (whose ``1 / sqrt(variance + epsilon)`` is irrational) need a radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from reluce.network import Affine, Array, BatchNorm, Dense, Op
from reluce.rounding import dot_error, product_error


@dataclass(frozen=True, eq=False)
class DenseForm:
    """``y = W x + b`` with ``|W - weight| <= weight_radius`` and ``|b - bias| <= bias_radius`` (None: exact)."""

    weight: Array
    bias: Array
    weight_radius: Array | None = None
    bias_radius: Array | None = None


@dataclass(frozen=True, eq=False)
class AffineForm:
    """``y = a x + c`` elementwise, with the radii of both parameters; all of the full sample shape."""

    scale: Array
    shift: Array
    scale_radius: Array
    shift_radius: Array


def dense_form(op: Dense) -> DenseForm:
    """The float64 parameters of a dense layer, ``alpha`` and ``beta`` multiplied in."""
    weight = op.weight.astype(np.float64)
    bias = np.zeros(len(weight)) if op.bias is None else op.bias.astype(np.float64)
    weight_radius = bias_radius = None
    if op.alpha != 1.0:
        weight = op.alpha * weight
        weight_radius = product_error(np.abs(weight))
    if op.beta != 1.0:
        bias = op.beta * bias
        bias_radius = product_error(np.abs(bias))
    return DenseForm(weight, bias, weight_radius, bias_radius)


@singledispatch
def affine_form(op: Op, shape: tuple[int, ...]) -> AffineForm:
    """The float64 parameters of an elementwise affine operation on a tensor of the given sample shape."""
    raise NotImplementedError(f"{type(op).__name__} is not an elementwise affine operation")


@affine_form.register
def _(op: Affine, shape: tuple[int, ...]) -> AffineForm:
    nothing = np.zeros(shape)
    scale = np.ones(shape) if op.scale is None else np.broadcast_to(op.scale.astype(np.float64), shape)
    shift = nothing if op.shift is None else np.broadcast_to(op.shift.astype(np.float64), shape)
    if not op.divide:
        return AffineForm(scale, shift, nothing, nothing)
    inverse = 1.0 / scale
    return AffineForm(inverse, shift, product_error(np.abs(inverse)), nothing)


@affine_form.register
def _(op: BatchNorm, shape: tuple[int, ...]) -> AffineForm:
    scale, shift, mean, variance = (
        np.broadcast_to(part.astype(np.float64), shape) for part in (op.scale, op.shift, op.mean, op.variance)
    )
    factor = scale / np.sqrt(variance + op.epsilon)  # four roundings, charged as a dot product of six terms
    offset = shift - mean * factor
    factor_radius = dot_error(6, np.abs(factor))
    offset_radius = dot_error(8, np.abs(shift) + np.abs(mean * factor)) + np.abs(mean) * factor_radius
    return AffineForm(factor, offset, factor_radius, offset_radius)
