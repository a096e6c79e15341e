"""Reading: from a file or bytes to a :class:`OnnxLoaded`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np
from onnx import GraphProto, ModelProto, ValueInfoProto

from reluce.errors import ModelError
from reluce.io._files import read_bytes
from reluce.io._fold import tensor_value
from reluce.io._limits import DERIVED, INPUTS, NOTED
from reluce.io._loaded import OnnxLoaded
from reluce.io._proto import all_names, opset, parse, reads
from reluce.io._ranges import stored_ranges
from reluce.io._reader import Reader, finished
from reluce.io._scope import BATCH, Scope, Value, sample_shape
from reluce.network import validate

Shapes = Mapping[str, tuple[int, ...]]
Dims = tuple[int | None, ...]


def load(path: str | os.PathLike[str], *, input_shapes: Shapes | None = None) -> OnnxLoaded:
    """Read a network from an ``.onnx`` or ``.onnx.gz`` file.

    Parameters
    ----------
    path
        The file; decompressed where its name ends in ``.gz``.
    input_shapes
        For inputs with axes of unknown length: name -> all axes, where 0 or -1 for axis 0 stands for the batch.

    Returns
    -------
    OnnxLoaded
        The network, with all that is needed to write it back.

    Raises
    ------
    ModelError
        When it cannot be read; says what and where.
    """
    return loads(read_bytes(path), name=os.fspath(path), input_shapes=input_shapes)


def loads(data: bytes, *, name: str = "model", input_shapes: Shapes | None = None) -> OnnxLoaded:
    """Read a network from uncompressed ONNX bytes.

    Parameters
    ----------
    data
        The bytes of the file.
    name
        How to call the model in messages.
    input_shapes
        As for :func:`load`.

    Returns
    -------
    OnnxLoaded
        The network, with all that is needed to write it back.

    Raises
    ------
    ModelError
        When it cannot be read; says what and where.
    """
    model = parse(data, name)
    try:
        return _read(model, data, name, input_shapes or {})
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None


def _read(model: ModelProto, data: bytes, name: str, given: Shapes) -> OnnxLoaded:
    graph = model.graph
    readers = _readers(graph)
    constants = _initialisers(graph, readers)
    inputs = [info for info in graph.input if info.name not in constants]
    axes = _input_axes(inputs, given)
    batched = any(dims and dims[0] == BATCH for dims in axes.values())
    imports = {entry.domain: entry.version for entry in model.opset_import} or {"": 1}
    scope = Scope(opset(model), imports, batched, all_names(graph), DERIVED + len(data))
    scope.values.update(constants)
    scope.wanted = frozenset(readers)
    reader = Reader(scope, frozenset((entry.domain, entry.name) for entry in model.functions))
    _demand_moderate(sample_shape(dims, batched) for dims in axes.values())
    for info in inputs:
        if info.name in reader.tensors or not info.name:
            raise ModelError(f"two graph inputs are called {info.name!r}")
        scope.values[info.name] = Value(info.type.tensor_type.elem_type, axes[info.name])
        scope.inputs.append(info.name)
        shape = sample_shape(axes[info.name], batched)
        reader.declare(info.name, shape)
    reader.read(model, readers)
    network = validate(finished(reader, tuple(info.name for info in graph.output)))
    notes = (*_constant_inputs(graph, constants), *_open_axes(inputs, axes))
    shapes = {name: reader.tensors[name].shape for name in network.inputs}
    ranges, complaints = stored_ranges(model, shapes, batched)
    return OnnxLoaded(
        network=network,
        notes=(*notes, *complaints),
        name=name,
        ranges=ranges,
        metadata=tuple((entry.key, entry.value) for entry in model.metadata_props),
        data=data,
        groups=tuple(reader.groups),
    )


def _demand_moderate(shapes: Iterable[tuple[int, ...] | None]) -> None:
    numbers = sum(prod(shape) for shape in shapes if shape is not None)
    if numbers > INPUTS:
        raise ModelError(f"one sample of the graph inputs holds {numbers:,} numbers; the limit is {INPUTS:,}")


def _readers(graph: GraphProto) -> Counter[str]:
    """How often each tensor is read; being a graph output counts."""
    counts = Counter(info.name for info in graph.output)
    for node in graph.node:
        counts.update(filter(None, node.input))
        counts.update(set(reads(node)) - set(node.input))
    return counts


def _initialisers(graph: GraphProto, readers: Mapping[str, int]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for tensor in graph.initializer:
        if tensor.name in found:
            raise ModelError(f"two initialisers are called {tensor.name!r}")
        found[tensor.name] = tensor_value(tensor)
        if tensor.name in readers:
            check_finite(f"initialiser {tensor.name!r}", found[tensor.name])
    for sparse in graph.sparse_initializer:
        if sparse.values.name in found:
            raise ModelError(f"two initialisers are called {sparse.values.name!r}")
        found[sparse.values.name] = Value(sparse.values.data_type, tuple(sparse.dims), None, True)
    return found


def check_finite(name: str, value: Value) -> None:
    """Refuse NaN among weights; an infinite number may stand alone, as the open end of a range."""
    if value.constant is None or value.constant[0].dtype.kind != "f":
        return
    array = value.constant[0]
    bad = np.isnan(array) if array.size == 1 else ~np.isfinite(array)
    if bad.any():
        first = tuple(int(k) for k in np.unravel_index(np.argmax(bad), bad.shape))
        raise ModelError(f"{name} holds {array[first]} at index {list(first)}; weights must be finite")


def _input_axes(inputs: Iterable[ValueInfoProto], given: Shapes) -> dict[str, Dims | None]:
    """All axes of each graph input."""
    axes = {info.name: declared(info) for info in inputs}
    for name, dims in given.items():
        if name not in axes:
            known = ", ".join(map(repr, axes)) or "none"
            raise ModelError(f"there is no graph input {name!r} to give a shape to; the graph inputs are {known}")
        axes[name] = _resolved(name, axes[name], tuple(int(dim) for dim in dims))
    return axes


def declared(info: ValueInfoProto) -> Dims | None:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    if dims and dims[0] is None:
        return (BATCH, *dims[1:])
    return tuple(dims)


def _resolved(name: str, declared: Dims | None, dims: tuple[int, ...]) -> Dims:
    if any(dim <= 0 for dim in dims[1:]) or (dims and dims[0] < -1):
        raise ModelError(f"the shape given for input {name!r} has a length below 1: {list(dims)}")
    if declared is not None and len(declared) != len(dims):
        raise ModelError(f"the shape given for input {name!r} has {len(dims)} axes, the model has {len(declared)}")
    for axis, (have, want) in enumerate(zip(declared or (), dims, strict=False)):
        if have not in (None, BATCH, want):
            raise ModelError(f"the shape given for input {name!r} has {want} on axis {axis}, the model has {have}")
    return (BATCH, *dims[1:]) if dims and dims[0] in (0, BATCH) else dims


def _constant_inputs(graph: GraphProto, constants: Mapping[str, Value]) -> tuple[str, ...]:
    names = [info.name for info in graph.input if info.name in constants]
    if not names:
        return ()
    more = f" and {len(names) - NOTED} more" if len(names) > NOTED else ""
    listed = ", ".join(map(repr, names[:NOTED])) + more
    return (f"{len(names)} graph inputs have stored values and are read as constants: {listed}",)


def _open_axes(inputs: Iterable[ValueInfoProto], axes: Mapping[str, Dims | None]) -> tuple[str, ...]:
    """One note for each input whose shape is not fully known."""
    notes = []
    for info in inputs:
        dims = axes[info.name]
        if dims is None or None in dims:
            found = "no shape" if dims is None else f"the shape {[d or '?' for d in dims]}"
            notes.append(
                f"input {info.name!r} has {found}; pass --input-shape {info.name}:d0,d1,... to model what reads it"
            )
    return tuple(notes)
