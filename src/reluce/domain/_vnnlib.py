"""VNN-LIB specifications as domains: the box around the inputs for which a specification can hold.

What a specification asks of outputs and hidden tensors, products of inputs, and ``!=`` are left out, which can only
make the domain larger; ``Box.notes`` says so.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import vnnlib

from reluce.domain._box import Box, spell
from reluce.domain._files import read_text
from reluce.domain._linear_constraints import Conjunction, End, NoPoint, enclose
from reluce.domain._read import _input_shape, _names, same_order
from reluce.domain._vnnlib_formula import (
    FREE_BRANCH,
    OUTPUTS,
    PRODUCTS,
    UNEQUAL,
    FormulaReader,
    Tensor,
    elements,
)
from reluce.domain._vnnlib_text import Specification, parse
from reluce.errors import DomainError
from reluce.network import Array, Network

LONGEST = 1 << 24
"""Bytes of a specification; parsed, it takes a hundred times as many."""

Shapes = Mapping[str, tuple[int, ...]]
Place = tuple[int, ...]


def load_vnnlib(network: Network, path: str | Path) -> Box:
    """The box around the inputs that a VNN-LIB specification admits, versions 1 and 2, ``.vnnlib`` or ``.vnnlib.gz``.

    Ends are exact as decimals. Every input for which some output satisfies all assertions lies in the box; constraints
    that no box can express enlarge it, and the notes say so. In version 1, ``X_0, X_1, ..`` are the elements of all
    inputs in order; in version 2, inputs are matched by their ONNX names, or where they have none, in order.

    Parameters
    ----------
    network
        The network whose inputs the specification bounds.
    path
        The specification.

    Raises
    ------
    DomainError
        When it cannot be read, does not fit the network's inputs, leaves one unbounded, or admits none.

    Source: VNN-LIB standard, https://www.vnnlib.org.
    """
    label = str(path)
    shapes = {name: _input_shape(network, name) for name in network.inputs}
    size = sum(map(prod, shapes.values()))
    specification = parse(_text(path), label, size)
    chosen, tensors = _choose(specification, shapes, label)
    _demand_one_use(specification, chosen, label)
    reader = FormulaReader(specification.numbers, chosen.name, tensors)
    try:
        formula = reader.read(specification)
    except DomainError as error:
        raise DomainError(f"{label}: {error}") from None
    try:
        ends = enclose(formula, range(size))
    except NoPoint as error:
        raise DomainError(f"{label}: {_contradiction(error, specification.version, tensors)}") from error
    lower, upper = ([pair[side] for pair in ends.values()] for side in (0, 1))
    _demand_bounded(lower, upper, specification.version, tensors, shapes, label)
    return Box(
        _arrays(shapes, lower),
        _arrays(shapes, upper),
        f"VNN-LIB {Path(path).name} (version {specification.version})",
        notes=(*_several(specification, chosen), *_replaced(formula), *_unused(reader.unused)),
    )


def _text(path: str | Path) -> str:
    try:
        data = read_text(path, LONGEST)
    except FileNotFoundError as error:
        raise DomainError(f"{path}: cannot be read as VNN-LIB: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise DomainError(f"{path}: cannot be read as VNN-LIB: {reason}") from error
    return data.decode("utf-8-sig", "replace")  # comments may be in any encoding


def _choose(specification: Specification, shapes: Shapes, label: str) -> tuple[vnnlib.Network, dict[str, Tensor]]:
    """The first of the specification's networks whose inputs fit, and where its inputs lie."""
    networks = specification.query.networks
    if specification.version == 1:
        return networks[0], {"X": Tensor(0, (sum(map(prod, shapes.values())),))}
    faults = []
    for candidate in networks:
        try:
            return candidate, _place(candidate, shapes)
        except DomainError as error:
            faults.append(error)
    several = f"none of its {len(networks)} networks fits: " if len(networks) > 1 else ""
    raise DomainError(f"{label}: {several}{faults[0]}") from faults[0]


def _demand_one_use(specification: Specification, chosen: vnnlib.Network, label: str) -> None:
    """Refuse a specification in which the network stands twice: the box of one use need not hold the other's inputs."""
    model = chosen.equal_to or chosen.name
    others = [item.name for item in specification.query.networks if model in (item.name, item.equal_to)]
    if len(others) > 1:
        raise DomainError(
            f"{label}: {_names(others)} are one network on several inputs (equal-to), whose boxes are not joined; "
            "give a box that holds the inputs of all of them"
        )


def _place(candidate: vnnlib.Network, shapes: Shapes) -> dict[str, Tensor]:
    """Where the declared inputs lie among the elements of all inputs."""
    ranges, start = {}, 0
    for name, shape in shapes.items():
        ranges[name], start = start, start + prod(shape)
    tensors = {}
    for item, name in _matched(candidate, shapes):
        tensors[item.name] = Tensor(ranges[name], tuple(item.shape))
        if prod(item.shape) != prod(shapes[name]) or not same_order(tuple(item.shape), shapes[name]):
            raise DomainError(
                f"the specification's input {item.name} has shape {spell(tuple(item.shape))}, "
                f"the network's input {name!r} has {spell(shapes[name])}"
            )
    return tensors


