"""Check a finished file against the original by running both: a net under the proofs, not a substitute for them.

Two runs on the same points of the domain (random, corners, witnesses): in float64, where outputs may differ by the
proven epsilon plus both a-priori float64 error bounds, and in onnxruntime with graph optimisation off, where they may
differ by epsilon plus both a-priori bounds of the model's own format. A model with parts that Reluce does not model is
run in onnxruntime only, and its deviation is *measured only*: there is no bound to judge it by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reluce.bounds import analyse, float_error
from reluce.domain import Box
from reluce.errors import CheckFailed
from reluce.facts import Guarantee
from reluce.io import Loaded
from reluce.network import Array, Network, evaluate

POINTS = 1024
"""Points on which both networks are run, besides the witnesses."""

WITNESSES = 1024
"""At most so many witnesses are run as well."""

BATCH = 256
"""Samples that are run at once."""


@dataclass(frozen=True)
class Check:
    """How two networks compared.

    ``float64`` and ``onnxruntime`` are the largest deviations of any output, ``None`` where that run was not possible;
    ``allowed`` is what the onnxruntime run was judged by (infinite: measured only). ``note`` says what was left out.
    """

    points: int
    float64: float | None
    onnxruntime: float | None
    allowed: float
    note: str = ""

    @property
    def largest(self) -> float:
        """The largest deviation that was seen, onnxruntime's where it ran."""
        return self.onnxruntime if self.onnxruntime is not None else (self.float64 or 0.0)

    @property
    def measured_only(self) -> bool:
        """Whether there was no bound to judge the deviation by."""
        return not np.isfinite(self.allowed)


