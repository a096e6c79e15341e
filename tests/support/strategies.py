"""Random small networks, their boxes, and the shapes of network that every property has to hold for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from reluce.domain import Box
from reluce.network import Add, Affine, Array, Dense, Network, Node, Op, Relu, Select, Tensor, validate

Case = tuple[Network, Box]

BIASES = {"middle": 6, "random": 3, "active": 3, "inactive": 1, "touch above": 1, "touch below": 1, "zero": 1}
"""How a row's bias is chosen from the interval of the row, and how often: ``middle`` makes an unstable unit."""

ROWS = {"new": 10, "sparse": 4, "copy": 2, "sum": 2, "multiple": 2, "zero": 1}
"""How a row comes about, and how often."""


@dataclass
class Builder:
    """Adds nodes one by one and keeps exact interval bounds, from which biases are chosen."""

    generator: np.random.Generator
    box: Box
    wild: bool = False
    dtype: Any = np.float32
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    low: dict[str, list[Fraction]] = field(default_factory=dict)
    high: dict[str, list[Fraction]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, ends in self.box.lower.items():
            self.tensors[name] = Tensor(name, ends.shape, np.dtype(self.dtype))
            self.low[name], self.high[name] = list(ends.ravel()), list(self.box.upper[name].ravel())

    def network(self, *outputs: str) -> Network:
        return validate(Network(tuple(self.box.lower), outputs, tuple(self.nodes), self.tensors))

    def put(self, name: str, op: Op, inputs: Sequence[str], shape: tuple[int, ...]) -> str:
        self.nodes.append(Node(f"node_{name}", op, tuple(inputs), (name,)))
        self.tensors[name] = Tensor(name, shape, np.dtype(self.dtype))
        return name

    def dense(self, name: str, source: str, width: int, biased: bool = True) -> str:
        *positions, inputs = self.tensors[source].shape or ()
        weight = self.weight(width, inputs)
        low, high = self.reach(weight, source)
        bias = np.array([self.bias(*ends) for ends in zip(low, high, strict=True)], dtype=self.dtype)
        self.put(name, Dense(weight, bias if biased else None), [source], (*positions, width))
        lift = [Fraction(float(value)) if biased else Fraction(0) for value in bias]
        count = int(np.prod(positions, dtype=int))
        self.low[name] = [end + b for end, b in zip(low, lift, strict=True)] * count
        self.high[name] = [end + b for end, b in zip(high, lift, strict=True)] * count
        return name

    def relu(self, name: str, source: str) -> str:
        self.low[name] = [max(end, Fraction(0)) for end in self.low[source]]
        self.high[name] = [max(end, Fraction(0)) for end in self.high[source]]
        return self.put(name, Relu(), [source], self.tensors[source].shape or ())

    def add(self, name: str, first: str, second: str) -> str:
        self.low[name] = [a + b for a, b in zip(self.low[first], self.low[second], strict=True)]
        self.high[name] = [a + b for a, b in zip(self.high[first], self.high[second], strict=True)]
        return self.put(name, Add(), [first, second], self.tensors[first].shape or ())

    def select(self, name: str, sources: Sequence[str], indices: Sequence[int]) -> str:
        for ends in (self.low, self.high):
            joined = [end for source in sources for end in ends[source]]
            ends[name] = [joined[index] for index in indices]
        return self.put(name, Select(np.array(indices, dtype=np.int64), (len(indices),)), sources, (len(indices),))

    def affine(self, name: str, source: str) -> str:
        shape = self.tensors[source].shape or ()
        scale = self.generator.choice([0.5, 1.0, -2.0, 3.0, 0.0], shape).astype(self.dtype)
        shift = self.generator.choice([0.0, 1.0, -0.75], shape).astype(self.dtype)
        factors = [Fraction(float(a)) for a in scale.ravel()]
        shifts = [Fraction(float(c)) for c in shift.ravel()]
        ends = list(zip(factors, shifts, self.low[source], self.high[source], strict=True))
        self.low[name] = [min(a * lo, a * hi) + c for a, c, lo, hi in ends]
        self.high[name] = [max(a * lo, a * hi) + c for a, c, lo, hi in ends]
        return self.put(name, Affine(scale, shift), [source], shape)

    def pick(self, shares: Mapping[str, int]) -> str:
        return str(self.generator.choice(np.repeat(list(shares), list(shares.values()))))

    def weight(self, width: int, inputs: int) -> Array:
        rows: list[Array] = []
        for _ in range(width):
            kind = self.pick(ROWS) if rows else "new"
            pick = [rows[index] for index in self.generator.integers(0, len(rows), 2)] if rows else []
            row = self.generator.integers(-4, 5, inputs) / self.generator.choice([1.0, 2.0, 4.0])
            if kind == "copy":
                row = pick[0]
            elif kind == "sum":
                row = pick[0] + pick[1]
            elif kind == "multiple":
                row = pick[0] * 2.0 ** self.generator.integers(-3, 4) * self.generator.choice([-1, 1])
            elif kind == "zero":
                row = np.zeros(inputs)
            elif kind == "sparse":
                row = row * (self.generator.random(inputs) < 0.4)
            elif self.wild and self.generator.random() < 0.6:
                row = row * 2.0 ** self.generator.integers(-20, 21, inputs)
                row = row * self.generator.choice([1.0, 1 + 2.0**-20, 1 / 3])
            rows.append(row)
        return np.array(rows).astype(self.dtype)

    def reach(self, weight: Array, source: str) -> tuple[list[Fraction], list[Fraction]]:
        """Exact ends of each row without its bias, over all positions."""
        inputs = weight.shape[1]
        boxes = list(zip(self.low[source], self.high[source], strict=True))
        low, high = [], []
        for row in weight.tolist():
            ends = []
            for start in range(0, len(boxes), inputs):
                pairs = list(zip(map(Fraction, row), boxes[start : start + inputs], strict=True))
                ends += [sum(min(w * lo, w * hi) for w, (lo, hi) in pairs)]
                ends += [sum(max(w * lo, w * hi) for w, (lo, hi) in pairs)]
            low.append(Fraction(min(ends)))
            high.append(Fraction(max(ends)))
        return low, high

    def bias(self, low: Fraction, high: Fraction) -> float:
        size = float(self.generator.choice([0.25, 1.0, 2.0]))
        match self.pick(BIASES):
            case "zero":
                return 0.0
            case "touch above":
                return float(-high)
            case "touch below":
                return float(-low)
            case "inactive":
                return float(-high) - size
            case "active":
                return float(-low) + size
            case "middle":
                return float(np.round(float(-(low + high) / 2) * 4) / 4)
        return float(self.generator.integers(-4, 5)) * size


@st.composite
def boxes(draw: st.DrawFn, rational: bool = True, positions: int = 0) -> Box:
    """A box for the input ``x``: one or two inputs vary, up to two more are fixed, in any order."""
    varying = draw(st.sampled_from([2, 1, 2]))
    fixed = draw(st.sampled_from([0, 0, 1, 2])) if not positions else positions * 2 - varying
    steps = st.integers(-8, 4).map(lambda k: Fraction(k, 4))
    if rational:
        steps = st.one_of(steps, st.sampled_from([Fraction(-1, 3), Fraction(1, 10), Fraction(-7, 10)]))
    ends = []
    for index in range(varying + fixed):
        low = draw(steps)
        width = draw(st.sampled_from([Fraction(1), Fraction(1, 4), Fraction(3)])) if index < varying else Fraction(0)
        ends.append((low, low + width))
    ends = draw(st.permutations(ends))
    shape = (positions, 2) if positions else (len(ends),)
    low, high = (np.array([end[side] for end in ends] + [None], dtype=object)[:-1].reshape(shape) for side in (0, 1))
    return Box({"x": low}, {"x": high}, "test")


@st.composite
def builders(draw: st.DrawFn, rational: bool = True, positions: int = 0) -> Builder:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Builder(generator, draw(boxes(rational, positions)), wild=draw(st.booleans()))


@st.composite
def chains(draw: st.DrawFn, layers: int = 3, units: int = 8, rational: bool = True) -> Case:
    """Dense and ReLU in turn, with one to three outputs."""
    b = draw(builders(rational))
    widths = draw(st.lists(st.integers(1, units), min_size=1, max_size=layers))
    last = "x"
    for depth, width in enumerate(widths, 1):
        last = b.relu(f"h{depth}", b.dense(f"z{depth}", last, width, draw(st.integers(0, 5)) > 0))
    return b.network(b.dense("y", last, draw(st.integers(1, 3)))), b.box


def residual(b: Builder, n: int) -> Network:
    h = b.relu("h1", b.dense("z1", "x", n))
    s = b.add("s", b.dense("left", h, n), b.dense("right", h, n))
    return b.network(b.dense("y", b.relu("h2", s), 2))


def skip(b: Builder, n: int) -> Network:
    h = b.relu("h1", b.dense("z1", "x", n))
    s = b.add("s", h, b.dense("inner", b.relu("h2", b.dense("z2", h, n)), n))
    return b.network(b.dense("y", b.relu("h3", s), 2))


def concatenated(b: Builder, n: int) -> Network:
    first, second = b.relu("h1", b.dense("z1", "x", n)), b.relu("h2", b.dense("z2", "x", 2))
    indices = [*b.generator.permutation(n + 2).tolist(), 0]
    joined = b.select("c", [first, second], indices)
    return b.network(b.dense("y", b.relu("h3", b.dense("z3", joined, n)), 2))


def z_read_twice(b: Builder, n: int) -> Network:
    z = b.dense("z1", "x", n)
    s = b.add("s", b.dense("around", z, n), b.dense("through", b.relu("h1", z), n))
    return b.network(b.dense("y", b.relu("h2", s), 1))


def relu_output(b: Builder, n: int) -> Network:
    return b.network(b.relu("y", b.dense("z2", b.relu("h1", b.dense("z1", "x", n)), 3)))


def two_outputs(b: Builder, n: int) -> Network:
    h = b.relu("h1", b.dense("z1", "x", n))
    g = b.relu("h2", b.dense("z2", h, n))
    return b.network(b.dense("y", g, 2), b.dense("w", h, 1), *([g] if b.generator.random() < 0.3 else []))


def scaled(b: Builder, n: int) -> Network:
    h = b.relu("h1", b.affine("a1", b.dense("z1", "x", n)))
    g = b.relu("h2", b.dense("z2", b.affine("a2", h), n))
    return b.network(b.dense("y", g, 2))


def doubled(b: Builder, n: int) -> Network:
    h = b.relu("h1", b.dense("z1", "x", n))
    return b.network(b.dense("y", b.relu("h2", b.add("s", h, h)), 1))


SHAPES: dict[str, Callable[[Builder, int], Network]] = {
    shape.__name__: shape
    for shape in (residual, skip, concatenated, z_read_twice, relu_output, two_outputs, scaled, doubled)
}


@st.composite
def graphs(draw: st.DrawFn, units: int = 5, rational: bool = True) -> Case:
    """One of the DAGs of ``SHAPES``."""
    shape = SHAPES[draw(st.sampled_from(sorted(SHAPES)))]
    b = draw(builders(rational))
    return shape(b, draw(st.integers(1, units))), b.box


@st.composite
def with_positions(draw: st.DrawFn, units: int = 4) -> Case:
    """Dense layers along the last axis of a ``(2, 2)`` input: every unit has two positions."""
    b = draw(builders(positions=2))
    h = b.relu("h1", b.dense("z1", "x", draw(st.integers(1, units))))
    g = b.relu("h2", b.dense("z2", h, draw(st.integers(1, units))))
    return b.network(b.dense("y", g, 1)), b.box


def networks(layers: int = 3, units: int = 8, rational: bool = True) -> st.SearchStrategy[Case]:
    """Chains, DAGs and networks with positions."""
    return st.one_of(chains(layers, units, rational), graphs(min(units, 5), rational), with_positions(min(units, 4)))


def chain(*layers: tuple[Any, Any], box: Box, dtype: Any = np.float32) -> Network:
    """A chain by hand: ``(weight, bias)`` per layer, a ReLU after all but the last."""
    nodes: list[Node] = []
    tensors = {name: Tensor(name, low.shape, np.dtype(dtype)) for name, low in box.lower.items()}
    last = "x"
    for depth, (weight, bias) in enumerate(layers, 1):
        op = Dense(np.array(weight, dtype=dtype), None if bias is None else np.array(bias, dtype=dtype))
        name = "y" if depth == len(layers) else f"z{depth}"
        nodes.append(Node(f"node_{name}", op, (last,), (name,)))
        tensors[name] = Tensor(name, (*low_shape(tensors[last])[:-1], len(op.weight)), np.dtype(dtype))
        last = name
        if name != "y":
            last = f"h{depth}"
            nodes.append(Node(f"node_{last}", Relu(), (name,), (last,)))
            tensors[last] = Tensor(last, tensors[name].shape, np.dtype(dtype))
    return validate(Network(("x",), ("y",), tuple(nodes), tensors))


def low_shape(tensor: Tensor) -> tuple[int, ...]:
    return tensor.shape or ()


def box_of(*ends: tuple[Any, Any]) -> Box:
    """The box with these ends along its one axis; strings such as "1/3" are exact."""
    low, high = np.empty(len(ends), dtype=object), np.empty(len(ends), dtype=object)
    low[:], high[:] = [Fraction(end[0]) for end in ends], [Fraction(end[1]) for end in ends]
    return Box({"x": low}, {"x": high}, "test")
