"""onnxruntime, run as a child process: one session, and the batches that go through it.

It crashes, hangs and allocates as the file wants. This file runs without the package around it (see ``reluce.run``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Arrays = Sequence[npt.NDArray[Any]]
sessions: list[onnxruntime.InferenceSession] = []  # one at most


def handle(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    """Start a session for the model whose bytes are the only array, or run it on an array for each of ``inputs``.

    The reply to a run names the outputs that are plain tensors of numbers.
    """
    if "inputs" not in request:
        sessions.clear()
        sessions.append(_session(arrays[0].tobytes()))
        return {}, []
    (session,) = sessions
    feed = dict(zip(request["inputs"], arrays, strict=True))
    outputs = zip([output.name for output in session.get_outputs()], session.run(None, feed), strict=True)
    plain = {name: value for name, value in outputs if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"}
    return {"outputs": list(plain)}, list(plain.values())


onnxruntime.disable_telemetry_events()


def _session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 0
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
