"""One forward pass that bounds every tensor of a network: interval, then CROWN for what intervals leave open.

At each ReLU the pre-activation is settled before anything behind it is looked at, so that stable units add no
relaxation error further down. The ladder, cheapest first, on the units that are still open:

    constant structure -> interval (closed form on the box) -> CROWN with adaptive slopes -> with slopes 0 -> with 1

After each step from the interval on, bounds that only rounding keeps from 0 are replayed exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import lcm
from types import MappingProxyType

import numpy as np

from reluce.bounds._constants import Constancy, constancy
from reluce.bounds._exact import ONE, ExactInterval, exact_cost, exact_intervals, exact_linear_upper_bound
from reluce.bounds._interval import Interval, interval, meet
from reluce.bounds._linear import Relaxation, linear_upper_bound, relax
from reluce.domain import Box
from reluce.facts import Rung
from reluce.network import Activation, Array, Dyadic, Network, Node, Opaque, Relu, Softmax

CHUNK = 4_000_000
"""Numbers in one block of coefficients: bounds the memory of a backward pass (32 MB in float64)."""

EXACT_BUDGET = 20_000_000
"""Multiplications that exact replay may spend on one network (a second or two)."""

MOST_BITS = 4096
"""Longest common denominator of the box for exact replay; beyond it the outward-rounded box serves."""

RUNGS = (
    Rung.NONE,
    Rung.CONSTANT,
    Rung.CLOSED_FORM,
    Rung.INTERVAL,
    Rung.CROWN,
    Rung.EXACT,
    Rung.ALPHA,
    Rung.BRANCH,
    Rung.INPUT_SPLIT,
    Rung.LEO,
    Rung.ISA,
)
"""What can settle a coordinate by bounds, cheapest first."""


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners of the box that maximise and minimise the linear bounds of the (flat) coordinates in ``rows``.

    ``highest`` and ``lowest`` have for each graph input ``(rows, *sample shape)``.
    """

    rows: Array
    highest: Mapping[str, Array]
    lowest: Mapping[str, Array]

    def only(self, wanted: Array) -> Corners:
        """Those of the rows in a mask over the rows."""
        highest, lowest = ({k: v[wanted] for k, v in side.items()} for side in (self.highest, self.lowest))
        return Corners(self.rows[wanted], highest, lowest)


@dataclass(frozen=True, eq=False)
class Pass:
    """A backward pass: its lower slopes (as ``relax`` names them), and the (flat) coordinates that it bounded best.

    ``upper`` and ``lower`` are those whose upper and lower end it gave.
    """

    below: str
    upper: Array
    lower: Array


@dataclass(frozen=True, eq=False)
class Settled:
    """How the pre-activation of one ReLU was bounded.

    ``rung`` has an index into ``RUNGS`` per coordinate (flat): what first proved the coordinate stable, 0 where it is
    open. ``corners`` are those of open coordinates (none where no linear bound was computed), ``passes`` the backward
    passes that were made. ``seconds`` is what intervals and linear bounds took, exact replays included.
    """

    rung: Array
    corners: Corners
    passes: tuple[Pass, ...]
    seconds: Mapping[Rung, float]


@dataclass(frozen=True, eq=False)
class Known:
    """What was proved of a pre-activation elsewhere: its interval, and by what (flat, an index into ``RUNGS`` each)."""

    interval: Interval
    rung: Array


@dataclass(frozen=True, eq=False)
class Bounds:
    """Proven bounds of a whole network on a box; ``relaxations`` and ``settled`` are keyed by ReLU node name."""

    intervals: Mapping[str, Interval]
    constants: Mapping[str, Constancy]
    relaxations: Mapping[str, Relaxation]
    settled: Mapping[str, Settled]


