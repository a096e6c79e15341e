"""Optimised multipliers: the smallest dual bound over slopes and split multipliers, by projected Adam on all rows.

Source: Xu et al., "Fast and complete", ICLR 2021 (alpha-CROWN); Wang et al., "Beta-CROWN", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reluce.prove._arrays import XArray
from reluce.prove._dual import Dual, Evaluation, Multipliers


@dataclass(frozen=True)
class Descent:
    """``steps`` of Adam; ``rate`` is that of slopes, and of split multipliers in units of the mean coefficient.

    Slopes that are ``fixed`` stay as they are.
    """

    steps: int
    rate: float = 0.1
    decay: float = 0.98
    fixed: bool = False


def optimise(
    dual: Dual,
    functional: XArray,
    start: Multipliers,
    kind: Descent,
    enough: float = -float("inf"),
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Evaluation, Multipliers]:
    """Make the bounds of functionals small.

    Parameters
    ----------
    dual
        The network part.
    functional
        ``(rows, *sample shape)``.
    start
        Where the multipliers begin.
    kind
        Steps and their length.
    enough
        Stop once every bound is below this.
    stop
        Asked between steps.

    Returns
    -------
    Evaluation, Multipliers
        The best that each row has seen.
    """
    xp = dual.arrays.xp
    now = start
    best, kept = None, start
    first = second = None
    for step in range(1, kind.steps + 1 if dual.coordinates else 1):
        seen, by_alpha, by_beta = dual.gradient(functional, now)
        best, kept = _better(xp, best, kept, seen, now)
        if bool(xp.all(best.upper < enough)) or stop():
            break
        scale = xp.mean(xp.abs(seen.coefficients), axis=1, keepdims=True)
        size = xp.mean(xp.abs(by_alpha) + xp.abs(by_beta), axis=1, keepdims=True) + 1e-30
        slope = xp.concat([by_alpha / size, by_beta / size], axis=1)
        first = 0.1 * slope if first is None else 0.9 * first + 0.1 * slope
        second = 0.001 * slope**2 if second is None else 0.999 * second + 0.001 * slope**2
        move = first / (1 - 0.9**step) / (xp.sqrt(second / (1 - 0.999**step)) + 1e-8)
        rate = kind.rate * kind.decay ** (step - 1)
        half = now.alpha.shape[1]
        alpha = now.alpha if kind.fixed else xp.clip(now.alpha - rate * move[:, :half], 0.0, 1.0)
        beta = xp.clip(now.beta - rate * scale * move[:, half:], 0.0, None)
        now = Multipliers(alpha, beta, now.split)
    last = dual.evaluate(functional, now)
    best, kept = _better(xp, best, kept, last, now)
    return best, kept


def _better(
    xp: Any, best: Evaluation | None, kept: Multipliers, seen: Evaluation, now: Multipliers
) -> tuple[Evaluation, Multipliers]:
    """Row by row the better of two."""
    if best is None:
        return seen, now
    gain = seen.upper < best.upper
    row = gain[:, None]
    corners = {
        name: xp.where(xp.reshape(gain, (-1,) + (1,) * (x.ndim - 1)), x, best.corners[name])
        for name, x in seen.corners.items()
    }
    return (
        Evaluation(
            xp.where(gain, seen.upper, best.upper), xp.where(row, seen.coefficients, best.coefficients), corners
        ),
        Multipliers(xp.where(row, now.alpha, kept.alpha), xp.where(row, now.beta, kept.beta), now.split),
    )
