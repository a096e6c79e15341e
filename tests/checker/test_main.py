"""The command ``reluce-check``: exit codes and what it says."""

from __future__ import annotations

import gzip
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from certificates import Case, sealed, touching, touching_case, touching_split
from reluce.certificate._container import pack
from reluce_checker import __main__ as command
from reluce_checker.__main__ import main, text

Files = dict[str, str]


@pytest.fixture
def case() -> Case:
    return touching_case(touching_split())


@pytest.fixture
def files(case: Case, tmp_path: Path) -> Files:
    data = {"old.onnx": case.original, "new.onnx": case.compressed, "new.cert": case.certificate}
    for name, content in data.items():
        (tmp_path / name).write_bytes(content)
    np.savez(tmp_path / "box.npz", lo=np.array([-1.0]), hi=np.array([0.5]))
    return {name: str(tmp_path / name) for name in (*data, "box.npz")}


def arguments(files: Files, *more: str) -> list[str]:
    return [files["old.onnx"], files["new.onnx"], files["new.cert"], *more]


def test_proved(files: Files, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(files, "--range=-1,1")) == 0
    out, err = capsys.readouterr()
    proved = case.check()
    assert err == ""
    assert out.splitlines() == [
        "proved: no output differs, for every sample of the domain, over the reals",
        "  level        exact",
        "  ReLUs        4 -> 3",
        "  facts        1 bounds, 1 signs",
        f"  original     {proved.original}",
        f"  compressed   {proved.compressed}",
        f"  certificate  {proved.certificate} (a test)",
    ]


def test_what_is_said_of_a_deviation(case: Case) -> None:
    proved = replace(case.check(), level="within", budget=case.check().budget + 1, epsilon={"y": np.array([0.1])})
    assert text(proved).startswith("proved: no output differs by more than 0.1, for every sample of the domain")
    assert "  level        within=1.0\n" in text(proved)


@pytest.mark.parametrize("domain", [["--domain"], ["--range", "x=-1,1"], ["--range=-1e0,+0.5"]])
def test_ways_to_say_on_which_inputs(files: Files, domain: list[str]) -> None:
    more = [*domain, files["box.npz"]] if domain == ["--domain"] else domain
    assert main(arguments(files, *more)) == 0


def test_a_range_that_starts_with_a_minus(files: Files) -> None:
    assert main(arguments(files, "--range", "-1,1")) == 0


def test_compressed_files(files: Files, case: Case, tmp_path: Path) -> None:
    for name, data in (("old.onnx.gz", case.original), ("new.onnx.gz", case.compressed)):
        (tmp_path / name).write_bytes(gzip.compress(data))
        files[name.removesuffix(".gz")] = str(tmp_path / name)
    assert main(arguments(files, "--range=-1,1")) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--range=-1,2"], "not proved: the domain of input 'x' is larger than the one that the certificate is about"),
    ],
)
def test_not_proved(files: Files, more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(files, *more)) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", message + "\n")


