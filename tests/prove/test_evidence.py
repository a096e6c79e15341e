"""Evidence: each record follows from what it holds and from what was known before it, and forged ones do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import ranges
from strategies import Case, box_of, chain, networks

from reluce.bounds import Bounds, Engine, Rows, analyse, holds_exactly, layered
from reluce.domain import Box
from reluce.network import Array, Network
from reluce.prove import (
    BoxProof,
    ClosingSettings,
    Evidence,
    LeafProof,
    Proof,
    ProverSettings,
    Record,
    SlopeProof,
    SplitSettings,
    compact,
    followed,
    prove,
)
from reluce.prove._replay import leaf_bounds, slope_bounds
from reluce.prove._slopes import Descent
from reluce.prove._split_tree import LEAF, halves_at
from reluce_checker._facts import covers

BOX = box_of((-1, 1), (-1, 1))
NEEDS_SPLITS = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)
NO_BOXES = SplitSettings(most_inputs=0)
RELUS = ClosingSettings(split=NO_BOXES, last_split=NO_BOXES)
RELUS_ALONE = replace(RELUS, slopes=Descent(steps=0), tighten=Descent(steps=0))


def proof_of(network: Network, box: Box, closing: ClosingSettings) -> Proof:
    return prove(network, box, settings=ProverSettings(closing=closing))


def before(network: Network, box: Box, evidence: Evidence) -> list[tuple[Record, Bounds]]:
    """Each record with the bounds that follow from those in front of it."""
    *known, _ = followed(network, box, evidence.records)
    return list(zip(evidence.records, known, strict=True))


def smaller(network: Network, box: Box, evidence: Evidence) -> Evidence:
    """The same evidence, each record with as few digits as it needs."""
    return Evidence(
        tuple(compact(network, bounds.intervals, record) for record, bounds in before(network, box, evidence))
    )


def holds(network: Network, box: Box, record: Record, bounds: Bounds) -> bool:
    """Whether a record proves what it claims."""
    if isinstance(record, SlopeProof):
        found = slope_bounds(network, bounds.intervals, record)
        return bool((found <= record.upper + 1e-9 * (1 + np.abs(record.upper))).all())
    if isinstance(record, LeafProof):
        return covers(record.split) and bool((leaf_bounds(network, bounds.intervals, record) <= 0).all())
    return bool(record.tree.proved().all()) and boxes_hold(network, box, record, bounds)


def boxes_hold(network: Network, box: Box, record: BoxProof, bounds: Bounds) -> bool:
    """Whether the bounds of every closed box are at most 0, from the root down."""
    node = next(node for node in network.relus if node.inputs[0] == record.tensor)
    form = layered(network, box, bounds.intervals, node)
    assert form is not None
    assert form.named(network)[0] == record.inputs
    assert np.array_equal(form.named(network)[1], record.elements)
    engine = Engine(form, [bounds.intervals[other.inputs[0]] for other in form.nodes])
    tree, waiting = record.tree, [(0, engine.root())]
    while waiting:
        number, here = waiting.pop()
        known = engine.tighten(here)
        (goals,) = np.nonzero(tree.closed[number])
        rows, signs = record.rows[goals], record.signs[goals].astype(np.float64)
        upper, _ = engine.goals(known, Rows(np.zeros(len(goals), dtype=int), rows, signs))
        exactly = (network, box, bounds.intervals, form, known, 0, rows, signs)
        if (upper > 0).any() and not ((upper <= 0) | holds_exactly(*exactly)).all():
            return False
        dimension, point = tree.dimension[number], tree.point[number]
        if dimension != LEAF:
            if not here.low[0, dimension] <= point <= here.high[0, dimension]:
                return False
            sides = halves_at(known.boxes, tree.dimension[[number]], tree.point[[number]])
            waiting += zip((int(tree.child[number]), int(tree.child[number]) + 1), sides, strict=True)
    return True


def kinds(proof: Proof) -> set[type]:
    return {type(record) for record in proof.evidence.records}


CASES = {
    "slopes": (RELUS, SlopeProof),
    "leaves": (RELUS_ALONE, LeafProof),
    "boxes": (ClosingSettings(), BoxProof),
}


@pytest.mark.parametrize("name", CASES)
def test_every_rung_leaves_a_record(name: str) -> None:
    closing, kind = CASES[name]
    proof = proof_of(NEEDS_SPLITS, BOX, closing)
    assert kind in kinds(proof)
    small = smaller(NEEDS_SPLITS, BOX, proof.evidence)
    assert len(small.records) == len(proof.evidence.records)
    for evidence in (proof.evidence, small):
        for record, bounds in before(NEEDS_SPLITS, BOX, evidence):
            assert holds(NEEDS_SPLITS, BOX, record, bounds)


@pytest.mark.parametrize("name", CASES)
def test_compact_records_claim_the_same(name: str) -> None:
    """Trees of boxes have nothing to lose."""
    evidence = proof_of(NEEDS_SPLITS, BOX, CASES[name][0]).evidence
    for record, small in zip(evidence.records, smaller(NEEDS_SPLITS, BOX, evidence).records, strict=True):
        assert type(small) is type(record)
        assert small.tensor == record.tensor
        assert all(np.array_equal(mine, given) for mine, given in zip(small.claims, record.claims, strict=True))
        assert not isinstance(record, BoxProof) or small is record


@pytest.mark.parametrize("name", CASES)
def test_records_are_all_it_takes(name: str) -> None:
    """The twin leaves them out."""
    proof = proof_of(NEEDS_SPLITS, BOX, CASES[name][0])
    *_, last = followed(NEEDS_SPLITS, BOX, proof.evidence.records)
    first = analyse(NEEDS_SPLITS, BOX)
    proved, again, without = (stable(bounds) for bounds in (proof.bounds, last, first))
    assert (again >= proved).all()
    assert not (without >= proved).all()


@pytest.mark.parametrize("name", CASES)
def test_records_rest_on_those_before_alone(name: str) -> None:
    """The first on ``analyse``; what comes later is not even looked at."""
    records = proof_of(NEEDS_SPLITS, BOX, CASES[name][0]).evidence.records
    (first,) = followed(NEEDS_SPLITS, BOX, ())
    assert same(first, analyse(NEEDS_SPLITS, BOX))
    whole = list(followed(NEEDS_SPLITS, BOX, records))
    assert len(whole) == len(records) + 1
    for count, bounds in enumerate(whole):
        *_, last = followed(NEEDS_SPLITS, BOX, records[:count])
        assert same(last, bounds)
    assert not same(whole[0], whole[-1])


def same(first: Bounds, second: Bounds) -> bool:
    pairs = [(x, second.intervals[name]) for name, x in first.intervals.items()]
    return all(np.array_equal(x.lower, y.lower) and np.array_equal(x.upper, y.upper) for x, y in pairs)


def stable(bounds: Bounds) -> Array:
    ends = [bounds.intervals[node.inputs[0]] for node in NEEDS_SPLITS.relus]
    return np.concatenate([((z.lower >= 0) | (z.upper <= 0)).ravel() for z in ends])


def hard(seed: int) -> Case:
    """A network whose bounds are too loose: there is something to prove."""
    generator = np.random.default_rng(seed)
    W, b, V = generator.normal(size=(4, 2)), generator.normal(size=4) / 2, generator.normal(size=(4, 4))
    reached = np.maximum(generator.uniform(-1, 1, (4096, 2)) @ W.T + b, 0) @ V.T
    return chain((W, b), (V, -reached.max(axis=0) - 0.05 * np.ptp(reached, axis=0)), ([[1.0] * 4], None), box=BOX), BOX


@given(networks(units=5) | st.integers(0, 2**32 - 1).map(hard))
@settings(deadline=None, max_examples=6)
@example(hard(0))
@example(hard(1))
def test_records_hold_and_are_true(case: Case) -> None:
    network, box = case
    truth = ranges(network, box)
    for closing, _ in CASES.values():
        proof = proof_of(network, box, closing)
        small = smaller(network, box, proof.evidence)
        assert all(holds(network, box, *pair) for pair in before(network, box, small))
        for record, bounds in before(network, box, proof.evidence):
            assert holds(network, box, record, bounds)
            for row, sign, upper in zip(*record.claims, strict=True):
                assert (truth[record.tensor][1][row] if sign > 0 else -truth[record.tensor][0][row]) <= upper
        *_, last = followed(network, box, proof.evidence.records)
        for name, (least, most) in truth.items():
            z = last.intervals[name]
            assert all(low <= true for low, true in zip(z.lower.ravel().tolist(), least, strict=True))
            assert all(true <= high for high, true in zip(z.upper.ravel().tolist(), most, strict=True))


def forged(record: Record) -> Iterator[Record]:
    """Records that claim too much."""
    if isinstance(record, SlopeProof):
        yield replace(record, upper=record.upper - 0.5)
        yield replace(record, signs=-record.signs)
    elif isinstance(record, LeafProof):
        yield replace(record, sign=-record.sign)
        yield replace(record, split=0 * record.split, beta=0 * record.beta)
        yield replace(record, split=record.split[1:], kind=record.kind[1:], beta=record.beta[1:])
        yield replace(record, split=np.abs(record.split))
    else:
        tree = record.tree
        yield replace(record, signs=-record.signs)
        yield replace(record, tree=replace(tree, closed=np.ones_like(tree.closed)))
        yield replace(record, tree=replace(tree, closed=np.zeros_like(tree.closed)))
        yield replace(record, tree=replace(tree, point=np.full_like(tree.point, 4.0)))  # outside of the box


@pytest.mark.parametrize("name", CASES)
def test_forged_records_fail(name: str) -> None:
    closing, kind = CASES[name]
    proof = proof_of(NEEDS_SPLITS, BOX, closing)
    tried = 0
    for evidence in (proof.evidence, smaller(NEEDS_SPLITS, BOX, proof.evidence)):
        for record, bounds in before(NEEDS_SPLITS, BOX, evidence):
            for false in forged(record) if isinstance(record, kind) else ():
                tried += 1
                assert not holds(NEEDS_SPLITS, BOX, false, bounds)
    assert tried >= 4


def test_no_proof_without_evidence() -> None:
    """Cheap bounds need no record, and where the box is split only what was proved is kept."""
    cheap = proof_of(NEEDS_SPLITS, BOX, replace(RELUS_ALONE, subproblems=0))
    assert kinds(cheap) <= {SlopeProof}
    for record in proof_of(NEEDS_SPLITS, BOX, ClosingSettings()).evidence.records:
        if isinstance(record, BoxProof):
            assert record.tree.proved().all()
            assert record.tree.closed.shape == (len(record.tree.child), len(record.rows))


def test_records_are_whole_numbers() -> None:
    for closing, _ in CASES.values():
        for record in proof_of(NEEDS_SPLITS, BOX, closing).evidence.records:
            assert record.claims[1].dtype == np.int8
            if not isinstance(record, BoxProof):
                assert record.alpha.dtype == record.above.dtype == np.uint16
                assert record.alpha.max(initial=0) <= 4096
