"""Affine operations as exact numbers: ``y = W x + b`` on the last axis, and ``y = f x + s`` coordinate by coordinate.

Quotients and square roots are not dyadic; they are enclosed: the true factor differs from ``factor`` by at most
``factor_radius``, the true shift from ``shift`` by at most ``shift_radius``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isqrt

import numpy as np

from reluce_checker._exact import Exact, Matrix
from reluce_checker._graph import Array, BatchNorm, Dense, Scale

BITS = 160
"""Enclosures are made of multiples of ``2**-BITS``."""


class DenseForm:
    """The exact weights of a dense layer in the shapes that products need; each is made when first asked for."""

    def __init__(self, op: Dense) -> None:
        self._op = op
        self.outputs, self.inputs = op.weight.shape
        self._made: dict[str, Matrix] = {}
        bias = np.zeros(self.outputs) if op.bias is None else op.bias
        self.bias = _times(Exact.of(bias), op.beta)

    def weight(self, rows: Array) -> Exact:
        """Some rows of the weights, ``(rows, inputs)``."""
        return _times(Exact.of(self._op.weight[rows]), self._op.alpha)

    def pulled(self, rows: Exact) -> Exact:
        """``rows @ W`` for functionals of the outputs; outputs that no row reads (most are dead units) cost nothing."""
        used = np.flatnonzero(rows.sign.any(axis=0))
        if "backward" in self._made or 2 * len(used) > self.outputs:
            return rows @ self.backward
        return rows[:, used] @ Matrix.of(self.weight(used))

    @property
    def backward(self) -> Matrix:
        """``(outputs, inputs)``: for functionals of the outputs."""
        if "backward" not in self._made:
            self._made["backward"] = Matrix.of(self.weight(np.arange(self.outputs)))
        return self._made["backward"]

    @property
    def forward(self) -> Matrix:
        """``(inputs, outputs)``: for values of the inputs."""
        if "forward" not in self._made:
            found = self.backward
            self._made["forward"] = Matrix(found.entries.transpose(), found.exponent)
        return self._made["forward"]

    @cached_property
    def sums(self) -> tuple[Exact, Exact]:
        """For each output the sum of its weights, and of their absolute values: what a box of equal sides needs."""
        whole = self.weight(np.arange(self.outputs))
        return whole.sum(1), abs(whole).sum(1)

    @property
    def size(self) -> Matrix:
        """``(inputs, outputs)``: the absolute values."""
        if "size" not in self._made:
            absolute = abs(self.weight(np.arange(self.outputs)))
            self._made["size"] = Matrix.of(Exact(absolute.mantissa.T, absolute.exponent))
        return self._made["size"]

    @property
    def used(self) -> Array:
        """``(outputs, inputs)``: which weights are not 0."""
        return np.asarray((self._op.weight != 0) & (self._op.alpha != 0))


@dataclass(frozen=True, eq=False)
class ScaleForm:
    """``y = factor x + shift`` for each coordinate (flat), with the radii of enclosures."""

    factor: Exact
    shift: Exact
    factor_radius: Exact
    shift_radius: Exact


class Forms:
    """The forms of a network's operations, each made once."""

    def __init__(self) -> None:
        self._dense: dict[Dense, DenseForm] = {}
        self._scale: dict[Scale | BatchNorm, ScaleForm] = {}

    def dense(self, op: Dense) -> DenseForm:
        """The exact weights of a dense layer."""
        if op not in self._dense:
            self._dense[op] = DenseForm(op)
        return self._dense[op]

    def scale(self, op: Scale | BatchNorm, size: int) -> ScaleForm:
        """The exact or enclosed factors of an elementwise operation on ``size`` coordinates."""
        if op not in self._scale:
            self._scale[op] = _scale_form(op, size)
        return self._scale[op]


def _scale_form(op: Scale | BatchNorm, size: int) -> ScaleForm:
    nothing = Exact.zeros((size,))
    if isinstance(op, Scale):
        shift = nothing if op.shift is None else Exact.of(_flat(op.shift, size))
        if op.factor is None:
            return ScaleForm(Exact.of(np.ones(size)), shift, nothing, nothing)
        if not op.divide:
            return ScaleForm(Exact.of(_flat(op.factor, size)), shift, nothing, nothing)
        divisors, place = np.unique(_flat(op.factor, size).astype(np.float64), return_inverse=True)
        factor, radius = _enclosed([1 / Fraction(float(value)) for value in divisors])
        return ScaleForm(factor[place], shift, radius[place], nothing)
    # A channel has one scale and one variance, and often thousands of coordinates.
    columns = np.stack([_flat(part, size).astype(np.float64) for part in (op.scale, op.variance)], axis=1)
    channels, place = np.unique(columns, axis=0, return_inverse=True)
    place, epsilon = place.reshape(-1), Fraction(float(op.epsilon))
    pairs = [(Fraction(float(scale)), Fraction(float(variance))) for scale, variance in channels]
    factor, radius = _joined([_batch_factor(scale, variance + epsilon) for scale, variance in pairs])
    factor, radius = factor[place], radius[place]
    mean, shift = Exact.of(_flat(op.mean, size)), Exact.of(_flat(op.shift, size))
    return ScaleForm(factor, shift - mean * factor, radius, abs(mean) * radius)


def _batch_factor(scale: Fraction, variance: Fraction) -> tuple[int, int]:
    """``scale / sqrt(variance)`` as an integer multiple of ``2**-BITS``, and how far off it may be."""
    if variance <= 0:
        raise ValueError("a batch normalisation has a variance + epsilon that is not positive")
    inverse = 1 / variance
    root = isqrt((inverse.numerator << (4 * BITS)) // inverse.denominator)  # of 1 / sqrt(variance), times 2**(2 BITS)
    low, high = sorted((scale * root, scale * (root + 1)))
    first, last = _floor(low, BITS), -_floor(-high, BITS)
    return first, last - first


def _floor(value: Fraction, bits: int) -> int:
    """The integer below ``value * 2**-bits``."""
    return value.numerator // (value.denominator << bits)


def _enclosed(values: list[Fraction]) -> tuple[Exact, Exact]:
    return _joined(
        [((v.numerator << BITS) // v.denominator, int((v.numerator << BITS) % v.denominator != 0)) for v in values]
    )


def _joined(pairs: list[tuple[int, int]]) -> tuple[Exact, Exact]:
    columns = np.array(pairs, dtype=object).reshape(-1, 2)
    return Exact(columns[:, 0], -BITS), Exact(columns[:, 1], -BITS)


def _flat(values: Array, size: int) -> Array:
    return np.ascontiguousarray(values).reshape(size)


def _times(values: Exact, factor: float) -> Exact:
    return values if factor == 1.0 else values * Exact.of(np.array(factor))
