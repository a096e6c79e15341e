"""Killed at any moment: the same command goes on from what was proved, and no half of anything is left."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from strategies import box_of, chain

import reluce
from reluce.cli import EXIT, main
from reluce.errors import OutputError, UsageError
from reluce.io import as_onnx
from reluce.prove import _steps as steps
from reluce.run import Journal

BOX = box_of((-1, 1), (-1, 1))
NETWORK = chain(
    ([[-2, -1], [-2, -2], [-2, -2]], [-1, 0, 1]), ([[1, 1, -2], [-1, 1, 1]], [-1.5, -1.5]), ([[1, 1]], None), box=BOX
)

# Each call of these is a moment before and a moment after it. A run is a forked process, killed at its n-th moment.
KILLED = """
import json, os, sys
from pathlib import Path
import reluce
from reluce.prove import _steps
_steps.WORTH = 0.0
source, folder = sys.argv[1], Path(sys.argv[2])
NAMES = ("fsync", "replace", "ftruncate", "fchmod", "unlink", "open")

def hooked(name, moments):
    original = getattr(os, name)
    def call(*arguments, **more):
        moments()
        found = original(*arguments, **more)
        moments()
        return found
    setattr(os, name, call)

def run(kill_at):
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    left = [kill_at]
    def moments():
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
    for name in NAMES:
        hooked(name, moments)
    try:
        result = reluce.compress(source, "-1,1", output=folder / "out.onnx")
        (folder.parent / "notes").write_text(" ".join(result.report.notes))
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)

def state():
    return {path.name: path.read_bytes().hex() for path in sorted(folder.iterdir())}

folder.mkdir()
assert run(0) == 0
print(json.dumps(state()))
moment = 1
while True:
    for path in folder.iterdir():
        path.unlink()
    code = run(moment)
    if code == 0:
        break
    killed = state()
    assert run(0) == 0
    print(json.dumps([code, killed, state(), (folder.parent / "notes").read_text()]))
    moment += 1
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    path.write_bytes(as_onnx(NETWORK))
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_killed_at_any_moment(source: Path, tmp_path: Path) -> None:
    """The files are those of a run that nobody disturbed, byte for byte; before that, none or whole ones."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, source, tmp_path / "there"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    whole, *moments = (json.loads(line) for line in done.stdout.splitlines())
    assert whole.keys() == {"out.onnx", "out.cert"}
    recalled = 0
    for code, killed, after, notes in moments:
        assert code == 9
        assert after == whole
        assert killed.keys() <= {"out.journal", ".out.onnx.reluce-tmp", ".out.cert.reluce-tmp", "out.cert", "out.onnx"}
        for name in killed.keys() & whole.keys():
            assert killed[name] == whole[name]
        assert "out.cert" in killed or "out.onnx" not in killed
        recalled += "proved again" in notes
    assert len(moments) > 30
    assert 10 < recalled < len(moments)


def test_two_runs_on_one_output(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    with closing(Journal.open(tmp_path / "out.journal", "the other run")) as other:
        other.keep("1", {"x": 1})
        with pytest.raises(OutputError, match=r"out\.journal: another run is writing this output; wait for it"):
            reluce.compress(source, "-1,1", output=target)
        with pytest.raises(SystemExit) as stop:
            main(["compress", str(source), str(target), "--range=-1,1", "-q"])
        assert stop.value.code == EXIT[OutputError]
    assert names(tmp_path) == {"in.onnx", "out.journal"}


def test_a_run_that_ends_leaves_no_journal(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)
    reluce.compress(source, "-1,1", output=tmp_path / "out.onnx")
    assert names(tmp_path) == {"in.onnx", "out.onnx", "out.cert"}


def test_a_run_without_a_path_has_no_journal(source: Path, tmp_path: Path) -> None:
    reluce.compress(source, "-1,1")
    reluce.inspect(source, "-1,1")
    assert names(tmp_path) == {"in.onnx"}


def test_more_time_goes_on_from_there(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)
    target, asked = tmp_path / "out.onnx", iter(range(10**9))
    monkeypatch.setattr("reluce.run.Deadline.passed", property(lambda self: self.late()))

    def late(self: object) -> bool:
        if next(asked) < 14:
            return False
        self._cut.set()  # type: ignore[attr-defined]
        return True

    monkeypatch.setattr("reluce.run.Deadline.late", late, raising=False)
    cut = reluce.compress(source, "-1,1", output=target)
    assert cut.report.cut_short
    assert any("the same command with more time goes on from there" in note for note in cut.report.notes)
    assert names(tmp_path) == {"in.onnx", "out.onnx", "out.cert", "out.journal"}
    monkeypatch.undo()
    monkeypatch.setattr(steps, "WORTH", 0.0)
    result = reluce.compress(source, "-1,1", output=target)
    assert any("proved again" in note for note in result.report.notes)
    assert names(tmp_path) == {"in.onnx", "out.onnx", "out.cert"}
    assert result.report.compressed is not None
    assert cut.report.compressed is not None
    assert result.report.compressed.parameters < cut.report.compressed.parameters


def test_a_run_that_proved_nothing_leaves_no_journal(source: Path, tmp_path: Path) -> None:
    result = reluce.compress(source, "-1,1", output=tmp_path / "out.onnx", settings=reluce.Settings(time_limit=0))
    assert result.report.cut_short
    assert not any("journal" in note for note in result.report.notes)
    assert "out.journal" not in names(tmp_path)


def test_what_a_failed_run_had_proved_is_kept(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)

    def full(*_: object) -> None:
        raise OutputError("no space left")

    with monkeypatch.context() as patch:
        patch.setitem(reluce.compress.__globals__, "save", full)
        with pytest.raises(OutputError):
            reluce.compress(source, "-1,1", output=tmp_path / "out.onnx")
    assert names(tmp_path) == {"in.onnx", "out.journal"}
    result = reluce.compress(source, "-1,1", output=tmp_path / "out.onnx")
    assert any("proved again" in note for note in result.report.notes)


@pytest.mark.parametrize("change", ["domain", "settings", "model"])
def test_a_journal_of_another_question(
    change: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "WORTH", 0.0)
    settings = reluce.Settings()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "remove", lambda self: None)
        reluce.compress(source, "-1,1", output=tmp_path / "out.onnx")
    if change == "model":
        source.write_bytes(as_onnx(NETWORK, "another name"))
    if change == "settings":
        settings = reluce.Settings(prover=reluce.ProverSettings(seed=1))
    result = reluce.compress(
        source, "-1,0.5" if change == "domain" else "-1,1", output=tmp_path / "out.onnx", settings=settings
    )
    assert any("was of another model, domain, settings or version" in note for note in result.report.notes)
    assert not any("proved again" in note for note in result.report.notes)


def test_the_journal_is_no_place_for_another_file(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the journal"):
        reluce.compress(source, "-1,1", output=tmp_path / "out.onnx", certificate=tmp_path / "out.journal")
    with pytest.raises(SystemExit) as stop:
        main(["compress", str(source), str(tmp_path / "o.onnx"), "--range=-1,1", "--json", str(tmp_path / "o.journal")])
    assert stop.value.code == EXIT[UsageError]
