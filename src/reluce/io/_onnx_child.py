"""The standard's own implementation of one node, run as a child process: shapes it infers, values it computes.

It does what a file says, in C++ and in Python that raise, hang and allocate as the file wants. This file runs without
the package around it (see ``reluce.run``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx.shape_inference
from onnx import ModelProto, ValueInfoProto

Arrays = Sequence[npt.NDArray[Any]]
Known = tuple[int, list[int | str | None] | None]
UNKNOWN: Known = (0, None)


def handle(request: Mapping[str, Any], arrays: Arrays) -> tuple[Mapping[str, Any], Arrays]:
    """Infer the outputs of a model of one node; compute them where ``inputs`` names the arrays after the models.

    The first array is the model as bytes, with what is known of its inputs; the second one is the model to compute. The
    reply lists element type and dimensions of each output; dimensions are ``None`` where not even the rank is known, a
    text is the length of an axis by name.
    """
    inferred = onnx.shape_inference.infer_shapes(_model(arrays[0]), data_prop=True)
    found = {info.name: _known(info) for info in (*inferred.graph.output, *inferred.graph.value_info)}
    known = [found.get(name, UNKNOWN) for name in request["outputs"]]
    if "inputs" not in request:
        return {"known": known}, []
    if any(_size(dims) > request["limit"] for _, dims in known):
        # Asked beforehand: a few bytes of a file can ask for terabytes.
        raise ValueError("the size of the result is not known or too large")
    from onnx.reference import ReferenceEvaluator  # imported late: shapes do not need it

    feeds = dict(zip(request["inputs"], arrays[2:], strict=True))
    return {"known": known}, [np.asarray(result) for result in ReferenceEvaluator(_model(arrays[1])).run(None, feeds)]


def _model(data: npt.NDArray[Any]) -> ModelProto:
    return onnx.load_from_string(data.tobytes())


def _known(info: ValueInfoProto) -> Known:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        return UNKNOWN
    return kind.elem_type, [_length(dim) for dim in kind.shape.dim] if kind.HasField("shape") else None


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param or None


def _size(dims: list[int | str | None] | None) -> float:
    """Number of elements, infinite where that is not known."""
    lengths = [] if dims is None else [dim for dim in dims if isinstance(dim, int)]
    return prod(lengths) if dims is not None and len(lengths) == len(dims) else float("inf")
