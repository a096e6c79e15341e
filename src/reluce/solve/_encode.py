"""A network as a mixed-integer linear problem: one rule per op, over columns for the coordinates of its tensors.

Dense and elementwise affine layers are rows ``y - W x = b``; movement of data only renames columns. A ReLU ``h = max(0,
g)`` with ``-mu <= g <= M`` gets a complement ``h'`` and a binary ``z``:

    g = h - h',  0 <= h <= M z,  0 <= h' <= mu (1 - z)

so that z = 1 gives h = g >= 0 and z = 0 gives h = 0, g = -h' <= 0. At g = 0 both are feasible. A ReLU coordinate that
is stable on its interval needs no binary: it is 0, or g itself. What has no such form (an unknown operation, a sigmoid)
is a column that only its interval bounds.

Every point of the domain is a feasible point, with the exact values of its tensors: where float64 does not hold a
parameter, or a solver would drop it for being tiny, the row becomes a band that is wide enough. The converse holds up
to these bands, so a solution is only a hint and its inputs have to be run through the network.

Source: Serra, Kumar, Ramalingam, "Lossless compression of deep neural networks", CPAIOR 2020 (METHODS 1.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from scipy.sparse import coo_array

from reluce.bounds import Interval, affine_form, dense_form
from reluce.network import (
    Activation,
    Add,
    Affine,
    Array,
    BatchNorm,
    Constant,
    Dense,
    Network,
    Node,
    Op,
    Opaque,
    Relu,
    Select,
    Softmax,
)
from reluce.rounding import down, mask_product, nonnegative_product, up
from reluce.solve._problem import Problem

TINY = 1e-9
"""Coefficients up to this size are dropped by solvers (HiGHS: small_matrix_value), so we drop them, and pay for it."""

LARGEST = 1e12
"""Beyond it a big-M is of no use: solvers' tolerances are relative to it, and HiGHS refuses 1e15."""


@dataclass(frozen=True, eq=False)
class Switch:
    """Columns of one ReLU, of its sample shape; -1 where the coordinate is stable and needs none."""

    complement: Array
    binary: Array


@dataclass(frozen=True, eq=False)
class Encoding:
    """A problem, the columns of each tensor (of its sample shape), and the switches of each ReLU (by node name)."""

    problem: Problem
    columns: Mapping[str, Array]
    switches: Mapping[str, Switch]

    def objective(self, columns: Array, weights: Array | float) -> Array:
        """The objective that weights the given columns; what occurs twice adds up."""
        result = np.zeros(len(self.problem.lower))
        np.add.at(result, columns, weights)
        return result

    def inputs(self, point: Array, names: Iterable[str]) -> dict[str, Array]:
        """The graph inputs of a solution, one sample: ``(1, *sample shape)`` each."""
        return {name: point[self.columns[name]][None] for name in names}


def obstacle(network: Network, tensor: str, intervals: Mapping[str, Interval]) -> str:
    """Why a tensor cannot be asked about, or the empty string: all ReLUs in front of it need a big-M, it a bound."""
    behind = network.ancestors([tensor])
    asked = [tensor, *(node.inputs[0] for node in network.relus if node.output in behind)]
    if any(name not in intervals for name in behind):
        return "its shape is not known"
    if all(bool((intervals[name].magnitude <= LARGEST).all()) for name in asked):
        return ""
    return f"a bound in front of it is not finite, or larger than {LARGEST:g}: no big-M for the solver"


def encode(network: Network, tensors: Iterable[str], intervals: Mapping[str, Interval]) -> Encoding:
    """Encode all that some tensors depend on.

    Parameters
    ----------
    network
        The network.
    tensors
        What will be asked about; there must be no ``obstacle`` to any of them.
    intervals
        Enclosures of all tensors in front, the graph inputs among them: they bound the columns and give the big-Ms.

    Returns
    -------
    Encoding
        A relaxation of the network: feasible for every point of the domain.
    """
    wanted = network.ancestors(tensors)
    model = _Model(intervals)
    for name in network.inputs:  # all of them: a witness has a value for each
        model.tensors[name] = model.column(intervals[name])
    for node in network.nodes:
        if not wanted.isdisjoint(node.outputs):
            model.tensors[node.output] = _columns(node.op, node, model)
    return Encoding(model.problem(), model.tensors, model.switches)


