"""How large an ONNX model is."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto

from reluce.io._loaded import OnnxLoaded, Sizes
from reluce.io._proto import FLOATS, decode, parse, reads, subgraphs
from reluce.network import Dense, Network


def measure_onnx(loaded: OnnxLoaded) -> Sizes:
    """Count parameters, non-zeros and multiply-adds.

    Parameters
    ----------
    loaded
        The model, as read.

    Returns
    -------
    Sizes
        Parameters and non-zeros of all float tensors that a node reads, the multiply-adds of Gemm, MatMul and
        convolutions for one sample (the whole batch where its length is fixed) where shapes are known, and the bytes.
    """
    model = parse(loaded.data, loaded.name)
    arrays = [array for tensor in _used(model.graph) if (array := decode(tensor)) is not None]
    parameters = sum(array.size for array in arrays)
    nonzeros = sum(int(np.count_nonzero(array)) for array in arrays)
    dense = dense_macs(loaded.network)
    known = _dimensions(model.graph)
    other = sum(_macs(node, loaded.network, known) for node in model.graph.node)
    return Sizes(parameters, nonzeros, dense + other, len(loaded.data))


def _used(graph: GraphProto) -> Iterator[TensorProto]:
    """Stored float tensors that something in the graph or its subgraphs reads."""
    wanted = {name for node in graph.node for name in reads(node)} | {info.name for info in graph.output}
    yield from (t for t in graph.initializer if t.name in wanted and t.data_type in FLOATS)
    for node in graph.node:
        if node.op_type == "Constant" and wanted.intersection(node.output):
            yield from (entry.t for entry in node.attribute if entry.name == "value" and entry.t.data_type in FLOATS)
        for inner in subgraphs(node):
            yield from _used(inner)


def dense_macs(network: Network) -> int:
    """Multiply-adds of all dense layers for one sample."""
    dense = [(node, node.op) for node in network.nodes if isinstance(node.op, Dense)]
    return sum(network.tensors[node.output].size * op.weight.shape[1] for node, op in dense)


def _dimensions(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], tuple(entry.t.dims)) for entry in node.attribute if entry.name == "value")
    return found


def _macs(node: NodeProto, network: Network, known: dict[str, tuple[int, ...]]) -> int:
    """Multiply-adds of one node that is no Dense."""
    tensors = network.tensors
    if len(node.input) < 2 or not node.output or node.output[0] not in tensors:
        return 0
    output, source = tensors[node.output[0]], tensors.get(node.input[0])
    weight = known.get(node.input[1], ())
    if node.op_type == "Conv" and len(weight) > 2:
        return output.size * prod(weight[1:])
    if node.op_type == "ConvTranspose" and len(weight) > 2 and source is not None:
        return source.size * prod(weight[1:])
    if node.op_type == "MatMul" and source is not None and node.input[1] in tensors and source.shape:
        return output.size * source.shape[-1]
    if node.op_type == "Gemm" and source is not None and node.input[1] in tensors and source.shape:
        transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
        inner = source.shape[0] if transposed else source.shape[-1]
        return output.size * inner
    return 0
