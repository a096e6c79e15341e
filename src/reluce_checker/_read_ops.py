"""What each operator of the file becomes; :class:`NotModelled` where that is not understood exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np

from reluce_checker._graph import Add, Array, BatchNorm, Constant, Monotone, Relu, Scale, Shape, Softmax
from reluce_checker._read_call import FORMATS, Call, NotModelled, axis_of, bounded
from reluce_checker._read_dense import gemm, matmul
from reluce_checker._read_movement import MOVES, moved
from reluce_checker._read_scope import FLOATS, Made, Scope, expanded, operands, select


def binary(scope: Scope, call: Call) -> Iterable[Made]:
    """Add, Sub, Mul and Div of two tensors or of one and a constant."""
    operands(call, 2)
    left, right = call.inputs
    if scope.fixed(left) or scope.fixed(right):
        yield from _with_constant(scope, call)
    elif call.kind in ("Mul", "Div"):
        raise NotModelled("two variable factors")
    else:
        minus = list(negative(scope, right, scope.fresh(f"{call.outputs[0]}/negative"))) if call.kind == "Sub" else []
        yield from minus
        shape = scope.variable(right)
        yield from summed(scope, left, scope.variable(left), minus[0].output if minus else right, shape, call)


def _with_constant(scope: Scope, call: Call) -> Iterable[Made]:
    first = scope.fixed(call.inputs[0])
    name, source = call.inputs if first else reversed(call.inputs)
    shape, array, output = scope.variable(source), scope.weights(name, source), call.outputs[0]
    target = bounded(np.broadcast_shapes(shape, array.shape))
    if target != shape:
        made = expanded(shape, target, source, scope.fresh(f"{output}/expanded"))
        source = made.output
        yield made
    whole = np.broadcast_to(array, target)
    match call.kind:
        case "Add":
            op = Scale(shift=whole)
        case "Mul":
            op = Scale(whole)
        case "Sub":
            op = Scale(np.full_like(whole, -1.0), whole) if first else Scale(shift=-whole)
        case _:
            if first or not array.all():
                raise NotModelled("division by a tensor, or by zero")
            op = Scale(whole, divide=True)
    yield Made(op, (source,), output, target)


def summed(scope: Scope, a: str, a_shape: Shape, b: str, b_shape: Shape, call: Call) -> Iterable[Made]:
    """``a + b``, the smaller ones repeated where they have to be."""
    target, names = np.broadcast_shapes(a_shape, b_shape), []
    for name, shape in ((a, a_shape), (b, b_shape)):
        if shape != target:
            made = expanded(shape, target, name, scope.fresh(f"{call.outputs[0]}/expanded"))
            names.append(made.output)
            yield made
        else:
            names.append(name)
    yield Made(Add(), (names[0], names[1]), call.outputs[0], target)


def negate(scope: Scope, call: Call) -> Iterable[Made]:
    """Neg."""
    operands(call, 1)
    yield from negative(scope, call.inputs[0], call.outputs[0])


def negative(scope: Scope, source: str, output: str) -> Iterable[Made]:
    """``-x``."""
    shape = scope.variable(source)
    yield Made(Scale(np.full(shape, -1.0, scope.values[source].format)), (source,), output, shape)


def total(scope: Scope, call: Call) -> Iterable[Made]:
    """Sum of two tensors."""
    operands(call, 2)
    a, b = call.inputs
    yield from summed(scope, a, scope.variable(a), b, scope.variable(b), call)


def batch_normalization(scope: Scope, call: Call) -> Iterable[Made]:
    """Inference only: the moments are constants."""
    operands(call, 5)
    source, shape = call.inputs[0], scope.variable(call.inputs[0])
    if call.flag("training_mode", 0) or not call.flag("spatial", 1) or len(shape) < 2:
        raise NotModelled("not in inference form")
    columns = [scope.weights(name, source) for name in call.inputs[1:]]
    if any(column.shape != shape[1:2] for column in columns):
        raise NotModelled("the channels do not fit")
    spread = [-1 if axis == 1 else 1 for axis in range(len(shape))]
    scale, shift, mean, variance = (np.broadcast_to(column.reshape(spread), shape) for column in columns)
    epsilon = call.flag("epsilon", float(np.float32(1e-5)))
    if not np.isfinite(epsilon) or not (columns[3].astype(np.float64) + epsilon > 0).all():
        raise NotModelled("a variance that is not positive")
    yield Made(BatchNorm(scale, shift, mean, variance, epsilon), (source,), call.outputs[0], shape)


def monotone(scope: Scope, call: Call) -> Iterable[Made]:
    """Non-decreasing functions of each element, with the parameters for which they are."""
    operands(call, 1, 3 if call.kind == "Clip" and call.opset >= 11 else 1)
    shape = scope.variable(call.inputs[0])
    defaults = {"LeakyRelu": (0.01,), "Elu": (1.0,), "HardSigmoid": (0.2, 0.5)}.get(call.kind, ())
    pairs = zip(("alpha", "beta"), defaults, strict=False)
    parameters = tuple(call.flag(name, float(np.float32(default))) for name, default in pairs)
    if call.kind == "Clip":
        parameters = _ends(call)
        fine = parameters[0] <= parameters[1]
    elif call.kind == "LeakyRelu":
        fine = 0.0 <= parameters[0] <= 1.0
    else:
        fine = not parameters or (parameters[0] >= 0.0 and bool(np.isfinite(parameters).all()))
    if not fine or (call.kind == "Elu" and parameters[0] == 0.0):
        raise NotModelled("not a monotone function")
    op = Relu() if call.kind == "Relu" else Monotone(call.kind, parameters)
    yield Made(op, (call.inputs[0],), call.outputs[0], shape)


def _ends(call: Call) -> tuple[float, float]:
    found = []
    for position, (name, end) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
        if call.opset < 11:
            found.append(call.flag(name, end))
            continue
        array = call.constant(position)
        if name in call.flags or (array is not None and (array.size != 1 or array.dtype.name not in FLOATS)):
            raise NotModelled("ends that are not numbers")
        found.append(end if array is None else float(array.reshape(-1)[0]))
    return found[0], found[1]


def softmax(scope: Scope, call: Call) -> Iterable[Made]:
    """Along one axis; before operator set 13 it ran over all axes from ``axis`` on."""
    operands(call, 1)
    shape = scope.variable(call.inputs[0])
    axis = axis_of(call.flag("axis", -1 if call.opset >= 13 else 1), len(shape))
    if (call.opset < 13 and axis != len(shape) - 1) or (scope.batched and axis == 0):
        raise NotModelled("runs over several axes, or over the batch")
    yield Made(Softmax(axis, call.kind == "LogSoftmax"), (call.inputs[0],), call.outputs[0], shape)


def move(scope: Scope, call: Call) -> Iterable[Made]:
    """Data movement: found out by moving the numbers of the elements."""
    names = list(dict.fromkeys(call.inputs if call.kind == "Concat" else call.inputs[:1]))
    like = next((name for name in names if name and not scope.fixed(name)), "")
    scope.variable(like)
    numbers: dict[str, Array] = {}
    sources, start = [], 0
    for name in names:
        if scope.fixed(name):
            value = scope.weights(name, like)
            made = Made(Constant(value), (), scope.fresh(f"{call.outputs[0]}/constant"), value.shape, value.dtype.name)
            yield made
            shape, source = value.shape, made.output
        else:
            shape, source = scope.variable(name), name
        if scope.values[name].format != scope.values[like].format:
            raise NotModelled("of different formats")
        numbers[name] = np.arange(start, start + prod(shape)).reshape(shape)
        start += prod(shape)
        sources.append(source)
    results = moved(call, [numbers[name] for name in (call.inputs if call.kind == "Concat" else names)])
    for name, result in zip(call.outputs, results, strict=True):
        if name:
            yield select(result, tuple(sources), name, scope.values[like].format)


def identity(scope: Scope, call: Call) -> Iterable[Made]:
    """Identity, Dropout where it does nothing, and a Cast to the same or a wider format."""
    source, form = call.inputs[0], scope.values[call.inputs[0]].format
    operands(call, 1, 3 if call.kind == "Dropout" else 1)
    shape = scope.variable(source)
    if call.kind == "Cast":
        target = FORMATS.get(call.flag("to", 0), np.dtype(np.void)).name
        if target not in FLOATS or FLOATS.index(target) < FLOATS.index(form):
            raise NotModelled("changes numbers")
        form = target
    if call.kind == "Dropout":
        training = call.constant(2)
        if (call.opset < 7 and not call.flag("is_test", 0)) or (training is not None and training.any()):
            raise NotModelled("not in inference form")
        if any(scope.readers.get(name) for name in call.outputs[1:]):
            raise NotModelled("its mask is read")
    yield select(np.arange(prod(shape)).reshape(shape), (source,), call.outputs[0], form)


Rule = Callable[[Scope, Call], Iterable[Made]]
# Operator: its rule, the operator set since which that rule holds, the attributes that are understood.
RULES: Mapping[str, tuple[Rule, int, str]] = {
    "Gemm": (gemm, 7, "alpha beta transA transB"),
    "MatMul": (matmul, 1, ""),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), (binary, 7, "")),
    "Neg": (negate, 6, ""),
    "Sum": (total, 8, ""),
    "BatchNormalization": (batch_normalization, 7, "epsilon momentum spatial training_mode"),
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh", "Softplus"), (monotone, 1, "")),
    **dict.fromkeys(("LeakyRelu", "Elu"), (monotone, 6, "alpha")),
    "HardSigmoid": (monotone, 6, "alpha beta"),
    "Clip": (monotone, 6, "min max"),
    **dict.fromkeys(("Softmax", "LogSoftmax"), (softmax, 1, "axis")),
    **{kind: (move, 1, attributes) for kind, attributes in MOVES.items()},
    "Identity": (identity, 1, ""),
    "Dropout": (identity, 1, "ratio seed is_test"),
    "Cast": (identity, 6, "to saturate"),
}
