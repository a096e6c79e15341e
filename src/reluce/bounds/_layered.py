"""A network as layers of ReLUs: all that lies between two of them composed to affine sums.

Without other nonlinearities every tensor in front of a ReLU is ``T = sum_s W_s h_s + b`` over sources ``h_s``: the
inputs that vary (source 0) and the outputs of earlier ReLUs (source k for the k-th). Composed numbers are rounded, the
exact parameters of some operations are no floats, and inputs that are fixed need not be floats: all that is paid for by
one number per coordinate, ``|T - (sum_s W_s h_s + b)| <= error`` on the domain, where the sources are in known bounds.

One rule per op; an op without a rule ends the form (``layered`` returns None), and so do weights of wild size, whose
products could underflow to nothing and be missed where a later layer makes them large again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from itertools import pairwise

import numpy as np

from reluce.bounds._forms import affine_form, dense_form
from reluce.bounds._interval import Interval
from reluce.domain import Box
from reluce.network import Add, Affine, Array, BatchNorm, Constant, Dense, Network, Node, Op, Relu, Select
from reluce.rounding import dot_error

INPUT = 0
"""The source that stands for the inputs."""

TAME = 2.0**-330, 2.0**330
"""Sizes of weights that are composed: a product of two neither overflows nor underflows, so its error is relative."""

MOST_WEIGHTS = 20_000_000
"""Numbers in the weights of all layers (160 MB): networks that need more have no such form."""


@dataclass(frozen=True, eq=False)
class AffineSum:
    """``|T - (sum weight[s] @ source s + bias)| <= error``, flat.

    ``reach`` bounds ``sum |weight[s]| |source s| + |bias|``.
    """

    weight: Mapping[int, Array]
    bias: Array
    error: Array
    reach: Array


@dataclass(frozen=True, eq=False)
class Layered:
    """What lies in front of one ReLU and its own pre-activation, as layers.

    ``layers[k]`` is the pre-activation of ``nodes[k]``, whose output is source ``k + 1``. Of the inputs only the
    ``varying`` ones are left: flat positions in the concatenation of the graph inputs in the network's order, from
    ``low`` to ``high``.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    layers: tuple[AffineSum, ...]
    varying: Array
    low: Array
    high: Array

    def named(self, network: Network) -> tuple[tuple[str, ...], Array]:
        """The varying inputs: the graph input of each, and its flat position there."""
        ends = np.cumsum([0, *(network.tensors[name].size for name in self.inputs)])
        which = np.searchsorted(ends, self.varying, side="right") - 1
        return tuple(self.inputs[k] for k in which), self.varying - ends[which]

    def points(self, box: Box, varying: Array) -> dict[str, Array]:
        """Points of the box, ``(points, *sample shape)`` per graph input, from those of the varying inputs."""
        return box.clip(self._whole({name: low for name, (low, _) in box.inner.items()}, varying))

    def part(self, box: Box, low: Array, high: Array) -> dict[str, Interval]:
        """The intervals of the graph inputs on one part of the box."""
        lows, highs = (
            self._whole({name: ends[side] for name, ends in box.outer.items()}, values[None])
            for side, values in enumerate((low, high))
        )
        return {name: Interval(lows[name][0], highs[name][0]) for name in self.inputs}

    def _whole(self, fixed: Mapping[str, Array], varying: Array) -> dict[str, Array]:
        """Graph inputs with the given values where they vary."""
        flat = np.concatenate([fixed[name].ravel() for name in self.inputs])
        whole = np.broadcast_to(flat, (len(varying), flat.size)).copy()
        whole[:, self.varying] = varying
        ends = np.cumsum([fixed[name].size for name in self.inputs])[:-1]
        split = np.split(whole, ends, axis=1)
        return {
            name: values.reshape(len(varying), *fixed[name].shape)
            for name, values in zip(self.inputs, split, strict=True)
        }


class _NoFormError(Exception):
    """An operation has no affine rule, or its weights cannot be composed."""


def layered(network: Network, box: Box, intervals: Mapping[str, Interval], node: Node) -> Layered | None:
    """The layers up to the pre-activation of a ReLU; None where there is another nonlinearity or a bound is missing.

    Parameters
    ----------
    network, box
        The network and its domain.
    intervals
        Proven intervals of its tensors on the box.
    node
        The ReLU.
    """
    behind = network.ancestors(node.inputs)
    nodes: list[Node] = []
    inputs = [name for name in network.inputs if name in box.lower]
    low, high, fixed = (
        np.concatenate([np.asarray(part, dtype=kind).ravel() for part in parts])
        for parts, kind in (
            ([box.outer[name][0] for name in inputs], np.float64),
            ([box.outer[name][1] for name in inputs], np.float64),
            ([box.lower[name] == box.upper[name] for name in inputs], bool),
        )
    )
    varying = np.flatnonzero(~fixed)
    if not varying.size:
        return None
    sizes = [network.tensors[name].size for name in inputs]
    sums = dict(zip(inputs, _input_sums(sizes, low, high, fixed), strict=True))
    layers: list[AffineSum] = []
    numbers = 0
    try:
        for other in network.nodes:
            if other is not node and not behind.intersection(other.outputs):
                continue
            parts = [sums[name] for name in other.inputs]
            if isinstance(other.op, Relu):
                nodes.append(other)
                layers.append(parts[0])
                numbers += sum(weight.size for weight in parts[0].weight.values())
                if numbers > MOST_WEIGHTS or not np.isfinite([parts[0].reach, parts[0].error]).all():
                    return None
                sums[other.output] = _source(len(nodes), intervals[other.inputs[0]])
            else:
                sums[other.output] = affine_sum(other.op, parts, [intervals[name] for name in other.inputs])
                for weight in sums[other.output].weight.values():
                    _demand_tame(weight)
            if other is node:
                break
    except (KeyError, _NoFormError):
        return None
    return Layered(tuple(inputs), tuple(nodes), tuple(layers), varying, low[varying], high[varying])


