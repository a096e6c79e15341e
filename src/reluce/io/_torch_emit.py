"""Each operation of the network as a module or function of torch."""

from __future__ import annotations

import operator
from functools import singledispatch
from math import inf
from typing import Any

import numpy as np
import torch
from torch import nn

from reluce.errors import ModelError
from reluce.io._movement import Joined, Picked, Reshaped, Same, Transposed, movement
from reluce.io._torch_write import ModuleBuilder
from reluce.io._write_ops import channels, minimal
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Node,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
)


@singledispatch
def emit(op: Op, builder: ModuleBuilder, node: Node) -> Any:
    """Write one node; returns the graph node that gives its output."""
    raise NotImplementedError(f"no torch module for {type(op).__name__}")


@emit.register
def _dense(op: Dense, builder: ModuleBuilder, node: Node) -> Any:
    path, _ = builder.leaf(node)
    plain = op.alpha == 1.0 and op.beta == 1.0
    layer = nn.Linear(op.weight.shape[1], len(op.weight), op.bias is not None and plain, dtype=_dtype(op.weight))
    for (name, _), array in zip(list(layer.named_parameters()), (op.weight, op.bias), strict=False):
        assert array is not None
        setattr(layer, name, builder.parameter(node, array))
    value = builder.call(path, layer, builder.source(node))
    if plain:
        return value
    value = builder.function(operator.mul, value, op.alpha)
    if op.bias is None:
        return value
    bias = builder.tensor(f"{path}_bias", op.bias, builder.trained(node))
    return builder.function(operator.add, value, builder.function(operator.mul, bias, op.beta))


@emit.register
def _affine(op: Affine, builder: ModuleBuilder, node: Node) -> Any:
    path, _ = builder.leaf(node)
    value, trained = builder.value(node.inputs[0]), (builder.origin is not None and builder.trained(node)) or None
    if op.scale is not None:
        scale = builder.tensor(f"{path}_scale", _stored(builder, op.scale), trained)
        value = builder.function(operator.truediv if op.divide else operator.mul, value, scale)
    if op.shift is not None:
        value = builder.function(
            operator.add, value, builder.tensor(f"{path}_shift", _stored(builder, op.shift), trained)
        )
    return value


def _stored(builder: ModuleBuilder, array: Array) -> Array:
    """A broadcast constant in the shape in which it is stored; what a rewrite has changed in the smallest one."""
    if builder.origin is not None:
        return minimal(array)
    for axis, step in enumerate(array.strides):
        array = array.take([0], axis) if step == 0 else array
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return array


BATCH_NORMS: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm1d,
    3: nn.BatchNorm2d,
    4: nn.BatchNorm3d,
}


@emit.register
def _batch_norm(op: BatchNorm, builder: ModuleBuilder, node: Node) -> Any:
    path, old = builder.leaf(node)
    value, shape = builder.source(node), builder.shape(node.inputs[0])
    arrays = [np.broadcast_to(array, shape) for array in (op.scale, op.shift, op.mean, op.variance)]
    columns = [channels(array, 0 if builder.batch else 1) for array in arrays]
    rank = len(shape) + builder.batch - 1
    if rank not in BATCH_NORMS or any(column is None for column in columns):
        return _normalised(op, builder, path, value)
    scale, shift, mean, variance = (_tensor(column) for column in columns)
    layer = BATCH_NORMS[rank](len(mean), op.epsilon, dtype=mean.dtype)
    if isinstance(old, nn.modules.batchnorm._BatchNorm):
        affine = old.affine or bool((scale != 1).any() or (shift != 0).any())
        layer = BATCH_NORMS[rank](len(mean), old.eps, old.momentum, affine, dtype=mean.dtype)
        layer.num_batches_tracked = old.num_batches_tracked
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
    if layer.affine:
        layer.weight.data, layer.bias.data = scale, shift
        layer.requires_grad_(builder.trained(node))
    return builder.call(path, layer, value)


