"""Forged certificates, networks and domains: what is accepted is true all the same (``make forge`` makes thousands)."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from certificates import Case, touching_boxes, touching_case, touching_split

FORGE = Path(__file__).resolve().parents[2] / "benchmarks" / "forge.py"


@pytest.fixture(scope="module")
def forge() -> Any:
    spec = spec_from_file_location("forge", FORGE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["forge"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_forgery_of_200_gets_a_false_claim_accepted(forge: Any) -> None:
    by_hand = [touching_case(touching_split()), touching_case(touching_boxes(), bias=-0.5625)]
    tally = forge.forgeries(200, 1, 2, by_hand)
    found = {what for count in tally.counts.values() for what in count}
    assert tally.false == 0
    assert found == {"refused", "unreadable", "true"}, tally.wrong
    assert sum(sum(count.values()) for count in tally.counts.values()) == 200


@pytest.mark.parametrize(
    "kind", ["split, leaf left out", "split, moved", "split, beta", "boxes, nodes", "boxes, goals"]
)
def test_forgeries_of_a_tight_proof(kind: str, forge: Any) -> None:
    """A fact that touches 0, or nearly so: changes of it leave nothing proved, or another proof of the same."""
    cases = {"split": touching_case(touching_split()), "boxes": touching_case(touching_boxes(), bias=-0.5625)}
    case, generator, found = cases[kind.partition(",")[0]], np.random.default_rng(0), []
    for _ in range(20):
        found.append(forge.judged(forge.forged(kind, generator, case, case)))
    assert set(found) <= {"refused", "unreadable", "true"}
    assert "true" not in found or kind in ("split, moved", "split, beta", "boxes, nodes")  # some change nothing


def test_a_checker_that_believes_everything_is_found_out(forge: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: with a checker that demands no epsilon, false claims do get accepted, and are counted."""
    import reluce_checker._check as module

    monkeypatch.setattr(module, "_demand_epsilon", lambda *_: None)
    case = touching_case(touching_split())
    generator = np.random.default_rng(0)
    found = [forge.judged(forge.forged("network: a layer is doubled", generator, case, case)) for _ in range(5)]
    assert "FALSE" in found


def test_honest_networks(forge: Any) -> None:
    tally = forge.honest(60, 0)
    found = {what for count in tally.counts.values() for what in count}
    assert found <= {"smaller", "as it was"}, tally.wrong
    assert set(tally.counts) == {"exact", "roundoff", "within"}


def test_every_liar_in_turn(forge: Any) -> None:
    """Whoever lies, nothing false comes out with a certificate."""
    tally = forge.lies(len(forge.LIARS), 0)
    found = {name: set(count) for name, count in tally.counts.items()}
    assert all(what <= {"smaller", "as it was", "attested"} for what in found.values()), tally.wrong
    assert all("attested" not in what for name, what in found.items() if "trusted" not in name)


def test_the_table_counts_everything(forge: Any) -> None:
    tally = forge.Tally()
    for what in ("refused", "FALSE", "crashed (KeyError)"):
        tally.add("some kind", what, "(seed 0)")
    assert tally.false == 1
    assert tally.wrong == ["some kind: FALSE (seed 0)", "some kind: crashed (KeyError) (seed 0)"]
    table = tally.table("title", ("refused", "FALSE"))
    assert [column.header for column in table.columns] == ["", "refused", "FALSE", "crashed (KeyError)"]
    assert table.row_count == 2


def test_cases_are_taken_apart_and_put_together(forge: Any) -> None:
    case = touching_case(touching_split())
    again = Case(case.original, case.compressed, forge.contents(case.certificate), case.box)
    assert again.certificate == case.certificate
