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
from reluce.io._write_ops import emit
from reluce.io._writer import Writer
from reluce.network import Network, Node, Opaque


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
    if _untouched(loaded.network, network):
        return loaded.data
    model = parse(loaded.data, loaded.name)
    result: bytes = _rewritten(loaded, network, model, metadata).SerializeToString(deterministic=True)
    return result


def _same(old: Node, new: Node | None) -> bool:
    if new is None or new.inputs != old.inputs or new.outputs != old.outputs:
        return False
    return new.op is old.op or (isinstance(old.op, Opaque) and isinstance(new.op, Opaque))


def _untouched(old: Network, new: Network) -> bool:
    present = {node.name: node for node in new.nodes}
    return len(old.nodes) == len(new.nodes) and all(_same(node, present.get(node.name)) for node in old.nodes)


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
    """Whether the original ONNX nodes still compute all that is needed of a group, and only they do."""
    present = {node.name: node for node in network.nodes}
    original = {node.name: node for node in loaded.network.nodes}
    written = {name for index in group.nodes for name in model.graph.node[index].output}
    some = False
    for name in group.made:
        old, new = original[name], present.get(name)
        if new is None:
            if any(_needed(network, output) for output in old.outputs):
                return False
            continue
        some = True
        if not group.nodes:  # a constant graph output: there is nothing else that it could be
            continue
        if not _same(old, new):
            return False
        hidden = [output for output in old.outputs if output not in written]
        readers = [reader.name for output in hidden for reader in network.consumers[output]]
        if any(reader not in group.made for reader in readers):
            return False
    return some


def _needed(network: Network, tensor: str) -> bool:
    return tensor in network.outputs or bool(network.consumers.get(tensor)) or tensor in network.producer


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
