"""Writing: a rewritten network back into the file that it was read from.

What no rewrite touched is written back as it was, node by node; if nothing was touched, byte by byte.
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

from reluce.io._finish import finish
from reluce.io._fold_write import restate
from reluce.io._loaded import Group, OnnxLoaded
from reluce.io._proto import parse, reads
from reluce.io._verbatim import untouched, verbatim
from reluce.io._write_ops import emit
from reluce.io._writer import Writer
from reluce.network import Network


def serialise(loaded: OnnxLoaded, network: Network, metadata: Mapping[str, str]) -> bytes:
    """Return the ONNX bytes of a rewritten network.

    Parameters
    ----------
    loaded
        The model that ``network`` was rewritten from.
    network
        Consists of nodes of ``loaded.network`` and of replacements under the same names and output tensors.
    metadata
        Keys and values to add to the file's metadata, replacing those of the same key.

    Returns
    -------
    bytes
        Always the same for the same arguments; ``loaded.data`` itself where the network is the one that was loaded.

    Raises
    ------
    ValueError
        When the inputs of a node that Reluce does not model have changed.
    """
    if untouched(loaded.network, network):
        return loaded.data
    model = parse(loaded.data, loaded.name)
    result: bytes = _rewritten(loaded, network, model, metadata).SerializeToString(deterministic=True)
    return result


def _rewritten(loaded: OnnxLoaded, network: Network, model: ModelProto, metadata: Mapping[str, str]) -> ModelProto:
    kept = [group for group in loaded.groups if group.made and _verbatim(group, loaded, network, model)]
    live = _live_constants(loaded, model, kept)
    writer = Writer(loaded, network, model)
    for group in (*kept, *live):
        for index in group.nodes:
            writer.keep(index)
    for group in live:
        restate(writer, group)
    done = {name for group in kept for name in group.made}
    homes = {name: group for group in loaded.groups for name in group.made}
    for node in network.nodes:
        if node.name not in done:
            home = homes.get(node.name)
            writer.start(home.nodes if home is not None else ())
            emit(node.op, writer, node)
    return finish(writer, metadata)


def _verbatim(group: Group, loaded: OnnxLoaded, network: Network, model: ModelProto) -> bool:
    written = {name for index in group.nodes for name in model.graph.node[index].output}
    return verbatim(group, loaded.network, network, written)


def _live_constants(loaded: OnnxLoaded, model: ModelProto, kept: list[Group]) -> list[Group]:
    """The groups that only compute constants and are still read, in the order of the file."""
    nodes = model.graph.node
    wanted = {name for group in kept for index in group.nodes for name in reads(nodes[index])}
    wanted |= {name for group in kept if not group.nodes for name in group.made}
    wanted |= {info.name for info in model.graph.output if info.name not in loaded.network.producer}
    live = []
    for group in reversed(loaded.groups):
        if not group.made and any(name in wanted for index in group.nodes for name in nodes[index].output):
            wanted |= {name for index in group.nodes for name in reads(nodes[index])}
            live.append(group)
    return live[::-1]
