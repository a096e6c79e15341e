"""One ONNX node on its own: what shapes it yields, and what it computes from constants.

The standard's implementation is asked, in a process of its own (``_onnx_child.py``): it trusts the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from reluce.io._limits import ASK_BYTES, ASK_REPLY, ASK_SECONDS, ASKED, LOST, RANK, TENSOR
from reluce.io._proto import DEFAULT_DOMAINS, encode
from reluce.io._scope import BATCH, NotModelled, Scope, Value
from reluce.network import Array
from reluce.run import Failed, Limits, Lost, Sandbox

IR_VERSION = 8  # of the models made here; old ones want initialisers among the graph inputs
SMALL = 1024  # constants up to this size may say something about shapes
_BATCH_NAME = "the batch of all inputs"
_LIMITS = Limits(ASK_SECONDS, ASK_BYTES, ASK_REPLY)


def inferred(scope: Scope, node: NodeProto, values: Mapping[str, Value]) -> list[Value]:
    """What can be said of a node's outputs before it runs, in their order (left-out ones included)."""
    blank = [Value(0, None) for _ in node.output]
    if node.domain not in DEFAULT_DOMAINS:
        return blank
    try:
        known, _ = _ask(scope, {"outputs": list(node.output)}, [_packed(_alone(scope, node, values))])
    except NotModelled:  # whatever went wrong, all it means is that nothing is known
        return blank
    return [value if name else unknown for name, value, unknown in zip(node.output, known, blank, strict=True)]


def evaluated(scope: Scope, node: NodeProto, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of one standard node for the given inputs, by the reference implementation.

    Raises
    ------
    NotModelled
        When it fails or would be too large.
    """
    _demand_agreement(node, arrays)
    values = {name: Value(helper.np_dtype_to_tensor_dtype(a.dtype), a.shape, (a,), True) for name, a in arrays.items()}
    models = [_packed(_alone(scope, node, known)) for known in (values, {})]
    outputs = [name for name in node.output if name]
    request = {"outputs": outputs, "inputs": list(arrays), "limit": TENSOR}
    _, results = _ask(scope, request, [*models, *arrays.values()])
    if len(results) != len(outputs) or any(result.size > TENSOR or result.ndim > RANK for result in results):
        raise NotModelled("the size of the result is not known or too large")
    return list(results)


def _demand_agreement(node: NodeProto, arrays: Mapping[str, Array]) -> None:
    """Refuse what the reference implementation is known to compute in another way than the standard says.

    A Slice that steps backwards from before the first element yields that element; numpy's slices yield none.
    """
    if node.op_type != "Slice" or len(node.input) < 5 or not node.input[4]:
        return
    data, starts, steps = (arrays[node.input[k]] for k in (0, 1, 4))
    axes = arrays[node.input[3]] if node.input[3] else np.arange(starts.size)
    for start, axis, step in zip(starts.ravel(), axes.ravel(), steps.ravel(), strict=True):
        if step < 0 and start < -data.shape[axis]:
            raise NotModelled("steps backwards from before the first element")


@cache
def _child(process: int) -> Sandbox:
    """One for each Python process: one that was forked must not talk to its parent's."""
    return Sandbox(Path(__file__).with_name("_onnx_child.py"))


def _ask(scope: Scope, request: Mapping[str, Any], arrays: Sequence[Array]) -> tuple[list[Value], Sequence[Array]]:
    """What is known of the outputs that ``request`` lists, and what they are."""
    if scope.asked >= ASKED or scope.lost >= LOST:
        raise NotModelled("too much has been asked about this model")
    if sum(array.nbytes for array in arrays) > ASK_REPLY:
        raise NotModelled("too large to follow")
    scope.asked += 1
    try:
        reply, results = _child(os.getpid()).ask(request, arrays, _LIMITS)
    except Failed as error:  # the reference implementation raises whatever numpy raises
        raise NotModelled(f"cannot be computed ({str(error).partition(':')[0]})") from None
    except Lost as reason:
        scope.lost += 1
        raise NotModelled(f"cannot be computed ({reason})") from None
    known = reply.get("known")
    if not isinstance(known, list) or len(known) != len(request["outputs"]):
        raise NotModelled("the answer is garbled")
    return [_value(entry) for entry in known], results


def _packed(model: ModelProto) -> Array:
    return np.frombuffer(model.SerializeToString(), np.uint8)


def _alone(scope: Scope, node: NodeProto, values: Mapping[str, Value]) -> ModelProto:
    """A model of one node; small constants come along, other inputs only with what is known of them."""
    kept = [
        encode(value.constant[0], name)
        for name, value in values.items()
        if value.constant and len(value.constant) == 1 and value.constant[0].size <= SMALL
    ]
    here = {tensor.name for tensor in kept}
    names = values if values else dict.fromkeys(name for name in node.input if name)
    inputs = [_info(name, values.get(name)) for name in names if name not in here]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs, kept)
    imports = [helper.make_opsetid(domain, version) for domain, version in scope.imports.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)


def _info(name: str, value: Value | None) -> ValueInfoProto:
    if value is None or value.elem == TensorProto.UNDEFINED:
        return onnx.ValueInfoProto(name=name)
    if value.dims is None:
        return helper.make_tensor_value_info(name, value.elem, None)
    dims = [_BATCH_NAME if dim == BATCH else dim for dim in value.dims]
    return helper.make_tensor_value_info(name, value.elem, dims)


def _value(entry: Any) -> Value:
    """What the child says of a tensor, as far as it is what it may be."""
    match entry:
        case [int(elem), list(dims)] if len(dims) <= RANK:
            return Value(elem, tuple(map(_length, dims)))
        case [int(elem), _]:
            return Value(elem, None)
    return Value(0, None)


def _length(dim: Any) -> int | None:
    if dim == _BATCH_NAME:
        return BATCH
    return dim if type(dim) is int and dim >= 0 else None
