"""The claim about a compressed model as a question for other verifiers: a VNN-LIB 2 query on two networks.

    exists x in the domain, an output i:  |N'_i(x) - N_i(x)| > epsilon_i

is what the assertions say, so that the claim holds where the query has no answer (unsat). The element type is ``real``:
the networks are real functions, as in the certificate. Tensors are matched by their order in the ONNX files: the
standard's grammar has no place for the ONNX names of inputs and outputs, which comments give.

Source: VNN-LIB 2.0, https://www.vnnlib.org.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, Inexact
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from reluce._version import __version__
from reluce.certificate import Certified
from reluce.domain import Box
from reluce.errors import UsageError
from reluce.facts import Guarantee
from reluce.io import Loaded, OnnxLoaded, demand_writable
from reluce.network import Tensor

PathLike = str | os.PathLike[str]

ENDINGS = (".vnnlib", ".vnnlib.gz")
ORIGINAL, COMPRESSED = "original", "compressed"
"""What the query calls the networks."""

LONGEST = 1100
"""Significant digits with which a number is written in full; float64 numbers have at most 767."""

ROUNDED = 40
"""Significant digits of all other numbers."""

SMALLEST = 2 * Fraction(sys.float_info.min)
"""Numbers below are written only if they are float64 numbers: C++ parsers refuse what underflows."""

NAME = 40
"""Characters of a tensor's name that its identifier keeps; it is repeated for each element."""


@dataclass(frozen=True, eq=False)
class Pair:
    """What a query is about: the bytes of two ONNX files, and the certificate of them, if there is one."""

    original: bytes
    compressed: bytes
    certificate: bytes | None = None


@dataclass(frozen=True)
class Declared:
    """A tensor in the query: its identifier there, the ONNX name, the element type and the full shape."""

    identifier: str
    name: str
    kind: str
    shape: tuple[int, ...]

    def elements(self) -> list[str]:
        """Its elements as the query writes them, in the order of ``ravel``."""
        if not self.shape:
            return [self.identifier]
        return [f"{self.identifier}[{','.join(map(str, place))}]" for place in np.ndindex(self.shape)]


def demand_query(
    vnnlib: PathLike | None, model: Any, loaded: Loaded, output: Any, certificate: Path | None, domain: Any = None
) -> None:
    """Find out before the work that a query cannot be written.

    Parameters
    ----------
    vnnlib
        Where it is to go, if anywhere.
    model, output, domain
        As the user gave them.
    loaded
        The model as read.
    certificate
        Where the certificate goes, if there is to be one.

    Raises
    ------
    UsageError
        When the query would replace another file, would be about models that are in no ONNX file, or cannot state an
        input or output.
    OutputError
        When it cannot be written there.
    """
    if vnnlib is None:
        return
    where = os.fspath(vnnlib)
    if not where.endswith(ENDINGS):
        raise UsageError(f"{where}: the query is VNN-LIB; give it a name that ends in .vnnlib (or .vnnlib.gz)")
    others = [other for other in (model, output, certificate, domain) if isinstance(other, str | os.PathLike)]
    if any(os.path.realpath(other) == os.path.realpath(where) for other in others):
        raise UsageError(f"{where}: the query would replace another file of this run; give it another name")
    if certificate is None and not _in_files(model, output):
        raise UsageError(
            f"{where}: a query is about two ONNX files; read the model from one and write the result to one, "
            "or ask for a certificate, next to which both are written"
        )
    network = loaded.network
    for role, names in (("input", network.inputs), ("output", network.outputs)):
        for tensor in (network.tensors[name] for name in names):
            fault = _unstated(tensor)
            if fault:
                raise UsageError(f"{where}: {role} {tensor.name!r} {fault}; leave the query out")
    demand_writable(where)


def pair_of(model: Any, loaded: Loaded, small: Loaded, output: Any, certified: Certified | None) -> Pair | None:
    """The files that a query can be about; ``None`` where the models are in no files.

    Parameters
    ----------
    model, output
        As the user gave them.
    loaded, small
        The original and the result.
    certified
        The certificate with its files, where there is one.
    """
    if certified is not None:
        return Pair(certified.original, certified.compressed, certified.certificate)
    if _in_files(model, output) and isinstance(loaded, OnnxLoaded) and isinstance(small, OnnxLoaded):
        return Pair(loaded.data, small.data)
    return None


