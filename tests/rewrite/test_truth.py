"""Rewritten networks against the original, by the exact largest difference over the domain. No tolerance anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import check, rewritten, size, units
from strategies import Case, chains, graphs, networks

BUDGETS = st.sampled_from([None, 1e-6, 1e-3, 0.5, 8.0])


@given(chains(), BUDGETS)
def test_random_chains(case: Case, budget: float | None) -> None:
    check(*case, budget)


@given(networks())
def test_random_networks_exactly(case: Case) -> None:
    check(*case, None)


@given(graphs(), BUDGETS)
def test_random_graphs(case: Case, budget: float | None) -> None:
    check(*case, budget)


@pytest.mark.long
@settings(max_examples=2000)
@given(networks(), BUDGETS)
def test_many_random_networks(case: Case, budget: float | None) -> None:
    check(*case, budget)


@given(networks())
def test_a_second_run_changes_nothing(case: Case) -> None:
    network, box = case
    once = rewritten(network, box, None).network
    twice = rewritten(once, box, None).network
    assert twice.digest == once.digest


@given(networks())
def test_nothing_grows(case: Case) -> None:
    network, box = case
    result = rewritten(network, box, None).network
    assert size(result) <= size(network)
    assert units(result) <= units(network)
