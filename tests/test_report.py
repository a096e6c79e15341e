import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import all_unstable, known, opaque_between, saved

from reluce import Exact, Report, Settings, Within, compress, inspect
from reluce.facts import Facts, FloatErrors, Guarantee, LayerFacts, Refusal, Rung, Verdict
from reluce.io import Sizes, loads
from reluce.report import LayerRow, SolverUse, as_text, layer_rows
from reluce.verify import Check


def row(name: str = "relu", kept: int | None = 4, reason: str = "") -> LayerRow:
    return LayerRow(name, 10, 1, 2, 3, 4, 0, kept, reason)


def report() -> Report:
    return Report(
        name="net.onnx",
        domain="range 0,1",
        assumption=False,
        model=Sizes(1000, 900, 800, 4096),
        compressed=Sizes(250, 225, 200, 1024),
        layers=(row(),),
        guarantee=Guarantee("within", "within=1e-05", {"y": np.array([0.0, 2.5e-6])}, {"y": np.full(2, 1e-5)}),
        check=Check(1030, 1e-7, "onnxruntime", 2e-7, 1e-3),
        seconds={"load": 0.1, "refute": 0.2, "bounds": 0.3, "rewrite": 0.4, "verify": 0.5, "total": 1.5},
        refusals=(Refusal("relu", "merge 2 stably active units", "not dependent"),),
        notes=("a note",),
    )


def flat(report: Report) -> str:
    return " ".join(as_text(report).split())


def cells(text: str, start: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.strip("│ ").startswith(start))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_tables_show_the_numbers() -> None:
    text = as_text(report())
    assert text == str(report())
    assert cells(text, "relu") == ["relu", "10", "1", "2", "3", "4", "0", "4"]
    assert cells(text, "parameters") == ["parameters", "1,000", "250", "75.0 %"]
    assert cells(text, "nonzeros") == ["nonzeros", "900", "225", "75.0 %"]
    assert cells(text, "macs") == ["macs", "800", "200", "75.0 %"]
    assert cells(text, "bytes") == ["bytes", "4,096", "1,024", "75.0 %"]
    assert "net.onnx on range 0,1" in text


def test_the_lines_say_what_is_promised_and_what_was_seen() -> None:
    text = flat(report())
    assert "Guarantee: within=1e-05. No output differs by more than 2.5e-06 for every input of the domain" in text
    assert "on 1,030 points: float64 1e-07, onnxruntime 2e-07 (allowed 0.001: epsilon and the float rounding" in text
    assert "why kept: relu: merge 2 stably active units: not dependent" in text
    assert "note: a note" in text
    assert "total 1.50" in text
    assert "Nothing could be removed" not in text
    assert "time ran out" not in text


def test_exact_says_equal() -> None:
    exact = replace(report(), guarantee=Guarantee("exact", "exact", {"y": np.zeros(2)}))
    assert "Guarantee: exact. The outputs are equal for every input of the domain, over the reals." in flat(exact)


def rounded(epsilons: list[float], spent: float = 0.0) -> Report:
    parts = (np.array(epsilons), np.array([1e-5, 2e-5]), np.array([10.0, 20.0]), np.full(2, spent))
    return replace(report(), guarantee=Guarantee("roundoff", "roundoff", *({"y": part} for part in parts)))


def test_roundoff_says_how_much_of_the_budget_is_used() -> None:
    used = rounded([2.5e-6, 2.501e-6])
    assert "Guarantee: roundoff. No output differs by more than 2.51e-06 (25 % of what it may) for every" in flat(used)
    data = used.to_json()["guarantee"]
    assert (data["level"], data["asked"], data["share"]) == ("roundoff", "roundoff", 0.25)
    assert (data["budgets"], data["magnitudes"]) == ({"y": [1e-5, 2e-5]}, {"y": [10.0, 20.0]})
    assert "spent" not in data


def test_outputs_that_do_not_differ_at_all() -> None:
    same = rounded([0.0, 0.0])
    assert "Guarantee: roundoff. No output differs at all for every input of the domain, over the reals." in flat(same)
    within = replace(same, guarantee=replace(report().guarantee, epsilons={"y": np.zeros(2)}))  # type: ignore[type-var]
    assert "Guarantee: within=1e-05. No output differs at all for every input" in flat(within)


def test_what_earlier_runs_spent_is_said() -> None:
    later = rounded([0.0, 0.0], 1.2341e-6)
    text = "over the reals, from this model; earlier runs had moved it by up to 1.24e-06."
    assert text in flat(later)
    assert later.to_json()["guarantee"]["spent"] == {"y": [1.2341e-6] * 2}
    unknown = rounded([0.0, 0.0], np.inf)
    assert "moved it by up to anything." in flat(unknown)
    assert unknown.to_json()["guarantee"]["spent"] == {"y": [None, None]}


