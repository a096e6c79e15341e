"""Which coordinates are constant on the domain, by structure: zero rows, fixed inputs, inactive units, what follows.

A coordinate is constant when everything that it reads with a non-zero weight is. Its value is kept exactly wherever the
operations on the way are exact in dyadic arithmetic; otherwise (division, batch normalisation, sigmoids) only the fact
is kept and the value is whatever the interval bounds enclose.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from reluce.network import Activation, Add, Affine, Array, BatchNorm, Constant, Dense, Dyadic, Op, Relu, Select, Softmax
from reluce.network import concatenate as join


@dataclass(frozen=True, eq=False)
class Constancy:
    """For each coordinate of a tensor: is it constant, is its value known exactly, and that value (else 0)."""

    constant: Array
    exact: Array
    value: Dyadic

    @staticmethod
    def nothing(shape: tuple[int, ...]) -> Constancy:
        """No coordinate is known to be constant."""
        no = np.broadcast_to(False, shape)
        return Constancy(no, no, Dyadic(np.broadcast_to(np.array(0, dtype=object), shape), 0))

    @staticmethod
    def of(mask: Array, values: Array) -> Constancy:
        """Coordinates in ``mask`` are constant with exactly the given float values."""
        return Constancy(mask, mask, Dyadic.of(np.where(mask, values, 0.0)))

    def without(self, mask: Array) -> Constancy:
        """The same, with nothing known of the coordinates in ``mask``."""
        value = Dyadic(np.where(mask, 0, self.value.mantissa), self.value.exponent)
        return Constancy(self.constant & ~mask, self.exact & ~mask, value)

    def zeroed(self, mask: Array) -> Constancy:
        """The same, with the coordinates in ``mask`` known to be exactly 0."""
        if not mask.any():
            return self
        value = Dyadic(np.where(mask, 0, self.value.mantissa), self.value.exponent)
        return Constancy(self.constant | mask, self.exact | mask, value)


@singledispatch
def constancy(op: Op, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    """Constant coordinates of the output (of the given sample shape) of one operation; none by default."""
    return Constancy.nothing(shape)


@constancy.register
def _(op: Dense, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    (x,) = inputs
    reads = op.weight != 0
    varying = (~x.constant).astype(np.float32) @ reads.T.astype(np.float32) > 0
    inexact = (~x.exact).astype(np.float32) @ reads.T.astype(np.float32) > 0
    exact = ~varying & ~inexact
    rows = np.flatnonzero(exact.reshape(int(np.prod(shape[:-1])), shape[-1]).any(axis=0))
    value = np.zeros(shape, dtype=object)
    exponent = 0
    if rows.size:
        computed = _dense_value(op, rows, x.value)
        kept = np.where(exact[..., rows], computed.mantissa, 0)
        value[..., rows] = kept
        exponent = computed.exponent
    return Constancy(~varying, exact, Dyadic(value, exponent))


def _dense_value(op: Dense, rows: Array, x: Dyadic) -> Dyadic:
    columns = np.flatnonzero((op.weight[rows] != 0).any(axis=0))
    weight = Dyadic.of(op.weight[np.ix_(rows, columns)])
    product = x[..., columns] @ weight.transposed if columns.size else None
    bias = Dyadic.of(np.zeros(len(rows)) if op.bias is None else op.bias[rows]) * Dyadic.of(np.array(op.beta))
    if product is None:
        shape = (*x.shape[:-1], len(rows))
        return Dyadic(np.broadcast_to(bias.mantissa, shape), bias.exponent)
    return product * Dyadic.of(np.array(op.alpha)) + bias


@constancy.register
def _(op: Affine, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    (x,) = inputs
    if op.scale is not None and not op.divide and (op.scale == 0).any():
        x = x.zeroed(np.broadcast_to(op.scale == 0, shape))  # whatever x is, 0 x is 0
    if not x.constant.any():
        return x
    if op.divide:
        return _inexact(x.constant)
    value = x.value
    if op.scale is not None:
        value = value * Dyadic.of(np.where(x.exact, op.scale, 0.0))
    if op.shift is not None:
        value = value + Dyadic.of(np.where(x.exact, op.shift, 0.0))
    return Constancy(x.constant, x.exact, value)


@constancy.register
def _(op: BatchNorm, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    nothing = _inexact(inputs[0].constant)
    zero = np.broadcast_to(op.scale == 0, shape)
    if not zero.any():
        return nothing
    shift = Constancy.of(zero, np.broadcast_to(op.shift, shape))
    return Constancy(nothing.constant | zero, zero, shift.value)


@constancy.register
def _(op: Activation, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    return _inexact(inputs[0].constant)


@constancy.register
def _(op: Softmax, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    all_constant = inputs[0].constant.all(axis=op.axis, keepdims=True)
    return _inexact(np.broadcast_to(all_constant, shape))


@constancy.register
def _(op: Relu, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    (x,) = inputs
    return Constancy(x.constant, x.exact, x.value.positive()) if x.constant.any() else x


@constancy.register
def _(op: Add, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    first, second = inputs
    if not (first.constant.any() and second.constant.any()):
        return Constancy.nothing(shape)
    constant, exact = first.constant & second.constant, first.exact & second.exact
    total = first.value + second.value
    return Constancy(constant, exact, Dyadic(np.where(exact, total.mantissa, 0), total.exponent))


@constancy.register
def _(op: Select, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    if not any(x.constant.any() for x in inputs):
        return Constancy.nothing(shape)
    constant = np.concatenate([x.constant.ravel() for x in inputs])[op.indices].reshape(shape)
    exact = np.concatenate([x.exact.ravel() for x in inputs])[op.indices].reshape(shape)
    return Constancy(constant, exact, join([x.value for x in inputs])[op.indices].reshape(shape))


@constancy.register
def _(op: Constant, inputs: list[Constancy], shape: tuple[int, ...]) -> Constancy:
    return Constancy.of(np.ones(shape, dtype=bool), op.value)


def _inexact(constant: Array) -> Constancy:
    nothing = Constancy.nothing(constant.shape)
    return Constancy(constant, nothing.exact, nothing.value)
