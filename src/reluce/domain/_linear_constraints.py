"""The box around a Boolean combination of linear constraints, by feasibility-based bound tightening.

A formula over variables ``x`` is a conjunction of ends ``l_i <= x_i <= u_i``, of linear constraints
``c <= sum_i a_i x_i <= d`` and of disjunctions of such formulas. Over the box ``[l, u]``

    a_i x_i <= d - sum_{j != i} min(a_j l_j, a_j u_j)      and      a_i x_i >= c - sum_{j != i} max(a_j l_j, a_j u_j),

which tightens the ends of ``x_i``; a disjunction lets through the box around the boxes of its branches, each tightened
within the box so far, and a branch that becomes empty drops out. No step loses a point of the formula, so the result
contains all of them however early it stops. All numbers are fractions; ``None`` is an infinite end.

Source: Belotti, Cafieri, Lee, Liberti, *On feasibility based bounds tightening*, 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

End = Fraction | None
Interval = tuple[End, End]
Ends = dict[int, Interval]

UNBOUNDED: Interval = (None, None)
ROUNDS = 10
"""Tightening can go on for ever, by less each time; it stops after so many rounds."""
PRECISION = 1024
"""Tightened ends whose denominator has more bits are rounded outward, or their digits would add up."""


class NoPoint(Exception):
    """No point satisfies the formula; ``variable`` is the one whose ends crossed, if it was a single one."""

    def __init__(self, variable: int | None = None, ends: Interval = UNBOUNDED) -> None:
        super().__init__()
        self.variable = variable
        self.ends = ends


@dataclass(frozen=True)
class Linear:
    """``lower <= sum_i a_i x_i <= upper``; ``terms`` are the pairs ``(i, a_i)``, none of them zero."""

    terms: tuple[tuple[int, Fraction], ...]
    lower: End
    upper: End


@dataclass(frozen=True)
class Conjunction:
    """All of these hold: ends of single variables (each variable once), linear constraints, disjunctions."""

    ends: tuple[tuple[int, Interval], ...] = ()
    sums: tuple[Linear, ...] = ()
    choices: tuple[Disjunction, ...] = ()

    def variables(self) -> Iterable[int]:
        """The variables that it bounds, some of them repeatedly."""
        yield from (i for i, _ in self.ends)
        yield from (i for linear in self.sums for i, _ in linear.terms)
        yield from (i for choice in self.choices for i in choice.variables)


@dataclass(frozen=True)
class Disjunction:
    """One of the branches holds; ``variables`` are those of all branches."""

    branches: tuple[Conjunction, ...]
    variables: frozenset[int]


FREE = Conjunction()
"""Says nothing."""


def bounded(terms: dict[int, Fraction], lower: End, upper: End) -> Conjunction:
    """The constraint ``lower <= sum_i terms[i] x_i <= upper``."""
    kept = tuple((i, a) for i, a in sorted(terms.items()) if a)
    if len(kept) != 1:
        return Conjunction(sums=(Linear(kept, lower, upper),))
    ((i, a),) = kept
    if a != 1:  # mostly it is, and dividing takes time
        lower, upper = (None if end is None else end / a for end in (lower, upper))
    return Conjunction(ends=((i, (lower, upper) if a > 0 else (upper, lower)),))


def conjunction(parts: Sequence[Conjunction]) -> Conjunction:
    """All parts hold."""
    if len(parts) == 1:
        return parts[0]
    ends: Ends = {}
    for part in parts:
        for i, interval in part.ends:
            ends[i] = _meet(ends.get(i, UNBOUNDED), interval)
    return Conjunction(
        tuple(sorted(ends.items(), key=lambda item: item[0])),
        tuple(linear for part in parts for linear in part.sums),
        tuple(choice for part in parts for choice in part.choices),
    )


def disjunction(parts: Sequence[Conjunction]) -> Conjunction:
    """One of the parts holds; equal ones count once."""
    branches: dict[Conjunction, None] = {}
    for part in parts:
        if part == FREE:
            return FREE
        nested = not part.ends and not part.sums and len(part.choices) == 1
        branches.update(dict.fromkeys(part.choices[0].branches if nested else [part]))
    if len(branches) == 1:
        return next(iter(branches))
    variables = frozenset(i for branch in branches for i in branch.variables())
    return Conjunction(choices=(Disjunction(tuple(branches), variables),))


def enclose(formula: Conjunction, variables: Iterable[int]) -> Ends:
    """A box that contains all points of the formula.

    Parameters
    ----------
    formula
        The formula.
    variables
        All variables, whether the formula bounds them or not.

    Returns
    -------
    dict
        For each variable its ends, ``None`` where it is unbounded.

    Raises
    ------
    NoPoint
        When the formula is found to have no points.
    """
    box = dict.fromkeys(variables, UNBOUNDED)
    for _ in range(ROUNDS):
        if not _tighten(formula, box):
            break
    return box


def _tighten(formula: Conjunction, box: Ends) -> bool:
    """Tighten the box in place, within a branch once; whether anything changed."""
    changed = False
    for i, interval in formula.ends:
        changed |= _narrow(box, i, interval)
    for _ in range(ROUNDS):
        moved = [_propagate(linear, box) for linear in formula.sums]
        if not any(moved):
            break
        changed = True
    for choice in formula.choices:
        hull = _hull(choice, box)
        moved = [_narrow(box, i, interval) for i, interval in hull.items()]
        changed |= any(moved)
    return changed


def _hull(choice: Disjunction, box: Ends) -> Ends:
    """The ends that hold in every branch; a variable that some branch does not bound keeps those of the box."""
    hull: Ends | None = None
    for branch in choice.branches:
        inner = {i: box[i] for i in branch.variables()}
        try:
            _tighten(branch, inner)
        except NoPoint:
            continue
        hull = inner if hull is None else {i: _join(hull[i], inner[i]) for i in hull if i in inner}
    if hull is None:
        raise NoPoint
    return hull


def _propagate(linear: Linear, box: Ends) -> bool:
    """Tighten the ends of the variables of one linear constraint; whether any changed."""
    products = []
    for i, a in linear.terms:
        low, high = (None if end is None else a * end for end in box[i])
        products.append((low, high) if a > 0 else (high, low))
    least, most = (_Total([product[side] for product in products]) for side in (0, 1))
    _demand(least.value, most.value, linear)
    changed = False
    for (i, a), (low, high) in zip(linear.terms, products, strict=True):
        rest_low, rest_high = least.without(low), most.without(high)
        above = None if linear.upper is None or rest_low is None else (linear.upper - rest_low) / a
        below = None if linear.lower is None or rest_high is None else (linear.lower - rest_high) / a
        first, last = (below, above) if a > 0 else (above, below)
        changed |= _narrow(box, i, (_coarse(first, -1), _coarse(last, 1)))
    return changed


def _demand(least: End, most: End, linear: Linear) -> None:
    above = linear.upper is not None and least is not None and least > linear.upper
    below = linear.lower is not None and most is not None and most < linear.lower
    if above or below:
        raise NoPoint


class _Total:
    """A sum in which some terms may be infinite, and the same sum without one of its terms."""

    def __init__(self, terms: Sequence[End]) -> None:
        finite = [term for term in terms if term is not None]
        self.infinite = len(terms) - len(finite)
        self.finite = sum(finite, Fraction(0))

    @property
    def value(self) -> End:
        return None if self.infinite else self.finite

    def without(self, term: End) -> End:
        if self.infinite > (term is None):
            return None
        return self.finite if term is None else self.finite - term


def _narrow(box: Ends, i: int, interval: Interval) -> bool:
    before = box[i]
    low, high = box[i] = _meet(before, interval)
    if low is not None and high is not None and low > high:
        raise NoPoint(i, (low, high))
    return box[i] != before


def _meet(a: Interval, b: Interval) -> Interval:
    low = b[0] if a[0] is None else a[0] if b[0] is None else max(a[0], b[0])
    high = b[1] if a[1] is None else a[1] if b[1] is None else min(a[1], b[1])
    return low, high


def _join(a: Interval, b: Interval) -> Interval:
    low = None if a[0] is None or b[0] is None else min(a[0], b[0])
    high = None if a[1] is None or b[1] is None else max(a[1], b[1])
    return low, high


def _coarse(end: End, direction: int) -> End:
    if end is None or end.denominator.bit_length() <= PRECISION:
        return end
    scaled = (end.numerator * direction << PRECISION) // end.denominator
    return Fraction((scaled + 1) * direction, 1 << PRECISION)
