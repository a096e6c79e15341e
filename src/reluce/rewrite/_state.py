"""What a rewrite takes and gives: a smaller network and, for each tensor, what it stands for in the original.

Most coordinates of a rewritten tensor are coordinates of the original tensor of the same name. Re-based layers have new
units that are affine functions of the original's pre-activations; a selection put in front of a reader stands for the
tensor that it selects from, or where it has a layer's input beside the layer's units, for coordinates of both. Units
that are multiples of others are claimed as such (``Parallels``), and proved by the relation like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from reluce.bounds import Bounds, Interval
from reluce.facts import Facts, LayerFacts, Verdict
from reluce.network import Activation, Array, Dense, Network, Node, Opaque, Relu


@dataclass(frozen=True, eq=False)
class Original:
    """The network that everything was proved about: facts and bounds hold for it alone, never for a rewritten one."""

    network: Network
    facts: Facts
    bounds: Bounds


@dataclass(frozen=True, eq=False)
class Rows:
    """Coordinates that the original does not have: ``matrix @ z + shift`` with z the original tensor ``over``.

    Of a layer that z is the pre-activation. Behind the ReLU they stand for the ReLU of that. It is the same where it is
    not negative; or ``turned`` names the coordinate i of z that the row reads alone, with -1: ``relu(-z_i)``. It is -1
    for the others. ``matrix`` is ``(rows, size of z)``, float64 and taken as exact. ``low`` and ``high`` say where the
    rows range on the domain, for those who look for more; nothing that is promised rests on them.
    """

    over: str
    matrix: Array
    shift: Array
    low: Array
    high: Array
    turned: Array

    @staticmethod
    def opposites(over: str, size: int, units: Array, low: Array, high: Array) -> Rows:
        """``-z_i`` for some coordinates of z, which ranges from ``low`` to ``high`` there."""
        matrix = np.zeros((len(units), size))
        matrix[np.arange(len(units)), units] = -1.0
        return Rows(over, matrix, np.zeros(len(units)), -high, -low, units.astype(np.int64))

    def taken(self, mask: Array) -> Rows:
        """Some of the rows."""
        return Rows(self.over, *(getattr(self, name)[mask] for name in PARTS))

    def followed(self, other: Rows) -> Rows:
        """These rows, then those of another."""
        return Rows(self.over, *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in PARTS))

    def same(self, other: Rows | None) -> bool:
        """Whether both are the same functions."""
        return (
            other is not None
            and self.over == other.over
            and np.array_equal(self.matrix, other.matrix)
            and np.array_equal(self.shift, other.shift)
            and np.array_equal(self.turned, other.turned)
        )


PARTS = ("matrix", "shift", "low", "high", "turned")
"""The arrays of ``Rows``, a row or an entry for each."""


@dataclass(frozen=True, eq=False)
class Parallels:
    """Units of an original ReLU whose pre-activations are multiples of another's: ``z[unit] = factor * z[to]``.

    ``unit``, ``to`` and ``factor`` are as long as there are such units; a factor may be negative. No unit is both in
    ``unit`` and in ``to``.
    """

    unit: Array
    to: Array
    factor: Array


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A network together with what its tensors stand for in the original.

    ``kept[tensor][k]`` is the flat coordinate of the original tensor that flat coordinate ``k`` of the rewritten tensor
    stands for; -1 where it is the next of ``rows[tensor]``. Tensors that lost nothing have no entry. The original
    tensor is that of the same name, unless ``of`` names another. ``parallels`` has claims about the original, by
    pre-activation. ``shifted`` names outputs that are meant to be the original's less one of its coordinates.
    """

    network: Network
    kept: Mapping[str, Array]
    rows: Mapping[str, Rows] = field(default_factory=dict)
    of: Mapping[str, str] = field(default_factory=dict)
    parallels: Mapping[str, Parallels] = field(default_factory=dict)
    shifted: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def nothing_done(network: Network) -> Rewritten:
        """The original itself."""
        return Rewritten(network, {})

    def source(self, name: str) -> str:
        """The original tensor that a tensor stands for."""
        return self.of.get(name, name)

    @property
    def skips(self) -> dict[str, str]:
        """Which tensors of the original others are read beside: by the layer that is skipped, the layer's input."""
        return {self.of[name]: rows.over for name, rows in self.rows.items() if name in self.of}

    def coordinates(self, name: str) -> Array:
        """For each flat coordinate of a tensor the one of the original that it stands for; -1 where it is new."""
        return self.kept[name] if name in self.kept else np.arange(self.network.tensors[name].size)

    def units(self, original: Network, node: Node) -> Array:
        """Which units of an original ReLU remain, in order, -1 for new ones; empty when the layer is gone."""
        assert isinstance(node.op, Relu)
        if node.output not in self.network.tensors:
            return np.zeros(0, dtype=np.int64)
        shape = original.tensors[node.output].shape
        if not shape:
            return np.zeros(0, dtype=np.int64)
        if node.output in self.rows:
            return self.kept[node.output]
        axis = node.op.axis % len(shape)
        inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        return np.unique(self.coordinates(node.output) // inner % shape[axis])

    def interval(self, original: Original, name: str) -> Interval | None:
        """Where a tensor ranges on the domain, but for what it deviates; None where nothing is known."""
        box = original.bounds.intervals.get(self.source(name))
        if box is None:
            return None
        kept, shape = self.coordinates(name), self.network.shape(name)
        low, high = box.lower.ravel()[kept], box.upper.ravel()[kept]
        if name in self.rows:
            new, rows = kept < 0, self.rows[name]
            least = -np.inf if name in self.of or rows.over == name else 0.0
            low[new], high[new] = np.maximum(rows.low, least), np.maximum(rows.high, least)
        return Interval(low.reshape(shape), high.reshape(shape))

    def taken(self, network: Network, keep: Mapping[str, Array], gone: Container[str]) -> Rewritten:
        """The same without some tensors, and with those coordinates of others for which ``keep`` is true."""
        kept, rows = dict(self.kept), dict(self.rows)
        for name, mask in keep.items():
            if not mask.all() and name not in gone:
                kept[name] = self.coordinates(name)[mask]
                if name in rows:
                    rows[name] = rows[name].taken(mask[self.kept[name] < 0])
        left = {name: value for name, value in rows.items() if len(value.shift)}
        return replace(
            self,
            network=network,
            kept={name: value for name, value in kept.items() if name not in gone},
            rows={name: value for name, value in left.items() if name not in gone},
            of={name: value for name, value in self.of.items() if name not in gone},
        )


Judge = Callable[[Rewritten], str | None]
"""Why a finished candidate must not be taken, by what is proved about it; None where it may be."""


@dataclass(frozen=True, eq=False)
class Sandwich:
    """The pattern that merging and folding need: ``Dense -> ReLU -> Dense``, with nothing else reading in between.

    ``units`` are the original indices of the units that the rewritten layer still has, in order, and -1 for new ones.
    Of these ``turned`` says which are opposites of units of the original.
    """

    before: Node
    relu: Node
    after: tuple[Node, ...]
    units: Array
    turned: Array
    facts: LayerFacts

    @property
    def active(self) -> Array:
        """Positions (in the rewritten layer) of the stably active units, new ones among them."""
        return np.flatnonzero(np.where(self.units < 0, ~self.turned, self.facts.having(Verdict.ACTIVE)[self.units]))


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
    units = state.units(original.network, relu)
    turned = np.zeros(len(units), dtype=bool)
    if h in state.rows:
        turned[units < 0] = state.rows[h].turned >= 0
    return Sandwich(before, relu, after, units, turned, original.facts.layers[relu.name])


def describe(node: Node) -> str:
    """A node in the words of a message: its operation and name."""
    match node.op:
        case Opaque(kind=kind) | Activation(function=kind):
            return f"{kind} {node.name!r}"
    return f"{type(node.op).__name__} {node.name!r}"
