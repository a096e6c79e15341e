"""Gemm and MatMul as Dense; other orders of the axes as data movement around it."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from reluce_checker._graph import Array, Dense, Node
from reluce_checker._read_call import Call, NotModelled
from reluce_checker._read_scope import Made, Scope, operands, select


def gemm(scope: Scope, call: Call) -> Iterable[Made]:
    """``alpha * x W + beta * c`` with constant ``W`` and ``c``."""
    operands(call, 2, 3)
    source, output, shape = call.inputs[0], call.outputs[0], scope.variable(call.inputs[0])
    weight = scope.weights(call.inputs[1], source)
    alpha, beta = call.flag("alpha", 1.0), call.flag("beta", 1.0)
    if len(shape) != 2 or weight.ndim != 2 or call.flag("transA", 0) or not np.isfinite([alpha, beta]).all():
        raise NotModelled("not a row times a matrix")
    weight = weight if call.flag("transB", 0) else weight.T
    if weight.shape[1] != shape[1]:
        raise NotModelled("the widths do not fit")
    bias = None
    if len(call.inputs) > 2 and call.inputs[2] and beta != 0.0:
        bias = row(scope.weights(call.inputs[2], source), len(weight), 2)
    yield Made(Dense(weight, bias, alpha, 1.0 if bias is None else beta), (source,), output, (shape[0], len(weight)))


def row(array: Array, width: int, rank: int) -> Array:
    """A constant that broadcasts along the last axis only, as one row."""
    if array.ndim > rank or array.size not in (1, width) or (array.size > 1 and array.shape[-1] != width):
        raise NotModelled("differs from row to row")
    return np.broadcast_to(array.reshape(-1), (width,))


def matmul(scope: Scope, call: Call) -> Iterable[Made]:
    """A product with one constant matrix, on either side."""
    operands(call, 2)
    left, right = call.inputs
    if not scope.fixed(right):
        yield from _from_left(scope, call)
        return
    shape, weight = scope.variable(left), scope.weights(right, left)
    if not shape or not weight.ndim or prod(weight.shape[:-2]) != 1 or weight.ndim > max(2, len(shape)):
        raise NotModelled("not one matrix")
    matrix: Array = weight.reshape(-1, 1) if weight.ndim == 1 else weight.reshape(weight.shape[-2:])
    if len(matrix) != shape[-1]:
        raise NotModelled("the widths do not fit")
    output = call.outputs[0]
    column = output if weight.ndim > 1 else scope.fresh(f"{output}/column")
    yield Made(Dense(matrix.T), (left,), column, (*shape[:-1], matrix.shape[1]))
    if weight.ndim == 1:
        yield select(np.arange(prod(shape[:-1])).reshape(shape[:-1]), (column,), output)


def _from_left(scope: Scope, call: Call) -> Iterable[Made]:
    """``W x`` acts on the last axis but one of ``x``."""
    (left, source), output = call.inputs, call.outputs[0]
    shape, weight = scope.variable(source), scope.weights(left, source)
    if weight.ndim != 2 or not shape or weight.shape[1] != shape[max(0, len(shape) - 2)]:
        raise NotModelled("not one matrix that fits")
    if len(shape) == 1:
        yield Made(Dense(weight), (source,), output, (len(weight),))
        return
    turned = np.arange(prod(shape)).reshape(shape).swapaxes(-1, -2)
    before = select(turned, (source,), scope.fresh(f"{output}/before"))
    product = Made(Dense(weight), (before.output,), scope.fresh(f"{output}/product"), (*turned.shape[:-1], len(weight)))
    back = np.arange(prod(product.shape)).reshape(product.shape).swapaxes(-1, -2)
    yield from (before, product, select(back, (product.output,), output))


def fused(scope: Scope, call: Call) -> bool:
    """Make a MatMul and the Add of a row behind it one Dense, where only that Add reads the product."""
    if call.kind != "Add" or call.opset < 7 or len(call.inputs) != 2 or call.flags:
        return False
    if not call.outputs or not call.outputs[0] or any(call.outputs[1:]):
        return False
    for product, name in (tuple(call.inputs), tuple(reversed(call.inputs))):
        if product in scope.products and scope.readers[product] == 1 and scope.fixed(name):
            place = scope.products[product]
            old = scope.nodes[place]
            try:
                shape = scope.variable(product)
                bias = row(scope.weights(name, product), shape[-1], len(shape))
            except NotModelled:
                return False
            if isinstance(old.op, Dense):
                scope.nodes[place] = Node(Dense(old.op.weight, bias), old.inputs, (call.outputs[0],))
                scope.values[call.outputs[0]] = scope.values[product]
                return True
    return False
