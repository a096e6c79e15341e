"""How each operation is written where the original nodes no longer will do."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from reluce.io._fold_write import batch_size
from reluce.io._proto import encode
from reluce.io._write_select import write_select
from reluce.io._writer import Writer, flag
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

# The attributes that Activation.parameters stand for.
PARAMETERS = {"LeakyRelu": ("alpha",), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma")}


@singledispatch
def emit(op: Op, writer: Writer, node: Node) -> None:
    """Write the ONNX nodes of one IR node."""
    raise NotImplementedError(f"no ONNX form of {type(op).__name__}")


@emit.register
def _dense(op: Dense, writer: Writer, node: Node) -> None:
    gemm = writer.origin("Gemm")
    source, output = node.inputs[0], node.output
    scaled = op.alpha != 1.0 or (op.bias is not None and op.beta != 1.0)
    plain = gemm is None and not scaled
    if writer.rank(source) != 2 or plain or (op.bias is None and writer.opset < 11 and not scaled):
        _matmul(op, writer, node)
        return
    transposed = flag(gemm, "transB", 1 if gemm is None else 0)
    weight = op.weight if transposed else op.weight.T
    inputs = [source, writer.constant(weight, f"{node.name}.weight", gemm.input[1] if gemm else "")]
    if op.bias is not None:
        original = gemm.input[2] if gemm is not None and len(gemm.input) > 2 else ""
        inputs.append(writer.constant(op.bias, f"{node.name}.bias", original))
    elif writer.opset < 11:  # the bias was mandatory
        inputs.append(writer.constant(np.zeros(1, op.weight.dtype), f"{node.name}.bias"))
    flags = {"alpha": op.alpha} if op.alpha != 1.0 else {}
    flags |= {"beta": op.beta} if op.bias is not None and op.beta != 1.0 else {}
    flags |= {"transB": 1} if transposed else {}
    writer.node("Gemm", inputs, output, gemm.name if gemm is not None else node.name, **flags)


def _matmul(op: Dense, writer: Writer, node: Node) -> None:
    """``MatMul [Mul] [Add]``."""
    matmul, add = writer.origin("MatMul", "Gemm"), writer.origin("Add")
    stored = list(matmul.input[:2]) if matmul is not None else []
    weight = writer.constant(op.weight.T, f"{node.name}.weight", _constant_operand(writer, stored))
    steps: list[tuple[str, str]] = []
    if op.alpha != 1.0:
        steps.append(("Mul", writer.constant(np.array(op.alpha, op.weight.dtype), f"{node.name}.alpha")))
    if op.bias is not None:
        names = list(add.input) if add is not None else []
        bias = writer.constant(op.bias, f"{node.name}.bias", _constant_operand(writer, names))
        if op.beta != 1.0:
            beta = writer.constant(np.array(op.beta, op.bias.dtype), f"{node.name}.beta")
            bias = writer.step("Mul", [bias, beta], f"{node.output}/bias")
        steps.append(("Add", bias))
    name = matmul.name if matmul is not None else node.name
    value = node.output
    if steps:
        fused = matmul is not None and add is not None
        value = matmul.output[0] if matmul is not None and fused else writer.fresh(f"{node.output}/product")
    writer.node("MatMul", [node.inputs[0], weight], value, name)
    for position, (kind, constant) in enumerate(steps):
        last = position == len(steps) - 1
        own = add.name if add is not None and last else ""
        value = writer.node(
            kind, [value, constant], node.output if last else writer.fresh(f"{node.output}/scaled"), own
        )


def _constant_operand(writer: Writer, names: list[str]) -> str:
    """The one of two operands that the original file stores or computes as a constant."""
    return next((name for name in names if writer.is_constant(name)), "")


@emit.register
def _affine(op: Affine, writer: Writer, node: Node) -> None:
    parts = [("Div" if op.divide else "Mul", op.scale, "scale"), ("Add", op.shift, "shift")]
    steps = [(kind, minimal(array), what) for kind, array, what in parts if array is not None]
    negative = op.scale is not None and not op.divide and bool((op.scale == -1).all())
    if op.shift is not None and negative and not _fixed(writer, node.inputs[0]):
        steps = [("Sub", minimal(op.shift), "shift")]  # c - x
    elif op.shift is not None and op.scale is None and _unbiased(writer, node.inputs[0]):
        steps = [("Sub", -minimal(op.shift), "shift")]  # an Add would be read as the bias of the product
    original = writer.origin("Add", "Sub", "Mul", "Div", "Neg")
    value, name = node.inputs[0], original.name if original is not None else node.name
    stored = _constant_operand(writer, list(original.input)) if original is not None and len(steps) == 1 else ""
    if not steps:
        writer.node("Identity", [value], node.output, name)
    for position, (kind, array, what) in enumerate(steps):
        last = position == len(steps) - 1
        constant = writer.constant(array, f"{node.name}.{what}", stored)
        operands = [constant, value] if kind == "Sub" and op.scale is not None else [value, constant]
        value = writer.node(
            kind,
            operands,
            node.output if last else writer.fresh(f"{node.output}/scaled"),
            name if last else "",
        )


def _fixed(writer: Writer, source: str) -> bool:
    """Whether a tensor is a constant, or computed from constants without rounding: ``c - x`` would be one as well."""
    producer = writer.network.producer.get(source)
    if producer is not None and isinstance(producer.op, Select | Relu | Affine):
        return all(_fixed(writer, name) for name in producer.inputs)
    return producer is not None and isinstance(producer.op, Constant)


def _unbiased(writer: Writer, source: str) -> bool:
    """Whether a tensor is written as a MatMul and nothing else."""
    producer = writer.network.producer.get(source)
    return producer is not None and isinstance(producer.op, Dense) and producer.op.bias is None


def minimal(array: Array) -> Array:
    """The smallest array that broadcasts to the given one."""
    for axis in range(array.ndim):
        first = array.take([0], axis) if array.shape[axis] else array
        array = first if array.shape[axis] > 1 and _same_bits(array, first) else array
    while array.ndim and array.shape[0] == 1:
        array = array[0]
    return array


def _same_bits(array: Array, first: Array) -> bool:
    whole = np.broadcast_to(first, array.shape)
    return np.array_equal(array, whole) and np.array_equal(np.signbit(array), np.signbit(whole))


@emit.register
def _batch_norm(op: BatchNorm, writer: Writer, node: Node) -> None:
    original = writer.origin("BatchNormalization")
    source, output, shape = node.inputs[0], node.output, writer.network.shape(node.inputs[0])
    names = list(original.input[1:5]) if original is not None else [""] * 4
    axis = 0 if writer.network.batched else 1
    arrays = [np.broadcast_to(array, shape) for array in (op.scale, op.shift, op.mean, op.variance)]
    columns = [channels(array, axis) for array in arrays]
    uniform = all(column is not None for column in columns)
    if not uniform:  # each number is its own channel
        columns = [array.reshape(-1) for array in arrays]
        flat = writer.integers([0 if writer.network.batched else 1, -1], f"{output}/flat")
        source = writer.step("Reshape", [source, flat], f"{output}/rows")
    inputs = [source]
    for column, what, name in zip(columns, ("scale", "shift", "mean", "variance"), names, strict=True):
        assert column is not None
        inputs.append(writer.constant(column, f"{node.name}.{what}", name if writer.is_constant(name) else ""))
    kept = original.name if original is not None else node.name
    target = output if uniform else writer.fresh(f"{output}/normal")
    writer.node("BatchNormalization", inputs, target, kept, epsilon=op.epsilon)
    if not uniform:
        whole = writer.integers([*([0] if writer.network.batched else []), *shape], f"{output}/whole")
        writer.node("Reshape", [target, whole], output)


def channels(array: Array, axis: int) -> Array | None:
    """The values along ``axis``, where the array is the same along all other axes."""
    if array.ndim <= axis or not array.size:
        return None
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return rows[:, 0] if _same_bits(rows, rows[:, :1]) else None


@emit.register
def _relu(op: Relu, writer: Writer, node: Node) -> None:
    original = writer.origin("Relu")
    writer.node("Relu", list(node.inputs), node.output, original.name if original is not None else node.name)


@emit.register
def _activation(op: Activation, writer: Writer, node: Node) -> None:
    original, inputs = writer.origin(op.function), list(node.inputs)
    name = original.name if original is not None else node.name
    if op.function != "Clip":
        flags = dict(zip(PARAMETERS.get(op.function, ()), op.parameters, strict=True))
        writer.node(op.function, inputs, node.output, name, **flags)
        return
    open_ends = {"min": -np.inf, "max": np.inf}
    ends = {what: end for what, end in zip(open_ends, op.parameters, strict=True) if end != open_ends[what]}
    if writer.opset < 11:
        writer.node("Clip", inputs, node.output, name, **ends)
        return
    dtype = writer.network.tensors[node.inputs[0]].dtype
    bounds = [
        writer.constant(np.array(ends[w], dtype), f"{node.name}.{w}") if w in ends else "" for w in ("min", "max")
    ]
    while bounds and not bounds[-1]:
        bounds.pop()
    writer.node("Clip", inputs + bounds, node.output, name)


@emit.register
def _softmax(op: Softmax, writer: Writer, node: Node) -> None:
    kind = "LogSoftmax" if op.log else "Softmax"
    original, rank = writer.origin(kind), len(writer.network.shape(node.inputs[0]))
    axis = op.axis % rank + writer.network.batched
    writer.node(kind, list(node.inputs), node.output, original.name if original is not None else node.name, axis=axis)


@emit.register
def _add(op: Add, writer: Writer, node: Node) -> None:
    original = writer.origin("Add", "Sub", "Sum")
    writer.node("Add", list(node.inputs), node.output, original.name if original is not None else node.name)


@emit.register
def _select(op: Select, writer: Writer, node: Node) -> None:
    write_select(op, writer, node)


@emit.register
def _constant(op: Constant, writer: Writer, node: Node) -> None:
    output = node.output
    if not node.inputs:
        writer.node("Constant", [], output, node.name, value=encode(op.value, ""))
        return
    batch = batch_size(writer, node.inputs[0], output)
    value = writer.constant(op.value[None], f"{output}/value")
    # Expand came with operator set 8; before, Tile does the same.
    rest = op.value.shape if writer.opset >= 8 else (1,) * op.value.ndim
    shape = writer.step("Concat", [batch, writer.integers(rest, f"{output}/sample")], f"{output}/shape", axis=0)
    writer.node("Expand" if writer.opset >= 8 else "Tile", [value, shape], output, node.name)


@emit.register
def _opaque(op: Opaque, writer: Writer, node: Node) -> None:
    raise ValueError(f"node {node.name!r} ({op.kind}) is not modelled: it cannot change, nor can what it reads")
