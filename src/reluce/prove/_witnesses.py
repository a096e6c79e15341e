"""The pool of witnesses: points of the domain at which a unit is provably positive or negative.

A sign counts when the float64 value exceeds the a-priori error bound of evaluating the network (``float_error``), or
when exact evaluation in dyadic integers says so. No tolerance, and a point outside the domain is never a witness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reluce.bounds import Interval, exact_intervals, float_error
from reluce.domain import Box
from reluce.network import Array, Dyadic, Network, Node, Opaque, Relu, at_once, evaluate

BATCH = 1024
"""Samples that are evaluated at once."""


LACKING, CLOSED = -1, -2
"""In place of a row of points: no witness yet; none is wanted."""


@dataclass(frozen=True, eq=False)
class Mark:
    """A moment in the life of ``Witnesses``."""

    rows: int
    best: Mapping[str, Array]


class Witnesses:
    """Collects witnesses for every unit of a network (the working state of refutation).

    Parameters
    ----------
    network, box
        The network and its domain.
    intervals
        Proven intervals of its tensors: they bound the rounding error of the evaluations.

    Attributes
    ----------
    best
        For each ReLU by name ``(2, units)``: the largest ``z`` and the largest ``-z`` of the points that were tried
        while the unit lacked that sign. Measured in float64; no proof of anything.
    """

    def __init__(self, network: Network, box: Box, intervals: Mapping[str, Interval]) -> None:
        self.network, self.box = network, box
        errors = float_error(network, intervals, np.dtype(np.float64))
        seen = errors.keys() - _hidden(network)
        self.layers = [node for node in network.relus if node.inputs[0] in seen]
        self._error = {node.name: by_unit(errors[node.inputs[0]][None], node).max(axis=(0, 1)) for node in self.layers}
        self.positive = {node.name: np.full(len(self._error[node.name]), LACKING) for node in self.layers}
        self.negative = {node.name: np.full(len(self._error[node.name]), LACKING) for node in self.layers}
        self.best = {node.name: np.full((2, len(self._error[node.name])), -np.inf) for node in self.layers}
        self._unclear: dict[tuple[str, bool, int], tuple[float, dict[str, Array]]] = {}
        self._rows: list[dict[str, Array]] = []
        self._exactly: dict[int, str] = {}  # rows that only exact evaluation can vouch for, and of which ReLU

    @property
    def points(self) -> dict[str, Array]:
        """The witness points, for each graph input ``(witnesses, *sample shape)``."""
        if not self._rows:
            return {name: np.zeros((0, *self.network.shape(name))) for name in self.network.inputs}
        return {name: np.stack([row[name] for row in self._rows]) for name in self.network.inputs}

    def open(self, node: Node) -> tuple[Array, Array]:
        """Masks of the units that still lack a positive and a negative witness."""
        return self.positive[node.name] == LACKING, self.negative[node.name] == LACKING

    def close(self, node: Node, units: Array) -> None:
        """Stop looking for witnesses of the given units (a mask): bounds have settled them."""
        for side in (self.positive[node.name], self.negative[node.name]):
            side[units & (side == LACKING)] = CLOSED

    def feed(self, points: Mapping[str, Array]) -> int:
        """Try points on all units at once.

        Parameters
        ----------
        points
            For each graph input ``(samples, *sample shape)`` in float64; points outside the domain are passed over.

        Returns
        -------
        int
            How many (unit, sign) pairs found their first witness.
        """
        found = 0
        samples = len(next(iter(points.values())))
        step = at_once(self.network, BATCH)
        for start in range(0, samples, step):
            batch = {name: values[start : start + step] for name, values in points.items()}
            found += self._feed(batch)
        return found

    def _feed(self, batch: Mapping[str, Array]) -> int:
        inside = self.box.contains(batch)
        if not inside.any():
            return 0
        batch = {name: values[inside] for name, values in batch.items()}
        wanted = [node for node in self.layers if any(mask.any() for mask in self.open(node))]
        if not wanted:
            return 0
        with np.errstate(over="ignore", invalid="ignore"):
            values = evaluate(self.network, batch, until=wanted[-1].inputs[0] if len(wanted) == 1 else None)
        columns, hits = self._hits(wanted, values, batch)
        return self._cover(batch, columns, hits)

    def _hits(
        self, wanted: list[Node], values: Mapping[str, Array], batch: Mapping[str, Array]
    ) -> tuple[list[tuple[str, bool, int]], Array]:
        columns: list[tuple[str, bool, int]] = []
        blocks = []
        for node in wanted:
            z = by_unit(values[node.inputs[0]], node)
            error = self._error[node.name]
            for positive, lacking in zip((True, False), self.open(node), strict=True):
                units = np.flatnonzero(lacking)
                extreme = z[..., units].max(axis=1) if positive else -z[..., units].min(axis=1)
                self._remember(node, positive, units, extreme, batch)
                blocks.append(np.isfinite(extreme) & (extreme > error[units]))
                columns.extend((node.name, positive, int(unit)) for unit in units)
        return columns, np.concatenate(blocks, axis=1)

    def _remember(self, node: Node, positive: bool, units: Array, extreme: Array, batch: Mapping[str, Array]) -> None:
        """Keep the best value of each unit, and the point where float64 has a sign but cannot vouch for it."""
        finite = np.where(np.isfinite(extreme), extreme, -np.inf)
        rows = finite.argmax(axis=0)
        reached, best = finite[rows, np.arange(len(units))], self.best[node.name][0 if positive else 1]
        for column in np.flatnonzero(
            (reached > 0) & (reached > best[units]) & (reached <= self._error[node.name][units])
        ):
            point = {name: values[rows[column]].copy() for name, values in batch.items()}
            self._unclear[node.name, positive, int(units[column])] = (float(reached[column]), point)
        best[units] = np.maximum(best[units], reached)

    def settle_unclear(self, node: Node, points: int) -> int:
        """Let exact arithmetic tell the signs that float64 could not, at most at so many points; returns how many."""
        lacking = dict(zip((True, False), self.open(node), strict=True))
        waiting = [key for key in self._unclear if key[0] == node.name and lacking[key[1]][key[2]]]
        waiting.sort(key=lambda key: -self._unclear[key][0])
        for key in waiting[:points]:
            _, point = self._unclear.pop(key)
            if self.open(node)[0 if key[1] else 1][key[2]]:
                self.feed_exactly(node, point)
        return len(waiting[:points])

    def _cover(self, batch: Mapping[str, Array], columns: list[tuple[str, bool, int]], hits: Array) -> int:
        """Keep few points that witness much: greedily the one that settles most of what is left."""
        live = np.flatnonzero(hits.any(axis=0))
        found = len(live)
        hits = hits[:, live]
        while live.size:
            row = int(hits.sum(axis=1).argmax())
            taken = hits[row]
            for column in live[taken]:
                name, positive, unit = columns[column]
                (self.positive if positive else self.negative)[name][unit] = len(self._rows)
            self._rows.append({name: values[row].copy() for name, values in batch.items()})
            live, hits = live[~taken], hits[:, ~taken]
        return found

    def feed_exactly(self, node: Node, point: Mapping[str, Array]) -> bool:
        """Try one point on all units of one ReLU in exact arithmetic, and keep it if it is a witness for any.

        Parameters
        ----------
        node
            The ReLU.
        point
            For each graph input one sample, ``(*sample shape)``.
        """
        if not self.box.contains({name: values[None] for name, values in point.items()})[0]:
            return False
        exact = {name: Dyadic.of(values) for name, values in point.items()}
        ends = {name: (value, value) for name, value in exact.items()}
        found = exact_intervals(self.network, ends, node.inputs[0])
        if found is None:
            return False
        signs = by_unit(found[node.inputs[0]][0].sign()[None], node)[0]
        lacking_positive, lacking_negative = self.open(node)
        gained = lacking_positive & (signs > 0).any(axis=0), lacking_negative & (signs < 0).any(axis=0)
        for side, units in zip((self.positive, self.negative), gained, strict=True):
            side[node.name][units] = len(self._rows)
        if not (gained[0].any() or gained[1].any()):
            return False
        self._exactly[len(self._rows)] = node.name
        self._rows.append({name: values.copy() for name, values in point.items()})
        return True

    # What was found from some moment on, for a later run

    def mark(self) -> Mark:
        """The present moment."""
        return Mark(len(self._rows), {name: best.copy() for name, best in self.best.items()})

    def since(self, mark: Mark) -> dict[str, Any]:
        """What was found since then: points, the rows among them that need exact arithmetic, better values."""
        rows = self._rows[mark.rows :]
        return {
            "points": {
                name: np.array([row[name] for row in rows], dtype=np.float64).reshape(-1, *self.network.shape(name))
                for name in self.network.inputs
            },
            "exactly": [[row - mark.rows, name] for row, name in self._exactly.items() if row >= mark.rows],
            "best": {name: x for name, x in self.best.items() if not np.array_equal(x, mark.best[name])},
        }

    def recall(self, found: Mapping[str, Any]) -> None:
        """Try again what ``since`` gave; better values only say where to look no longer.

        Raises
        ------
        ValueError
            When it is nothing that ``since`` gives.
        """
        points, exactly, nodes = found["points"], dict(found["exactly"]), {node.name: node for node in self.layers}
        counts = {len(points[name]) for name in self.network.inputs}
        (count,) = counts if len(counts) == 1 else (-1,)
        fits = all(
            points[name].dtype == np.float64 and points[name].shape[1:] == self.network.shape(name)
            for name in self.network.inputs
        )
        rows = all(type(row) is int and 0 <= row < count for row in exactly)
        if not 0 <= count <= 2 * sum(map(len, self.positive.values())) or not fits or not rows:
            raise ValueError("points that do not fit the network")
        for name, best in found["best"].items():
            if best.shape != self.best[name].shape:
                raise ValueError("values that do not fit the network")
        plain = [row for row in range(count) if row not in exactly]
        if plain:
            self.feed({name: points[name][plain] for name in self.network.inputs})
        for row, name in exactly.items():
            self.feed_exactly(nodes[name], {other: points[other][row] for other in self.network.inputs})
        for name, best in found["best"].items():
            self.best[name] = np.fmax(self.best[name], best)

    def unclear(self, node: Node, points: Mapping[str, Array]) -> Array:
        """At which points ``(samples, *sample shape)`` float64 leaves open a sign that some unit lacks."""
        samples = len(next(iter(points.values())))
        lacking = np.logical_or(*self.open(node))
        found = [np.zeros(0, dtype=bool)]
        step = at_once(self.network, BATCH)
        for start in range(0, samples, step):
            batch = {name: values[start : start + step] for name, values in points.items()}
            with np.errstate(over="ignore", invalid="ignore"):
                z = by_unit(evaluate(self.network, batch, until=node.inputs[0])[node.inputs[0]], node)
            found.append((lacking & ~(np.abs(z) > self._error[node.name])).any(axis=(1, 2)))
        return np.concatenate(found)


def _hidden(network: Network) -> set[str]:
    """The tensors behind nodes that are not modelled: nothing can be evaluated there."""
    found: set[str] = set()
    for node in network.nodes:
        if isinstance(node.op, Opaque) or not found.isdisjoint(node.inputs):
            found.update(node.outputs)
    return found


def by_unit(z: Array, node: Node) -> Array:
    """``(samples, *sample shape)`` as ``(samples, positions, units)``."""
    assert isinstance(node.op, Relu)
    if z.ndim == 1:
        return z.reshape(len(z), 1, 1)
    axis = node.op.axis if node.op.axis < 0 else node.op.axis + 1
    moved = np.moveaxis(z, axis, -1)
    return moved.reshape(len(z), int(np.prod(moved.shape[1:-1])), moved.shape[-1])
