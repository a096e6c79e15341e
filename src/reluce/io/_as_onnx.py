"""Any network as an ONNX model of its own, for claims about models that are no ONNX files (torch, scikit-learn)."""

from __future__ import annotations

from math import prod

from onnx import ModelProto, ValueInfoProto, helper

from reluce.errors import ModelError
from reluce.io._finish import finish
from reluce.io._loaded import OnnxLoaded
from reluce.io._nnet import IR_VERSION, OPSET
from reluce.io._proto import FLOATS
from reluce.io._spell import spelled
from reluce.io._write_ops import emit
from reluce.io._writer import Writer
from reluce.network import Network, Tensor, validate

BATCH = "N"
LARGEST = 2**31 - 2**20  # bytes of weights: a protobuf ends at 2 GiB


def as_onnx(network: Network, name: str = "model") -> bytes:
    """Write a network as a plain ONNX model that means exactly the same.

    The model computes the same real function with the same stored numbers. Inputs, outputs and the output of every
    node keep their names; what one ONNX node cannot state becomes several, whose further tensors are called after the
    node's output (``y/scaled``). Where the network is batched, axis 0 of all inputs and outputs has the free length
    ``N``.

    The network is all there is to it: what a ``Loaded`` does to its inputs before they reach ``Loaded.network``
    (``Loaded.scaling``, the scalers of a scikit-learn pipeline) is not part of it. Proofs are about that network, on
    the box behind the scaler (``domain_of`` returns it): so are claims about the two models, the original's and the
    rewritten network's, that this function writes. A claim in the pipeline's own inputs follows from it, as that box
    encloses what the scaler makes of the domain.

    Parameters
    ----------
    network
        Without nodes that Reluce does not model.
    name
        What the graph is called in the file.

    Returns
    -------
    bytes
        Uncompressed, and always the same for the same network and name.

    Raises
    ------
    ModelError
        When a node is not modelled, a tensor's format or shape is none that is understood, a number cannot be kept
        exactly, or the file would be too large.
    """
    _demand_plain(network)
    network = spelled(validate(network))
    model = _empty(network, name)
    writer = Writer(OnnxLoaded(network=network, name=name, data=b"", groups=()), network, model)
    for node in network.nodes:
        writer.start(())
        emit(node.op, writer, node)
    if sum(len(tensor.raw_data) for tensor in writer.claimed.values()) > LARGEST:
        raise _refused("it has more than 2 GiB of weights")
    result: bytes = finish(writer, {}).SerializeToString(deterministic=True)
    return result


def _demand_plain(network: Network) -> None:
    for node in network.opaque:
        raise _refused(f"node {node.name!r} is not modelled")
    if not network.nodes:
        raise _refused("it has no nodes")
    if len(set(network.outputs)) < len(network.outputs):
        raise _refused("an output is listed twice")
    used = [*network.inputs, *(name for node in network.nodes for name in node.outputs)]
    for tensor in (network.tensors[name] for name in used):
        if tensor.dtype not in [*FLOATS.values()]:
            raise _refused(f"tensor {tensor.name!r} is {tensor.dtype.name}")
        if not prod(network.shape(tensor.name)):  # where ONNX has lengths of 0, they mean other things
            raise _refused(f"tensor {tensor.name!r} holds no numbers")


def _refused(why: str) -> ModelError:
    return ModelError(f"the network cannot be written as ONNX: {why}")


def _empty(network: Network, name: str) -> ModelProto:
    """The model without its nodes."""
    elements = {kind: elem for elem, kind in FLOATS.items()}
    batch: list[int | str] = [BATCH] if network.batched else []

    def declared(tensor: Tensor) -> ValueInfoProto:
        elem = elements[tensor.dtype.type]
        return helper.make_tensor_value_info(tensor.name, elem, [*batch, *network.shape(tensor.name)])

    inputs, outputs = ([declared(network.tensors[end]) for end in ends] for ends in (network.inputs, network.outputs))
    graph = helper.make_graph([], name, inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="reluce")
