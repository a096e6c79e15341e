"""Runs of a sweep in processes of their own, several at once.

A worker is killed without ceremony: checkpoints and journals are there for that. It ends when its standard input does,
so with the process that started it, and it holds the folder's lock as long as it lives. What is computed does not
depend on workers: each run has one thread anyway.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from reluce.errors import Interrupted
from reluce.run import LOCKS
from reluce.settings import Settings
from reluce.sweep._one import Outcome, Say, finished, outcome_of
from reluce.sweep._plan import Plan
from reluce.sweep._results import Failure
from reluce.train import Data

CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from reluce.sweep._workers import work; work()"


def side_by_side(
    todo: Sequence[Plan], data: Data, settings: Settings, jobs: int, lock: int, say: Callable[[str], None]
) -> Iterator[tuple[Plan, Outcome]]:
    """Do runs, ``jobs`` at once, and give what comes of each when it has ended.

    Raises
    ------
    Interrupted
        When a worker was.
    """
    workers = _Workers(pickle.dumps((data, settings)), lock, say)
    with ThreadPoolExecutor(jobs) as threads:
        futures = {threads.submit(workers.run, plan): plan for plan in todo}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # Ctrl-C, an error, a caller that has had enough: nobody is left behind
            workers.stop()
            threads.shutdown(wait=False, cancel_futures=True)


class _Workers:
    """The processes that are alive."""

    def __init__(self, common: bytes, lock: int, say: Callable[[str], None]) -> None:
        self.common, self.lock, self.say = common, lock, say
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._guard, self._stopped = threading.Lock(), False

    def run(self, plan: Plan) -> Outcome:
        """Do one run in a new process."""
        process = self._start()
        if process is None:
            raise Interrupted("interrupted before the run began")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(OSError):  # one that is gone is noticed below
                process.stdin.write(self.common)
                process.stdin.write(pickle.dumps(plan))
                process.stdin.flush()
            last: dict[str, str] = {}
            for line in process.stdout:
                with suppress(ValueError):
                    last = json.loads(line)
                    if "say" in last:
                        self.say(f"{plan.name}: {last['say']}")
        finally:
            self._end(process)
        return self._judged(plan, last, process.returncode)

    def _judged(self, plan: Plan, last: dict[str, str], code: int) -> Outcome:
        if self._stopped or "interrupted" in last:
            raise Interrupted("interrupted")
        if "kind" in last:
            return Failure(last["kind"], last["reason"])
        return finished(plan) or Failure("Lost", f"the process of the run was lost (exit code {code})")

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._guard:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", CODE, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self.lock,) if LOCKS else (),
                start_new_session=True,  # the terminal's Ctrl-C does not reach it; who gets it stops the workers
            )
            self._alive.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()
        process.wait()
        with self._guard:
            self._alive.discard(process)

    def stop(self) -> None:
        """Kill those that are alive, and start no more."""
        with self._guard:
            self._stopped = True
            for process in self._alive:
                process.kill()


def work() -> None:
    """Be a worker: read what is to be done, say how it goes in lines of JSON, and leave files."""
    # Whatever prints, prints to the error output: the lines are this function's own.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(**what: str) -> None:
        lines.write(json.dumps(what) + "\n")
        lines.flush()

    say: Say = lambda what: tell(say=what)  # noqa: E731 (typed, and as short as it can be)
    data, settings = pickle.load(sys.stdin.buffer)
    plan: Plan = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        found = outcome_of(plan, data, settings, say)
    except (Interrupted, KeyboardInterrupt):
        tell(interrupted="")
        return
    if isinstance(found, Failure):
        tell(kind=found.kind, reason=found.reason)


def _end_with_input() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock the interpreter wants when it ends
        pass
    os._exit(1)
