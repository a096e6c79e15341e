"""The truth about small networks, in fractions: the domain is cut along z = 0 of every ReLU coordinate.

On each cell of the cut every tensor coordinate is one affine form ``c0 + c1 s + c2 t`` of the (at most two) inputs that
vary, so that its extremes lie at corners of the cell. Nothing of the package is used but the parameters of operations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from reluce.domain import Box
from reluce.network import Add, Affine, Constant, Dense, Network, Op, Relu, Select

Form = tuple[Fraction, Fraction, Fraction]
Point = tuple[Fraction, Fraction]
Forms = Mapping[str, Sequence[Form]]

ZERO = Fraction(0)
NOTHING: Form = (ZERO, ZERO, ZERO)


@dataclass(frozen=True)
class Cell:
    """A convex piece of the domain (polygon, segment or point) and the affine form of each tensor coordinate on it."""

    corners: tuple[Point, ...]
    forms: Forms


def at(form: Form, point: Point) -> Fraction:
    return form[0] + form[1] * point[0] + form[2] * point[1]


def plus(first: Form, second: Form) -> Form:
    return (first[0] + second[0], first[1] + second[1], first[2] + second[2])


def times(factor: Fraction, form: Form) -> Form:
    return (factor * form[0], factor * form[1], factor * form[2])


def exactly(values: Any) -> list[Fraction]:
    return [Fraction(value) for value in np.asarray(values).ravel().tolist()]


def whole_domain(box: Box) -> Cell:
    """The domain as one cell; its inputs are the forms ``fixed value``, ``s`` and ``t``."""
    forms, corners, varying = {}, [(ZERO, ZERO)], 0
    for name, low in box.lower.items():
        forms[name] = []
        for lo, hi in zip(low.ravel(), box.upper[name].ravel(), strict=True):
            if lo == hi:
                forms[name].append((lo, ZERO, ZERO))
                continue
            if varying == 0:
                corners = [(lo, ZERO), (hi, ZERO)]
            elif varying == 1:
                (left, _), (right, _) = corners
                corners = [(left, lo), (right, lo), (right, hi), (left, hi)]
            else:
                raise ValueError("the oracle knows at most two varying inputs")
            forms[name].append((ZERO, Fraction(varying == 0), Fraction(varying == 1)))
            varying += 1
    return Cell(tuple(corners), forms)


def clip(corners: Sequence[Point], form: Form) -> tuple[Point, ...]:
    """The part of a convex cell where ``form >= 0`` (Sutherland and Hodgman 1974)."""
    kept: list[Point] = []
    for here, there in zip(corners, (*corners[1:], corners[0]), strict=True):
        a, b = at(form, here), at(form, there)
        if a >= 0:
            kept.append(here)
        if a * b < 0:
            share = a / (a - b)
            kept.append((here[0] + share * (there[0] - here[0]), here[1] + share * (there[1] - here[1])))
    return tuple(dict.fromkeys(kept))


def cut(cell: Cell, form: Form) -> list[Cell]:
    values = [at(form, corner) for corner in cell.corners]
    if not min(values) < 0 < max(values):
        return [cell]
    return [replace(cell, corners=clip(cell.corners, side)) for side in (form, times(Fraction(-1), form))]


def cells(network: Network, start: Sequence[Cell]) -> list[Cell]:
    """Refine cells until every ReLU of the network has one sign on each, and add the forms of all its tensors."""
    found = list(start)
    for node in network.nodes:
        if isinstance(node.op, Relu):
            for index in range(network.tensors[node.inputs[0]].size):
                found = [piece for cell in found for piece in cut(cell, cell.forms[node.inputs[0]][index])]
        found = [
            replace(cell, forms={**cell.forms, node.output: forms(node.op, [cell.forms[i] for i in node.inputs], cell)})
            for cell in found
        ]
    return found


def forms(op: Op, inputs: Sequence[Sequence[Form]], cell: Cell) -> list[Form]:
    """The forms of an operation's output on a cell where its ReLUs do not change sign."""
    match op:
        case Dense():
            width = op.weight.shape[1]
            rows = [inputs[0][start : start + width] for start in range(0, len(inputs[0]), width)]
            return [combined(terms, bias, row) for row in rows for terms, bias in dense_rows(op)]
        case Relu():
            return [form if any(at(form, corner) > 0 for corner in cell.corners) else NOTHING for form in inputs[0]]
        case Add():
            return [plus(first, second) for first, second in zip(*inputs, strict=True)]
        case Select():
            joined = [form for part in inputs for form in part]
            return [joined[index] for index in op.indices.tolist()]
        case Affine():
            scale = [Fraction(1)] * len(inputs[0]) if op.scale is None else exactly(op.scale)
            shift = [ZERO] * len(inputs[0]) if op.shift is None else exactly(op.shift)
            scale = [1 / factor for factor in scale] if op.divide else scale
            return [plus(times(a, x), (c, ZERO, ZERO)) for a, c, x in zip(scale, shift, inputs[0], strict=True)]
        case Constant():
            return [(value, ZERO, ZERO) for value in exactly(op.value)]
    raise NotImplementedError(type(op).__name__)


@lru_cache(maxsize=256)
def dense_rows(op: Dense) -> list[tuple[list[tuple[int, Fraction]], Fraction]]:
    alpha, beta = Fraction(op.alpha), Fraction(op.beta)
    biases = [ZERO] * len(op.weight) if op.bias is None else exactly(op.bias)
    rows = [[(k, alpha * w) for k, w in enumerate(exactly(row)) if w] for row in op.weight]
    return [(terms, beta * bias) for terms, bias in zip(rows, biases, strict=True)]


def combined(terms: Sequence[tuple[int, Fraction]], bias: Fraction, x: Sequence[Form]) -> Form:
    total: Form = (bias, ZERO, ZERO)
    for index, weight in terms:
        total = plus(total, times(weight, x[index]))
    return total


def ranges(network: Network, box: Box) -> dict[str, tuple[list[Fraction], list[Fraction]]]:
    """The exact minimum and maximum over the domain of every coordinate of every tensor (flat)."""
    found = cells(network, [whole_domain(box)])
    result = {}
    for name in found[0].forms:
        reached = [
            [at(form, corner) for cell in found for form in (cell.forms[name][index],) for corner in cell.corners]
            for index in range(len(found[0].forms[name]))
        ]
        result[name] = ([min(values) for values in reached], [max(values) for values in reached])
    return result


def max_difference(first: Network, second: Network, box: Box) -> dict[str, list[Fraction]]:
    """The exact ``max |first - second|`` over the domain of every output coordinate (flat)."""
    outputs = []
    start = whole_domain(box)
    mine = cells(first, [start])
    for cell in mine:
        theirs = cells(second, [replace(cell, forms={name: cell.forms[name] for name in start.forms})])
        outputs += [(cell.forms, other.forms, other.corners) for other in theirs]
    return {
        name: [
            max(abs(at(a[name][i], corner) - at(b[name][i], corner)) for a, b, corners in outputs for corner in corners)
            for i in range(len(mine[0].forms[name]))
        ]
        for name in first.outputs
    }


def forward(network: Network, point: Mapping[str, Any]) -> dict[str, list[Fraction]]:
    """Every tensor at one point (a flat or shaped array of numbers per input), exactly."""
    start = Cell(((ZERO, ZERO),), {name: [(value, ZERO, ZERO) for value in exactly(x)] for name, x in point.items()})
    (cell,) = cells(network, [start])
    return {name: [form[0] for form in values] for name, values in cell.forms.items()}
