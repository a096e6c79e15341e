"""From three files and a domain to a proof, or to the first thing that fails.

read the certificate -> take off the guard -> read both networks -> domain -> facts -> relations -> guarantee
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from reluce_checker._certificate import Certificate, read_certificate
from reluce_checker._compose import composed
from reluce_checker._domain import Domain, demand_box, enclosed, within
from reluce_checker._errors import NotProved, Unreadable, Usage
from reluce_checker._exact import Exact
from reluce_checker._facts import proved_intervals
from reluce_checker._forms import Forms
from reluce_checker._graph import Array, Graph, Relu, objects
from reluce_checker._guard import unguarded
from reluce_checker._intervals import Interval, interval
from reluce_checker._linear import Backward
from reluce_checker._read import read_graph
from reluce_checker._relation import Relations

ROUNDOFF = 16
"""At the level ``roundoff`` an output may move by so many units of roundoff of its own magnitude."""


@dataclass(frozen=True, eq=False)
class Proved:
    """What was proved of two files.

    ``epsilon`` has for each graph output the largest difference of each coordinate, as stated and proved. It is about
    one sample at a time: where the batch axis has a free length, that is 1. ``guard`` names an output of the compressed
    network that is true only for samples in the certificate's domain, in a batch of any length. Of outputs in ``shift``
    it is each coordinate less the one at that place that differs by no more, not the coordinate itself.
    """

    level: str
    budget: Fraction
    epsilon: Mapping[str, Array]
    facts: int
    claims: int
    units: tuple[int, int]
    original: str
    compressed: str
    certificate: str
    producer: str
    guard: str | None = None
    shift: Mapping[str, int] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest epsilon of all outputs."""
        return max((float(np.max(values, initial=0.0)) for values in self.epsilon.values()), default=0.0)


def check(original: bytes, compressed: bytes, certificate: bytes, domain: Callable[[Graph], Domain]) -> Proved:
    """Prove what a certificate claims about two networks on a domain.

    Parameters
    ----------
    original, compressed, certificate
        The bytes of the files.
    domain
        Makes the user's domain for the original network; it has to lie in the certificate's.

    Returns
    -------
    Proved
        Only for a complete proof.

    Raises
    ------
    Unreadable
        When a file cannot be relied upon.
    NotProved
        Naming the first thing that does not follow.
    """
    try:
        return _check(original, compressed, certificate, domain)
    except (Unreadable, NotProved, Usage):
        raise
    except (MemoryError, RecursionError) as error:
        raise NotProved(f"the checker gave up ({type(error).__name__})") from error
    except Exception as error:  # whatever was not foreseen proves nothing
        raise NotProved(f"the files cannot be followed: {type(error).__name__}: {error}") from error


def _check(original: bytes, compressed: bytes, certificate: bytes, domain: Callable[[Graph], Domain]) -> Proved:
    hashes = [hashlib.sha256(data).hexdigest() for data in (original, compressed, certificate)]
    stated = read_certificate(certificate)
    for name, found, said in (("original", hashes[0], stated.original), ("compressed", hashes[1], stated.compressed)):
        if found != said:
            raise NotProved(f"the certificate is about another {name} network: its SHA-256 is {said}, not {found}")
    if stated.guard is not None:
        compressed = unguarded(compressed, stated.guard, stated.domain)
    graph, small = read_graph(original), read_graph(compressed)
    _demand_same_interface(graph, small)
    outer = demand_box(graph, stated.domain)
    inner = demand_box(graph, domain(graph))
    outside = within(inner, outer)
    if outside is not None:
        raise NotProved(f"the domain of input {outside!r} is larger than the one that the certificate is about")
    forms, inputs = Forms(), {name: enclosed(ends) for name, ends in outer.items()}
    intervals = proved_intervals(graph, forms, inputs, stated)
    small = composed(small, {*graph.shapes, *stated.relations})
    backward = Backward(graph, forms, intervals)
    backward.assume(stated.multiples)
    moved = Relations(backward, small, stated.relations, stated.shift).deviation
    _demand_epsilon(graph, stated, {name: moved[name] for name in graph.outputs})
    _demand_level(graph, forms, stated, inner)
    return Proved(
        level=stated.level,
        budget=stated.budget,
        epsilon=stated.epsilon,
        facts=sum(len(facts) for facts in stated.facts.values()),
        claims=sum(len(part.inactive) + len(part.active) for part in stated.stable.values()),
        units=(_units(graph), _units(small)),
        original=hashes[0],
        compressed=hashes[1],
        certificate=hashes[2],
        producer=stated.producer,
        guard=stated.guard,
        shift=stated.shift,
    )


