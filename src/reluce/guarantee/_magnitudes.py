"""Points of the domain at which the outputs are large, and lower bounds of |N_i| that are proved there.

The points are looked for with plain floats. What m_i is, is proved at the chosen ones alone: float64 evaluation is
within its a-priori error, as the intervals of the domain bound it, or where they are wide those of that one point.
Where N_i cannot be evaluated, m_i is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reluce.bounds import Bounds, Interval, Relaxation, float_error, interval, linear_upper_bound
from reluce.domain import Box
from reluce.facts import Facts
from reluce.network import Activation, Array, Network, Op, Opaque, Softmax, at_once, evaluate
from reluce.rounding import down

UNEVALUATED: tuple[type[Op], ...] = (Opaque, Activation, Softmax)
"""Behind these operations an output has no magnitude that could be proved: it may not move at ``roundoff``."""

SAMPLES, RANDOM = 1024, 64
"""At most so many data samples, and so many random corners and points each, are looked at for large outputs."""

CLIMBED, STEPS = 64, 8
"""So many output coordinates are climbed from the best point found, corner by corner, at most so often."""

BATCH, MOST_NUMBERS = 256, 8_000_000
"""Points that are evaluated at once, and numbers that all points looked at may have together (64 MB)."""

WIDE = 1e-6
"""An error above this share of an output is bounded again at the point itself."""

MOST_POINTS = 64
"""So many points are kept in all; coordinates share them where that is fewer than one each."""


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """Points of the domain at which outputs are provably large.

    Parameters
    ----------
    points
        For each graph input ``(points, *sample shape)``: float64 points that lie in the domain exactly.
    rows
        For each graph output, flat: at which of the points (-1: at none).
    lower
        For each graph output, flat: ``|N_i|`` at that point is at least this.
    """

    points: Mapping[str, Array]
    rows: Mapping[str, Array]
    lower: Mapping[str, Array]


def magnitudes(
    network: Network, box: Box, bounds: Bounds, facts: Facts, samples: Mapping[str, Array] | None = None
) -> Magnitudes:
    """Points at which the outputs are as large as looking finds them, and what is proved of the outputs there."""
    lower = {name: np.zeros(network.entries(name)) for name in network.outputs}
    rows = {name: np.full(len(part), -1) for name, part in lower.items()}
    wanted = [name for name in network.outputs if lower[name].size and _evaluable(network, name)]
    points = _looked(network, box, bounds, facts, samples, wanted) if wanted and network.inputs else {}
    count = len(next(iter(points.values()), ()))
    with np.errstate(over="ignore", invalid="ignore"):
        errors = float_error(network, bounds.intervals, np.dtype(np.float64)) if count else {}
    for row in range(count):
        here = _proved(network, {name: values[row] for name, values in points.items()}, wanted, errors)
        for name, proved in here.items():
            better = proved > lower[name]
            lower[name] = np.where(better, proved, lower[name])
            rows[name] = np.where(better, row, rows[name])
    return _only_used(Magnitudes(points, rows, lower))


def _evaluable(network: Network, name: str) -> bool:
    behind = network.ancestors([name])
    made = [node for node in network.nodes if behind.intersection(node.outputs)]
    known = network.tensors[name].shape is not None and network.tensors[name].dtype.kind == "f"
    return known and not any(isinstance(node.op, UNEVALUATED) for node in made)


def _only_used(found: Magnitudes) -> Magnitudes:
    used = np.unique(np.concatenate([rows[rows >= 0] for rows in found.rows.values()] or [np.zeros(0, dtype=int)]))
    rows = {name: np.where(row >= 0, np.searchsorted(used, row), -1) for name, row in found.rows.items()}
    return Magnitudes({name: values[used.astype(int)] for name, values in found.points.items()}, rows, found.lower)


def _proved(
    network: Network, point: Mapping[str, Array], wanted: list[str], errors: Mapping[str, Array]
) -> dict[str, Array]:
    """Lower bounds of ``|N_i|`` at one point: the float64 value less the a-priori ``errors`` of evaluating it."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = evaluate(network, {name: part[None] for name, part in point.items()})
        size = {name: np.abs(values[name][0]).ravel() for name in wanted}
        if any((errors[name].ravel() > WIDE * size[name]).any() for name in wanted):
            errors = float_error(network, _intervals_at(network, point), np.dtype(np.float64))
        found = {name: down(size[name] - errors[name].ravel()) for name in wanted}
    return {name: np.where(np.isfinite(part) & (part > 0), part, 0.0) for name, part in found.items()}


def _intervals_at(network: Network, point: Mapping[str, Array]) -> dict[str, Interval]:
    intervals = {name: Interval(values, values) for name, values in point.items()}
    for node in network.nodes:
        ready = len(node.outputs) == 1 and all(name in intervals for name in node.inputs)
        if ready and network.tensors[node.output].shape is not None:
            parts = [intervals[name] for name in node.inputs]
            intervals[node.output] = interval(node.op, parts, network.shape(node.output))
    return intervals


# Looking: nothing from here on has to be right, except that every point lies in the box


