import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto
from tiny_models import (
    DIGITS,
    EXAMPLES,
    all_unstable,
    beyond_intervals,
    chain,
    known,
    opaque_between,
    random_chain,
    saved,
    two_inputs,
    weight,
    with_weight,
)
from tiny_models import run as run_model

import reluce
from reluce.cli import _run
from reluce.io import Loaded, loads
from reluce_checker.__main__ import main as reluce_check

OPTIONS = [
    "--range",
    "--domain",
    "--domain-from-data",
    "--margin",
    "--save-domain",
    "--data",
    "--time-limit",
    "--seed",
    "--prover",
    "--solver",
    "--trust-solver",
    "--input-shape",
    "--json",
    "--quiet",
]
Capture = pytest.CaptureFixture[str]


def reluce_command(*arguments: str | Path) -> int:
    return _run([str(argument) for argument in arguments])


def script(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from reluce.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_valid(path: Path, width: int = 2) -> bool:
    onnx.checker.check_model(onnx.load(path), full_check=True)
    run_model(path, x=np.zeros((1, width), np.float32))
    return True


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(known(), tmp_path / "in.onnx")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.onnx"


# What is written and printed


def test_compress_writes_a_smaller_network_and_prints_what_it_did(source: Path, target: Path, capsys: Capture) -> None:
    assert reluce_command("compress", source, target, "--range", "0,1") == 0
    printed = capsys.readouterr()
    assert is_valid(target)
    assert names(target.parent) == {"in.onnx", "out.onnx", "out.cert"}
    assert printed.err == ""
    for word in ("range 0,1", "inactive", "parameters", "Guarantee: roundoff", "Check:", "h1"):
        assert word in printed.out


def test_a_guard(source: Path, target: Path, capsys: Capture) -> None:
    report = target.with_name("report.json")
    assert reluce_command("compress", source, target, "--range", "0,1", "--guard", "--json", report) == 0
    assert "Guard: output 'in_domain' is true for the samples of the domain only" in capsys.readouterr().out
    assert json.loads(report.read_text())["guard"]["output"] == "in_domain"
    assert is_valid(target)
    assert run_model(target, x=np.array([[0, 1], [0, 2]], np.float32))[-1].tolist() == [True, False]
    assert reluce_check([str(source), str(target), str(target.with_suffix(".cert")), "--range", "0,1"]) == 0
    assert "guard        'in_domain' is true only in the certificate's domain" in capsys.readouterr().out


def test_a_guard_that_cannot_be(source: Path, target: Path, capsys: Capture) -> None:
    assert reluce_command("compress", source, target, "--range", "0,1", "--guard", "--quiet") == 0
    again = target.with_name("again.onnx")
    assert reluce_command("compress", target, again, "--range", "0,1", "--guard") == 2
    assert "has something called 'in_domain' already: rename it, or leave the guard out" in one_line(capsys)
    assert not again.exists()


def test_inspect_writes_nothing(source: Path, capsys: Capture) -> None:
    assert reluce_command("inspect", source, "--range", "0,1") == 0
    assert "unstable" in capsys.readouterr().out
    assert names(source.parent) == {"in.onnx"}


def test_nothing_could_go_is_said_plainly_and_is_no_failure(tmp_path: Path, target: Path, capsys: Capture) -> None:
    source = saved(all_unstable(), tmp_path / "in.onnx")
    assert reluce_command("compress", source, target, "--range", "0,1") == 0
    assert "Nothing could be removed" in capsys.readouterr().out
    assert target.read_bytes() == source.read_bytes()


def test_version(capsys: Capture) -> None:
    assert reluce_command("--version") == 0
    assert capsys.readouterr().out == f"reluce {reluce.__version__}\n"


@pytest.mark.parametrize(("command", "more"), [("compress", ["--guarantee", "--guard ", "OUT.onnx"]), ("inspect", [])])
def test_help_names_every_option_and_exit_code(command: str, more: list[str], capsys: Capture) -> None:
    assert reluce_command(command, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in [*OPTIONS, *more, "IN.onnx", "NAME=", "exact decimals"]:
        assert word in text, word
    codes = text[text.index("Exit codes:") :]
    for code in ("0 written", "1 the check", "2 usage", "3 the model", "4 the time limit", "5 the output", "70", "130"):
        assert code in codes, code


def test_help_of_all_commands(capsys: Capture) -> None:
    assert reluce_command("--help") == 0
    text = capsys.readouterr().out
    for word in ("compress", "inspect", "--version", "Exit codes:"):
        assert word in text


@pytest.mark.parametrize("command", ["compress", "inspect"])
def test_quiet_prints_nothing(command: str, source: Path, target: Path, capsys: Capture) -> None:
    out = [target] if command == "compress" else []
    assert reluce_command(command, source, *out, "--range", "0,1", "--quiet") == 0
    assert reluce_command(command, source, *out, "--range", "0,1", "-q", "--time-limit", "0") == 4
    assert tuple(capsys.readouterr()) == ("", "")


def test_json_holds_the_printed_numbers(target: Path, tmp_path: Path, capsys: Capture) -> None:
    report = tmp_path / "report.json"
    arguments = ("compress", DIGITS, target, "--range", "0,1", "--guarantee", "within=1e-5", "--json", report)
    assert reluce_command(*arguments) == 0
    printed = capsys.readouterr().out
    data = json.loads(report.read_text())
    for key in ("parameters", "nonzeros", "macs", "bytes"):
        row = next(line for line in printed.splitlines() if key in line)
        cells = [cell.strip() for cell in row.replace("│", "|").strip("|").split("|")]
        assert cells[1:3] == [f"{data[sizes][key]:,}" for sizes in ("model", "compressed")]
    for layer in data["layers"]:
        row = next(line for line in printed.splitlines() if line.startswith(f"│ {layer['name']} "))
        columns = ("units", "constant", "inactive", "active", "unstable", "undecided", "kept")
        assert [int(cell) for cell in row.strip("│").split("│")[1:]] == [layer[name] for name in columns]
    flat = " ".join(printed.split())
    promised = float(flat.split("No output differs by more than ")[1].split()[0])
    assert data["guarantee"]["epsilon"] <= promised <= 1.01 * data["guarantee"]["epsilon"]
    assert f"onnxruntime {data['max_deviation']:.3g}" in flat
    assert data["guarantee"]["level"] == "within"
    assert data["compressed"]["bytes"] == target.stat().st_size


def test_opaque_models_are_labelled(tmp_path: Path, target: Path, capsys: Capture) -> None:
    source, report = saved(opaque_between(), tmp_path / "in.onnx"), tmp_path / "report.json"
    assert reluce_command("compress", source, target, "--range", "0,1", "--json", report) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "measured only" in flat
    assert "Erf" in flat
    assert json.loads(report.read_text())["check"]["measured_only"] is True


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path: Path, target: Path, capsys: Capture) -> None:
    source, model = tmp_path / "in[red].onnx", known()
    for node in model.graph.node:
        for names_of in (node.input, node.output):
            for i, name in enumerate(names_of):
                names_of[i] = name.replace("h1", "h[/relu]")
    assert reluce_command("compress", saved(model, source), target, "--range", "0,1") == 0
    printed = capsys.readouterr().out
    assert "h[/relu]" in printed
    assert "in[red].onnx" in printed.replace("\n", "")


def test_an_ascii_terminal_is_enough(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "réseau.onnx")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = script("compress", source, tmp_path / "out.onnx", "--range", "0,1", env=environment)
    assert done.returncode == 0, done.stderr
    assert is_valid(tmp_path / "out.onnx")


def test_a_reader_that_hangs_up_is_no_failed_check(source: Path, target: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [
        sys.executable,
        "-c",
        "from reluce.cli import main; main()",
        "compress",
        source,
        target,
        "--range",
        "0,1",
    ]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(write)
    assert done.returncode != 1
    assert is_valid(target)


# Domains


def test_all_ways_to_give_a_domain(tmp_path: Path, source: Path, target: Path) -> None:
    np.savez(tmp_path / "box.npz", lo=np.zeros(2), hi=np.ones(2))
    (tmp_path / "box.dat").write_bytes((tmp_path / "box.npz").read_bytes())
    np.save(tmp_path / "X.npy", np.array([[0.0, 1.0], [1.0, 0.0]]))
    found = []
    for domain in (
        ["--range", "0,1"],
        ["--range", "x=0,1"],
        ["--range", "5,6", "--range", "x=0,1"],
        ["--domain", tmp_path / "box.npz"],
        ["--domain", tmp_path / "box.dat"],
        ["--domain-from-data", tmp_path / "X.npy"],
    ):
        report = tmp_path / "report.json"
        assert reluce_command("compress", source, target, *domain, "-q", "--json", report) == 0, domain
        found.append(json.loads(report.read_text())["layers"])
    assert all(layers == found[0] for layers in found)


def test_a_domain_from_data_is_labelled_and_saved(tmp_path: Path, source: Path, target: Path, capsys: Capture) -> None:
    X, report = tmp_path / "X.npz", tmp_path / "report.json"
    np.savez(X, X=np.array([[0.25, 0.75], [0.5, 0.5]]), y=np.arange(2))
    arguments = ("compress", source, target, "--domain-from-data", X, "--margin", "0.25", "--json", report)
    assert reluce_command(*arguments) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "assumption" in flat
    assert "X.npz with margin 0.25" in flat
    assert json.loads(report.read_text())["domain"]["assumption"] is True
    entries = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert "assumption" in entries["reluce.domain"]
    box = np.load(tmp_path / "out.domain.npz")
    assert (box["lo"].tolist(), box["hi"].tolist()) == ([0, 0.25], [0.75, 1])
    again = tmp_path / "again.onnx"
    assert reluce_command("compress", source, again, "--domain", tmp_path / "out.domain.npz") == 0
    (digest,) = (entry.value for entry in onnx.load(again).metadata_props if entry.key == "reluce.domain_sha256")
    assert digest == entries["reluce.domain_sha256"]


def test_the_saved_box_is_the_box_that_was_used_whatever_the_margin(tmp_path: Path, source: Path, target: Path) -> None:
    np.save(tmp_path / "X.npy", np.array([[0.25, 0.75], [0.5, 0.5]]))
    again, box = tmp_path / "again.onnx", tmp_path / "box.npz"
    arguments = ("--domain-from-data", tmp_path / "X.npy", "--margin", "0.1", "--save-domain", box)
    assert reluce_command("compress", source, target, *arguments) == 0
    assert reluce_command("compress", source, again, "--domain", box) == 0
    digests = [
        entry.value
        for path in (target, again)
        for entry in onnx.load(path).metadata_props
        if entry.key == "reluce.domain_sha256"
    ]
    assert digests[0] == digests[1]
    assert not (tmp_path / "out.domain.npz").exists()


def test_several_inputs(tmp_path: Path, target: Path, capsys: Capture) -> None:
    source = saved(two_inputs(), tmp_path / "in.onnx")
    assert reluce_command("compress", source, target, "--range", "a=0,1", "--range", "b=0,1") == 0
    assert reluce_command("compress", source, target, "--range", "0,1", "--range", "b=0,2") == 0
    capsys.readouterr()
    assert reluce_command("compress", source, target, "--range", "a=0,1") == 3
    assert "no domain for input 'b'" in one_line(capsys)


def test_gzip_and_open_dimensions(tmp_path: Path) -> None:
    model = known()
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    source, target = tmp_path / "in.onnx.gz", tmp_path / "out.onnx.gz"
    source.write_bytes(gzip.compress(model.SerializeToString()))
    assert reluce_command("compress", source, target, "--range", "0,1", "--input-shape", "x:-1,2") == 0
    assert len(gzip.decompress(target.read_bytes())) > 0


# Errors


def one_line(capsys: Capture) -> str:
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("reluce: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    return printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["squash"],
        ["compress"],
        ["compress", "IN"],
        ["compress", "IN", "OUT"],
        ["compress", "IN", "OUT", "--range"],
        ["compress", "IN", "OUT", "--range", "0,1", "--fast"],
        ["compress", "IN", "OUT", "--range", "0,1", "--domain", "box.npz"],
        ["compress", "IN", "OUT", "--range", "0,1", "--domain-from-data", "X.npy"],
        ["compress", "IN", "OUT", "--range", "0,1", "--margin", "1"],
        ["compress", "IN", "OUT", "--range", "0,1", "--save-domain", "box.npz"],
        ["compress", "IN", "OUT", "--range", "0,1", "--guarantee", "about"],
        ["compress", "IN", "OUT", "--range", "0,1", "--guarantee", "within=-1"],
        ["compress", "IN", "OUT", "--range", "0,1", "--time-limit", "-1"],
        ["compress", "IN", "OUT", "--range", "0,1", "--time-limit", "soon"],
        ["compress", "IN", "OUT", "--range", "0,1", "--seed", "-1"],
        ["compress", "IN", "OUT", "--range", "0,1", "--input-shape", "x"],
        ["compress", "IN", "OUT", "--range", "0,1", "--input-shape", "x:a,b"],
        ["compress", "IN", "OUT", "EXTRA", "--range", "0,1"],
        ["inspect", "IN"],
        ["inspect", "IN", "--range", "0,1", "--guarantee", "exact"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], source: Path, target: Path, capsys: Capture) -> None:
    places = {"IN": str(source), "OUT": str(target)}
    assert reluce_command(*(places.get(word, word) for word in arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" or not arguments
    assert "Traceback" not in printed.err
    assert printed.err or not arguments
    assert names(source.parent) == {"in.onnx"}


@pytest.mark.parametrize("option", ["--json", "--save-domain"])
def test_one_file_is_not_written_over_another(option: str, source: Path, target: Path) -> None:
    np.save(source.with_name("X.npy"), np.array([[0.0, 1.0], [1.0, 0.0]]))
    for path in (source, target):
        reluce_command("compress", source, target, "--domain-from-data", source.with_name("X.npy"), option, path)
        assert source.read_bytes() == known().SerializeToString()
        assert not target.exists() or is_valid(target)


def nan_weight() -> ModelProto:
    W = weight(known(), "W1").copy()
    W[3, 1] = np.nan
    return with_weight(known(), "W1", W)


def infinite_weight() -> ModelProto:
    W = weight(known(), "W2").copy()
    W[1, 4] = np.inf
    return with_weight(known(), "W2", W)


def external() -> ModelProto:
    model = known()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    return model


def mismatched() -> ModelProto:
    return with_weight(known(), "W2", np.ones((2, 5), np.float32))


def no_producer() -> ModelProto:
    model = known()
    model.graph.node[1].input[0] = "nowhere"
    return model


BAD_MODELS: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"this is no network\n", "not an ONNX file"),
    "empty": (lambda: b"", "empty (0 bytes)"),
    "image": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(100), "not an ONNX file"),
    "cut": (lambda: known().SerializeToString()[:-25], "cut short"),
    "nan": (lambda: nan_weight().SerializeToString(), "initialiser 'W1' holds nan at index [3, 1]"),
    "inf": (lambda: infinite_weight().SerializeToString(), "initialiser 'W2' holds inf at index [1, 4]"),
    "external": (lambda: external().SerializeToString(), "initialiser 'W1' lies in an external file"),
    "mismatch": (lambda: mismatched().SerializeToString(), "'y'"),
    "dangling": (lambda: no_producer().SerializeToString(), "'nowhere'"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("command", ["compress", "inspect"])
def test_models_that_cannot_be_read(name: str, command: str, tmp_path: Path, target: Path, capsys: Capture) -> None:
    make, message = BAD_MODELS[name]
    source = tmp_path / "in.onnx"
    source.write_bytes(make())
    target.write_bytes(b"precious")
    out = [target] if command == "compress" else []
    assert reluce_command(command, source, *out, "--range", "0,1", "--json", tmp_path / "report.json") == 3
    text = one_line(capsys)
    assert "in.onnx" in text
    assert message in text
    assert target.read_bytes() == b"precious"
    assert names(tmp_path) == {"in.onnx", "out.onnx"}


@pytest.mark.parametrize(("where", "message"), [("none.onnx", "no such file"), (".", "is a directory")])
def test_models_that_are_no_files(where: str, message: str, tmp_path: Path, target: Path, capsys: Capture) -> None:
    assert reluce_command("compress", tmp_path / where, target, "--range", "0,1") == 3
    assert message in one_line(capsys)
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (["--range", "1,0"], "exceeds"),
        (["--range", "0,nan"], "'nan' is not a finite decimal number"),
        (["--range", "zero,one"], "'zero' is not a finite decimal number"),
        (["--range", "q=0,1"], "no input 'q'; it has 'x'"),
        (["--domain", "none.npz"], "none.npz: cannot be read"),
        (["--domain", "in.onnx"], "in.onnx: cannot be read"),
        (["--domain", "nan.npz"], "hi: nan at coordinate [1]"),
        (["--domain", "crossed.npz"], "at coordinate [1]"),
        (["--domain", "long.npz"], "hi: has 3 values, expected 2"),
        (["--domain-from-data", "none.npy"], "none.npy: cannot be read"),
        (["--domain-from-data", "wide.npy"], "shape (4, 3)"),
        (["--domain-from-data", "nan.npy"], "nan at coordinate [0]"),
        (["--domain-from-data", "X.npy", "--margin", "-1"], "must not be negative"),
        (["--domain-from-data", "X.npy", "--margin", "x"], "'x' is not a finite decimal number"),
        (["--range", "0,1", "--data", "none.npy"], "none.npy: cannot be read"),
        (["--range", "0,1", "--data", "wide.npy"], "shape (4, 3)"),
    ],
    ids=str,
)
def test_domains_that_cannot_be_read(
    domain: list[str], message: str, source: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source.parent
    monkeypatch.chdir(folder)
    np.savez(folder / "nan.npz", lo=[0.0, 0.0], hi=[1.0, np.nan])
    np.savez(folder / "crossed.npz", lo=[0.0, 2.0], hi=[1.0, 1.0])
    np.savez(folder / "long.npz", lo=[0.0, 0.0], hi=[1.0, 1.0, 1.0])
    np.save(folder / "wide.npy", np.zeros((4, 3)))
    np.save(folder / "nan.npy", np.array([[np.nan, 0.0]]))
    np.save(folder / "X.npy", np.zeros((4, 2)))
    before = names(folder)
    assert reluce_command("compress", source, target, *domain) == 3
    assert message in one_line(capsys)
    assert names(folder) == before


def test_a_failed_run_leaves_no_domain_file(tmp_path: Path, target: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    np.save(tmp_path / "X.npy", np.zeros((4, 2)))
    np.save(tmp_path / "bad.npy", np.zeros((4, 3)))
    arguments = ("--domain-from-data", tmp_path / "X.npy", "--data", tmp_path / "bad.npy")
    assert reluce_command("compress", source, target, *arguments) == 3
    assert names(tmp_path) == {"in.onnx", "X.npy", "bad.npy"}


def test_outputs_that_cannot_be_written(tmp_path: Path, source: Path, capsys: Capture) -> None:
    (tmp_path / "folder").mkdir()
    for target, message in ((tmp_path / "none" / "out.onnx", "folder"), (tmp_path / "folder", "is a directory")):
        assert reluce_command("compress", source, target, "--range", "0,1") == 5
        assert message in one_line(capsys)
    assert names(tmp_path) == {"in.onnx", "folder"}
    assert names(tmp_path / "folder") == set()


def test_a_report_that_cannot_be_written(tmp_path: Path, source: Path, target: Path, capsys: Capture) -> None:
    bad = tmp_path / "none" / "report.json"
    assert reluce_command("compress", source, target, "--range", "0,1", "--quiet", "--json", bad) == 5
    assert "report.json" in one_line(capsys)
    assert names(tmp_path) <= {"in.onnx", "out.onnx", "out.cert"}


@pytest.mark.parametrize("existing", [False, True])
def test_a_result_that_fails_the_check_is_not_kept(
    existing: bool, source: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild = reluce.compress.__globals__["rebuild"]

    def corrupted(*arguments: Any) -> Loaded:
        model = onnx.load_from_string(rebuild(*arguments).data)
        (name,) = (node.input[1] for node in model.graph.node if "y" in node.output)
        W = weight(model, name).copy()
        W.flat[0] += 0.125
        return loads(with_weight(model, name, W).SerializeToString())

    monkeypatch.setitem(reluce.compress.__globals__, "rebuild", corrupted)
    if existing:
        target.write_bytes(b"precious")
    json_file = target.with_name("report.json")
    plain = ("compress", source, target, "--range", "0,1", "--no-certificate", "--json", json_file)
    assert reluce_command(*plain) == 1
    assert "output 'y'" in one_line(capsys)
    assert names(source.parent) == {"in.onnx"} | ({"out.onnx"} if existing else set())
    assert not existing or target.read_bytes() == b"precious"
    # With a certificate the checker sees it first, and what it does not accept is not handed over.
    assert reluce_command("compress", source, target, "--range", "0,1") == 0
    assert "the independent checker did not accept" in " ".join(capsys.readouterr().out.split())
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("place", ["open_model", "prove", "rewrite", "rebuild", "check", "measure"])
def test_internal_errors_say_so_and_leave_nothing(
    place: str, source: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **more: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setitem(reluce.compress.__globals__, place, broken)
    target.write_bytes(b"precious")
    assert reluce_command("compress", source, target, "--range", "0,1") == 70
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "reluce: internal error, nothing was written: ZeroDivisionError: a bug" in text
    assert target.read_bytes() == b"precious"
    assert names(source.parent) == {"in.onnx", "out.onnx"}


# Time limits and interruption


def test_a_time_limit_of_nothing_still_writes_a_valid_file(tmp_path: Path, target: Path, capsys: Capture) -> None:
    report = tmp_path / "report.json"
    assert reluce_command("compress", DIGITS, target, "--range", "0,1", "--time-limit", "0", "--json", report) == 4
    printed = capsys.readouterr()
    assert "time ran out" in " ".join(printed.out.split())
    assert printed.err == ""
    onnx.checker.check_model(onnx.load(target), full_check=True)
    X = np.load(EXAMPLES / "digits-data.npz")["X"].astype(np.float32)
    (before,), (after,) = run_model(DIGITS, pixels=X), run_model(target, pixels=X)
    assert np.abs(before - after).max() < 1e-3
    assert json.loads(report.read_text())["cut_short"] is True


def test_a_generous_time_limit_changes_nothing(tmp_path: Path) -> None:
    for name, limit in (("a", []), ("b", ["--time-limit", "1000"])):
        assert reluce_command("compress", DIGITS, tmp_path / name, "--range", "0,1", "-q", *limit) == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def interrupting(monkeypatch: pytest.MonkeyPatch, place: str, times: int = 1) -> None:
    """Press Ctrl-C when the given step of compress starts."""
    original = reluce.compress.__globals__[place]

    def pressed(*arguments: Any, **more: Any) -> Any:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return original(*arguments, **more)

    monkeypatch.setitem(reluce.compress.__globals__, place, pressed)


@pytest.mark.parametrize("place", ["rewrite", "rebuild", "check", "save"])
def test_a_ctrl_c_in_the_middle_writes_what_was_proved(
    place: str, source: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, place)
    code = reluce_command("compress", source, target, "--range", "0,1")
    assert code == (4 if place == "rewrite" else code)
    assert code in (0, 4)
    assert is_valid(target)
    assert names(source.parent) == {"in.onnx", "out.onnx", "out.cert"}
    text = " ".join(capsys.readouterr().out.split())
    assert ("interrupted" in text) == (code == 4)


def test_a_ctrl_c_before_anything_was_proved(
    tmp_path: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(all_unstable(), tmp_path / "in.onnx")
    interrupting(monkeypatch, "prove")
    assert reluce_command("compress", source, target, "--range", "0,1") == 130
    assert "interrupted before anything was proved" in one_line(capsys)
    assert names(tmp_path) == {"in.onnx"}


@pytest.mark.parametrize("place", ["prove", "rewrite", "check"])
def test_a_second_ctrl_c_stops_at_once(
    place: str, source: Path, target: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, place, times=2)
    target.write_bytes(b"precious")
    assert reluce_command("compress", source, target, "--range", "0,1") == 130
    assert "nothing was written" in one_line(capsys)
    assert target.read_bytes() == b"precious"
    assert names(source.parent) == {"in.onnx", "out.onnx"}


def test_the_old_handler_of_ctrl_c_comes_back(source: Path, target: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert reluce_command("compress", source, target, "--range", "0,1", "-q") == 0
    assert reluce_command("compress", source, target, "--range", "1,0", "-q") == 3
    assert signal.getsignal(signal.SIGINT) is before


ANNOUNCING = """
import sys, time
import reluce, reluce.cli
scope, place = reluce.compress.__globals__, sys.argv.pop()
original = scope[place]
def announced(*arguments, **more):
    print("now", flush=True)
    time.sleep(0.5)
    return original(*arguments, **more)
scope[place] = announced
reluce.cli.main()
"""


@pytest.mark.parametrize("place", ["prove", "rewrite", "check"])
def test_a_ctrl_c_sent_to_the_process_leaves_the_whole_file_or_none(place: str, tmp_path: Path, target: Path) -> None:
    source = saved(random_chain([40, 60, 60, 5]), tmp_path / "in.onnx")
    command = [sys.executable, "-c", ANNOUNCING, "compress", source, target, "--range", "0,0.05", place]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert process.returncode in {"prove": (4, 130), "rewrite": (4, 130), "check": (0, 4)}[place]
    if process.returncode == 130:
        assert names(tmp_path) == {"in.onnx"}
        assert "nothing was written" in err
    else:
        left = {"out.journal"} if process.returncode == 4 else set()  # there is a journal if there were steps
        assert names(tmp_path) - left == {"in.onnx", "out.onnx", "out.cert"}
        assert is_valid(target, 40)
        assert ("interrupted" in " ".join(out.split())) == (process.returncode == 4)


def test_inspect_can_be_cut_short_too(source: Path, capsys: Capture) -> None:
    assert reluce_command("inspect", source, "--range", "0,1", "--time-limit", "0") == 4
    assert "time ran out" in " ".join(capsys.readouterr().out.split())


def test_a_report_that_cannot_be_written_is_no_lost_network(
    source: Path, target: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / ".k.json.reluce-tmp").mkdir()
    assert reluce_command("compress", source, target, "--range", "0,1", "--json", tmp_path / "k.json") == 5
    assert "k.json" in (said := one_line(capsys))
    assert "the network is written, with all that belongs to it" in said
    assert target.exists()


def test_a_cut_proof_claims_nothing_false(source: Path) -> None:
    full = reluce.inspect(source, "0,1").report.layers[0]
    cut = reluce.inspect(source, "0,1", settings=reluce.Settings(time_limit=0)).report.layers[0]
    for verdict in ("constant", "inactive", "active", "unstable"):
        assert getattr(cut, verdict) <= getattr(full, verdict)
    assert cut.units == full.units


def test_the_console_script_is_installed() -> None:
    tool = Path(sys.executable).with_name("reluce")
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"reluce {reluce.__version__}\n")


def test_the_process_exits_with_the_codes(tmp_path: Path) -> None:
    source = saved(known(), tmp_path / "in.onnx")
    assert script("compress", source, tmp_path / "out.onnx", "--range", "0,1").returncode == 0
    assert script("compress", source, tmp_path / "out.onnx").returncode == 2
    assert script("compress", source, tmp_path / "out.onnx", "--range", "1,0").returncode == 3
    assert script("compress", source, tmp_path, "--range", "0,1").returncode == 5


# Provers on solvers


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prover", "milp"], "--prover 'milp': expected one of ladder, leo, isa"),
        (["--solver", "highs"], "--solver goes with --prover leo or --prover isa"),
        (["--prover", "ladder", "--trust-solver"], "--trust-solver goes with --prover leo or --prover isa"),
        (["--prover", "leo", "--solver", "cplex"], "there is no solver 'cplex'; there are highs"),
        (["--prover", "isa", "--solver", "scip"], 'pip install "reluce[scip]"'),
        (["--prover", "isa", "--solver", "gurobi"], 'pip install "reluce[gurobi]"'),
    ],
)
@pytest.mark.parametrize("command", ["compress", "inspect"])
def test_solvers_that_cannot_be_asked(
    command: str, arguments: list[str], words: str, source: Path, target: Path, capsys: Capture, monkeypatch: Any
) -> None:
    monkeypatch.setattr("reluce.solve._solvers.find_spec", lambda package: None)  # no solver is installed
    out = [target] if command == "compress" else []
    assert reluce_command(command, source, *out, "--range", "0,1", *arguments) == 2
    assert words in capsys.readouterr().err
    assert not target.exists()


def test_a_solver_from_the_command_line(tmp_path: Path, target: Path, capsys: Capture) -> None:
    source, report = saved(beyond_intervals(), tmp_path / "in.onnx"), tmp_path / "report.json"
    more = ["--range", "-1,1", "--prover", "isa", "--solver", "highs", "--json", report]
    assert reluce_command("compress", source, target, *more, "--trust-solver") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Guarantee: attested by HiGHS, not proved." in text
    data = json.loads(report.read_text())
    assert data["solver"]["trusted"] is True
    assert data["layers"][1]["attested"] == 3
    assert data["guarantee"]["level"] == "attested"
    assert target.stat().st_size < source.stat().st_size + 500
    assert reluce_command("inspect", source, *more) == 0
    assert "3 units are attested by HiGHS, not proved: they stay" in " ".join(capsys.readouterr().out.split())


# Logits less one of them

CLASSIFIER = [
    ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, -1, 1, -1]], [1, 1, 1, 1, 0]),
    ([[1, 2, 0, 1, 1], [0, 1, 3, 1, -1], [2, 0, 1, 4, 1]], [0, 1, -1]),
]


@pytest.mark.parametrize("level", ["exact", "roundoff"])
def test_shifted_logits_are_named_everywhere(tmp_path: Path, target: Path, capsys: Capture, level: str) -> None:
    source, report = saved(chain(CLASSIFIER), tmp_path / "in.onnx"), tmp_path / "report.json"
    options = ["--range", "0,1", "--guarantee", level, "--guard"]
    assert reluce_command("compress", source, target, *options, "--softmax-shift", "--json", report) == 0
    printed = " ".join(capsys.readouterr().out.split())
    by = json.loads(report.read_text())["guarantee"]["shifted"]["y"]
    assert f"Shifted: each logit of output 'y' less logit {by}; softmax and argmax are the same" in printed
    assert {prop.key: prop.value for prop in onnx.load(target).metadata_props}["reluce.shifted"] == f'{{"y": {by}}}'
    assert reluce_check([*map(str, (source, target, target.with_suffix(".cert"))), "--range", "0,1"]) == 0
    assert f"output 'y': each logit less logit {by}: softmax and argmax are the same" in capsys.readouterr().out
    x = np.random.default_rng(0).random((64, 4)).astype(np.float32)
    before, after = run_model(source, x=x)[0], run_model(target, x=x)[0]
    np.testing.assert_allclose(after, before - before[:, [by]], rtol=0, atol=1e-4)
    assert not np.allclose(after, before)
    again = tmp_path / "again.onnx"
    assert reluce_command("compress", target, again, *options[:4]) == 0
    assert {prop.key: prop.value for prop in onnx.load(again).metadata_props}["reluce.shifted"] == f'{{"y": {by}}}'


def test_logits_stay_unless_it_is_asked_for(tmp_path: Path, target: Path) -> None:
    source, report = saved(chain(CLASSIFIER), tmp_path / "in.onnx"), tmp_path / "report.json"
    assert reluce_command("compress", source, target, "--range", "0,1", "--json", report, "-q") == 0
    assert "shifted" not in json.loads(report.read_text())["guarantee"]
    assert "reluce.shifted" not in {prop.key for prop in onnx.load(target).metadata_props}


def test_a_query_cannot_be_about_shifted_logits(source: Path, target: Path, capsys: Capture) -> None:
    options = ["--range", "0,1", "--softmax-shift", "--vnnlib", target.with_suffix(".vnnlib")]
    assert reluce_command("compress", source, target, *options) == 2
    assert "--softmax-shift changes them: only one" in capsys.readouterr().err


# A layer's input beside its units

WIDE = [
    ([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, -1, 1, -1]], [1, 1, 1, 1, 0]),
    ([[1, 2, 0, 1, 1], [0, 1, 3, 1, -1], [2, 0, 1, 4, 1], [1, 1, 2, -1, 1]], [0, 1, -1, 0]),
]
"""Four active units and one that is not stable, on four inputs for four outputs."""


