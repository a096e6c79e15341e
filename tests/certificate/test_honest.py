"""Random networks through ``compress`` and the checker: the claim is so, by the exact oracle, at every level."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Case, networks

from certificates import LEVELS, PROVERS, case_of, quick, true
from reluce.guarantee import Exact, Within

levels = st.sampled_from(LEVELS)
provers = st.sampled_from(sorted(PROVERS))


def check_one(case: Case, level: Any, prover: str) -> None:
    network, box = case
    with TemporaryDirectory() as folder:
        result = quick(network, box, level, Path(folder), PROVERS[prover])
    found = case_of(result, box)  # a certificate there is, were it of the original itself
    proved = found.check()
    assert proved.level == {Exact: "exact", Within: "within"}.get(type(level), "roundoff")
    assert true(found.original, found.compressed, box, proved)


@settings(max_examples=30)
@given(networks(layers=2, units=5), levels, provers)
def test_what_is_claimed_is_so(case: Case, level: Any, prover: str) -> None:
    check_one(case, level, prover)


@pytest.mark.long
@settings(max_examples=2000)
@given(networks(), levels, provers)
def test_what_is_claimed_of_many_networks_is_so(case: Case, level: Any, prover: str) -> None:
    check_one(case, level, prover)
