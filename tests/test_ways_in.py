"""Whatever hand holds the model and the domain: the same path, the same verdicts, the same result."""

from __future__ import annotations

import gzip
import io
import json
from contextlib import nullcontext
from dataclasses import FrozenInstanceError
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from tiny_models import DIGITS, build, known, run, saved, two_inputs

import reluce
from reluce import Box, DomainError, ModelError, Result, Settings, UsageError, Verdict, compress, inspect
from reluce.cli import _run

Capture = pytest.CaptureFixture[str]
Array = np.ndarray[Any, Any]


def command(*arguments: str | Path) -> int:
    return _run([str(argument) for argument in arguments])


def annotated(model: ModelProto, **ranges: str) -> ModelProto:
    for name, value in ranges.items():
        model.metadata_props.add(key=f"onnxsim.range.{name}", value=value)
    return model


def no_spec(folder: Path, text: str, name: str = "spec.vnnlib") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


UNIT_SQUARE = """
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(assert (>= X_0 0))
(assert (<= X_0 1))
(assert (or (and (>= X_1 0) (<= X_1 0.25)) (and (>= X_1 0.5) (<= X_1 1))))
(assert (<= (+ X_0 X_1) 5))
(assert (<= Y_0 3))
"""
NNET = """// two inputs
2,2,1,2,
2,2,1,
0,
0.0,0.0,
1.0,1.0,
0.0,0.0,0.0,
1.0,1.0,1.0,
1.0,1.0,
-1.0,-1.0,
0.5,
-0.5,
1.0,1.0,
0.25,
"""


# ONNX objects


def test_paths_files_and_objects_give_the_same(tmp_path: Path) -> None:
    model = onnx.load(DIGITS)
    packed = tmp_path / "digits.onnx.gz"
    packed.write_bytes(gzip.compress(DIGITS.read_bytes()))
    with DIGITS.open("rb") as file:
        from_file = compress(file, "0,1")
    results = [
        from_file,
        compress(DIGITS, "0,1"),
        compress(str(DIGITS), "0,1"),
        compress(model, "0,1"),
        compress(packed, "0,1"),
        compress(io.BytesIO(packed.read_bytes()), "0,1"),
    ]
    assert len({result.model.SerializeToString(deterministic=True) for result in results}) == 1
    assert all(isinstance(result.model, ModelProto) for result in results)
    assert results[0].verdicts == results[-1].verdicts
    assert model.SerializeToString() == onnx.load(DIGITS).SerializeToString()


def test_a_file_object_takes_the_result(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    result = compress(known(), "0,1", output=buffer)
    compress(known(), "0,1", output=tmp_path / "out.onnx")
    assert buffer.getvalue() == (tmp_path / "out.onnx").read_bytes()
    assert onnx.load_from_string(buffer.getvalue()) == result.model


def test_a_model_that_nothing_could_go_from_comes_back_as_it_was() -> None:
    once = compress(known(), "0,1").model
    assert compress(once, "0,1").model == once


def test_the_result_is_frozen_and_prints_its_tables() -> None:
    result = compress(known(), "0,1")
    with pytest.raises(FrozenInstanceError):
        result.report = None  # type: ignore[misc, assignment]
    assert str(result) == str(result.report)
    assert "parameters" in str(result)
    (row,) = result.report.layers
    assert list(result.verdicts) == [row.name]
    assert [verdict.name.lower() for verdict in result.verdicts[row.name]] == list(row.verdicts)
    assert Verdict.INACTIVE in result.verdicts[row.name]
    inspected = inspect(known(), "0,1")
    assert inspected.verdicts == result.verdicts
    assert inspected.model == known()
    assert inspected.report.compressed is None


@pytest.mark.parametrize("model", [3, None, [known()], np.zeros(3), known().graph])
def test_unknown_models_say_what_is_known(model: Any) -> None:
    with pytest.raises(UsageError, match=f"type {type(model).__name__} is not known; give a path, a file object"):
        compress(model, "0,1")


def test_options_that_do_not_go_with_the_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"example_inputs go with a torch\.nn\.Module only"):
        compress(known(), "0,1", example_inputs=3)
    with pytest.raises(UsageError, match="domain_space 'scaled' goes with a pipeline"):
        compress(known(), "0,1", domain_space="scaled")
    with pytest.raises(UsageError, match="domain_space 'raw': expected 'input' or 'scaled'"):
        compress(known(), "0,1", domain_space="raw")
    with pytest.raises(UsageError, match="binary mode"):
        compress(io.StringIO("text"), "0,1")
    with pytest.raises(ModelError, match=r"damaged|cut short"):
        compress(io.BytesIO(gzip.compress(b"x" * 100)[:20]), "0,1")
    (tmp_path / "a.nnet").write_text(NNET)
    with pytest.raises(UsageError, match=r"shapes of an \.nnet file are known"):
        compress(tmp_path / "a.nnet", settings=Settings(input_shapes={"input": (1, 2)}))