@pytest.mark.parametrize("level", ["exact", "roundoff"])
def test_skips_are_named_and_proved(tmp_path: Path, target: Path, capsys: Capture, level: str) -> None:
    source, report = saved(chain(WIDE), tmp_path / "in.onnx"), tmp_path / "report.json"
    options = ["--range", "0,1", "--guarantee", level, "--json", report]
    assert reluce_command("compress", source, target, *options, "--skips") == 0
    assert "note: skip: what reads 'h1' reads 'x' beside it, in place of its linear part" in capsys.readouterr().out
    data = json.loads(report.read_text())
    assert (data["model"]["parameters"], data["compressed"]["parameters"]) == (49, 4 + 1 + 5 * 4 + 4)
    assert [node.op_type for node in onnx.load(target).graph.node] == ["Gemm", "Relu", "Concat", "Gemm"]
    assert reluce_check([*map(str, (source, target, target.with_suffix(".cert"))), "--range", "0,1"]) == 0
    x = np.random.default_rng(0).random((64, 4)).astype(np.float32)
    np.testing.assert_allclose(run_model(target, x=x)[0], run_model(source, x=x)[0], rtol=0, atol=1e-5)
    assert reluce_command("compress", source, target, *options) == 0
    assert "note: skip" not in capsys.readouterr().out
    assert "Concat" not in [node.op_type for node in onnx.load(target).graph.node]
