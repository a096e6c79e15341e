"""Inverses that put in what nothing depends on: units and inputs. Names as in ``planted``."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from planting import (
    Array,
    Net,
    Rng,
    Units,
    drawn,
    exact,
    exchange,
    input_ranges,
    rounded_up,
    row_ranges,
    shape_of,
    some_layer,
    with_layers,
    zeros,
)

# Units


def inactive(net: Net, rng: Rng) -> Net:
    """Two units that never fire."""
    layer = some_layer(net, rng)
    return _silent(net, rng, layer, drawn(rng, 2, shape_of(net, layer)[0], zeros=True))


def _silent(net: Net, rng: Rng, layer: int, rows: Array) -> Net:
    margin = exact(rng.integers(1, 4, len(rows))) / 2
    biases = -rounded_up(row_ranges(rows, *input_ranges(net)[layer])[1] + margin)
    return exchange(net, rng, layer, Units(rows, biases, drawn(rng, shape_of(net, layer)[1], len(rows))))


def constant(net: Net, rng: Rng) -> Net:
    """Two units without inputs; the bias behind takes back what they say."""
    layer = some_layer(net, rng)
    width, readers = shape_of(net, layer)
    biases, columns = exact(rng.integers(-1, 5, 2)) / 2, drawn(rng, readers, 2)
    said = columns @ np.maximum(biases, Fraction(0))
    return exchange(net, rng, layer, Units(zeros(2, width), biases, columns), lift=-said)


def unread(net: Net, rng: Rng) -> Net:
    """Two units that all readers multiply with 0."""
    layer = some_layer(net, rng)
    width, readers = shape_of(net, layer)
    return exchange(net, rng, layer, Units(drawn(rng, 2, width), drawn(rng, 2), zeros(readers, 2)))


def unread_chain(net: Net, rng: Rng) -> Net:
    """Two units that only units read which nobody reads."""
    layer = some_layer(net, rng, behind=1)
    net = _before_others(net, rng, layer)
    width, readers = shape_of(net, layer + 1)
    return exchange(net, rng, layer + 1, Units(drawn(rng, 2, width), drawn(rng, 2), zeros(readers, 2)))


def read_by_inactive(net: Net, rng: Rng) -> Net:
    """Two units that only units read which never fire."""
    layer = some_layer(net, rng, behind=1)
    net = _before_others(net, rng, layer)
    return _silent(net, rng, layer + 1, drawn(rng, 2, shape_of(net, layer + 1)[0]))


def _before_others(net: Net, rng: Rng, layer: int) -> Net:
    width, readers = shape_of(net, layer)
    return exchange(net, rng, layer, Units(drawn(rng, 2, width), drawn(rng, 2), zeros(readers, 2)))


# Inputs


def unread_inputs(net: Net, rng: Rng) -> Net:
    """Two inputs that nobody reads."""
    return with_inputs(net, rng, zeros(net.units[0], 2), exact([-1, 0]), exact([1, 3]))


def fixed_inputs(net: Net, rng: Rng) -> Net:
    """Two inputs that have one value on the domain, which the bias behind takes back."""
    values, columns = drawn(rng, 2), drawn(rng, net.units[0], 2)
    weight, bias = net.layers[0]
    return with_inputs(with_layers(net, {0: (weight, bias - columns @ values)}), rng, columns, values, values)


def with_inputs(net: Net, rng: Rng, columns: Array, low: Array, high: Array) -> Net:
    weight, bias = net.layers[0]
    order = rng.permutation(len(net.low) + len(low))
    source = [*net.source, *[-1] * len(low)]
    wider = with_layers(net, {0: (np.concatenate([weight, columns], axis=1)[:, order], bias)})
    ends = (np.concatenate(pair)[order] for pair in ((net.low, low), (net.high, high)))
    return replace(wider, **dict(zip(("low", "high"), ends, strict=True)), source=tuple(source[i] for i in order))