# Boxes from data


def test_a_box_around_samples_before_the_network_is_known() -> None:
    X = np.array([[0.25, 1.0], [0.5, -1.0]])
    box = Box.from_data(X, margin=0.1)
    assert box.assumption
    (low,), (high,) = box.lower.values(), box.upper.values()
    assert (low <= [Fraction("0.15"), Fraction("-1.1")]).all()
    assert (high >= [Fraction("0.6"), Fraction("1.1")]).all()
    assert max(abs(high - [Fraction("0.6"), Fraction("1.1")])) < Fraction(1, 10**15)
    result = compress(known(), box)
    assert "assumption" in str(result)
    named = Box.from_data({"x": X}, margin="0.1")
    assert compress(known(), named).verdicts == result.verdicts
    assert inspect(known(), Box.from_data(X.reshape(2, 1, 2), margin=0.1)).verdicts == result.verdicts


def test_a_box_of_several_inputs_needs_their_names() -> None:
    with pytest.raises(DomainError, match="no domain for input"):
        inspect(two_inputs(), Box.from_data(np.zeros((3, 2))))
    sizes = {i.name: i.type.tensor_type.shape.dim[-1].dim_value for i in two_inputs().graph.input}
    box = Box.from_data({name: np.random.default_rng(0).random((5, size)) for name, size in sizes.items()})
    assert inspect(two_inputs(), box).report.assumption