def equivalence_query(pair: Pair, loaded: Loaded, box: Box, guarantee: Guarantee) -> bytes:
    """The VNN-LIB 2 query that is satisfiable just where the claim about a compressed model is wrong.

    Every epsilon is exact, and so is the domain, except for ends that are no finite decimals or below what parsers
    take: these are rounded inward, so that the query asks for no more than what is claimed, and it says so.

    Parameters
    ----------
    pair
        The files.
    loaded
        The original; inputs and outputs of the compressed file have the same names and shapes. What else the compressed
        file puts out is declared and left free.
    box
        The domain.
    guarantee
        The claim.

    Raises
    ------
    UsageError
        When a range of the domain holds no decimal number that can be written.
    """
    network = loaded.network
    batch = (1,) if network.batched else ()
    shapes = {name: (*batch, *network.shape(name)) for name in (*network.inputs, *network.outputs)}
    taken = {ORIGINAL, COMPRESSED, *network.inputs}  # an input's identifier shall not be the name of another input

    def declared(prefix: str, names: Iterable[str]) -> list[Declared]:
        return [Declared(_identifier(prefix, name, taken), name, "real", shapes[name]) for name in names]

    inputs, outputs = declared(ORIGINAL, network.inputs), declared(ORIGINAL, network.outputs)
    twins, others = declared(COMPRESSED, network.inputs), _outputs(pair.compressed, shapes, taken)
    twin_outputs = {tensor.name: tensor for tensor in others}
    ends = _Ends()
    assertions = [
        *(line for x, twin in zip(inputs, twins, strict=True) for line in _same_in_range(x, twin, box, ends)),
        _any_differs([(y, twin_outputs[y.name]) for y in outputs], guarantee),
    ]
    lines = [
        *(f"; {line}" for line in _explained(pair, loaded, box, guarantee)),
        *(f"; {line}" for line in ends.notes()),
        "(vnnlib-version <2.0>)",
        *_network(ORIGINAL, inputs, outputs),
        *_network(COMPRESSED, twins, others),
        *assertions,
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


def _in_files(model: Any, output: Any) -> bool:
    named = all(isinstance(end, str | os.PathLike) for end in (model, output))
    return named and not os.fspath(model).lower().removesuffix(".gz").endswith(".nnet")


def _unstated(tensor: Tensor) -> str:
    """Why VNN-LIB cannot speak of a tensor, if so."""
    if tensor.shape is None:
        return "has no known shape, and VNN-LIB wants one"
    if not tensor.size:
        return "has no elements, which VNN-LIB cannot declare"
    if tensor.dtype.kind in "bcOSU":
        return f"is of type {tensor.dtype.name}, and VNN-LIB compares numbers"
    return ""


def _identifier(prefix: str, name: str, taken: set[str]) -> str:
    """A new identifier: a letter, then letters, digits and underscores."""
    stem = f"{prefix}_{re.sub('[^A-Za-z0-9_]', '_', name[:NAME])}"
    found = next(word for word in chain([stem], (f"{stem}_{n}" for n in count(2))) if word not in taken)
    taken.add(found)
    return found


def _outputs(data: bytes, shapes: Mapping[str, tuple[int, ...]], taken: set[str]) -> list[Declared]:
    """All outputs of the compressed file, in its order; those that the original has not as the file declares them."""
    found = []
    for info in ModelProto.FromString(data).graph.output:
        own = info.type.tensor_type
        kind = "bool" if info.name not in shapes and own.elem_type == TensorProto.BOOL else "real"
        shape = shapes.get(info.name, tuple(dim.dim_value or 1 for dim in own.shape.dim))
        found.append(Declared(_identifier(COMPRESSED, info.name, taken), info.name, kind, shape))
    return found


def _network(name: str, inputs: Iterable[Declared], outputs: Iterable[Declared]) -> Iterator[str]:
    yield f"(declare-network {name}"
    for word, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            shape = ",".join(map(str, tensor.shape))
            yield f"  (declare-{word} {tensor.identifier} {tensor.kind} [{shape}]) ; {json.dumps(tensor.name)}"
    yield ")"


def _same_in_range(tensor: Declared, twin: Declared, box: Box, written: _Ends) -> Iterator[str]:
    """One line for each element of an input: its range, and that it is the other network's as well."""
    ends = zip(box.lower[tensor.name].ravel(), box.upper[tensor.name].ravel(), strict=True)
    for x, same, (low, high) in zip(tensor.elements(), twin.elements(), ends, strict=True):
        least, most = written.written(low, ROUND_CEILING), written.written(high, ROUND_FLOOR)
        if Decimal(least) > Decimal(most):
            raise UsageError(
                f"no VNN-LIB query: the range of {x} (input {tensor.name!r}) holds no decimal number of {ROUNDED} "
                "digits; widen it, or leave the query out"
            )
        yield f"(assert (and (>= {x} {least}) (<= {x} {most}) (== {same} {x})))"


def _any_differs(outputs: Iterable[tuple[Declared, Declared]], guarantee: Guarantee) -> str:
    """That some output differs by more than its epsilon."""
    parts = []
    for tensor, twin in outputs:
        epsilons = guarantee.epsilons[tensor.name].ravel().tolist()
        for y, other, epsilon in zip(tensor.elements(), twin.elements(), epsilons, strict=True):
            if epsilon:
                most = _text(Decimal(epsilon))  # all of its digits
                parts += [f"(> (- {y} {other}) {most})", f"(> (- {other} {y}) {most})"]
            else:
                parts += [f"(> {y} {other})", f"(> {other} {y})"]
    return "(assert (or\n  " + "\n  ".join(parts) + "\n))"


def _explained(pair: Pair, loaded: Loaded, box: Box, guarantee: Guarantee) -> Iterator[str]:
    """What the file says, to whom it may concern."""
    yield f"Written by reluce {__version__}: do two networks differ on a domain by more than was promised?"
    yield "unsat: for every input of the domain each output of compressed is within epsilon of that of original."
    yield "sat: they differ by more, at the inputs found. A solver that calculates in floats may err: see for yourself."
    for name, data in ((ORIGINAL, pair.original), (COMPRESSED, pair.compressed)):
        yield f"{name}: the ONNX file (not gzipped) with SHA-256 {hashlib.sha256(data).hexdigest()}"
    yield f"guarantee: {guarantee.asked}; the largest epsilon is {guarantee.epsilon!r}"
    yield f"standing: {_standing(pair, guarantee)}"
    yield f"domain: {json.dumps(box.description)}" + (" (assumption: made from data)" if box.assumption else "")
    if loaded.scaling is not None:
        yield "domain and inputs are those behind the scaler of the pipeline, which is not part of the networks"
    yield "element type real: both networks are the real functions that their stored numbers stand for; the claim is"
    yield "not about their evaluation in floats. Tensors are in the order of the files; comments give their ONNX names."


def _standing(pair: Pair, guarantee: Guarantee) -> str:
    if guarantee.level == "attested":
        return "only a solver's word; nothing of it is proved"
    if pair.certificate is None:
        return "proved by reluce; there is no certificate"
    digest = hashlib.sha256(pair.certificate).hexdigest()
    return f"proved; reluce-check accepts the certificate with SHA-256 {digest}"


class _Ends:
    """Writes ends of the domain, and counts those that had to be rounded (local to ``equivalence_query``)."""

    def __init__(self) -> None:
        self.rounded = 0

    def written(self, value: Fraction, rounding: str) -> str:
        exact = _exactly(value)
        self.rounded += exact is None
        return _text(_rounded(value, rounding) if exact is None else exact)

    def notes(self) -> Iterator[str]:
        if self.rounded:
            yield f"{self.rounded} ends of the domain are rounded inward: they are no decimals, or tiny. What is asked"
            yield "follows from what is claimed, but is a little less."


def _text(number: Decimal) -> str:
    """With a point, as integers are of another type, and without an exponent, which the grammar lacks."""
    text = f"{number:f}"
    return text if "." in text else text + ".0"


def _exactly(value: Fraction) -> Decimal | None:
    if abs(value) < SMALLEST and Fraction(float(value)) != value:
        return None
    exact = Context(LONGEST, Emin=-LONGEST, Emax=LONGEST, traps=[Inexact])
    try:
        return exact.divide(Decimal(value.numerator), Decimal(value.denominator))
    except Inexact:
        return None


def _rounded(value: Fraction, rounding: str) -> Decimal:
    if abs(value) < SMALLEST:
        towards = SMALLEST if value > 0 else -SMALLEST
        value = towards if (rounding == ROUND_CEILING) == (value > 0) else Fraction(0)
        return _exactly(value) or Decimal(0)
    return Context(ROUNDED, rounding).divide(Decimal(value.numerator), Decimal(value.denominator))
