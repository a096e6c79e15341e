"""A network in words that ONNX has: what no single node of it states exactly becomes several that do.

ONNX keeps attributes in float32, and Gemm takes matrices only. Where ``alpha`` or ``beta`` of a Dense do not fit,

    y = alpha * x W' + beta * b     becomes     product = x W',  scaled = alpha * product,  y = scaled + beta * b

with alpha and beta as tensors in the network's own format. Nothing is ever rounded: what still does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from reluce.errors import ModelError
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Node,
    Op,
    Tensor,
    readonly,
)

FLOAT32 = np.dtype(np.float32)


def spelled(network: Network) -> Network:
    """The same function of the same inputs, under the same names; helper tensors are called after what they lead to.

    Raises
    ------
    ModelError
        Naming the node that has a number which ONNX cannot keep.
    """
    work = _Spelling(network)
    nodes = tuple(part for node in network.nodes for part in work.parts(node))
    return replace(network, nodes=nodes, tensors=work.tensors)


class _Spelling:
    """Grows the tensors of the new network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.tensors = dict(network.tensors)

    def parts(self, node: Node) -> Iterator[Node]:
        match node.op:
            case Dense() as op if not self._gemm(op, node):
                yield from self._dense(op, node)
                return
            case Constant() if self.network.batched and not node.inputs:
                node = replace(node, inputs=self.network.inputs[:1])  # it tells the size of the batch
            case BatchNorm(epsilon=epsilon):
                _demand(node, "epsilon", epsilon, FLOAT32)
            case Activation(function=function, parameters=parameters):
                ends = function == "Clip"
                for number in parameters:
                    _demand(node, "a parameter", number, self._dtype(node) if ends else FLOAT32)
        yield node

    def _gemm(self, op: Dense, node: Node) -> bool:
        """Whether one node, or a product and a sum, states it."""
        if op.alpha == 1.0 and (op.bias is None or op.beta == 1.0):
            return True
        rank = len(self.network.shape(node.inputs[0])) + self.network.batched
        return rank == 2 and fits(op.alpha, FLOAT32) and fits(op.beta, FLOAT32)

    def _dense(self, op: Dense, node: Node) -> Iterator[Node]:
        shape, dtype, output = self.network.shape(node.output), self._dtype(node), node.output
        steps: list[tuple[str, Op]] = [("product", Dense(op.weight))]
        if op.alpha != 1.0:
            steps.append(("scaled", Affine(self._filled(node, "alpha", op.alpha))))
        if op.bias is not None and op.beta == 1.0:
            steps.append(("", Affine(None, readonly(np.broadcast_to(op.bias, shape)))))
        apart = op.bias is not None and op.beta != 1.0
        source = node.inputs[0]
        for place, (what, step) in enumerate(steps):
            last = place == len(steps) - 1 and not apart
            target = output if last else self._fresh(f"{output}/{what}", shape, dtype)
            yield Node(node.name if place == 0 else target, step, (source,), (target,))
            source = target
        if op.bias is not None and apart:
            bias, weighted = (self._fresh(f"{output}/{what}", shape, dtype) for what in ("bias", "weighted"))
            value = Constant(readonly(np.broadcast_to(op.bias, shape)))
            yield Node(bias, value, self.network.inputs[:1] if self.network.batched else (), (bias,))
            yield Node(weighted, Affine(self._filled(node, "beta", op.beta)), (bias,), (weighted,))
            yield Node(output, Add(), (source, weighted), (output,))

    def _filled(self, node: Node, what: str, number: float) -> Array:
        dtype = self._dtype(node)
        _demand(node, what, number, dtype)
        return readonly(np.full(self.network.shape(node.output), number, dtype))

    def _dtype(self, node: Node) -> np.dtype[np.generic]:
        return self.network.tensors[node.output].dtype

    def _fresh(self, base: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> str:
        name, count = base, 0
        while name in self.tensors:
            count += 1
            name = f"{base}_{count}"
        self.tensors[name] = Tensor(name, shape, dtype)
        return name


def fits(number: float, dtype: np.dtype[np.generic]) -> bool:
    """Whether a format holds a number exactly (infinity included)."""
    with np.errstate(over="ignore"):
        return float(np.asarray(number, dtype=dtype)) == number


def _demand(node: Node, what: str, number: float, dtype: np.dtype[np.generic]) -> None:
    if not fits(number, dtype):
        raise ModelError(
            f"the network cannot be written as ONNX: {what} of node {node.name!r} is {number!r}, which is no "
            f"{dtype.name} number, and ONNX keeps it as one"
        )
