"""What a rewrite takes and gives: a smaller network and, for each tensor, which coordinates of the original remain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from reluce.bounds import Bounds
from reluce.facts import Facts, LayerFacts, Verdict
from reluce.network import Activation, Array, Dense, Network, Node, Opaque, Relu


@dataclass(frozen=True, eq=False)
class Original:
    """The network that everything was proved about: facts and bounds hold for it alone, never for a rewritten one."""

    network: Network
    facts: Facts
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A network together with the map of its units to those of the original.

    ``kept[tensor][k]`` is the flat coordinate of the original tensor (of the same name) that flat coordinate ``k`` of
    the rewritten tensor stands for; tensors that lost nothing have no entry.
    """

    network: Network
    kept: Mapping[str, Array]

    @staticmethod
    def nothing_done(network: Network) -> Rewritten:
        """The original itself."""
        return Rewritten(network, {})

    def coordinates(self, name: str) -> Array:
        """For each flat coordinate of a tensor the one of the original that it stands for."""
        return self.kept[name] if name in self.kept else np.arange(self.network.tensors[name].size)

    def units(self, original: Network, node: Node) -> Array:
        """Which units of an original ReLU remain, in order; empty when the layer is gone."""
        assert isinstance(node.op, Relu)
        if node.output not in self.network.tensors:
            return np.zeros(0, dtype=np.int64)
        shape = original.tensors[node.output].shape
        if not shape:
            return np.zeros(0, dtype=np.int64)
        axis = node.op.axis % len(shape)
        inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        return np.unique(self.coordinates(node.output) // inner % shape[axis])


Judge = Callable[[Rewritten], str | None]
"""Why a finished candidate must not be taken, by what is proved about it; None where it may be."""


@dataclass(frozen=True, eq=False)
class Sandwich:
    """The pattern that merging and folding need: ``Dense -> ReLU -> Dense``, with nothing else reading in between.

    ``units`` are the original indices of the units that the rewritten layer still has, in order.
    """

    before: Node
    relu: Node
    after: tuple[Node, ...]
    units: Array
    facts: LayerFacts

    @property
    def active(self) -> Array:
        """Positions (in the rewritten layer) of the stably active units."""
        return np.flatnonzero(self.facts.having(Verdict.ACTIVE)[self.units])


def sandwich(original: Original, state: Rewritten, relu: Node) -> Sandwich | str:
    """The dense layers around a ReLU of the rewritten network, or the reason why there is no such pattern."""
    network = state.network
    z, h = relu.inputs[0], relu.output
    before = network.producer.get(z)
    if before is None or not isinstance(before.op, Dense):
        return "the pre-activation is not the output of a dense layer"
    if network.consumers[z] != (relu,) or z in network.outputs:
        return "the pre-activation is read elsewhere"
    if h in network.outputs:
        return "its units are a graph output"
    after = network.consumers[h]
    strangers = [node for node in after if not isinstance(node.op, Dense)]
    if strangers:
        return f"its units are read by {describe(strangers[0])}"
    if not after:
        return "its units are read by nothing"
    assert isinstance(relu.op, Relu)
    if relu.op.axis not in (-1, len(network.shape(h)) - 1):
        return "its units do not lie along the last axis"
    return Sandwich(before, relu, after, state.units(original.network, relu), original.facts.layers[relu.name])


def describe(node: Node) -> str:
    """A node in the words of a message: its operation and name."""
    match node.op:
        case Opaque(kind=kind) | Activation(function=kind):
            return f"{kind} {node.name!r}"
    return f"{type(node.op).__name__} {node.name!r}"
