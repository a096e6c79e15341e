"""What each ATen operation is in the network.

Most are told in the words of the ONNX operator that means the same, and read by its rule; linear layers and data
movement are read directly. Where ATen and ONNX differ in a number (a slope of 0.01 in double precision, a softplus that
becomes linear), the operation is left opaque: nothing is rounded silently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf, prod
from typing import Any

import numpy as np
import torch
from onnx import NodeProto, TensorProto, helper
from torch import fx

from reluce.io._proto import FLOATS
from reluce.io._read_dense import matmul
from reluce.io._read_elementwise import activation, batch_normalization, binary, negative, relu, softmax
from reluce.io._read_select import cast, one_sample
from reluce.io._scope import TRIALS, Made, NotModelled, Scope, Value
from reluce.io._torch_program import arguments, operation
from reluce.network import Activation, Array, BatchNorm, Constant, Dense, Op, Select, readonly

ELEMENTS: Mapping[torch.dtype, int] = {
    torch.float16: TensorProto.FLOAT16,
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.bool: TensorProto.BOOL,
    torch.uint8: TensorProto.UINT8,
    torch.int8: TensorProto.INT8,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
}


@dataclass(frozen=True, eq=False)
class Call:
    """An ATen operation on its way into the network.

    Parameters
    ----------
    scope
        All tensors known so far.
    node
        The operation in torch's graph.
    names
        The names of the tensors that nodes of torch's graph give.
    outputs
        The names of its own results: one, or one for each element of a tuple (empty where nobody reads it).
    """

    scope: Scope
    node: fx.Node
    names: Mapping[fx.Node, str]
    outputs: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by their names in the operation's schema, with its defaults."""
        return arguments(self.node)

    @property
    def output(self) -> str:
        """The name of the only result."""
        return self.outputs[0]

    def tensor(self, value: Any) -> str:
        """The name of an argument that must be a tensor."""
        if not isinstance(value, fx.Node) or value not in self.names:
            raise NotModelled("an argument is no tensor")
        return self.names[value]

    def constant(self, value: Any, like: str, what: str) -> str:
        """The name of a constant of the element type of ``like``: a plain number, as torch converts it."""
        if isinstance(value, fx.Node):
            return self.tensor(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotModelled(f"{what} is no plain number")
        kind = self.scope.values[like]
        with np.errstate(over="ignore"):
            array = readonly(np.array(value, kind.dtype))
        if kind.elem == TensorProto.FLOAT16 and float(array) != float(np.float32(value)):
            raise NotModelled(f"torch computes with {value} in float32")
        name = self.scope.fresh(f"{self.output}/{what}")
        self.scope.values[name] = Value(kind.elem, (), (array,), fixed=True)
        return name

    def proto(self, kind: str, inputs: list[str], **flags: Any) -> NodeProto:
        """The ONNX node of one result that means the same."""
        return helper.make_node(kind, inputs, [self.output], **flags)


Rule = Callable[[Call], tuple[Made, ...]]


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
        return _move(call)
    if given["dtype"] not in ELEMENTS:
        raise NotModelled("changes numbers")
    return cast(call.scope, call.proto("Cast", [source], to=ELEMENTS[given["dtype"]]))


def _move(call: Call) -> tuple[Made, ...]:
    """Data movement: the operation runs on the indices of its inputs' elements (see the ONNX rule of the same kind)."""
    scope = call.scope
    if operation(call.node) == "aten.roll" and scope.batched and _rolls_batch(call):
        raise NotModelled("mixes the batch axis")
    tensors = [node for node in call.node.all_input_nodes if node in call.names]
    nodes = [node for node in tensors if not scope.is_fixed(call.names[node])]
    sources = [call.names[node] for node in nodes]
    if not sources:
        return _repeated(call)
    shapes = [scope.variable(name) for name in sources]
    if len({scope.values[name].elem for name in sources}) > 1:
        raise NotModelled("inputs of different formats")
    where = {node: _integers(scope, call.names[node]) for node in tensors if node not in nodes}  # to pick from
    starts = np.cumsum([0, *map(prod, shapes)])
    stride = int(starts[-1])
    found: dict[str, Array] = {}
    for size in TRIALS if scope.batched else (1,):
        feed = dict(where)
        for node, shape, start in zip(nodes, shapes, starts, strict=False):
            own = np.arange(start, start + prod(shape), dtype=np.int64).reshape(shape)
            rows = stride * np.arange(size, dtype=np.int64).reshape([-1] + [1] * len(shape))
            feed[node] = torch.from_numpy(own + rows if scope.batched else own)
        for name, result in zip(call.outputs, _run(call.node, feed, size), strict=True):
            sample = one_sample(result, size, stride) if scope.batched else result
            if not np.array_equal(found.setdefault(name, sample), sample):
                raise NotModelled("depends on the size of the batch")
    elem = scope.values[sources[0]].elem
    ops = {name: Select(readonly(indices.ravel()), indices.shape) for name, indices in found.items() if name}
    return tuple(Made(op, tuple(sources), name, op.shape, elem) for name, op in ops.items())


def _repeated(call: Call) -> tuple[Made, ...]:
    """A constant for each sample of the batch."""
    scope = call.scope
    if not scope.batched or len(call.outputs) != 1:
        raise NotModelled("moves a constant")
    feed = {}
    for node in call.node.all_input_nodes:
        if node in call.names:
            array = scope.constant(call.names[node])
            if array is None:
                raise NotModelled("moves a constant")
            feed[node] = torch.from_numpy(np.array(array))
    found = [_run(call.node, feed, size)[0] for size in TRIALS]
    if any(not array.ndim or len(array) != size for array, size in zip(found, TRIALS, strict=True)):
        raise NotModelled("mixes the batch axis")
    row = readonly(found[0][0])
    if any(not np.array_equal(array, np.broadcast_to(row, array.shape)) for array in found):
        raise NotModelled("differs along the batch axis")
    elem = ELEMENTS[torch.from_numpy(found[0]).dtype]
    if elem not in FLOATS or not np.isfinite(row).all():
        raise NotModelled("moves a constant")
    return (Made(Constant(row), (scope.batch_source(),), call.output, row.shape, elem),)


def _integers(scope: Scope, name: str) -> torch.Tensor:
    array = scope.constant(name)
    if array is None or array.dtype.kind not in "iu":
        raise NotModelled("moves a constant")
    return torch.from_numpy(np.array(array))


def _rolls_batch(call: Call) -> bool:
    """Whether a roll turns the batch: by a multiple of all the trial sizes, it would not be seen to move anything."""
    axes, rank = call.arguments["dims"], len(call.node.meta["val"].shape)
    return not axes or any(axis % rank == 0 for axis in axes)


def _run(node: fx.Node, feed: Mapping[fx.Node, torch.Tensor], batch: int) -> list[Array]:
    """The results of one operation on given tensors, at a given length of the batch."""

    def value(argument: fx.Node) -> Any:
        return feed[argument] if argument in feed else length(argument.meta.get("val"), batch)

    assert callable(node.target)
    try:
        result = node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))
    except (RuntimeError, IndexError, TypeError, ValueError):
        raise NotModelled("cannot be followed") from None
    return [x.numpy() for x in (result if isinstance(result, list | tuple) else [result])]


def length(value: Any, batch: int) -> int:
    """The length of the batch, the only size that may be free; what is made of it could differ beyond the trials."""
    if not isinstance(value, torch.SymInt) or not value.node.expr.is_Symbol:
        raise NotModelled("depends on the size of the batch")
    return batch


MOVES = [
    "alias",
    "clone",
    "contiguous",
    "detach",
    "lift_fresh_copy",
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "unflatten",
    "permute",
    "transpose",
    "t",
    "numpy_T",
    "movedim",
    "slice",
    "select",
    "narrow",
    "cat",
    "concat",
    "stack",
    "split",
    "split_with_sizes",
    "chunk",
    "unbind",
    "squeeze",
    "unsqueeze",
    "expand",
    "expand_as",
    "repeat",
    "tile",
    "flip",
    "roll",
    "index",
    "index_select",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "adjoint",
    "mT",
    "ravel",
]

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
    **dict.fromkeys(MOVES, _move),
    **dict.fromkeys(("zeros", "ones", "full"), _repeated),
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
