"""What each ATen operation is in the network.

Most are told in the words of the ONNX operator that means the same, and read by its rule; linear layers and data
movement are read directly. Where ATen and ONNX differ in a number (a slope of 0.01 in double precision, a softplus that
becomes linear), the operation is left opaque: nothing is rounded silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import fx

from reluce.io._read_dense import matmul
from reluce.io._read_elementwise import activation, batch_normalization, binary, negative, relu, softmax
from reluce.io._read_select import cast
from reluce.io._scope import Made, NotModelled, Value
from reluce.io._torch_call import ELEMENTS, Call, Rule
from reluce.io._torch_moves import MOVES, move, repeated
from reluce.io._torch_program import operation
from reluce.network import Activation, BatchNorm, Dense, Op, readonly


def _linear(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    return _dense(call, given["input"], given["weight"], given["bias"], transposed=False)


def _addmm(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    source = call.tensor(given["mat1"])
    alpha, beta = (_as_computed(call, source, given[what]) for what in ("alpha", "beta"))
    return _dense(call, given["mat1"], given["mat2"], given["self"], True, alpha, beta)


def _dense(
    call: Call, x: Any, w: Any, b: Any, transposed: bool, alpha: float = 1.0, beta: float = 1.0
) -> tuple[Made, ...]:
    """``alpha x W' + beta b`` on the last axis of ``x``."""
    scope, source = call.scope, call.tensor(x)
    shape, weight = scope.variable(source), scope.weights(call.tensor(w), source)
    if not shape or weight.ndim != 2:
        raise NotModelled("mixes the batch axis" if not shape else "the weight is no matrix")
    weight = readonly(np.ascontiguousarray(weight.T if transposed else weight))
    bias = None if b is None or beta == 0.0 else scope.weights(call.tensor(b), source)
    if bias is not None:
        if bias.ndim > 1:
            raise NotModelled("the bias differs from row to row")
        bias = readonly(np.broadcast_to(bias, (len(weight),)))
    op = Dense(weight, bias, alpha, 1.0 if bias is None else beta)
    return (Made(op, (source,), call.output, (*shape[:-1], len(weight))),)


def _matmul(call: Call) -> tuple[Made, ...]:
    left, right = (call.tensor(value) for value in list(call.arguments.values())[:2])
    return matmul(call.scope, call.proto("MatMul", [left, right]))


def _binary(kind: str) -> Rule:
    def rule(call: Call) -> tuple[Made, ...]:
        given = call.arguments
        left, right = given["self"], given["other"]
        if given.get("alpha", 1) != 1:
            raise NotModelled("a factor alpha")
        if operation(call.node) == "aten.rsub":
            left, right = right, left
        like = call.tensor(left if isinstance(left, fx.Node) else right)
        if call.scope.is_fixed(like) and isinstance(right, fx.Node):
            like = call.tensor(right)
        names = [call.constant(value, like, what) for value, what in ((left, "left"), (right, "right"))]
        return binary(call.scope, call.proto(kind, names))

    return rule


def _negative(call: Call) -> tuple[Made, ...]:
    return negative(call.scope, call.proto("Neg", [call.tensor(call.arguments["self"])]))


def _relu(call: Call) -> tuple[Made, ...]:
    return relu(call.scope, call.proto("Relu", [call.tensor(call.arguments["self"])]))


def _plain(kind: str) -> Rule:
    def rule(call: Call) -> tuple[Made, ...]:
        return activation(call.scope, call.proto(kind, [call.tensor(call.arguments["self"])]))

    return rule


