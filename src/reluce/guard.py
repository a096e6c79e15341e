"""A guard in a finished model, and a look at what it says in the model's own runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from reluce.domain import Box
from reluce.errors import CheckFailed, UsageError
from reluce.io import GUARD, Loaded, OnnxLoaded, guarded, inward, loads, runtime, unreachable
from reluce.network import Array, Network

POINTS = 512
"""Points that a guard is tried on, on either side (fewer where a sample is large)."""

BATCH = 256
"""Samples that are run at once."""

MOST_NUMBERS = 4_000_000
"""Numbers in all points of one side (32 MB)."""

Points = Mapping[str, Array]


def with_guard(loaded: Loaded, box: Box) -> OnnxLoaded:
    """A model with one more output, which tells of each sample whether it lies in a box; as read back.

    Raises
    ------
    UsageError
        When the model cannot have a guard.
    """
    if not isinstance(loaded, OnnxLoaded):
        raise UsageError("a guard is an output of an ONNX model")
    description = box.description + (" (assumption)" if box.assumption else "")
    return loads(guarded(loaded, _ends(box), description), name=loaded.name)


@dataclass(frozen=True)
class GuardCheck:
    """How a guard was seen to answer: the output, and on how many points in which software it was right.

    ``unreachable`` names the inputs of which no number of their format lies between some ends: then it is never true.
    """

    output: str
    points: int
    runtime: str
    unreachable: tuple[str, ...] = ()


def check_guard(plain: Loaded, guarded: OnnxLoaded, box: Box) -> GuardCheck:
    """Run a guard on points of the domain and on points next to it, far away, infinite and NaN.

    Parameters
    ----------
    plain, guarded
        The model without its guard and with it.
    box
        The domain.

    Raises
    ------
    CheckFailed
        When the guard says anything else than ``box.contains``, or only the plain model runs.
    """
    inside = _inside(plain.network, box)
    tried = sum(_tried(plain, guarded, box, points) for points in (inside, _outside(plain.network, box, inside)))
    return GuardCheck(GUARD, tried, runtime(guarded).name, unreachable(plain, _ends(box)))


def _ends(box: Box) -> dict[str, tuple[Array, Array]]:
    return {name: (low, box.upper[name]) for name, low in box.lower.items()}


def _tried(plain: Loaded, guarded: OnnxLoaded, box: Box, points: Points) -> int:
    """How many points the guard was right about; none where the model itself does not run on them."""
    try:
        found = np.concatenate([values[GUARD] for values in _run(guarded, points)])
    except Exception as error:
        try:
            list(_run(plain, points))
        except Exception:
            return 0
        raise CheckFailed(f"{runtime(plain).name} runs the network, but not with its guard: {error}") from error
    expected = box.contains(points)
    if found.dtype != np.bool_ or found.shape != expected.shape or (found != expected).any():
        raise CheckFailed(f"output {GUARD!r} is wrong about points in {runtime(guarded).name}; nothing was written")
    return len(expected)


def _run(model: Loaded, points: Points) -> Iterator[Mapping[str, Array]]:
    run, count = runtime(model).start(), len(next(iter(points.values())))
    if model.network.batched:
        feeds = (slice(start, start + BATCH) for start in range(0, count, BATCH))
        return (run({name: values[part] for name, values in points.items()}) for part in feeds)
    return (run({name: values[row, ...] for name, values in points.items()}) for row in range(count))


def _inside(network: Network, box: Box) -> dict[str, Array]:
    """Corners of the domain and points between them, in the formats of the inputs."""
    generator = np.random.default_rng(20261122)
    size = sum(network.tensors[name].size for name in network.inputs)
    count, found = max(2, min(POINTS, MOST_NUMBERS // size)), {}
    between = box.sample(generator, count)
    for name in network.inputs:
        shape, dtype = network.shape(name), network.tensors[name].dtype
        low, high = (end.reshape(shape) for end in inward(box.lower[name], box.upper[name], dtype))
        corners = np.where(generator.random((count, *shape)) < 0.5, low, high)
        with np.errstate(all="ignore"):
            middle = np.clip(between[name].astype(dtype), low, high)
        found[name] = np.where((np.arange(count) < count // 2).reshape(-1, *[1] * len(shape)), corners, middle)
    return found


def _outside(network: Network, box: Box, inside: Points) -> dict[str, Array]:
    """The same with one coordinate of one input moved: next to an end, far away, or where there is no number."""
    generator = np.random.default_rng(20261123)
    found = {name: values.copy() for name, values in inside.items()}
    count = len(next(iter(inside.values())))
    for row in range(count):
        name = network.inputs[row % len(network.inputs)]
        place = int(generator.integers(prod(network.shape(name))))
        low, high = (end.ravel()[place : place + 1] for end in (box.lower[name], box.upper[name]))
        moved = _beyond(*inward(low, high, found[name].dtype))
        found[name].reshape(count, -1)[row, place] = moved[row // len(network.inputs) % len(moved)]
    return found


def _beyond(low: Array, high: Array) -> list[Any]:
    """Numbers of a format outside of a range, or where its arithmetic ends."""
    dtype = low.dtype
    if dtype.kind == "i":
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        return [max(int(low[0]), least + 1) - 1, min(int(high[0]), most - 1) + 1, least, most]
    with np.errstate(all="ignore"):
        near = [np.nextafter(low[0], dtype.type(-np.inf)), np.nextafter(high[0], dtype.type(np.inf))]
        return [*near, 2 * low[0] - high[0] - 1, 2 * high[0] - low[0] + 1, np.nan, np.inf, -np.inf]