def _looked(
    network: Network,
    box: Box,
    bounds: Bounds,
    facts: Facts,
    samples: Mapping[str, Array] | None,
    wanted: list[str],
) -> dict[str, Array]:
    """At most one point for each coordinate of the wanted outputs, and not more than ``MOST_POINTS``."""
    points = _start(network, box, facts, samples, wanted)
    if not len(next(iter(points.values()))):
        return points
    size = _sizes(network, points, wanted)
    highest, climb = size.argmax(axis=0), at_once(network, CLIMBED)
    rows = np.concatenate([highest[:climb], np.unique(highest[climb:])])  # the former one by one: they climb
    best = {name: values[rows] for name, values in points.items()}
    best = _climbed(network, box, bounds, best, wanted)
    points = {name: np.concatenate([best[name], values[:1]]) for name, values in points.items()}
    size = _sizes(network, points, wanted)
    order = np.bincount(size.argmax(axis=0), minlength=len(size)).argsort(kind="stable")[::-1]
    chosen = [int(row) for row in order[:MOST_POINTS]]
    return {name: values[chosen] for name, values in points.items()}


def _start(
    network: Network, box: Box, facts: Facts, samples: Mapping[str, Array] | None, wanted: list[str]
) -> dict[str, Array]:
    """Data, witnesses, corners, random points and the middle, as far as they lie in the box."""
    generator = np.random.default_rng(20200218)
    sizes = (sum(network.tensors[name].size for name in ends) for ends in (network.inputs, wanted))
    most = max(1, MOST_NUMBERS // (4 * max(1, *sizes)))
    middle = box.clip({name: (0.5 * low + 0.5 * high)[None] for name, (low, high) in box.inner.items()})
    parts = [middle, box.corners(generator, min(RANDOM, most)), box.sample(generator, min(RANDOM, most)), facts.points]
    parts += [] if samples is None else [samples]
    together = {
        name: np.concatenate([part[name][: min(SAMPLES, most)].astype(np.float64) for part in parts])
        for name in network.inputs
    }
    inside = box.contains(together)
    return {name: values[inside] for name, values in together.items()}


def _sizes(network: Network, points: Mapping[str, Array], wanted: list[str]) -> Array:
    """``|N_i|`` in float64, ``(points, coordinates of the wanted outputs)``; 0 where it is not finite."""
    count = len(next(iter(points.values())))
    found = [np.zeros((0, sum(network.tensors[name].size for name in wanted)))]
    step = at_once(network, BATCH)
    for start in range(0, count, step):
        with np.errstate(over="ignore", invalid="ignore"):
            values = evaluate(network, {name: part[start : start + step] for name, part in points.items()})
        flat = np.concatenate([np.abs(values[name]).reshape(len(values[name]), -1) for name in wanted], axis=1)
        found.append(np.where(np.isfinite(flat), flat, 0.0))
    return np.concatenate(found)


def _climbed(
    network: Network, box: Box, bounds: Bounds, best: Mapping[str, Array], wanted: list[str]
) -> dict[str, Array]:
    """From a point for each coordinate to the best corner for the network as linear as it is there, repeatedly."""
    count = min(at_once(network, CLIMBED), len(next(iter(best.values()))))
    point = {name: values[:count].copy() for name, values in best.items()}
    own = np.arange(count)
    reached = _sizes(network, point, wanted)[own, own]
    for _ in range(STEPS):
        slopes = _gradient(network, bounds, point, wanted)
        corner = {
            name: np.where(slopes[name] > 0, high, np.where(slopes[name] < 0, low, point[name]))
            for name, (low, high) in box.inner.items()
        }
        size = _sizes(network, corner, wanted)[own, own]
        better = size > reached
        if not better.any():
            break
        reached = np.where(better, size, reached)
        for name, values in corner.items():
            point[name][better] = values[better]
    return {name: np.concatenate([point[name], values[count:]]) for name, values in best.items()}


def _gradient(network: Network, bounds: Bounds, point: Mapping[str, Array], wanted: list[str]) -> dict[str, Array]:
    """For each of the first coordinates the gradient of ``|N_i|`` at its own point, ``(rows, *sample shape)``."""
    with np.errstate(over="ignore", invalid="ignore"):
        values = evaluate(network, point)
    count, functional, start = len(next(iter(point.values()))), {}, 0
    for name in wanted:
        size = network.tensors[name].size
        rows = np.zeros((count, size))
        mine = np.arange(start, min(start + size, count))
        rows[mine, mine - start] = np.where(values[name].reshape(count, -1)[mine, mine - start] < 0, -1.0, 1.0)
        functional[name] = rows.reshape(count, *network.shape(name))
        start += size
    relaxations = {}
    for node in network.relus:
        if node.inputs[0] in values:
            fires = (values[node.inputs[0]] > 0).astype(np.float64)
            relaxations[node.name] = Relaxation(fires, fires, np.zeros_like(fires))
    with np.errstate(over="ignore", invalid="ignore"):
        bound = linear_upper_bound(network, functional, np.zeros(count), bounds.intervals, relaxations)
    return {name: bound.coefficients.get(name, np.zeros_like(values)) for name, values in point.items()}
