"""Gradient ascent on the pre-activations of units, many at once, through a surrogate that is annealed to the network.

Adam (Kingma and Ba, ICLR 2015) on gradients divided by their mean size, in units of the box; the ReLUs have tails that
shrink to nothing over most of the steps (see ``_smooth``). Budgets are in steps and multiplications, never in seconds,
so that results do not depend on the load of the machine. Source: FRONTIER, sections 2 and 4.

A pre-activation ``z = P - N`` adds up what excites the unit and what inhibits it. In late layers both are large, and
what raises ``z`` first is to shrink them: the climb ends where all is dead and ``z`` is about the bias. The sign of
``z`` is that of ``log(P / N)``, which does not care for the scale; ``balanced`` climbs follow that instead, through
softpluses, so that neither sum is empty. Source: our own measurement (``SearchSettings``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reluce.domain import Box
from reluce.network import Activation, Array, Dense, Network, Node, Relu, Softmax
from reluce.prove._gradient import pull_back
from reluce.prove._smooth import surrogate
from reluce.prove._witnesses import Witnesses, by_unit

Points = Mapping[str, Array]
ANNEALED = 0.8
"""Share of the steps after which the tails are gone."""
LEAST = 1e-6
"""Least share of the terms of a pre-activation that counts for excitation and for inhibition."""


@dataclass(frozen=True)
class Climb:
    """One way to climb: ``restarts`` starts per (unit, sign), ``steps`` steps each.

    ``rate`` is the length of a step in widths of the box, falling to a tenth; ``tail`` the scale of the surrogate's
    tails at first, in medians of a layer's absolute pre-activations (0: the network itself). Points are tried as
    witnesses every ``check_every`` steps. ``balanced`` climbs raise ``log(P / N)`` instead of ``P - N``.
    """

    restarts: int
    steps: int
    rate: float
    tail: float = 0.0
    check_every: int = 10
    balanced: bool = False


@dataclass(frozen=True, eq=False)
class Goals:
    """What each point is to climb: a unit of one ReLU, up (+1) or down (-1)."""

    node: Node
    units: Array
    signs: Array

    def only(self, rows: Array | slice) -> Goals:
        """Some of them."""
        return Goals(self.node, self.units[rows], self.signs[rows])

    def of(self, z: Array) -> Array:
        """How far each point has come: the largest signed value over the positions of its unit."""
        signed = self.signs[:, None] * by_unit(z, self.node)[np.arange(len(z)), :, self.units]
        return np.asarray(signed.max(axis=1))


def goals_of(witnesses: Witnesses, node: Node) -> Goals:
    """The signs that units of a ReLU still lack."""
    up, down = (np.flatnonzero(mask) for mask in witnesses.open(node))
    return Goals(node, np.concatenate([up, down]), np.repeat([1.0, -1.0], [len(up), len(down)]))


def climb(
    network: Network,
    box: Box,
    goals: Goals,
    starts: Points,
    kind: Climb,
    wanted: Callable[[Points], Array] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Points:
    """Move points towards their goals.

    Parameters
    ----------
    network, box
        The network and its domain.
    goals
        One for each point.
    starts
        For each graph input ``(points, *sample shape)``.
    kind
        Steps and their length.
    wanted
        Shown the points every few steps; says which of them are still wanted.
    stop
        Asked between steps.

    Returns
    -------
    mapping
        The points that are wanted to the end, as they ended, in the box, in float64.
    """
    x = {name: values.astype(np.float32) for name, values in starts.items()}
    moments = {name: (np.zeros_like(values), np.zeros_like(values)) for name, values in x.items()}
    for step in range(kind.steps):
        if stop():
            break
        if wanted is not None and step and step % kind.check_every == 0:
            rows = wanted(_inside(box, x))
            if not rows.any():
                break
            x = {name: values[rows] for name, values in x.items()}
            moments = {name: (first[rows], second[rows]) for name, (first, second) in moments.items()}
            goals = goals.only(rows)
        part = step / max(1, kind.steps - 1)
        slopes = _slopes(network, goals, x, kind.tail * max(0.0, 1 - part / ANNEALED), kind.balanced)
        for name, slope in slopes.items():
            moments[name], move = _adam(moments[name], slope, step + 1)
            low, high = box.inner[name]
            moved = x[name] + kind.rate * 0.1**part * (high - low) * move
            x[name] = np.clip(moved, low, high).astype(np.float32)
    if wanted is not None:
        rows = wanted(_inside(box, x))
        x = {name: values[rows] for name, values in x.items()}
    return _inside(box, x)


def _inside(box: Box, x: Points) -> Points:
    return box.clip({name: values.astype(np.float64) for name, values in x.items()})


def _slopes(network: Network, goals: Goals, x: Points, share: float, balanced: bool) -> dict[str, Array]:
    """The gradient of each point's goal, divided by the mean size of its entries."""
    z_name = goals.node.inputs[0]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # directions only; a box may exceed float32
        values, derivatives = surrogate(network, x, z_name, share, positive=balanced)
        covectors = {z_name: _covectors(values[z_name], goals)}
        if balanced:
            covectors = _balanced(network, values, z_name, covectors[z_name])
        slopes = pull_back(network, values, covectors, network.inputs, derivatives)
        flat = [np.abs(slope).reshape(len(slope), -1) for slope in slopes.values()]
        size = sum(part.sum(axis=1) for part in flat) / max(1, sum(part.shape[1] for part in flat))
        scale = 1 / np.maximum(size, np.finfo(np.float32).tiny)
        return {
            name: np.nan_to_num(slope * scale.reshape([-1] + [1] * (slope.ndim - 1)), posinf=0.0, neginf=0.0)
            for name, slope in slopes.items()
        }


