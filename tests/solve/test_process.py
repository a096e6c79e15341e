"""What happens when a solver hangs, crashes or talks, when its caller is killed, and when its caller has no guard."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from misbehaving import CHATTER, CRASH, EXIT, RAISE, SLEEP, Misbehaving, nothing, refuse

from reluce.solve import SOLVERS, Limits, Outcome, Session, Status
from reluce.solve._process import RemoteSession

HERE = Path(__file__).parent


def never() -> bool:
    return False


def order(session: Session, what: int, seconds: float = 60.0) -> Outcome:
    return session.maximise(np.array([float(what), 0.0]), Limits(seconds))


@pytest.fixture
def session() -> Iterator[Session]:
    with RemoteSession(Misbehaving, nothing(), never) as session:
        yield session


def test_a_solver_that_ignores_its_limit_is_killed_and_the_bounds_survive(session: Session) -> None:
    assert order(session, 0).dual_bound == 2
    upper = np.array([7.0])
    session.bound(np.array([1]), np.array([0.0]), upper)
    upper[:] = 1  # the caller may use its arrays again
    began = time.monotonic()
    outcome = order(session, SLEEP, seconds=0.2)
    assert time.monotonic() - began < 30  # it would sleep for minutes
    assert (outcome.status, outcome.dual_bound) == (Status.LIMIT, np.inf)
    assert outcome.note == "killed: no answer after 2.2 s"
    assert order(session, 0).dual_bound == 8
    session.bound(np.array([0]), np.array([0.0]), np.array([2.0]))
    assert order(session, 0).dual_bound == 9


def test_a_solve_is_killed_from_outside() -> None:
    times: list[float] = []

    def stop() -> bool:
        times.append(time.monotonic())
        return len(times) > 3

    with RemoteSession(Misbehaving, nothing(), stop) as session:
        outcome = order(session, SLEEP)
        assert (outcome.status, outcome.note) == (Status.LIMIT, "killed: stopped from outside")
        assert order(session, 0).note == "stopped before it began"


@pytest.mark.parametrize(("what", "code"), [(EXIT, 3), (CRASH, -signal.SIGSEGV)])
def test_a_crash_is_a_failure_and_the_session_goes_on(session: Session, what: int, code: int) -> None:
    outcome = order(session, what)
    assert (outcome.status, outcome.dual_bound) == (Status.FAILED, np.inf)
    assert outcome.note.startswith(f"the solver's process was lost (exit code {code})")
    assert order(session, 0).dual_bound == 2


def test_an_exception_and_chatter_leave_the_process_alone(session: Session) -> None:
    outcome = order(session, RAISE)
    assert (outcome.status, outcome.note) == (Status.FAILED, "MemoryError: too much")
    assert order(session, CHATTER).dual_bound == 2


def test_a_problem_that_cannot_be_loaded() -> None:
    with RemoteSession(refuse, nothing(), never) as session:
        outcome = order(session, 0)
    assert outcome.status is Status.FAILED
    assert outcome.note == "the problem could not be loaded: ValueError: this problem is not to my taste"


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from misbehaving import {load}
from problems import market_split
from reluce.solve import Limits
from reluce.solve._process import RemoteSession

print("once", flush=True)  # this script has no guard
problem, objective = market_split()
with RemoteSession({load}, problem, lambda: False) as session:
    session.maximise(objective, Limits(0.01))
    print("loaded", flush=True)
    session.maximise(objective, Limits({seconds}))
assert "torch" not in sys.modules
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a script that solves; a solver's process holds the lock."""

    def start(load: str, seconds: str, solver: str = "highs") -> subprocess.Popen[str]:
        path, lock = tmp_path / "script.py", tmp_path / "lock"
        path.write_text(SCRIPT.format(here=str(HERE), load=load, seconds=seconds))
        lock.touch()
        environment = {**os.environ, "LOCK": str(lock), "SOLVER": solver}
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [sys.executable, str(path)], stdout=pipe, stderr=pipe, env=environment, text=True, start_new_session=True
        )

    return start


def held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_script_without_a_guard_runs_once(script: Callable[..., subprocess.Popen[str]]) -> None:
    output, errors = script("Misbehaving", "1").communicate(timeout=60)
    assert (output, errors) == ("once\nloaded\n", "")


@pytest.mark.parametrize(
    ("solver", "number"), [*((name, signal.SIGKILL) for name in SOLVERS), ("highs", signal.SIGINT)], ids=str
)
def test_no_orphan_stays(
    script: Callable[..., subprocess.Popen[str]], tmp_path: Path, solver: str, number: signal.Signals
) -> None:
    with script("load_locked", "np.inf", solver) as caller:
        assert caller.stdout is not None
        assert caller.stderr is not None
        assert [caller.stdout.readline() for _ in range(2)] == ["once\n", "loaded\n"]
        time.sleep(0.3)  # into the second solve, most likely; the test holds anyway
        assert held(tmp_path / "lock")
        os.killpg(caller.pid, number)  # as a terminal does on Ctrl-C; the solver's process is in a group of its own
        errors = caller.stderr.read()
    assert errors.count("Traceback") == (number is signal.SIGINT)
    ends = time.monotonic() + 30
    while held(tmp_path / "lock") and time.monotonic() < ends:
        time.sleep(0.05)
    assert not held(tmp_path / "lock")


def test_modules_of_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pickle", "struct"):
        (tmp_path / f"{name}.py").write_text("open('there', 'w')\nraise RuntimeError\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    with RemoteSession(Misbehaving, nothing(), never) as session:
        order(session, CHATTER)
    assert not (tmp_path / "there").exists()
