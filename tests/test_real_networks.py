"""What the whole path finds on trained networks, and that it falls into none of the known traps."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from rewriting import level_of
from soundness_cases import CASES
from tiny_models import exact_output, run

from reluce import Box, Exact, ModelError, Report, Settings, Within, compress, to_torch
from reluce.domain import box_from_ranges, make_box
from reluce.facts import Facts, Verdict
from reluce.io import load, open_model
from reluce.network import Network
from reluce.prove import prove

pytestmark = pytest.mark.shared
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Known:
    """Units that must at least be found inactive and active in each layer, and how many may stay undecided in all."""

    file: str
    sha256: str  # of the file that was measured, its first digits
    stable: list[tuple[int, int]]
    undecided: int = 0
    images: str = "mnist"


NETWORKS = [
    Known("mnist_25x25_l1-0.001_seed0", "71e7af4440e9e6b0", [(7, 4), (5, 4)]),
    Known("mnist_50x50_l1-0.001_seed0", "0dbfe3be1451ada8", [(16, 20), (16, 16)]),
    Known("mnist_100x100_l1-0.0001_seed0", "75f96a7afc745bc2", [(11, 7), (15, 8)]),
    Known("mnist_100x100_l1-0.0005_seed0", "a34f6360114e712a", [(34, 43), (32, 34)]),
    Known("mnist_400x400_l1-0.0001_seed0", "69b968ba8147e36f", [(96, 199), (81, 81)]),
    Known("mnist_800x800_l1-0.000075_seed0", "0c4f281e5fcff29d", [(202, 342), (161, 177)], undecided=1),
    Known(
        "mnist_100x100x100x100x100_l1-0.0001_seed0",
        "fc0d9e39d114eaa5",
        [(14, 2), (17, 7), (19, 12), (23, 13), (21, 4)],
        undecided=2,
    ),
    Known("cifar10_400x400_l1-0.0001_seed0", "a9e380689dad781c", [(233, 128), (85, 45)], images="cifar10_jpeg"),
]
"""All stable units of every network; a constant unit counts on either side."""


def images(shared: Path, name: str) -> Array:
    if name != "mnist":
        return np.random.default_rng(0).random((500, 3072), np.float32)
    with np.load(shared / "data" / "mnist.npz") as data:
        return (data["test_x"].reshape(-1, 784) / 255).astype(np.float32)


def assert_the_verdicts(report: Report, known: Known) -> None:
    assert len(report.layers) == len(known.stable)
    assert sum(row.undecided for row in report.layers) <= known.undecided
    for row, (inactive, active) in zip(report.layers, known.stable, strict=True):
        found = row.constant + row.inactive + row.active
        assert row.inactive + row.constant >= inactive
        assert row.active + row.constant >= active
        assert found >= inactive + active
        assert found + row.unstable + row.undecided == row.units


@pytest.mark.parametrize("known", NETWORKS, ids=lambda known: known.file)
def test_trained_networks(known: Known, shared: Path, tmp_path: Path) -> None:
    source = shared / "networks" / "reluce_l1" / f"{known.file}.onnx"
    if not hashlib.sha256(source.read_bytes()).hexdigest().startswith(known.sha256):
        pytest.skip(f"{source.name} is not the file that these numbers belong to: its SHA-256 differs")
    x = images(shared, known.images)
    network = load(source).network
    (name_of_input,) = network.inputs
    feeds = {name_of_input: x.reshape(len(x), *network.shape(name_of_input))}
    (wanted,) = run(source, **feeds)
    kept = {}
    for level, settings in (("exact", Settings(Exact())), ("roundoff", Settings()), ("within", Settings(Within(1e-5)))):
        target = tmp_path / f"{level}.onnx"
        report = compress(source, "0,1", output=target, settings=settings).report
        assert_the_verdicts(report, known)
        assert report.compressed is not None
        assert report.guarantee is not None
        assert report.check is not None
        assert report.compressed.parameters < report.model.parameters
        assert all((e <= report.guarantee.budgets[name]).all() for name, e in report.guarantee.epsilons.items())
        assert report.guarantee.budget == {"exact": 0.0, "within": 1e-5}.get(level, report.guarantee.budget)
        (found,) = run(target, **feeds)
        assert np.abs(found.astype(np.float64) - wanted).max() <= report.check.allowed
        kept[level] = [row.kept for row in report.layers]
        for row in report.layers:
            assert row.kept is not None
            assert row.kept <= row.units - row.inactive - row.constant
            if level != "exact":
                assert row.kept < row.units - row.inactive  # active units were merged
    assert all(a <= b for a, b in zip(kept["within"], kept["exact"], strict=True))
    assert all(a <= b for a, b in zip(kept["roundoff"], kept["exact"], strict=True))


@pytest.mark.parametrize("known", NETWORKS[:1], ids=lambda known: known.file)
def test_trained_networks_twice(known: Known, shared: Path, tmp_path: Path) -> None:
    source = shared / "networks" / "reluce_l1" / f"{known.file}.onnx"
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    compress(source, "0,1", output=once, settings=Settings(Exact()))
    compress(once, "0,1", output=twice, settings=Settings(Exact()))
    assert once.read_bytes() == twice.read_bytes()


TLL = "vnncomp2022/tllverifybench/tllBench_n=2_N=M=8_m=1_instance_0_0.onnx.gz"


def test_skips_around_the_banks_of_a_lattice_network(shared: Path, tmp_path: Path) -> None:
    """Much of it is linear where it stands, and its linear layers are narrow: a third less with skips."""
    source, x = tmp_path / "in.onnx", np.random.default_rng(0).uniform(-2, 2, (500, 2)).astype(np.float32)
    source.write_bytes(gzip.decompress((shared / "networks" / TLL).read_bytes()))
    left = {}
    for skips in (False, True):
        target = tmp_path / f"{skips}.onnx"
        report = compress(source, "-2,2", output=target, settings=Settings(skips=skips)).report
        assert report.certificate is not None
        assert report.compressed is not None
        assert report.check is not None
        left[skips] = report.compressed.parameters
        assert any("skip: what reads" in note for note in report.notes) is skips
        found, wanted = (
            run(path, **{name: x})[0] for path, name in ((target, input_of(target)), (source, input_of(source)))
        )
        assert np.abs(found.astype(np.float64) - wanted).max() <= report.check.allowed
    assert left[False] < 8000  # of 17,171
    assert left[True] < 0.75 * left[False]


def test_a_logit_subtracted_from_all(shared: Path, tmp_path: Path) -> None:
    source, target = shared / "networks" / "reluce_l1" / f"{NETWORKS[4].file}.onnx", tmp_path / "out.onnx"
    report = compress(source, "0,1", output=target, settings=Settings(softmax_shift=True)).report
    assert report.certificate is not None
    assert report.compressed is not None
    assert report.guarantee is not None
    assert report.check is not None
    assert report.compressed.parameters < 133_929  # without
    (by,) = report.guarantee.shifted.values()
    x = images(shared, "mnist")[:500]
    (found,), (wanted,) = (run(path, **{input_of(path): x}) for path in (target, source))
    assert np.abs(found.astype(np.float64) - (wanted - wanted[:, [by]])).max() <= report.check.allowed
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()


def input_of(path: Path) -> str:
    return load(path).network.inputs[0]


PRUNED = "isa/pruned_dnn_CIFAR10-rgb_400-400_0.000175_0003.onnx"


def test_a_network_that_isa_had_compressed(shared: Path, tmp_path: Path) -> None:
    """Exactly as its authors left it, and near dependence that exact rank does not see, within 3e-7."""
    report = compress(shared / "networks" / PRUNED, "0,1", settings=Settings(Within(3e-7))).report
    assert report.compressed is not None
    assert report.guarantee is not None
    assert report.model.parameters == 387_974
    assert report.compressed.parameters <= 104_400
    assert report.guarantee.epsilon <= 3e-7
    assert report.floats is not None
    assert all((report.floats.after[name] <= 2 * errors).all() for name, errors in report.floats.before.items())


ALLOWED = {
    "INACTIVE": {Verdict.CONSTANT, Verdict.INACTIVE, Verdict.UNDECIDED},
    "ACTIVE": {Verdict.CONSTANT, Verdict.ACTIVE, Verdict.UNDECIDED},
    "UNSTABLE": {Verdict.UNSTABLE, Verdict.UNDECIDED},
}


def truth(shared: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "cases" / f"{name}.json").read_text())
    return found


def box_of(network: Network, case: dict[str, Any]) -> Box:
    lo, hi = ([float.fromhex(value) for value in case[end]] for end in ("lo", "hi"))
    return make_box(network, {"lo": np.array(lo), "hi": np.array(hi)})


def verdict_of(facts: Facts, layer: int, unit: int) -> Verdict:
    return Verdict(int(list(facts.layers.values())[layer - 1].verdict[unit]))


def test_no_case_is_forgotten(shared: Path) -> None:
    assert {path.stem for path in (shared / "cases").glob("*.json")} == {*CASES, "nan_inf_weights"}


@pytest.mark.parametrize("name", CASES)
def test_no_verdict_contradicts_the_truth(name: str, shared: Path) -> None:
    case, network = truth(shared, name), load(shared / "cases" / f"{name}.onnx").network
    assert case["truth"]
    facts = prove(network, box_of(network, case)).facts
    for unit in case["truth"]:
        verdict = verdict_of(facts, unit["layer"], unit["unit"])
        assert verdict in ALLOWED[unit["status"]], (unit, verdict)


@pytest.mark.parametrize("name", CASES)
def test_the_true_witnesses_are_recognised(name: str, shared: Path) -> None:
    """Given the points at which a unit does both, nothing is left undecided."""
    case, network = truth(shared, name), load(shared / "cases" / f"{name}.onnx").network
    points = [unit[side] for unit in case["truth"] for side in ("pos", "neg") if unit[side]]
    if not points:
        points = [case["lo"]]
    data = {network.inputs[0]: np.array([[float.fromhex(value) for value in point] for point in points])}
    box = box_of(network, case)
    assert box.contains(data).all()
    facts = prove(network, box, data).facts
    for unit in case["truth"]:
        assert verdict_of(facts, unit["layer"], unit["unit"]) in ALLOWED[unit["status"]]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("budget", [None, 1e-5], ids=["exact", "within"])
def test_compressed_cases_keep_their_function(name: str, budget: float | None, shared: Path, tmp_path: Path) -> None:
    case, source = truth(shared, name), shared / "cases" / f"{name}.onnx"
    before = load(source).network
    report = compress(
        source, box_of(before, case), output=tmp_path / "out.onnx", settings=Settings(level_of(budget))
    ).report
    assert report.guarantee is not None
    assert report.guarantee.epsilon <= (budget or 0.0)
    old, new = onnx.load(source), onnx.load(tmp_path / "out.onnx")
    points = [unit[side] for unit in case["truth"] for side in ("pos", "neg") if unit[side]]
    for point in [case["lo"], case["hi"], *points]:
        exact = [Fraction(float.fromhex(value)) for value in point]
        for a, b in zip(exact_output(old, exact), exact_output(new, exact), strict=True):
            assert abs(a - b) <= Fraction(report.guarantee.epsilon)


def test_weights_that_are_no_numbers_are_refused(shared: Path, tmp_path: Path) -> None:
    assert truth(shared, "nan_inf_weights")["reject"] is True
    with pytest.raises(ModelError, match="weights must be finite"):
        compress(shared / "cases" / "nan_inf_weights.onnx", "0,1", output=tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == []


def test_corners_of_equality_go_and_only_they(shared: Path, tmp_path: Path) -> None:
    report = compress(shared / "cases" / "corner_equality.onnx", "0,1", output=tmp_path / "out.onnx").report
    assert [(row.units, row.kept) for row in report.layers] == [(5, 1)]


def test_a_box_of_decimals_misses_no_ulp(shared: Path) -> None:
    """The end of the normalised pixel range, spelled in decimals, must not be rounded inward."""
    network = load(shared / "cases" / "normalisation_ulp.onnx").network
    case = truth(shared, "normalisation_ulp")
    low, high = (float.fromhex(case[end][0]) for end in ("lo", "hi"))
    box = box_from_ranges(network, [f"{low!r},{high!r}"])
    assert verdict_of(prove(network, box).facts, 1, 0) not in (Verdict.INACTIVE, Verdict.ACTIVE, Verdict.CONSTANT)


IN_OTHER_HANDS = [
    ("reluce_l1/mnist_50x50_l1-0.001_seed0.onnx", "0,1", 1e-5),
    ("vnncomp2022/rl_benchmarks/cartpole.onnx.gz", "-0.05,0.05", None),
    ("vnncomp2021/acasxu/ACASXU_run2a_1_1_batch_2000.onnx", "vnncomp2021/acasxu/prop_3.vnnlib", None),
    ("sisl/HCAS_rect_v6_pra0_tau00_25HU_3000.nnet", None, None),
]


@pytest.mark.parametrize(("file", "domain", "budget"), IN_OTHER_HANDS, ids=[row[0] for row in IN_OTHER_HANDS])
def test_the_same_network_in_other_hands(file: str, domain: str | None, budget: float | None, shared: Path) -> None:
    """As a file, and as a torch module made of it: the same verdicts, the same sizes."""
    source, settings = shared / "networks" / file, Settings(level_of(budget))
    where = shared / "networks" / domain if domain is not None and "vnnlib" in domain else domain
    from_file = compress(source, where, settings=settings)
    loaded = open_model(source)
    (name,) = loaded.network.inputs
    if domain is None:
        assert loaded.ranges is not None
        low, high = loaded.ranges.ends[name]
        where = Box({"": low}, {"": high})
    example = torch.zeros(*((2,) if loaded.network.batched else ()), *loaded.network.shape(name))
    from_module = compress(to_torch(source), where, example_inputs=example, settings=settings)
    for one, other in zip(from_file.report.layers, from_module.report.layers, strict=True):
        assert (one.verdicts, one.kept_units) == (other.verdicts, other.kept_units)
    for which in ("model", "compressed"):
        one, other = (getattr(result.report, which) for result in (from_file, from_module))
        assert (one.parameters, one.nonzeros, one.macs) == (other.parameters, other.nonzeros, other.macs)
    assert any(row.kept != row.units for row in from_file.report.layers)
