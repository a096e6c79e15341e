"""What reading a model yields, whatever kind of model it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reluce.network import Array, Network


@dataclass(frozen=True)
class Group:
    """Nodes of a model that were read together.

    ``nodes`` are indices into the model's own list of nodes (``graph.node`` in ONNX); ``made`` are the names of the IR
    nodes made from them, none where the nodes only compute constants.
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


Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True)
class Runtime:
    """The software that usually runs a model, as a second opinion on what it computes.

    Parameters
    ----------
    name
        What reports call it.
    start
        Makes the model ready and returns the function that runs it: from an array per graph input, in the model's own
        formats (``(samples, *sample shape)``, or one whole sample where the network is not batched), to an array per
        output that is a plain tensor of numbers. Both raise whatever the software raises.
    """

    name: str
    start: Callable[[], Run]


@dataclass(frozen=True, eq=False)
class Scaling:
    """What stands in front of a network and is handed back as it was: ``z = x * slope + offset`` for each coordinate.

    ``slope`` and ``offset`` are object arrays of ``Fraction`` with the input's sample shape; ``apply`` computes z as
    the library does, for ``(samples, *sample shape)``.
    """

    slope: Array
    offset: Array
    apply: Callable[[Array], Array]


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """A model as read: what is common to all kinds of models.

    Parameters
    ----------
    network
        What the model computes.
    notes
        What the user should know, one line each.
    name
        How to call the model in messages.
    ranges
        The input ranges that the model states itself, if any.
    scaling
        What is done to the inputs before they reach ``network``, if anything.
    metadata
        Keys and values that a file carries beside its graph, in its order; a key may come twice.
    """

    network: Network
    notes: tuple[str, ...] = ()
    name: str = "model"
    ranges: Ranges | None = None
    scaling: Scaling | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class OnnxLoaded(Loaded):
    """An ONNX model as read.

    Parameters
    ----------
    data
        The original, uncompressed ONNX bytes.
    groups
        Which ONNX nodes became which nodes of ``network``, in the order of the file.
    """

    data: bytes
    groups: tuple[Group, ...]
