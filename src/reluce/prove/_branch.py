"""ReLU-split branch and bound: is a pre-activation ever positive?

A subproblem is the part of the domain where some units have a given sign (splits). Its dual bound with its own slopes and
split multipliers either has the sign that is wanted, then the subproblem is closed, or it is split once more: a few
candidates by an estimate of what splitting them is worth, one evaluation of their children each, and the pair of
children that gains most is kept (filtered branching). The worst subproblems come first, many at once.

Nothing here is believed: a subproblem counts as closed when ``bounds.linear_upper_bound`` says so for its multipliers,
rounded to few digits first so that a proof stays small and its exact replay cheap. Source: Wang et al., "Beta-CROWN",
NeurIPS 2021; De Palma et al., "Improved branch and bound for neural network verification", arXiv 2104.06718 (filtered
smart branching); FRONTIER, sections 3 and 4.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce.network import Array
from reluce.prove._dual import Dual, Multipliers
from reluce.prove._rigorous import Rigorous, rounded
from reluce.prove._slopes import Descent, optimise


@dataclass(frozen=True)
class BranchSettings:
    """What branch and bound may spend on one unit.

    ``batch`` subproblems are split at once, each by the best of ``candidates``; at most ``subproblems`` in all, and none
    once ``patience`` of them have not brought the worst bound down by a tenth of what is left.
    """

    batch: int = 32
    candidates: int = 8
    subproblems: int = 20_000
    patience: int = 4_000
    root: Descent = field(default_factory=lambda: Descent(steps=60))
    child: Descent = field(default_factory=lambda: Descent(steps=12))


@dataclass(frozen=True, eq=False)
class Leaves:
    """A finished proof: subproblems that cover the domain, each with multipliers that give it the sign.

    ``split`` (int8), ``alpha`` (multiples of 1 / SLOPES) and ``beta`` are ``(leaves, coordinates)`` over the ReLUs
    named by ``places``. Every sign of a split is met by its opposite in another leaf: they are the leaves of a tree.
    """

    places: Mapping[str, slice]
    split: Array
    alpha: Array
    beta: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class Branched:
    """What came of it: ``leaves`` if it was proved, the number of ``subproblems``, and the worst ``bound`` left."""

    leaves: Leaves | None
    subproblems: int
    bound: float


@dataclass(order=True)
class _Domain:
    """One open subproblem, worst first."""

    key: float
    number: int
    alpha: Array = field(compare=False)
    beta: Array = field(compare=False)
    split: Array = field(compare=False)


def branch(
    dual: Dual,
    functional: Array,
    settings: BranchSettings,
    found: Callable[[Mapping[str, Array]], bool] = lambda corners: False,
    stop: Callable[[], bool] = lambda: False,
) -> Branched:
    """Prove that a functional of a tensor is at most 0 on the domain.

    Parameters
    ----------
    dual
        The network in front of the tensor.
    functional
        Coefficients of the tensor, ``(*sample shape)``.
    settings
        Budgets.
    found
        Shown points of the domain where the functional may be positive; says whether to give up.
    stop
        Asked between batches.

    Returns
    -------
    Branched
        With a proof, if it was finished.
    """
    return _Branching(dual, functional, settings, found, stop).run()


class _Branching:
    def __init__(
        self,
        dual: Dual,
        functional: Array,
        settings: BranchSettings,
        found: Callable[[Mapping[str, Array]], bool],
        stop: Callable[[], bool],
    ) -> None:
        self.dual, self.settings, self.found, self.stop = dual, settings, found, stop
        self.functional = functional
        self.rigorous = Rigorous(dual)
        self.queue: list[_Domain] = []
        self.closed: list[tuple[Array, Array, Array, Array]] = []
        self.number = 0
        low, high = (np.concatenate([getattr(dual.intervals[n.inputs[0]], e).ravel() for n in dual.relus] or [np.zeros(0)])
                     for e in ("lower", "upper"))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.worth = np.where(dual.unstable, high * -low / (high - low), 0.0)

    def rows(self, count: int) -> Array:
        return self.dual.arrays.of(np.broadcast_to(self.functional, (count, *self.functional.shape)))

    def run(self) -> Branched:
        root = self.dual.start(1)
        if self._solve(root, self.settings.root, np.array([np.inf])):
            return self._result()
        mark, at = -self.queue[0].key if self.queue else 0.0, 0
        while self.queue and self.number < self.settings.subproblems and not self.stop():
            batch = [heapq.heappop(self.queue) for _ in range(min(self.settings.batch, len(self.queue)))]
            children = self._children(batch)
            if children is None:
                break
            if self._solve(children, self.settings.child, np.repeat([-domain.key for domain in batch], 2)):
                break
            worst = -self.queue[0].key if self.queue else 0.0
            if worst < 0.9 * mark:
                mark, at = worst, self.number
            if self.number - at > self.settings.patience:
                break
        return self._result()

    def _result(self) -> Branched:
        bound = -self.queue[0].key if self.queue else 0.0
        if self.queue or self.lost:
            return Branched(None, self.number, bound)
        split, alpha, beta, upper = (np.concatenate(parts) for parts in zip(*self.closed, strict=True))
        return Branched(Leaves(self.dual.places, split, alpha, beta, upper), self.number, bound)

    lost = False

    def _solve(self, start: Multipliers, kind: Descent, parents: Array) -> bool:
        """Bound subproblems, close or queue them; whether a witness was found."""
        count = len(parents)
        seen, best = optimise(self.dual, self.rows(count), start, kind, enough=-1e-12)
        upper = np.minimum(self.dual.arrays.numpy(seen.upper).astype(np.float64), parents)
        self.number += count
        split, alpha, beta = rounded(best, self.dual)
        rows = np.flatnonzero(upper < 0)
        if rows.size:
            functional = np.broadcast_to(self.functional, (len(rows), *self.functional.shape))
            proved = self.rigorous.upper(functional, split[rows], alpha[rows], beta[rows])
            done = rows[proved <= 0]
            self.closed.append((split[done], alpha[done], beta[done], proved[proved <= 0]))
        else:
            done = rows
        open_ = np.setdiff1d(np.arange(count), done)
        if not open_.size:
            return False
        corners = {name: self.dual.arrays.numpy(x)[open_].astype(np.float64) for name, x in seen.corners.items()}
        if self.found(corners):
            self.lost = True
            return True
        for row in open_:
            self.count += 1
            domain = _Domain(-max(upper[row], 0.0), self.count, alpha[row].astype(np.float32), beta[row].astype(np.float32), split[row])
            heapq.heappush(self.queue, domain)
        return False

    count = 0

    def _stacked(self, batch: list[_Domain], repeats: int = 1) -> tuple[Array, Array, Array]:
        return tuple(np.repeat(np.stack([getattr(d, name) for d in batch]), repeats, axis=0) for name in ("alpha", "beta", "split"))

    def _upload(self, alpha: Array, beta: Array, split: Array) -> Multipliers:
        of = self.dual.arrays.of
        return Multipliers(of(alpha), of(beta), of(split))

    def _children(self, batch: list[_Domain]) -> Multipliers | None:
        """Both children of each subproblem at the candidate whose children gain most."""
        many = self.settings.candidates
        alpha, beta, split = self._stacked(batch)
        seen = self.dual.evaluate(self.rows(len(batch)), self._upload(alpha, beta, split))
        A = self.dual.arrays.numpy(seen.coefficients)
        score = np.where(split == 0, (np.maximum(A, 0) + 0.5 * np.maximum(-A, 0)) * self.worth, 0.0)
        top = np.argpartition(-score, min(many, score.shape[1]) - 1, axis=1)[:, :many]
        many = top.shape[1]
        if (np.take_along_axis(score, top, 1).max(axis=1) <= 0).any():
            self.lost = True
            return None
        sizes = np.take_along_axis(np.maximum(-A, 0), top, 1)  # what a child needs not to be worse than its parent
        kept = np.take_along_axis(alpha, top, 1)
        warm = np.stack([sizes * (1 - kept), sizes * kept], axis=2)  # (batch, candidates, sign)
        alpha, beta, split = self._stacked(batch, 4 * many)
        rows, places = np.arange(len(split)), np.repeat(top.ravel(), 4)
        usable = np.take_along_axis(score, top, 1) > 0
        split[rows, places] = np.where(split[rows, places] == 0, np.tile([1, 1, -1, -1], len(batch) * many), split[rows, places])
        beta[rows, places] = np.where(np.repeat(usable.ravel(), 4), np.stack([0 * warm, warm], axis=3).ravel(), beta[rows, places])
        upper = self.dual.arrays.numpy(self.dual.evaluate(self.rows(len(rows)), self._upload(alpha, beta, split)).upper)
        upper = upper.reshape(len(batch), many, 2, 2)
        parent = np.array([-domain.key for domain in batch])[:, None, None]
        gain = np.maximum(parent - np.maximum(upper.min(axis=3), 0), 1e-6 * parent)
        pick = np.where(usable, gain.prod(axis=2), 0.0).argmax(axis=1)
        best = np.take_along_axis(upper.argmin(axis=3), pick[:, None, None], 1)[:, 0]  # (batch, sign)
        chosen = (((np.arange(len(batch)) * many + pick)[:, None] * 2 + np.arange(2)) * 2 + best).ravel()
        return self._upload(alpha[chosen], beta[chosen], split[chosen])
