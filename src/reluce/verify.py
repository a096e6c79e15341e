"""Check a finished model against the original by running both: a net under the proofs, not a substitute for them.

Two runs on the same points of the domain (random, corners, witnesses): in float64, where outputs may differ by the
proven epsilon plus both a-priori float64 error bounds, and in the model's own runtime (onnxruntime with graph
optimisation off, torch, scikit-learn), where they may differ by epsilon plus both a-priori bounds of the model's own
format. A model with parts that Reluce does not model is run there only, and its deviation is *measured only*: there is
no bound to judge it by.

Where logits were shifted, the original's are shifted here as well, after it was run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from reluce.bounds import analyse, float_error
from reluce.domain import Box
from reluce.errors import CheckFailed
from reluce.facts import Guarantee
from reluce.io import Loaded, runtime
from reluce.network import Array, Network, at_once, evaluate
from reluce.rounding import UNIT_ROUNDOFF

POINTS = 1024
"""Points on which both networks are run, besides the witnesses."""

WITNESSES = 1024
"""At most so many witnesses are run as well."""

BATCH = 256
"""Samples that are run at once (fewer where a sample is large)."""


@dataclass(frozen=True)
class Check:
    """How two networks compared.

    ``float64`` and ``measured`` are the largest deviations of any output in float64 and in ``runtime`` (onnxruntime,
    torch, ...), ``None`` where that run was not possible; ``allowed`` is what the latter was judged by (infinite:
    measured only). ``note`` says what was left out.
    """

    points: int
    float64: float | None
    runtime: str
    measured: float | None
    allowed: float
    note: str = ""

    @property
    def largest(self) -> float:
        """The largest deviation that was seen, the runtime's where it ran."""
        return self.measured if self.measured is not None else (self.float64 or 0.0)

    @property
    def measured_only(self) -> bool:
        """Whether there was no bound to judge the deviation by."""
        return not np.isfinite(self.allowed)


def check(
    original: Loaded, compressed: Loaded, box: Box, guarantee: Guarantee, witnesses: Mapping[str, Array]
) -> Check:
    """Run two networks side by side.

    Parameters
    ----------
    original, compressed
        The models as read, the compressed one from what was made.
    box
        The domain.
    guarantee
        What was proved about the outputs.
    witnesses
        Points that must be among those tried, ``(points, *sample shape)`` per graph input.

    Raises
    ------
    CheckFailed
        When an output differs by more than was proved, the interfaces differ, or only the original runs.
    """
    _demand_same_interface(original.network, compressed.network)
    points = _Points(original.network, box, witnesses)
    modelled = not original.network.opaque
    float64: float | None = None
    allowed: dict[str, Array] = {}
    if modelled:
        before, after = original.network, compressed.network
        in_double, allowed = _allowances(before, after, box, guarantee)
        float64 = _in_float64(before, after, in_double, points, guarantee.shifted)
    name, measured, note = _in_runtime(original, compressed, points, allowed, guarantee.shifted)
    largest = max((float(np.max(values, initial=0.0)) for values in allowed.values()), default=np.inf)
    return Check(points.count, float64, name, measured, largest if modelled else np.inf, note)


def unchanged() -> Check:
    """The check of a result that is the original."""
    return Check(0, 0.0, "", 0.0, 0.0, "the output is the same model, nothing was rewritten")


def _demand_same_interface(before: Network, after: Network) -> None:
    same = before.inputs == after.inputs and before.outputs == after.outputs
    shapes = same and all(
        before.tensors[name].shape == after.tensors[name].shape for name in (*before.inputs, *before.outputs)
    )
    if not shapes:
        raise CheckFailed("the compressed network has other inputs or outputs than the original")


