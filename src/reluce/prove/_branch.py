"""ReLU-split branch and bound: proof that a pre-activation never has a sign.

A subproblem is the part of the domain where some units have given signs (splits). Its dual bound with its own slopes
and split multipliers either has the sign that is wanted, then the subproblem is closed, or it is split once more: a few
candidates by an estimate of what splitting them is worth, one evaluation of their children each, and the pair of
children that gains most is kept (filtered branching). Units with A > 0 come first in that estimate: a split of the
others starts out with no gain at all (below). The worst subproblems come first, many at once.

A child starts with the multiplier that makes it no worse than its parent: where the parent used ``h >= alpha z``
(coefficient A < 0), the child z >= 0 has ``A z + beta z`` with ``beta = |A| (1 - alpha)``, and the child z <= 0 has
``-beta z`` with ``beta = |A| alpha``.

Nothing here is believed: a subproblem counts as closed when ``bounds.linear_upper_bound`` says so for its multipliers,
rounded to few digits. Source: Wang et al., "Beta-CROWN", NeurIPS 2021; De Palma et al., "Improved branch and bound for
neural network verification", arXiv 2104.06718 (filtered smart branching); FRONTIER, sections 3 and 4.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce.network import Array
from reluce.prove._arrays import XArray
from reluce.prove._dual import Dual, Multipliers
from reluce.prove._rigorous import Rigorous, rounded
from reluce.prove._slopes import Descent, optimise

Found = Callable[[Mapping[str, Array]], bool]


@dataclass(frozen=True)
class BranchSettings:
    """What branch and bound may spend on one unit.

    ``batch`` subproblems are split at once, each by the best of ``candidates``; at most ``subproblems`` in all, none
    more once ``patience`` of them have not brought the worst bound down by a tenth. ``last`` is for subproblems in
    which nothing is left to split.
    """

    batch: int = 32
    candidates: int = 8
    subproblems: int = 40_000
    patience: int = 2_000
    root: Descent = field(default_factory=lambda: Descent(steps=60))
    child: Descent = field(default_factory=lambda: Descent(steps=16))
    last: Descent = field(default_factory=lambda: Descent(steps=300, rate=0.3, decay=0.99))


@dataclass(frozen=True, eq=False)
class Leaves:
    """A finished proof: subproblems that cover the domain, each with multipliers that give it the sign.

    ``split`` (int8), ``alpha`` (multiples of 1 / SLOPES) and ``beta`` are ``(leaves, coordinates)`` over the ReLUs
    named by ``places``; ``upper`` are the bounds. They are the leaves of a binary tree of splits.
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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Subproblems on the host, a row each, with the bounds that are known of them."""

    split: Array
    alpha: Array
    beta: Array
    upper: Array

    def take(self, rows: Array) -> _Rows:
        return _Rows(self.split[rows], self.alpha[rows], self.beta[rows], self.upper[rows])

    @staticmethod
    def joined(parts: list[_Rows]) -> _Rows:
        return _Rows(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in ("split", "alpha", "beta", "upper"))
        )


def branch(
    dual: Dual,
    functional: Array,
    settings: BranchSettings,
    found: Found = lambda corners: False,
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
    """The queue of open subproblems and the closed ones (local to ``branch``)."""

    def __init__(
        self, dual: Dual, functional: Array, settings: BranchSettings, found: Found, stop: Callable[[], bool]
    ) -> None:
        self.dual, self.functional, self.settings, self.found, self.stop = dual, functional, settings, found, stop
        self.rigorous = Rigorous(dual)
        self.queue: list[tuple[float, int, _Rows]] = []  # worst first; the number only breaks ties
        self.closed: list[_Rows] = []
        self.subproblems = self.queued = 0
        self.given_up = False

    @property
    def worst(self) -> float:
        return -self.queue[0][0] if self.queue else 0.0

    def run(self) -> Branched:
        self._queue(self._solve(self.dual.start(1), self.settings.root, np.array([np.inf])))
        mark, since = self.worst, 0
        while self.queue and not self.given_up and self.subproblems < self.settings.subproblems and not self.stop():
            batch = [heapq.heappop(self.queue)[2] for _ in range(min(self.settings.batch, len(self.queue)))]
            self._split(_Rows.joined(batch))
            if self.worst < 0.9 * mark:
                mark, since = self.worst, self.subproblems
            if self.subproblems - since > self.settings.patience:
                break
        if self.queue or self.given_up:
            return Branched(None, self.subproblems, self.worst)
        done = _Rows.joined(self.closed)
        leaves = Leaves(self.dual.places, done.split, done.alpha, done.beta, done.upper)
        return Branched(leaves, self.subproblems, 0.0)

    def _solve(self, start: Multipliers, kind: Descent, parents: Array) -> _Rows:
        """Bound subproblems, close those that have the sign, and return the others."""
        count = len(parents)
        seen, best = optimise(self.dual, self._functionals(count), start, kind, 0.0, self.stop)
        hints = np.minimum(self.dual.arrays.numpy(seen.upper).astype(np.float64), parents)
        rows = _Rows(*rounded(best, self.dual), hints)
        self.subproblems += count
        sure = np.flatnonzero(hints < 0)
        open_ = np.ones(count, dtype=bool)
        if sure.size:
            some = rows.take(sure)
            functionals = np.broadcast_to(self.functional, (len(sure), *self.functional.shape))
            proved = self.rigorous.upper(functionals, some.split, some.alpha, some.beta)
            open_[sure[proved <= 0]] = False
            self.closed.append(_Rows(some.split, some.alpha, some.beta, proved).take(proved <= 0))
        if open_.any():
            corners = {name: self.dual.arrays.numpy(x)[open_].astype(np.float64) for name, x in seen.corners.items()}
            self.given_up = self.given_up or self.found(corners)
        return rows.take(open_)

    def _queue(self, rows: _Rows) -> None:
        for row in range(len(rows.upper)):
            one = rows.take(np.array([row]))
            self.queued += 1
            heapq.heappush(self.queue, (-max(float(one.upper[0]), 0.0), self.queued, one))

    def _functionals(self, count: int) -> XArray:
        return self.dual.arrays.of(np.broadcast_to(self.functional, (count, *self.functional.shape)))

    def _upload(self, rows: _Rows) -> Multipliers:
        of = self.dual.arrays.of
        return Multipliers(of(rows.alpha), of(rows.beta), of(rows.split))

    def _split(self, batch: _Rows) -> None:
        """Replace subproblems by their children; where nothing is left to split, try once more for longer."""
        seen = self.dual.evaluate(self._functionals(len(batch.upper)), self._upload(batch))
        A = self.dual.arrays.numpy(seen.coefficients)
        worth = np.where(batch.split == 0, (np.maximum(A, 0) + 0.1 * np.maximum(-A, 0)) * self.dual.worth, 0.0)
        whole = np.asarray(~(worth > 0).any(axis=1))
        if whole.any():
            some = batch.take(whole)
            self.given_up = len(self._solve(self._upload(some), self.settings.last, some.upper).upper) > 0
        if not whole.all():
            batch, A, worth = batch.take(~whole), A[~whole], worth[~whole]
            children = self._children(batch, A, worth)
            parents = np.repeat(batch.upper, 2)
            self._queue(self._solve(self._upload(children), self.settings.child, parents))

    def _children(self, batch: _Rows, A: Array, worth: Array) -> _Rows:
        """Both children of each subproblem at the candidate whose children gain most."""
        count, many = len(batch.upper), min(self.settings.candidates, worth.shape[1])
        places = np.argpartition(-worth, many - 1, axis=1)[:, :many]
        size, slope, worth = (np.take_along_axis(x, places, 1) for x in (np.maximum(-A, 0), batch.alpha, worth))
        # Each candidate, each sign, with beta 0 and with the beta that makes it no worse than its parent.
        warm = np.stack([size * (1 - slope), size * slope], axis=2)
        tried = batch.take(np.repeat(np.arange(count), 4 * many))
        rows, where = np.arange(4 * many * count), np.repeat(places.ravel(), 4)
        usable = np.repeat(worth.ravel() > 0, 4)
        split, beta = tried.split.copy(), tried.beta.copy()
        split[rows[usable], where[usable]] = np.tile([1, 1, -1, -1], count * many)[usable]
        beta[rows[usable], where[usable]] = np.stack([0 * warm, warm], axis=3).ravel()[usable]
        tried = _Rows(split, tried.alpha, beta, tried.upper)
        upper = self.dual.arrays.numpy(self.dual.evaluate(self._functionals(len(rows)), self._upload(tried)).upper)
        upper = upper.reshape(count, many, 2, 2)
        parent = batch.upper[:, None, None]
        gain = np.maximum(parent - np.maximum(upper.min(axis=3), 0), 1e-6 * parent)
        pick = np.where(worth > 0, gain.prod(axis=2), -1.0).argmax(axis=1)
        beta_pick = np.take_along_axis(upper.argmin(axis=3), pick[:, None, None], 1)[:, 0]  # (count, sign)
        base = (np.arange(count) * many + pick)[:, None] * 2 + np.arange(2)
        return tried.take((base * 2 + beta_pick).ravel())
