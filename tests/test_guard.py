"""Guards of finished models: what ``compress`` hands over, and that a wrong guard is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from guards import Guardable, answered, exact, guardable, points_of
from onnx import ModelProto, helper
from strategies import box_of
from tiny_models import all_unstable, known, random_chain, residual, run, saved, two_inputs

import reluce.guard as module
from certificates import domain_of
from reluce import Box, CheckFailed, Exact, Result, Settings, UsageError, Within, compress, inspect
from reluce.guard import GuardCheck, check_guard, with_guard
from reluce.io import GUARD, OnnxLoaded, loads
from reluce_checker import NotProved, check

Array = np.ndarray[Any, Any]
EXACT = Settings(Exact())
SQUARE = box_of((0, 1), (0, 1))


def guarded_file(model: ModelProto | Path, domain: Any, folder: Path, **more: Any) -> tuple[Result, Path]:
    source = model if isinstance(model, Path) else saved(model, folder / "in.onnx")
    target = folder / "out.onnx"
    return compress(source, domain, output=target, guard=True, **more), target


def case_of(result: Result, box: Box) -> Guardable:
    """The inputs of a result, to make points for."""
    network = result.loaded.network
    (dtype,) = {network.tensors[name].dtype for name in network.inputs}
    ends = {name: (box.lower[name], box.upper[name]) for name in network.inputs}
    return Guardable(result.model, ends, network.batched, dtype)


def assert_guarded(result: Result, box: Box, target: Path, count: int = 64) -> None:
    case, data = case_of(result, box), target.read_bytes()
    points = points_of(case, 1, count)
    found = answered(data, case, points)
    np.testing.assert_array_equal(found, exact(case, points))
    assert found.any()
    assert not found.all()


# What compress hands over


def test_a_compressed_network_with_a_guard(tmp_path: Path) -> None:
    result, target = guarded_file(known(), "0,1", tmp_path, settings=EXACT)
    assert_guarded(result, SQUARE, target)
    assert result.report.compressed is not None
    assert result.report.compressed.parameters < result.report.model.parameters
    assert result.report.compressed.bytes == target.stat().st_size
    assert result.report.guard == GuardCheck(GUARD, 1024, "onnxruntime")
    assert result.report.to_json()["guard"]["points"] == 1024
    said = "Guard: output 'in_domain' is true for the samples of the domain only; tried on 1,024 points in onnxruntime."
    assert said in " ".join(str(result).split())


def test_what_is_saved_is_what_is_handed_over_and_certified(tmp_path: Path) -> None:
    result, target = guarded_file(known(), "0,1", tmp_path)
    made, data = result.certified, target.read_bytes()
    assert made is not None
    assert data == made.compressed == result.model.SerializeToString(deterministic=True)
    assert hashlib.sha256(data).hexdigest() == made.proved.compressed
    assert made.original == (tmp_path / "in.onnx").read_bytes()
    certificate = (tmp_path / "out.cert").read_bytes()
    assert check(made.original, data, certificate, domain_of(SQUARE)).guard == GUARD


def test_the_network_is_the_one_without_a_guard(tmp_path: Path) -> None:
    plain = compress(saved(known(), tmp_path / "in.onnx"), "0,1", output=tmp_path / "plain.onnx").model
    guarded, _ = guarded_file(known(), "0,1", tmp_path)
    model = guarded.model
    del model.graph.node[len(plain.graph.node) :], model.graph.output[-1]
    assert model == plain


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = guarded_file(known(), "0,1", tmp_path)[1].read_bytes()
    assert guarded_file(known(), "0,1", tmp_path)[1].read_bytes() == first


def test_without_certificate(tmp_path: Path) -> None:
    result, target = guarded_file(known(), "0,1", tmp_path, certificate=False)
    assert result.certified is None
    assert_guarded(result, SQUARE, target)


def test_nothing_can_be_removed(tmp_path: Path) -> None:
    """The result is still a guarded original, and certified."""
    model = all_unstable()
    result, target = guarded_file(model, "0,1", tmp_path)
    guarded = onnx.load(target)
    assert list(guarded.graph.node)[: len(model.graph.node)] == list(model.graph.node)
    assert_guarded(result, SQUARE, target)
    assert result.certified is not None
    assert result.certified.proved.guard == GUARD
    assert "; the output is the input and its guard." in " ".join(str(result).split())


def test_the_checker_accepts_nothing_but_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the rewriting, the guard is there."""
    import reluce.certificate._certify as certifying

    def refuse(*arguments: Any) -> Any:
        raise NotProved("never")

    monkeypatch.setattr(certifying, "check", refuse)
    result, target = guarded_file(known(), "0,1", tmp_path)
    assert result.certified is None
    assert "nothing was removed" in " ".join(result.report.notes)
    assert_guarded(result, SQUARE, target)


