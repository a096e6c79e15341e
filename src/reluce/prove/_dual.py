"""Dual bounds of pre-activations, for many subproblems at once, with the slopes and split multipliers of each.

For a functional ``c @ z`` of a tensor z, every row (subproblem) has its own multipliers and splits. Going backwards,

* at ``h = relu(z)`` with coefficients A:  A > 0 uses ``h <= above z + offset``, A < 0 uses ``h >= alpha z`` with alpha
  in [0, 1]; a unit split to z >= 0 has h = z, one split to z <= 0 has h = 0, and ``beta * split * z`` is added (the
  Lagrangian of the split; with beta >= 0 it adds nothing negative wherever the split holds)
* at the box:  every coordinate at the end that maximises

What comes out bounds the functional on the part of the domain where all splits hold. It is linear in the multipliers
between kinks, and its gradient is a forward pass: with z evaluated at the maximising corner in the linearised network,

    d bound / d alpha_i = min(A_i, 0) z_i,        d bound / d beta_i = split_i z_i

so no automatic differentiation is needed, and numpy and torch run the same code (the Python array API standard).

Everything here is a hint: what it finds is evaluated rigorously by ``bounds.linear_upper_bound``. Source: Zhang et al.
2018 (CROWN); Xu et al., "Fast and complete", ICLR 2021 (alpha); Wang et al., "Beta-CROWN", NeurIPS 2021 (beta).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, singledispatch
from typing import Any

import numpy as np

from reluce.bounds import Interval, affine_form, dense_form, relax
from reluce.network import Add, Affine, Array, BatchNorm, Constant, Dense, Network, Node, Op, Relu, Select
from reluce.prove._arrays import Arrays, XArray


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Of each row: slopes ``alpha`` in [0, 1], split multipliers ``beta`` >= 0, and ``split`` (0 free, +1, -1).

    All are ``(rows, coordinates)`` over all ReLU coordinates of a ``Dual``, in its order.
    """

    alpha: XArray
    beta: XArray
    split: XArray

    def take(self, rows: Any) -> Multipliers:
        """Those of some rows."""
        return Multipliers(self.alpha[rows], self.beta[rows], self.split[rows])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """``upper`` bounds ``(rows,)``; ``coefficients`` of the ReLU outputs ``(rows, coordinates)``; the ``corners``.

    ``corners`` has for each graph input the maximising corner, ``(rows, *sample shape)``.
    """

    upper: XArray
    coefficients: XArray
    corners: Mapping[str, XArray]


class Dual:
    """The part of a network in front of one tensor, prepared for dual bounds.

    Parameters
    ----------
    network
        The network.
    tensor
        The tensor whose functionals are bounded.
    intervals
        Proven intervals of its tensors.
    arrays
        Where and in which precision to compute.
    """

    def __init__(self, network: Network, tensor: str, intervals: Mapping[str, Interval], arrays: Arrays) -> None:
        self.network, self.tensor, self.intervals, self.arrays = network, tensor, intervals, arrays
        needed = network.ancestors([tensor])
        self.nodes = [node for node in network.nodes if needed & set(node.outputs)]
        self.relus = [node for node in self.nodes if isinstance(node.op, Relu)]
        sizes = [intervals[node.inputs[0]].lower.size for node in self.relus]
        ends = np.cumsum([0, *sizes])
        self.places = {node.name: slice(ends[k], ends[k + 1]) for k, node in enumerate(self.relus)}
        self.coordinates = int(ends[-1])
        self._forms = {
            node.name: _form(node.op, [network.shape(name) for name in node.inputs], arrays) for node in self._linear
        }
        self._load()

    @property
    def _linear(self) -> list[Node]:
        return [node for node in self.nodes if isinstance(node.op, Dense | Affine | BatchNorm | Select | Constant)]

    def _load(self) -> None:
        """The triangle relaxation of every ReLU coordinate; ``worth`` is its height (0 where the unit is stable)."""
        parts = [self.intervals[node.inputs[0]] for node in self.relus]
        z = Interval(*(_flat([getattr(part, end) for part in parts]) for end in ("lower", "upper")))
        start = relax(z)
        self.unstable = (z.lower < 0) & (z.upper > 0)
        self.worth = np.where(self.unstable, start.offset, 0.0)
        make = self.arrays.of
        self._above, self._offset, self._below = make(start.above), make(self.worth), make(start.below)
        self._free = self.arrays.mask(self.unstable)

    def start(self, rows: int) -> Multipliers:
        """CROWN's adaptive slopes, nothing split."""
        nothing = self.arrays.zeros((rows, self.coordinates))
        return Multipliers(nothing + self._below, nothing, nothing)

    def evaluate(self, functional: XArray, multipliers: Multipliers) -> Evaluation:
        """Bound functionals ``(rows, *sample shape)`` of the tensor from above."""
        return _Pass(self, functional, multipliers).evaluation

    def gradient(self, functional: XArray, multipliers: Multipliers) -> tuple[Evaluation, XArray, XArray]:
        """The bounds, and their derivatives in alpha and beta."""
        sweep = _Pass(self, functional, multipliers)
        z, xp = sweep.forward(), self.arrays.xp
        free = self._free & (multipliers.split == 0)
        A = sweep.evaluation.coefficients
        by_alpha = xp.where(free & (A < 0), A * z, xp.zeros_like(z))
        return sweep.evaluation, by_alpha, multipliers.split * z

    @cached_property
    def inputs(self) -> dict[str, tuple[XArray, XArray]]:
        """Ends of the tensors at which substitution stops: graph inputs and what is not linear or a ReLU."""
        made = {node.output for node in self.nodes if isinstance(node.op, _SUBSTITUTED)}
        read = {name for node in self.nodes for name in node.inputs} | {self.tensor}
        return {
            name: (self.arrays.of(self.intervals[name].lower), self.arrays.of(self.intervals[name].upper))
            for name in read - made
        }


