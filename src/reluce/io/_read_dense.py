"""Gemm and MatMul as Dense; other orders of the axes as data movement around it."""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import NodeProto

from reluce.io._proto import attributes
from reluce.io._read_elementwise import scaled, summed
from reluce.io._scope import Made, NotModelled, Scope, mismatch, operand
from reluce.network import Affine, Array, Dense, Select, readonly


def gemm(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """``alpha * A' B' + beta * C`` with a constant B."""
    if scope.opset < 7:
        raise NotModelled("broadcasting as before operator set 7")
    flags = attributes(node)
    source, output = node.input[0], node.output[0]
    shape = scope.variable(source)
    weight = scope.weights(operand(node, 1), source)
    if len(scope.dims(shape)) != 2 or weight.ndim != 2:
        raise mismatch(
            node, source, f"Gemm multiplies matrices, found ranks {len(scope.dims(shape))} and {weight.ndim}"
        )
    made: list[Made] = []
    if flags.get("transA", 0):
        if scope.batched:
            raise NotModelled("mixes the batch axis")
        made.append(transposed(scope, source, shape, scope.fresh(f"{output}/transposed")))
        source, shape = made[-1].output, made[-1].shape
    weight = oriented(scope, weight, not flags.get("transB", 0))
    _check_width(node, node.input[1], weight.shape[1], source, shape[-1])
    alpha, beta = float(flags.get("alpha", 1.0)), float(flags.get("beta", 1.0))
    if not np.isfinite([alpha, beta]).all():
        raise NotModelled("alpha or beta is not finite")
    main = Made(Dense(weight, None, alpha), (source,), output, (*shape[:-1], len(weight)))
    if not operand(node, 2) or beta == 0.0:
        return (*made, main)
    return (*made, *_biased(scope, node, main, beta))


def _biased(scope: Scope, node: NodeProto, main: Made, beta: float) -> tuple[Made, ...]:
    """Gemm's C added to ``main``, which has none yet."""
    dense, name = main.op, node.input[2]
    assert isinstance(dense, Dense)
    inner = Made(dense, main.inputs, scope.fresh(f"{main.output}/product"), main.shape)
    if not scope.is_fixed(name):
        made: tuple[Made, ...] = (inner,)
        bias = name
        if beta != 1.0:
            factor = scaled(scope, name, beta, scope.fresh(f"{main.output}/bias"))
            made, bias = (inner, factor), factor.output
        return (*made, *summed(scope, node, inner.output, main.shape, bias, scope.variable(name), main.output))
    array, width = scope.weights(name, node.input[0]), main.shape[-1]
    if array.ndim > 2 or (array.ndim and array.shape[-1] not in (1, width)):
        raise mismatch(node, name, f"the bias has shape {list(array.shape)}, the output has width {width}")
    if array.ndim < 2 or len(array) == 1:
        row = array if array.shape == (width,) else readonly(np.broadcast_to(array.reshape(-1), (width,)))
        return (Made(Dense(dense.weight, row, dense.alpha, beta), main.inputs, main.output, main.shape),)
    if scope.batched or beta != 1.0:
        raise NotModelled("the bias differs from row to row")
    if len(array) != main.shape[0]:
        raise mismatch(node, name, f"the bias has {len(array)} rows, the output has {main.shape[0]}")
    shift = readonly(np.broadcast_to(array, main.shape))
    return (inner, Made(Affine(None, shift), (inner.output,), main.output, main.shape))


def matmul(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """A product of a variable tensor and a constant, in either order."""
    if len(node.input) != 2:
        raise NotModelled("an input is missing")
    if scope.is_fixed(node.input[1]):
        return _from_right(scope, node)
    if scope.is_fixed(node.input[0]):
        return _from_left(scope, node)
    raise NotModelled("a product of two variable tensors")


def _from_right(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """``x @ W``: acts on the last axis of ``x``."""
    source, output = node.input[0], node.output[0]
    shape = scope.variable(source)
    weight = scope.weights(node.input[1], source)
    if not shape:
        raise NotModelled("mixes the batch axis")
    if weight.ndim == 0 or (weight.ndim > 2 and prod(weight.shape[:-2]) != 1):
        raise NotModelled("a stack of constant matrices")
    if weight.ndim > max(2, len(scope.dims(shape))):
        raise NotModelled("the constant adds an axis")
    matrix: Array = weight.reshape(-1, 1) if weight.ndim == 1 else weight.reshape(weight.shape[-2:])
    _check_width(node, node.input[1], matrix.shape[0], source, shape[-1])
    result = (*shape[:-1], matrix.shape[1])
    dense = Dense(oriented(scope, weight if weight.ndim == 2 else matrix, True))
    if weight.ndim > 1:
        return (Made(dense, (source,), output, result),)
    column = Made(dense, (source,), scope.fresh(f"{output}/column"), result)
    scope.charge(prod(result))
    flat = Select(readonly(np.arange(prod(result), dtype=np.int64)), shape[:-1])
    return (column, Made(flat, (column.output,), output, shape[:-1]))


def _from_left(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """``W @ x``: acts on the last axis but one of ``x``."""
    source, output = node.input[1], node.output[0]
    shape = scope.variable(source)
    weight = scope.weights(node.input[0], source)
    if weight.ndim != 2 or (scope.batched and len(shape) < 2) or not shape:
        raise NotModelled("mixes the batch axis" if scope.batched else "the constant is no matrix")
    _check_width(node, node.input[0], weight.shape[1], source, shape[max(0, len(shape) - 2)])
    dense = Dense(oriented(scope, weight, False))
    if len(shape) == 1:
        return (Made(dense, (source,), output, (len(weight),)),)
    before = transposed(scope, source, shape, scope.fresh(f"{output}/before"))
    inner = Made(dense, (before.output,), scope.fresh(f"{output}/product"), (*before.shape[:-1], len(weight)))
    return (before, inner, transposed(scope, inner.output, inner.shape, output))


def transposed(scope: Scope, source: str, shape: tuple[int, ...], output: str) -> Made:
    """The last two axes of a tensor swapped."""
    scope.charge(prod(shape))
    indices = np.arange(prod(shape), dtype=np.int64).reshape(shape).swapaxes(-1, -2)
    return Made(Select(readonly(indices.ravel()), indices.shape), (source,), output, indices.shape)


def oriented(scope: Scope, weight: Array, transpose: bool) -> Array:
    """The weight as (out, in), read-only and contiguous; the same array for all nodes that read the same weight."""
    if not transpose and weight.flags.c_contiguous:
        return weight
    known = scope.turned.get(id(weight))
    if known is not None and known[0] is weight:
        return known[1]
    result = np.ascontiguousarray(weight.T if transpose else weight)
    result.setflags(write=False)
    scope.turned[id(weight)] = weight, result
    return result


def _check_width(node: NodeProto, weight: str, takes: int, source: str, has: int) -> None:
    if takes != has:
        raise mismatch(node, weight, f"the weight takes {takes} inputs, {source!r} has {has}")
