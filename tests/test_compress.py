import gzip
import hashlib
import json
import re
import signal
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper
from solving import in_process, lying
from tiny_models import (
    DIGITS,
    EXAMPLES,
    all_unstable,
    beyond_intervals,
    build,
    chain,
    exact_output,
    known,
    opaque_between,
    random_chain,
    residual,
    run,
    saved,
    two_inputs,
)

import reluce
from reluce import (
    Box,
    CheckFailed,
    DomainError,
    Exact,
    ModelError,
    OutputError,
    ProverSettings,
    Report,
    Roundoff,
    Settings,
    UsageError,
    Within,
    compress,
    inspect,
    parse_guarantee,
)
from reluce.guarantee import Level
from reluce.prove import _ladder

Array = np.ndarray[Any, Any]
EXACT, WITHIN = Settings(Exact()), Settings(Within(1e-5))


def small(model: ModelProto, folder: Path, domain: Any = "0,1", **more: Any) -> tuple[Report, Path]:
    source, target = saved(model, folder / "in.onnx"), folder / "out.onnx"
    report = compress(source, domain, output=target, **more).report
    assert {path.name for path in folder.iterdir()} == {"in.onnx", "out.onnx", "out.cert"}
    onnx.checker.check_model(onnx.load(target), full_check=True)
    return report, target


def grid(dtype: Any = np.float32) -> Array:
    """Points of [0, 1]^2, the corners among them."""
    axis = np.linspace(0, 1, 21)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(dtype)


# Exact


def test_a_network_known_by_hand_loses_what_can_go_and_nothing_else(tmp_path: Path) -> None:
    report, target = small(known(), tmp_path, settings=EXACT)
    (layer,) = report.layers
    assert (layer.name, layer.units) == ("h1", 6)
    assert (layer.constant, layer.inactive, layer.active, layer.unstable, layer.undecided) == (1, 1, 3, 1, 0)
    assert layer.kept is not None
    assert 2 <= layer.kept <= 3  # one unstable unit, and at most two of three dependent ones
    assert report.guarantee is not None
    assert report.guarantee.level == "exact"
    assert report.guarantee.epsilon == 0.0
    shrunk = onnx.load(target)
    for row in grid(np.float64)[::17]:
        point = [Fraction(value) for value in row.tolist()]
        assert exact_output(shrunk, point) == exact_output(known(), point)


