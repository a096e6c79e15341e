"""Inverses that write the same function with more units: on one hyperplane, active, or in a layer more.

A hidden layer computes ``h = relu(W x + b)`` and the next one reads it as ``V h + c``. Two units on either side of a
hyperplane ``t = 0`` differ by something linear, ``relu(t) - relu(-t) = t``, and active units say it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from planted_unneeded import with_inputs
from planting import (
    Array,
    Net,
    Rng,
    Units,
    active_biases,
    drawn,
    exact,
    exchange,
    input_ranges,
    rounded_up,
    row_ranges,
    shape_of,
    some_layer,
    zeros,
)

POWERS = (Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4))
MULTIPLES = (Fraction(3), Fraction(5), Fraction(3, 2))

# Units on one hyperplane


def duplicates(net: Net, rng: Rng) -> Net:
    """Two copies of a unit, which share its outgoing weights."""
    return _copied(net, rng, [Fraction(1)] * 2)


def multiples_of_two(net: Net, rng: Rng) -> Net:
    """As ``duplicates``, each times a power of two."""
    return _copied(net, rng, [POWERS[index] for index in rng.integers(0, len(POWERS), 2)])


def positive_multiples(net: Net, rng: Rng) -> Net:
    """As ``duplicates``, each times some number whose inverse is no float."""
    return _copied(net, rng, [MULTIPLES[index] for index in rng.integers(0, len(MULTIPLES), 2)])


def _copied(net: Net, rng: Rng, scales: Sequence[Fraction]) -> Net:
    layer = some_layer(net, rng)
    return _class(net, rng, layer, int(rng.integers(net.units[layer])), scales, [1] * len(scales))


def opposite_pair(net: Net, rng: Rng) -> Net:
    """Part of a unit said by its opposite and an active unit: ``relu(t) = relu(-t) + t``."""
    layer = some_layer(net, rng)
    return _class(net, rng, layer, int(rng.integers(net.units[layer])), [rng.choice(POWERS)], [-1])


def hyperplane_class(net: Net, rng: Rng) -> Net:
    """A unit said by four on its hyperplane, on either side of it, and an active unit."""
    layer = some_layer(net, rng)
    return _class(net, rng, layer, int(rng.integers(net.units[layer])), rng.choice(POWERS, 3), [-1, 1, -1])


def _class(net: Net, rng: Rng, layer: int, unit: int, scales: Sequence[Fraction], signs: Sequence[int]) -> Net:
    """Units ``relu(s c t)`` beside ``relu(t)``; its column gives up what theirs add up to beyond the linear part."""
    (weight, bias), (after, _) = net.layers[layer : layer + 2]
    factors = exact(list(scales))
    columns = drawn(rng, len(after), len(factors))
    rest = after[:, unit] - columns @ factors
    linear = columns @ np.where(np.array(signs) < 0, factors, Fraction(0))
    turned = factors * np.array(signs, dtype=object)
    new = Units(
        np.concatenate([weight[[unit]], turned[:, None] * weight[unit]]),
        np.concatenate([bias[[unit]], turned * bias[unit]]),
        np.column_stack([rest, columns]),
    )
    return _with_linear_part(exchange(net, rng, layer, new, gone=[unit]), rng, layer, weight[unit], bias[unit], linear)


def _with_linear_part(net: Net, rng: Rng, layer: int, row: Array, bias: Fraction, column: Array) -> Net:
    """An active unit that adds ``column (row x + bias)``."""
    if not column.any():
        return net
    lifted = active_biases(net, layer, row[None])
    lift = column * (bias - lifted[0])
    return exchange(net, rng, layer, Units(row[None], lifted, column[:, None]), lift=lift)


def affine_class(net: Net, rng: Rng) -> Net:
    """Three units on a hyperplane of their own that add up to a linear function, and an active unit against it."""
    layer = some_layer(net, rng)
    width, readers = shape_of(net, layer)
    row = drawn(rng, 1, width)
    low, high = row_ranges(row, *input_ranges(net)[layer])
    bias = -rounded_up((low + high) / 2)
    turned = exact([1, 2, -1])
    first, second = drawn(rng, readers), drawn(rng, readers)
    columns = np.column_stack([first, second, -(first + 2 * second)])  # without a kink, since 1, 2, 1 are the scales
    net = exchange(net, rng, layer, Units(turned[:, None] * row, turned * bias, columns))
    return _with_linear_part(net, rng, layer, row[0], bias[0], -(first + 2 * second))


def turned_over(net: Net, rng: Rng) -> Net:
    """A unit replaced by its opposite and an active unit."""
    layer = some_layer(net, rng)
    (weight, bias), (after, _) = net.layers[layer : layer + 2]
    unit = int(rng.integers(len(bias)))
    new = Units(-weight[[unit]], -bias[[unit]], after[:, [unit]])
    net = exchange(net, rng, layer, new, gone=[unit])
    return _with_linear_part(net, rng, layer, weight[unit], bias[unit], after[:, unit])


# Active units


def input_rank(net: Net, rng: Rng) -> Net:
    """Active units written as more units that depend linearly on each other."""
    layer = some_layer(net, rng)
    return _reblocked(net, rng, layer, fresh=0 if len(_active(net, layer)) else 2, redundant=2)


def joint_rank(net: Net, rng: Rng) -> Net:
    """Active units written as more units that are independent, where only what is read of them is not."""
    layers = [layer for layer in range(len(net.units)) if len(_active(net, layer))]
    return _reblocked(net, rng, int(rng.choice(layers)), fresh=2, redundant=0) if layers else net


def _active(net: Net, layer: int) -> Array:
    """Up to two units that intervals prove to be active, and that somebody reads."""
    weight, bias = net.layers[layer]
    low = row_ranges(weight, *input_ranges(net)[layer])[0] + bias
    return np.flatnonzero((low >= 0) & (net.layers[layer + 1][0] != 0).any(axis=0))[:2]


def _reblocked(net: Net, rng: Rng, layer: int, fresh: int, redundant: int, linked: int | None = None) -> Net:
    """Active units ``X`` and ``fresh`` functionals that nobody needs, as ``T [X; fresh]``, active again.

    Each new row also reads the input ``linked``, which is fixed.
    """
    (weight, bias), (after, _) = net.layers[layer : layer + 2]
    old = _active(net, layer)
    base = np.concatenate([weight[old], drawn(rng, fresh, weight.shape[1])])
    mixing, columns = _expanded(np.concatenate([after[:, old], zeros(len(after), fresh)], axis=1), rng, redundant)
    rows = mixing @ base
    lift = after[:, old] @ bias[old] if len(old) else zeros(len(after))
    if linked is not None:
        extra = drawn(rng, len(rows)) - rows[:, linked]
        rows[:, linked] += extra
        lift = lift - columns @ extra * net.low[linked]
    biases = active_biases(net, layer, rows)
    return exchange(net, rng, layer, Units(rows, biases, columns), gone=old.tolist(), lift=lift - columns @ biases)


def _expanded(outgoing: Array, rng: Rng, redundant: int) -> tuple[Array, Array]:
    """``T`` and ``Y`` with ``Y T = outgoing``: ``T`` is invertible in integers, on top of ``redundant`` more rows."""
    readers, count = outgoing.shape
    mixing, inverse = exact(np.eye(count, dtype=int)), exact(np.eye(count, dtype=int))
    for index in range(count if count > 1 else 0):
        other, sign = (index + 1) % count, int(rng.choice([-1, 1]))
        mixing[index] += sign * mixing[other]
        inverse[:, other] -= sign * inverse[:, index]
    if not redundant:
        return mixing, outgoing @ inverse
    more, read = exact(rng.integers(1, 3, (redundant, count))), drawn(rng, readers, redundant)
    return np.concatenate([mixing, more]), np.concatenate([(outgoing - read @ more) @ inverse, read], axis=1)


def rank_by_fixed_input(net: Net, rng: Rng) -> Net:
    """Active units that are independent only by what they read of an input that is fixed."""
    net = with_inputs(net, rng, zeros(net.units[0], 1), exact([1]), exact([1]))
    linked = next(index for index in range(len(net.low)) if net.low[index] == net.high[index])
    return _reblocked(net, rng, 0, fresh=0 if len(_active(net, 0)) else 2, redundant=2, linked=linked)


def linear_layer(net: Net, rng: Rng) -> Net:
    """A layer whose units are all active: ``W = Y T``, and ``relu(T x + c) = T x + c``."""
    place = int(rng.integers(len(net.layers)))
    weight, bias = net.layers[place]
    mixing, columns = _expanded(weight, rng, int(rng.integers(2)))
    lifts = active_biases(net, place, mixing)
    between = ((mixing, lifts), (columns, bias - columns @ lifts))
    return replace(net, layers=(*net.layers[:place], *between, *net.layers[place + 1 :]))


# Several layers


def lumping(net: Net, rng: Rng) -> Net:
    """Multiples of a unit, and multiples of its readers that differ only in which of the former they read."""
    layer = some_layer(net, rng, behind=1)
    unit, scale = int(rng.integers(net.units[layer])), rng.choice(POWERS[2:])
    weight, bias = net.layers[layer]
    read = drawn(rng, len(net.layers[layer + 1][1]), 1)
    column = net.layers[layer + 1][0][:, [unit]] - scale * read
    new = Units(
        np.stack([weight[unit], scale * weight[unit]]),
        exact([bias[unit], scale * bias[unit]]),
        np.hstack([column, read]),
    )
    net = exchange(net, rng, layer, new, gone=[unit])
    pair = [_place(net, layer, row, value) for row, value in zip(new.rows, new.biases, strict=True)]
    return _twins(net, rng, layer + 1, pair, scale)


def _place(net: Net, layer: int, row: Array, bias: Fraction) -> int:
    weight, biases = net.layers[layer]
    return next(i for i in reversed(range(len(biases))) if (weight[i] == row).all() and biases[i] == bias)


def _twins(net: Net, rng: Rng, layer: int, pair: Sequence[int], scale: Fraction) -> Net:
    """Beside two units of a layer multiples of them that read the second of a pair more, and the first one less."""
    (weight, bias), (after, _) = net.layers[layer : layer + 2]
    chosen = rng.choice(len(bias), 2, replace=False)
    factors, columns, moved = exact(rng.choice(POWERS, 2)), drawn(rng, len(after), 2), drawn(rng, 2)
    rows = weight[chosen]
    rows[:, pair[0]] -= scale * moved
    rows[:, pair[1]] += moved
    new = Units(
        np.concatenate([weight[chosen], factors[:, None] * rows]),
        np.concatenate([bias[chosen], factors * bias[chosen]]),
        np.concatenate([after[:, chosen] - columns * factors, columns], axis=1),
    )
    return exchange(net, rng, layer, new, gone=chosen.tolist())