def test_two_inputs(tmp_path: Path) -> None:
    result, target = guarded_file(two_inputs(), ["a=0,1", "b=-1,0.1"], tmp_path)
    low, high = ({"a": 0, "b": -1}, {"a": 1, "b": Fraction("0.1")})
    shapes = {"a": (2,), "b": (1,)}
    box = Box(*({n: np.full(s, Fraction(side[n]), object) for n, s in shapes.items()} for side in (low, high)))
    assert_guarded(result, box, target)


def test_a_batch_of_one(tmp_path: Path) -> None:
    result, target = guarded_file(known(batch=1), "0,1", tmp_path)
    outside = run(target, x=np.array([[0.5, 1.5]], np.float32))[-1]
    assert (run(target, x=np.array([[0.5, 1]], np.float32))[-1].tolist(), outside.tolist()) == ([True], [False])
    assert result.certified is not None


def test_a_domain_from_data_is_called_an_assumption(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).random((20, 2), np.float32)
    result, target = guarded_file(known(), Box.from_data(samples), tmp_path)
    assert run(target, x=samples)[-1].all()
    assert not run(target, x=samples + 1)[-1].any()
    assert result.model.graph.output[-1].doc_string.endswith("(assumption)")


def test_a_domain_without_a_number(tmp_path: Path) -> None:
    result, target = guarded_file(residual(), "0.1,0.1", tmp_path)
    assert result.report.guard is not None
    assert result.report.guard.unreachable == ("x",)
    assert "Guard: output 'in_domain' is never true: no number of 'x' lies between the ends of its" in " ".join(
        str(result).split()
    )
    assert not run(target, x=np.full((1, 2), 0.1, np.float32))[-1].any()


def test_nnet_files(tmp_path: Path) -> None:
    (tmp_path / "in.nnet").write_text(
        "2,2,1,2,\n2,2,1,\n0,\n0,0,\n1,1,\n0,0,0,\n1,1,1,\n1,1,\n-1,-1,\n0.5,\n-0.5,\n1,1,\n0,\n"
    )
    result, target = guarded_file(tmp_path / "in.nnet", None, tmp_path)
    (name,) = result.loaded.network.inputs
    x = np.array([[0, 1], [0, 1.5]], np.float32).reshape(2, *result.loaded.network.shape(name))
    assert run(target, **{name: x})[-1].tolist() == [True, False]


# Again


@pytest.mark.parametrize("level", [Exact(), Within(1e-3)])
def test_a_guarded_file_is_compressed_again(level: Any, tmp_path: Path) -> None:
    """It keeps the guard that it has, which tells of the first domain."""
    _, first = guarded_file(random_chain([3, 12, 2]), "-1,1", tmp_path, settings=EXACT)
    result = compress(first, "0,0.5", output=tmp_path / "again.onnx", settings=Settings(level))
    report, target = result.report, tmp_path / "again.onnx"
    assert report.compressed is not None
    assert report.compressed.parameters < report.model.parameters
    assert (
        "output 'in_domain' was there before: it tells of the domain that it was made for, not of this" in report.notes
    )
    assert run(target, x=np.array([[-1, 1, 0.5], [-1.5, 0, 0]], np.float32))[-1].tolist() == [True, False]
    assert result.certified is not None
    assert result.certified.proved.guard is None
    assert "up to anything" not in str(report)


def test_a_guarded_file_gets_no_second_guard(tmp_path: Path) -> None:
    _, first = guarded_file(known(), "0,1", tmp_path)
    with pytest.raises(UsageError, match="has something called 'in_domain' already"):
        compress(first, "0,1", guard=True)


# What cannot have one


def test_models_of_other_kinds() -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with pytest.raises(UsageError, match="export the model to ONNX first"):
        compress(module, "0,1", example_inputs=torch.zeros(1, 2), guard=True)
    loaded = inspect(module, "0,1", example_inputs=torch.zeros(1, 2)).loaded
    with pytest.raises(UsageError, match="a guard is an output of an ONNX model"):
        with_guard(loaded, SQUARE)


def test_it_is_refused_before_anything_is_proved(tmp_path: Path) -> None:
    model = known()
    model.opset_import[0].version = 6
    told: list[str] = []
    with pytest.raises(UsageError, match="a guard of its inputs needs 7"):
        guarded_file(model, "0,1", tmp_path, progress=told.append)
    assert told == ["loading"]


# The look at what it says


def pair(case: Guardable) -> tuple[OnnxLoaded, OnnxLoaded, Box]:
    lower, upper = ({name: ends[side] for name, ends in case.ends.items()} for side in (0, 1))
    plain, box = loads(case.data), Box(lower, upper, "a test")
    return plain, with_guard(plain, box), box


