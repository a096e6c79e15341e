"""Dense ReLU networks in fractions, cores from which nothing can be taken, and how units are exchanged in them.

A *core* is generic: every entry is non-zero, every unit is unstable by witnesses or one of a block of active units of
full joint rank (whichever way the unstable units are oriented), and no two units share a hyperplane. All numbers are
small dyadics, so that float32 holds them and what a test claims of them can be claimed exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product
from math import ceil, prod
from typing import Any

import numpy as np
from onnx import ModelProto
from strategies import box_of
from strategies import chain as network_of
from tiny_models import chain as model_of

from reluce.domain import Box
from reluce.network import Network

Array = np.ndarray[Any, Any]
Rng = np.random.Generator
Pair = tuple[Array, Array]
HALF = Fraction(1, 2)


def exact(values: Any) -> Array:
    """An object array of fractions, of the shape of the values."""
    array = np.asarray(values)
    result = np.empty(array.shape, dtype=object)
    result.flat = [Fraction(value) for value in array.ravel().tolist()]
    return result


@dataclass(frozen=True, eq=False)
class Net:
    """``(weight, bias)`` of each dense layer, a ReLU after all but the last, on the box from ``low`` to ``high``.

    ``source`` says for each input which input of the core it is (-1: none).
    """

    layers: tuple[Pair, ...]
    low: Array
    high: Array
    source: tuple[int, ...]

    @property
    def units(self) -> tuple[int, ...]:
        return tuple(len(bias) for _, bias in self.layers[:-1])

    @property
    def parameters(self) -> int:
        return sum(weight.size + bias.size for weight, bias in self.layers)

    @property
    def box(self) -> Box:
        return box_of(*zip(self.low.tolist(), self.high.tolist(), strict=True))

    @property
    def network(self) -> Network:
        return network_of(*self.floats(), box=self.box)

    @property
    def model(self) -> ModelProto:
        return model_of(self.floats())

    def floats(self) -> list[Pair]:
        """The layers in float32, which must hold them exactly."""
        found = [(weight.astype(np.float32), bias.astype(np.float32)) for weight, bias in self.layers]
        for mine, theirs in zip(self.layers, found, strict=True):
            assert all((exact(b) == a).all() for a, b in zip(mine, theirs, strict=True)), "not exact in float32"
        return found


def pre_activations(net: Net, points: Array) -> list[Array]:
    """``z`` of every layer at points (one a row), exactly; the last one is the output."""
    found, values = [], points
    for weight, bias in net.layers:
        found.append(values @ weight.T + bias)
        values = np.maximum(found[-1], Fraction(0))
    return found


def outputs(net: Net, points: Array) -> Array:
    return pre_activations(net, points)[-1]


def points_of(net: Net, rng: Rng, count: int) -> Array:
    """Random points of the box in steps of 1/16 of its sides, and all corners (a sample of 16 where there are more)."""
    width = net.high - net.low
    inside = net.low + exact(rng.integers(0, 17, (count, len(width)))) / 16 * width
    corners = [exact(corner) for corner in product((0, 1), repeat=len(width))]
    chosen = rng.permutation(len(corners))[:16]
    return np.concatenate([inside, net.low + np.array([corners[index] for index in chosen]) * width])


def core_points(net: Net, points: Array) -> Array:
    """The same points as the core sees them."""
    order = [net.source.index(number) for number in range(max(net.source) + 1)]
    return points[:, order]


def input_ranges(net: Net) -> list[Pair]:
    """Interval bounds of what each layer reads."""
    found = [(net.low, net.high)]
    for number, (weight, bias) in enumerate(net.layers[:-1]):
        ends = row_ranges(weight, *found[number])
        found.append((np.maximum(ends[0] + bias, Fraction(0)), np.maximum(ends[1] + bias, Fraction(0))))
    return found


def row_ranges(rows: Array, low: Array, high: Array) -> Pair:
    """Least and largest value of each row over a box."""
    positive, negative = np.maximum(rows, Fraction(0)), np.minimum(rows, Fraction(0))
    return positive @ low + negative @ high, positive @ high + negative @ low


def rounded_up(values: Array) -> Array:
    """The next multiple of 1/2 above each."""
    return exact([Fraction(ceil(2 * value), 2) for value in values.tolist()])


@dataclass(frozen=True, eq=False)
class Units:
    """Units to put into a layer: their rows and biases, and the columns with which the next layer reads them."""

    rows: Array
    biases: Array
    columns: Array


def exchange(net: Net, rng: Rng, layer: int, new: Units, gone: Sequence[int] = (), lift: Any = 0) -> Net:
    """Put new units into a hidden layer in place of others, ``lift`` onto the next bias, and shuffle the layer."""
    (weight, bias), (after, last) = net.layers[layer : layer + 2]
    stay = np.setdiff1d(np.arange(len(bias)), gone)
    order = rng.permutation(len(stay) + len(new.biases))
    rows = np.concatenate([weight[stay], new.rows])[order]
    biases = np.concatenate([bias[stay], new.biases])[order]
    columns = np.concatenate([after[:, stay], new.columns], axis=1)[:, order]
    return with_layers(net, {layer: (rows, biases), layer + 1: (columns, last + lift)})


def with_layers(net: Net, new: dict[int, Pair]) -> Net:
    return replace(net, layers=tuple(new.get(number, layer) for number, layer in enumerate(net.layers)))


def some_layer(net: Net, rng: Rng, behind: int = 0) -> int:
    """A hidden layer with at least this many hidden layers behind it."""
    return int(rng.integers(len(net.units) - behind))


def shape_of(net: Net, layer: int) -> tuple[int, int]:
    """How many inputs a hidden layer reads, and how many rows the next layer has."""
    return net.layers[layer][0].shape[1], len(net.layers[layer + 1][1])


def zeros(*shape: int) -> Array:
    return exact(np.zeros(shape, dtype=int))


def drawn(rng: Rng, *shape: int, zeros: bool = False) -> Array:
    """Small dyadics, none of them zero unless it may be."""
    size = prod(shape)
    values = rng.integers(1, 5, size) * rng.choice([-1, 1], size)
    if zeros:
        values = values * (rng.random(size) < 0.7)
    return exact(values.reshape(shape)) / 2


def active_biases(net: Net, layer: int, rows: Array, margin: Fraction = HALF) -> Array:
    """Biases that intervals prove to be large enough."""
    return rounded_up(margin - row_ranges(rows, *input_ranges(net)[layer])[0])


def rank(matrix: Array) -> int:
    """By elimination in fractions."""
    rows, found = [list(row) for row in matrix.tolist()], 0
    for column in range(matrix.shape[1]):
        pivot = next((index for index in range(found, len(rows)) if rows[index][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        for index in range(found + 1, len(rows)):
            factor = rows[index][column] / rows[found][column]
            rows[index] = [a - factor * b for a, b in zip(rows[index], rows[found], strict=True)]
        found += 1
    return found


@lru_cache(maxsize=256)
def core(seed: int, widths: tuple[int, ...] = (3, 4, 4, 2), active: tuple[int, ...] = (1, 1)) -> Net:
    """A generic network; ``active`` says how many units of each hidden layer are active, the first ones."""
    for attempt in range(1000):
        rng = np.random.default_rng([seed, attempt])
        net = _candidate(rng, widths, active)
        if generic(net, active, points_of(net, rng, 80)):
            return net
    raise AssertionError("no core of this shape was found")


def _candidate(rng: Rng, widths: Sequence[int], active: Sequence[int]) -> Net:
    low = exact(rng.integers(-2, 1, widths[0])) / 2
    net = Net((), low, low + exact(rng.integers(1, 4, widths[0])) / 2, tuple(range(widths[0])))
    for layer, width in enumerate(widths[1:]):
        weight = drawn(rng, width, len(net.layers[-1][1]) if net.layers else widths[0])
        net = replace(net, layers=(*net.layers, (weight, exact(np.zeros(width, dtype=int)))))
        if layer < len(active):
            bias = -_medians(net, rng)
            bias[: active[layer]] = active_biases(net, layer, weight[: active[layer]])
            net = replace(net, layers=(*net.layers[:-1], (weight, bias)))
    return net


def _medians(net: Net, rng: Rng) -> Array:
    z = pre_activations(net, points_of(net, rng, 32))[-1]
    return exact(np.round(np.median(z.astype(float), axis=0) * 4) / 4)


def generic(net: Net, active: Sequence[int], points: Array) -> bool:
    """Whether nothing can be taken out of a network whose entries are all non-zero, as the module says."""
    z = pre_activations(net, points)
    for layer, count in enumerate(active):
        weight, bias = net.layers[layer]
        unstable = z[layer][:, count:]
        if not ((unstable > 0).any(axis=0) & (unstable < 0).any(axis=0)).all() or (z[layer][:, :count] < 0).any():
            return False
        planes = np.column_stack([weight, bias])[count:]
        if any(rank(planes[list(pair)]) < 2 for pair in combinations(range(len(planes)), 2)):
            return False
        if any(rank(functionals) < count for functionals in _orientations(weight, net.layers[layer + 1][0], count)):
            return False
    return True


def _orientations(weight: Array, after: Array, active: int) -> Iterator[Array]:
    """What the linear part of a layer is for each choice of the unstable units that are turned over."""
    unstable = range(active, len(weight))
    for size in range(len(unstable) + 1):
        for turned in combinations(unstable, size):
            chosen = [*range(active), *turned]
            if chosen:
                yield after[:, chosen] @ weight[chosen]
