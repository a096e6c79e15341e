"""Sums, products with constants, normalisation and activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto

from reluce.io._limits import TENSOR
from reluce.io._proto import attributes
from reluce.io._scope import Made, NotModelled, Scope, mismatch, operand
from reluce.network import Activation, Add, Affine, Array, BatchNorm, Op, Relu, Select, Softmax, readonly

Flags = Mapping[str, Any]


def binary(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Add, Sub, Mul and Div of two variable tensors or of one and a constant."""
    if scope.opset < 7:
        raise NotModelled("broadcasting as before operator set 7")
    if len(node.input) != 2:
        raise NotModelled("not two inputs")
    left, right = node.input
    if scope.is_fixed(left) or scope.is_fixed(right):
        return _with_constant(scope, node)
    if node.op_type not in ("Add", "Sub"):
        raise NotModelled("two variable factors")
    shapes = scope.variable(left), scope.variable(right)
    output = node.output[0]
    if node.op_type == "Add":
        return summed(scope, node, left, shapes[0], right, shapes[1], output)
    minus = scaled(scope, right, -1.0, scope.fresh(f"{output}/negative"))
    return (minus, *summed(scope, node, left, shapes[0], minus.output, shapes[1], output))


def _with_constant(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    constant_first = scope.is_fixed(node.input[0])
    name, source = node.input if constant_first else reversed(node.input)
    shape, output = scope.variable(source), node.output[0]
    array = scope.weights(name, source)
    made = tuple(_aligned(scope, node, source, shape, name, array, f"{output}/expanded"))
    if made:
        source, shape = made[-1].output, made[-1].shape
    if scope.batched and array.ndim == len(shape) + 1:
        array = array[0]
    op = _affine(node.op_type, constant_first, array)
    # Views: their strides tell how large the stored constants are.
    scale, shift = (None if part is None else np.broadcast_to(part, shape) for part in (op.scale, op.shift))
    return (*made, Made(replace(op, scale=scale, shift=shift), (source,), output, shape))


def _affine(kind: str, constant_first: bool, array: Array) -> Affine:
    """The op ``x kind array``, or ``array kind x`` when ``constant_first``."""
    if kind == "Add":
        return Affine(None, array)
    if kind == "Mul":
        return Affine(array)
    if kind == "Sub":
        return Affine(filled(array, -1.0), array) if constant_first else Affine(None, readonly(-array))
    if constant_first:
        raise NotModelled("division by a variable tensor")
    if not array.all():
        raise NotModelled("division by zero")
    return Affine(array, None, True)


def _aligned(
    scope: Scope, node: NodeProto, source: str, shape: tuple[int, ...], name: str, array: Array, base: str
) -> list[Made]:
    """Nothing, or the Select that repeats ``source`` where the constant has more elements along an axis."""
    dims = list(array.shape)
    if scope.batched and len(dims) > len(shape):
        if len(dims) > len(shape) + 1 or dims[0] != 1:
            raise NotModelled("the constant differs along the batch axis")
        dims = dims[1:]
    try:
        target = np.broadcast_shapes(shape, tuple(dims))
    except ValueError:
        raise mismatch(node, name, f"shape {dims} does not fit {source!r} of shape {list(shape)}") from None
    return [] if target == shape else [expanded(scope, source, shape, target, scope.fresh(base))]


def expanded(scope: Scope, source: str, shape: tuple[int, ...], target: tuple[int, ...], output: str) -> Made:
    """``source`` repeated to the shape ``target`` by numpy's rules."""
    if prod(target) > TENSOR:
        raise NotModelled("its result is too large to follow")
    scope.charge(prod(target))
    indices = np.broadcast_to(np.arange(prod(shape), dtype=np.int64).reshape(shape), target)
    return Made(Select(readonly(indices.ravel()), target), (source,), output, target)


def summed(
    scope: Scope, node: NodeProto, a: str, a_shape: tuple[int, ...], b: str, b_shape: tuple[int, ...], output: str
) -> tuple[Made, ...]:
    """``a + b``, the smaller one repeated where it has to be."""
    if scope.batched and len(a_shape) != len(b_shape):
        raise NotModelled("mixes the batch axis")
    try:
        shape = np.broadcast_shapes(a_shape, b_shape)
    except ValueError:
        raise mismatch(node, b, f"shape {list(b_shape)} does not fit {a!r} of shape {list(a_shape)}") from None
    made = []
    for name, own in ((a, a_shape), (b, b_shape)):
        if own != shape:
            made.append(expanded(scope, name, own, shape, scope.fresh(f"{output}/expanded")))
            a, b = (made[-1].output if a == name else a), (made[-1].output if b == name else b)
    return (*made, Made(Add(), (a, b), output, shape))


def scaled(scope: Scope, source: str, factor: float, output: str) -> Made:
    """``source * factor``."""
    shape = scope.variable(source)
    scale = readonly(np.full(shape, factor, scope.values[source].dtype))
    if scale.size and float(scale.flat[0]) != factor:
        raise NotModelled(f"{factor} is no {scale.dtype.name}")
    return Made(Affine(scale), (source,), output, shape)


def filled(like: Array, value: float) -> Array:
    """An array of one value, in the shape and dtype of another."""
    return readonly(np.full_like(like, value))


def negative(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Neg."""
    return (scaled(scope, operand(node, 0), -1.0, node.output[0]),)


def total(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Sum of one or two tensors."""
    if len(node.input) == 2:
        left, right = node.input
        if scope.is_fixed(left) or scope.is_fixed(right):
            raise NotModelled("a constant among the addends")
        return summed(scope, node, left, scope.variable(left), right, scope.variable(right), node.output[0])
    if len(node.input) != 1:
        raise NotModelled("more than two addends")
    shape = scope.variable(node.input[0])
    return (expanded(scope, node.input[0], shape, shape, node.output[0]),)


def batch_normalization(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Inference only: the moments are constants."""
    flags, source = attributes(node), operand(node, 0)
    if scope.opset < 7 or flags.get("training_mode", 0) or not flags.get("spatial", 1):
        raise NotModelled("not in inference form")
    if sum(map(bool, node.output)) > 1 or len(node.input) != 5:
        raise NotModelled("not in inference form")
    shape = scope.variable(source)
    axis = 0 if scope.batched else 1
    if len(shape) <= axis:
        raise NotModelled("no channel axis")
    arrays = []
    for name in node.input[1:]:
        array = scope.weights(name, source)
        if array.shape != (shape[axis],):
            raise mismatch(
                node, name, f"shape {list(array.shape)} does not fit the {shape[axis]} channels of {source!r}"
            )
        column = array.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        arrays.append(readonly(np.broadcast_to(column, shape)))
    epsilon = float(flags.get("epsilon", np.float32(1e-5)))
    scale, shift, mean, variance = arrays
    if not (variance.astype(np.float64) + epsilon > 0).all() or not np.isfinite(epsilon):
        raise NotModelled("a variance that is not positive")
    return (Made(BatchNorm(scale, shift, mean, variance, epsilon), (source,), node.output[0], shape),)


def relu(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Relu; behind a convolution its units are the channels."""
    source = operand(node, 0)
    shape = scope.variable(source)
    if not shape:
        raise NotModelled("a single number per sample")
    channels = scope.values[source].channels
    return (Made(Relu(-1 if channels is None else channels), (source,), node.output[0], shape),)


def activation(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """A non-decreasing function of each element."""
    shape = scope.variable(operand(node, 0))
    parameters = ACTIVATIONS[node.op_type](scope, node, attributes(node))
    if any(np.isnan(parameters)):
        raise NotModelled("a parameter is not a number")
    return (Made(Activation(node.op_type, parameters), (node.input[0],), node.output[0], shape),)


def _leaky(scope: Scope, node: NodeProto, flags: Flags) -> tuple[float, ...]:
    alpha = float(flags.get("alpha", np.float32(0.01)))
    if not 0.0 <= alpha <= 1.0:
        raise NotModelled(f"alpha is {alpha}")
    return (alpha,)


def _clip(scope: Scope, node: NodeProto, flags: Flags) -> tuple[float, ...]:
    bounds = [float(flags.get("min", -np.inf)), float(flags.get("max", np.inf))]
    for k in (1, 2) if scope.opset >= 11 else ():
        if operand(node, k):
            array = scope.constant(operand(node, k))
            if array is None or array.size != 1:
                raise NotModelled("the bounds are not constant")
            bounds[k - 1] = float(array.reshape(-1)[0])
    if not bounds[0] <= bounds[1]:
        raise NotModelled(f"the bounds are {bounds}")
    return tuple(bounds)


def _hard_sigmoid(scope: Scope, node: NodeProto, flags: Flags) -> tuple[float, ...]:
    alpha, beta = float(flags.get("alpha", np.float32(0.2))), float(flags.get("beta", 0.5))
    if not 0.0 <= alpha < np.inf or not np.isfinite(beta):
        raise NotModelled(f"alpha is {alpha}, beta is {beta}")
    return (alpha, beta)


def _elu(scope: Scope, node: NodeProto, flags: Flags) -> tuple[float, ...]:
    alpha = float(flags.get("alpha", 1.0))
    if not 0.0 < alpha < np.inf:
        raise NotModelled(f"alpha is {alpha}")
    return (alpha,)


def _plain(scope: Scope, node: NodeProto, flags: Flags) -> tuple[float, ...]:
    return ()


ACTIVATIONS: Mapping[str, Callable[[Scope, NodeProto, Flags], tuple[float, ...]]] = {
    "Sigmoid": _plain,
    "Tanh": _plain,
    "Softplus": _plain,
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Elu": _elu,
}


def softmax(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Softmax, or its logarithm, along one axis; before operator set 13 it ran over all axes from ``axis`` on."""
    source = operand(node, 0)
    shape = scope.variable(source)
    rank = len(scope.dims(shape))
    axis = int(attributes(node).get("axis", -1 if scope.opset >= 13 else 1))
    if not -rank <= axis < rank:
        raise NotModelled(f"axis {axis} of {rank}")
    axis %= rank
    if scope.opset < 13 and axis != rank - 1:
        raise NotModelled("runs over several axes")
    if scope.batched and axis == 0:
        raise NotModelled("mixes the batch axis")
    op: Op = Softmax(axis - rank, node.op_type == "LogSoftmax")
    return (Made(op, (source,), node.output[0], shape),)