@pytest.mark.parametrize(
    ("X", "margin", "message"),
    [
        (np.zeros((0, 2)), 0, "one row per sample"),
        (np.array(3.0), 0, "one row per sample"),
        (np.array([["a"]]), 0, "array of numbers"),
        (np.array([[np.nan, 1]]), 0, "nan at coordinate"),
        (np.zeros((2, 2)), -1, "must not be negative"),
        (np.zeros((2, 2)), float("nan"), "not a finite decimal"),
    ],
)
def test_data_that_no_box_goes_around(X: Array, margin: float, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        Box.from_data(X, margin)


def test_a_box_of_another_size_does_not_fit() -> None:
    with pytest.raises(DomainError, match=r"'x' has shape \(3,\), expected \(2,\)"):
        inspect(known(), Box.from_data(np.zeros((4, 3))))


# Ranges that the model states itself


def test_stored_ranges_are_the_domain_where_none_is_given(tmp_path: Path, capsys: Capture) -> None:
    model = annotated(known(), x='{"min": 0, "max": [1.0, 1]}')
    result = compress(model)
    assert result.verdicts == compress(known(), "0,1").verdicts
    assert "onnxsim.range" in result.report.domain
    assert command("compress", saved(model, tmp_path / "in.onnx"), tmp_path / "out.onnx") == 0
    assert "onnxsim.range" in capsys.readouterr().out
    small = onnx.load(tmp_path / "out.onnx")
    assert {entry.key for entry in small.metadata_props} >= {"onnxsim.range.x", "reluce.domain"}
    assert inspect(model, "-1,1").report.domain == "range -1,1"


def test_no_domain_at_all_is_a_wrong_call(tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(UsageError, match="no domain: give a range"):
        inspect(known())
    assert command("inspect", saved(known(), tmp_path / "in.onnx")) == 2
    assert "no domain" in capsys.readouterr().err


def test_half_a_stored_range_names_what_is_missing() -> None:
    with pytest.raises(DomainError, match=r"input 'x' has no upper end at coordinate \[0\]"):
        inspect(annotated(known(), x='{"min": 0, "max": null}'))
    first, second = (info.name for info in two_inputs().graph.input)
    with pytest.raises(DomainError, match=f"no range for input {second!r}"):
        inspect(annotated(two_inputs(), **{first: '{"min": 0, "max": 1}'}))


def test_an_unreadable_stored_range_is_noted_not_used() -> None:
    result = inspect(annotated(known(), x="[0, 1]"), "0,1")
    assert any("onnxsim.range.x" in note for note in result.report.notes)


# .nnet


def test_an_nnet_file_brings_its_own_domain(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "net.nnet").write_text(NNET)
    result = compress(tmp_path / "net.nnet", output=tmp_path / "out.onnx")
    assert "own input ranges" in result.report.domain
    (row,) = result.report.layers
    assert row.verdicts == ("active", "inactive")
    assert result.report.compressed is not None
    assert result.report.compressed.parameters < result.report.model.parameters
    (found,) = run(tmp_path / "out.onnx", input=np.array([[0.25, 0.5]], np.float32))
    assert found.tolist() == [[1.5]]
    assert command("compress", tmp_path / "net.nnet", tmp_path / "cli.onnx") == 0
    assert (tmp_path / "cli.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()
    assert "own input ranges" in capsys.readouterr().out
    assert command("inspect", tmp_path / "net.nnet", "--range", "-1,1") == 0


def test_an_nnet_file_becomes_onnx_not_nnet(tmp_path: Path) -> None:
    (tmp_path / "net.nnet").write_text(NNET)
    with pytest.raises(UsageError, match="the result is an ONNX model"):
        compress(tmp_path / "net.nnet", output=tmp_path / "out.nnet")
    assert {path.name for path in tmp_path.iterdir()} == {"net.nnet"}


def test_a_broken_nnet_file_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "net.nnet").write_text(NNET[:60])
    assert command("inspect", tmp_path / "net.nnet") == 3
    assert "net.nnet" in capsys.readouterr().err


# VNN-LIB


@pytest.mark.parametrize("name", ["spec.vnnlib", "spec.vnnlib.gz"])
def test_a_specification_is_a_domain(tmp_path: Path, name: str, capsys: Capture) -> None:
    spec = no_spec(tmp_path, UNIT_SQUARE, name)
    result = inspect(known(), spec)
    assert result.verdicts == inspect(known(), "0,1").verdicts == inspect(known(), str(spec)).verdicts
    assert any("disjunction of 2" in note for note in result.report.notes)
    assert any("output constraints" in note for note in result.report.notes)
    source, report = saved(known(), tmp_path / "in.onnx"), tmp_path / "report.json"
    assert command("compress", source, tmp_path / "out.onnx", "--domain", spec, "--json", report) == 0
    assert "note: output constraints" in " ".join(capsys.readouterr().out.split())
    assert name in json.loads(report.read_text())["domain"]["description"]


def test_a_specification_that_does_not_fit_or_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    for text, message in (("(assert", "spec.vnnlib"), (UNIT_SQUARE.replace("X_1", "X_2"), "spec.vnnlib")):
        assert command("inspect", source, "--domain", no_spec(tmp_path, text)) == 3
        assert message in capsys.readouterr().err
    assert command("inspect", source, "--domain", tmp_path / "none.vnnlib") == 3
    assert "none.vnnlib" in capsys.readouterr().err


def test_two_results_that_differ_are_told_apart() -> None:
    assert inspect(known(), "-100,100").verdicts != inspect(known(), "0,1").verdicts
    assert isinstance(reluce.compress(known(), "0,1"), Result)


# Domains that do not lie as the network's inputs do


@pytest.mark.parametrize(("shape", "fits"), [((3, 4), True), ((12,), True), ((1, 12, 1), True), ((4, 3), False)])
def test_a_box_with_its_axes_in_another_order_is_refused(shape: tuple[int, ...], fits: bool) -> None:
    node = helper.make_node("Flatten", ["x"], ["y"])
    model = build([node], {"x": ["N", 3, 4]}, {"y": ["N", 12]}, {})
    hi = np.arange(12.0).reshape(shape)
    for domain in ({"lo": 0 * hi, "hi": hi}, Box.from_data(hi[None])):
        with nullcontext() if fits else pytest.raises(DomainError, match="shape"):
            inspect(model, domain)


def test_the_box_around_single_numbers() -> None:
    box = Box.from_data(np.array([0.5, -1.0]), margin="0.25")
    assert [(float(box.lower[name]), float(box.upper[name])) for name in box.lower] == [(-1.25, 0.75)]


def test_outputs_that_cannot_be_written_to(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    for output in (io.StringIO(), 5.5):
        with pytest.raises(UsageError, match="a file opened for writing bytes"):
            compress(known(), "0,1", output=output)  # type: ignore[arg-type]
    with source.open("rb") as file, pytest.raises(reluce.OutputError, match="cannot be written to the open file"):
        compress(known(), "0,1", output=file)
    with source.open("rb") as file, pytest.raises(UsageError, match="would replace the original"):
        compress(file, "0,1", output=source)
    with pytest.raises(ModelError, match="cannot be read"):
        compress(file, "0,1")


def test_a_box_needs_both_ends_of_the_same_inputs() -> None:
    zero = np.full(2, Fraction(0), dtype=object)
    for upper in ({}, {"x": zero[:1]}):
        with pytest.raises(DomainError, match="must have the same shape"):
            Box({"x": zero}, upper)


def test_pairs_of_numbers_are_domains() -> None:
    wanted = inspect(known(), "0,1").verdicts
    kinds: list[Any] = [(0, 1), [0.0, 1], {"x": (0, 1)}, {"x": ([0, 0], np.ones(2))}, {"lo": [0, 0], "hi": [1, 1]}]
    for kind in kinds:
        assert inspect(known(), kind).verdicts == wanted
    first, second = (info.name for info in two_inputs().graph.input)
    by_name = inspect(two_inputs(), {first: (0, 1), second: (-1, 0.5)})
    assert by_name.verdicts == inspect(two_inputs(), [f"{first}=0,1", f"{second}=-1,0.5"]).verdicts
    assert inspect(known(), (-0.1, 0.1)).report.domain == "range -0.1,0.1"  # decimals, as they are written


@pytest.mark.parametrize("domain", [np.zeros((3, 2)), [(0, 1), (0, 1)], (0, 1, 2), 5, []])
def test_what_is_no_domain_says_what_is(domain: Any) -> None:
    with pytest.raises(DomainError, match=r"is not understood; give ranges such as '0,1'.*Box.from_data") as caught:
        inspect(known(), domain)
    assert len(str(caught.value)) < 300


def test_messages_for_what_people_try_first(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="give two arrays as"):
        Box(np.zeros(2), np.ones(2))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="guarantee '1e-3': expected Exact"):
        Settings("1e-3")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"model.pt: no pickle is ever loaded; load it in Python"):
        compress("model.pt", "0,1", example_inputs=3)
    with pytest.raises(UsageError, match="the class dict is not known; give a path"):
        compress(dict, "0,1", example_inputs=3)
    with pytest.raises(UsageError, match=r"no domain: .*; metadata onnxsim.range.x cannot be read"):
        compress(annotated(known(), x="0,1"))
    result = inspect(known(), "0,1", data=np.full((3, 2), 16.0))
    assert any("are they scaled as the domain is?" in note for note in result.report.notes)
