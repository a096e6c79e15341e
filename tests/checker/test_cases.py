"""The adversarial cases: nothing goes that must not, everything goes that can at its level, and all of it is proved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soundness_cases import CASES

from certificates import case_of, certified, true
from reluce import Exact, ModelError, Roundoff, Within
from reluce.domain import Box, make_box
from reluce.io import load

pytestmark = pytest.mark.shared

LEVELS = {"exact": Exact(), "roundoff": Roundoff(), "within": Within(1e-5)}


def read(shared: Path, name: str) -> tuple[dict[str, Any], Path, Box]:
    truth: dict[str, Any] = json.loads((shared / "cases" / f"{name}.json").read_text())
    source = shared / "cases" / f"{name}.onnx"
    network = load(source).network
    lo, hi = (np.array([float.fromhex(value) for value in truth[end]]) for end in ("lo", "hi"))
    return truth, source, make_box(network, {"lo": lo, "hi": hi})


def decided(box: Box) -> bool:
    """Whether the oracle can decide it: at most two inputs vary."""
    return sum(int((low != box.upper[name]).sum()) for name, low in box.lower.items()) <= 2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", LEVELS)
def test_what_goes_may_go_and_is_proved(name: str, level: str, shared: Path, tmp_path: Path) -> None:
    truth, source, box = read(shared, name)
    result = certified(source, box, LEVELS[level], tmp_path)
    assert result.certified is not None
    case = case_of(result, box)
    proved = case.check()
    assert proved.level == level
    if decided(box):
        assert true(case.original, case.compressed, box, proved)
    kept = {number: row.kept_units for number, row in enumerate(result.report.layers, 1)}
    units = {number: row.units for number, row in enumerate(result.report.layers, 1)}
    for unit in truth["truth"]:
        present = unit["unit"] in (kept[unit["layer"]] or ())
        if unit["status"] == "INACTIVE":
            assert not present, (unit, "could have gone")
        if unit["status"] == "UNSTABLE" and level == "exact" and unit["layer"] == len(kept):
            assert present, (unit, "must stay")  # in front of it, what only feeds dead units may go as well
    assert all(len(kept[number] or ()) <= count for number, count in units.items())


def test_weights_that_are_no_numbers_are_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="weights must be finite"):
        certified(shared / "cases" / "nan_inf_weights.onnx", "0,1", Exact(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_case_is_forgotten(shared: Path) -> None:
    assert {path.stem for path in (shared / "cases").glob("*.onnx")} == {*CASES, "nan_inf_weights"}
