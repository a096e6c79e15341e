import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from reluce.run import Deadline


class Clock:
    """Stands in for the clock that deadlines read."""

    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def handler() -> Iterator[Any]:
    """Whatever listens to Ctrl-C, restored afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield before
    signal.signal(signal.SIGINT, before)


def state(deadline: Deadline) -> tuple[bool, bool, bool]:
    return deadline.passed, deadline.cut, deadline.interrupted


def test_without_a_limit_it_never_passes(clock: Clock) -> None:
    deadline = Deadline()
    clock.now += 1e9
    assert state(deadline) == (False, False, False)


def test_it_passes_when_the_time_is_over(clock: Clock) -> None:
    deadline = Deadline(5.0)
    clock.now += 4.9
    assert state(deadline) == (False, False, False)
    clock.now += 0.1
    assert state(deadline) == (True, True, False)


def test_a_limit_of_zero_has_passed(clock: Clock) -> None:
    assert state(Deadline(0.0)) == (True, True, False)


def test_only_work_that_was_left_undone_counts_as_cut(clock: Clock) -> None:
    deadline = Deadline(5.0)
    clock.now += 10
    assert not deadline.cut  # nobody asked, so nothing was left out
    assert deadline.passed
    clock.now = 100.0
    assert not deadline.passed
    assert deadline.cut  # it is remembered


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_or_sigterm_makes_it_pass(kind: signal.Signals, handler: Any) -> None:
    deadline, before = Deadline(), signal.getsignal(signal.SIGTERM)
    with deadline.listening():
        assert state(deadline) == (False, False, False)
        signal.raise_signal(kind)
        assert deadline.interrupted
        assert not deadline.cut
        assert state(deadline) == (True, True, True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_ctrl_c_stops_at_once(handler: Any) -> None:
    deadline = Deadline()

    def twice() -> None:
        with deadline.listening():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_old_handler_comes_back_after_an_error(handler: Any) -> None:
    with pytest.raises(ZeroDivisionError), Deadline().listening():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_listens_before_and_after(handler: Any) -> None:
    deadline = Deadline()
    with deadline.listening():
        pass
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not deadline.interrupted


def test_other_threads_leave_the_handler_alone(handler: Any) -> None:
    seen: list[Any] = []

    def work() -> None:
        with Deadline(0.0).listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [handler]
