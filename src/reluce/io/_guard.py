"""A guard: one more output of an ONNX model, which tells of each sample whether it lies in the domain.

For an input x, a row of numbers for each sample, and ends l, u in its own format, a sample is inside where

    l_k <= x_k <= u_k  for all k

The ends are the exact ones rounded inward: for the numbers of the format that is the same condition. Comparisons with
NaN are false and both ends are finite, so that NaN and the infinities are outside. Operator sets before 12 have no <=:
there x is a number where x < 1 or x > 0, and inside where neither x < l nor x > u as well. What is true is reduced as
the numbers 0 and 1, since not every operator set has a reduction of truth values.

``reluce_checker`` recognises these nodes, and only these.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from reluce.errors import UsageError
from reluce.io._load import Dims, declared
from reluce.io._loaded import Loaded, OnnxLoaded
from reluce.io._proto import all_names, encode, opset, parse
from reluce.io._scope import BATCH
from reluce.network import Array

GUARD = "in_domain"
"""Name of the output."""

FORMATS = ("float16", "float32", "float64", "int32", "int64")
BROADCASTING, WHOLE_NUMBERS, OR_EQUAL, AXES_AS_INPUT = 7, 9, 12, 18
"""Operator sets since which comparisons broadcast, take whole numbers, and come with equality; and ReduceMin's axes."""

Ends = tuple[Array, Array]


def guarded(loaded: OnnxLoaded, ends: Mapping[str, Ends], description: str) -> bytes:
    """The ONNX bytes of a model with a guard; everything else in them stays as it was.

    Parameters
    ----------
    loaded
        The model.
    ends
        For each graph input the lower and the upper ends of the domain: object arrays of ``Fraction`` with the input's
        sample shape.
    description
        Of the domain, for whoever looks into the file.

    Returns
    -------
    bytes
        Always the same for the same arguments. The last output is ``GUARD``: truth values, one for each sample.

    Raises
    ------
    UsageError
        As ``demand_guardable``.
    """
    demand_guardable(loaded)
    model = parse(loaded.data, loaded.name)
    writer, inputs = _Nodes(model), _inputs(model.graph, loaded)
    found = [_inside(writer, info, ends[info.name]) for info in inputs]
    inside = found[0] if len(found) == 1 else writer.step("Min", found, "inside")
    writer.write("Cast", [inside], GUARD, to=TensorProto.BOOL)
    model.graph.node.extend(writer.nodes)
    dims = [_batch_name(inputs)] if loaded.network.batched else [1]
    model.graph.output.append(helper.make_tensor_value_info(GUARD, TensorProto.BOOL, dims, _explained(description)))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def demand_guardable(loaded: Loaded) -> None:
    """Find out before the work that a model cannot have a guard.

    Raises
    ------
    UsageError
        When it is no ONNX model, has something called ``GUARD`` already, imports too old an operator set, or has an
        input whose format or shape does not allow to compare it.
    """
    if not isinstance(loaded, OnnxLoaded):
        raise UsageError("a guard is an output of an ONNX model; export the model to ONNX first, then guard that file")
    model = parse(loaded.data, loaded.name)
    if GUARD in all_names(model.graph):
        raise UsageError(
            f"{loaded.name} has something called {GUARD!r} already: rename it, or leave the guard out "
            "(if that is a guard, begin with the model that it was added to)"
        )
    inputs = _inputs(model.graph, loaded)
    formats = {info.name: loaded.network.tensors[info.name].dtype.name for info in inputs}
    needed = WHOLE_NUMBERS if any(name.startswith("int") for name in formats.values()) else BROADCASTING
    if opset(model) < needed:
        raise UsageError(
            f"{loaded.name} imports version {opset(model)} of the standard operators; a guard of its inputs needs "
            f"{needed}: convert the file (onnx.version_converter), or leave the guard out"
        )
    if not inputs:
        raise UsageError(f"{loaded.name} has no inputs: leave the guard out")
    for info in inputs:
        if formats[info.name] not in FORMATS:
            raise UsageError(
                f"input {info.name!r} is {formats[info.name]}; a guard compares {', '.join(FORMATS)}: leave it out"
            )
        _demand_shape(info.name, declared(info), loaded)


def _demand_shape(name: str, dims: Dims | None, loaded: OnnxLoaded) -> None:
    rest = dims[1:] if dims is not None and loaded.network.batched else dims
    if rest is None or None in rest or BATCH in rest:
        raise UsageError(
            f"the file leaves dimensions of input {name!r} open, other than its batch; a guard needs them: fix them in "
            "the file (onnx.tools.update_model_dims), or leave the guard out"
        )
    if loaded.network.batched and dims is not None and dims[:1] != (BATCH,):
        raise UsageError(f"input {name!r} has no batch axis, but other inputs have: leave the guard out")


def unreachable(loaded: Loaded, ends: Mapping[str, Ends]) -> tuple[str, ...]:
    """The inputs of which no number of their format lies between some ends, so that a guard is never true."""
    tensors = loaded.network.tensors
    found = {name: inward(*ends[name], tensors[name].dtype) for name in loaded.network.inputs}
    return tuple(name for name, (low, high) in found.items() if (low > high).any())


