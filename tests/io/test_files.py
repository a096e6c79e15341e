import gzip
import os
from pathlib import Path

import pytest

from reluce.errors import OutputError
from reluce.io._files import demand_writable, replace_file, write_temporary


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_or_replaced(tmp_path: Path) -> None:
    replace_file(tmp_path / "a.onnx", b"one")
    replace_file(str(tmp_path / "a.onnx"), b"two")
    assert (tmp_path / "a.onnx").read_bytes() == b"two"
    assert names(tmp_path) == ["a.onnx"]


def test_compression_follows_the_name_and_is_deterministic(tmp_path: Path) -> None:
    replace_file(tmp_path / "a.onnx.gz", b"data" * 100)
    first = (tmp_path / "a.onnx.gz").read_bytes()
    assert gzip.decompress(first) == b"data" * 100
    replace_file(tmp_path / "b.onnx.gz", b"data" * 100)
    assert (tmp_path / "b.onnx.gz").read_bytes() == first


def test_nothing_changes_before_the_commit(tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    target.write_bytes(b"old")
    temporary = write_temporary(target, b"new")
    assert temporary.path.parent == tmp_path
    assert target.read_bytes() == b"old"
    temporary.commit()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a.onnx"]


def test_the_permissions_of_a_replaced_file_stay(tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    target.write_bytes(b"old")
    target.chmod(0o640)
    replace_file(target, b"new")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(OutputError, match=r"a\.onnx: is a directory"):
        replace_file(tmp_path / "a.onnx", b"new")
    assert names(tmp_path) == ["a.onnx"]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.onnx: cannot write into its folder"):
        replace_file(tmp_path / "none" / "a.onnx", b"new")
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.onnx: cannot be written .No space left on device"):
        replace_file(tmp_path / "a.onnx", b"new")
    assert names(tmp_path) == ["a.onnx"]
    assert (tmp_path / "a.onnx").read_bytes() == b"old"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "a.onnx", b"new")
    assert names(tmp_path) == []


def test_a_failed_commit_leaves_nothing(tmp_path: Path) -> None:
    temporary = write_temporary(tmp_path / "a.onnx", b"new")
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(OutputError, match=r"a\.onnx: cannot be replaced"):
        temporary.commit()
    assert names(tmp_path) == ["a.onnx"]


def test_what_a_killed_run_has_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".a.onnx.reluce-tmp").write_bytes(b"much longer than what is written now")
    replace_file(tmp_path / "a.onnx", b"new")
    assert (tmp_path / "a.onnx").read_bytes() == b"new"
    assert names(tmp_path) == ["a.onnx"]


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    first = write_temporary(tmp_path / "a.onnx", b"first")
    with pytest.raises(OutputError, match=r"a\.onnx: another run is writing it"):
        write_temporary(tmp_path / "a.onnx", b"second")
    first.commit()
    assert (tmp_path / "a.onnx").read_bytes() == b"first"
    replace_file(tmp_path / "a.onnx", b"third")
    assert names(tmp_path) == ["a.onnx"]


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".a.onnx.reluce-tmp").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match=r"a\.onnx: cannot write into its folder"):
        replace_file(tmp_path / "a.onnx", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_names_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 250 + ".onnx", "\u00fc" * 120 + ".onnx"):
        replace_file(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(names(tmp_path)) == 2


def test_a_file_with_a_second_name_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / ".a.onnx.reluce-tmp").hardlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="a file with several names"):
        replace_file(tmp_path / "a.onnx", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_pipes_in_the_way_stay_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.onnx")
    os.mkfifo(tmp_path / ".b.onnx.reluce-tmp")
    with pytest.raises(OutputError, match=r"a\.onnx: is a pipe or a device"):
        demand_writable(tmp_path / "a.onnx")
    with pytest.raises(OutputError, match=r"b\.onnx: .*a pipe"):
        replace_file(tmp_path / "b.onnx", b"new")
    assert all(path.is_fifo() for path in tmp_path.iterdir())