def test_the_example_at_exact(tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    report = compress(DIGITS, "0,1", output=target, settings=EXACT).report
    assert report.guarantee is not None
    assert (report.guarantee.level, report.guarantee.epsilon) == ("exact", 0.0)
    assert report.compressed is not None
    assert report.compressed.parameters < 0.7 * report.model.parameters
    assert report.compressed.bytes == target.stat().st_size
    assert report.model.bytes == DIGITS.stat().st_size
    original, shrunk = onnx.load(DIGITS), onnx.load(target)
    generator = np.random.default_rng(0)
    for row in [np.zeros(64), np.ones(64), *generator.integers(0, 17, size=(5, 64)) / 16]:
        point = [Fraction(value) for value in row.tolist()]
        assert exact_output(shrunk, point) == exact_output(original, point)


def test_the_example_within_a_budget(tmp_path: Path) -> None:
    target = tmp_path / "small.onnx"
    exact = compress(DIGITS, "0,1", output=target, settings=EXACT).report
    report = compress(DIGITS, "0,1", output=target, settings=WITHIN).report
    assert report.guarantee is not None
    assert report.guarantee.level == "within"
    assert report.guarantee.budget == 1e-5
    assert 0 < report.guarantee.epsilon <= 1e-5
    assert report.compressed is not None
    assert exact.compressed is not None
    assert report.compressed.parameters < exact.compressed.parameters
    for before, after in zip(exact.layers, report.layers, strict=True):
        assert before.kept is not None
        assert after.kept is not None
        assert after.kept <= before.kept
    original, shrunk = onnx.load(DIGITS), onnx.load(target)
    generator = np.random.default_rng(1)
    epsilon = Fraction(report.guarantee.epsilon)
    for row in [np.zeros(64), np.ones(64), *generator.integers(0, 17, size=(3, 64)) / 16]:
        point = [Fraction(value) for value in row.tolist()]
        for a, b in zip(exact_output(shrunk, point), exact_output(original, point), strict=True):
            assert abs(a - b) <= epsilon


def test_a_model_of_which_nothing_can_go_is_written_byte_for_byte(tmp_path: Path) -> None:
    report, target = small(all_unstable(), tmp_path)
    assert target.read_bytes() == all_unstable().SerializeToString()
    assert report.compressed == report.model
    assert "Nothing could be removed" in str(report)
    assert not report.cut_short


@pytest.mark.parametrize("batch", ["N", 1, 3])
@pytest.mark.parametrize("settings", [EXACT, Settings(), WITHIN], ids=["exact", "roundoff", "within"])
def test_free_and_fixed_batches(tmp_path: Path, batch: Any, settings: Settings) -> None:
    box = None if batch == "N" else {"lo": np.zeros((batch, 2)), "hi": np.ones((batch, 2))}
    _, target = small(known(batch=batch), tmp_path, "0,1" if box is None else box, settings=settings)
    points = grid()[: 3 if batch == "N" else batch]
    (before,), (after,) = run(known(batch=batch).SerializeToString(), x=points), run(target, x=points)
    assert np.abs(after - before).max() <= 1e-4
    assert target.stat().st_size < len(known(batch=batch).SerializeToString()) + 1000


@pytest.mark.parametrize(("dtype", "gap"), [(np.float16, 0.1), (np.float32, 1e-5), (np.float64, 1e-14)])
def test_all_float_formats(tmp_path: Path, dtype: Any, gap: float) -> None:
    model = known(dtype)
    report, target = small(model, tmp_path)
    kept = report.layers[0].kept
    assert kept is not None
    assert kept <= 3
    assert {tensor.data_type for tensor in onnx.load(target).graph.initializer} == {
        model.graph.initializer[0].data_type
    }
    (before,), (after,) = run(model.SerializeToString(), x=grid(dtype)), run(target, x=grid(dtype))
    assert after.dtype == dtype
    assert np.abs(after.astype(float) - before.astype(float)).max() <= gap


def test_several_inputs(tmp_path: Path) -> None:
    report, target = small(two_inputs(), tmp_path, ["a=0,1", "b=0,1"])
    assert [row.inactive for row in report.layers] == [1, 1]
    assert [row.kept for row in report.layers] == [2, 2]
    generator = np.random.default_rng(0)
    a, b = generator.random((50, 2), np.float32), generator.random((50, 1), np.float32)
    (before,), (after,) = run(two_inputs().SerializeToString(), a=a, b=b), run(target, a=a, b=b)
    assert np.abs(after - before).max() <= 1e-5


def test_an_input_without_a_domain_is_named(tmp_path: Path) -> None:
    source = saved(two_inputs(), tmp_path / "in.onnx")
    with pytest.raises(DomainError, match="no domain for input 'b'"):
        compress(source, "a=0,1", output=tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_residual_model_shrinks_where_all_addends_agree(tmp_path: Path) -> None:
    report, target = small(residual(), tmp_path)
    assert [row.inactive for row in report.layers] == [1, 1]
    assert [row.kept for row in report.layers] == [2, 2]
    (before,), (after,) = run(residual().SerializeToString(), x=grid()), run(target, x=grid())
    assert np.abs(after - before).max() <= 1e-5


@pytest.mark.parametrize("kind", ["Erf", "Sin"])
def test_an_opaque_operation_stays_and_what_is_around_it_shrinks(tmp_path: Path, kind: str) -> None:
    report, target = small(opaque_between(kind), tmp_path)
    assert kind in [node.op_type for node in onnx.load(target).graph.node]
    first, behind = report.layers
    assert first.kept is not None
    assert first.kept <= 3
    assert (behind.undecided, behind.kept) == (3, 3)
    assert behind.reason == "behind an operation that is not modelled"
    assert report.check is not None
    assert report.check.measured_only
    assert report.check.float64 is None
    assert report.check.measured is not None
    assert report.check.points >= 1000
    assert "measured only" in str(report)
    assert any(kind in note for note in report.notes)
    (before,), (after,) = run(opaque_between(kind).SerializeToString(), x=grid()), run(target, x=grid())
    assert np.abs(after - before).max() <= 1e-5


def test_a_hidden_tensor_that_is_also_an_output_keeps_its_shape(tmp_path: Path) -> None:
    model = known()
    model.graph.output.append(helper.make_tensor_value_info("h1", onnx.TensorProto.FLOAT, ["N", 6]))
    report, target = small(model, tmp_path)
    assert report.layers[0].kept == 6
    assert any("graph output" in refusal.why for refusal in report.refusals)
    assert [value.shape for value in run(target, x=grid())] == [(441, 2), (441, 6)]


def test_outputs_of_any_rank_are_reported(tmp_path: Path) -> None:
    nodes = [*known().graph.node, helper.make_node("Reshape", ["y", "shape"], ["image"])]
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in known().graph.initializer}
    model = build(nodes, {"x": ["N", 2]}, {"image": ["N", 1, 2]}, constants | {"shape": np.array([-1, 1, 2])})
    report, target = small(model, tmp_path, settings=WITHIN)
    assert len(report.to_json()["guarantee"]["epsilons"]["image"]) == 2
    assert run(target, x=grid())[0].shape == (441, 1, 2)


# Bytes, files, metadata


@pytest.mark.parametrize("settings", [EXACT, Settings(), WITHIN], ids=["exact", "roundoff", "within"])
@pytest.mark.parametrize("make", [known, residual, opaque_between, lambda: onnx.load(DIGITS)])
def test_the_same_input_gives_the_same_bytes(
    tmp_path: Path, make: Callable[[], ModelProto], settings: Settings
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = (small(make(), tmp_path / name, settings=settings)[1] for name in "12")
    assert first.read_bytes() == second.read_bytes()


def test_another_seed_proves_the_same(tmp_path: Path) -> None:
    reports = [
        compress(
            DIGITS, "0,1", output=tmp_path / f"{seed}.onnx", settings=Settings(prover=ProverSettings(seed=seed))
        ).report
        for seed in (0, 1)
    ]
    assert reports[0].layers == reports[1].layers
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()


@pytest.mark.parametrize("make", [known, residual, two_inputs, opaque_between, lambda: onnx.load(DIGITS)])
def test_twice_at_exact_changes_nothing(tmp_path: Path, make: Callable[[], ModelProto]) -> None:
    _, once = small(make(), tmp_path, settings=EXACT)
    twice = tmp_path / "twice.onnx"
    report = compress(once, "0,1", output=twice, settings=EXACT).report
    assert twice.read_bytes() == once.read_bytes()
    assert report.compressed == report.model
    assert report.check is not None
    assert "nothing was rewritten" in report.check.note


def test_random_networks_twice(tmp_path: Path) -> None:
    for seed in range(5):
        folder = tmp_path / str(seed)
        folder.mkdir()
        _, once = small(random_chain([3, 8, 8, 2], seed), folder, settings=EXACT)
        twice, again = folder / "twice.onnx", folder / "again.onnx"
        compress(once, "0,1", output=twice, settings=EXACT)
        compress(twice, "0,1", output=again, settings=EXACT)
        assert again.read_bytes() == twice.read_bytes()


def test_the_original_is_never_replaced(tmp_path: Path) -> None:
    path = saved(known(), tmp_path / "net.onnx")
    link = tmp_path / "link.onnx"
    link.symlink_to(path)
    for target in (path, link):
        with pytest.raises(UsageError, match="would replace the original"):
            compress(path, "0,1", output=target)
    assert path.read_bytes() == known().SerializeToString()
    assert sorted(child.name for child in tmp_path.iterdir()) == ["link.onnx", "net.onnx"]


def test_write_protected_files_are_never_replaced(tmp_path: Path) -> None:
    source, target = saved(known(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    target.write_bytes(b"precious")
    target.chmod(0o444)
    with pytest.raises(OutputError, match=r"out\.onnx: is write-protected"):
        compress(source, "0,1", output=target)
    assert target.read_bytes() == b"precious"


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf"), True, "1e-3", None])
def test_budgets_that_are_none(budget: float) -> None:
    with pytest.raises(UsageError, match="expected a positive number"):
        Within(budget)


def test_a_guarantee_in_words_is_no_level() -> None:
    with pytest.raises(UsageError, match=r"guarantee 'exact': expected Exact\(\), Roundoff\(\) or Within\(EPS\)"):
        Settings("exact")  # type: ignore[arg-type]


def test_samples_outside_the_domain_are_counted(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    width = known().graph.input[0].type.tensor_type.shape.dim[1].dim_value
    data = np.vstack([np.full((3, width), 0.5), np.full((2, width), 255.0)])
    report = compress(source, "0,1", output=tmp_path / "out.onnx", data=data).report
    assert any("2 of 5 data samples lie outside the domain" in note for note in report.notes)


def test_gzip_in_and_out(tmp_path: Path) -> None:
    plain, packed = tmp_path / "in.onnx", tmp_path / "in.onnx.gz"
    saved(known(), plain)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    compress(plain, "0,1", output=tmp_path / "a.onnx")
    compress(packed, "0,1", output=tmp_path / "b.onnx")
    report = compress(packed, "0,1", output=tmp_path / "c.onnx.gz").report
    compress(plain, "0,1", output=tmp_path / "d.onnx.gz")
    want = (tmp_path / "a.onnx").read_bytes()
    assert (tmp_path / "b.onnx").read_bytes() == want
    assert gzip.decompress((tmp_path / "c.onnx.gz").read_bytes()) == want
    assert (tmp_path / "c.onnx.gz").read_bytes() == (tmp_path / "d.onnx.gz").read_bytes()
    assert report.check is not None
    assert report.check.points >= 1000


def test_gzip_of_a_model_of_which_nothing_can_go(tmp_path: Path) -> None:
    source = saved(all_unstable(), tmp_path / "in.onnx")
    compress(source, "0,1", output=tmp_path / "out.onnx.gz")
    assert gzip.decompress((tmp_path / "out.onnx.gz").read_bytes()) == source.read_bytes()


@pytest.mark.parametrize(
    ("settings", "words"),
    [(EXACT, "exact"), (Settings(), "roundoff"), (WITHIN, "within=1e-05")],
    ids=["exact", "roundoff", "within"],
)
def test_the_output_says_what_it_is(tmp_path: Path, settings: Settings, words: str) -> None:
    model = known()
    model.metadata_props.add(key="author", value="somebody")
    model.metadata_props.add(key="reluce.version", value="an older one")
    model.producer_name, model.doc_string = "trainer", "a description"
    report, target = small(model, tmp_path, settings=settings)
    shrunk = onnx.load(target)
    entries = {entry.key: entry.value for entry in shrunk.metadata_props}
    assert len(entries) == len(shrunk.metadata_props)
    assert report.guarantee is not None
    assert entries.pop("reluce.domain_sha256") == hex_of_box()
    assert entries == {
        "author": "somebody",
        "reluce.version": reluce.__version__,
        "reluce.original_sha256": hashlib.sha256(model.SerializeToString()).hexdigest(),
        "reluce.first_sha256": "unknown",  # somebody else's entry
        "reluce.spent": '{"y": null}',
        "reluce.domain": "range 0,1",
        "reluce.guarantee": words,
        "reluce.epsilon": repr(report.guarantee.epsilon),
    }
    assert (shrunk.producer_name, shrunk.doc_string) == ("trainer", "a description")
    assert [info.name for info in (*shrunk.graph.input, *shrunk.graph.output)] == ["x", "y"]


def hex_of_box() -> str:
    lower, upper = np.full(2, Fraction(0), object), np.full(2, Fraction(1), object)
    return Box({"x": lower}, {"x": upper}).digest


# The report


def test_the_report_has_every_documented_field(tmp_path: Path) -> None:
    report = compress(DIGITS, "0,1", output=tmp_path / "out.onnx", settings=WITHIN).report
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    for sizes in (data["model"], data["compressed"]):
        assert set(sizes) >= {"parameters", "nonzeros", "macs", "bytes"}
        assert all(isinstance(value, int) for value in sizes.values())
    for layer in data["layers"]:
        verdicts = [layer[name] for name in ("inactive", "active", "constant", "unstable", "undecided")]
        assert sum(verdicts) == layer["units"]
        assert layer["kept"] <= layer["units"] - layer["inactive"]
    assert [layer["name"] for layer in data["layers"]] == ["relu1", "relu2"]
    assert data["guarantee"]["level"] == "within"
    assert 0 < data["guarantee"]["epsilon"] <= 1e-5
    assert isinstance(data["max_deviation"], float)
    assert set(data["seconds"]) >= {"load", "refute", "bounds", "rewrite", "verify", "total"}
    parts = sum(value for name, value in data["seconds"].items() if name != "total")
    assert 0 < parts <= data["seconds"]["total"] + 0.01
    assert data["cut_short"] is False


def test_inspect_finds_the_same_verdicts_and_writes_nothing(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    report = inspect(source, "0,1").report
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]
    assert report.compressed is None
    assert report.guarantee is None
    (row,) = report.layers
    assert (row.constant, row.inactive, row.active, row.unstable, row.undecided, row.kept) == (1, 1, 3, 1, 0, None)
    assert "compressed" not in report.to_json()
    assert "kept" not in str(report)


def test_sizes_count_what_is_stored(tmp_path: Path) -> None:
    report, target = small(known(), tmp_path)
    for sizes, path in ((report.model, tmp_path / "in.onnx"), (report.compressed, target)):
        assert sizes is not None
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
        assert sizes.parameters == sum(array.size for array in arrays)
        assert sizes.nonzeros == sum(int(np.count_nonzero(array)) for array in arrays)
        assert sizes.macs == sum(array.size for array in arrays if array.ndim == 2)
        assert sizes.bytes == path.stat().st_size


# Arguments


def test_data_as_path_array_and_mapping_agree(tmp_path: Path) -> None:
    X = np.load(EXAMPLES / "digits-data.npz")["X"]
    forms: list[Any] = [EXAMPLES / "digits-data.npz", str(EXAMPLES / "digits-data.npz"), X, {"pixels": X}]
    reports = [compress(DIGITS, "0,1", output=tmp_path / f"{n}.onnx", data=form).report for n, form in enumerate(forms)]
    assert len({(tmp_path / f"{n}.onnx").read_bytes() for n in range(len(forms))}) == 1
    assert all(report.layers == reports[0].layers for report in reports)


def test_data_are_never_proof(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    without = inspect(source, "0,1").report
    outside = np.full((10, 2), 100.0)  # there the inactive unit would fire
    assert inspect(source, "0,1", data=outside).report.layers == without.layers
    inside = np.zeros((10, 2))  # there every unit but one looks stable
    assert inspect(source, "0,1", data=inside).report.layers == without.layers
    broken = np.full((3, 2), np.nan)
    assert inspect(source, "0,1", data=broken).report.layers == without.layers


@pytest.mark.parametrize("data", [np.zeros((3, 5)), np.array(["a"]), {"q": np.zeros((1, 2))}])
def test_data_that_do_not_fit(tmp_path: Path, data: Any) -> None:
    with pytest.raises(DomainError, match="input 'x'"):
        inspect(saved(known(), tmp_path / "in.onnx"), "0,1", data=data)


def test_all_kinds_of_domains_mean_the_same(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    np.savez(tmp_path / "box.npz", lo=np.zeros(2), hi=np.ones(2))
    arrays = {"lo": np.zeros(2), "hi": np.ones(2)}
    kinds: list[Any] = ["0,1", ["0,1"], ["x=0,1"], tmp_path / "box.npz", str(tmp_path / "box.npz"), arrays]
    assert len({inspect(source, kind).report.layers for kind in kinds}) == 1


def test_a_domain_of_a_single_point_makes_everything_constant(tmp_path: Path) -> None:
    report, target = small(known(), tmp_path, "0.5,0.5")
    assert report.layers[0].constant == 6
    (before,) = run(known().SerializeToString(), x=np.full((1, 2), 0.5, np.float32))
    (after,) = run(target, x=np.full((1, 2), 0.5, np.float32))
    assert np.abs(before - after).max() <= 1e-6


def test_a_range_so_wide_that_bounds_overflow_is_no_crash(tmp_path: Path) -> None:
    report, _ = small(known(), tmp_path, "-1e308,1e308")
    (row,) = report.layers
    assert row.inactive == 0
    assert row.constant <= 1
    assert "not modelled" not in str(report)


@pytest.mark.parametrize("domain", ["0.1,0.1", "0,0.1", "0.1,0.30000000001"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_domains_whose_ends_no_float_holds(tmp_path: Path, domain: str, dtype: Any) -> None:
    report, _ = small(known(dtype), tmp_path, domain)
    assert report.layers[0].inactive + report.layers[0].constant >= 1


def test_points_that_float32_rounds_out_of_the_domain_do_not_fail_the_check(tmp_path: Path) -> None:
    # 0.1 + 0.4 - 0.5 = 0, but float32 rounds both inputs up, and there the unit fires.
    steep = 2.0**20
    model = chain([([[steep, steep], [1, -1]], [-steep / 2, 0]), ([[steep, 1]], [0])])
    upper = np.array([Fraction(1, 10), Fraction(4, 10)], object)
    source, box = saved(model, tmp_path / "in.onnx"), Box({"x": np.full(2, Fraction(0), object)}, {"x": upper})
    report = compress(source, box, output=tmp_path / "out.onnx", certificate=False).report
    assert report.layers[0].kept == 1
    # The checker rounds such ends outward, where the unit does fire: with a certificate it stays, and the user is told.
    report = compress(source, box, output=tmp_path / "out.onnx").report
    assert report.layers[0].kept == 2
    assert any("did not accept" in refusal.why for refusal in report.refusals)


@pytest.mark.parametrize("value", ["", "=", "=0", "=-1", "=nan", "=inf", "=1,2"])
def test_budgets_that_cannot_be(value: str) -> None:
    with pytest.raises(UsageError, match="with a positive number EPS"):
        parse_guarantee(f"within{value}")


@pytest.mark.parametrize("text", ["exakt", "Exact", "roundoff=1", ""])
def test_guarantees_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="expected 'exact', 'roundoff' or 'within=EPS'"):
        parse_guarantee(text)


def test_guarantees_in_words() -> None:
    for level in (Exact(), Roundoff(), Within(1e-5), Within(1 / 3)):
        assert parse_guarantee(str(level)) == level
    assert parse_guarantee("within=1") == Within(1)


def test_open_dimensions_can_be_given(tmp_path: Path) -> None:
    model = known()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    source = saved(model, tmp_path / "in.onnx")
    report = inspect(source, "0,1", settings=Settings(input_shapes={"x": (-1, 2)})).report
    assert report.layers[0].inactive == 1
    with pytest.raises(ModelError, match="no graph input 'q'"):
        inspect(source, "0,1", settings=Settings(input_shapes={"q": (-1, 2)}))


def test_errors_leave_an_existing_file_alone(tmp_path: Path) -> None:
    source, target = saved(known(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    target.write_bytes(b"precious")
    with pytest.raises(DomainError):
        compress(source, "1,0", output=target)
    with pytest.raises(ModelError):
        compress(tmp_path / "none.onnx", "0,1", output=target)
    assert target.read_bytes() == b"precious"
    with pytest.raises(OutputError, match="folder"):
        compress(source, "0,1", output=tmp_path / "none" / "out.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"in.onnx", "out.onnx"}


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    compress(saved(known(), tmp_path / "in.onnx"), "0,1", output=tmp_path / "out.onnx", progress=told.append)
    assert told[0] == "loading"
    assert "rewriting" in told
    assert told[-1] == "checking the result"


def test_scalar_samples_and_decimal_ends(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "column"], ["r"]),
        helper.make_node("Gemm", ["r", "W", "b"], ["z"]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("MatMul", ["h", "V"], ["y"]),
    ]
    weights = {
        "column": np.array([-1, 1]),
        "W": np.array([[10, -3]], np.float32),
        "b": np.array([-1, 3], np.float32),
        "V": np.ones((2, 1), np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "scalar",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 1])],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    report, _ = small(model, tmp_path, "0.1,1")
    # 10 x - 1 >= 0 on [1/10, 1], with equality at an end that is no float: only exact arithmetic can tell.
    assert report.layers[0].verdicts == ("active", "active")


@pytest.mark.parametrize("shared", [True, False])
def test_weights_that_are_shared_are_not_stored_twice_to_save_a_unit(shared: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    second = "W" if shared else "W2"
    nodes = [
        helper.make_node("Gemm", ["x", "W", "low"], ["z1"]),
        helper.make_node("Relu", ["z1"], ["h1"]),
        helper.make_node("Gemm", ["x", second, "zero"], ["z2"]),
        helper.make_node("Relu", ["z2"], ["h2"]),
        helper.make_node("MatMul", ["h1", "V"], ["y1"]),
        helper.make_node("MatMul", ["h2", "V2"], ["y2"]),
        helper.make_node("Add", ["y1", "y2"], ["y"]),
    ]
    weights = {name: generator.normal(size=(10, 8)).astype(np.float32) for name in ("W", second)}
    weights |= {name: generator.normal(size=(8, 2)).astype(np.float32) for name in ("V", "V2")}
    weights |= {"low": np.array([-100, *[0] * 7], np.float32), "zero": np.zeros(8, np.float32)}
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 10])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    report, target = small(model, tmp_path)
    assert report.layers[0].inactive == 1
    assert report.compressed is not None
    if shared:
        assert target.read_bytes() == (tmp_path / "in.onnx").read_bytes()
        assert report.compressed == report.model
        assert report.layers[0].kept == 8
        assert "several nodes share" in report.refusals[0].why
    else:
        assert report.compressed.parameters < report.model.parameters
        assert report.layers[0].kept == 7


# What a solver attests


def by_solver(method: str, trust: bool, level: Level | None = None, **more: Any) -> Settings:
    return Settings(level or Exact(), prover=ProverSettings(method=method, trust_solver=trust), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["leo", "isa"])
def test_attested_units_go_only_where_the_solver_is_trusted(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: in_process(problem))
    report, target = small(beyond_intervals(), tmp_path, "-1,1", settings=by_solver(method, trust=False))
    second = report.layers[1]
    assert (second.undecided, second.unstable, second.attested) == (3, 1, 3)
    assert second.attested_as == ("inactive", "active", "active", "undecided")
    assert target.read_bytes() == beyond_intervals().SerializeToString()
    assert report.guarantee is not None
    assert report.guarantee.level == "exact"
    target.unlink()

    report, target = small(beyond_intervals(), tmp_path, "-1,1", settings=by_solver(method, trust=True))
    second = report.layers[1]
    assert (second.inactive, second.active, second.unstable, second.undecided) == (1, 2, 1, 0)
    assert second.proved_by[:3] == (method,) * 3
    assert (second.attested, second.kept) == (3, 2)
    assert report.guarantee is not None
    assert (report.guarantee.level, report.guarantee.epsilon) == ("attested", 0.0)
    assert "Guarantee: attested by HiGHS, not proved. If it is right about 3 units" in " ".join(str(report).split())
    shrunk = onnx.load(target)
    entries = {entry.key: entry.value for entry in shrunk.metadata_props}
    assert entries["reluce.guarantee"] == "attested"
    assert entries["reluce.attested_by"] == f"{method.upper()} on HiGHS"
    for point in [[Fraction(a, 4), Fraction(b, 4)] for a in range(-4, 5) for b in range(-4, 5)]:
        assert exact_output(shrunk, point) == exact_output(beyond_intervals(), point)


def test_a_trusted_solver_that_had_nothing_to_add_leaves_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: in_process(problem))
    report = compress(known(), "0,1", settings=by_solver("isa", trust=True)).report
    assert report.guarantee is not None
    assert report.guarantee.level == "exact"
    assert [row.attested for row in report.layers] == [0]


@pytest.mark.parametrize("level", [Exact(), Within(1e-5)], ids=str)
def test_a_lying_solver(tmp_path: Path, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trust its lies change nothing; with trust, what can be seen of them stops the run."""
    monkeypatch.setattr(_ladder, "open_session", lambda solver, problem, stop: lying(problem))
    monkeypatch.setattr(_ladder, "first_look", lambda *_: None)
    source, target = saved(beyond_intervals(), tmp_path / "in.onnx"), tmp_path / "out.onnx"
    report = compress(source, "-1,1", output=target, settings=by_solver("leo", False, level)).report
    assert target.read_bytes() == source.read_bytes()
    assert sum(row.attested or 0 for row in report.layers) > 0
    target.unlink()
    with pytest.raises(CheckFailed):
        compress(source, "-1,1", output=target, settings=by_solver("leo", True, level))
    assert not target.exists()


@pytest.mark.parametrize("method", ["leo", "isa"])
def test_time_and_ctrl_c_stop_a_solver_prover(method: str) -> None:
    began = time.monotonic()
    report = inspect(DIGITS, "0,1", settings=by_solver(method, trust=False, time_limit=0.5)).report
    assert time.monotonic() - began < 0.5 + 2 + 2  # the rest is for reading the file on a busy machine
    assert report.cut_short
    assert sum(row.inactive for row in report.layers) == 15  # proved by intervals

    def pressed(what: str) -> None:
        if what.startswith(method.upper()):
            signal.raise_signal(signal.SIGINT)

    began = time.monotonic()
    report = inspect(DIGITS, "0,1", settings=by_solver(method, trust=False), progress=pressed).report
    assert time.monotonic() - began < 4
    assert report.cut_short
    assert report.solver is not None
    assert report.solver.solves == report.solver.unanswered <= 2


@pytest.mark.parametrize(
    ("prover", "words"),
    [
        (ProverSettings(method="milp"), "prover 'milp': expected one of ladder, leo, isa"),  # type: ignore[arg-type]
        (ProverSettings(trust_solver=True), "trust_solver goes with the provers that ask a solver"),
        (ProverSettings(method="leo", solver="cplex"), "no solver 'cplex'"),
    ],
)
def test_settings_of_solvers_that_make_no_sense(prover: ProverSettings, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Settings(prover=prover)
