"""Smaller proofs of ReLU splits: fewer leaves, slopes that many leaves share, split multipliers of few digits.

Whatever is changed is evaluated rigorously; what does not prove its leaf any more is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from reluce.bounds import Interval
from reluce.network import Array, Network
from reluce.prove._dual import Multipliers
from reluce.prove._evidence import LeafProof, SlopeProof, as_slopes, in_units
from reluce.prove._leaf_tree import leaf_tree
from reluce.prove._replay import Replay
from reluce.prove._slopes import Descent, optimise

BLOCK = 512
"""Rows that are looked at together."""


@dataclass(frozen=True)
class CompactSettings:
    """What making a proof smaller may spend.

    ``merge`` is for the parent of two leaves. Shared slopes are sought ``kinds`` times at most, on ``sample`` of the
    leaves that have none yet, by ``steps``; ``fit`` is for the split multipliers that go with them. Split multipliers
    get as many significant ``bits`` as they need, slopes are multiples of one of ``grids`` units.
    """

    merge: Descent = field(default_factory=lambda: Descent(steps=60))
    kinds: int = 12
    sample: int = 256
    steps: int = 60
    fit: Descent = field(default_factory=lambda: Descent(steps=40, fixed=True))
    bits: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    grids: tuple[int, ...] = (512, 256, 64)


def compact_leaves(
    network: Network,
    intervals: Mapping[str, Interval],
    proof: LeafProof,
    settings: CompactSettings = CompactSettings(),
) -> LeafProof:
    """A smaller proof of the same.

    Parameters
    ----------
    network, intervals
        The network, and what was known of its tensors before this proof.
    proof
        Leaves that all close with these intervals.
    settings
        Budgets.

    Returns
    -------
    LeafProof
        Its leaves are those of a tree, in the order of a walk through it (where the given ones are those of a tree).
    """
    work = _Compacting(Replay(network, intervals, proof), settings)
    return work.coarse(work.shared(work.merged(proof)))


def compact_slopes(network: Network, intervals: Mapping[str, Interval], proof: SlopeProof) -> SlopeProof:
    """The same proof with slopes 0 where they do not matter, because the unit is bounded from above.

    Parameters
    ----------
    network, intervals
        The network, and what was known of its tensors before this proof.
    proof
        As the search has left it.
    """
    replay, alpha = Replay(network, intervals, proof), proof.alpha.copy()
    for start in range(0, len(alpha), BLOCK):
        some = slice(start, start + BLOCK)
        nothing = np.zeros(alpha[some].shape)
        given = proof.rows[some], proof.signs[some], nothing.astype(np.int8)
        slim = np.where(replay.coefficients(*given, alpha[some], nothing) < 0, alpha[some], 0).astype(np.uint16)
        good = replay.upper(*given, slim, nothing) <= proof.upper[some]
        alpha[some] = np.where(good[:, None], slim, alpha[some])
    return replace(proof, alpha=alpha)


class _Compacting:
    """One proof while it gets smaller (local to ``compact_leaves``)."""

    def __init__(self, replay: Replay, settings: CompactSettings) -> None:
        self.replay, self.dual, self.settings = replay, replay.dual, settings

    # Fewer leaves

    def merged(self, proof: LeafProof) -> LeafProof:
        """Put siblings together as long as some parent has multipliers that close it; then in the order of the tree."""
        proof = replace(proof, alpha=proof.alpha[proof.kind], kind=np.arange(len(proof.split)))
        tried: set[bytes] = set()
        while True:
            tree = leaf_tree(proof.split)
            if tree is None:
                return proof
            parents = proof.split[tree.first].copy()
            parents[np.arange(len(parents)), tree.coordinate] = 0
            new = np.array([row.tobytes() not in tried for row in parents], dtype=bool)
            tried.update(row.tobytes() for row in parents)
            first, second, parents = tree.first[new], tree.second[new], parents[new]
            if not len(first):
                return _taken(proof, tree.order)
            alpha = 0.5 * (as_slopes(proof.alpha[first]) + as_slopes(proof.alpha[second]))
            beta = np.where(parents == 0, 0.0, 0.5 * (proof.beta[first] + proof.beta[second]))
            units, beta, upper = self.optimised(proof, parents, alpha, beta, self.settings.merge)
            good = upper <= 0
            gone = np.concatenate([first[good], second[good]])
            kept = np.setdiff1d(np.arange(len(proof.split)), gone)
            proof = _joined(_taken(proof, kept), parents[good], units[good], beta[good], upper[good])

    def optimised(
        self, proof: LeafProof, split: Array, alpha: Array, beta: Array, kind: Descent
    ) -> tuple[Array, Array, Array]:
        """Slopes in units, split multipliers, and the rigorous bounds of leaves, from where they begin."""
        of = self.dual.arrays.of
        start = Multipliers(of(alpha), of(beta), of(split))
        _, best = optimise(self.dual, self.functionals(proof, len(split)), start, kind, -1e-6)
        units = in_units(np.where(self.dual.unstable & (split == 0), np.clip(best.alpha, 0, 1), 0.0))
        found = np.where(split == 0, 0.0, _few_bits(np.maximum(best.beta, 0).astype(np.float64), 12))
        return units, found, self.upper(proof, split, units, found)

    def upper(self, proof: LeafProof, split: Array, units: Array, beta: Array) -> Array:
        rows = np.full(len(split), proof.row)
        return self.replay.upper(rows, np.full(len(split), proof.sign), split, units, beta)

    def functionals(self, proof: LeafProof, count: int) -> Array:
        shape = self.dual.network.shape(proof.tensor)
        functional = np.zeros((count, int(np.prod(shape))), dtype=np.float32)
        functional[:, proof.row] = proof.sign
        return functional.reshape(count, *shape)

    # Shared slopes

    def shared(self, proof: LeafProof) -> LeafProof:
        """Give leaves slopes in common, a kind after the other; what no kind closes keeps its own."""
        split, beta, upper = proof.split, proof.beta.copy(), proof.upper.copy()
        kind = np.full(len(split), -1)
        kinds: list[Array] = []
        for _ in range(self.settings.kinds):
            left = np.flatnonzero(kind < 0)
            if len(left) < 2:
                break
            units = self.common(proof, left)
            rows = np.broadcast_to(as_slopes(units), (len(left), len(units)))
            _, fitted, bound = self.optimised(proof, split[left], rows, beta[left], self.settings.fit)
            bound = self.upper(proof, split[left], np.broadcast_to(units, rows.shape), fitted)
            good = bound <= 0
            if good.sum() < 2:
                break
            kind[left[good]], beta[left[good]], upper[left[good]] = len(kinds), fitted[good], bound[good]
            kinds.append(units)
        own = np.flatnonzero(kind < 0)
        kind[own] = len(kinds) + np.arange(len(own))
        alpha = np.concatenate([np.array(kinds, dtype=np.uint16).reshape(-1, split.shape[1]), proof.alpha[own]])
        return replace(proof, kind=kind, alpha=alpha, beta=beta, upper=upper)

    def common(self, proof: LeafProof, left: Array) -> Array:
        """Slopes in units that close many of some leaves, whose split multipliers move with them."""
        some = left[:: max(1, len(left) // self.settings.sample)]
        split = proof.split[some].astype(np.float32)
        free = self.dual.unstable & (split == 0)
        weight = np.maximum(free.sum(axis=0), 1)
        alpha = (np.where(free, as_slopes(proof.alpha[some]), 0.0).sum(axis=0) / weight).astype(np.float32)
        beta = proof.beta[some].astype(np.float32)
        functional = self.functionals(proof, len(some))
        first = [np.zeros_like(alpha), np.zeros_like(beta)]
        second = [np.zeros_like(alpha), np.zeros_like(beta)]
        best, most = alpha, -1
        for step in range(1, self.settings.steps + 1):
            now = Multipliers(np.broadcast_to(alpha, split.shape), beta, split)
            seen, by_alpha, by_beta = self.dual.gradient(functional, now)
            closed = int((seen.upper < 0).sum())
            if closed > most:
                best, most = alpha, closed
            if closed == len(some):
                break
            open_ = np.asarray(seen.upper > -1e-3)[:, None]
            size = np.abs(by_beta).mean(axis=1, keepdims=True) + 1e-30
            scale = np.abs(seen.coefficients).mean(axis=1, keepdims=True)
            rate = 0.1 * 0.98**step
            moved = []
            for n, slope in enumerate(((by_alpha * open_).sum(axis=0), by_beta / size)):
                slope = slope / (np.abs(slope).mean() + 1e-30)
                first[n] = 0.9 * first[n] + 0.1 * slope
                second[n] = 0.999 * second[n] + 0.001 * slope**2
                moved.append(first[n] / (1 - 0.9**step) / (np.sqrt(second[n] / (1 - 0.999**step)) + 1e-8))
            alpha = np.clip(alpha - rate * moved[0], 0, 1)
            beta = np.maximum(beta - rate * scale * moved[1], 0) * (split != 0)
        return in_units(np.where(self.dual.unstable, best, 0.0))

    # Few digits

    def coarse(self, proof: LeafProof) -> LeafProof:
        """Slopes of each kind on the coarsest grid, then split multipliers of the fewest bits, with all closed."""
        alpha, beta, upper = proof.alpha.copy(), proof.beta.copy(), proof.upper.copy()
        todo = np.ones(len(alpha), dtype=bool)
        for grid in self.settings.grids:
            tried = np.where(todo[:, None], np.minimum(np.round(alpha / grid) * grid, 4096), alpha).astype(np.uint16)
            bound = self.upper(proof, proof.split, tried[proof.kind], beta)
            failed = np.zeros(len(alpha), dtype=bool)
            failed[proof.kind[bound > 0]] = True
            good = todo & ~failed
            alpha[good] = tried[good]
            upper[good[proof.kind]] = bound[good[proof.kind]]
            todo &= ~good
        open_ = np.ones(len(beta), dtype=bool)
        for bits in self.settings.bits:
            rows = np.flatnonzero(open_)
            if not rows.size:
                break
            tried = _few_bits(beta[rows], bits)
            bound = self.upper(proof, proof.split[rows], alpha[proof.kind[rows]], tried)
            good = bound <= 0
            beta[rows[good]], upper[rows[good]] = tried[good], bound[good]
            open_[rows[good]] = False
        return replace(proof, alpha=alpha, beta=beta, upper=upper)


def _few_bits(values: Array, bits: int) -> Array:
    """Numbers >= 0 rounded to some significant bits."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(mantissa * 2**bits), exponent - bits))


def _taken(proof: LeafProof, rows: Array) -> LeafProof:
    """Some leaves of a proof whose leaves have slopes of their own."""
    alpha, kind = proof.alpha[rows], np.arange(len(rows))
    return replace(
        proof, split=proof.split[rows], kind=kind, alpha=alpha, beta=proof.beta[rows], upper=proof.upper[rows]
    )


def _joined(proof: LeafProof, split: Array, alpha: Array, beta: Array, upper: Array) -> LeafProof:
    """A proof with further leaves."""
    return replace(
        proof,
        split=np.concatenate([proof.split, split]),
        kind=np.arange(len(proof.split) + len(split)),
        alpha=np.concatenate([proof.alpha, alpha]),
        beta=np.concatenate([proof.beta, beta]),
        upper=np.concatenate([proof.upper, upper]),
    )