def _matched(candidate: vnnlib.Network, shapes: Shapes) -> Iterator[tuple[vnnlib.InputDefinition, str]]:
    """Each declared input with the network's input of its ONNX name, or else in order, as the standard says."""
    declared = candidate.inputs
    if len(declared) != len(shapes):
        raise DomainError(
            f"the specification has the inputs {_names(item.name for item in declared)}, "
            f"the network has {_names(shapes)}"
        )
    if not any(item.onnx_name for item in declared):
        for item, name in zip(declared, shapes, strict=True):
            if item.name != name and item.name in shapes:  # by order it would be another input than by name
                raise DomainError(
                    f"the specification's input {item.name} stands where the network has {name!r}; "
                    f"declare the inputs in the order {_names(shapes)}, or under other names"
                )
            yield item, name
        return
    names = [(item.onnx_name or "").strip('"') for item in declared]  # all have one: the parser sees to it
    for item, name in zip(declared, names, strict=True):
        if name not in shapes:
            raise DomainError(f"the specification's input {item.name} is {name!r}, the network has {_names(shapes)}")
        if names.count(name) > 1:
            raise DomainError(f"the specification has two inputs for {name!r}")
        yield item, name


def _spelled(element: int, version: int, tensors: Mapping[str, Tensor]) -> str:
    """An element of an input as the specification writes it."""
    name, tensor = next((name, tensor) for name, tensor in tensors.items() if element in elements(tensor))
    if version == 1:
        return f"{name}_{element}"
    return name + (spell(_coordinates(element - tensor.start, tensor.shape)) if tensor.shape else "")


def _coordinates(element: int, shape: tuple[int, ...]) -> Place:
    return tuple(int(i) for i in np.unravel_index(element, shape)) if shape else ()


def _contradiction(error: NoPoint, version: int, tensors: Mapping[str, Tensor]) -> str:
    low, high = error.ends
    if error.variable is None or low is None or high is None:
        return "no input satisfies the specification; check its assertions on the inputs"
    return (
        f"no input satisfies the specification: {_spelled(error.variable, version, tensors)} would have to be "
        f"at least {_decimals(low)} and at most {_decimals(high)}; check its assertions on the inputs"
    )


def _decimals(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):.17g}"


def _demand_bounded(
    lower: Sequence[End],
    upper: Sequence[End],
    version: int,
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    label: str,
) -> None:
    start = 0
    for target, shape in shapes.items():
        for element in range(start, start + prod(shape)):
            if lower[element] is not None and upper[element] is not None:
                continue
            side, sign = ("lower", ">=") if lower[element] is None else ("upper", "<=")
            name, place = _spelled(element, version, tensors), _coordinates(element - start, shape)
            raise DomainError(
                f"{label}: input {name} (coordinate {spell(place)} of {target!r}) has no {side} end; "
                f"add one, such as (assert ({sign} {name} 0.0))"
            )
        start += prod(shape)


def _arrays(shapes: Shapes, ends: Sequence[End]) -> dict[str, Array]:
    arrays, start = {}, 0
    for name, shape in shapes.items():
        flat = np.empty(prod(shape), dtype=object)
        flat[:] = ends[start : start + prod(shape)]
        arrays[name], start = flat.reshape(shape), start + prod(shape)
    return arrays


def _several(specification: Specification, chosen: vnnlib.Network) -> list[str]:
    count = len(specification.query.networks)
    if count == 1:
        return []
    return [f"of the specification's {count} networks only {chosen.name} is used, and only what is said of it alone"]


def _replaced(formula: Conjunction) -> list[str]:
    """What the box is only an enclosure of."""
    sums, branches, parts = 0, [], [formula]
    while parts:
        part = parts.pop()
        sums += len(part.sums)
        for choice in part.choices:
            branches.append(len(choice.branches))
            parts += choice.branches
    notes = []
    if len(branches) == 1:
        subject = f"disjunction of {branches[0]} input boxes is"
        notes.append(f"the specification's {subject} replaced by the box that encloses them")
    elif branches:
        subject = f"{len(branches)} disjunctions of input boxes are"
        notes.append(f"the specification's {subject} replaced by the box that encloses them")
    if sums:
        subject, verb = _counted(sums, "linear constraint")
        notes.append(f"{subject} on several inputs {verb} used only for the box that encloses them")
    return notes


def _unused(unused: Mapping[str, int]) -> list[str]:
    notes = []
    if unused[OUTPUTS]:
        notes.append("output constraints of the specification are not used")
    for reason, what, why in (
        (FREE_BRANCH, "disjunction", "with a branch that admits every input"),
        (PRODUCTS, "non-linear constraint", "on inputs"),
        (UNEQUAL, "constraint", "with != on inputs"),
    ):
        if unused[reason]:
            subject, verb = _counted(unused[reason], what)
            notes.append(f"{subject} {why} {verb} not used")
    return notes


def _counted(count: int, what: str) -> tuple[str, str]:
    return (f"{count} {what}", "is") if count == 1 else (f"{count} {what}s", "are")
