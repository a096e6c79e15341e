"""Bounds of every tensor of the original network, from intervals and from what the certificate adds to them.

Tensors are bounded in the order of the nodes. Where a pre-activation has facts, each is evaluated with its multipliers
and the bounds proved so far; what comes out is its bound, whatever the certificate's author thought it would be. Then
the claims about signs are compared with what is proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from reluce_checker._boxes import closes
from reluce_checker._certificate import BELOW, Boxes, Certificate, Fact, Linear, Split, Stable
from reluce_checker._errors import NotProved
from reluce_checker._exact import Exact, joined
from reluce_checker._forms import Forms
from reluce_checker._graph import Array, Graph, Node, Relu, objects
from reluce_checker._intervals import Interval, interval
from reluce_checker._linear import CHUNK, SLOPE_BITS, Backward, Slopes

MOST_CELLS = 1_000_000_000
"""Signs of splits that are looked at, a leaf once for every split above it."""


def proved_intervals(
    graph: Graph, forms: Forms, inputs: Mapping[str, Interval], certificate: Certificate
) -> Mapping[str, Interval]:
    """Intervals of all tensors of known shape on the domain, ``(1, size)`` each.

    Raises
    ------
    NotProved
        Naming the first claim about a sign that does not follow.
    """
    demand_places(graph, certificate)
    found = _Intervals(graph, forms, inputs, certificate)
    for name in certificate.stable:
        found[name]
    return found


class _Intervals(Mapping[str, Interval]):
    """Intervals in the order of the nodes, as far as they are asked for: most networks need few of them."""

    def __init__(self, graph: Graph, forms: Forms, inputs: Mapping[str, Interval], certificate: Certificate) -> None:
        self._graph, self._forms, self._inputs, self._certificate = graph, forms, inputs, certificate
        self._found: dict[str, Interval] = {}
        self._backward = Backward(graph, forms, self)
        known: list[tuple[str, Node | None]] = [(name, None) for name in graph.inputs]
        written = [(name, node) for node in graph.nodes for name in node.outputs if graph.shapes[name] is not None]
        self._left = iter([*known, *written])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._graph.shapes.get(name) is not None

    def __getitem__(self, name: str) -> Interval:
        if name not in self:
            raise KeyError(name)
        while name not in self._found:
            self._advance()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._graph.shapes if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _advance(self) -> None:
        """Bound the next tensor: by its node, then by its facts; then look whether its claims hold."""
        name, node = next(self._left)
        if node is None:
            self._found[name] = self._inputs[name]
        elif all(source in self._found for source in node.inputs):
            known = [self._found[source] for source in node.inputs]
            self._found[name] = interval(node, known, self._graph.size(name), self._forms)
        else:
            self._found[name] = Interval.unknown(1, self._graph.size(name))
        for fact in self._certificate.facts.get(name, ()):
            self._found[name] = _tightened(self._found[name], fact, self._backward, self._certificate)
        if name in self._certificate.stable:
            _demand_signs(name, self._found[name], self._certificate.stable[name])


def demand_places(graph: Graph, certificate: Certificate) -> None:
    """Whether every fact and claim is about a tensor that is there, and coordinates that it has."""
    places = [(name, rows) for name, part in certificate.stable.items() for rows in (part.inactive, part.active)]
    for facts in certificate.facts.values():
        places += [(fact.tensor, fact.rows) for fact in facts]
    for name, rows in places:
        if graph.shapes.get(name) is None or (rows >= graph.size(name)).any():
            raise NotProved(f"the certificate speaks of coordinates of {name!r} that the original does not have")
    relus = pre_activations(graph)
    for name, (above, below) in certificate.slopes.items():
        if name not in relus or not len(above) == len(below) == graph.size(name):
            raise NotProved(f"the slopes of {name!r} do not belong to a pre-activation of that size")


def pre_activations(graph: Graph) -> set[str]:
    """The tensors that ReLUs read."""
    return {
        node.inputs[0] for node in graph.nodes if isinstance(node.op, Relu) and graph.shapes[node.inputs[0]] is not None
    }


def _demand_signs(name: str, x: Interval, claims: Stable) -> None:
    """Whether what is claimed of the signs of a tensor's coordinates holds."""
    for rows, holds, what in (
        (claims.inactive, x.inactive, "inactive, but a positive value is not excluded"),
        (claims.active, x.active, "active, but a negative value is not excluded"),
    ):
        wrong = rows[~holds[0, rows]]
        if wrong.size:
            raise NotProved(f"unit {wrong[0]} of {name!r} is claimed to be {what}", name, tuple(int(k) for k in wrong))


