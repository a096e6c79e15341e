"""The rungs after bounds and witnesses: each decides what the cheaper ones leave, and stopping loses nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import ranges
from strategies import Case, box_of, chain, networks

from reluce.domain import Box
from reluce.facts import Rung, Verdict
from reluce.network import Network
from reluce.prove import ClosingSettings, Proof, ProverSettings, SplitSettings, prove
from reluce.prove._slopes import Descent

BOX = box_of((-1, 1), (-1, 1))
NEEDS_SPLITS = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)
NO_BOXES = SplitSettings(most_inputs=0)
NO_SLOPES = Descent(steps=0)


def rungs(closing: ClosingSettings) -> tuple[Rung, ...]:
    proof = prove(NEEDS_SPLITS, BOX, settings=ProverSettings(closing=closing))
    return proof.facts.layers[NEEDS_SPLITS.relus[1].name].rung


def test_splitting_the_box_comes_first() -> None:
    assert Rung.INPUT_SPLIT in rungs(ClosingSettings())


def test_splitting_relus_where_the_box_is_not_split() -> None:
    assert Rung.BRANCH in rungs(
        ClosingSettings(split=NO_BOXES, last_split=NO_BOXES, slopes=NO_SLOPES, tighten=NO_SLOPES)
    )


def test_without_either_the_unit_stays_undecided() -> None:
    """The twin: the two above decide something."""
    closing = ClosingSettings(split=NO_BOXES, last_split=NO_BOXES, slopes=NO_SLOPES, tighten=NO_SLOPES, subproblems=0)
    assert Rung.NONE in rungs(closing)


def test_what_is_hopeless_is_left_alone() -> None:
    closing = ClosingSettings(split=NO_BOXES, last_split=NO_BOXES, hope=1e-9)
    assert Rung.NONE in rungs(closing)


def test_time_is_listed_by_layer_and_rung() -> None:
    proof = prove(NEEDS_SPLITS, BOX)
    spent = proof.spent[NEEDS_SPLITS.relus[1].name]
    assert {Rung.INTERVAL, Rung.CROWN, Rung.WITNESS, Rung.INPUT_SPLIT} <= set(spent)
    assert all(seconds >= 0 for seconds in spent.values())


def true_to(network: Network, box: Box, proof: Proof) -> bool:
    """Whether every verdict is what the exact ranges say."""
    truth = ranges(network, box)
    for node in network.relus:
        layer = proof.facts.layers[node.name]
        least, most = truth[node.inputs[0]]
        for unit, verdict in enumerate(layer.verdict):
            low, high = min(least[unit :: layer.units]), max(most[unit :: layer.units])
            claims = {
                Verdict.CONSTANT: all(
                    a == b for a, b in zip(least[unit :: layer.units], most[unit :: layer.units], strict=True)
                ),
                Verdict.INACTIVE: high <= 0,
                Verdict.ACTIVE: low >= 0,
                Verdict.UNSTABLE: low < 0 < high,
                Verdict.UNDECIDED: True,
            }
            if not claims[Verdict(verdict)]:
                return False
    return True


@given(networks(units=5), st.integers(0, 60), st.booleans())
def test_stopping_anywhere_leaves_true_verdicts(case: Case, calls: int, boxes: bool) -> None:
    network, box = case
    left = iter(range(calls))
    closing = ClosingSettings() if boxes else ClosingSettings(split=NO_BOXES, last_split=NO_BOXES)
    proof = prove(network, box, settings=ProverSettings(closing=closing), stop=lambda: next(left, None) is None)
    assert true_to(network, box, proof)


def test_a_false_verdict_would_be_seen() -> None:
    """The twin of the test above."""
    proof = prove(NEEDS_SPLITS, BOX)
    name = NEEDS_SPLITS.relus[0].name
    layer = proof.facts.layers[name]
    wrong = replace(layer, verdict=np.full(layer.units, Verdict.INACTIVE, dtype=np.int8))
    facts = replace(proof.facts, layers={**proof.facts.layers, name: wrong})
    assert not true_to(NEEDS_SPLITS, BOX, replace(proof, facts=facts))


@pytest.mark.parametrize("closing", [ClosingSettings(), ClosingSettings(split=NO_BOXES, last_split=NO_BOXES)])
def test_the_same_seed_gives_the_same_proof(closing: ClosingSettings) -> None:
    first, second = (prove(NEEDS_SPLITS, BOX, settings=ProverSettings(closing=closing)) for _ in range(2))
    for node in NEEDS_SPLITS.relus:
        mine, other = first.facts.layers[node.name], second.facts.layers[node.name]
        assert mine.rung == other.rung
        assert (mine.lower == other.lower).all()
        assert (mine.upper == other.upper).all()