_SUBSTITUTED = (Dense, Affine, BatchNorm, Relu, Add, Select, Constant)


class _Pass:
    """One backward pass, and the forward pass through what it linearised."""

    def __init__(self, dual: Dual, functional: XArray, multipliers: Multipliers) -> None:
        self.dual, self.xp = dual, dual.arrays.xp
        split, xp = multipliers.split, self.xp
        one, zero = xp.ones_like(split), xp.zeros_like(split)
        self.above = xp.where(split == 0, dual._above + zero, xp.where(split > 0, one, zero))
        self.below = xp.where(split == 0, xp.where(dual._free, multipliers.alpha, dual._below + zero), self.above)
        self.offset = xp.where(split == 0, dual._offset + zero, zero)
        self.lagrangian = multipliers.beta * split
        self.reached = zero  # filled by the backward pass
        self.constant = xp.zeros_like(split[:, 0]) if dual.coordinates else dual.arrays.zeros((functional.shape[0],))
        self.pending: dict[str, XArray] = {dual.tensor: functional}
        parts = {}
        for node in reversed(dual.nodes):
            if len(node.outputs) == 1 and node.output in self.pending and isinstance(node.op, _SUBSTITUTED):
                A = self.pending.pop(node.output)
                if isinstance(node.op, Relu):
                    parts[node.name] = A
                    self._relu(node, A)
                else:
                    _pull(node.op, A, node, self)
        rows = functional.shape[0]
        flat = [
            xp.reshape(parts[node.name], (rows, -1)) if node.name in parts else zero[:, dual.places[node.name]]
            for node in dual.relus
        ]
        self.coefficients = xp.concat(flat, axis=1) if flat else zero
        corners, upper = {}, self.constant
        for name, A in self.pending.items():
            low, high = dual.inputs[name]
            corners[name] = xp.where(A > 0, high, low)
            upper = upper + self._sum(A * corners[name])
        self.corners = corners
        self.evaluation = Evaluation(upper, self.coefficients, corners)

    def add(self, tensor: str, A: XArray) -> None:
        present = self.pending.get(tensor)
        self.pending[tensor] = A if present is None else present + A

    def _sum(self, values: XArray) -> XArray:
        return self.xp.sum(self.xp.reshape(values, (values.shape[0], -1)), axis=1)

    def _relu(self, node: Node, A: XArray) -> None:
        xp, place = self.xp, self.dual.places[node.name]
        flat = xp.reshape(A, (A.shape[0], -1))
        positive = xp.maximum(flat, xp.zeros_like(flat))
        self.constant = self.constant + xp.sum(positive * self.offset[:, place], axis=1)
        back = positive * self.above[:, place] + (flat - positive) * self.below[:, place] + self.lagrangian[:, place]
        self.add(node.inputs[0], xp.reshape(back, A.shape))

    def forward(self) -> XArray:
        """All pre-activations ``(rows, coordinates)`` at the corners, in the linearised network."""
        xp, dual = self.xp, self.dual
        rows = self.coefficients.shape[0]
        values = dict(self.corners)
        for name, (low, _) in dual.inputs.items():
            if name not in values:  # nothing depends on it
                values[name] = xp.zeros_like(low) + dual.arrays.zeros((rows, *low.shape))
        found = []
        for node in dual.nodes:
            if not isinstance(node.op, _SUBSTITUTED) or node.output == dual.tensor:
                continue
            if not isinstance(node.op, Relu):
                values[node.output] = _push(node.op, node, values, self, rows)
                continue
            place = dual.places[node.name]
            z = xp.reshape(values[node.inputs[0]], (rows, -1))
            found.append(z)
            up = self.coefficients[:, place] > 0
            h = xp.where(up, self.above[:, place] * z + self.offset[:, place], self.below[:, place] * z)
            values[node.output] = xp.reshape(h, (rows, *dual.network.shape(node.output)))
        return xp.concat(found, axis=1) if found else self.coefficients


