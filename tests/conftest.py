"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Timing says nothing about correctness, so no example fails for being slow.
settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

DEFAULT_SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_folder() -> Path:
    named = os.environ.get("RELUCE_DATA")
    return Path(named) if named else DEFAULT_SHARED


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("shared") is None or shared_folder().is_dir():
        return
    if os.environ.get("CI") == "true" and DEFAULT_SHARED.is_dir():
        pytest.fail(f"CI must not skip this: {DEFAULT_SHARED} exists, but RELUCE_DATA={shared_folder()} does not")
    pytest.skip(f"no folder of public networks at {shared_folder()} (set RELUCE_DATA)")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public networks, for tests that are marked ``shared``."""
    return shared_folder()


def pytest_configure() -> None:
    """Hear Ctrl-C also where the tests were started by a shell that ignores it: it is what some of them are about."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