def _normalised(op: BatchNorm, builder: ModuleBuilder, path: str, value: Any) -> Any:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` for each element by itself."""
    mean, variance, scale, shift = (
        builder.tensor(f"{path}_{what}", minimal(array))
        for what, array in (("mean", op.mean), ("variance", op.variance), ("scale", op.scale), ("shift", op.shift))
    )
    deviation = builder.function(torch.sqrt, builder.function(operator.add, variance, op.epsilon))
    value = builder.function(operator.truediv, builder.function(operator.sub, value, mean), deviation)
    return builder.function(operator.add, builder.function(operator.mul, value, scale), shift)


@emit.register
def _relu(op: Relu, builder: ModuleBuilder, node: Node) -> Any:
    path, old = builder.leaf(node)
    return builder.call(path, old or nn.ReLU(), builder.source(node))


@emit.register
def _activation(op: Activation, builder: ModuleBuilder, node: Node) -> Any:
    path, old = builder.leaf(node)
    return builder.call(path, old or _activation_module(op), builder.source(node))


def _activation_module(op: Activation) -> nn.Module:
    match op.function, op.parameters:
        case "Sigmoid", ():
            return nn.Sigmoid()
        case "Tanh", ():
            return nn.Tanh()
        case "LeakyRelu", (alpha,):
            return nn.LeakyReLU(alpha)
        case "Clip", (low, high) if -inf < low and high < inf:
            return nn.Hardtanh(low, high)
        case "Elu", (alpha,):
            return nn.ELU(alpha)
    raise ModelError(f"{op.function} with parameters {op.parameters} has no exact counterpart in torch.nn")


@emit.register
def _softmax(op: Softmax, builder: ModuleBuilder, node: Node) -> Any:
    path, old = builder.leaf(node)
    axis = op.axis if op.axis < 0 else op.axis + builder.batch
    return builder.call(path, old or (nn.LogSoftmax if op.log else nn.Softmax)(axis), builder.source(node))


@emit.register
def _add(op: Add, builder: ModuleBuilder, node: Node) -> Any:
    return builder.function(operator.add, *(builder.value(name) for name in node.inputs))


@emit.register
def _select(op: Select, builder: ModuleBuilder, node: Node) -> Any:
    sources = [builder.value(name) for name in node.inputs]
    value = _moved(op, builder, node, sources)
    have, want = (builder.network.tensors[name].dtype for name in (node.inputs[0], node.output))
    return value if have == want else builder.graph.call_method("to", (value, _DTYPES[np.dtype(want)]))


def _moved(op: Select, builder: ModuleBuilder, node: Node, sources: list[Any]) -> Any:
    path, _ = builder.leaf(node)
    match movement(op, [builder.shape(name) for name in node.inputs]):
        case Same():
            return sources[0]
        case Reshaped():
            return _reshaped(builder, sources[0], op.shape)
        case Joined(axis):
            return builder.function(torch.cat, sources, dim=axis + builder.batch)
        case Picked(axis, indices):
            return _picked(builder, path, sources[0], axis, indices)
        case Transposed(order):
            whole = (*range(builder.batch), *(axis + builder.batch for axis in order))
            return builder.function(torch.permute, sources[0], whole)
    flat = [_reshaped(builder, source, (-1,)) for source in sources]
    joined = flat[0] if len(flat) == 1 else builder.function(torch.cat, flat, dim=builder.batch)
    picked = _picked(builder, path, joined, 0, op.indices)
    return picked if len(op.shape) == 1 else _reshaped(builder, picked, op.shape)


def _picked(builder: ModuleBuilder, path: str, source: Any, axis: int, indices: Array) -> Any:
    index = builder.tensor(f"{path}_indices", np.asarray(indices, np.int64))
    return builder.function(torch.index_select, source, axis + builder.batch, index)


def _reshaped(builder: ModuleBuilder, source: Any, shape: tuple[int, ...]) -> Any:
    if builder.batch and len(shape) == 1:
        return builder.function(torch.flatten, source, 1)
    if not builder.batch:
        return builder.function(torch.reshape, source, shape)
    size = builder.graph.call_method("size", (source, 0))
    return builder.function(torch.reshape, source, (size, *shape))


@emit.register
def _constant(op: Constant, builder: ModuleBuilder, node: Node) -> Any:
    # A parameter also where it is frozen: GraphModule unpickles by tracing, which does not follow a buffer's methods.
    value = builder.tensor(f"{builder.leaf(node)[0]}_value", op.value, builder.trained(node))
    if not node.inputs:
        return value
    size = builder.graph.call_method("size", (builder.value(node.inputs[0]), 0))
    return builder.graph.call_method("expand", (value, size, *op.value.shape))


@emit.register
def _opaque(op: Opaque, builder: ModuleBuilder, node: Node) -> Any:
    raise ModelError(f"{op.kind} {node.name!r} is not modelled, so it cannot be made a torch module")


_DTYPES = {
    np.dtype(np.float16): torch.float16,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}


def _dtype(array: Array) -> torch.dtype:
    return _DTYPES[array.dtype]


def _tensor(array: Array | None) -> torch.Tensor:
    assert array is not None
    return torch.from_numpy(np.ascontiguousarray(array).copy())
