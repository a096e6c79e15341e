"""One ONNX node on its own: what shapes it yields, and what it computes from constants."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx.shape_inference
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

from reluce.io._proto import DEFAULT_DOMAINS, encode
from reluce.io._scope import BATCH, LIMIT, NotModelled, Scope, Value
from reluce.network import Array

Dims = tuple[int | None, ...]
IR_VERSION = 8  # of the models made here; old ones want initialisers among the graph inputs
SMALL = 1024  # constants up to this size may say something about shapes
_BATCH_NAME = "the batch of all inputs"


def inferred(scope: Scope, node: NodeProto, values: Mapping[str, Value]) -> list[Value]:
    """What can be said of a node's outputs before it runs, in their order (left-out ones included)."""
    blank = [Value(0, None) for _ in node.output]
    if node.domain not in DEFAULT_DOMAINS:
        return blank
    try:
        model = onnx.shape_inference.infer_shapes(_alone(scope, node, values), data_prop=True)
    except Exception:  # whatever it raises, all it means is that nothing is known
        return blank
    found = {info.name: _value(info) for info in (*model.graph.output, *model.graph.value_info)}
    return [found.get(name, unknown) for name, unknown in zip(node.output, blank, strict=True)]


def evaluated(scope: Scope, node: NodeProto, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of one standard node for the given inputs, by the reference implementation.

    Raises
    ------
    NotModelled
        When it fails or would be too large.
    """
    values = {name: Value(helper.np_dtype_to_tensor_dtype(a.dtype), a.shape, (a,), True) for name, a in arrays.items()}
    for value in inferred(scope, node, values):
        # Asked beforehand: a few bytes of a file can ask for terabytes.
        if value.dims is None or prod(dim or 0 for dim in value.dims) > LIMIT or None in value.dims:
            raise NotModelled("the size of the result is not known or too large")
    try:
        results = ReferenceEvaluator(_alone(scope, node, {})).run(None, dict(arrays))
    except Exception as error:  # the reference implementation raises whatever numpy raises
        raise NotModelled(f"cannot be computed ({type(error).__name__})") from None
    return [np.asarray(result) for result in results]


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


def _value(info: ValueInfoProto) -> Value:
    if not info.type.HasField("tensor_type"):
        return Value(0, None)
    kind = info.type.tensor_type
    if not kind.HasField("shape"):
        return Value(kind.elem_type, None)
    dims: list[int | None] = []
    for dim in kind.shape.dim:
        if dim.dim_param == _BATCH_NAME:
            dims.append(BATCH)
        else:
            dims.append(dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None)
    return Value(kind.elem_type, tuple(dims))
