"""onnxruntime in a process of its own: whatever a model does to it is an exception here."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from reluce.io._limits import RUN_REPLY, RUN_SECONDS, run_bytes
from reluce.io._loaded import Run
from reluce.network import Array
from reluce.run import Limits, Sandbox

SPARE = 2  # processes that wait for the next session: starting one takes longer than compressing a small network


def session(data: bytes) -> Run:
    """Make a model ready to run, as ``Runtime.start`` does.

    Parameters
    ----------
    data
        The uncompressed bytes of an ONNX model.

    Raises
    ------
    reluce.run.Failed
        What onnxruntime has to say against it.
    reluce.run.Lost
        When it crashed, or took more time or memory than ``_limits`` allows.
    """
    return _Session(data)


class _Session:
    """A model that is ready to run; its process goes back to the others when this is not used any more."""

    def __init__(self, data: bytes) -> None:
        idle = _idle(os.getpid())
        try:
            self._child = idle.pop()
        except IndexError:
            self._child = Sandbox(Path(__file__).with_name("_ort_child.py"))
        weakref.finalize(self, idle.append, self._child)
        self._limits = Limits(RUN_SECONDS, run_bytes(len(data)), RUN_REPLY)
        self._child.ask({}, [np.frombuffer(data, np.uint8)], self._limits)

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        reply, results = self._child.ask({"inputs": list(feed)}, list(feed.values()), self._limits)
        return dict(zip(map(str, reply["outputs"]), results, strict=True))


@cache
def _idle(process: int) -> deque[Sandbox]:
    """Those of each Python process: one that was forked must not talk to its parent's. More than ``SPARE`` end."""
    return deque(maxlen=SPARE)
