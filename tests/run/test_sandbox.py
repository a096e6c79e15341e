"""A process that may do anything: whatever it does, the parent gets an answer or an exception, in time."""

import os
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reluce.run import Failed, Limits, Lost, Sandbox
from reluce.run._child import FORMATS, HEAD_BYTES, MAGIC

SERVICE = Path(__file__).with_name("services.py")
GENEROUS = Limits(seconds=60, memory=4 << 30, reply=1 << 20)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    box = Sandbox(SERVICE)
    yield box
    box.close()


def ask(box: Sandbox, do: str, limits: Limits = GENEROUS, **more: Any) -> dict[str, Any]:
    return box.ask({"do": do, **more}, [], limits)[0]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("dtype", FORMATS.values())
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_arrays_go_through_as_they_are(sandbox: Sandbox, dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    reply, results = sandbox.ask({"do": "echo", "text": "ä"}, [array, array.T], GENEROUS)
    assert reply["text"] == "ä"
    for result, wanted in zip(results, [array, array.T], strict=True):
        assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
        assert np.array_equal(result, wanted)


def test_the_process_is_kept_and_knows_nothing_of_the_package(sandbox: Sandbox) -> None:
    first, second = ask(sandbox, "echo"), ask(sandbox, "echo")
    assert first["pid"] == second["pid"] != os.getpid()
    assert not [name for name in first["modules"] if name.partition(".")[0] in ("reluce", "onnx", "scipy")]


def test_an_exception_leaves_the_process_alone(sandbox: Sandbox) -> None:
    before = ask(sandbox, "echo")["pid"]
    with pytest.raises(Failed, match=r"^ValueError: not to my taste$"):
        ask(sandbox, "fail")
    with pytest.raises(Failed, match="MemoryError"):
        ask(sandbox, "eat")
    ask(sandbox, "chatter")
    assert ask(sandbox, "echo")["pid"] == before


@pytest.mark.parametrize("do", ["spin", "sleep"])
def test_what_takes_too_long_is_killed(sandbox: Sandbox, do: str) -> None:
    before = ask(sandbox, "echo")["pid"]
    began = time.monotonic()
    with pytest.raises(Lost, match=r"^no answer after 0\.5 s$"):
        ask(sandbox, do, Limits(0.5, 4 << 30, 100))
    assert time.monotonic() - began < 30
    assert not alive(before)
    assert ask(sandbox, "echo")["pid"] != before


@pytest.mark.parametrize(("do", "code"), [("leave", 3), ("crash", -signal.SIGSEGV)])
def test_a_crash_is_told_and_the_next_request_starts_another_process(sandbox: Sandbox, do: str, code: int) -> None:
    with pytest.raises(Lost, match=rf"^the process was lost \(exit code {code}\)$"):
        ask(sandbox, do)
    assert ask(sandbox, "echo", text="again")["text"] == "again"


def test_a_process_that_died_while_nobody_asked_is_replaced(sandbox: Sandbox) -> None:
    before = ask(sandbox, "echo")["pid"]
    os.kill(before, signal.SIGKILL)
    os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    assert ask(sandbox, "echo")["pid"] != before


def message(head: bytes, length: int | None = None, magic: bytes = MAGIC) -> bytes:
    return magic + struct.pack("<Q", len(head) if length is None else length) + head


@pytest.mark.parametrize(
    "answer",
    [
        b"no message at all, but long enough",
        message(b"{}", HEAD_BYTES + 1),
        message(b"{}", magic=b"RLC2"),
        message(b"not json"),
        message(b"[]"),
        message(b"[" * 100_000),
        message(b'{"head": [], "parts": []}'),
        message(b'{"head": {}, "parts": []}'),
        message(b'{"head": {"reply": 3}, "parts": []}'),
        message(b'{"head": {}, "parts": [["object", [1]]]}'),
        message(b'{"head": {}, "parts": [["float32", [-1]]]}'),
        message(b'{"head": {}, "parts": [["float32", [1.5]]]}'),
        message(b'{"head": {}, "parts": [["float32", [true]]]}'),
        message(b'{"head": {}, "parts": [["float32", "12"]]}'),
        message(b'{"head": {}, "parts": [["float32", [1000000000000]]]}'),
        message(b'{"head": {}, "parts": [["float32", [0, %s]]]}' % b",".join([b"1"] * 100)),
    ],
)
def test_an_answer_that_is_none_is_refused(sandbox: Sandbox, answer: bytes) -> None:
    with pytest.raises(Lost, match=r"^its answer is garbled$"):
        ask(sandbox, "garble", hex=answer.hex())
    assert ask(sandbox, "echo", text="again")["text"] == "again"


def test_a_giant_answer_is_refused_before_it_is_read(sandbox: Sandbox) -> None:
    with pytest.raises(Lost, match="garbled"):
        ask(sandbox, "flood")


def test_the_limits_hold_for_each_request(sandbox: Sandbox, tmp_path: Path) -> None:
    names = ["RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_CPU"]
    for memory in (3 << 30, 5 << 30, 4 << 30):
        found = ask(sandbox, "limits", Limits(10, memory, 0), names=names)
        assert found["RLIMIT_AS"] == memory
        assert found["RLIMIT_CORE"] == found["RLIMIT_FSIZE"] == 0
        assert 0 < found["RLIMIT_CPU"] < 10 * (os.cpu_count() or 1) + 10
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 4 << 30  # the parent has none of this
    with pytest.raises(Failed, match="OSError"):
        ask(sandbox, "write", path=str(tmp_path / "file"))
    assert not (tmp_path / "file").read_bytes()


def test_threads_take_turns(sandbox: Sandbox) -> None:
    found: dict[int, str] = {}

    def work(number: int) -> None:
        for k in range(20):
            found[number] = ask(sandbox, "echo", text=f"{number} {k}")["text"]
            assert found[number] == f"{number} {k}"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"{number} 19" for number in range(4)}


def test_the_process_ends_with_its_owner() -> None:
    box = Sandbox(SERVICE)
    pid = ask(box, "echo")["pid"]
    del box
    assert not alive(pid)


def test_a_fork_does_not_end_it(sandbox: Sandbox) -> None:
    before = ask(sandbox, "echo")["pid"]
    child = os.fork()
    if not child:
        sandbox.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ask(sandbox, "echo")["pid"] == before


def test_ctrl_c_ends_what_is_under_way(sandbox: Sandbox) -> None:
    before = ask(sandbox, "echo")["pid"]
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ask(sandbox, "sleep")
    timer.join()
    assert not alive(before)


def test_what_the_parent_finds_the_process_finds(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/nowhere", *sys.path])
    assert ask(sandbox, "echo")["pid"]


def test_modules_of_the_current_folder_are_not_run(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "runpy", "numpy", "struct"):
        (tmp_path / f"{name}.py").write_text("open('there', 'w')\nraise RuntimeError\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert ask(sandbox, "echo")["modules"]
    assert not (tmp_path / "there").exists()


def test_without_an_interpreter_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for executable in (None, "", "/there/is/none"):
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(Lost, match="cannot be started"):
            ask(Sandbox(SERVICE), "echo")
