"""Linear functionals of a network's tensors, carried backward: the rule by which every bound here is proved.

A functional ``f(x) = sum_T A_T . T(x) + c`` keeps its value, or grows, when a tensor is replaced by its definition:

* ``T = W h + b``:  ``A_h = A W``,  ``c += A b``
* ``T = relu(z)``:  0 where ``z <= 0``, z where ``z >= 0``; else, where ``l <= z <= u``, and for any s, a in [0, 1],
  ``relu(z) <= s z + max(-s l, (1 - s) u)`` (convexity) for A > 0 and ``relu(z) >= a z`` for A < 0
* what is left: ``c += max(A lo, A hi)``

Where ``|z_j - c z_i| <= e`` is proved, ReLU being 1-Lipschitz and ``relu(c z) = |c| relu(z) + min(c, 0) z``:

* ``relu(z_j)`` is ``|c| relu(z_i) + min(c, 0) z_i``, but for e

On the part of the domain where ``sign * z >= 0`` holds by a split, ``beta * sign * z`` with ``beta >= 0`` may be added.
Multipliers need not be good, only in range. Source: Singh et al., "An abstract domain for certifying neural networks",
POPL 2019; Wang et al., "Beta-CROWN", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reluce_checker._certificate import Multiples
from reluce_checker._errors import NotProved
from reluce_checker._exact import Exact, joined
from reluce_checker._forms import Forms
from reluce_checker._graph import Add, Array, BatchNorm, Constant, Dense, Graph, Node, Relu, Scale, Select
from reluce_checker._intervals import Interval

SLOPE_BITS = 12
"""Slopes are integer multiples of ``2**-SLOPE_BITS``."""

CHUNK = 256
"""Rows of one backward pass: bounds the memory."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """Multipliers of one ReLU: for each coordinate of its pre-activation (or each row and coordinate).

    ``above`` and ``below`` are slopes s and a in units of ``2**-SLOPE_BITS``. ``split`` has 1 or -1 where a split says
    ``z >= 0`` or ``z <= 0``, with ``beta`` >= 0; None where there are none.
    """

    above: Array
    below: Array
    split: Array | None = None
    beta: Exact | None = None


@dataclass
class Functional:
    """Some rows of coefficients per tensor, ``(rows, size)``, a constant per row, and what enclosures may cost."""

    coefficients: dict[str, Exact]
    constant: Exact
    slack: Exact
    unbounded: Array = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        if not self.unbounded.size:
            self.unbounded = np.zeros(self.constant.shape, dtype=bool)

    def add(self, tensor: str, coefficients: Exact) -> None:
        """Add coefficients of a tensor."""
        present = self.coefficients.get(tensor)
        self.coefficients[tensor] = coefficients if present is None else present + coefficients


class Backward:
    """Carries functionals backward through one network.

    Parameters
    ----------
    graph, forms
        The network.
    intervals
        Proved intervals of its tensors on the domain, ``(1, size)``.
    """

    def __init__(self, graph: Graph, forms: Forms, intervals: Mapping[str, Interval]) -> None:
        self.graph, self.forms, self.intervals = graph, forms, intervals
        self._multiples: dict[str, tuple[Multiples, Exact]] = {}

    def assume(self, claims: Mapping[str, Multiples]) -> None:
        """Prove that pre-activations are nearly multiples of others, and use it in ``largest`` from now on."""
        for name in [output for node in self.graph.nodes for output in node.outputs if output in claims]:
            claim, size = claims[name], self.graph.size(name)
            if name not in self.intervals or (claim.unit >= size).any() or (claim.to >= size).any():
                raise NotProved(f"multiples of coordinates of {name!r} that the original does not have")
            errors = [Exact.zeros((0,))]
            for start in range(0, len(claim.unit), CHUNK):
                part = slice(start, start + CHUNK)
                differences = _differences(claim.unit[part], claim.to[part], claim.factor[part], size)
                zeros = Exact.zeros((differences.shape[0],))
                error, unbounded = self.largest(Functional({name: differences}, zeros, zeros))
                if unbounded.any():
                    raise NotProved(f"{name!r} has multiples that are none: their difference is unbounded")
                errors.append(error)
            self._multiples[name] = claim, joined(errors)
        if set(claims) - set(self._multiples):
            raise NotProved("multiples of a tensor that the original does not compute")

    def unit_rows(self, tensor: str, rows: Array, sign: int) -> Functional:
        """``sign * T[row]`` for each row (a flat coordinate), already carried through a dense layer."""
        node, count = self.graph.producer.get(tensor), len(rows)
        constant = Exact.zeros((count,))
        if node is None or not isinstance(node.op, Dense):
            one_hot = np.full((count, self.graph.size(tensor)), 0, dtype=object)
            one_hot[np.arange(count), rows] = sign
            return Functional({tensor: Exact(one_hot, 0)}, constant, constant)
        form, source = self.forms.dense(node.op), node.inputs[0]
        position, unit = np.divmod(rows, form.outputs)
        signs = Exact(np.array(sign, dtype=object), 0)
        weight = form.weight(unit) * signs
        spread = np.full((count, self.graph.size(source) // form.inputs, form.inputs), 0, dtype=object)
        spread[np.arange(count), position] = weight.mantissa
        found = Exact(spread.reshape(count, self.graph.size(source)), weight.exponent)
        return Functional({source: found}, form.bias[unit] * signs, constant)

    def upper(self, functional: Functional, slopes: Mapping[str, Slopes]) -> tuple[Exact, Array]:
        """Upper bounds of all rows with the given multipliers (by pre-activation), and which rows have none."""
        for node in reversed(self.graph.nodes):
            if len(functional.unbounded) and len(node.outputs) == 1 and node.outputs[0] in functional.coefficients:
                if isinstance(node.op, Relu) and node.inputs[0] in slopes:
                    self._relax(functional, node, slopes[node.inputs[0]])
                else:
                    self.substitute(functional, node)
        return self.concrete(functional)

    def largest(self, functional: Functional) -> tuple[Exact, Array]:
        """The largest absolute value of each row, and which rows are unbounded.

        Only what is linear on the domain is carried backward: what stably active units carry, never a relaxation. The
        bound is the best of those on the way.
        """
        best, unbounded = self._size(functional)
        for node in reversed(self.graph.nodes):
            if len(node.outputs) != 1 or node.outputs[0] not in functional.coefficients:
                continue
            changed = self._through_stable if isinstance(node.op, Relu) else self.substitute
            if changed(functional, node):
                size, none = self._size(functional)
                both = best.minimum(size)
                low = both.exponent
                mantissa = np.where(none, best.at(low), np.where(unbounded, size.at(low), both.mantissa))
                best, unbounded = Exact(mantissa, low), unbounded & none
        return best, unbounded

    def _fits(self, name: str, A: Exact) -> None:
        """Coefficients are never broadcast: there is one for each coordinate."""
        if A.shape[1] != self.graph.size(name):
            raise NotProved(f"{A.shape[1]} coefficients for the {self.graph.size(name)} coordinates of {name!r}")

    def _size(self, functional: Functional) -> tuple[Exact, Array]:
        """The largest absolute value of each row over the intervals of its tensors: of the middle, and a radius."""
        twice, radius = functional.constant + functional.constant, functional.slack + functional.slack
        unbounded = functional.unbounded.copy()
        for name, A in functional.coefficients.items():
            self._fits(name, A)
            used = np.flatnonzero(A.sign.any(axis=0))
            x, A = self.intervals[name], A[:, used]
            low, high, known = x.low[:, used], x.high[:, used], x.known[:, used]
            if not known.all():
                unbounded |= ((A.sign != 0) & ~known).any(axis=1)
                low, high = low.where(known), high.where(known)
            twice = twice + (A * (low + high)).sum(1)
            radius = radius + (abs(A) * (high - low)).sum(1)
        return (abs(twice) + radius) * Exact(np.array(1, dtype=object), -1), unbounded

    def _through_stable(self, functional: Functional, node: Node) -> bool:
        """Replace stably active units by their pre-activations, inactive ones by 0, and multiples by what they are of.

        Says whether that is worth a look already: what has become a pre-activation is bounded one layer further down.
        """
        (source,), (output,) = node.inputs, node.outputs
        if source not in self.intervals:
            return False
        z, A = self.intervals[source], functional.coefficients[output]
        self._fits(output, A)
        if source in self._multiples:
            A = self._by_multiples(functional, source, A)
        rest = A.where(~(z.active | z.inactive))
        moved = A.where(z.active & ~z.inactive)
        functional.coefficients[output] = rest
        if not rest.sign.any():
            del functional.coefficients[output]
        if moved.sign.any():
            functional.add(source, moved)
        return source in self._multiples

    def _by_multiples(self, functional: Functional, source: str, A: Exact) -> Exact:
        """Coefficients of a ReLU's output with unstable units expressed by those that they are multiples of."""
        z, (claim, error) = self.intervals[source], self._multiples[source]
        free = ~(z.active | z.inactive)[0, claim.unit] & A[:, claim.unit].sign.any(axis=0)
        if not free.any():
            return A
        unit, to, factor = claim.unit[free], claim.to[free], Exact.of(claim.factor[free])
        moved = A[:, unit]
        functional.slack = functional.slack + (abs(moved) * error[free]).sum(1)
        size = A.shape[1]
        A = A.replaced((slice(None), unit), Exact.zeros(moved.shape))
        if factor.negative.sign.any():
            functional.add(source, _gathered(moved * factor.negative, to, size))
        return A + _gathered(moved * abs(factor), to, size)

    def concrete(self, functional: Functional) -> tuple[Exact, Array]:
        """The largest value of each row over the intervals of its tensors, and which rows are unbounded."""
        total, unbounded = functional.constant + functional.slack, functional.unbounded.copy()
        for name, A in functional.coefficients.items():
            self._fits(name, A)
            x = self.intervals[name]
            if not x.known.all():
                unbounded |= ((A.sign != 0) & ~x.known).any(axis=1)
            total = total + (A.positive * x.high + A.negative * x.low).where(x.known).sum(1)
        return total, unbounded

    def substitute(self, functional: Functional, node: Node) -> bool:
        """Replace a node's output by its definition where that is affine; says whether anything was replaced."""
        output = node.outputs[0]
        A = functional.coefficients.get(output)
        if A is None or any(name not in self.intervals for name in node.inputs):
            return False
        self._fits(output, A)
        match node.op:
            case Dense():
                form = self.forms.dense(node.op)
                rows, positions = A.shape[0], A.shape[1] // form.outputs
                shaped = A.reshape(rows * positions, form.outputs)
                bias = (shaped * form.bias).reshape(rows, -1).sum(1)
                functional.constant = functional.constant + bias
                functional.add(node.inputs[0], form.pulled(shaped).reshape(rows, positions * form.inputs))
            case Scale() | BatchNorm():
                scale, x = self.forms.scale(node.op, A.shape[1]), self.intervals[node.inputs[0]]
                enclosed = scale.factor_radius.sign != 0
                if (enclosed & ~x.known & (A.sign != 0)).any():
                    return False
                radius = x.magnitude.where(x.known) * scale.factor_radius + scale.shift_radius
                functional.slack = functional.slack + (abs(A) * radius).sum(1)
                functional.constant = functional.constant + (A * scale.shift).sum(1)
                functional.add(node.inputs[0], A * scale.factor)
            case Add():
                for name in node.inputs:
                    functional.add(name, A)
            case Select(indices):
                self._scatter(functional, node.inputs, indices, A)
            case Constant(value):
                functional.constant = functional.constant + (A * Exact.of(value.reshape(-1))).sum(1)
            case _:
                return False
        del functional.coefficients[output]
        return True

    def _scatter(self, functional: Functional, inputs: tuple[str, ...], indices: Array, A: Exact) -> None:
        sizes = [self.graph.size(name) for name in inputs]
        gathered = np.full((sum(sizes), A.shape[0]), 0, dtype=object)
        np.add.at(gathered, indices, A.mantissa.T)
        parts = np.split(gathered, np.cumsum(sizes)[:-1])
        for name, part in zip(inputs, parts, strict=True):
            functional.add(name, Exact(np.ascontiguousarray(part.T), A.exponent))

    def _relax(self, functional: Functional, node: Node, slopes: Slopes) -> None:
        z = self.intervals[node.inputs[0]]
        A = functional.coefficients.pop(node.outputs[0])
        self._fits(node.outputs[0], A)
        one = 1 << SLOPE_BITS
        above = np.where(z.active, one, np.where(z.inactive, 0, slopes.above))
        below = np.where(z.active, one, np.where(z.inactive, 0, slopes.below))
        free = ~(z.active | z.inactive) & np.ones(A.shape, dtype=bool)
        if slopes.split is not None:
            above = np.where(slopes.split > 0, one, np.where(slopes.split < 0, 0, above))
            below = np.where(slopes.split > 0, one, np.where(slopes.split < 0, 0, below))
            free &= slopes.split == 0
        above, below = above.astype(object), below.astype(object)
        P, N = A.positive, A.negative
        needed = free & (P.sign != 0)
        if not z.known.all():
            functional.unbounded |= (needed & ~z.known).any(axis=1)
        offset = Exact(-above, -SLOPE_BITS) * z.low
        offset = offset.maximum(Exact(one - above, -SLOPE_BITS) * z.high)
        functional.constant = functional.constant + (P * offset).where(needed).sum(1)
        functional.add(node.inputs[0], P * Exact(above, -SLOPE_BITS) + N * Exact(below, -SLOPE_BITS))
        if slopes.split is not None and slopes.beta is not None:
            functional.add(node.inputs[0], slopes.beta * Exact(slopes.split.astype(object), 0))


def _differences(unit: Array, to: Array, factor: Array, size: int) -> Exact:
    """Functionals ``z[unit] - factor z[to]``, a row for each."""
    one_hot, rows = np.full((len(unit), size), 0, dtype=object), np.arange(len(unit))
    one_hot[rows, unit] = 1
    scaled, factors = np.full(one_hot.shape, 0, dtype=object), Exact.of(factor)
    scaled[rows, to] = factors.mantissa
    return Exact(one_hot, 0) - Exact(scaled, factors.exponent)


def _gathered(A: Exact, places: Array, size: int) -> Exact:
    """Columns added up at the given places among ``size``."""
    found = np.full((size, A.shape[0]), 0, dtype=object)
    np.add.at(found, places, A.mantissa.T)
    return Exact(np.ascontiguousarray(found.T), A.exponent)
