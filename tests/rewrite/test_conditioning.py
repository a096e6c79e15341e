"""What floats make of a rewritten network: intervals that hold, merges that are refused, units that stay silent."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import ranges
from rewriting import rewritten
from strategies import Case, box_of, chain, chains, graphs

from reluce.bounds import Interval
from reluce.domain import Box
from reluce.guarantee import Exact, Roundoff, Within
from reluce.network import Network
from reluce.prove import prove
from reluce.rewrite import Original, Rewriting, uniform_budget
from reluce.rewrite._conditioning import enclosures, evaluation_errors, ill_conditioned
from reluce.rewrite._rewrite import _Work
from reluce.rewrite._state import Rewritten


def exactly(network: Network, box: Box) -> Rewriting:
    return rewritten(network, box, Exact())[0]


def holds(network: Network, box: Box, said: dict[str, Interval]) -> None:
    for name, (low, high) in ranges(network, box).items():
        ends = zip(said[name].lower.ravel().tolist(), low, high, said[name].upper.ravel().tolist(), strict=True)
        assert all(Fraction(a) <= lo and hi <= Fraction(b) for a, lo, hi, b in ends if np.isfinite([a, b]).all())


@given(st.one_of(chains(), graphs()), st.sampled_from([0.0, 1e-3, 0.5]))
def test_intervals_of_the_rewritten_network_hold(case: Case, budget: float) -> None:
    network, box = case
    proof = prove(network, box)
    work = _Work(Original(network, proof.facts, proof.bounds), uniform_budget(network, budget), lambda: False)
    state = work.run()
    holds(state.network, box, enclosures(work.original, state, work.deviations(state)))


def test_intervals_that_do_not_hold_are_noticed() -> None:
    network = chain(([[1]], [1]), ([[1]], [0]), box=(box := box_of((0, 1))))
    said = prove(network, box).bounds.intervals
    holds(network, box, dict(said))
    with pytest.raises(AssertionError):
        holds(network, box, {**said, "y": Interval(said["y"].lower, np.array([1.5]))})


def lifted(offset: float) -> Network:
    """Units x + offset and x + 1, parallel and active, the first of which hardly counts; the third is unstable."""
    return chain(([[1], [1], [2]], [offset, 1, -1]), ([[2.0**-20, 1, 1]], [0]), box=box_of((0, 1)))


def test_a_merge_that_floats_would_not_bear_is_refused() -> None:
    """Exact over the reals, and all new weights are representable: but x + 2^20 - 2^20 is not x in floats."""
    box = box_of((0, 1))
    assert exactly(lifted(1), box).kept["node_h1"].tolist() == [0, 2]
    result = exactly(lifted(2.0**20), box)
    assert result.kept["node_h1"].tolist() == [0, 1, 2]
    (why,) = [refusal for refusal in result.refusals if refusal.where == "h1"]
    assert why.what == "2 active units not merged"
    assert "float evaluation of output 'y' would lose accuracy: its a-priori error would grow from" in why.why
    for level in (Roundoff(), Within(1e-3)):
        assert rewritten(lifted(2.0**20), box, level)[0].kept["node_h1"].tolist() == [1, 2]  # nearly constant


@given(st.one_of(chains(), graphs()), st.sampled_from([Exact(), Roundoff(), Within(0.5)]))
def test_the_error_at_most_doubles(case: Case, level: Exact | Roundoff | Within) -> None:
    floats = rewritten(*case, level)[0].floats
    for name, after in floats.after.items():
        assert (after <= 2 * floats.before[name]).all()


def test_twice_the_error_is_the_limit() -> None:
    before = {"y": np.array([1.0, 2.0])}
    assert ill_conditioned(before, {"y": np.array([2.0, 4.0])}) is None
    assert ill_conditioned(before, {"y": np.array([2.0, np.nextafter(4.0, 5.0)])}) is not None
    assert ill_conditioned(before, {"y": np.array([0.0, np.inf])}) is not None
    assert ill_conditioned(before, {"y": np.array([0.0, np.nan])}) is not None
    assert ill_conditioned({"y": np.array([np.inf])}, {"y": np.array([np.inf])}) is None


def test_nothing_done_has_the_same_error() -> None:
    network = chain(([[1], [-1]], [0, 0]), ([[1, 1]], [0]), box=(box := box_of((-1, 1))))
    proof = prove(network, box)
    original, same = Original(network, proof.facts, proof.bounds), Rewritten.nothing_done(network)
    zero = {name: np.zeros(tensor.size) for name, tensor in network.tensors.items()}
    before = evaluation_errors(network, proof.bounds.intervals)
    assert evaluation_errors(network, enclosures(original, same, zero))["y"] == before["y"]
    assert 0 < before["y"] < 1e-4


@pytest.mark.parametrize(
    ("bias", "safe"), [(-2.0, False), (-2.0 - 2.0**-21, False), (-2.0 - 2.0**-18, True), (-3.0, True)]
)
def test_a_deleted_unit_needs_a_margin_to_be_silent_in_floats(bias: float, safe: bool) -> None:
    network = chain(([[1, 1], [1, -1]], [bias, 0]), ([[1, 1]], [0]), box=(box := box_of((0, 1), (0, 1))))
    result = exactly(network, box)
    assert result.kept["node_h1"].tolist() == [1]
    assert (result.floats.deleted, result.floats.unshown) == (1, 0 if safe else 1)
    assert result.floats.float_safe is safe


def test_rows_of_zeros_are_silent() -> None:
    network = chain(([[0, 0], [0, 0], [1, -1]], [0, -1, 0]), ([[1, 1, 1]], [0]), box=(box := box_of((0, 1), (0, 1))))
    floats = exactly(network, box).floats
    assert (floats.deleted, floats.unshown) == (2, 0)


def test_what_overflows_is_not_silent() -> None:
    rows = [[3e38, 3e38], [1, -1]]
    network = chain((rows, [-3.4e38, 0]), ([[1, 1]], [0]), box=(box := box_of((0, "1/2"), (0, "1/2"))))
    floats = exactly(network, box).floats
    assert (floats.deleted, floats.unshown) == (1, 1)


def test_units_of_a_folded_layer_count_as_deleted() -> None:
    network = chain(([[1, 1], [-1, -1]], [1, -1]), ([[1, 1]], [0]), box=(box := box_of((0, 1), (0, 1))))
    result = exactly(network, box)
    assert result.kept["node_h1"].tolist() == []
    assert (result.floats.deleted, result.floats.unshown) == (1, 0)