def _input_sums(sizes: list[int], low: Array, high: Array, fixed: Array) -> list[AffineSum]:
    varying = np.flatnonzero(~fixed)
    weight = np.zeros((len(low), len(varying)))
    weight[varying, np.arange(len(varying))] = 1.0
    bias, error = np.where(fixed, low, 0.0), np.where(fixed, high - low, 0.0)  # the difference of neighbours is exact
    reach = np.maximum(np.abs(low), np.abs(high))
    ends = np.cumsum([0, *sizes])
    return [AffineSum({INPUT: weight[a:b]}, bias[a:b], error[a:b], reach[a:b]) for a, b in pairwise(ends)]


def _source(index: int, z: Interval) -> AffineSum:
    size = z.lower.size
    return AffineSum({index: np.eye(size)}, np.zeros(size), np.zeros(size), np.maximum(z.upper, 0.0).ravel())


@singledispatch
def affine_sum(op: Op, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    """The sum that an operation makes of those of its inputs, which lie in the given intervals."""
    raise _NoFormError


@affine_sum.register
def _(op: Dense, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    (x,), (known,) = parts, inputs
    form, terms = dense_form(op), op.weight.shape[1]
    if not op.weight.size:
        raise _NoFormError
    _demand_tame(form.weight)
    size = np.abs(form.weight)

    def along(values: Array) -> Array:  # over the last axis of the sample
        return values.reshape(-1, terms)

    positions = x.bias.size // terms
    weight = {
        s: np.matmul(form.weight, w.reshape(positions, terms, -1)).reshape(-1, w.shape[1]) for s, w in x.weight.items()
    }
    reach = along(x.reach) @ size.T + np.abs(form.bias)
    error = along(x.error) @ size.T + dot_error(terms + 2, reach)
    magnitude = along(known.magnitude.ravel())
    if form.weight_radius is not None:
        error = error + 2 * magnitude @ form.weight_radius.T
    if form.bias_radius is not None:
        error = error + 2 * form.bias_radius
    bias = along(x.bias) @ form.weight.T + form.bias
    return AffineSum(weight, bias.ravel(), _raised(error, terms), _raised(reach, terms))


@affine_sum.register(Affine)
@affine_sum.register(BatchNorm)
def _(op: Affine | BatchNorm, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    (x,), (known,) = parts, inputs
    form = affine_form(op, known.lower.shape)
    scale, shift = form.scale.ravel(), form.shift.ravel()
    _demand_tame(scale)
    radius = 2 * form.scale_radius * known.magnitude + 2 * form.shift_radius
    reach = np.abs(scale) * x.reach + np.abs(shift)
    error = np.abs(scale) * x.error + radius.ravel() + dot_error(2, reach)
    weight = {s: scale[:, None] * w for s, w in x.weight.items()}
    return AffineSum(weight, scale * x.bias + shift, _raised(error, 4), _raised(reach, 4))


@affine_sum.register
def _(op: Add, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    first, second = parts
    weight = dict(first.weight)
    for source, w in second.weight.items():
        weight[source] = weight[source] + w if source in weight else w
    reach = first.reach + second.reach
    error = first.error + second.error + dot_error(1, reach)
    return AffineSum(weight, first.bias + second.bias, _raised(error, 4), _raised(reach, 4))


@affine_sum.register
def _(op: Select, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    widths = {source: w.shape[1] for part in parts for source, w in part.weight.items()}
    nothing = {source: [np.zeros((part.bias.size, width)) for part in parts] for source, width in widths.items()}
    weight = {
        source: np.concatenate(
            [part.weight.get(source, empty) for part, empty in zip(parts, nothing[source], strict=True)]
        )
        for source in widths
    }
    bias, error, reach = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("bias", "error", "reach")
    )
    rows = op.indices
    return AffineSum({s: w[rows] for s, w in weight.items()}, bias[rows], error[rows], reach[rows])


@affine_sum.register
def _(op: Constant, parts: list[AffineSum], inputs: list[Interval]) -> AffineSum:
    value = op.value.astype(np.float64).ravel()
    return AffineSum({}, value, np.zeros(value.size), np.abs(value))


def _demand_tame(weight: Array) -> None:
    size = np.abs(weight)
    if not ((size == 0) | ((size >= TAME[0]) & (size <= TAME[1]))).all():
        raise _NoFormError


def _raised(values: Array, terms: int) -> Array:
    """Flat, and raised by what rounding may have taken from sums of non-negative terms."""
    return (values + dot_error(terms + 4, values)).ravel()
