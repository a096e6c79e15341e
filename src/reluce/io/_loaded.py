"""What reading a model yields, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reluce.network import Array, Network


@dataclass(frozen=True)
class Group:
    """ONNX nodes that were read together.

    ``nodes`` are indices into the original ``graph.node``; ``made`` are the names of the IR nodes made from them, none
    where the nodes only compute constants.
    """

    nodes: tuple[int, ...]
    made: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Ranges:
    """Input ranges that a model states itself.

    Parameters
    ----------
    ends
        For each graph input that has a range: ``(lower, upper)``, object arrays of ``Fraction`` with the input's sample
        shape. An end that the model leaves open is ``None``.
    source
        Who states them, for reports.
    """

    ends: Mapping[str, tuple[Array, Array]]
    source: str


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
    ranges
        The input ranges that the model states itself, if any.
    """

    network: Network
    data: bytes
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    name: str
    ranges: Ranges | None = None


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
