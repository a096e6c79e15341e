"""Data movement in ATen: found out by moving indices instead of data, as in ONNX."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from reluce.io._proto import FLOATS
from reluce.io._read_select import traced
from reluce.io._scope import TRIALS, Made, NotModelled, Scope
from reluce.io._torch_call import ELEMENTS, Call
from reluce.io._torch_program import operation
from reluce.network import Array, Constant, Select, readonly


def move(call: Call) -> tuple[Made, ...]:
    """Data movement: the operation runs on the indices of its inputs' elements (see the ONNX rule of the same kind)."""
    scope = call.scope
    if operation(call.node) == "aten.roll" and scope.batched and _rolls_batch(call):
        raise NotModelled("mixes the batch axis")
    tensors = [node for node in call.node.all_input_nodes if node in call.names]
    nodes = [node for node in tensors if not scope.is_fixed(call.names[node])]
    sources = [call.names[node] for node in nodes]
    if not sources:
        return repeated(call)
    shapes = {name: scope.variable(name) for name in sources}
    if len({scope.values[name].elem for name in sources}) > 1:
        raise NotModelled("inputs of different formats")
    where = {node: _integers(scope, call.names[node]) for node in tensors if node not in nodes}  # to pick from

    def run(indices: Mapping[str, Array], trial: int) -> Iterable[tuple[str, Array]]:
        feed = where | {node: torch.from_numpy(indices[call.names[node]]) for node in nodes}
        results = zip(call.outputs, _run(call.node, feed, TRIALS[trial] if scope.batched else 1), strict=True)
        return ((name, result) for name, result in results if name)

    found, elem = traced(scope, shapes, run), scope.values[sources[0]].elem
    ops = {name: Select(readonly(indices.ravel()), indices.shape) for name, indices in found.items()}
    return tuple(Made(op, tuple(shapes), name, op.shape, elem) for name, op in ops.items())


def repeated(call: Call) -> tuple[Made, ...]:
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
