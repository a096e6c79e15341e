"""Which parts of a model no rewrite touched, so that they can be written back as they were."""

from __future__ import annotations

from collections.abc import Set

from reluce.io._loaded import Group
from reluce.network import Network, Node, Opaque


def same(old: Node, new: Node | None) -> bool:
    """Whether a node is still the one that was read."""
    if new is None or new.inputs != old.inputs or new.outputs != old.outputs:
        return False
    return new.op is old.op or (isinstance(old.op, Opaque) and isinstance(new.op, Opaque))


def untouched(old: Network, new: Network) -> bool:
    """Whether nothing was rewritten at all."""
    present = new.by_name
    return len(old.nodes) == len(new.nodes) and all(same(node, present.get(node.name)) for node in old.nodes)


def verbatim(group: Group, before: Network, after: Network, written: Set[str]) -> bool:
    """Whether the original nodes of a group still compute all that is needed of it, and only they do.

    Parameters
    ----------
    group
        The nodes in question.
    before, after
        The network as read, and as rewritten.
    written
        The tensors that the original nodes write.
    """
    present, original = after.by_name, before.by_name
    some = False
    for name in group.made:
        old, new = original[name], present.get(name)
        if new is None:
            if any(_needed(after, output) for output in old.outputs):
                return False
            continue
        some = True
        if not group.nodes:  # a constant graph output: there is nothing else that it could be
            continue
        if not same(old, new):
            return False
        hidden = [output for output in old.outputs if output not in written]
        readers = [reader.name for output in hidden for reader in after.consumers[output]]
        if any(reader not in group.made for reader in readers):
            return False
    return some


def _needed(network: Network, tensor: str) -> bool:
    return tensor in network.outputs or bool(network.consumers.get(tensor)) or tensor in network.producer