def _demand_same_interface(graph: Graph, small: Graph) -> None:
    for what, mine, theirs in (("inputs", graph.inputs, small.inputs), ("outputs", graph.outputs, small.outputs)):
        if mine != theirs:
            raise NotProved(f"the {what} differ: {list(mine)} and {list(theirs)}")
        for name in mine:
            if graph.shapes[name] != small.shapes[name] or graph.formats[name] != small.formats[name]:
                raise NotProved(f"{name!r} has another shape or number format in the compressed network")


def _units(graph: Graph) -> int:
    """Number of ReLUs, coordinate by coordinate."""
    return sum(graph.size(node.outputs[0]) for node in graph.nodes if isinstance(node.op, Relu))


def _demand_epsilon(graph: Graph, stated: Certificate, found: Mapping[str, Exact]) -> None:
    """Every output moves by no more than the certificate says."""
    if set(stated.epsilon) != set(graph.outputs):
        raise NotProved("the certificate states an epsilon for other outputs than the networks have")
    for name, values in stated.epsilon.items():
        if graph.shapes[name] is None:  # compared as a whole, and found to be the original's
            continue
        if len(values) != len(found[name].mantissa) or (values < 0).any():
            raise NotProved(f"the certificate does not state an epsilon for each coordinate of output {name!r}")
        above = (found[name] - Exact.of(values)).sign > 0
        if above.any():
            k = int(np.flatnonzero(above)[0])
            number = as_float(found[name][k])
            raise NotProved(f"output {name!r}, coordinate {k}: {number:.6g} is proved, {values[k]:.6g} is claimed")


def _demand_level(graph: Graph, forms: Forms, stated: Certificate, inner: Domain) -> None:
    """The stated epsilons are allowed at the stated level."""
    if stated.level == "roundoff" and any(values.any() for values in stated.epsilon.values()):
        magnitude = _magnitudes(graph, forms, stated.points, inner)
    for name, values in stated.epsilon.items():
        if graph.shapes[name] is None or not values.any():
            continue
        if stated.level == "roundoff":
            unit = -53 if graph.formats[name] == "float64" else -24
            allowed = magnitude[name] * Exact(np.array(ROUNDOFF, dtype=object), unit)
        else:
            budget = stated.budget if stated.level == "within" else Fraction(0)
            exponent = 1 - budget.denominator.bit_length()
            allowed = Exact(np.full(len(values), budget.numerator, dtype=object), exponent)
        above = (Exact.of(values) - allowed).sign > 0
        if above.any():
            k = int(np.flatnonzero(above)[0])
            raise NotProved(
                f"output {name!r}, coordinate {k}: {values[k]:.6g} is more than the level {stated.level} allows "
                f"({as_float(allowed[k]):.6g})"
            )


def _magnitudes(graph: Graph, forms: Forms, points: Mapping[str, Array], inner: Domain) -> dict[str, Exact]:
    """Lower bounds of the largest absolute value of each output, from points of the domain."""
    if not points:
        return {name: Exact.zeros((graph.size(name),)) for name in graph.outputs}
    count = {len(values) for values in points.values()}
    if set(points) != set(graph.inputs) or len(count) != 1:
        raise NotProved("the certificate's points are not points of the network's inputs")
    for name, values in points.items():
        low, high = inner[name]
        if values.shape[1] != len(low):
            raise NotProved(f"the certificate's points do not have the size of input {name!r}")
        for row in values:
            exact = objects([Fraction(float(x)) for x in row])
            if (exact < low).any() or (exact > high).any():
                raise NotProved(f"a point of the certificate lies outside of the domain of input {name!r}")
    found = {name: Interval.of(Exact.of(values), Exact.of(values)) for name, values in points.items()}
    for node in graph.nodes:
        for name in node.outputs:
            if graph.shapes[name] is not None and all(source in found for source in node.inputs):
                found[name] = interval(node, [found[source] for source in node.inputs], graph.size(name), forms)
    nothing = Exact.zeros((1,))
    return {name: _largest(found[name], graph.size(name)) if name in found else nothing for name in graph.outputs}


def _largest(x: Interval, size: int) -> Exact:
    """For each coordinate the largest of the absolute values that are certain."""
    certain = x.low.maximum(-x.high).where(x.known).positive
    best = Exact.zeros((size,))
    for k in range(len(x.known)):
        best = best.maximum(certain[k])
    return best


def as_float(value: Exact) -> float:
    """The nearest float64, for messages."""
    try:
        return float(Fraction(int(value.mantissa[()])) * Fraction(2) ** value.exponent)
    except OverflowError:
        return float("inf")
