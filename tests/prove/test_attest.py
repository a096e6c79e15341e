"""What a solver attests, for LEO and ISA alike: true, complete, and worth nothing where the solver gives no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from oracle import ranges
from solving import Told, false_claims, in_process, is_tame, lying, missing, question
from strategies import Case, box_of, chain, networks
from tiny_models import DIGITS

from reluce.bounds import analyse
from reluce.domain import make_box
from reluce.facts import Facts, LayerFacts, Rung, Verdict
from reluce.io import open_model
from reluce.network import Array, Node, Relu
from reluce.prove import ProverSettings, _ladder, prove
from reluce.prove._attest import Effort, Question, Word, attested, trusted, unit_of
from reluce.prove._isa import isa
from reluce.prove._leo import leo
from reluce.solve import SOLVERS, Outcome, Problem, Session, Status, find_solver

Prover = Callable[[Question], Word]
BOTH = pytest.mark.parametrize("prover", [leo, isa])
METHODS = pytest.mark.parametrize("method", ["leo", "isa"])

BOX = box_of((-1, 1), (-1, 1))
DEEP = chain(
    ([[1, 1], [-1, -1], [1, -1]], [0, 0, 0.25]),
    ([[1, 1, 0], [-1, -1, 0], [-1, -1, 0], [1, -1, 1]], [-2.5, 2.5, 3, 0.5]),
    ([[1, 1, 1, 1]], [0]),
    box=BOX,
)
"""With s = x + y, z2 is |s| - 5/2 < 0, 5/2 - |s| > 0, 3 - |s| > 0 and an unstable unit; intervals decide none."""


def check(prover: Prover, case: Case) -> None:
    asked = question(*case)
    word = prover(asked)
    assert false_claims(word, asked) == []
    assert missing(word, asked) == []


@BOTH
@settings(max_examples=25)
@given(case=networks(layers=2, units=5, rational=False).filter(is_tame))
def test_what_is_attested_is_true_and_nothing_is_missing(prover: Prover, case: Case) -> None:
    check(prover, case)


@pytest.mark.long
@BOTH
@settings(max_examples=1000)
@given(case=networks(units=6, rational=False).filter(is_tame))
def test_many_networks(prover: Prover, case: Case) -> None:
    check(prover, case)


@BOTH
@pytest.mark.parametrize("solver", SOLVERS)
def test_both_decide_what_intervals_cannot(prover: Prover, solver: str) -> None:
    asked = question(DEEP, BOX, find_solver(solver).load)
    z = asked.bounds.intervals["z2"]
    assert ((z.lower < 0) & (z.upper > 0)).all()
    word = prover(asked)
    assert word.below["node_h2"].tolist() == [True, False, False, False]
    assert word.above["node_h2"].tolist() == [False, True, True, False]
    assert not word.below["node_h1"].any()
    assert not word.above["node_h1"].any()
    assert asked.witnesses.positive["node_h2"].tolist()[3] >= 0
    assert asked.witnesses.negative["node_h2"].tolist()[3] >= 0
    assert word.effort.solves > 0
    assert word.effort.unanswered == 0


@BOTH
def test_on_the_example_both_agree_with_the_ladder(prover: Prover) -> None:
    network = open_model(DIGITS).network
    box = make_box(network, "0,1")
    proof, asked = prove(network, box), question(network, box)
    asked.witnesses.feed(box.sample(np.random.default_rng(0), 500))
    word = prover(asked)
    assert word.effort.solves > 0
    assert word.effort.unanswered == 0
    for node in network.relus:
        layer, z = proof.facts.layers[node.name], asked.bounds.intervals[node.inputs[0]]
        below, above = word.below[node.name] | (z.upper <= 0), word.above[node.name] | (z.lower >= 0)
        unstable = layer.having(Verdict.UNSTABLE)
        assert not layer.having(Verdict.UNDECIDED).any()
        assert (below == ~unstable & (layer.upper <= 0)).all()
        assert (above[~below] == (~unstable & (layer.lower >= 0))[~below]).all()
        seen = (asked.witnesses.positive[node.name] >= 0) & (asked.witnesses.negative[node.name] >= 0)
        assert (seen == unstable).all()


def test_the_checks_can_fail() -> None:
    asked = question(DEEP, BOX)
    word = leo(asked)
    assert false_claims(word, asked) == missing(word, asked) == []
    swapped = Word(word.above, word.below)
    assert len(false_claims(swapped, asked)) == 3
    silent = Word(*({name: np.zeros_like(mask) for name, mask in side.items()} for side in (word.below, word.above)))
    assert len(missing(silent, asked)) == 3
    assert len(missing(word, question(DEEP, BOX))) == 4  # nobody has seen the unstable units


def twisted(twist: Callable[[Outcome, Array], Outcome]) -> Callable[[Problem], Session]:
    return lambda problem: Told(problem, twist)


def raised(outcome: Outcome, objective: Array) -> Outcome:
    return replace(outcome, dual_bound=1e3, status=Status.OPTIMAL)


NO_ANSWER = {
    "out of time with a bound": lambda outcome, _: replace(outcome, status=Status.LIMIT),
    "failed with a bound": lambda outcome, _: Outcome(Status.FAILED, dual_bound=-1.0),
    "infeasible": lambda outcome, _: Outcome(Status.INFEASIBLE, dual_bound=-np.inf),
    "unbounded": lambda outcome, _: Outcome(Status.UNBOUNDED),
    "NaN": lambda outcome, _: replace(outcome, dual_bound=np.nan, status=Status.OPTIMAL),
    "no bound": lambda outcome, _: replace(outcome, dual_bound=np.inf, status=Status.OPTIMAL),
    "no solution and a high bound": lambda outcome, _: replace(raised(outcome, _), point=None, objective=-np.inf),
    "a solution that is NaN": lambda outcome, c: replace(raised(outcome, c), point=np.full(len(c), np.nan)),
    "a solution that is infinite": lambda outcome, c: replace(raised(outcome, c), point=np.full(len(c), np.inf)),
    "a solution outside the domain": lambda outcome, c: replace(raised(outcome, c), point=np.full(len(c), 9.0)),
    "the same solution again and again": lambda outcome, c: replace(raised(outcome, c), point=np.zeros(len(c))),
}


@BOTH
@pytest.mark.parametrize("lie", NO_ANSWER)
def test_without_an_answer_nothing_is_attested(prover: Prover, lie: str) -> None:
    asked = question(DEEP, BOX, twisted(NO_ANSWER[lie]))
    word = prover(asked)
    assert not any(mask.any() for mask in (*word.below.values(), *word.above.values()))
    assert word.effort.solves <= 14
    seen = ranges(DEEP, BOX)["z2"]
    positive, negative = asked.witnesses.positive["node_h2"], asked.witnesses.negative["node_h2"]
    assert all(most > 0 for most, row in zip(seen[1], positive, strict=True) if row >= 0)
    assert all(least < 0 for least, row in zip(seen[0], negative, strict=True) if row >= 0)


@BOTH
def test_stopped_at_once_or_half_way(prover: Prover) -> None:
    for steps in (0, 1, 3):
        left = iter([False] * steps)
        asked = question(DEEP, BOX, stop=lambda left=left: next(left, True))
        word = prover(asked)
        assert false_claims(word, asked) == []
        assert not any(mask.any() for mask in word.below.values())
        assert word.effort.solves <= 2 * steps


@METHODS
def test_a_lie_is_shown_and_removes_nothing_without_trust(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: lying(problem))
    monkeypatch.setattr(_ladder, "first_look", lambda *_: None)
    proof = prove(DEEP, BOX, settings=ProverSettings(method=method))  # type: ignore[arg-type]
    proved = analyse(DEEP, BOX, stop=lambda: True).intervals
    for node in DEEP.relus:
        layer = proof.facts.layers[node.name]
        assert layer.count(Verdict.UNDECIDED) == layer.units
        assert set(layer.rung) == {Rung.NONE}
        assert (layer.upper == proved[node.inputs[0]].upper).all()
        assert (layer.lower == proved[node.inputs[0]].lower).all()
        # LEO believes it until it contradicts itself; ISA knows that no unit can be inactive and active at once.
        assert layer.attested[0] == (Verdict.INACTIVE if method == "leo" else Verdict.UNDECIDED)
    assert all(np.array_equal(proof.bounds.intervals[name].upper, proved[name].upper) for name in proved)


@METHODS
@pytest.mark.parametrize("trust", [False, True])
def test_attested_units_count_only_where_the_solver_is_trusted(
    method: str, trust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: in_process(problem))
    proof = prove(DEEP, BOX, settings=ProverSettings(method=method, trust_solver=trust))  # type: ignore[arg-type]
    layer = proof.facts.layers["node_h2"]
    assert layer.attested.tolist() == [Verdict.INACTIVE, Verdict.ACTIVE, Verdict.ACTIVE, Verdict.UNDECIDED]
    z = proof.bounds.intervals["z2"]
    if trust:
        assert layer.verdict.tolist() == [Verdict.INACTIVE, Verdict.ACTIVE, Verdict.ACTIVE, Verdict.UNSTABLE]
        assert layer.rung == (Rung(method),) * 3 + (Rung.WITNESS,)
        assert (z.upper[0], z.lower[1], z.lower[2]) == (0, 0, 0)
    else:
        assert layer.verdict.tolist() == [Verdict.UNDECIDED] * 3 + [Verdict.UNSTABLE]
        assert layer.rung == (Rung.NONE,) * 3 + (Rung.WITNESS,)
        assert ((z.lower < 0) & (z.upper > 0)).all()
    assert proof.effort is not None
    assert proof.effort.solves > 0
    assert prove(DEEP, BOX).effort is None


def test_what_trusted_bounds_settle_behind_rests_on_the_solver_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Behind DEEP, z3 = h2_0 - 1/4: negative for intervals once h2_0 = 0 is trusted.
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: in_process(problem))
    layers = [(node.op.weight, node.op.bias) for node in DEEP.nodes[::2]][:2]  # type: ignore[attr-defined]
    network = chain(*layers, ([[1, 0, 0, 0]], [-0.25]), ([[1]], [0]), box=BOX)
    proof = prove(network, BOX, settings=ProverSettings(method="leo", trust_solver=True))
    last = proof.facts.layers["node_h3"]
    assert last.verdict.tolist() == last.attested.tolist() == [Verdict.INACTIVE]
    assert last.rung == (Rung.LEO,)
    doubted = prove(network, BOX, settings=ProverSettings(method="leo")).facts.layers["node_h3"]
    assert (doubted.verdict.tolist(), doubted.attested.tolist()) == ([Verdict.UNDECIDED], [Verdict.INACTIVE])


def test_a_word_that_contradicts_itself_is_not_followed() -> None:
    # z2 = 1/4 + h1 - h1': that both are dead and z2 is inactive cannot be.
    box = box_of((-1, 1))
    network = chain(([[1], [1]], [0, 0]), ([[1, -1]], [0.25]), ([[1]], [0]), box=box)
    bounds = analyse(network, box, stop=lambda: True)
    asked = question(network, box, lying)
    facts = Facts({node.name: undecided(node, asked) for node in network.relus}, {})
    said = [np.full(layer.units, Verdict.INACTIVE) for layer in facts.layers.values()]
    first, both = (attest(facts, said[:1]), attest(facts, said))
    believed, trusted_bounds = trusted(network, box, first, bounds, Rung.LEO)
    assert [layer.verdict.tolist() for layer in believed.layers.values()] == [[Verdict.INACTIVE] * 2, [Verdict.ACTIVE]]
    assert trusted_bounds is not bounds
    assert trusted(network, box, both, bounds, Rung.LEO) == (both, bounds)
    assert not leo(asked).below["node_h2"].any()  # LEO's own model notices as well
    seen = replace(first.layers["node_h2"], negative=np.array([0]))  # the bounds behind the lie say that z2 >= 0
    refuted = replace(first, layers={**first.layers, "node_h2": seen})
    assert trusted(network, box, refuted, bounds, Rung.LEO) == (refuted, bounds)


def undecided(node: Node, asked: Question) -> LayerFacts:
    z = asked.bounds.intervals[node.inputs[0]]
    nothing, none = np.full(z.lower.shape, -1), np.full(z.lower.shape, Verdict.UNDECIDED, dtype=np.int8)
    return LayerFacts(
        node.output,
        node.name,
        none,
        (Rung.NONE,) * z.lower.size,
        z.lower,
        z.upper,
        nothing,
        nothing,
        none,
        np.zeros((2, z.lower.size)),
    )


def attest(facts: Facts, said: list[Array]) -> Facts:
    told = {
        name: replace(layer, attested=verdict)
        for (name, layer), verdict in zip(facts.layers.items(), said, strict=False)
    }
    return replace(facts, layers={**facts.layers, **told})


def test_a_witness_disproves_a_solver() -> None:
    node, asked = DEEP.relus[1], question(DEEP, BOX)
    layer, z = undecided(node, asked), asked.bounds.intervals["z2"]
    everything = np.ones(4, dtype=bool)
    word = Word({node.name: everything}, {node.name: ~everything}, Effort())
    assert attested(node, layer, z, word).attested.tolist() == [Verdict.INACTIVE] * 4
    seen = replace(layer, positive=np.array([0, -1, -1, -1]))
    assert attested(node, seen, z, word).attested.tolist() == [Verdict.UNDECIDED] + [Verdict.INACTIVE] * 3


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_the_unit_of_each_coordinate(axis: int) -> None:
    units = unit_of(Node("r", Relu(axis), ("z",), ("h",)), (2, 3))
    assert units.tolist() == ([[0, 0, 0], [1, 1, 1]] if axis == 0 else [[0, 1, 2], [0, 1, 2]])
