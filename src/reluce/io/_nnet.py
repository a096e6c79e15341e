r"""NNet files (``.nnet``, Stanford's text format of the ACAS Xu family), as an ONNX model.

The function
------------
With :math:`\sigma(z) = \max(z, 0)`, layers :math:`W_i, b_i`, and the means :math:`m` and ranges :math:`r` of the file,

.. math::
    y = r_{out} (W_k \sigma( \dots \sigma(W_1 (x - m_{in}) / r_{in} + b_1) \dots ) + b_k) + m_{out}

in the units in which the file states the least and the largest value of each input. The evaluators of the format also
clip :math:`x` to those values. Inside the file's own box that is the identity; it is not modelled.

The text
--------
Lines of numbers, each followed by a comma, which may be missing behind the last. Lines that begin with ``//`` are
comments::

    layers, inputs, outputs, largest layer
    inputs, size of layer 1, ..., outputs
    0                                        (a flag that is no longer used)
    least value of each input
    largest value of each input
    mean of each input, mean of all outputs
    range of each input, range of all outputs
    weights of layer 1, one line a unit; its biases, one a line; layer 2, ...

Where the mean or the range of the outputs is missing, it is 0 or 1.

Precision
---------
Weights and biases decide it. They are float32 if that is as good as the text: each of them is a float32 number exactly,
or the nearest float32 number, printed to as many digits, gives the file's digits back. That holds for all numbers of at
most 6 digits (``FLT_DIG``; subnormal numbers apart), and for whatever was printed from float32. Otherwise all are
float64. Means and ranges follow, whatever their digits, unless float32 cannot hold them.

Source: https://github.com/sisl/NNet
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from reluce.errors import ModelError
from reluce.io._loaded import Ranges
from reluce.io._proto import encode
from reluce.network import Array

SOURCE = "the file's own input ranges"
OPSET, IR_VERSION = 13, 7
LARGEST = 1 << 26
"""Bytes of a file: a network of about six million weights. As numbers in words they take fifty times as much memory."""
LARGEST_EXPONENT = 1000  # an exact fraction writes out all its digits; float64 ends at 308
LONGEST = 1_000  # characters of a number; float64 needs 17 digits, an exact decimal of one at most 767
HEADER = 7  # lines before the first weights
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")
SIZE = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True)
class _Line:
    """A line of numbers, as text; ``number`` counts all lines of the file from 1."""

    number: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    """One line a unit, and one bias a line."""

    weights: tuple[_Line, ...]
    biases: tuple[_Line, ...]


@dataclass(frozen=True)
class _Header:
    """The lines before the weights; means and ranges hold one number more than there are inputs."""

    sizes: tuple[int, ...]
    minimums: _Line
    maximums: _Line
    means: _Line
    ranges: _Line
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Numbers:
    """The numbers of the network in the format that was chosen; ``layers`` holds weights and biases."""

    dtype: type[np.generic]
    why: str
    means: Array
    ranges: Array
    layers: tuple[tuple[Array, Array], ...]


def nnet_to_onnx(data: bytes, name: str) -> tuple[bytes, Ranges, tuple[str, ...]]:
    """The ONNX model that an NNet file describes.

    Parameters
    ----------
    data
        The bytes of the file.
    name
        How to call the file in messages.

    Returns
    -------
    tuple
        The ONNX bytes (input ``input``, output ``output``), the file's own input ranges, and what the user should know,
        one line each.

    Raises
    ------
    ModelError
        When the file cannot be read; says what and on which line.
    """
    if len(data) > LARGEST:
        raise ModelError(
            f"{name}: {len(data):,} bytes; NNet files of at most {LARGEST:,} are read, so convert it to ONNX"
        )
    try:
        text = _text(data)
        lines = _lines(text)
        header = _header(lines)
        layers = _layers(header.sizes, lines[HEADER:])
        _demand_complete(text, lines)
        ranges = _own_ranges(header)
        numbers = _numbers(header, layers)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    model = _model(header.sizes, numbers, _comments(text))
    return model.SerializeToString(), ranges, (*header.notes, *_notes(numbers))


# The text: lines, fields, numbers


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelError(f"line {line}: not an NNet file (byte {error.start} is no text in UTF-8)") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """Every line that is not blank, with its number."""
    # str.splitlines would also split at characters that editors show within a line, and the numbers would be wrong.
    yield from ((number, row.strip()) for number, row in enumerate(text.split("\n"), 1) if row.strip())


def _comments(text: str) -> str:
    return "\n".join(row.lstrip("/").strip() for _, row in _rows(text) if row.startswith("//"))


def _lines(text: str) -> tuple[_Line, ...]:
    """The lines of numbers; what stands between the commas is not looked at yet."""
    return tuple(_Line(number, _fields(row)) for number, row in _rows(text) if not row.startswith("//"))


def _fields(row: str) -> tuple[str, ...]:
    return tuple(field.strip() for field in row.removesuffix(",").split(","))


def _demand_complete(text: str, lines: Sequence[_Line]) -> None:
    """Refuse a file that may end within its last number: what is left of one is a number, too."""
    rows, last = text.split("\n"), lines[-1]
    ended = len(rows) > last.number or rows[last.number - 1].rstrip().endswith(",")
    if ended or not rows[lines[-2].number - 1].rstrip().endswith(","):
        return
    raise ModelError(
        f"line {last.number}: the file may be cut short within its last number, {_spell(last.texts[-1])}: it lacks the "
        "comma of the line before; add the comma or a line end if it is complete"
    )


def _sizes(line: _Line, count: int, what: str) -> tuple[int, ...]:
    """A line of whole numbers above 0."""
    _demand_count(line, count, what)
    for text in line.texts:
        if not SIZE.fullmatch(text) or not int(text):
            raise ModelError(f"line {line.number}: {_spell(text)} is no size; expected {what}")
    return tuple(int(text) for text in line.texts)


def _finite(line: _Line, count: int, what: str) -> _Line:
    """A line of finite decimal numbers."""
    _demand_count(line, count, what)
    for text in line.texts:
        _demand_finite(text, line.number, what)
    return line


def _demand_count(line: _Line, count: int, what: str) -> None:
    if len(line.texts) != count:
        many = "few" if len(line.texts) < count else "many"
        raise ModelError(f"line {line.number}: too {many} numbers: {len(line.texts):,}, expected {count:,} ({what})")


def _demand_finite(text: str, number: int, what: str) -> None:
    match = NUMBER.fullmatch(text) if len(text) <= LONGEST else None
    if match is None:
        raise ModelError(f"line {number}: {_spell(text)} is not a finite decimal number ({what})")
    if abs(int(match[1] or 0)) > LARGEST_EXPONENT or np.isinf(float(text)):
        raise ModelError(f"line {number}: {_spell(text)} is beyond the range of float64 ({what})")


def _spell(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


# The parts of the file


def _header(lines: Sequence[_Line]) -> _Header:
    if len(lines) < HEADER:
        last = f"it ends behind line {lines[-1].number}" if lines else "it holds no numbers"
        raise ModelError(f"not an NNet file, or cut short: {last}, within its header")
    layers, inputs, outputs, largest = _sizes(lines[0], 4, "layers, inputs, outputs and largest layer")
    sizes = _sizes(lines[1], layers + 1, f"the sizes of the inputs and of {layers:,} layers")
    for stated, listed, what in ((inputs, sizes[0], "inputs"), (outputs, sizes[-1], "outputs")):
        if stated != listed:
            raise ModelError(
                f"line {lines[0].number} states {stated:,} {what}, the sizes on line {lines[1].number} "
                f"state {listed:,}; make them agree"
            )
    flag = _finite(lines[2], 1, "the flag that is no longer used")
    minimums = _finite(lines[3], inputs, "the least value of each input")
    maximums = _finite(lines[4], inputs, "the largest value of each input")
    means, no_mean = _with_output(lines[5], inputs, "mean", "0")
    ranges, no_range = _with_output(lines[6], inputs, "range", "1")
    for text in ranges.texts:
        if float(text) == 0:
            raise ModelError(f"line {ranges.number}: a range of {text}; what is divided by it must not be 0")
    notes = (*_oddities(flag, lines[0], largest, sizes), *no_mean, *no_range)
    return _Header(sizes, minimums, maximums, means, ranges, notes)


def _with_output(line: _Line, inputs: int, what: str, default: str) -> tuple[_Line, tuple[str, ...]]:
    """Means or ranges, completed where the one of the outputs is missing."""
    note: tuple[str, ...] = ()
    if len(line.texts) == inputs:
        note = (f"line {line.number} states no {what} of the outputs; {default} is used",)
        line = _Line(line.number, (*line.texts, default))
    return _finite(line, inputs + 1, f"the {what} of each input, and one of all outputs"), note


def _oddities(flag: _Line, counts: _Line, largest: int, sizes: Sequence[int]) -> Iterator[str]:
    if float(flag.texts[0]) != 0:
        yield f"line {flag.number}: the flag {flag.texts[0]} has no meaning any more and is not used"
    # Some writers leave the inputs out. It only sizes the buffers of programs in C.
    if largest not in (max(sizes), max(sizes[1:])):
        yield f"line {counts.number} states a largest layer of {largest:,}, it has {max(sizes):,}; that is not used"


def _layers(sizes: Sequence[int], lines: Sequence[_Line]) -> tuple[_Layer, ...]:
    """The lines of weights and biases, layer by layer."""
    # Declared sizes are compared with what the file holds before anything is made of them.
    wanted = 2 * sum(sizes[1:])
    if len(lines) < wanted:
        raise ModelError(
            f"the file is cut short, or its sizes are wrong: it holds {len(lines):,} lines of weights and biases, "
            f"its sizes {_few(sizes)} need {wanted:,}"
        )
    found, start = [], 0
    for number, (width, height) in enumerate(pairwise(sizes), 1):
        weights, biases = lines[start : start + height], lines[start + height : start + 2 * height]
        found.append(
            _Layer(
                tuple(
                    _finite(line, width, f"weights of layer {number}, unit {k}") for k, line in enumerate(weights, 1)
                ),
                tuple(_finite(line, 1, f"bias of layer {number}, unit {k}") for k, line in enumerate(biases, 1)),
            )
        )
        start += 2 * height
    if len(lines) > wanted:
        raise ModelError(
            f"line {lines[wanted].number}: numbers behind the last bias that the sizes {_few(sizes)} allow"
        )
    return tuple(found)


def _few(sizes: Sequence[int]) -> str:
    shown = [f"{size}" for size in sizes]
    return ",".join(shown if len(shown) <= 12 else [*shown[:8], "...", *shown[-2:]])


def _own_ranges(header: _Header) -> Ranges:
    lower, upper = (np.array([Fraction(text) for text in line.texts]) for line in (header.minimums, header.maximums))
    for k in np.flatnonzero(lower > upper)[:1]:
        raise ModelError(
            f"line {header.maximums.number}: the largest value of input {k + 1}, {header.maximums.texts[k]}, "
            f"lies below its least value, {header.minimums.texts[k]} (line {header.minimums.number})"
        )
    return Ranges({"input": (lower, upper)}, SOURCE)


# The numbers


def _numbers(header: _Header, layers: Sequence[_Layer]) -> _Numbers:
    means, ranges = _values([header.means])[0], _values([header.ranges])[0]
    values = [(_values(layer.weights), _values(layer.biases)[:, 0]) for layer in layers]
    dtype: type[np.generic] = np.float64
    lines = [line for layer in layers for line in (*layer.weights, *layer.biases)]
    first = next((fault for line in lines if (fault := _lost(line)) is not None), None)
    if first is not None:
        why = f"float64: float32 does not keep all digits of the file (first: {first})"
    elif not _held(means, ranges):
        why = "float64: float32 cannot hold the means and ranges of the file"
    else:
        dtype = np.float32
        why = "float32: that keeps all digits of the file's weights and biases"
    return _Numbers(
        dtype,
        why,
        means.astype(dtype),
        ranges.astype(dtype),
        tuple((weights.astype(dtype), biases.astype(dtype)) for weights, biases in values),
    )


def _values(lines: Sequence[_Line]) -> Array:
    """The numbers of some lines in float64, one row a line."""
    return np.array([[float(text) for text in line.texts] for line in lines], dtype=np.float64)


def _lost(line: _Line) -> str | None:
    """The first number of a line that float32 does not keep, with its place."""
    values = _values([line])[0]
    with np.errstate(over="ignore", under="ignore"):
        narrow = values.astype(np.float32)
    for k in np.flatnonzero(narrow != values):
        exact = Decimal(line.texts[k])
        if Context(prec=len(exact.as_tuple().digits)).create_decimal(Decimal(float(narrow[k]))) != exact:
            return f"{_spell(line.texts[k])}, line {line.number}"
    return None


def _held(means: Array, ranges: Array) -> bool:
    with np.errstate(over="ignore", under="ignore"):
        narrow, divisors = means.astype(np.float32), ranges.astype(np.float32)
    return bool(np.isfinite(narrow).all() and np.isfinite(divisors).all() and divisors.all())


# The model


def _model(sizes: Sequence[int], numbers: _Numbers, comments: str) -> ModelProto:
    elem = TensorProto.FLOAT if numbers.dtype is np.float32 else TensorProto.DOUBLE
    steps = list(_steps(numbers))
    nodes, source = [], "input"
    for k, (op, label, constants, attributes) in enumerate(steps, 1):
        target = "output" if k == len(steps) else f"{label}_out"
        nodes.append(helper.make_node(op, [source, *constants], [target], name=label, **attributes))
        source = target
    graph = helper.make_graph(
        nodes,
        "nnet",
        [helper.make_tensor_value_info("input", elem, ["N", sizes[0]])],
        [helper.make_tensor_value_info("output", elem, ["N", sizes[-1]])],
        [encode(array, key) for _, _, constants, _ in steps for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="reluce", doc_string=comments
    )


def _steps(numbers: _Numbers) -> Iterator[tuple[str, str, dict[str, Array], dict[str, Any]]]:
    """Operation, name, constants and attributes of each node; what would be the identity is left out."""
    means, ranges = numbers.means, numbers.ranges
    if means[:-1].any():
        yield "Sub", "subtract_mean", {"input_mean": means[:-1]}, {}
    if (ranges[:-1] != 1).any():
        yield "Div", "divide_by_range", {"input_range": ranges[:-1]}, {}
    for k, (weights, biases) in enumerate(numbers.layers, 1):
        yield "Gemm", f"layer{k}", {f"layer{k}.weight": weights, f"layer{k}.bias": biases}, {"transB": 1}
        if k < len(numbers.layers):
            yield "Relu", f"layer{k}_relu", {}, {}
    if ranges[-1] != 1:
        yield "Mul", "multiply_by_range", {"output_range": ranges[-1:]}, {}
    if means[-1] != 0:
        yield "Add", "add_mean", {"output_mean": means[-1:]}, {}


def _notes(numbers: _Numbers) -> Iterator[str]:
    yield f"weights are stored as {numbers.why}"
    if numbers.means.any() or (numbers.ranges != 1).any():
        yield (
            "inputs and outputs are in the file's own units: its means and ranges are part of the network, "
            f"rounded to {np.dtype(numbers.dtype).name}"
        )
    yield "evaluators of .nnet files clip inputs to the file's ranges: no change inside them, so it is left out"