def _adam(moments: tuple[Array, Array], slope: Array, step: int) -> tuple[tuple[Array, Array], Array]:
    """The new moments, and the direction of a step of length about 1."""
    first, second = 0.9 * moments[0] + 0.1 * slope, 0.999 * moments[1] + 0.001 * slope**2
    move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return (first, second), move


def _covectors(z: Array, goals: Goals) -> Array:
    """For each row a one-hot covector at the unit's most promising position."""
    rows = np.arange(len(z))
    places = by_unit(np.arange(z[0].size).reshape(1, *z.shape[1:]), goals.node)[0]  # (positions, units) -> coordinate
    candidates = places[:, goals.units].T  # (rows, positions)
    reached = goals.signs[:, None] * z.reshape(len(z), -1)[rows[:, None], candidates]
    covectors = np.zeros((len(z), z[0].size), dtype=z.dtype)
    covectors[rows, candidates[rows, reached.argmax(axis=1)]] = goals.signs
    return covectors.reshape(z.shape)


def _balanced(network: Network, values: Mapping[str, Array], z_name: str, covectors: Array) -> dict[str, Array]:
    """Covectors of ``log(P / N)``, up to a factor, at the tensors whose entries add up to a pre-activation."""
    curved = [node.output for node in network.nodes if isinstance(node.op, Relu | Activation | Softmax)]
    ends = pull_back(network, values, {z_name: covectors}, [*curved, *network.inputs])
    terms = {name: (A * values[name]).reshape(len(A), -1) for name, A in ends.items()}
    excites = sum((np.maximum(term, 0).sum(axis=1) for term in terms.values()), np.zeros(len(covectors)))
    inhibits = sum((np.maximum(-term, 0).sum(axis=1) for term in terms.values()), np.zeros(len(covectors)))
    bias = (covectors * values[z_name]).reshape(len(covectors), -1).sum(axis=1) - (excites - inhibits)
    excites, inhibits = excites + np.maximum(bias, 0), inhibits + np.maximum(-bias, 0)
    whole = excites + inhibits + np.finfo(np.float32).tiny
    up, down = (whole / np.maximum(part, LEAST * whole) for part in (excites, inhibits))
    return {
        name: A * np.where(terms[name] >= 0, up[:, None], down[:, None]).reshape(A.shape).astype(A.dtype)
        for name, A in ends.items()
    }


def vertices(box: Box, points: Points) -> Points:
    """The vertices of the box that lie nearest to points."""
    found = {}
    for name, (low, high) in box.inner.items():
        found[name] = np.where(points[name] - low > high - points[name], high, low)
    return found


def multiplications(network: Network, tensor: str) -> int:
    """What one evaluation of a tensor costs."""
    needed = network.ancestors([tensor])
    dense = (node.op for node in network.nodes if isinstance(node.op, Dense) and node.output in needed)
    return sum(op.weight.size for op in dense)
