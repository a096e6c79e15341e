"""Rigorous bounds on many parts of an input box at once, for networks in layers (``_layered``).

On each sub-box every pre-activation that is not known to be stable there is bounded by a backward pass of its own
(CROWN) with the intervals of that very sub-box; pairs of a sub-box and a unit are rows of one matrix. A step through a
ReLU, from coefficients A on its outputs, is

    P = max(A, 0);  const += sum P t;  A <- A a + P (s - a);  const += A b;  A <- A W

where ``relu(z) <= s z + t`` and ``relu(z) >= a z`` on the sub-box. Any slopes in [0, 1] are valid, so only ``t`` is
rounded upward.

Rounding costs nothing per sub-box: it is bounded once for all of them (``_layer_costs``).
Source: Zhang et al., "Efficient neural network robustness certification with general activation functions", NeurIPS
2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from reluce.bounds._interval import Interval
from reluce.bounds._layer_costs import rounding_costs
from reluce.bounds._layered import INPUT, Layered
from reluce.bounds._linear import SLOPES
from reluce.network import Array
from reluce.rounding import UNDERFLOW

RAISE = 1 + 2.0**-49
"""Pays for the few roundings of an offset."""


@dataclass(frozen=True, eq=False)
class SubBoxes:
    """Parts of a box with proven intervals of all pre-activations in front, ``(boxes, coordinates of all layers)``."""

    low: Array
    high: Array
    lower: Array
    upper: Array

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, rows: Array | slice) -> SubBoxes:
        return SubBoxes(self.low[rows], self.high[rows], self.lower[rows], self.upper[rows])

    @staticmethod
    def joined(parts: list[SubBoxes]) -> SubBoxes:
        """All boxes of some parts."""
        fields = ((part.low, part.high, part.lower, part.upper) for part in parts)
        return SubBoxes(*map(np.concatenate, zip(*fields, strict=True)))


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Slopes and offsets of one layer on each sub-box; ``rise`` is ``above - below``."""

    below: Array
    above: Array
    rise: Array
    offset: Array


@dataclass(frozen=True, eq=False)
class Rows:
    """Functionals ``sign * z[unit]`` of a layer, each on one sub-box."""

    box: Array
    unit: Array
    sign: Array


@dataclass(frozen=True, eq=False)
class Shares:
    """For the units that were not known to be stable on a box, what part each input has in their pre-activations."""

    box: Array
    unit: Array
    share: Array


@dataclass(frozen=True, eq=False)
class Tightened:
    """Sub-boxes with their own intervals, and what follows from them layer by layer."""

    boxes: SubBoxes
    relaxed: list[Relaxed]
    shares: list[Shares]


@dataclass(frozen=True, eq=False)
class Passed:
    """Upper bounds of functionals, the coefficients left on the inputs, and those met on the way."""

    upper: Array
    left: Array
    hidden: dict[int, Array]

    def __getitem__(self, rows: Array) -> Passed:
        return Passed(self.upper[rows], self.left[rows], {source: A[rows] for source, A in self.hidden.items()})