def _tightened(x: Interval, fact: Fact, backward: Backward, certificate: Certificate) -> Interval:
    """The interval with what a fact proves."""
    match fact:
        case Linear(tensor, sign, rows, below):
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                upper, unbounded = backward.upper(
                    backward.unit_rows(tensor, part, sign), default_slopes(certificate, below)
                )
                x = _met(x, part[~unbounded], sign, upper[~unbounded])
            return x
        case Split(sign=sign):
            rows, upper = split_bounds(fact, backward, certificate)
            return _met(x, rows, sign, upper)
        case Boxes():
            proved = closes(fact, backward)
            for sign in (1, -1):
                rows = fact.rows[proved & (fact.signs == sign)]
                x = _met(x, rows, sign, Exact.zeros((len(rows),)))
            return x


def default_slopes(certificate: Certificate, below: str) -> dict[str, Slopes]:
    """The slopes of all pre-activations that the certificate has some for."""
    constant = {BELOW[1]: 0, BELOW[2]: 1 << SLOPE_BITS}.get(below)
    return {
        name: Slopes(above, lower if constant is None else np.full_like(lower, constant))
        for name, (above, lower) in certificate.slopes.items()
    }


def split_bounds(fact: Split, backward: Backward, certificate: Certificate) -> tuple[Array, Exact]:
    """The coordinates for which every leaf has a bound, and the largest of these.

    Raises
    ------
    NotProved
        When leaves do not cover the domain, or are about other tensors.
    """
    known = pre_activations(backward.graph)
    ends = np.cumsum([0, *(backward.graph.size(name) if name in known else 0 for name in fact.over)])
    fits = known.issuperset(fact.over) and len(set(fact.over)) == len(fact.over)
    if not fits or not len(fact.rows) or ends[-1] != fact.split.shape[1]:
        raise NotProved(f"the splits for {fact.tensor!r} are not about the coordinates of pre-activations")
    order = np.argsort(fact.rows, kind="stable")
    rows, first = np.unique(fact.rows[order], return_index=True)
    leaves = np.split(order, first[1:])
    for row, mine in zip(rows, leaves, strict=True):
        if not covers(fact.split[mine]):
            raise NotProved(f"the splits for unit {row} of {fact.tensor!r} do not cover the domain")
    beta = np.zeros(fact.split.shape)
    beta[np.nonzero(fact.split)] = fact.beta
    slopes, bounds, unbounded = (
        default_slopes(certificate, "table"),
        [Exact.zeros((0,))],
        np.zeros(len(order), dtype=bool),
    )
    for start in range(0, len(order), CHUNK):
        part = slice(start, start + CHUNK)
        for name, low, high in zip(fact.over, ends[:-1], ends[1:], strict=True):
            columns = slice(low, high)
            signs, below = fact.split[part, columns], fact.below[fact.which[part], columns]
            slopes[name] = Slopes(fact.above[columns], below, signs, Exact.of(beta[part, columns]))
        upper, unbounded[part] = backward.upper(backward.unit_rows(fact.tensor, fact.rows[part], fact.sign), slopes)
        bounds.append(upper)
    whole = joined(bounds)
    bounded = np.array([not unbounded[mine].any() for mine in leaves], dtype=bool)
    largest = [max(whole.mantissa[mine]) for mine in leaves]
    return rows[bounded], Exact(objects(largest), whole.exponent)[bounded]


def covers(split: Array) -> bool:
    """Whether every choice of signs agrees with some leaf; ``split`` is ``(leaves, columns)``.

    A leaf without splits agrees with all. Otherwise a column that all leaves split on must do: both of its signs have
    to be covered by the leaves that have them. The leaves of a binary tree always have such a column, its root's.
    """
    waiting, cells = [(np.arange(len(split)), np.zeros(0, dtype=np.int64))], 0
    while waiting:
        leaves, done = waiting.pop()
        signs = split[leaves].copy()
        cells += signs.size
        if cells > MOST_CELLS:
            raise NotProved("a tree of splits is too deep to be followed")
        signs[:, done] = 0
        if not len(leaves):
            return False
        if not signs.any(axis=1).all():
            continue
        common = np.flatnonzero((signs != 0).all(axis=0))
        if not common.size:
            return False
        column = common[0]
        waiting += [(leaves[signs[:, column] == sign], np.append(done, column)) for sign in (1, -1)]
    return True


def _met(x: Interval, rows: Array, sign: int, upper: Exact) -> Interval:
    """The interval with ``sign * T[row] <= upper`` for some rows; what is unknown stays so."""
    known = x.known[0, rows]
    place, upper = (0, rows[known]), upper[known]
    if sign > 0:
        return Interval(x.low, x.high.replaced(place, upper.minimum(x.high[place])), x.known)
    return Interval(x.low.replaced(place, (-upper).maximum(x.low[place])), x.high, x.known)
