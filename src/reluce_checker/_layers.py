"""Linear bounds on very many boxes at once, in float64, with a bound of everything that rounding can do.

Exact integers take minutes for the trees of boxes that small controllers need; this takes seconds. The network in front
of a tensor is written in layers: every pre-activation is an affine function of the inputs that vary and of the outputs
of earlier ReLUs, composed exactly and rounded once.

Let a coefficient 1 on a pre-activation of layer k be carried backward as in ``_linear``, on any box inside the domain.
As slopes are at most 1, coefficients never exceed products of |W|, and the computed constant misses the exact bound by
at most

    cost_k = e_k + g (|W_k| H + |b_k|) + sum over sources |W_k| (cost + g Z)

H: magnitudes of inputs and of ReLU outputs on the whole domain; Z: of pre-activations; e_k: what enclosures in W_k and
b_k leave open; cost on the right: that of the source. g bounds the relative error of all products and sums on the way
(any order, n u each: Jeannerod and Rump, SIAM J. Matrix Anal. 34, 2013; n counts the terms), and of rounding W_k
and b_k to float64. GENEROUS times that is charged, for the terms of second order and for the rounding of these sums
themselves. Underflow costs TINY a term.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, ldexp, nextafter

import numpy as np

from reluce_checker._exact import Exact
from reluce_checker._graph import Array, Relu
from reluce_checker._intervals import Interval
from reluce_checker._linear import SLOPE_BITS, Backward

GENEROUS = 16
UNIT = 2.0**-53
TINY = 1e-290
HUGE = 1e100
"""Networks with larger numbers than this are left to exact arithmetic: nothing here may overflow."""

WIDEST = 4096
"""Coordinates of a tensor whose coefficients are written out."""

INPUT = 0


@dataclass(frozen=True, eq=False)
class Layer:
    """``z = sum weight[s] @ h_s + bias`` up to ``error``; h_0 is the input, h_k the k-th ReLU's output."""

    tensor: str
    weight: dict[int, Array]
    bias: Array
    error: Array
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class Boxes64:
    """Boxes ``(boxes, inputs)``, and bounds of all pre-activations in front of the goals', a list over layers."""

    low: Array
    high: Array
    lower: list[Array]
    upper: list[Array]

    def rows(self, rows: Array) -> Boxes64:
        """Some of the boxes."""
        lower, upper = ([part[rows] for part in side] for side in (self.lower, self.upper))
        return Boxes64(self.low[rows], self.high[rows], lower, upper)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Slopes and offsets of one layer on each box."""

    above: Array
    below: Array
    offset: Array


class Layers:
    """The network in front of a tensor, of whose inputs some coordinates vary.

    Parameters
    ----------
    backward
        The network with its proved intervals.
    tensor
        The tensor whose coordinates the goals are about.
    inputs, places
        The inputs and their coordinates that boxes are cut along, one of each for each dimension.

    Raises
    ------
    ValueError
        When the network has no such form, or numbers that float64 should not be trusted with.
    """

    def __init__(self, backward: Backward, tensor: str, inputs: tuple[str, ...], places: Array) -> None:
        self._backward, self._inputs, self._places = backward, inputs, places
        self.layers: list[Layer] = []
        self._outputs: dict[str, int] = {}
        relus = self._relus(tensor)
        for name, outputs in [*relus, (tensor, ())]:
            self.layers.append(self._layer(name))
            self._outputs.update(dict.fromkeys(outputs, len(self.layers)))
        ends = [backward.intervals[name] for name in inputs]
        self.low = np.array([_outward(x.low[0, [k]], -1)[0] for x, k in zip(ends, places, strict=True)])
        self.high = np.array([_outward(x.high[0, [k]], 1)[0] for x, k in zip(ends, places, strict=True)])
        self.cost = self._costs()

    def _relus(self, tensor: str) -> list[tuple[str, tuple[str, ...]]]:
        """The pre-activations that a tensor depends on, in order, with what their ReLUs write."""
        needed, found = {tensor}, dict[str, tuple[str, ...]]()
        for node in reversed(self._backward.graph.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                if isinstance(node.op, Relu):
                    found[node.inputs[0]] = (*node.outputs, *found.get(node.inputs[0], ()))
        written = [name for node in self._backward.graph.nodes for name in node.outputs]
        order = {name: place for place, name in enumerate((*self._backward.graph.inputs, *written))}
        return sorted(found.items(), key=lambda item: order[item[0]])

    def _layer(self, name: str) -> Layer:
        graph = self._backward.graph
        if graph.size(name) > WIDEST:
            raise ValueError(f"{name!r} has more than {WIDEST} coordinates")
        functional = self._backward.unit_rows(name, np.arange(graph.size(name)), 1)
        for node in reversed(graph.nodes):
            if len(node.outputs) == 1 and node.outputs[0] in functional.coefficients:
                self._backward.substitute(functional, node)
        weight, error = dict[int, Array](), _float(functional.slack, up=True)
        constant, hidden = functional.constant, dict[int, Exact]()
        for key, A in functional.coefficients.items():
            if key in self._outputs:
                number = self._outputs[key]  # several ReLUs may read one tensor: sums are rounded, not parts
                hidden[number] = hidden[number] + A if number in hidden else A
            elif key in graph.inputs:
                constant = self._vary(key, A, constant, weight)
            else:
                raise ValueError(f"{key!r} is neither an input nor a ReLU's output")
        weight.update({number: _float(A) for number, A in hidden.items()})
        z = self._backward.intervals[name]
        if not z.known.all():
            raise ValueError(f"{name!r} is not bounded")
        bias = _float(constant)
        if any(np.abs(part).max(initial=0.0) > HUGE for part in (bias, error, *weight.values())):
            raise ValueError("numbers beyond what float64 is trusted with")
        return Layer(name, weight, bias, error, _outward(z.low[0], -1), _outward(z.high[0], 1))

    def _vary(self, key: str, A: Exact, constant: Exact, weight: dict[int, Array]) -> Exact:
        """Take in the coefficients of the coordinates that vary; those that are fixed go into the constant."""
        x, mine = self._backward.intervals[key], [d for d, name in enumerate(self._inputs) if name == key]
        fixed = np.ones(A.shape[1], dtype=bool)
        fixed[self._places[mine]] = False
        if (fixed & (A.sign != 0).any(axis=0) & ~x.fixed[0]).any():
            raise ValueError("an input that varies is not among those that boxes are cut along")
        whole = weight.setdefault(INPUT, np.zeros((A.shape[0], len(self._places))))
        whole[:, mine] = _float(A[:, self._places[mine]])
        return constant + (A * x.low).where(fixed).sum(1)

    def _costs(self) -> list[Array]:
        widest = max(len(self.low), *(len(layer.bias) for layer in self.layers))
        terms = 2 * widest + 8 * len(self.layers) + 16
        g = GENEROUS * terms * UNIT
        size = [np.maximum(np.abs(layer.low), np.abs(layer.high)) for layer in self.layers]
        reach = [
            np.maximum(np.abs(self.low), np.abs(self.high)),
            *(np.maximum(layer.high, 0.0) for layer in self.layers),
        ]
        if max(float(part.max(initial=0.0)) for part in (*size, *reach)) > HUGE:
            raise ValueError("numbers beyond what float64 is trusted with")
        least = terms * TINY * (1.0 + sum(float(part.sum()) for part in (*size, *reach)))
        costs: list[Array] = []
        for layer in self.layers:
            cost = 2 * layer.error + (g + GENEROUS * UNIT) * np.abs(layer.bias) + least
            for source, weight in layer.weight.items():
                cost = cost + 2 * g * (np.abs(weight) @ reach[source])
                if source != INPUT:
                    cost = cost + 2 * (np.abs(weight) @ (costs[source - 1] + g * size[source - 1] + least))
            costs.append(cost)
        return costs

    # Boxes

    def whole(self) -> Boxes64:
        """The domain."""
        front = [(layer.low, layer.high) for layer in self.layers[:-1]]
        return Boxes64(self.low[None], self.high[None], *([ends[side][None] for ends in front] for side in (0, 1)))

    def inputs(self, box: Boxes64) -> dict[str, Interval]:
        """One box as intervals of the inputs that it cuts, exactly."""
        found = {name: self._backward.intervals[name] for name in self._inputs}
        for d, name in enumerate(self._inputs):
            place, low, high = (0, [self._places[d]]), Exact.of(box.low[0, [d]]), Exact.of(box.high[0, [d]])
            x = found[name]
            x = Interval(x.low.replaced(place, low.maximum(x.low[place])), x.high, x.known)
            found[name] = Interval(x.low, x.high.replaced(place, high.minimum(x.high[place])), x.known)
        return found

    def tightened(self, boxes: Boxes64) -> tuple[Boxes64, list[Relaxed]]:
        """The boxes with linear bounds of their own where a pre-activation has no sign, and the slopes that follow."""
        lower, upper, relaxed = [], [], list[Relaxed]()
        for k, (l, u) in enumerate(zip(boxes.lower, boxes.upper, strict=True)):
            l, u = l.copy(), u.copy()
            box, unit = np.nonzero((l < 0) & (u > 0))
            u[box, unit] = np.minimum(u[box, unit], self.bound(k, boxes, relaxed, box, unit, np.ones(len(box))))
            l[box, unit] = np.maximum(l[box, unit], -self.bound(k, boxes, relaxed, box, unit, -np.ones(len(box))))
            lower.append(l)
            upper.append(u)
            relaxed.append(_relaxed(l, u))
        return Boxes64(boxes.low, boxes.high, lower, upper), relaxed

    def bound(self, k: int, boxes: Boxes64, relaxed: list[Relaxed], box: Array, unit: Array, sign: Array) -> Array:
        """Upper bounds of ``sign * z_k[unit]``, each on one box; infinite where float64 gave out."""
        layer = self.layers[k]
        constant = sign * layer.bias[unit]
        left = {source: sign[:, None] * weight[unit] for source, weight in layer.weight.items()}
        for source in range(k, 0, -1):
            if source not in left:
                continue
            A, slopes, inner = left.pop(source), relaxed[source - 1], self.layers[source - 1]
            P, N = np.maximum(A, 0.0), np.minimum(A, 0.0)
            constant = constant + (P * slopes.offset[box]).sum(axis=1)
            C = P * slopes.above[box] + N * slopes.below[box]
            constant = constant + C @ inner.bias
            for other, weight in inner.weight.items():
                left[other] = left[other] + C @ weight if other in left else C @ weight
        if INPUT in left:
            A = left[INPUT]
            constant = constant + np.where(A > 0, A * boxes.high[box], A * boxes.low[box]).sum(axis=1)
        upper = constant + self.cost[k][unit]
        return np.where(np.isfinite(upper), upper, inf)


def _relaxed(l: Array, u: Array) -> Relaxed:
    """Slopes by the fixed rule, and offsets rounded upward; any slopes in [0, 1] are valid."""
    on, mixed = l >= 0, (l < 0) & (u > 0)
    width = np.where(mixed, u - l, 1.0)
    one = float(1 << SLOPE_BITS)
    above = np.where(mixed, np.clip(np.floor(one * (u / width)) / one, 0.0, 1.0), on.astype(np.float64))
    below = np.where(mixed, (u > -l).astype(np.float64), on.astype(np.float64))
    offset = np.where(mixed, np.maximum(-above * l, (1.0 - above) * u) * (1 + 2.0**-50) + TINY, 0.0)
    return Relaxed(above, below, offset)


def _float(values: Exact, up: bool = False) -> Array:
    """The nearest float64 numbers, or none below the values where ``up``."""
    flat = []
    for whole in values.mantissa.ravel():
        try:
            number = ldexp(float(int(whole)), values.exponent)
        except OverflowError as error:
            raise ValueError("numbers beyond what float64 is trusted with") from error
        flat.append(nextafter(number, inf) if up and whole else number)
    return np.array(flat, dtype=np.float64).reshape(values.shape)


def _outward(values: Exact, direction: int) -> Array:
    """float64 numbers at or beyond the values."""
    near = _float(values)
    wrong = (Exact.of(near) - values).sign * direction < 0
    return np.where(wrong, np.nextafter(near, direction * inf), near)