def test_floats_are_told_as_information() -> None:
    errors = {"y": np.array([1e-6, 3.21e-5])}, {"y": np.array([1e-6, 3.0e-5])}
    for deleted, unshown, words in (
        (0, 0, "3.21e-05 before, 3e-05 after."),
        (1, 0, "3e-05 after; of 1 deleted inactive unit none can fire in floats either, in any order of summation."),
        (7, 2, "; of 7 deleted inactive units 2 not shown to stay silent in floats, in any order of summation."),
    ):
        told = replace(report(), floats=FloatErrors(*errors, deleted, unshown))
        assert words in flat(told)
        assert told.to_json()["floats"] == {
            "errors_before": {"y": [1e-6, 3.21e-5]},
            "errors_after": {"y": [1e-6, 3e-5]},
            "deleted": deleted,
            "unshown": unshown,
            "float_safe": unshown == 0,
        }
    endless = replace(report(), floats=FloatErrors({"y": np.array([np.inf])}, {"y": np.array([np.inf])}, 0, 0))
    assert "a-priori evaluation error of an output: not bounded." in flat(endless)
    assert "Floats:" not in flat(report())


def test_a_size_that_grew_or_was_nothing() -> None:
    grown = replace(report(), model=Sizes(0, 0, 0, 100), compressed=Sizes(0, 0, 0, 150))
    assert cells(as_text(grown), "bytes")[3] == "-50.0 %"
    assert cells(as_text(grown), "parameters")[3] == "-"


def test_an_assumption_is_labelled_everywhere() -> None:
    assumed = replace(report(), assumption=True)
    assert flat(assumed).count("assumption") == 2
    assert assumed.to_json()["domain"] == {"description": "range 0,1", "assumption": True}


def test_nothing_gone_says_why() -> None:
    same = replace(report(), compressed=report().model)
    assert "Nothing could be removed (6 units are stable, but none could be removed)" in flat(same)
    unstable = replace(same, layers=(LayerRow("relu", 10, 0, 0, 0, 10, 0, 10),))
    assert "Nothing could be removed (no unit was proved stable); the output is the input." in flat(unstable)


def test_cut_short_says_so() -> None:
    cut = replace(report(), cut_short=True)
    assert "time ran out or the run was interrupted" in flat(cut)
    assert cut.to_json()["cut_short"] is True


def test_measured_only_is_labelled() -> None:
    opaque = replace(
        report(), check=Check(1024, None, "onnxruntime", 3e-7, float("inf"), "measured only: not modelled")
    )
    assert "onnxruntime 3e-07 (measured only) [measured only: not modelled]." in flat(opaque)
    assert "float64" not in flat(opaque)
    data = opaque.to_json()
    assert data["check"]["allowed"] is None
    assert data["check"]["measured_only"] is True
    assert data["max_deviation"] == 3e-7


def test_a_check_that_could_not_run_is_not_passed_over() -> None:
    nothing = replace(
        report(), check=Check(1024, None, "onnxruntime", None, float("inf"), "onnxruntime cannot run the original: why")
    )
    assert "not run [onnxruntime cannot run the original: why]" in flat(nothing)


def test_the_layer_behind_an_unknown_operation_is_explained() -> None:
    blind = replace(report(), layers=(LayerRow("far", 5, 0, 0, 0, 0, 5, 5, "behind an operation"),))
    assert "note: undecided, behind an operation: far" in flat(blind)
    assert blind.to_json()["layers"][0]["reason"] == "behind an operation"
    assert not report().to_json()["layers"][0].get("reason")


def test_json_is_plain_and_holds_what_was_printed() -> None:
    data = json.loads(json.dumps(report().to_json(), allow_nan=False))
    assert data["model"] == {"parameters": 1000, "nonzeros": 900, "macs": 800, "bytes": 4096}
    assert data["compressed"] == {"parameters": 250, "nonzeros": 225, "macs": 200, "bytes": 1024}
    assert data["guarantee"] == {
        "level": "within",
        "asked": "within=1e-05",
        "conditional": False,
        "epsilon": 2.5e-6,
        "budget": 1e-5,
        "share": 0.25,
        "epsilons": {"y": [0.0, 2.5e-6]},
        "budgets": {"y": [1e-5, 1e-5]},
    }
    assert data["max_deviation"] == 2e-7
    assert data["seconds"] == dict(report().seconds)
    assert data["refusals"] == [{"where": "relu", "what": "merge 2 stably active units", "why": "not dependent"}]
    names = {"name", "units", "inactive", "active", "constant", "unstable", "undecided", "kept"}
    assert set(data["layers"][0]) >= names


def test_infinities_become_nothing_in_json() -> None:
    endless = replace(report(), guarantee=Guarantee("exact", "exact", {"y": np.array([np.inf, 0.0])}))
    data = json.loads(json.dumps(endless.to_json(), allow_nan=False))
    assert data["guarantee"]["epsilon"] is None
    assert data["guarantee"]["epsilons"] == {"y": [None, 0.0]}