def _leaky_relu(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    slope = _as_computed(call, call.tensor(given["self"]), given["negative_slope"])
    if not 0.0 <= slope <= 1.0:
        raise NotModelled(f"the slope is {slope}")
    return _elementwise(call, Activation("LeakyRelu", (slope,)))


def _elu(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    if given["scale"] != 1 or given["input_scale"] != 1:
        raise NotModelled("scaled")
    alpha = _as_computed(call, call.tensor(given["self"]), given["alpha"])
    if not 0.0 < alpha < inf:
        raise NotModelled(f"alpha is {alpha}")
    return _elementwise(call, Activation("Elu", (alpha,)))


def _elementwise(call: Call, op: Op) -> tuple[Made, ...]:
    source = call.tensor(call.arguments["self"])
    return (Made(op, (source,), call.output, call.scope.variable(source)),)


def _as_computed(call: Call, source: str, number: Any) -> float:
    """A number as torch's kernels use it: in double precision for double tensors, else in float32."""
    double = call.scope.values[source].elem == TensorProto.DOUBLE
    return float(number) if double else float(np.float32(number))


def _clip(low: str, high: str) -> Rule:
    def rule(call: Call) -> tuple[Made, ...]:
        given = call.arguments
        source = call.tensor(given["self"])
        ends = [given.get(low), given.get(high)]
        if any(isinstance(end, fx.Node) for end in ends):
            raise NotModelled("the bounds are tensors")
        ends = [default if end is None else end for end, default in zip(ends, (-inf, inf), strict=True)]
        if ends == [0, inf]:
            return relu(call.scope, call.proto("Relu", [source]))
        names = [call.constant(end, source, what) for end, what in zip(ends, ("min", "max"), strict=True)]
        return activation(call.scope, call.proto("Clip", [source, *names]))

    return rule


def _relu6(call: Call) -> tuple[Made, ...]:
    source = call.tensor(call.arguments["self"])
    ends = [call.constant(end, source, what) for end, what in ((0, "min"), (6, "max"))]
    return activation(call.scope, call.proto("Clip", [source, *ends]))


def _softmax(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    if given.get("dtype") is not None or given.get("half_to_float"):
        raise NotModelled("changes the format")
    kind = "LogSoftmax" if "log" in operation(call.node) else "Softmax"
    return softmax(call.scope, call.proto(kind, [call.tensor(given["self"])], axis=int(given["dim"])))


def _batch_norm(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    source = call.tensor(given["input"])
    channels = call.scope.dims(call.scope.variable(source))[1]
    names = []
    for what, default in (("weight", 1), ("bias", 0), ("running_mean", None), ("running_var", None)):
        if given[what] is None:
            kind = call.scope.values[source]
            name = call.scope.fresh(f"{call.output}/{what}")
            array = readonly(np.full(channels, default, kind.dtype))
            call.scope.values[name] = Value(kind.elem, array.shape, (array,), fixed=True)
            names.append(name)
        else:
            names.append(call.tensor(given[what]))
    (made,) = batch_normalization(call.scope, call.proto("BatchNormalization", [source, *names]))
    assert isinstance(made.op, BatchNorm)
    return (replace(made, op=replace(made.op, epsilon=_as_computed(call, source, given["eps"]))),)


def _cast(call: Call) -> tuple[Made, ...]:
    given = call.arguments
    source = call.tensor(given["self"])
    if given.get("dtype") is None:
        return move(call)
    if given["dtype"] not in ELEMENTS:
        raise NotModelled("changes numbers")
    return cast(call.scope, call.proto("Cast", [source], to=ELEMENTS[given["dtype"]]))


RULES: Mapping[str, Rule] = {
    "linear": _linear,
    "addmm": _addmm,
    **dict.fromkeys(("mm", "matmul"), _matmul),
    "add": _binary("Add"),
    **dict.fromkeys(("sub", "rsub"), _binary("Sub")),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "neg": _negative,
    "relu": _relu,
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("Tanh"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "clamp": _clip("min", "max"),
    "clamp_min": _clip("min", ""),
    "clamp_max": _clip("", "max"),
    "hardtanh": _clip("min_val", "max_val"),
    "relu6": _relu6,
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _softmax),
    "_native_batch_norm_legit_no_training": _batch_norm,
    **dict.fromkeys(("_to_copy", "to"), _cast),
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(("zeros", "ones", "full"), repeated),
}


def rule_of(node: fx.Node) -> Rule:
    """The rule of an operation.

    Raises
    ------
    NotModelled
        When it has none.
    """
    target = node.target
    name = operation(node).removeprefix("aten.")
    overloads = ("Tensor_mode", "Scalar_mode")  # division that rounds
    if not isinstance(target, torch._ops.OpOverload) or target._overloadname in overloads or name not in RULES:
        raise NotModelled("not modelled")
    return RULES[name]
