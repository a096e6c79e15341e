"""What a file says of earlier runs: charged where it is clear, and never a reason to allow more."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto
from oracle import max_difference
from strategies import box_of
from tiny_models import DIGITS, known, random_chain, saved, two_inputs

from reluce import Exact, Report, Roundoff, Settings, Within, compress
from reluce.domain import make_box
from reluce.guarantee import Level
from reluce.guard import with_guard
from reluce.io import loads, open_model
from reluce.metadata import complaint, spent_before

SPENT = "reluce.spent"


def stated(model: ModelProto, *entries: tuple[str, str]) -> dict[str, list[float]]:
    """What is read as spent of a model with these metadata."""
    marked = ModelProto()
    marked.CopyFrom(model)
    for key, value in entries:
        marked.metadata_props.add(key=key, value=value)
    return {name: values.tolist() for name, values in spent_before(loads(marked.SerializeToString())).items()}


def written(model: ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def again(model: ModelProto, level: Level, path: Path, domain: Any = "0,1") -> tuple[Report, ModelProto]:
    result = compress(saved(model, path), domain, settings=Settings(level))
    return result.report, result.model


def test_a_model_that_was_never_compressed_has_spent_nothing() -> None:
    assert stated(known()) == {"y": [0.0, 0.0]}
    assert stated(known(), ("author", "somebody")) == {"y": [0.0, 0.0]}


def test_numbers_are_read() -> None:
    assert stated(known(), (SPENT, '{"y": [1e-6, 0]}')) == {"y": [1e-6, 0.0]}
    assert stated(known(), (SPENT, '{"y": 2e-6}')) == {"y": [2e-6, 2e-6]}
    assert stated(known(), (SPENT, '{"y": [1e-6, null], "other": 3}')) == {"y": [1e-6, np.inf]}


HOSTILE = [
    "", "{", "[]", "null", "3", '"y"', "{}", '{"z": [0, 0]}', '{"y": null}', '{"y": {}}', '{"y": "0"}', '{"y": true}',
    '{"y": -1e-6}', '{"y": NaN}', '{"y": Infinity}', '{"y": -Infinity}', '{"y": 1e999}', '{"y": [0]}', '{"y": []}',
    '{"y": [0, 0, 0]}', '{"y": [[0, 0]]}', '{"y": 0, "y": 0}', '{"y": ' + "1" * 400 + "}", "[" * 100_000,
    '{"y": ' + "1" * 10_000 + "}",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_not_clear_counts_as_infinite(text: str) -> None:
    assert stated(known(), (SPENT, text)) == {"y": [np.inf, np.inf]}


def test_entries_that_come_twice_or_are_missing_are_not_clear() -> None:
    for entries in ([(SPENT, '{"y": 0}')] * 2, [("reluce.guarantee", "exact")], [("reluce.anything", "")]):
        assert stated(known(), *entries) == {"y": [np.inf, np.inf]}


def test_outputs_that_are_no_floats_are_never_moved() -> None:
    guarded = with_guard(loads(known().SerializeToString()), box_of((0, 1), (0, 1)))
    model = onnx.load_from_string(guarded.data)
    assert stated(model, (SPENT, '{"y": 1e-6}')) == {"y": [1e-6, 1e-6], "in_domain": [0.0]}
    assert stated(model, (SPENT, '{"in_domain": -1}')) == {"y": [np.inf, np.inf], "in_domain": [np.inf]}


@pytest.mark.parametrize("level", [Roundoff(), Within(1.0)], ids=str)
def test_hostile_metadata_stop_all_but_exact_rewrites(level: Level, tmp_path: Path) -> None:
    marked = known()
    marked.metadata_props.add(key=SPENT, value='{"y": -1e30}')
    free, _ = again(known(), Exact(), tmp_path / "0.onnx")
    report, model = again(marked, level, tmp_path / "1.onnx")
    assert report.compressed is not None
    assert free.compressed is not None
    assert report.compressed.parameters == free.compressed.parameters
    assert report.guarantee is not None
    assert (report.guarantee.budget, report.guarantee.epsilon) == (0.0, 0.0)
    assert any("nothing more may be spent" in note for note in report.notes)
    assert json.loads(written(model)[SPENT]) == {"y": None}
    assert written(model)["reluce.first_sha256"] == "unknown"
    assert "anything" in str(report)


def test_the_complaint_names_the_output() -> None:
    loaded = loads(known().SerializeToString())
    assert complaint(loaded, {"y": np.zeros(2)}) == ()
    (note,) = complaint(loaded, {"y": np.array([0.0, np.inf])})
    assert "how far it moved y: nothing more" in note


@pytest.mark.parametrize("level", [Exact(), Roundoff(), Within(1e-5), Within(1e-2)], ids=str)
@pytest.mark.parametrize("seed", range(6))
def test_two_runs_together_keep_the_guarantee_of_one(seed: int, level: Level, tmp_path: Path) -> None:
    first = random_chain([2, 8, 8, 2], seed)
    before, second = again(first, level, tmp_path / "1.onnx")
    after, third = again(second, level, tmp_path / "2.onnx")
    networks = [loads(model.SerializeToString()).network for model in (first, second, third)]
    box = make_box(networks[0], "0,1")
    assert before.guarantee is not None
    assert after.guarantee is not None
    (name,) = networks[0].outputs
    total = max_difference(networks[0], networks[2], box)[name]
    said = json.loads(written(third).get(SPENT, "{}")).get(name, 0.0)
    said = said if isinstance(said, list) else [said] * len(total)
    budgets = before.guarantee.budgets[name].tolist()
    for true, claimed, budget in zip(total, said, budgets, strict=True):
        assert true <= Fraction(claimed) <= Fraction(budget)
    if level == Exact():
        assert second == third


def test_what_is_spent_adds_up(tmp_path: Path) -> None:
    """A budget that the first run did not use up is there for the second, and no more than that."""
    first, once = again(onnx.load(DIGITS), Within(1e-5), tmp_path / "1.onnx")
    second, twice = again(once, Within(1e-3), tmp_path / "2.onnx")
    assert first.guarantee is not None
    assert second.guarantee is not None
    (name,) = first.guarantee.epsilons
    mine, earlier = second.guarantee.epsilons[name], first.guarantee.epsilons[name]
    assert (second.guarantee.spent[name] == earlier).all()
    assert (second.guarantee.budgets[name] <= 1e-3 - earlier).all()
    total = json.loads(written(twice)[SPENT])[name]
    assert all(Fraction(t) >= Fraction(a) + Fraction(b) for t, a, b in zip(total, mine, earlier, strict=True))
    assert (np.array(total) <= 1e-3).all()
    assert written(twice)["reluce.first_sha256"] == written(once)["reluce.original_sha256"]
    assert "earlier runs had moved it by up to" in " ".join(str(second).split())


def test_each_output_is_written(tmp_path: Path) -> None:
    _, model = again(two_inputs(), Within(1e-3), tmp_path / "in.onnx")
    assert set(json.loads(written(model)[SPENT])) == {info.name for info in model.graph.output}


def test_modules_have_no_metadata() -> None:
    loaded = open_model(DIGITS)
    assert loaded.metadata == ()