def test_names_are_never_read_as_markup() -> None:
    tagged = replace(report(), name="[bold]net[/bold].onnx", layers=(row("h[red]"), row("[/relu]")))
    text = as_text(tagged)
    for name in ("[bold]net[/bold].onnx", "h[red]", "[/relu]"):
        assert name in text


def test_long_names_are_shown_in_full() -> None:
    name = "/encoder/block.3/feed_forward/activation/Relu_output_0_after_fusing_everything_there_is"
    lines = as_text(replace(report(), layers=(row(name),), refusals=()), width=80).splitlines()
    assert "".join(line.strip("│").split("│")[0].strip() for line in lines if line.startswith("│")).startswith(name)


def facts() -> Facts:
    verdicts = [Verdict.CONSTANT, Verdict.INACTIVE, Verdict.ACTIVE, Verdict.UNSTABLE, Verdict.UNDECIDED, Verdict.ACTIVE]
    nothing = np.full(6, -1)
    node = loads(known().SerializeToString()).network.relus[0].name
    zeros = np.zeros(6)
    rungs = (Rung.NONE,) * 6
    none = np.full(6, Verdict.UNDECIDED)
    layer = LayerFacts("h1", node, np.array(verdicts), rungs, zeros, zeros, nothing, nothing, none, np.zeros((2, 6)))
    return Facts({node: layer}, {})


def test_rows_count_each_verdict() -> None:
    network = loads(known().SerializeToString()).network
    (only,) = layer_rows(facts(), None)
    assert (only.name, only.units, only.kept) == ("h1", 6, None)
    assert (only.constant, only.inactive, only.active, only.unstable, only.undecided) == (1, 1, 2, 1, 1)
    (kept,) = layer_rows(facts(), {network.relus[0].name: np.array([2, 3])})
    assert kept.kept == 2


@pytest.mark.parametrize("settings", [Settings(Exact()), Settings(), Settings(Within(1e-5)), Settings(time_limit=0)])
def test_real_reports_print_and_become_json(tmp_path: Path, settings: Settings) -> None:
    for number, model in enumerate((known(), all_unstable(), opaque_between())):
        source = saved(model, tmp_path / f"{number}.onnx")
        for done in (
            compress(source, "0,1", output=tmp_path / "out.onnx", settings=settings).report,
            inspect(source, "0,1", settings=settings).report,
        ):
            json.dumps(done.to_json(), allow_nan=False)
            assert "h1" in str(done)
            assert done.cut_short == (settings.time_limit == 0)


# Solvers


def asked(trusted: bool, attested: int = 2, unanswered: int = 0) -> Report:
    use = SolverUse("leo", "highs", trusted, solves=40, nodes=7, seconds=1.5, unanswered=unanswered)
    layer = replace(row(), attested=attested, attested_as=("inactive",) * attested + ("undecided",) * (10 - attested))
    level = Guarantee("attested" if trusted else "exact", "exact", {"y": np.array([0.0])})
    return replace(report(), layers=(layer,), guarantee=level, solver=use)


def test_attested_units_have_a_column_only_where_a_solver_was_asked() -> None:
    assert "attested" not in as_text(report())
    assert "attested" not in report().to_json()["layers"][0]
    assert "solver" not in report().to_json()
    assert cells(as_text(asked(False)), "relu") == ["relu", "10", "1", "2", "3", "4", "0", "2", "4"]
    layer = asked(False).to_json()["layers"][0]
    assert (layer["attested"], layer["attested_as"].count("inactive")) == (2, 2)
    assert cells(as_text(asked(False, attested=0)), "relu")[7] == "0"


def test_without_trust_the_promise_is_a_proof_and_attested_units_stay() -> None:
    text = flat(asked(False))
    assert "Guarantee: exact. The outputs are equal" in text
    assert "note: LEO on HiGHS: 40 solves, 7 nodes, 1.50 s" in text
    assert "2 units are attested by HiGHS, not proved: they stay (--trust-solver removes them)" in text
    assert asked(False).to_json()["guarantee"]["conditional"] is False
    assert "not proved" not in flat(asked(False, attested=0))


def test_with_trust_nothing_claims_a_proof() -> None:
    text = flat(asked(True))
    promise = "Guarantee: attested by HiGHS, not proved. If it is right about 2 units, the outputs are equal for every"
    assert promise in text
    assert "they count as if they were proved" in text
    assert "Guarantee: exact" not in text
    data = asked(True).to_json()
    assert (data["guarantee"]["level"], data["guarantee"]["conditional"]) == ("attested", True)
    assert data["solver"] == {
        "method": "leo",
        "solver": "highs",
        "trusted": True,
        "solves": 40,
        "nodes": 7,
        "seconds": 1.5,
        "unanswered": 0,
    }
    loose = replace(asked(True), guarantee=Guarantee("attested", "within=1e-05", {"y": np.array([2.5e-6])}))
    assert "If it is right about 2 units, no output differs by more than 2.5e-06 for every input" in flat(loose)


def test_lost_solves_are_counted() -> None:
    assert "40 solves, 3 without an answer, 7 nodes" in flat(asked(False, unanswered=3))
