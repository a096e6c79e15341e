"""Compact proofs still prove the same with fewer digits; leaves cover the domain or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, box_of, chain, networks

from reluce.bounds import Bounds, Interval, analyse
from reluce.domain import Box
from reluce.network import Array, Network
from reluce.prove import BranchSettings, LeafProof, SlopeProof, compact
from reluce.prove._alpha import unstable_ends, upper_bounds
from reluce.prove._arrays import Arrays
from reluce.prove._branch import branch
from reluce.prove._dual import Dual
from reluce.prove._records import leaf_proof
from reluce.prove._replay import leaf_bounds, slope_bounds
from reluce.prove._slopes import Descent
from reluce_checker._facts import covers

RANDOM = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def random_tree(generator: np.random.Generator, coordinates: int) -> Array:
    """Leaves, in random order, of a tree that asks for coordinates at random."""
    leaves, waiting = [], [np.zeros(coordinates, dtype=np.int8)]
    while waiting:
        leaf = waiting.pop()
        free = np.flatnonzero(leaf == 0)
        if not free.size or generator.random() < 0.4:
            leaves.append(leaf)
            continue
        chosen = generator.choice(free)
        for sign in (1, -1):
            child = leaf.copy()
            child[chosen] = sign
            waiting.append(child)
    return generator.permutation(np.array(leaves), axis=0)


def truly_covers(split: Array) -> bool:
    """Every choice of signs, one by one."""
    choices = product((1, -1), repeat=split.shape[1])
    return all((split * np.array(choice, dtype=np.int8) >= 0).all(axis=1).any() for choice in choices)


@given(RANDOM, st.integers(0, 5))
def test_trees_are_recognised(generator: np.random.Generator, coordinates: int) -> None:
    """Leaves that are there twice do no harm."""
    split = random_tree(generator, coordinates)
    assert truly_covers(split)
    assert covers(split)
    assert covers(np.concatenate([split, split[generator.integers(len(split), size=2)]]))


@given(RANDOM, st.integers(1, 5))
def test_holes_are_seen(generator: np.random.Generator, coordinates: int) -> None:
    """Other leaves that are there twice do not stop them."""
    split = random_tree(generator, coordinates)
    lost = generator.integers(len(split))
    hole = np.delete(split, lost, axis=0)
    assert not covers(hole)
    assert not covers(np.concatenate([hole, hole]))
    if split[lost].any():
        turned = split.copy()
        turned[lost, generator.choice(np.flatnonzero(split[lost]))] *= -1
        assert not covers(turned)


@given(RANDOM, st.integers(0, 4), st.integers(0, 8))
def test_what_covers_is_no_claim_too_much(generator: np.random.Generator, coordinates: int, leaves: int) -> None:
    """Of leaves of no tree, too."""
    split = generator.choice(np.array([0, 1, -1], dtype=np.int8), (leaves, coordinates))
    assert truly_covers(split) or not covers(split)


def hard(generator: np.random.Generator, units: int = 6) -> Case:
    """A network whose last ReLU has bounds that are too loose: there, slopes and splits have something to prove."""
    box = box_of((-1, 1), (-1, 1), (-1, 1))
    (W, b), (V, c) = ((generator.normal(size=(units, n)), generator.normal(size=units) / 2) for n in (3, units))
    reached = np.maximum(generator.uniform(-1, 1, (4096, 3)) @ W.T + b, 0) @ V.T
    room = generator.choice([0.05, 0.1, 0.2], units) * np.ptp(reached, axis=0)
    c = np.where(generator.random(units) < 0.8, -reached.max(axis=0) - room, c)
    return chain((W, b), (V, c), ([[1.0] * units], None), box=box), box


def proofs(network: Network, box: Box) -> list[tuple[Bounds, LeafProof]]:
    """Finished branch and bound on each open end, with crude slopes so that it takes splits."""
    bounds, found = analyse(network, box), []
    crude = BranchSettings(root=Descent(steps=1), child=Descent(steps=1), subproblems=300)
    for node in network.relus:
        z = bounds.intervals[node.inputs[0]]
        dual = Dual(network, node.inputs[0], bounds.intervals, Arrays())
        for row, sign in zip(*unstable_ends(z), strict=True):
            functional = np.zeros(z.lower.size)
            functional[row] = sign
            with np.errstate(all="ignore"):  # hints may overflow
                outcome = branch(dual, functional.reshape(z.lower.shape), crude)
            if outcome.leaves is not None:
                found.append((bounds, leaf_proof(outcome.leaves, dual, int(row), sign)))
    return found


def holds(network: Network, intervals: Mapping[str, Interval], proof: LeafProof) -> bool:
    return covers(proof.split) and bool((leaf_bounds(network, intervals, proof) <= 0).all())


def compacted(network: Network, intervals: Mapping[str, Interval], proof: LeafProof) -> LeafProof:
    small = compact(network, intervals, proof)
    assert isinstance(small, LeafProof)
    return small


def digits(numbers: Array) -> Array:
    """How many binary digits each number has, without the zeros in front and behind."""
    mantissa = (np.frexp(numbers.astype(np.float64))[0] * 2.0**53).astype(np.int64)
    lowest = mantissa & -mantissa
    return np.where(mantissa == 0, 0, 54 - np.frexp(lowest.astype(np.float64))[1])


def test_digits() -> None:
    assert digits(np.array([0.0, 1.0, 0.25, 3.0, 5.0, 4096.0, 4095.0, 0.1])).tolist() == [0, 1, 1, 2, 3, 1, 12, 52]


@given(RANDOM)
@settings(deadline=None, max_examples=12)
def test_compact_leaves_prove_the_same(generator: np.random.Generator) -> None:
    """They are never larger, either."""
    network, box = hard(generator)
    for bounds, proof in proofs(network, box):
        small = compacted(network, bounds.intervals, proof)
        assert holds(network, bounds.intervals, small)
        assert (small.upper <= 0).all()
        assert (small.tensor, small.row, small.sign) == (proof.tensor, proof.row, proof.sign)
        assert small.places == proof.places
        assert np.array_equal(small.split, proof.split)
        assert np.array_equal(small.above, proof.above)
        assert small.alpha.dtype == np.uint16
        assert small.alpha.max(initial=0) <= 4096
        assert (small.beta >= 0).all()
        assert not small.beta[small.split == 0].any()
        assert len(small.alpha) <= len(proof.alpha)
        assert len(small.split) == len(small.kind) == len(small.beta) == len(small.upper)
        assert (digits(small.alpha[small.kind]) <= digits(proof.alpha[proof.kind])).all()
        assert (digits(small.beta) <= digits(proof.beta)).all()


def test_fewer_slopes_and_digits() -> None:
    """The twins claim the other sign, or leave the splits out."""
    network, box = hard(np.random.default_rng(3))
    found = [(bounds, proof) for bounds, proof in proofs(network, box) if len(proof.split) > 4]
    assert found
    for bounds, proof in found:
        small = compacted(network, bounds.intervals, proof)
        assert holds(network, bounds.intervals, small)
        assert len(small.alpha) < len(proof.alpha)
        assert 2 * digits(small.alpha[small.kind]).sum() < digits(proof.alpha[proof.kind]).sum()
        assert 2 * digits(small.beta).sum() < digits(proof.beta).sum()
        assert not holds(network, bounds.intervals, replace(small, sign=-small.sign))
        assert not holds(network, bounds.intervals, replace(small, split=0 * small.split, beta=0 * small.beta))


def test_what_has_a_hole_keeps_it() -> None:
    network, box = hard(np.random.default_rng(3))
    bounds, proof = max(proofs(network, box), key=lambda pair: len(pair[1].split))
    hole = replace(proof, split=proof.split[1:], kind=proof.kind[1:], beta=proof.beta[1:], upper=proof.upper[1:])
    assert not holds(network, bounds.intervals, compacted(network, bounds.intervals, hole))


def test_leaves_that_prove_nothing_stay() -> None:
    """Whatever is rounded has to prove its leaf: a false claim is not made true, and loses no digit."""
    network, box = hard(np.random.default_rng(3))
    bounds, proof = max(proofs(network, box), key=lambda pair: len(pair[1].split))
    false = replace(proof, sign=-proof.sign)
    small = compacted(network, bounds.intervals, false)
    open_ = leaf_bounds(network, bounds.intervals, small) > 0
    assert open_.any()
    assert np.array_equal(small.alpha[small.kind][open_], false.alpha[false.kind][open_])
    assert np.array_equal(small.beta[open_], false.beta[open_])


@given(networks(units=6) | RANDOM.map(hard))
@settings(deadline=None, max_examples=40)
def test_compact_slopes_prove_the_same(case: Case) -> None:
    network, box = case
    bounds = analyse(network, box)
    for node in network.relus:
        z = bounds.intervals[node.inputs[0]]
        dual = Dual(network, node.inputs[0], bounds.intervals, Arrays())
        proof = upper_bounds(dual, *unstable_ends(z), Descent(steps=20))
        ends = np.where(proof.signs > 0, z.upper.ravel()[proof.rows], -z.lower.ravel()[proof.rows])
        assert (proof.upper < ends).all(), "only what is better than the interval is kept"
        small = compact(network, bounds.intervals, proof)
        assert isinstance(small, SlopeProof)
        assert (slope_bounds(network, bounds.intervals, small) <= proof.upper).all()
        assert all(np.array_equal(mine, given) for mine, given in zip(small.claims, proof.claims, strict=True))
        assert ((small.alpha == proof.alpha) | (small.alpha == 0)).all()