def inward(lower: Array, upper: Array, dtype: np.dtype[Any]) -> Ends:
    """Ends rounded inward to a format, flat; 1 and 0 where none of its numbers lies between them."""
    low, high = np.ones(lower.size, dtype), np.zeros(lower.size, dtype)
    known: dict[tuple[int, int], tuple[Any, Any]] = {}  # a range for all coordinates is the same two objects in each
    for k, (least, most) in enumerate(zip(lower.ravel(), upper.ravel(), strict=True)):
        key = id(least), id(most)
        if key not in known:
            known[key] = _above(least, dtype), _below(most, dtype)
        bottom, top = known[key]
        if bottom is not None and top is not None and bottom <= top:
            low[k], high[k] = bottom, top
    return low, high


def _above(end: Fraction, dtype: np.dtype[Any]) -> Any:
    """The least finite number of a format that is not below an end; None where there is none."""
    if dtype.kind == "i":
        least = max(ceil(end), int(np.iinfo(dtype).min))
        return least if least <= np.iinfo(dtype).max else None
    most = np.finfo(dtype).max
    end = max(end, Fraction(float(-most)))
    if end > Fraction(float(most)):
        return None
    near = dtype.type(float(end))  # next to the end on either side: rounding twice never leaps over a number
    return np.nextafter(near, dtype.type(np.inf)) if Fraction(float(near)) < end else near


def _below(end: Fraction, dtype: np.dtype[Any]) -> Any:
    """The largest finite number of a format that is not above an end; None where there is none."""
    if dtype.kind == "i":
        most = min(floor(end), int(np.iinfo(dtype).max))
        return most if most >= np.iinfo(dtype).min else None
    mirrored = _above(-end, dtype)
    return None if mirrored is None else -mirrored


def _inside(writer: _Nodes, info: ValueInfoProto, ends: Ends) -> str:
    """The name of a tensor that has 1 for each sample whose numbers of one input lie between the ends, else 0."""
    x = _rows(writer, info)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
    bottom, top = inward(*ends, dtype)
    low, high = writer.constant(_short(bottom), "low"), writer.constant(_short(top), "high")
    if writer.opset >= OR_EQUAL:
        sides = [
            writer.step("GreaterOrEqual", [x, low], "not_below"),
            writer.step("LessOrEqual", [x, high], "not_above"),
        ]
        between = writer.step("And", sides, "between")
    else:
        between = _between(writer, x, low, high, dtype)
    one = writer.step("Cast", [between], "one", to=TensorProto.FLOAT)
    if writer.opset >= AXES_AS_INPUT:
        return writer.step("ReduceMin", [one, writer.constant(np.array([1]), "axes")], "all", keepdims=0)
    return writer.step("ReduceMin", [one], "all", axes=[1], keepdims=0)


def _between(writer: _Nodes, x: str, low: str, high: str, dtype: np.dtype[Any]) -> str:
    """Without <=; both comparisons with NaN are false, whatever they compare with."""
    one, zero = writer.constant(np.ones(1, dtype), "one"), writer.constant(np.zeros(1, dtype), "zero")
    sides = [writer.step("Less", [x, low], "below"), writer.step("Greater", [x, high], "above")]
    outside = writer.step("Or", sides, "outside")
    halves = [writer.step("Less", [x, one], "below_one"), writer.step("Greater", [x, zero], "above_zero")]
    number = writer.step("Or", halves, "number")
    return writer.step("And", [writer.step("Not", [outside], "not_outside"), number], "between")


def _rows(writer: _Nodes, info: ValueInfoProto) -> str:
    """An input as a matrix of one row for each sample."""
    dims = declared(info) or ()
    if len(dims) == 2 and dims[0] in (BATCH, 1):
        return info.name
    return writer.step("Flatten", [info.name], "rows", axis=1 if BATCH in dims else 0)


def _short(ends: Array) -> Array:
    """One number where all are the same: it is compared with each."""
    return ends[:1] if (ends == ends[0]).all() else ends


def _inputs(graph: GraphProto, loaded: OnnxLoaded) -> list[ValueInfoProto]:
    """The graph inputs that are no stored constants."""
    return [info for info in graph.input if info.name in loaded.network.inputs]


def _batch_name(inputs: list[ValueInfoProto]) -> str:
    names = [info.type.tensor_type.shape.dim[0].dim_param for info in inputs]
    return next(filter(None, names), "N")


def _explained(description: str) -> str:
    return f"Whether a sample lies in the domain, outside of which nothing is promised: {description}"


class _Nodes:
    """The nodes of the guard while they are written."""

    def __init__(self, model: ModelProto) -> None:
        self.opset = opset(model)
        self.nodes: list[NodeProto] = []
        self._taken = {*all_names(model.graph), GUARD}

    def write(self, kind: str, inputs: list[str], output: str, **flags: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **flags))

    def step(self, kind: str, inputs: list[str], base: str, **flags: Any) -> str:
        """Write a node that leads up to another one; returns the name of its output, which is a new one."""
        name, count = f"{GUARD}/{base}", 0
        while name in self._taken:
            count += 1
            name = f"{GUARD}/{base}_{count}"
        self._taken.add(name)
        self.write(kind, inputs, name, **flags)
        return name

    def constant(self, array: Array, base: str) -> str:
        """Write a constant: as a node, since a user may replace an initialiser that is listed as an input."""
        return self.step("Constant", [], base, value=encode(array, base))
