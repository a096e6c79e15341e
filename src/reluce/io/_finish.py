"""The new model from its nodes: order, initialisers, declarations, metadata."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Set

from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from reluce.io._proto import reads
from reluce.io._writer import Writer

FIRST_FREE_INITIALISERS = 4  # before this IR version every initialiser had to be listed as a graph input


def finish(writer: Writer, metadata: Mapping[str, str]) -> ModelProto:
    """Return the original model with the nodes of ``writer`` in place of its own."""
    model = writer.model
    nodes = _ordered(writer.written)
    wanted = {name for node in nodes for name in reads(node)} | {info.name for info in model.graph.output}
    outputs = {name for node in nodes for name in node.output}
    info = [entry for entry in model.graph.value_info if _still_true(writer, entry, outputs)]
    _initialisers(writer, wanted)
    _inputs(writer, wanted)
    copies = [_copy(node) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(copies)
    model.graph.value_info.extend(info)
    _annotations(model, wanted | outputs)
    for key, value in metadata.items():
        entry = next((entry for entry in model.metadata_props if entry.key == key), None)
        if entry is None:
            model.metadata_props.add(key=key, value=value)
        else:
            entry.value = value
    return model


def _copy(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _ordered(written: Iterable[tuple[int, NodeProto]]) -> list[NodeProto]:
    """The nodes in topological order, as near to the order of the original file as that allows."""
    entries = sorted(enumerate(written), key=lambda entry: (entry[1][0], entry[0]))
    nodes = [node for _, (_, node) in entries]
    writer = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    waits = [{writer[name] for name in reads(node) if name in writer} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for place, others in enumerate(waits):
        for other in others:
            readers[other].append(place)
    ready = [place for place, others in enumerate(waits) if not others]
    order = []
    while ready:
        place = heapq.heappop(ready)
        order.append(nodes[place])
        for reader in readers[place]:
            waits[reader].discard(place)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(order) != len(nodes):
        raise ValueError("the rewritten network has a cycle")
    return order


def _initialisers(writer: Writer, wanted: set[str]) -> None:
    """Replace what was claimed, drop what nothing reads, append what is new."""
    graph, rest = writer.model.graph, dict(writer.claimed)
    tensors = [rest.pop(tensor.name, tensor) for tensor in graph.initializer if tensor.name in wanted]
    tensors.extend(tensor for tensor in rest.values() if tensor.name in wanted)
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name in wanted]
    del graph.initializer[:], graph.sparse_initializer[:]
    graph.initializer.extend(tensors)
    graph.sparse_initializer.extend(sparse)


def _inputs(writer: Writer, wanted: set[str]) -> None:
    """Drop listed initialisers that are gone, correct the others' dimensions, list new ones where that is the rule."""
    graph, real = writer.model.graph, set(writer.network.inputs)
    listed = {info.name for info in graph.input}
    infos: list[ValueInfoProto] = []
    for info in graph.input:
        claimed = writer.claimed.get(info.name)
        if info.name in real or (info.name in wanted and claimed is None):
            infos.append(info)
        elif info.name in wanted and claimed is not None:
            infos.append(helper.make_tensor_value_info(info.name, claimed.data_type, list(claimed.dims)))
    if writer.model.ir_version < FIRST_FREE_INITIALISERS:
        infos.extend(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            for tensor in graph.initializer
            if tensor.name not in listed
        )
    copies = [_copy_info(info) for info in infos]
    del graph.input[:]
    graph.input.extend(copies)


def _copy_info(info: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(info)
    return copy


def _still_true(writer: Writer, info: ValueInfoProto, outputs: Set[str]) -> bool:
    """Whether a declared shape still holds: its tensor is there, and as large as it was."""
    old, new = writer.loaded.network.tensors, writer.network.tensors
    if info.name not in outputs:
        return False
    if info.name in old:
        return info.name in new and new[info.name].shape == old[info.name].shape
    return info.name in writer.kept


def _annotations(model: ModelProto, present: set[str]) -> None:
    kept = [entry for entry in model.graph.quantization_annotation if entry.tensor_name in present]
    del model.graph.quantization_annotation[:]
    model.graph.quantization_annotation.extend(kept)
