"""The journal: whole lines come back as they were written, and nothing else does."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reluce.errors import OutputError
from reluce.run import Journal, _journal

STEPS: dict[str, dict[str, Any]] = {
    "1 slopes y": {"rows": np.arange(5), "upper": np.array([-0.0, 1e-300, np.inf]), "spent": 3},
    "2 boxes \u00fc\n": {"list": [{"alpha": np.zeros((3, 0, 2), np.uint16)}, "text", None], "best": {}},
    "3": {"split": np.array([[1, -1], [0, 1]], np.int8), "closed": np.array([True, False])},
}


def written(path: Path, identity: str = "this") -> None:
    with closing(Journal.open(path, identity)) as journal:
        for step, outcome in STEPS.items():
            journal.keep(step, outcome)


def recalled(path: Path, identity: str = "this") -> list[str]:
    with closing(Journal.open(path, identity)) as journal:
        return [step for step in STEPS if journal.recall(step) is not None]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def test_what_is_kept_is_recalled(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    written(path)
    with closing(Journal.open(path, "this")) as journal:
        assert all(same(journal.recall(step), outcome) for step, outcome in STEPS.items())
        assert not same(journal.recall("3"), STEPS["1 slopes y"])
        assert journal.recall("4") is None
        assert journal.notes == []
        journal.keep("4", {"more": 1})
    with closing(Journal.open(path, "this")) as journal:
        assert journal.recall("4") == {"more": 1}
        assert same(journal.recall("3"), STEPS["3"])


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    written(path)
    data = path.read_bytes()
    ends = [k + 1 for k, byte in enumerate(data) if byte == ord("\n")]
    for length in [0, *range(ends[0], len(data) + 1, 7), *ends, *(end + 1 for end in ends[:-1])]:
        path.write_bytes(data[:length])
        whole = max(0, sum(end <= length for end in ends) - 1)
        assert recalled(path) == list(STEPS)[:whole]
        assert not whole or path.read_bytes() == data[: max(end for end in ends if end <= length)]
        assert whole or not path.exists()  # nothing is lost with one that has no steps


def test_a_damaged_line_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    written(path)
    data = path.read_bytes()
    ends = [k + 1 for k, byte in enumerate(data) if byte == ord("\n")]
    for place in range(ends[0], len(data), 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert recalled(path) == list(STEPS)[: sum(end <= place for end in ends) - 1]


def test_a_journal_of_another_run_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    written(path)
    with closing(Journal.open(path, "another")) as journal:
        assert journal.recall("3") is None
        (note,) = journal.notes
        assert "was of another model, domain, settings or version" in note
    assert recalled(path, "another") == []


@pytest.mark.parametrize("content", [b"precious data\n", b"{}", b"\0" * 40, b"0" * 32 + b" {}\n"])
def test_another_file_in_the_way_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.journal"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is in the way and is no journal of Reluce"):
        Journal.open(path, "this")
    assert path.read_bytes() == content


def line(text: str) -> bytes:
    return _journal._checksum(text.encode()) + b" " + text.encode() + b"\n"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[" * 100_000,
        '{"array":["<f8",[1],""]}',
        '{"array":["<f8",[1],"!!!!"]}',
        '{"array":["<f8",[4611686018427387904,4],"eJwDAAAAAAE="]}',
        '{"array":["<f8",[-1],"eJwDAAAAAAE="]}',
        '{"array":["<f8",[true],"eJwDAAAAAAE="]}',
        '{"array":["|O",[0],"eJwDAAAAAAE="]}',
        '{"array":["<f8",[0,0,0,0,0,0,0,0,0],"eJwDAAAAAAE="]}',
        "1" * 5000,
    ],
)
def test_hostile_lines_with_right_checksums(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.journal"
    written(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + line(f'{{"step":"4","outcome":{{"x":{text}}}}}'))
    with closing(Journal.open(path, "this")) as journal:
        assert journal.recall("4") is None
        assert same(journal.recall("3"), STEPS["3"])
        journal.keep("4", {"x": 1})
    assert path.stat().st_size > size
    with closing(Journal.open(path, "this")) as journal:
        assert journal.recall("4") == {"x": 1}


def test_arrays_that_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.journal"
    with closing(Journal.open(path, "this")) as journal:
        journal.keep("1", {"x": np.zeros(100)})
        journal.keep("2", {"x": [np.zeros(100)] * 3})
    monkeypatch.setattr(_journal, "MOST_BYTES", 1600)
    with closing(Journal.open(path, "this")) as journal:
        assert journal.recall("1") is not None
        assert journal.recall("2") is None


def test_an_array_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with closing(Journal.open(path, "this")) as journal:
        journal.keep("1", {"x": np.zeros(1_000_000)})
    data = path.read_bytes()
    head, step = data.splitlines(keepends=True)
    bomb = step.split(b" ", 1)[1].strip().decode().replace("[1000000]", "[2]")
    path.write_bytes(head + line(bomb))
    with closing(Journal.open(path, "this")) as journal:
        assert journal.recall("1") is None


def test_lines_that_are_too_long_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_journal, "LONGEST_LINE", 300)
    path = tmp_path / "out.journal"
    with closing(Journal.open(path, "this")) as journal:
        journal.keep("1", {"x": list(range(1000))})
        journal.keep("3", STEPS["3"])
    assert recalled(path) == ["3"]


def test_a_full_disk_ends_the_journal_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.journal"
    with closing(Journal.open(path, "this")) as journal:
        journal.keep("1 slopes y", STEPS["1 slopes y"])
        size = path.stat().st_size

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            journal.keep("3", STEPS["3"])
        journal.keep("3", STEPS["3"])
        (note,) = journal.notes
        assert "could not be continued (No space left on device)" in note
    assert path.stat().st_size == size
    assert recalled(path) == ["1 slopes y"]


def test_a_disk_that_is_full_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"the journal of the run cannot be written there .No space left on device"):
        Journal.open(tmp_path / "out.journal", "this")
    assert list(tmp_path.iterdir()) == []


def test_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with closing(Journal.open(path, "this")), pytest.raises(OutputError, match="another run is writing this output"):
        Journal.open(path, "this")
    Journal.open(path, "this").close()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    code = "import os,sys,pathlib; from reluce.run import Journal; j=Journal.open(pathlib.Path(sys.argv[1]), 'this')"
    tail = "; j.keep('3', {'x': 1}); print('there', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code + tail, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        with pytest.raises(OutputError, match="another run is writing this output"):
            Journal.open(path, "this")
        child.kill()
    assert recalled(path) == ["3"]


def test_a_removed_journal_is_not_mistaken_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    first = Journal.open(path, "this")
    first.remove()
    with closing(Journal.open(path, "this")) as second:
        second.keep("3", STEPS["3"])
        first.close()
        with pytest.raises(OutputError, match="another run"):
            Journal.open(path, "this")


def test_arrays_of_other_formats_are_a_mistake(tmp_path: Path) -> None:
    with closing(Journal.open(tmp_path / "j", "this")) as journal, pytest.raises(ValueError, match="float32"):
        journal.keep("1", {"x": np.zeros(1, np.float32)})


def test_a_pipe_in_the_way_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.journal")
    with pytest.raises(OutputError, match="what is there is a pipe, a device, or a file with several names"):
        Journal.open(tmp_path / "out.journal", "this")
    assert (tmp_path / "out.journal").is_fifo()


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "soft").symlink_to(tmp_path / "precious")
    (tmp_path / "hard").hardlink_to(tmp_path / "precious")
    for name in ("soft", "hard"):
        with pytest.raises(OutputError, match="the journal of the run cannot be written there"):
            Journal.open(tmp_path / name, "this")
    assert (tmp_path / "precious").read_bytes() == b"precious"
