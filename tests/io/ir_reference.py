"""A plain float64 evaluation of the IR, written without looking at the package's own."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reluce import network as ir

Array = np.ndarray[Any, Any]

FUNCTIONS: dict[str, Callable[..., Array]] = {
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "LeakyRelu": lambda x, alpha: np.where(x < 0, alpha * x, x),
    "Clip": np.clip,
    "HardSigmoid": lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
    "Elu": lambda x, alpha: np.where(x < 0, alpha * (np.exp(x) - 1), x),
}


def wide(array: Array | None, default: float) -> Any:
    return default if array is None else array.astype(np.float64)


def dense(op: ir.Dense, x: Array) -> Array:
    return op.alpha * (x @ wide(op.weight, 0).T) + op.beta * wide(op.bias, 0.0)


def affine(op: ir.Affine, x: Array) -> Array:
    scaled = x / wide(op.scale, 1.0) if op.divide else x * wide(op.scale, 1.0)
    return scaled + wide(op.shift, 0.0)


def batch_norm(op: ir.BatchNorm, x: Array) -> Array:
    return (x - wide(op.mean, 0)) / np.sqrt(wide(op.variance, 0) + op.epsilon) * wide(op.scale, 0) + wide(op.shift, 0)


def softmax(op: ir.Softmax, x: Array) -> Array:
    powers = np.exp(x - x.max(op.axis, keepdims=True))
    if op.log:
        return x - x.max(op.axis, keepdims=True) - np.log(powers.sum(op.axis, keepdims=True))
    return powers / powers.sum(op.axis, keepdims=True)


def compute(op: ir.Op, values: list[Array]) -> Array:
    """One operation on one sample."""
    match op:
        case ir.Dense():
            return dense(op, values[0])
        case ir.Affine():
            return affine(op, values[0])
        case ir.BatchNorm():
            return batch_norm(op, values[0])
        case ir.Relu():
            return np.maximum(values[0], 0)
        case ir.Activation():
            return FUNCTIONS[op.function](values[0], *op.parameters)
        case ir.Softmax():
            return softmax(op, values[0])
        case ir.Add():
            return values[0] + values[1]
        case ir.Select():
            return np.concatenate([value.ravel() for value in values])[op.indices].reshape(op.shape)
        case ir.Constant():
            return op.value.astype(np.float64)
    raise AssertionError(f"{op} cannot be evaluated")


def evaluate_sample(network: ir.Network, feeds: Mapping[str, Array]) -> list[Array]:
    values = {name: feeds[name].astype(np.float64) for name in network.inputs}
    for node in network.nodes:
        values[node.output] = compute(node.op, [values[name] for name in node.inputs])
        assert values[node.output].shape == network.tensors[node.output].shape, node
    return [values[name] for name in network.outputs]


def evaluate(network: ir.Network, feeds: Mapping[str, Array]) -> list[Array]:
    """All outputs for ONNX inputs: one sample after the other where there is a batch axis."""
    if not network.batched:
        return evaluate_sample(network, feeds)
    size = len(next(iter(feeds.values())))
    rows = [evaluate_sample(network, {name: array[k] for name, array in feeds.items()}) for k in range(size)]
    return [np.stack(column) for column in zip(*rows, strict=True)]