@singledispatch
def _form(op: Op, shapes: list[tuple[int, ...]], arrays: Arrays) -> tuple[XArray, ...]:
    """The parameters of an operation whose inputs have the given sample shapes."""
    raise NotImplementedError(f"no dual rule for {type(op).__name__}")


@_form.register
def _(op: Dense, shapes: list[tuple[int, ...]], arrays: Arrays) -> tuple[XArray, ...]:
    form = dense_form(op)
    return arrays.of(form.weight), arrays.of(form.bias)


@_form.register(Affine)
@_form.register(BatchNorm)
def _(op: Affine | BatchNorm, shapes: list[tuple[int, ...]], arrays: Arrays) -> tuple[XArray, ...]:
    form = affine_form(op, shapes[0])
    return arrays.of(form.scale), arrays.of(form.shift)


@_form.register
def _(op: Constant, shapes: list[tuple[int, ...]], arrays: Arrays) -> tuple[XArray, ...]:
    return (arrays.of(op.value),)


@_form.register
def _(op: Select, shapes: list[tuple[int, ...]], arrays: Arrays) -> tuple[XArray, ...]:
    """For each time that an entry can be read: which reads it (the column after the last: none)."""
    entries = sum(int(np.prod(shape)) for shape in shapes)
    order = np.argsort(op.indices, kind="stable")
    read = op.indices[order]
    turn = np.arange(len(read)) - np.searchsorted(read, read)  # 0 for the first reader of an entry, 1 for the second
    gathers = []
    for number in range(int(turn.max(initial=0)) + 1):
        gather = np.full(entries, len(read))
        gather[read[turn == number]] = order[turn == number]
        gathers.append(arrays.indices(gather))
    return tuple(gathers)


@singledispatch
def _pull(op: Op, A: XArray, node: Node, state: _Pass) -> None:
    """Replace ``node``'s output in the functional by its definition."""
    raise NotImplementedError(f"no dual rule for {type(op).__name__}")


@_pull.register
def _(op: Dense, A: XArray, node: Node, state: _Pass) -> None:
    weight, bias = state.dual._forms[node.name]
    state.constant = state.constant + state._sum(A * bias)
    state.add(node.inputs[0], A @ weight)


@_pull.register(Affine)
@_pull.register(BatchNorm)
def _(op: Affine | BatchNorm, A: XArray, node: Node, state: _Pass) -> None:
    scale, shift = state.dual._forms[node.name]
    state.constant = state.constant + state._sum(A * shift)
    state.add(node.inputs[0], A * scale)


@_pull.register
def _(op: Add, A: XArray, node: Node, state: _Pass) -> None:
    for name in node.inputs:
        state.add(name, A)


@_pull.register
def _(op: Constant, A: XArray, node: Node, state: _Pass) -> None:
    (value,) = state.dual._forms[node.name]
    state.constant = state.constant + state._sum(A * value)


@_pull.register
def _(op: Select, A: XArray, node: Node, state: _Pass) -> None:
    shapes = [state.dual.network.shape(name) for name in node.inputs]
    sizes = [int(np.prod(shape)) for shape in shapes]
    flat = state.xp.reshape(A, (A.shape[0], -1))
    padded = state.xp.concat([flat, state.dual.arrays.zeros((A.shape[0], 1))], axis=1)
    gathered, start = sum(padded[:, gather] for gather in state.dual._forms[node.name]), 0
    for name, shape, size in zip(node.inputs, shapes, sizes, strict=True):
        state.add(name, state.xp.reshape(gathered[:, start : start + size], (A.shape[0], *shape)))
        start += size


@singledispatch
def _push(op: Op, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    """``node``'s output from its inputs."""
    raise NotImplementedError(f"no dual rule for {type(op).__name__}")


@_push.register
def _(op: Dense, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    weight, bias = state.dual._forms[node.name]
    return values[node.inputs[0]] @ weight.T + bias


@_push.register(Affine)
@_push.register(BatchNorm)
def _(op: Affine | BatchNorm, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    scale, shift = state.dual._forms[node.name]
    return values[node.inputs[0]] * scale + shift


@_push.register
def _(op: Add, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    first, second = (values[name] for name in node.inputs)
    return first + second


@_push.register
def _(op: Constant, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    (value,) = state.dual._forms[node.name]
    return state.dual.arrays.zeros((rows, *value.shape)) + value


@_push.register
def _(op: Select, node: Node, values: Mapping[str, XArray], state: _Pass, rows: int) -> XArray:
    flat = state.xp.concat([state.xp.reshape(values[name], (rows, -1)) for name in node.inputs], axis=1)
    return state.xp.reshape(flat[:, op.indices], (rows, *op.shape))


def _flat(parts: list[Array]) -> Array:
    return np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0)
