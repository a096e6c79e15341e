"""Smaller proofs still prove the same; leaves are those of a tree or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, box_of, chain, networks

from reluce.bounds import Bounds, Interval, analyse
from reluce.domain import Box
from reluce.network import Array, Network
from reluce.prove import BranchSettings, LeafProof
from reluce.prove._alpha import unstable_ends, upper_bounds
from reluce.prove._arrays import Arrays
from reluce.prove._branch import branch
from reluce.prove._compact import CompactSettings, compact_leaves, compact_slopes
from reluce.prove._dual import Dual
from reluce.prove._leaf_tree import leaf_tree
from reluce.prove._records import leaf_proof
from reluce.prove._replay import leaf_bounds, slope_bounds
from reluce.prove._slopes import Descent

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


@given(RANDOM, st.integers(0, 5))
def test_trees_are_recognised(generator: np.random.Generator, coordinates: int) -> None:
    split = random_tree(generator, coordinates)
    tree = leaf_tree(split)
    assert tree is not None
    assert sorted(tree.order) == list(range(len(split)))
    for first, second, coordinate in zip(tree.first, tree.second, tree.coordinate, strict=True):
        assert split[first, coordinate] == 1
        assert np.array_equal(np.flatnonzero(split[first] - split[second]), [coordinate])
        parent = split[[first]].copy()
        parent[0, coordinate] = 0
        assert leaf_tree(np.concatenate([np.delete(split, [first, second], axis=0), parent])) is not None


@given(RANDOM, st.integers(1, 5))
def test_holes_are_seen(generator: np.random.Generator, coordinates: int) -> None:
    split = random_tree(generator, coordinates)
    lost = generator.integers(len(split))
    assert leaf_tree(np.delete(split, lost, axis=0)) is None
    assert leaf_tree(np.concatenate([split, split[[lost]]])) is None
    if split[lost].any():
        turned = split.copy()
        turned[lost, np.flatnonzero(split[lost])[0]] *= -1
        assert leaf_tree(turned) is None


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
            outcome = branch(dual, functional.reshape(z.lower.shape), crude)
            if outcome.leaves is not None:
                found.append((bounds, leaf_proof(outcome.leaves, dual, int(row), sign)))
    return found


def holds(network: Network, intervals: Mapping[str, Interval], proof: LeafProof) -> bool:
    return leaf_tree(proof.split) is not None and bool((leaf_bounds(network, intervals, proof) <= 0).all())


@given(networks(units=6))
@settings(deadline=None, max_examples=40)
def test_compact_leaves_prove_the_same(case: Case) -> None:
    network, box = case
    for bounds, proof in proofs(network, box):
        small = compact_leaves(network, bounds.intervals, proof)
        assert holds(network, bounds.intervals, small)
        assert (small.tensor, small.row, small.sign) == (proof.tensor, proof.row, proof.sign)
        assert len(small.split) <= len(proof.split)
        assert len(small.alpha) <= len(small.split) == len(small.kind) == len(small.beta)
        assert small.alpha.dtype == np.uint16
        assert (small.beta >= 0).all()
        assert not small.beta[small.split == 0].any()


def hard() -> tuple[Network, Box]:
    """A network of which splitting ReLUs has something to prove."""
    generator = np.random.default_rng(1)
    box = box_of((-1, 1), (-1, 1), (-1, 1))
    first, second = ((generator.normal(size=(10, n)), generator.normal(size=10) / 2) for n in (3, 10))
    return chain(first, (second[0], second[1] - 4.0), ([[1.0] * 10], None), box=box), box


def test_fewer_leaves_and_slopes() -> None:
    """The twins claim the other sign, or leave the splits out."""
    network, box = hard()
    found = [(bounds, proof) for bounds, proof in proofs(network, box) if len(proof.split) > 4]
    assert found
    for bounds, proof in found:
        small = compact_leaves(network, bounds.intervals, proof)
        tree = leaf_tree(small.split)
        assert tree is not None
        assert np.array_equal(tree.order, np.arange(len(small.split)))
        assert len(small.alpha) < len(proof.alpha)
        assert len(small.split) < len(proof.split)
        assert not holds(network, bounds.intervals, replace(small, sign=-small.sign))
        assert not holds(network, bounds.intervals, replace(small, split=0 * small.split, beta=0 * small.beta))


def test_without_budget_it_is_only_sorted() -> None:
    network, box = hard()
    poor = CompactSettings(merge=Descent(steps=0), kinds=0, bits=(), grids=())
    for bounds, proof in proofs(network, box):
        small = compact_leaves(network, bounds.intervals, proof, poor)
        assert holds(network, bounds.intervals, small)
        assert len(small.alpha) == len(small.split)


def test_what_has_a_hole_keeps_it() -> None:
    network, box = hard()
    bounds, proof = max(proofs(network, box), key=lambda pair: len(pair[1].split))
    hole = replace(proof, split=proof.split[1:], kind=proof.kind[1:], beta=proof.beta[1:], upper=proof.upper[1:])
    assert not holds(network, bounds.intervals, compact_leaves(network, bounds.intervals, hole))


@given(networks(units=6))
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
        small = compact_slopes(network, bounds.intervals, proof)
        assert (slope_bounds(network, bounds.intervals, small) <= proof.upper).all()
        assert ((small.alpha == proof.alpha) | (small.alpha == 0)).all()
