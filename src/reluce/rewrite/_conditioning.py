"""What float arithmetic does to a rewritten network: a rule for rewrites, and information for the report.

A rewrite may not raise the a-priori evaluation error e_L of an output (``bounds.float_error``, in the output's own
format, any summation order) above twice the original's: merges with large factors would cancel on paper only. Tensors
of the rewritten network lie within their deviation d of the original's proven intervals, so e_L costs one pass over the
weights. An original whose error has no bound allows anything.

A deleted inactive unit is *float safe* when it cannot fire in its own format either, in any summation order and with
anything flushed to zero: U + e <= 0 for its proven upper bound U and its error e (which is infinite where a partial sum
may overflow). A row of zeros is computed as its bias. Source: SOUNDNESS 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reluce.bounds import Interval, float_error
from reluce.facts import FloatErrors
from reluce.network import Array, Dense, Network, Node, Relu
from reluce.rewrite._state import Original, Rewritten
from reluce.rounding import UNIT_ROUNDOFF, down, up

WORST_GROWTH = 2.0
"""How many times the original's evaluation error an output's may become."""


def evaluation_errors(network: Network, intervals: Mapping[str, Interval]) -> dict[str, Array]:
    """The a-priori evaluation error of each output in its own format, flat; infinite where nothing is known."""
    formats = {name: _format(network, name) for name in network.outputs}
    found = {dtype: float_error(network, intervals, dtype) for dtype in set(formats.values())}
    return {
        name: found[dtype][name].ravel() if name in found[dtype] else np.array([np.inf])
        for name, dtype in formats.items()
    }


def enclosures(original: Original, state: Rewritten, deviations: Mapping[str, Array]) -> dict[str, Interval]:
    """Intervals of the rewritten network's tensors: the original's where they remain, widened by what they deviate."""
    found = {}
    for name in state.network.tensors:
        box = state.interval(original, name)
        if box is None:
            continue
        low, high, d = box.lower, box.upper, deviations[name].reshape(box.lower.shape)
        with np.errstate(invalid="ignore"):
            found[name] = Interval(np.where(d == 0, low, down(low - d)), np.where(d == 0, high, up(high + d)))
    return found


def ill_conditioned(before: Mapping[str, Array], after: Mapping[str, Array]) -> str | None:
    """Why a rewrite is refused whose evaluation errors are ``after`` instead of ``before``; None where it is not."""
    for name, errors in after.items():
        if not (errors <= WORST_GROWTH * before[name]).all():
            return (
                f"float evaluation of output {name!r} would lose accuracy: its a-priori error would grow "
                f"from {before[name].max():.3g} to {errors.max():.3g}, to more than {WORST_GROWTH:g} times, somewhere"
            )
    return None


def float_errors(
    original: Original, kept: Mapping[str, Array], before: Mapping[str, Array], after: Mapping[str, Array]
) -> FloatErrors:
    """Evaluation errors of both networks, and which deleted inactive units are safe in floats.

    Parameters
    ----------
    original
        What is known about the original.
    kept
        For each ReLU by node name the units that remain.
    before, after
        Evaluation errors of the outputs, as ``evaluation_errors`` gives them.
    """
    network, deleted, shown = original.network, 0, 0
    errors: dict[np.dtype[np.generic], dict[str, Array]] = {}
    for node in network.relus:
        if (
            node.output not in original.bounds.intervals
            or len(kept[node.name]) == original.facts.layers[node.name].units
        ):
            continue
        dtype = _format(network, node.inputs[0])
        if dtype not in errors:
            errors[dtype] = float_error(network, original.bounds.intervals, dtype)
        inactive, safe = _inactive_and_safe(original, node, errors[dtype])
        gone = np.ones(len(inactive), dtype=bool)
        gone[kept[node.name][kept[node.name] >= 0]] = False
        deleted += int((gone & inactive).sum())
        shown += int((gone & inactive & safe).sum())
    return FloatErrors(before, after, deleted, deleted - shown)


def _inactive_and_safe(original: Original, node: Node, errors: Mapping[str, Array]) -> tuple[Array, Array]:
    """Per unit: never positive over the reals, and never positive in floats, at any position."""
    z = node.inputs[0]
    upper, error = original.bounds.intervals[z].upper, errors[z]
    safe = (upper <= -error) | ((upper <= 0) & _plain_bias(original.network, z, errors))
    facts = original.facts.layers[node.name]
    return _by_unit(upper <= 0, node, facts.units), _by_unit(safe, node, facts.units)


def _plain_bias(network: Network, z: str, errors: Mapping[str, Array]) -> Array:
    """Coordinates that any order of summation computes as their bias: rows of zeros that read finite numbers."""
    producer = network.producer.get(z)
    if producer is None or not isinstance(producer.op, Dense) or (producer.op.alpha, producer.op.beta) != (1.0, 1.0):
        return np.zeros(network.shape(z), dtype=bool)
    finite = bool(np.isfinite(errors[producer.inputs[0]]).all())
    return np.broadcast_to(finite & ~producer.op.weight.any(axis=1), network.shape(z))


def _by_unit(values: Array, node: Node, units: int) -> Array:
    assert isinstance(node.op, Relu)
    return np.asarray(np.moveaxis(values, node.op.axis, -1).reshape(-1, units).all(axis=0))


def _format(network: Network, name: str) -> np.dtype[np.generic]:
    dtype = np.dtype(network.tensors[name].dtype)
    return dtype if dtype in UNIT_ROUNDOFF else np.dtype(np.float32)