def check(original: Loaded, compressed: Loaded, box: Box, guarantee: Guarantee, witnesses: Mapping[str, Array]) -> Check:
    """Run two networks side by side.

    Parameters
    ----------
    original, compressed
        The models as read from their bytes.
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
    points = _points(original.network, box, witnesses)
    count = len(next(iter(points.values()))) if points else 0
    modelled = not original.network.opaque
    float64 = _in_float64(original.network, compressed.network, box, guarantee, points) if modelled else None
    allowed = _allowed(original.network, compressed.network, box, guarantee) if modelled else {}
    measured, note = _in_onnxruntime(original, compressed, points, allowed)
    largest = max((float(np.max(values, initial=0.0)) for values in allowed.values()), default=np.inf)
    return Check(count, float64, measured, largest if modelled else np.inf, note)


def unchanged(original: Loaded) -> Check:
    """The check of a file that is the original byte for byte."""
    return Check(0, 0.0, 0.0, 0.0, "the output is the input, byte for byte")


def _demand_same_interface(before: Network, after: Network) -> None:
    same = before.inputs == after.inputs and before.outputs == after.outputs
    shapes = all(before.tensors[name].shape == after.tensors[name].shape for name in (*before.inputs, *before.outputs))
    if not (same and shapes):
        raise CheckFailed("the compressed network has other inputs or outputs than the original")


def _points(network: Network, box: Box, witnesses: Mapping[str, Array]) -> dict[str, Array]:
    generator = np.random.default_rng(20200218)
    parts = [box.corners(generator, POINTS // 4), box.sample(generator, POINTS - POINTS // 4)]
    if witnesses and len(next(iter(witnesses.values()))):
        parts.append({name: values[:WITNESSES] for name, values in witnesses.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in network.inputs}


def _batches(points: Mapping[str, Array], size: int) -> list[dict[str, Array]]:
    count = len(next(iter(points.values())))
    return [{name: values[i : i + size] for name, values in points.items()} for i in range(0, count, size)]


def _in_float64(
    before: Network, after: Network, box: Box, guarantee: Guarantee, points: Mapping[str, Array]
) -> float:
    first, second = (_errors(network, box, np.dtype(np.float64)) for network in (before, after))
    worst = 0.0
    for batch in _batches(points, BATCH):
        with np.errstate(over="ignore", invalid="ignore"):
            expected, found = evaluate(before, batch), evaluate(after, batch)
        for name in before.outputs:
            allowed = _shaped(guarantee, before, name) + first[name] + second[name]
            worst = max(worst, _compare(expected[name], found[name], allowed, f"{name!r} in float64"))
    return worst


def _allowed(before: Network, after: Network, box: Box, guarantee: Guarantee) -> dict[str, Array]:
    result = {}
    for name in before.outputs:
        dtype = np.dtype(before.tensors[name].dtype)
        dtype = dtype if dtype.kind == "f" else np.dtype(np.float32)
        first, second = (_errors(network, box, dtype)[name] for network in (before, after))
        result[name] = _shaped(guarantee, before, name) + first + second
    return result


def _shaped(guarantee: Guarantee, network: Network, name: str) -> Array:
    return guarantee.epsilons[name].reshape(network.shape(name))


def _errors(network: Network, box: Box, dtype: np.dtype[np.generic]) -> dict[str, Array]:
    return float_error(network, analyse(network, box, stop=lambda: True).intervals, dtype)


def _compare(expected: Array, found: Array, allowed: Array | float, where: str) -> float:
    """The largest difference; equal infinities and NaN on both sides count as no difference."""
    if expected.shape != found.shape:
        raise CheckFailed(f"output {where}: shape {found.shape} instead of {expected.shape}")
    if expected.size == 0:
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    same = (expected == found) | (np.isnan(expected) & np.isnan(found)) if expected.dtype.kind == "f" else expected == found
    difference = np.where(same, 0.0, difference)
    # Fails closed: a NaN on one side only is not "<= allowed". Without a finite bound nothing can be judged.
    bound = np.broadcast_to(np.asarray(allowed, dtype=np.float64), difference.shape)
    wrong = ~(difference <= bound) & np.isfinite(bound)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise CheckFailed(
            f"output {where} differs by {difference[index]:.3g} at index {list(index[1:])}, "
            f"more than the {bound[index]:.3g} that was proved; nothing was written"
        )
    finite = difference[np.isfinite(difference)]
    return float(finite.max(initial=0.0))


def _in_onnxruntime(
    original: Loaded, compressed: Loaded, points: Mapping[str, Array], allowed: Mapping[str, Array]
) -> tuple[float | None, str]:
    try:
        before = _session(original.data)
    except Exception as error:
        return None, f"onnxruntime cannot run the original: {_first_line(error)}"
    try:
        after = _session(compressed.data)
    except Exception as error:
        raise CheckFailed(f"onnxruntime runs the original but not the compressed network: {_first_line(error)}") from error
    network = original.network
    worst = 0.0
    for batch in _batches(points, BATCH if network.batched else 1):
        feed = _feed(network, batch)
        try:
            expected = before.run(None, feed)
        except Exception as error:
            return None, f"onnxruntime cannot run the original: {_first_line(error)}"
        found = after.run(None, feed)
        for name, first, second in zip(_output_names(before), expected, found, strict=True):
            bound: Array | float = np.inf
            if name in allowed:
                bound = np.broadcast_to(allowed[name], first.shape)
            if isinstance(first, np.ndarray) and first.dtype.kind in "fiub":
                worst = max(worst, _compare(first, second, bound, f"{name!r} in onnxruntime"))
    return worst, "" if allowed else "measured only: part of the network is not modelled"


def _session(data: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202 (onnxruntime ships no types)
    import onnxruntime  # imported late: nothing else needs it

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 0
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _output_names(session) -> list[str]:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return [output.name for output in session.get_outputs()]


def _feed(network: Network, batch: Mapping[str, Array]) -> dict[str, Array]:
    """The points in the format of the model's inputs; without a batch axis the one sample is the whole tensor."""
    feed = {}
    for name, values in batch.items():
        tensor = network.tensors[name]
        with np.errstate(over="ignore"):
            cast = values.astype(tensor.dtype)
        feed[name] = cast if network.batched else cast[0]
    return feed


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
