"""Data movement: found out by moving indices instead of data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod

import numpy as np
from onnx import NodeProto

from reluce.io._infer import evaluated
from reluce.io._proto import FLOATS, attributes
from reluce.io._scope import TRIALS, Made, NotModelled, Scope, operand
from reluce.network import Array, Constant, Select, readonly

# All inputs of Concat carry data; of the others only the first does, the rest say where it goes and must be constants.
MOVES = frozenset(
    [
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Slice",
        "Gather",
        "GatherND",
        "GatherElements",
        "Split",
        "Expand",
        "Tile",
        "DepthToSpace",
        "SpaceToDepth",
        "Concat",
    ]
)
UNLIMITED = 2**31 - 1  # what exporters write for the end of an axis
WIDTHS = {elem: np.dtype(kind).itemsize for elem, kind in FLOATS.items()}


def move(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Any node of ``MOVES``: one Select for each output.

    The node runs on the indices of its inputs' elements, in a batched network at several batch sizes; it is data
    movement within the sample only if each row of the result is the first one moved on by a sample, at every size.
    """
    names = tuple(dict.fromkeys(name for name in (node.input if node.op_type == "Concat" else node.input[:1]) if name))
    variables = [name for name in names if not scope.is_fixed(name)]
    if not variables:
        raise NotModelled("picks from a constant")
    shapes = {name: scope.variable(name) for name in variables}
    made = []
    sources = dict.fromkeys(names, "")
    for name in names:
        sources[name] = name
        if name not in shapes:
            made.append(_constant(scope, name, variables[0], scope.fresh(f"{node.output[0]}/constant")))
            shapes[name], sources[name] = made[-1].shape, made[-1].output
    if len({scope.values[name].elem for name in names}) > 1:
        raise NotModelled("inputs of different formats")
    if scope.batched and node.op_type == "Slice":
        check_slice(scope, node, len(scope.dims(shapes[node.input[0]])))
    moved = _moved(scope, node, {name: shapes[name] for name in names})
    for output, indices in moved.items():
        op = Select(readonly(indices.ravel()), indices.shape)
        made.append(Made(op, tuple(sources.values()), output, indices.shape, scope.values[variables[0]].elem))
    return tuple(made)


def _moved(scope: Scope, node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """For each output the index array of one sample."""
    names = [name for name in node.output if name]

    def run(indices: Mapping[str, Array], trial: int) -> Iterable[tuple[str, Array]]:
        constants = {name: scope.at(name, trial) for name in node.input if name and name not in shapes}
        return zip(names, evaluated(scope, node, {**constants, **indices}), strict=True)

    return traced(scope, shapes, run)


def traced(
    scope: Scope,
    shapes: Mapping[str, tuple[int, ...]],
    run: Callable[[Mapping[str, Array], int], Iterable[tuple[str, Array]]],
) -> dict[str, Array]:
    """Follow a movement of data, in a batched network at several batch sizes.

    Parameters
    ----------
    scope
        Tells whether there is a batch.
    shapes
        The sample shapes of the tensors that are moved, by name.
    run
        Does the movement: from the numbers of their elements and the number of the trial (an index into ``TRIALS``) to
        the outputs by name.

    Returns
    -------
    dict
        For each output the numbers of the elements that one sample of it holds.
    """
    stride = sum(map(prod, shapes.values()))
    scope.charge(stride)
    found: dict[str, Array] = {}
    for trial, size in enumerate(TRIALS) if scope.batched else ((0, 1),):
        for name, result in run(_indices(shapes, stride, size if scope.batched else None), trial):
            sample = _one_sample(result, size, stride) if scope.batched else result
            if name not in found:
                scope.charge(sample.size)
            if not np.array_equal(found.setdefault(name, sample), sample):
                raise NotModelled("depends on the size of the batch")
    return found


def check_slice(scope: Scope, node: NodeProto, rank: int) -> None:
    """Refuse to cut axis 0: an end beyond the trial sizes cuts only larger batches."""
    flags = attributes(node)
    parts = []
    for position, what in enumerate(("starts", "ends", "axes", "steps"), 1):
        name = operand(node, position)
        parts.append([int(k) for k in scope.at(name, 0).ravel()] if name else flags.get(what))
    starts, ends, axes, steps = parts
    if starts is None or ends is None:
        raise NotModelled("an input is missing")
    bounds = zip(starts, ends, axes or range(len(starts)), steps or [1] * len(starts), strict=True)
    for start, end, axis, step in bounds:
        if axis % max(1, rank) == 0 and ((start, step) != (0, 1) or end < UNLIMITED):
            raise NotModelled("cuts the batch axis")


def _indices(shapes: Mapping[str, tuple[int, ...]], stride: int, batch: int | None) -> dict[str, Array]:
    """For each input the array of its elements' numbers; sample ``k`` starts at ``k * stride``."""
    arrays, start = {}, 0
    for name, shape in shapes.items():
        own = np.arange(start, start + prod(shape), dtype=np.int64).reshape(shape)
        if batch is not None:
            own = own + stride * np.arange(batch, dtype=np.int64).reshape([-1] + [1] * len(shape))
        arrays[name] = own
        start += prod(shape)
    return arrays


def _one_sample(result: Array, batch: int, stride: int) -> Array:
    """The first row, where every row is the first moved on by a sample."""
    if not result.ndim or len(result) != batch:
        raise NotModelled("mixes the batch axis")
    first: Array = result[0]
    rows = stride * np.arange(batch, dtype=np.int64).reshape([-1] + [1] * first.ndim)
    if first.size and (first.max() >= stride or not np.array_equal(result, first + rows)):
        raise NotModelled("mixes the batch axis")
    return first


def _constant(scope: Scope, name: str, like: str, output: str) -> Made:
    """A constant among the tensors that Concat joins."""
    array = scope.weights(name, like)
    if not scope.batched:
        return Made(Constant(readonly(array)), (), output, array.shape, scope.values[like].elem)
    if len(scope.values[name].constant or ()) == 1:
        raise NotModelled("a constant without the batch axis")
    return Made(Constant(readonly(array[0])), (scope.batch_source(),), output, array.shape[1:], scope.values[like].elem)


def identity(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Identity, and Dropout where it does nothing."""
    if node.op_type == "Dropout":
        _check_inference(scope, node)
    scope.variable(operand(node, 0))
    return (_whole(scope, node, scope.values[node.input[0]].elem),)


def _check_inference(scope: Scope, node: NodeProto) -> None:
    if scope.opset < 7 and not attributes(node).get("is_test", 0):
        raise NotModelled("not in inference form")
    if operand(node, 2):
        training = scope.constant(operand(node, 2))
        if training is None or training.any():
            raise NotModelled("not in inference form")
    if len(node.output) > 1 and node.output[1] in scope.wanted:
        raise NotModelled("its mask is read")


def cast(scope: Scope, node: NodeProto) -> tuple[Made, ...]:
    """Cast to the same or a wider float format, which changes no number."""
    target = int(attributes(node).get("to", 0))
    scope.variable(operand(node, 0))
    have = scope.values[node.input[0]].elem
    if target not in FLOATS or WIDTHS[target] < WIDTHS[have]:
        raise NotModelled("changes numbers")
    return (_whole(scope, node, target),)


def _whole(scope: Scope, node: NodeProto, elem: int) -> Made:
    shape = scope.variable(operand(node, 0))
    scope.charge(prod(shape))
    op = Select(readonly(np.arange(prod(shape), dtype=np.int64)), shape)
    return Made(op, (node.input[0],), node.output[0], shape, elem)