def test_another_network(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.onnx").write_bytes(touching(-0.75)[0])
    assert main(arguments(files, "--range=-1,1")) == 1
    assert capsys.readouterr().err.startswith("not proved: the certificate is about another compressed network")


def test_a_forged_claim(files: Files, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = {**case.text, "facts": []}
    (tmp_path / "new.cert").write_bytes(sealed(forged, case.original, case.compressed))
    assert main(arguments(files, "--range=-1,1")) == 1
    assert capsys.readouterr().err.startswith("not proved: unit 0 of 'z2' is claimed to be inactive")


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--range=-1,1", "--domain", "box.npz"],
        ["--range", "1"],
        ["--range", "y=0,1"],
        ["--range=-1,1/2"],
        ["--range", "0,1", "--range", "0,1"],
    ],
)
def test_requests_that_make_no_sense(files: Files, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(files, *more)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")


def test_arguments_that_are_none(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ([], [files["old.onnx"]], arguments(files, "--what")):
        with pytest.raises(SystemExit) as error:
            main(wrong)
        assert error.value.code == 2
    assert "usage: reluce-check" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("old.onnx", None, "old.onnx: "),
        ("new.cert", None, "new.cert: "),
        ("new.cert", b"", "the certificate does not start as one"),
        ("new.cert", b"RELUCERT" + bytes(12), "the certificate has format version 0"),
        ("new.cert", pack({}), "certificate, 'facts': expected a list"),
        ("box.npz", b"no box", "the domain file cannot be used"),
        ("box.npz", None, "box.npz: "),
    ],
)
def test_files_that_cannot_be_relied_upon(
    files: Files, name: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        Path(files[name]).unlink()
    else:
        Path(files[name]).write_bytes(content)
    assert main(arguments(files, "--domain", files["box.npz"])) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("unreadable: ")
    assert message in err


def test_a_network_that_is_none(files: Files, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.onnx").write_bytes(b"garbage")
    (tmp_path / "new.cert").write_bytes(sealed(case.text, b"garbage", case.compressed))
    assert main(arguments(files, "--range=-1,1")) == 3
    assert capsys.readouterr().err.startswith("unreadable: ")


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"x" * 100, mtime=0)[:-9]])
def test_a_file_that_cannot_be_decompressed(
    files: Files, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.onnx.gz").write_bytes(content)
    files["old.onnx"] = str(tmp_path / "old.onnx.gz")
    assert main(arguments(files, "--range=-1,1")) == 3
    assert "cannot be decompressed" in capsys.readouterr().err


def test_a_file_that_swells(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LARGEST", 1000)
    (tmp_path / "old.onnx.gz").write_bytes(gzip.compress(bytes(1001)))
    files["old.onnx"] = str(tmp_path / "old.onnx.gz")
    assert main(arguments(files, "--range=-1,1")) == 3
    assert "more than 1000 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("error", [MemoryError(), RecursionError()])
def test_a_checker_that_gives_up_has_proved_nothing(
    files: Files, error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(command, "check", broken)
    assert main(arguments(files, "--range=-1,1")) == 1
    assert capsys.readouterr().err == f"not proved: the checker gave up ({type(error).__name__})\n"


def test_the_process_ends_with_the_code(files: Files) -> None:
    for more, code in ((["--range=-1,1"], 0), (["--range=-1,2"], 1), ([], 2)):
        found = subprocess.run(
            [sys.executable, "-m", "reluce_checker", *arguments(files, *more)], capture_output=True, check=False
        )
        assert found.returncode == code


def test_a_limit_of_memory_or_time_that_is_hit_proves_nothing(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hungry(*_: object) -> None:
        np.ones(1 << 32)

    def idle(*_: object) -> None:
        time.sleep(60)

    def dying(*_: object) -> None:
        os.abort()  # as libraries do that get no memory

    for does, more, message in (
        (hungry, ["--memory", "8"], "gave up (MemoryError)"),
        (idle, ["--seconds", "1"], "gave up, most likely beyond 16 GiB or 1 seconds"),
        (dying, [], "gave up, most likely beyond 16 GiB"),
    ):
        monkeypatch.setattr(command, "check", does)
        assert main(arguments(files, "--range=-1,1", *more)) == 1
        assert message in capsys.readouterr().err


def test_the_limits_end_with_the_check(files: Files) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    assert main(arguments(files, "--range=-1,1", "--memory", "4", "--seconds", "100")) == 0
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert signal.alarm(0) == 0


@pytest.mark.parametrize("more", [["--memory", "0"], ["--memory", "nan"], ["--seconds", "0.5"], ["--seconds", "0"]])
def test_limits_that_are_none(files: Files, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments(files, "--range=-1,1", *more))
    assert more[0] in capsys.readouterr().err


def test_a_pipe_in_place_of_a_file(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    files["new.cert"] = str(tmp_path / "pipe")
    assert main(arguments(files, "--range=-1,1")) == 3
    assert "not a regular file" in capsys.readouterr().err
