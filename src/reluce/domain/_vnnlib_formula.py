"""The assertions of a VNN-LIB syntax tree as one formula over the elements of the inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from typing import NamedTuple

import vnnlib

from reluce.domain._linear_constraints import FREE, Conjunction, bounded, conjunction, disjunction
from reluce.domain._vnnlib_text import Specification
from reluce.errors import DomainError

LONGEST = 1 << 16
"""Bits of a number; products of literals grow with each factor."""

MOST_BITS = 1 << 32
"""Bits of all products."""

ZERO, ONE = Fraction(0), Fraction(1)


class Tensor(NamedTuple):
    """A tensor of the specification: where its elements begin among those of all inputs, and its shape."""

    start: int
    shape: tuple[int, ...]


class Affine(NamedTuple):
    """``sum_i terms[i] x_i + constant``; where ``unused`` says why it is none, the rest has no meaning."""

    terms: dict[int, Fraction]
    constant: Fraction
    unused: str = ""


OUTPUTS, OTHERS, PRODUCTS, UNEQUAL, FREE_BRANCH = "outputs", "others", "products", "unequal", "free branch"
"""What says nothing of the inputs as a box: comparisons with outputs or hidden tensors, with tensors of other
networks, with products of inputs, with ``!=``; disjunctions with a branch that admits all inputs."""


class FormulaReader:
    """Reads assertions over the given inputs; ``unused`` counts what it had to leave out, by reason."""

    def __init__(self, numbers: Mapping[str, Fraction], network: str, inputs: Mapping[str, Tensor]) -> None:
        self.numbers = numbers
        self.network = network
        self.inputs = inputs
        self.unused: Counter[str] = Counter()
        self._bits = 0

    def read(self, specification: Specification) -> Conjunction:
        """The conjunction of all assertions."""
        return conjunction([self._formula(assertion.expr) for assertion in specification.query.assertions])

    def _formula(self, expression: vnnlib.BoolExpr) -> Conjunction:
        if isinstance(expression, vnnlib.Comparison):
            return self._comparison(expression)
        assert isinstance(expression, vnnlib.Connective)
        parts = [self._formula(argument) for argument in expression.args]
        if isinstance(expression, vnnlib.And):
            return conjunction(parts)
        if FREE in parts and any(part != FREE for part in parts):
            self.unused[FREE_BRANCH] += 1
        return disjunction(parts)

    def _comparison(self, expression: vnnlib.Comparison) -> Conjunction:
        """``lhs - rhs`` as ``a x + c`` and its sign; strict comparisons are closed, which adds only their limits."""
        left, right = self._affine(expression.lhs), self._affine(expression.rhs)
        difference = _add([left, _negated(right)])
        unused = difference.unused
        if isinstance(expression, vnnlib.NotEqual) and not unused:
            if not any(difference.terms.values()) and difference.constant == 0:
                return bounded({}, ONE, None)  # never true
            unused = UNEQUAL
        if unused:
            self.unused[unused] += 1
            return FREE
        end = -difference.constant
        lower = None if isinstance(expression, (vnnlib.LessEqual, vnnlib.LessThan)) else end
        upper = None if isinstance(expression, (vnnlib.GreaterEqual, vnnlib.GreaterThan)) else end
        return bounded(difference.terms, lower, upper)

    def _affine(self, expression: vnnlib.ArithExpr) -> Affine:
        if isinstance(expression, vnnlib.Var):
            return self._variable(expression)
        if isinstance(expression, vnnlib.Literal):
            return Affine({}, self.numbers[expression.lexeme])
        if isinstance(expression, vnnlib.Negate):
            return _negated(self._affine(expression.expr))
        if isinstance(expression, vnnlib.Minus):
            rest = _add([self._affine(argument) for argument in expression.rest])
            return _add([self._affine(expression.head), _negated(rest)])
        if isinstance(expression, vnnlib.Plus):
            return _add([self._affine(argument) for argument in expression.args])
        if isinstance(expression, vnnlib.Multiply):
            return self._multiply([self._affine(argument) for argument in expression.args])
        raise AssertionError(type(expression))

    def _variable(self, variable: vnnlib.Var) -> Affine:
        tensor = self.inputs.get(variable.name)
        if tensor is None:
            return Affine({}, ZERO, OUTPUTS if variable.network_name == self.network else OTHERS)
        element = 0
        for index, size in zip(variable.indices, tensor.shape, strict=True):
            if not 0 <= index < size:  # the parser lets negative ones through
                raise DomainError(
                    f"{variable.name} has no element {list(variable.indices)}; its shape is {list(tensor.shape)}"
                )
            element = element * size + index
        return Affine({tensor.start + element: ONE}, ZERO)

    def _multiply(self, factors: Sequence[Affine]) -> Affine:
        for factor in factors:
            if factor.unused:
                return factor
        constant = ONE
        for factor in factors:
            if not factor.terms:
                constant = self._short(constant * factor.constant)
        variable = [factor for factor in factors if factor.terms]
        if len(variable) > 1:
            return Affine({}, ZERO, PRODUCTS)
        if not variable:
            return Affine({}, constant)
        ((terms, shift, _),) = variable
        return Affine({i: self._short(a * constant) for i, a in terms.items()}, self._short(shift * constant))

    def _short(self, value: Fraction) -> Fraction:
        """A product, if it and all of them together do not have too many digits."""
        bits = value.numerator.bit_length() + value.denominator.bit_length()
        self._bits += bits
        if bits > LONGEST or self._bits > MOST_BITS:
            raise DomainError("products of its numbers have too many digits")
        return value


def _add(parts: Sequence[Affine]) -> Affine:
    terms: dict[int, Fraction] = {}
    constant = ZERO
    for part in parts:
        if part.unused:
            return part
        for i, a in part.terms.items():  # sums with zero are left out: they take most of the time
            terms[i] = terms[i] + a if i in terms else a
        if part.constant:
            constant = constant + part.constant if constant else part.constant
    return Affine(terms, constant)


def _negated(part: Affine) -> Affine:
    return Affine({i: -a for i, a in part.terms.items()}, -part.constant, part.unused)


def elements(tensor: Tensor) -> range:
    """Which of the elements of all inputs are those of a tensor."""
    return range(tensor.start, tensor.start + prod(tensor.shape))
