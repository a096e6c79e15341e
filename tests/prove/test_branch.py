"""Branch and bound: what it proves is true, it proves what is true, and its leaves cover the domain."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from oracle import at, cells, ranges, whole_domain
from strategies import Case, box_of, chain, networks

from reluce.bounds import analyse
from reluce.domain import Box
from reluce.network import Array, Network
from reluce.prove._arrays import Arrays
from reluce.prove._branch import Branched, BranchSettings, branch
from reluce.prove._dual import Dual
from reluce.prove._rigorous import Rigorous

MARGIN = Fraction(1, 1000)


def goals(network: Network, box: Box) -> list[tuple[Dual, Array, Fraction]]:
    """For each end that bounds leave open: the network in front, the functional, and its true maximum."""
    bounds, true = analyse(network, box), ranges(network, box)
    found = []
    for node in network.relus:
        name = node.inputs[0]
        z, dual = bounds.intervals[name], Dual(network, name, bounds.intervals, Arrays())
        for row in np.flatnonzero((z.lower < 0) & (z.upper > 0)):
            for sign, most in ((1, true[name][1][row]), (-1, -true[name][0][row])):
                functional = np.zeros(z.lower.size)
                functional[row] = sign
                found.append((dual, functional.reshape(z.lower.shape), most))
    return found


def covered(network: Network, box: Box, dual: Dual, outcome: Branched) -> bool:
    """Whether every cell of the domain satisfies all splits of some leaf."""
    assert outcome.leaves is not None
    forms = [(node.inputs[0], k) for node in dual.relus for k in range(int(np.prod(network.shape(node.inputs[0]))))]
    return all(
        any(
            all(
                sign * at(cell.forms[forms[k][0]][forms[k][1]], corner) >= 0
                for k, sign in splits
                for corner in cell.corners
            )
            for splits in ([(k, int(leaf[k])) for k in np.flatnonzero(leaf)] for leaf in outcome.leaves.split)
        )
        for cell in cells(network, [whole_domain(box)])
    )


BOX = box_of((-1, 1), (-1, 1))
NEEDS_SPLITS = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)


@given(networks(units=4))
@example((NEEDS_SPLITS, BOX))
def test_proved_is_true_and_true_is_proved(case: Case) -> None:
    network, box = case
    for dual, functional, most in goals(network, box):
        outcome = branch(dual, functional, BranchSettings(subproblems=500))
        if outcome.leaves is not None:
            assert most <= 0
            leaves = outcome.leaves
            rows = np.broadcast_to(functional, (len(leaves.upper), *functional.shape))
            assert (Rigorous(dual).upper(rows, leaves.split, leaves.alpha, leaves.beta) <= 0).all()
            assert covered(network, box, dual, outcome)
        elif dual.unstable.any():
            assert most > -MARGIN * (1 + abs(most)), "a clear case was left open"


def test_some_proofs_need_splits() -> None:
    """The twin: with one subproblem only, the example above stays open; and half of its leaves do not cover."""
    needed = [
        (dual, functional)
        for dual, functional, most in goals(NEEDS_SPLITS, BOX)
        if most <= 0 and branch(dual, functional, BranchSettings(subproblems=1)).leaves is None
    ]
    assert needed
    for dual, functional in needed:
        outcome = branch(dual, functional, BranchSettings())
        assert outcome.leaves is not None
        assert len(outcome.leaves.split) > 1
        half = Branched(type(outcome.leaves)(dual.places, *(part[:1] for part in parts(outcome))), 0, 0.0)
        assert not covered(NEEDS_SPLITS, BOX, dual, half)


def parts(outcome: Branched) -> list[Array]:
    assert outcome.leaves is not None
    return [outcome.leaves.split, outcome.leaves.alpha, outcome.leaves.beta, outcome.leaves.upper]


def test_a_witness_ends_the_search() -> None:
    dual, functional, _ = next(goal for goal in goals(NEEDS_SPLITS, BOX) if goal[2] > 0)
    shown: list[Mapping[str, Array]] = []

    def found(corners: Mapping[str, Array]) -> bool:
        shown.append(corners)
        return True

    assert branch(dual, functional, BranchSettings(), found).leaves is None
    assert len(shown) == 1
    assert (np.abs(shown[0]["x"]) <= 1).all()


def test_stop_leaves_it_open() -> None:
    dual, functional = next(
        (dual, functional)
        for dual, functional, most in goals(NEEDS_SPLITS, BOX)
        if most <= 0 and branch(dual, functional, BranchSettings(subproblems=1)).leaves is None
    )
    assert branch(dual, functional, BranchSettings(), stop=lambda: True).leaves is None


def test_the_same_question_has_the_same_answer() -> None:
    dual, functional, _ = goals(NEEDS_SPLITS, BOX)[0]
    first, second = (branch(dual, functional, BranchSettings()) for _ in range(2))
    assert first.subproblems == second.subproblems
    assert first.bound == second.bound