class _Points:
    """The same corners, random points and witnesses for every run over them, made batch by batch."""

    def __init__(self, network: Network, box: Box, witnesses: Mapping[str, Array]) -> None:
        self._box = box
        self._witnesses = {name: values[:WITNESSES] for name, values in witnesses.items()}
        self._kept = len(next(iter(self._witnesses.values()), ())) if network.inputs else 0
        self.count = POINTS + self._kept if network.inputs else 0
        self._batch = at_once(network, BATCH)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        generator = np.random.default_rng(20200218)
        if not self.count:
            return
        for share, make in ((POINTS // 4, self._box.corners), (POINTS - POINTS // 4, self._box.sample)):
            for start in range(0, share, self._batch):
                yield make(generator, min(self._batch, share - start))
        for start in range(0, self._kept, self._batch):
            yield {name: values[start : start + self._batch] for name, values in self._witnesses.items()}


def _in_float64(
    before: Network,
    after: Network,
    allowed: Mapping[str, Array],
    points: Iterable[dict[str, Array]],
    shifted: Mapping[str, int],
) -> float:
    worst = 0.0
    for batch in points:
        with np.errstate(over="ignore", invalid="ignore"):
            expected, found = evaluate(before, batch), evaluate(after, batch)
        for name in before.outputs:
            if name not in expected or name not in found:
                raise CheckFailed(f"output {name!r} cannot be computed in float64; nothing was written")
            wanted = _less(expected[name], shifted.get(name), whole=False)  # evaluate: always a batch
            worst = max(worst, _compare(wanted, found[name], allowed[name], f"{name!r} in float64"))
    return worst


def _allowances(
    before: Network, after: Network, box: Box, guarantee: Guarantee
) -> tuple[dict[str, Array], dict[str, Array]]:
    """What each output may deviate by in float64, and in the model's own formats: epsilon and both rounding errors."""
    intervals = [analyse(network, box, stop=lambda: True).intervals for network in (before, after)]
    double = np.dtype(np.float64)
    formats = {name: _format(before, name) for name in before.outputs}
    errors = {
        dtype: [float_error(network, known, dtype) for network, known in zip((before, after), intervals, strict=True)]
        for dtype in {double, *formats.values()}
    }

    def allowed(name: str, dtype: np.dtype[np.generic]) -> Array:
        epsilon = guarantee.epsilons[name].reshape(before.shape(name))
        first, second = errors[dtype]
        if name in guarantee.shifted:  # both logits err, and so does their difference in float64
            by = guarantee.shifted[name]
            size = intervals[0][name].magnitude
            mine = first[name] + first[name].ravel()[by]
            mine = mine + 4 * UNIT_ROUNDOFF[double] * (size + size.ravel()[by] + mine)
            return np.asarray(epsilon + mine + second[name])
        return np.asarray(epsilon + first[name] + second[name])

    in_double = {name: allowed(name, double) for name in before.outputs}
    return in_double, {name: allowed(name, formats[name]) for name in before.outputs}


def _less(values: Array, by: int | None, whole: bool) -> Array:
    """Each coordinate of each sample (of the ``whole`` array) less the one at ``by``, in float64."""
    if by is None:
        return values
    samples = values.astype(np.float64).reshape(1 if whole else len(values), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray((samples - samples[:, by : by + 1]).reshape(values.shape))


def _format(network: Network, name: str) -> np.dtype[np.generic]:
    dtype = np.dtype(network.tensors[name].dtype)
    return dtype if dtype.kind == "f" else np.dtype(np.float32)


def _compare(expected: Array, found: Array, allowed: Array | float, where: str) -> float:
    """The largest difference; equal infinities and NaN on both sides count as no difference."""
    if expected.shape != found.shape:
        raise CheckFailed(f"output {where}: shape {found.shape} instead of {expected.shape}")
    if expected.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    same = (
        (expected == found) | (np.isnan(expected) & np.isnan(found))
        if expected.dtype.kind == "f"
        else expected == found
    )
    difference = np.where(same, 0.0, difference)
    # Fails closed: a NaN on one side only is not "<= allowed", and a new one counts even where no bound is known.
    bound = np.broadcast_to(np.asarray(allowed, dtype=np.float64), difference.shape)
    broken = np.isfinite(expected) & ~np.isfinite(found)
    wrong = np.where(np.isfinite(bound), ~(difference <= bound), broken)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise CheckFailed(
            f"output {where} differs by {difference[index]:.3g} at index {list(index[1:])}, "
            f"more than the {bound[index]:.3g} that was proved; nothing was written"
        )
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0))


def _in_runtime(
    original: Loaded,
    compressed: Loaded,
    points: Iterable[dict[str, Array]],
    allowed: Mapping[str, Array],
    shifted: Mapping[str, int],
) -> tuple[str, float | None, str]:
    """Name of the runtime, largest deviation in it (``None``: it cannot run the original), and what was left out."""
    name = runtime(original).name
    try:
        before = runtime(original).start()
    except Exception as error:
        return name, None, f"{name} cannot run the original: {_first_line(error)}"
    try:
        after = runtime(compressed).start()
    except Exception as error:
        raise _only_original(name, error) from error
    worst = 0.0
    for feed in _feeds(original.network, points):
        try:
            expected = before(feed)
        except Exception as error:
            return name, None, f"{name} cannot run the original: {_first_line(error)}"
        try:
            found = after(feed)
        except Exception as error:
            raise _only_original(name, error) from error
        whole = not original.network.batched
        wanted = {key: _less(values, shifted.get(key), whole) for key, values in expected.items()}
        worst = max(worst, _compare_all(name, wanted, found, allowed))
    return name, worst, "" if allowed else "measured only: part of the network is not modelled"


def _compare_all(
    name: str, expected: Mapping[str, Array], found: Mapping[str, Array], allowed: Mapping[str, Array]
) -> float:
    worst = 0.0
    for output, first in expected.items():
        if output not in found:
            raise CheckFailed(f"output {output!r} in {name} is missing; nothing was written")
        bound = np.broadcast_to(allowed[output], first.shape) if output in allowed else np.inf
        if first.dtype.kind in "fiub":
            worst = max(worst, _compare(first, found[output], bound, f"{output!r} in {name}"))
    return worst


def _only_original(name: str, error: Exception) -> CheckFailed:
    return CheckFailed(f"{name} runs the original but not the compressed network: {_first_line(error)}")


def _feeds(network: Network, points: Iterable[dict[str, Array]]) -> Iterator[dict[str, Array]]:
    """The points in the format of the model's inputs; without a batch axis each sample is a whole tensor."""
    for batch in points:
        with np.errstate(over="ignore"):
            cast = {name: values.astype(network.tensors[name].dtype) for name, values in batch.items()}
        if network.batched:
            yield cast
            continue
        for row in range(len(next(iter(cast.values())))):
            yield {name: values[row] for name, values in cast.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