class Engine:
    """Bounds sub-boxes of one network.

    Parameters
    ----------
    form
        The network in layers.
    intervals
        Proven intervals of the pre-activations of its layers, finite.
    """

    def __init__(self, form: Layered, intervals: list[Interval]) -> None:
        self.form = form
        sizes = [layer.bias.size for layer in form.layers]
        ends = np.cumsum([0, *sizes])
        self.places = [slice(a, b) for a, b in pairwise(ends)]
        self.lower = np.concatenate([z.lower.ravel() for z in intervals])
        self.upper = np.concatenate([z.upper.ravel() for z in intervals])
        self.cost = rounding_costs(form, intervals)

    def root(self) -> SubBoxes:
        """The whole box."""
        return SubBoxes(self.form.low[None], self.form.high[None], self.lower[None], self.upper[None])

    def numbers(self, goals: int) -> int:
        """About how many numbers one sub-box needs while it is bounded."""
        widest = max(layer.bias.size for layer in self.form.layers)
        return widest * max(2 * widest, goals * (len(self.form.low) + 3))

    def tighten(self, boxes: SubBoxes) -> Tightened:
        """Bound all pre-activations in front of the last layer."""
        lower, upper = boxes.lower.copy(), boxes.upper.copy()
        relaxed: list[Relaxed] = []
        shares: list[Shares] = []
        for k in range(len(self.form.layers) - 1):
            l, u = lower[:, self.places[k]], upper[:, self.places[k]]
            box, unit = np.nonzero((l < 0) & (u > 0))
            sign = np.repeat([1.0, -1.0], len(box))
            found = self._pass(k, Rows(np.tile(box, 2), np.tile(unit, 2), sign), boxes, relaxed)
            up, down = found.upper.reshape(2, -1)
            u[box, unit] = np.fmin(u[box, unit], up)
            l[box, unit] = np.fmax(l[box, unit], -down)
            relaxed.append(relax_boxes(l, u))
            sides = np.abs(found.left).reshape(2, len(box), len(self.form.low))
            reach = sides.sum(axis=0) * (boxes.high - boxes.low)[box]
            shares.append(Shares(box, unit, reach / np.maximum(reach.sum(axis=1, keepdims=True), UNDERFLOW)))
        return Tightened(SubBoxes(boxes.low, boxes.high, lower, upper), relaxed, shares)

    def goals(self, known: Tightened, rows: Rows) -> tuple[Array, Array]:
        """Upper bounds ``(rows,)`` of functionals of the last layer, and what each input has to do with them.

        What an input has to do with a bound, ``(rows, inputs)``, is a heuristic for splitting: the reach of the linear
        bound along it, and what the relaxation of each ReLU costs, shared out among the inputs by their part in its
        pre-activation. (The reach alone leaves boxes wide along inputs whose effect the relaxations hide.)
        """
        found = self._pass(len(self.form.layers) - 1, rows, known.boxes, known.relaxed, keep=True)
        blame = np.zeros_like(found.left)
        open_ = np.flatnonzero(~(found.upper <= 0))
        blame[open_] = self._blame(found[open_], known, Rows(rows.box[open_], rows.unit[open_], rows.sign[open_]))
        return found.upper, blame

    def _blame(self, best: Passed, known: Tightened, rows: Rows) -> Array:
        blame: Array = np.abs(best.left) * (known.boxes.high - known.boxes.low)[rows.box]
        for source, A in best.hidden.items():
            share, offset = known.shares[source - 1], known.relaxed[source - 1].offset
            whole = np.zeros((*offset.shape, blame.shape[1]))
            whole[share.box, share.unit] = share.share
            blame += np.einsum("rn,rnd->rd", np.abs(A) * offset[rows.box], whole[rows.box])
        return blame

    def _pass(self, k: int, rows: Rows, boxes: SubBoxes, relaxed: list[Relaxed], keep: bool = False) -> Passed:
        """Backward from functionals of layer ``k`` to the inputs; ``keep`` the coefficients that are met on the way."""
        layer, sign = self.form.layers[k], rows.sign
        constant = sign * layer.bias[rows.unit]
        left = {source: sign[:, None] * weight[rows.unit] for source, weight in layer.weight.items()}
        hidden = {}
        for source in range(k, 0, -1):
            A = left.pop(source, None)
            if A is None:
                continue
            relaxation, inner = relaxed[source - 1], self.form.layers[source - 1]
            if keep:
                hidden[source] = A.copy()
            P = np.maximum(A, 0.0)
            constant += np.einsum("rn,rn->r", P, relaxation.offset[rows.box])
            A *= relaxation.below[rows.box]
            P *= relaxation.rise[rows.box]
            A += P
            constant += A @ inner.bias
            for other, weight in inner.weight.items():
                left[other] = left[other] + A @ weight if other in left else A @ weight
        A = left.get(INPUT, np.zeros((len(constant), len(self.form.low))))
        constant += np.where(A > 0, A * boxes.high[rows.box], A * boxes.low[rows.box]).sum(axis=1)
        # Coefficients that overflow end as an infinite or NaN constant, of either sign: that bounds nothing.
        upper = np.where(np.isfinite(constant), constant + self.cost[k][rows.unit], np.inf)
        return Passed(upper, A, hidden)


def relax_boxes(l: Array, u: Array) -> Relaxed:
    """Slopes for ReLUs whose pre-activations lie in ``[l, u]``, ``(boxes, units)``, by fixed rules.

    A certificate does not store them: the slope above is that of the chord, rounded down to a multiple of 1 / SLOPES.
    """
    on, off = l >= 0, u <= 0
    settled = on | off
    with np.errstate(divide="ignore", invalid="ignore"):
        above = np.where(settled, on, np.floor(SLOPES * np.minimum(u / (u - l), 1.0)) / SLOPES)
    below = np.where(settled, on, u > -l).astype(np.float64)
    offset = np.where(settled, 0.0, np.maximum(-above * l, (1.0 - above) * u) * RAISE + 4 * UNDERFLOW)
    return Relaxed(below, above, above - below, offset)
