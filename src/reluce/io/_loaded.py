"""What reading a model yields, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass

from reluce.network import Network


@dataclass(frozen=True)
class Group:
    """ONNX nodes that were read together.

    ``nodes`` are indices into the original ``graph.node``; ``made`` are the names of the IR nodes made from them, none
    where the nodes only compute constants.
    """

    nodes: tuple[int, ...]
    made: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model as read.

    Parameters
    ----------
    network
        What the model computes.
    data
        The original, uncompressed ONNX bytes.
    groups
        Which ONNX nodes became which nodes of ``network``, in the order of the file.
    notes
        What the user should know, one line each.
    name
        How to call the model in messages.
    """

    network: Network
    data: bytes
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Sizes:
    """How large a model is.

    ``parameters`` and ``nonzeros`` count the elements of the float tensors that nodes read, a shared tensor once;
    ``macs`` are the multiply-adds of one sample where shapes are known; ``bytes`` is the length of the file.
    """

    parameters: int
    nonzeros: int
    macs: int
    bytes: int
