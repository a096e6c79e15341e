"""Refutation in two looks: cheap points before any bound is computed, then a search for what bounds leave open."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from reluce.bounds import Bounds, Corners, exact_cost
from reluce.domain import Box
from reluce.facts import Rung
from reluce.network import Array, Network, Node
from reluce.prove._account import Account
from reluce.prove._refute import Search, SearchSettings
from reluce.prove._steps import Done, Steps
from reluce.prove._verdicts import standing
from reluce.prove._witnesses import BATCH, Witnesses

EXACT_POINTS = 5_000_000
"""Multiplications that exact evaluation of candidate witnesses may spend."""

MOST_NUMBERS = 20_000_000
"""Numbers in the points that are tried at first (160 MB): networks with very large inputs get fewer points."""


def first_look(
    witnesses: Witnesses,
    box: Box,
    data: Mapping[str, Array] | None,
    generator: np.random.Generator,
    most: int,
) -> None:
    """Try about ``most`` points of data, and corners and random points of the box, on all units."""
    if not witnesses.layers:
        return
    size = sum(low.size for low, _ in box.inner.values())
    points = min(most, max(16, MOST_NUMBERS // max(1, size)))
    if data is not None:
        samples = len(next(iter(data.values())))
        chosen = np.sort(generator.permutation(samples)[:points])
        witnesses.feed({name: values[chosen] for name, values in data.items()})
    witnesses.feed(box.corners(generator, points // 4))
    witnesses.feed(box.sample(generator, points // 2))


def second_look(
    network: Network,
    box: Box,
    witnesses: Witnesses,
    bounds: Bounds,
    data: Mapping[str, Array] | None,
    steps: Steps,
    settings: SearchSettings,
    account: Account,
    stop: Callable[[], bool],
) -> None:
    """Try the corners of linear bounds, then search, then try all data, on what is open."""
    exact_left = EXACT_POINTS
    for node in witnesses.layers:
        witnesses.close(node, standing(node, bounds).stable)
    for node in witnesses.layers:
        if stop():
            return
        corners = bounds.settled[node.name].corners
        witnesses.feed(corners.highest)
        witnesses.feed(corners.lowest)
        exact_left -= _exact_corners(network, box, node, witnesses, corners, exact_left)
    for node in witnesses.layers:
        if stop():
            return
        account.tell(f"searching witnesses for {node.output}", bounds)

        def work(generator: np.random.Generator, node: Node = node, left: int = exact_left) -> Done:
            Search(network, box, witnesses, bounds.settled, generator, settings, stop).layer(node)
            cost = max(1, exact_cost(network, node.inputs[0]))
            return Done(spent=cost * witnesses.settle_unclear(node, max(0, left) // cost))

        with account.timing(node, Rung.WITNESS):
            exact_left -= steps.take("witnesses", node, work).spent
    if data is not None:
        account.tell("refuting with all data", bounds)
        all_data(witnesses, data, stop)


def all_data(witnesses: Witnesses, data: Mapping[str, Array], stop: Callable[[], bool]) -> None:
    """Try all data, until nothing is open."""
    samples = len(next(iter(data.values())))
    for start in range(0, samples, 4 * BATCH):
        if stop() or not any(mask.any() for node in witnesses.layers for mask in witnesses.open(node)):
            return
        witnesses.feed({name: values[start : start + 4 * BATCH] for name, values in data.items()})


def _exact_corners(network: Network, box: Box, node: Node, witnesses: Witnesses, corners: Corners, budget: int) -> int:
    """Where float64 cannot tell a sign at the most promising corners, let exact arithmetic tell; returns the cost."""
    cost = max(1, exact_cost(network, node.inputs[0]))
    if cost > budget or not any(mask.any() for mask in witnesses.open(node)):
        return 0
    ends = {name: np.stack(pair) for name, pair in box.inner.items()}
    points = {name: np.concatenate([ends[name], corners.highest[name], corners.lowest[name]]) for name in ends}
    promising = np.flatnonzero(witnesses.unclear(node, points))[: budget // cost]
    for row in promising:
        witnesses.feed_exactly(node, {name: values[row] for name, values in points.items()})
    return cost * len(promising)