def analyse(
    network: Network,
    box: Box,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda layer: None,
    known: Mapping[str, Known] = MappingProxyType({}),
) -> Bounds:
    """Bound every tensor of a network whose shape is known.

    Parameters
    ----------
    network
        The network.
    box
        The domain.
    stop
        Asked between steps; once True only the cheap interval rules are applied.
    progress
        Told the name of each ReLU as its turn comes.
    known
        What other provers have shown of pre-activations, by tensor; everything behind profits from it.

    Returns
    -------
    Bounds
        Rigorous whatever ``stop`` did.
    """
    work = _Work(network, box, stop, known)
    for name, (low, high) in box.outer.items():
        work.intervals[name] = Interval(low, high)
        work.constants[name] = Constancy.of(box.lower[name] == box.upper[name], np.where(low == high, low, 0.0))
        loose = (low != high) & work.constants[name].constant  # fixed, but at a number that is no float64
        work.constants[name] = replace(work.constants[name], exact=work.constants[name].exact & ~loose)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes unbounded
        for node in network.nodes:
            if isinstance(node.op, Relu) and node.inputs[0] in work.intervals:
                progress(node.output)
                work.settle(node)
            work.forward(node)
    return Bounds(work.intervals, work.constants, work.relaxations, work.settled)


class _Work:
    """The tables of one analysis while they fill up (local to ``analyse``)."""

    def __init__(self, network: Network, box: Box, stop: Callable[[], bool], known: Mapping[str, Known]) -> None:
        self.network, self.box, self.stop, self.known = network, box, stop, known
        self.intervals: dict[str, Interval] = {}
        self.constants: dict[str, Constancy] = {}
        self.relaxations: dict[str, Relaxation] = {}
        self.settled: dict[str, Settled] = {}
        self.curved: set[str] = set()  # tensors with something nonlinear in front of them
        self.exact_left = EXACT_BUDGET

    def forward(self, node: Node) -> None:
        """Interval and constancy of a node's outputs from those of its inputs."""
        if isinstance(node.op, Relu | Opaque | Activation | Softmax) or not self.curved.isdisjoint(node.inputs):
            self.curved.update(node.outputs)
        if isinstance(node.op, Opaque) or any(name not in self.intervals for name in node.inputs):
            for name in node.outputs:
                shape = self.network.tensors[name].shape
                if shape is not None:
                    self.intervals[name] = Interval.unknown(shape)
                    self.constants[name] = Constancy.nothing(shape)
            return
        shape = self.network.shape(node.output)
        known = interval(node.op, [self.intervals[name] for name in node.inputs], shape)
        constant = constancy(node.op, [self.constants[name] for name in node.inputs], shape)
        if isinstance(node.op, Relu):
            constant = constant.zeroed(self.intervals[node.inputs[0]].upper <= 0)
        self.intervals[node.output], self.constants[node.output] = known, constant

    def settle(self, node: Node) -> None:
        """Tighten the pre-activation of a ReLU until each coordinate is stable or the ladder ends."""
        name, start = node.inputs[0], time.perf_counter()
        z = self._known_signs(name)
        linear = name not in self.curved  # then it is an affine function of the graph inputs: linear bounds are exact
        rung = np.zeros(z.lower.size, dtype=np.int8)
        rung[self.constants[name].constant.ravel()] = RUNGS.index(Rung.CONSTANT)
        if name in self.known:
            z = meet(z, self.known[name].interval)
            settled = ((z.upper <= 0) | (z.lower >= 0)).ravel() & (rung == 0)
            rung[settled] = self.known[name].rung[settled]
        self._mark(rung, z, Rung.CLOSED_FORM if linear else Rung.INTERVAL)
        z = self._exact_by_interval(name, z, rung)
        corners = Corners(np.zeros(0, dtype=np.int64), self._corners({}, 0), self._corners({}, 0))
        middle, passes = time.perf_counter(), tuple[Pass, ...]()
        if not self.stop():
            z, corners, passes = self._crown(name, z, rung, linear)
        self.intervals[name] = z
        self.relaxations[node.name] = relax(z)
        seconds = {Rung.INTERVAL: middle - start, Rung.CROWN: time.perf_counter() - middle}
        self.settled[node.name] = Settled(rung, corners.only(rung[corners.rows] == 0), passes, seconds)

    def _known_signs(self, name: str) -> Interval:
        """The interval of a tensor, with the signs of exactly known constants."""
        z, known = self.intervals[name], self.constants[name]
        if not known.exact.any():
            return z
        sign = known.value.sign()
        upper = np.where(known.exact & (sign <= 0), np.minimum(z.upper, 0.0), z.upper)
        return Interval(np.where(known.exact & (sign >= 0), np.maximum(z.lower, 0.0), z.lower), upper, z.slack)

    @staticmethod
    def _mark(rung: Array, z: Interval, by: Rung) -> None:
        stable = ((z.upper <= 0) | (z.lower >= 0)).ravel()
        rung[stable & (rung == 0)] = RUNGS.index(by)

    def _crown(self, name: str, z: Interval, rung: Array, linear: bool) -> tuple[Interval, Corners, tuple[Pass, ...]]:
        # Where intervals give no finite end, some term is unbounded, and a linear bound will hardly do better.
        hopeful = np.isfinite(z.lower) | np.isfinite(z.upper)
        rows = np.flatnonzero(((z.lower < 0) & (z.upper > 0) & hopeful).ravel())
        label = Rung.CLOSED_FORM if linear else Rung.CROWN
        corners = Corners(rows[:0], self._corners({}, 0), self._corners({}, 0))
        owner, kinds = np.full((2, z.lower.size), -1, dtype=np.int8), list[str]()
        for below in ("adaptive",) if linear else ("adaptive", "zero", "one"):
            open_rows = rows[rung[rows] == 0]
            if kinds and (open_rows.size == 0 or self.stop()):
                break
            before, relaxations = z, self.relaxations if below == "adaptive" else self._relaxed(below)
            z, found = self._pass(name, z, open_rows, relaxations)
            corners = corners if kinds else found
            self._mark(rung, z, label)
            z = self._exact_by_linear(name, z, rung, relaxations)
            owner[0, (z.upper < before.upper).ravel()] = len(kinds)
            owner[1, (z.lower > before.lower).ravel()] = len(kinds)
            kinds.append(below)
        passes = (Pass(below, *(np.flatnonzero(side == k) for side in owner)) for k, below in enumerate(kinds))
        return z, corners, tuple(passes)

    def _relaxed(self, below: str) -> dict[str, Relaxation]:
        settled = [node for node in self.network.relus if node.name in self.relaxations]
        return {node.name: relax(self.intervals[node.inputs[0]], below) for node in settled}

    def _pass(
        self, name: str, z: Interval, rows: Array, relaxations: Mapping[str, Relaxation]
    ) -> tuple[Interval, Corners]:
        """One backward pass for the given flat coordinates, with the corners that it points to."""
        lower, upper, slack = z.lower.ravel().copy(), z.upper.ravel().copy(), np.zeros(z.lower.size)
        done, highest, lowest = [rows[:0]], [self._corners({}, 0)], [self._corners({}, 0)]
        for chunk in self._chunks(rows):
            if self.stop():
                break
            above, below = (
                linear_upper_bound(
                    self.network, {name: sign * _one_hot(chunk, z)}, np.zeros(len(chunk)), self.intervals, relaxations
                )
                for sign in (1.0, -1.0)
            )
            upper[chunk] = np.minimum(upper[chunk], above.upper)
            lower[chunk] = np.maximum(lower[chunk], -below.upper)
            spent = np.maximum(above.slack, below.slack)
            slack[chunk] = np.where(np.isfinite(spent), spent, 0.0)
            done.append(chunk)
            highest.append(self._corners(above.coefficients, len(chunk)))
            lowest.append(self._corners(below.coefficients, len(chunk)))
        shape = z.lower.shape
        tightened = Interval(lower.reshape(shape), upper.reshape(shape), 2 * slack.reshape(shape))
        return meet(z, tightened), Corners(np.concatenate(done), _joined(highest), _joined(lowest))

    def _chunks(self, rows: Array) -> Iterator[Array]:
        widest = max((tensor.size for tensor in self.network.tensors.values()), default=1)
        step = max(1, CHUNK // max(1, widest))
        for start in range(0, len(rows), step):
            yield rows[start : start + step]

    def _corners(self, coefficients: Mapping[str, Array], rows: int) -> dict[str, Array]:
        corners = {}
        for part, (low, high) in self.box.inner.items():
            A = coefficients.get(part)
            corners[part] = np.broadcast_to(low, (rows, *low.shape)) if A is None else np.where(A > 0, high, low)
        return corners

    def _exact_by_interval(self, name: str, z: Interval, rung: Array) -> Interval:
        """Replay interval arithmetic exactly where rounding alone keeps a bound from its sign."""
        if not (self._near(z) & (rung != RUNGS.index(Rung.CONSTANT))).any() or self.stop():
            return z
        cost = exact_cost(self.network, name)
        if cost > self.exact_left:
            return z
        self.exact_left -= cost
        ends, scale = self._exact_box
        found = exact_intervals(self.network, ends, name, scale)
        if found is None:
            return z
        return self._keep_signs(z, rung, np.arange(z.lower.size), *found[name])

    def _exact_by_linear(self, name: str, z: Interval, rung: Array, relaxations: Mapping[str, Relaxation]) -> Interval:
        """Replay a linear bound exactly where rounding alone keeps it from its sign."""
        rows = np.flatnonzero(self._near(z) & (rung == 0))
        cost = exact_cost(self.network, name) * max(1, len(rows))
        if rows.size == 0 or cost > self.exact_left or self.stop():
            return z
        self.exact_left -= cost
        shaped = _one_hot(rows, z)
        known = self.intervals, relaxations, *self._exact_box
        high = exact_linear_upper_bound(self.network, name, shaped, *known)
        low = exact_linear_upper_bound(self.network, name, -shaped, *known)
        if high is None or low is None:
            return z
        return self._keep_signs(z, rung, rows, -low, high)

    @staticmethod
    def _keep_signs(z: Interval, rung: Array, rows: Array, low: Dyadic, high: Dyadic) -> Interval:
        """Of exact bounds use the signs alone: 0 is a float64, so nothing is rounded."""
        lower, upper = z.lower.ravel().copy(), z.upper.ravel().copy()
        lows, highs = low.reshape((len(rows),)).sign(), high.reshape((len(rows),)).sign()
        upper[rows[highs <= 0]] = np.minimum(upper[rows[highs <= 0]], 0.0)
        lower[rows[lows >= 0]] = np.maximum(lower[rows[lows >= 0]], 0.0)
        shape = z.lower.shape
        result = Interval(lower.reshape(shape), upper.reshape(shape), z.slack)
        _Work._mark(rung, result, Rung.EXACT)
        return result

    @staticmethod
    def _near(z: Interval) -> Array:
        slack = np.broadcast_to(np.asarray(z.slack), z.lower.shape) * 2
        below = (z.upper > 0) & (z.upper <= slack)
        above = (z.lower < 0) & (z.lower >= -slack) & (z.upper > 0)
        return np.asarray((below | above).ravel())

    @cached_property
    def _exact_box(self) -> tuple[dict[str, ExactInterval], Dyadic]:
        """The box times the least common denominator of its ends, and that number: integers, so nothing is rounded."""
        lower, upper = self.box.lower, self.box.upper
        scale = lcm(*{end.denominator for ends in (*lower.values(), *upper.values()) for end in ends.ravel()})
        if scale.bit_length() > MOST_BITS:
            outer = self.box.outer.items()
            return {name: (Dyadic.of(low), Dyadic.of(high)) for name, (low, high) in outer}, ONE
        ends = {name: (_integers(lower[name] * scale), _integers(upper[name] * scale)) for name in lower}
        return ends, Dyadic(np.array(scale, dtype=object), 0)


def _one_hot(rows: Array, z: Interval) -> Array:
    """Coefficients that pick single (flat) coordinates of a tensor, ``(rows, *sample shape)``."""
    result = np.zeros((len(rows), z.lower.size))
    result[np.arange(len(rows)), rows] = 1.0
    return result.reshape(len(rows), *z.lower.shape)


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _integers(values: Array) -> Dyadic:
    values = np.asarray(values, dtype=object)  # arithmetic on a 0-d object array gives a bare number
    flat = np.empty(values.size, dtype=object)
    flat[:] = [int(value) for value in values.ravel()]
    return Dyadic(flat.reshape(values.shape), 0)