@pytest.mark.parametrize(
    "case",
    [
        *(guardable(form, low=["0.1"], high=[3]) for form in ("float16", "float32", "float64", "int32", "int64")),
        guardable("int32", low=["-1e20"], high=["1e20"]),
        guardable("float16", low=["-70000"], high=["70000"]),
        guardable("float32", low=["1e50"], high=["1e60"]),
        guardable(shapes=[(2, 3), (1,), ()], opset=8),
        guardable(batched=False, shapes=[(2, 3), (1,), ()]),
    ],
)
def test_honest_guards_pass(case: Guardable) -> None:
    plain, guarded, box = pair(case)
    assert (check_guard(plain, guarded, box).points, check_guard(plain, guarded, box).runtime) == (1024, "onnxruntime")


@pytest.mark.parametrize(
    ("low", "high"), [("0.1", 1), (0, "0.9"), ("-1e-30", 1), (0, "1.0000002"), ("-1e30", "1e30"), ("1e50", "1e60")]
)
def test_a_guard_of_another_domain_is_noticed(low: Any, high: Any) -> None:
    plain, _, box = pair(guardable())
    _, wrong, _ = pair(guardable(low=[low], high=[high]))
    with pytest.raises(CheckFailed, match="output 'in_domain' is wrong about points in onnxruntime"):
        check_guard(plain, wrong, box)


def test_a_guard_that_forgets_one_coordinate_is_noticed() -> None:
    plain, _, box = pair(guardable(shapes=[(50,)]))
    _, wrong, _ = pair(guardable(shapes=[(50,)], low=[0] * 50, high=[1] * 49 + [2]))
    with pytest.raises(CheckFailed, match="is wrong about points"):
        check_guard(plain, wrong, box)


def test_a_guard_that_does_not_run_is_noticed() -> None:
    plain, guarded, box = pair(guardable())
    with pytest.raises(CheckFailed, match="onnxruntime runs the network, but not with its guard"):
        check_guard(plain, replace(guarded, data=b"no model"), box)
    with pytest.raises(CheckFailed, match="but not with its guard"):
        check_guard(plain, plain, box)


def test_a_network_that_does_not_run_everywhere() -> None:
    """Outside of its domain it looks up what is not there: the guard is tried inside only."""
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "i"], ["y"], axis=0),
    ]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    table = onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "table")
    graph = helper.make_graph(nodes, "table", infos[:1], infos[1:], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plain, box = loads(model.SerializeToString()), box_of((0, 2), (0, 2))
    assert check_guard(plain, with_guard(plain, box), box).points == 512


def test_large_samples_are_tried_on_fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 100)
    assert check_guard(*pair(guardable(shapes=[(10,)]))).points == 20
    monkeypatch.setattr(module, "MOST_NUMBERS", 1)
    assert check_guard(*pair(guardable(shapes=[(10,)]))).points == 4


def test_points_lie_on_both_sides() -> None:
    plain, _, box = pair(guardable(low=["0.1"], high=["0.3"]))
    inside = module._inside(plain.network, box)
    outside: Mapping[str, Array] = module._outside(plain.network, box, inside)
    assert box.contains(inside).all()
    assert not box.contains(outside).any()
    assert np.isnan(outside["a"]).any()
    assert np.isinf(outside["a"]).any()


# Real networks


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "domain", "opset"),
    [
        ("reluce_l1/mnist_25x25_l1-0.001_seed0.onnx", "0,1", None),
        ("hls4ml/dense_big_keras.onnx", "-1,0.1", 7),
        ("marabou/certificate_and_controller_mandal.onnx", "-0.1,0.3", 10),
        ("marabou/KJ_TinyTaxiNet.onnx", "0,1", 8),
    ],
)
def test_real_networks(name: str, domain: str, opset: int | None, shared: Path, tmp_path: Path) -> None:
    result, target = guarded_file(shared / "networks" / name, domain, tmp_path, settings=EXACT)
    network = result.loaded.network
    low, high = map(Fraction, domain.split(","))
    box = Box(*({n: np.full(network.shape(n), end, object) for n in network.inputs} for end in (low, high)))
    assert_guarded(result, box, target)
    assert result.certified is not None
    assert result.certified.proved.guard == GUARD
    assert opset in (None, *(entry.version for entry in result.model.opset_import))


@pytest.mark.shared
def test_acasxu_on_a_property(shared: Path, tmp_path: Path) -> None:
    from reluce.domain import make_box

    source = shared / "networks/vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx"
    specification = next((shared / "networks/vnncomp2021/acasxu").rglob("*.vnnlib*"))
    result, target = guarded_file(source, specification, tmp_path, settings=Settings(Exact(), time_limit=5.0))
    assert_guarded(result, make_box(result.loaded.network, specification), target, 256)
    assert result.certified is not None
    assert result.certified.proved.guard == GUARD


@pytest.mark.shared
def test_a_real_network_of_too_old_an_operator_set(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="imports version 6 of the standard operators; a guard of its inputs needs 7"):
        guarded_file(shared / "networks/pytorch_tutorial/super_resolution.onnx", "0,1", tmp_path)