class _Model:
    """A problem while it is written (local to ``encode``)."""

    def __init__(self, intervals: Mapping[str, Interval]) -> None:
        self.intervals = intervals
        self.tensors: dict[str, Array] = {}
        self.switches: dict[str, Switch] = {}
        self._lower, self._upper, self._integer, self._row_lower, self._row_upper = ([np.zeros(0)] for _ in range(5))
        self._rows, self._columns, self._values = ([np.zeros(0, kind)] for kind in (np.int64, np.int64, np.float64))
        self._width = self._height = 0

    def column(self, bounds: Interval, integer: bool = False) -> Array:
        """New columns with the given bounds, of their shape."""
        size = bounds.lower.size
        self._lower.append(bounds.lower.ravel())
        self._upper.append(bounds.upper.ravel())
        self._integer.append(np.full(size, integer))
        self._width += size
        return np.arange(self._width - size, self._width, dtype=np.int64).reshape(bounds.lower.shape)

    def row(self, lower: Array, upper: Array, *terms: tuple[Array, Array | float]) -> None:
        """New rows, one for each end: ``lower <= sum of coefficients * columns <= upper``.

        Columns and coefficients of a term are ``(rows,)`` or ``(rows, any number)``.
        """
        rows = np.arange(self._height, self._height + len(lower))
        self._height += len(lower)
        self._row_lower.append(lower)
        self._row_upper.append(upper)
        for columns, coefficients in terms:
            self._rows.append(np.broadcast_to(rows if columns.ndim == 1 else rows[:, None], columns.shape).ravel())
            self._columns.append(columns.ravel())
            self._values.append(np.broadcast_to(coefficients, columns.shape).ravel())

    def band(self, centre: Array, radius: Array, *terms: tuple[Array, Array | float]) -> None:
        """Rows that equal ``centre`` up to ``radius``."""
        lower, upper = (np.where(radius == 0, centre, end) for end in (down(centre - radius), up(centre + radius)))
        self.row(lower, upper, *terms)

    def problem(self) -> Problem:
        """All columns and rows; entries at the same place add up."""
        places = np.concatenate(self._rows), np.concatenate(self._columns)
        matrix = coo_array((np.concatenate(self._values), places), shape=(self._height, self._width)).tocsr()
        matrix.eliminate_zeros()
        row_lower, row_upper = np.concatenate(self._row_lower), np.concatenate(self._row_upper)
        lower, upper = np.concatenate(self._lower), np.concatenate(self._upper)
        return Problem(matrix, row_lower, row_upper, lower, upper, np.concatenate(self._integer) == 1)


@singledispatch
def _columns(op: Op, node: Node, model: _Model) -> Array:
    """The columns of one operation's output, with the rows that tie them to those of its inputs."""
    raise NotImplementedError(f"no encoding for {type(op).__name__}")


@_columns.register
def _(op: Dense, node: Node, model: _Model) -> Array:
    form, y = dense_form(op), model.column(model.intervals[node.output])
    kept = np.where(np.abs(form.weight) > TINY, form.weight, 0.0)
    spread = np.abs(form.weight - kept) + (0.0 if form.weight_radius is None else form.weight_radius)
    off = 2 * nonnegative_product(model.intervals[node.inputs[0]].magnitude, spread)
    off = off + (0.0 if form.bias_radius is None else form.bias_radius)
    x = model.tensors[node.inputs[0]].reshape(-1, kept.shape[1])
    for read, written, radius in zip(x, y.reshape(-1, len(kept)), off.reshape(-1, len(kept)), strict=True):
        model.band(form.bias, radius, (written, 1.0), (np.broadcast_to(read, kept.shape), -kept))
    return y


@_columns.register(Affine)
@_columns.register(BatchNorm)
def _(op: Affine | BatchNorm, node: Node, model: _Model) -> Array:
    x, known = model.tensors[node.inputs[0]], model.intervals[node.inputs[0]]
    form, y = affine_form(op, x.shape), model.column(model.intervals[node.output])
    kept = np.where(np.abs(form.scale) > TINY, form.scale, 0.0)
    off = 2 * mask_product(np.abs(form.scale - kept) + form.scale_radius, known.magnitude) + form.shift_radius
    model.band(form.shift.ravel(), off.ravel(), (y.ravel(), 1.0), (x.ravel(), -kept.ravel()))
    return y


@_columns.register
def _(op: Relu, node: Node, model: _Model) -> Array:
    known, g = model.intervals[node.inputs[0]], model.tensors[node.inputs[0]]
    dead, free = known.upper <= 0, (known.upper > 0) & (known.lower < 0)
    h, complement, binary = g.copy(), np.full(g.shape, -1), np.full(g.shape, -1)
    nothing = np.zeros(int(dead.sum()))
    h[dead] = model.column(Interval(nothing, nothing))
    M, mu = known.upper[free], -known.lower[free]
    zero, one = np.zeros_like(M), np.ones_like(M)
    h[free] = model.column(Interval(zero, M))
    complement[free] = model.column(Interval(zero, mu))
    binary[free] = model.column(Interval(zero, one), integer=True)
    model.row(zero, zero, (g[free], 1.0), (h[free], -1.0), (complement[free], 1.0))
    model.row(-np.inf * one, zero, (h[free], 1.0), (binary[free], -M))
    model.row(-np.inf * one, mu, (complement[free], 1.0), (binary[free], mu))
    model.switches[node.name] = Switch(complement, binary)
    return h


@_columns.register
def _(op: Add, node: Node, model: _Model) -> Array:
    y, zero = model.column(model.intervals[node.output]), np.zeros(model.intervals[node.output].lower.size)
    first, second = (model.tensors[name].ravel() for name in node.inputs)
    model.row(zero, zero, (y.ravel(), 1.0), (first, -1.0), (second, -1.0))
    return y


@_columns.register
def _(op: Select, node: Node, model: _Model) -> Array:
    joined = np.concatenate([model.tensors[name].ravel() for name in node.inputs])
    return joined[op.indices].reshape(op.shape)


@_columns.register(Constant)
@_columns.register(Activation)
@_columns.register(Softmax)
@_columns.register(Opaque)
def _(op: Op, node: Node, model: _Model) -> Array:
    for name in node.outputs:
        model.tensors[name] = model.column(model.intervals[name])
    return model.tensors[node.output]
