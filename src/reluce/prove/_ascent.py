"""Projected gradient ascent on the pre-activations of open units, all of them in one batch.

Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018 (PGD). Budgets are in
steps and multiplications, never in seconds, so that results do not depend on the load of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reluce.domain import Box
from reluce.network import Array, Dense, Network, Node, evaluate
from reluce.prove._gradient import gradient
from reluce.prove._witnesses import Witnesses, by_unit

Points = Mapping[str, Array]


@dataclass(frozen=True)
class AscentSettings:
    """``restarts`` starts per (unit, sign), ``steps`` steps each; ``work`` caps the multiplications per layer."""

    restarts: int = 6
    steps: int = 40
    work: float = 2e11
    check_every: int = 10


def ascend(
    network: Network,
    box: Box,
    node: Node,
    witnesses: Witnesses,
    starts: Callable[[int, bool], Points],
    settings: AscentSettings,
    stop: Callable[[], bool],
) -> None:
    """Search witnesses for the open units of one ReLU and feed whatever is found to the pool.

    Parameters
    ----------
    network, box
        The network and its domain.
    node
        The ReLU.
    witnesses
        The pool; it decides what counts.
    starts
        For a unit and a sign, starting points ``(restarts, *sample shape)`` per graph input.
    settings
        Restarts, steps and the budget.
    stop
        Asked between steps.
    """
    goals = _goals(witnesses, node)
    per_row = 6.0 * _multiplications(network, node.inputs[0]) * settings.steps
    room = int(settings.work // max(per_row, 1.0))
    goals = goals[: max(1, room // settings.restarts)]
    block = max(1, 2048 // settings.restarts)
    for start in range(0, len(goals), block):
        if stop():
            return
        _climb(network, box, node, witnesses, goals[start : start + block], starts, settings, stop)


def _goals(witnesses: Witnesses, node: Node) -> list[tuple[int, bool]]:
    positive, negative = witnesses.open(node)
    return [(int(unit), True) for unit in np.flatnonzero(positive)] + [
        (int(unit), False) for unit in np.flatnonzero(negative)
    ]


def _climb(
    network: Network,
    box: Box,
    node: Node,
    witnesses: Witnesses,
    goals: list[tuple[int, bool]],
    starts: Callable[[int, bool], Points],
    settings: AscentSettings,
    stop: Callable[[], bool],
) -> None:
    batches = [starts(unit, positive) for unit, positive in goals]
    x = {name: np.concatenate([batch[name] for batch in batches]) for name in box.inner}
    counts = [len(next(iter(batch.values()))) for batch in batches]
    units = np.repeat([unit for unit, _ in goals], counts)
    signs = np.repeat([1.0 if positive else -1.0 for _, positive in goals], counts)
    for step in range(settings.steps):
        if stop():
            break
        if step and step % settings.check_every == 0:
            witnesses.feed(x)
            alive = _alive(witnesses, node, units, signs)
            if not alive.any():
                return
            x, units, signs = {name: values[alive] for name, values in x.items()}, units[alive], signs[alive]
        length = 0.5 * 0.05 ** (step / max(1, settings.steps - 1))
        x = _step(network, box, node, x, units, signs, length)
    witnesses.feed(x)


def _step(
    network: Network, box: Box, node: Node, x: dict[str, Array], units: Array, signs: Array, length: float
) -> dict[str, Array]:
    z_name = node.inputs[0]
    with np.errstate(over="ignore", invalid="ignore"):  # a box may reach beyond float32
        low_precision = {name: values.astype(np.float32) for name, values in x.items()}
        values = evaluate(network, low_precision, until=z_name)
        z = values[z_name]
        slopes = gradient(network, values, z_name, _covectors(z, node, units, signs))
    moved = dict(x)
    for name, slope in slopes.items():
        low, high = box.inner[name]
        moved[name] = np.clip(x[name] + length * (high - low) * np.sign(slope), low, high)
    return moved


def _covectors(z: Array, node: Node, units: Array, signs: Array) -> Array:
    """For each row a one-hot covector at the unit's most promising position."""
    rows = np.arange(len(z))
    indices = by_unit(np.arange(z[0].size).reshape(1, *z.shape[1:]), node)[0]  # (positions, units) -> flat coordinate
    candidates = indices[:, units].T  # (rows, positions)
    reached = signs[:, None] * z.reshape(len(z), -1)[rows[:, None], candidates]
    best = candidates[rows, reached.argmax(axis=1)]
    covectors = np.zeros((len(z), z[0].size), dtype=z.dtype)
    covectors[rows, best] = signs
    return covectors.reshape(z.shape)


def _alive(witnesses: Witnesses, node: Node, units: Array, signs: Array) -> Array:
    positive, negative = witnesses.open(node)
    return np.where(signs > 0, positive[units], negative[units])


def _multiplications(network: Network, tensor: str) -> int:
    needed = network.ancestors([tensor])
    dense = (node.op for node in network.nodes if isinstance(node.op, Dense) and node.output in needed)
    return sum(op.weight.size for op in dense)
