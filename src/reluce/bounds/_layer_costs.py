"""What rounding can cost a backward pass through layers, whatever the slopes and wherever in the box.

Slopes are at most 1, so a coefficient 1 on a pre-activation becomes coefficients of at most the products of the |W| in
between. The error of each step is bounded by such coefficients times magnitudes on the whole box. A coefficient 1 on
the pre-activations of layer k costs at most

    cost_k = error_k + g (|W_k| H + |b_k|) + |W_k| (cost + g Z)

where H, Z and cost are those of the sources of the layer: magnitudes of the outputs of ReLUs and of their
pre-activations, and what these cost in turn. g is the relative error of a dot product (``rounding.dot_error``) as long
as all sums on the way; it pays for the products ``A W``, the relaxed coefficients ``A s``, the offsets ``P t`` (t is at
most Z) and all additions to the constant. What underflows is absolute: a number per network.

``dot_error`` charges twice what is due, magnitudes and ``error`` are doubled here: that pays for the roundings of these
sums themselves and of the coefficients, as long as the terms of a path times the unit roundoff are far below 1.

Source: Jeannerod and Rump, "Improved error bounds for inner products in floating-point arithmetic", SIAM J. Matrix
Anal. 34, 2013.
"""

from __future__ import annotations

import numpy as np

from reluce.bounds._interval import Interval
from reluce.bounds._layered import INPUT, Layered
from reluce.network import Array
from reluce.rounding import UNDERFLOW, dot_error


def rounding_costs(form: Layered, intervals: list[Interval]) -> list[Array]:
    """What rounding may take from a bound of each pre-activation of each layer, on any part of the box.

    Parameters
    ----------
    form
        The layers.
    intervals
        Proven intervals of their pre-activations.
    """
    widest = max(max(layer.bias.size for layer in form.layers), len(form.low))
    terms = 2 * widest + 8 * len(form.layers) + 16
    magnitude = [z.magnitude.ravel() for z in intervals]
    absolute = (
        terms
        * UNDERFLOW
        * (1 + sum(float(z.sum()) for z in magnitude) + float(np.maximum(np.abs(form.low), np.abs(form.high)).sum()))
    )
    costs: list[Array] = []
    for layer in form.layers:
        cost = 2 * layer.error + dot_error(terms, 2 * layer.reach) + 4 * absolute
        for source, weight in layer.weight.items():
            if source != INPUT:
                inherited = costs[source - 1] + dot_error(terms, 2 * magnitude[source - 1])
                cost = cost + np.abs(weight) @ inherited
        costs.append(cost)
    return costs
