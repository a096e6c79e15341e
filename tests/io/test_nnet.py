"""NNet files against an evaluator of the text that shares nothing with the reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from io_tools import session
from onnx import numpy_helper

from reluce.errors import ModelError
from reluce.io import _nnet, loads
from reluce.io._nnet import nnet_to_onnx
from reluce.network import evaluate

Array = np.ndarray[Any, Any]
Rows = list[list[str]]
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}

SMALL = """\
// a network of two inputs
// by hand
2,2,1,3,
2,3,1,
0,
-1.5,0.1,
2.5,0.3,
0.5,0.0,-1.0,
2.0,4.0,8.0,
1.0,-0.25,
0.5,0.5,
-2.0,1.0,
0.125,
-0.5,
0.75,
1.5,-1.0,0.25,
-0.0625,
"""


@dataclass(frozen=True)
class Text:
    """The numbers of a file as text, line by line, and how lines end."""

    lines: Rows
    comments: str = ""
    last: str = ","

    def data(self) -> bytes:
        return (self.comments + "".join(",".join(line) + self.last + "\n" for line in self.lines)).encode()


def numbers_of(text: str) -> Rows:
    rows = [row for row in text.splitlines() if row.strip() and not row.startswith("//")]
    return [[entry for entry in row.strip().split(",") if entry] for row in rows]


def reference(text: str, points: Array, number: Callable[[str], Any] = float, slope: int = 0) -> Array:
    """What the file says of some points, in float64 or in fractions; ``slope`` 1 leaves out the ReLUs."""
    lines = [[number(entry) for entry in row] for row in numbers_of(text)]
    sizes, means, ranges = [int(size) for size in lines[1]], lines[5], lines[6]
    n = sizes[0]
    values = (points - np.array(means[:n])) / np.array(ranges[:n])
    at = 7
    for k, size in enumerate(sizes[1:], 1):
        weights, biases = np.array(lines[at : at + size]), np.array(lines[at + size : at + 2 * size])
        at += 2 * size
        values = values @ weights.T + biases[:, 0]
        if k < len(sizes) - 1 and not slope:
            values = np.where(values > 0, values, 0)
    assert at == len(lines)
    return values * (ranges[n] if len(ranges) > n else 1) + (means[n] if len(means) > n else 0)


def read(text: str | bytes) -> tuple[bytes, tuple[Array, Array], tuple[str, ...]]:
    data, ranges, notes = nnet_to_onnx(text if isinstance(text, bytes) else text.encode(), "net.nnet")
    onnx.checker.check_model(data, full_check=True)
    assert all("\n" not in note for note in notes)
    assert ranges.source == "the file's own input ranges"
    return data, ranges.ends["input"], notes


def weights(data: bytes) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_from_string(data).graph.initializer}


def both(data: bytes, points: Array) -> list[Array]:
    """The outputs at some points: by the network that is read from the model, and by onnxruntime."""
    run = session(data)
    dtype = DTYPES[run.get_inputs()[0].type]
    loaded = loads(data)
    assert not loaded.network.opaque
    assert not loaded.notes
    values = evaluate(loaded.network, {"input": points.astype(np.float64)})
    return [values["output"], run.run(None, {"input": points.astype(dtype)})[0]]


def changed(old: str, new: str) -> bytes:
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new).encode()


def test_the_model_of_a_small_file() -> None:
    data, (lower, upper), notes = read(SMALL)
    model = onnx.load_from_string(data)
    assert model.doc_string == "a network of two inputs\nby hand"
    assert model.producer_name == "reluce"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 13)]
    graph = model.graph
    assert [node.op_type for node in graph.node] == ["Sub", "Div", "Gemm", "Relu", "Gemm", "Mul", "Add"]
    assert len({node.name for node in graph.node}) == 7
    for info, name, size in ((graph.input[0], "input", 2), (graph.output[0], "output", 1)):
        dims = info.type.tensor_type.shape.dim
        assert (info.name, dims[0].dim_param, dims[1].dim_value) == (name, "N", size)
    assert list(lower) == [Fraction(-3, 2), Fraction(1, 10)]
    assert list(upper) == [Fraction(5, 2), Fraction(3, 10)]
    assert lower.dtype == upper.dtype == object
    assert notes == (
        "weights are stored as float32: that keeps all digits of the file's weights and biases",
        "inputs and outputs are in the file's own units: its means and ranges are part of the network, "
        "rounded to float32",
        "evaluators of .nnet files clip inputs to the file's ranges: no change inside them, so it is left out",
    )


def test_a_small_file_computes_what_it_says() -> None:
    points = np.array([[0.5, 0.0], [2.5, -4.0], [-1.5, 8.0]])
    # By hand, for the first point: x = 0, hidden = (1/8, 0, 3/4), 3/16 + 3/16 - 1/16 = 5/16, 8 * 5/16 - 1.
    assert reference(SMALL, points)[0, 0] == 1.5
    for found in both(read(SMALL)[0], points):
        np.testing.assert_array_equal(found, reference(SMALL, points))


def test_what_would_be_the_identity_is_left_out() -> None:
    text = SMALL.replace("0.5,0.0,-1.0,", "0,0.0,-0,").replace("2.0,4.0,8.0,", "1,1.0,1e0,")
    data, _, notes = read(text)
    assert [node.op_type for node in onnx.load_from_string(data).graph.node] == ["Gemm", "Relu", "Gemm"]
    assert not any("units" in note for note in notes)
    points = np.array([[0.5, 0.0], [2.5, -4.0]])
    for found in both(data, points):
        np.testing.assert_array_equal(found, reference(text, points))


def test_one_layer_has_no_relu() -> None:
    text = "1,1,2,2\n1,2\n0\n0\n1\n0,0\n1,1\n3\n-4\n0.5\n-0.25\n"
    data, _, _ = read(text)
    assert [node.op_type for node in onnx.load_from_string(data).graph.node] == ["Gemm"]
    for found in both(data, np.array([[1.0], [-1.0]])):
        np.testing.assert_array_equal(found, [[3.5, -4.25], [-2.5, 3.75]])


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace(",\n", "\n"),
        SMALL.replace("\n", "\r\n"),
        SMALL.replace("\n", "\r"),
        SMALL.replace("\n", "\n\n  \n"),
        SMALL.replace(",", " , "),
        "\ufeff" + SMALL,
        SMALL.removesuffix("\n"),
        SMALL.removesuffix(",\n") + "\n",
        SMALL.replace(",\n", "\n").removesuffix("\n"),
        SMALL + "// the end",
        SMALL.removesuffix(",\n") + "\n// the end",
        SMALL.replace("0.125", "+.125").replace("0.75", "75.e-2").replace("1.5,-1.0", "15E-1,-1"),
        SMALL.replace("0,\n-1.5", "0\n-1.5"),
    ],
)
def test_dialects_of_the_text_mean_the_same(text: str) -> None:
    plain, given_ends, _ = read(SMALL)
    data, ends, _ = read(text)
    assert {name: value.tobytes() for name, value in weights(data).items()} == {
        name: value.tobytes() for name, value in weights(plain).items()
    }
    assert [list(end) for end in ends] == [list(end) for end in given_ends]


def test_a_file_without_the_mean_and_range_of_the_outputs() -> None:
    text = SMALL.replace("0.5,0.0,-1.0,", "0.5,0.0,").replace("2.0,4.0,8.0,", "2.0,4.0,")
    data, _, notes = read(text)
    assert notes[:2] == (
        "line 8 states no mean of the outputs; 0 is used",
        "line 9 states no range of the outputs; 1 is used",
    )
    points = np.array([[0.5, 0.0], [2.5, -4.0]])
    for found in both(data, points):
        np.testing.assert_array_equal(found, reference(text, points))


def test_oddities_that_change_nothing_are_noted() -> None:
    plain = read(SMALL)[0]
    data, _, notes = read(changed("\n0,\n", "\n1,\n"))
    assert notes[0] == "line 5: the flag 1 has no meaning any more and is not used"
    assert data == plain
    data, _, notes = read(changed("2,2,1,3,", "2,2,1,7,"))
    assert notes[0] == "line 3 states a largest layer of 7, it has 3; that is not used"
    assert data == plain


def test_a_largest_layer_that_leaves_out_the_inputs_is_no_oddity() -> None:
    text = "1,2,1,{}\n2,1\n0\n0,0\n1,1\n0,0,0\n1,1,1\n3,4\n0.5\n"
    assert read(text.format(1))[2] == read(text.format(2))[2]


# Precision


@pytest.mark.parametrize(
    "text", ["0.420428", "-4.20428e-01", "16777217.0000", "0.1", "-0.029618531", "0.30000001192092896"]
)
def test_float32_keeps_these_digits(text: str) -> None:
    keeps = text != "16777217.0000"  # 2^24 + 1: eight digits that float32 does not have
    data, _, notes = read(changed("0.125", text))
    stored = weights(data)["layer1.bias"]
    assert stored.dtype == (np.float32 if keeps else np.float64)
    assert stored[0] == (np.float32(text) if keeps else float(text))
    if not keeps:
        assert notes[0] == (
            "weights are stored as float64: float32 does not keep all digits of the file "
            "(first: '16777217.0000', line 13)"
        )
        assert {value.dtype for value in weights(data).values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("text", ["0.4204281860269136", "0.1000000000", "1.23456e-42", "1e39", "-3.4028236e38"])
def test_float32_does_not_keep_these(text: str) -> None:
    data, _, notes = read(changed("0.125", text))
    assert weights(data)["layer1.bias"].dtype == np.float64
    assert weights(data)["layer1.bias"][0] == float(text)
    assert f"(first: {text!r}, line 13)" in notes[0]


def test_means_and_ranges_do_not_decide_the_precision_unless_float32_cannot_hold_them() -> None:
    data, _, _ = read(changed("0.5,0.0,-1.0,", "0.5,0.0,-0.432599379632,"))
    assert weights(data)["output_mean"] == np.float32(-0.432599379632)
    for text in ("2.0,1e-50,8.0,", "2.0,1e39,8.0,"):
        data, _, notes = read(changed("2.0,4.0,8.0,", text))
        assert notes[0] == "weights are stored as float64: float32 cannot hold the means and ranges of the file"
        assert weights(data)["input_range"].dtype == np.float64


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_what_was_printed_from_float32_stays_float32(value: float) -> None:
    narrow = np.float32(value)
    for text in (repr(value), str(narrow), f"{value:.12e}"):
        data, _, _ = read(changed("0.125", text))
        assert weights(data)["layer1.bias"].dtype == np.float32
        assert weights(data)["layer1.bias"][0] == narrow


@given(st.integers(-999_999, 999_999), st.integers(-37, 32))
def test_two_numbers_of_six_digits_stay_apart(digits: int, exponent: int) -> None:
    texts = [f"{d}e{exponent}" for d in (digits, digits + 1 if digits < 999_999 else digits - 1)]
    found = [weights(read(changed("0.125", text))[0])["layer1.bias"] for text in texts]
    assert all(array.dtype == np.float32 for array in found)
    assert found[0][0] != found[1][0]
    assert np.sign(found[0][0] - found[1][0]) == np.sign(Decimal(texts[0]) - Decimal(texts[1]))


# Random files


@st.composite
def texts(draw: st.DrawFn, entries: st.SearchStrategy[str], powers: st.SearchStrategy[str]) -> str:
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))

    def row(width: int, values: st.SearchStrategy[str] = entries) -> list[str]:
        return draw(st.lists(values, min_size=width, max_size=width))

    n = sizes[0]
    ends = [sorted(pair, key=Fraction) for pair in zip(row(n), row(n), strict=True)]
    lines = [
        [str(size) for size in (len(sizes) - 1, n, sizes[-1], max(sizes))],
        [str(size) for size in sizes],
        ["0"],
        [low for low, _ in ends],
        [high for _, high in ends],
        row(n + draw(st.integers(0, 1))),
        row(n + draw(st.integers(0, 1)), powers),
    ]
    for width, height in pairwise(sizes):
        lines += [row(width) for _ in range(height)] + [row(1) for _ in range(height)]
    file = Text(lines, draw(st.sampled_from(["", "// comment\n"])), draw(st.sampled_from([",", ""])))
    return file.data().decode()


# Quarters and powers of two: all sums and products are exact in float32 (22 bits at most), whatever their order.
EXACT = texts(st.integers(-4, 4).map(lambda n: str(n / 4)), st.sampled_from(["0.5", "1", "1.0", "2.0", "4", "-1.0"]))


@given(EXACT, st.integers(0, 2**32))
def test_random_files_compute_exactly_what_they_say(text: str, seed: int) -> None:
    data, (lower, upper), _ = read(text)
    points = np.random.default_rng(seed).integers(-4, 5, (5, len(lower))) / 4
    fractions = np.vectorize(Fraction, otypes=[object])
    wanted = reference(text, fractions(points), Fraction)
    for found in both(data, points):
        assert (fractions(found.astype(np.float64)) == wanted).all()
    rows = numbers_of(text)
    assert list(lower) == [Fraction(entry) for entry in rows[3]]
    assert list(upper) == [Fraction(entry) for entry in rows[4]]


def test_the_comparison_of_random_files_can_fail() -> None:
    """A twin: without ReLUs, or with one digit changed, the evaluator and the model disagree."""
    points = np.array([[0.5, 0.0], [2.5, -4.0], [-1.5, 8.0]])
    for found in both(read(SMALL)[0], points):
        assert (found != reference(SMALL, points, slope=1)).any()
        assert (found != reference(SMALL.replace("-0.0625", "-0.0626"), points)).any()
        assert (found != reference(SMALL.replace("0.5,0.0,-1.0", "0.5,0.1,-1.0"), points)).any()


def close(found: Array, wanted: Array, dtype: Any, scale: Any = None) -> bool:
    """Apart by no more than rounding of sums as large as ``scale``, by default as large as the outputs."""
    scale = 1 + np.abs(wanted).max() if scale is None else scale
    return bool((np.abs(found - wanted) <= 100 * np.finfo(dtype).eps * scale).all())


DECIMALS = texts(st.floats(-2, 2).map(repr), st.floats(0.25, 4).map(lambda value: f"{value:.5e}"))


@given(DECIMALS, st.integers(0, 2**32))
def test_random_decimals_agree_up_to_rounding(text: str, seed: int) -> None:
    data, (lower, upper), _ = read(text)
    ends = [end.astype(np.float64) for end in (lower, upper)]
    dtype = DTYPES[session(data).get_inputs()[0].type]
    points = np.random.default_rng(seed).uniform(*ends, (5, len(lower))).astype(dtype).astype(np.float64)
    wanted = reference(text, points)
    # The same sums without cancellation: |x| + |m|, |W| and |b| throughout.
    means = np.abs([float(entry) for entry in numbers_of(text)[5][: len(lower)]])
    scale = 1e-30 + reference(text, np.abs(points) + 2 * means, lambda entry: abs(float(entry)))
    for found in both(data, points):
        assert close(found, wanted, dtype, scale)
        assert not close(found + scale / 10, wanted, dtype, scale)


# Errors


def refused(data: bytes, *parts: str) -> str:
    with pytest.raises(ModelError) as error:
        nnet_to_onnx(data, "net.nnet")
    text = str(error.value)
    assert text.startswith("net.nnet: ")
    assert "\n" not in text
    for part in parts:
        assert part in text, text
    return text


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("2,2,1,3,", "2,2,1,", ["line 3", "too few numbers: 3, expected 4"]),
        ("2,2,1,3,", "2,2,1,3,4,", ["line 3", "too many numbers: 5, expected 4"]),
        ("2,2,1,3,", "2,two,1,3,", ["line 3", "'two' is no size"]),
        ("2,2,1,3,", "0,2,1,3,", ["line 3", "'0' is no size"]),
        ("2,2,1,3,", "2,-2,1,3,", ["line 3", "'-2' is no size"]),
        ("2,2,1,3,", "2,1e3,1,3,", ["line 3", "'1e3' is no size"]),
        (
            "2,2,1,3,",
            "3,2,1,3,",
            ["line 4", "too few numbers: 3, expected 4", "the sizes of the inputs and of 3 layers"],
        ),
        ("2,2,1,3,", "1,2,1,3,", ["line 4", "too many numbers: 3, expected 2"]),
        ("2,2,1,3,", "2,5,1,3,", ["line 3 states 5 inputs", "line 4 state 2", "make them agree"]),
        ("2,2,1,3,", "2,2,4,3,", ["line 3 states 4 outputs", "line 4 state 1"]),
        ("2,3,1,", "2,0,1,", ["line 4", "'0' is no size"]),
        ("\n0,\n", "\n0,0,\n", ["line 5", "too many numbers: 2, expected 1", "flag"]),
        ("-1.5,0.1,", "-1.5,", ["line 6", "too few numbers: 1, expected 2", "the least value of each input"]),
        ("2.5,0.3,", "2.5,0.3,7,", ["line 7", "too many numbers: 3, expected 2", "the largest value of each input"]),
        ("2.5,0.3,", "2.5,0.09,", ["line 7", "largest value of input 2, 0.09", "below its least value, 0.1 (line 6)"]),
        ("2.5,0.3,", "2.5,inf,", ["line 7", "'inf' is not a finite decimal number"]),
        ("2.5,0.3,", "2.5,1e10001,", ["line 7", "'1e10001' is beyond the range of float64"]),
        ("-1.5,0.1,", "-1.5,-1e-99999999999,", ["line 6", "beyond the range of float64"]),
        (
            "0.5,0.0,-1.0,",
            "0.5,",
            ["line 8", "too few numbers: 1, expected 3", "the mean of each input, and one of all"],
        ),
        ("0.5,0.0,-1.0,", "0.5,0.0,-1.0,9,", ["line 8", "too many numbers: 4, expected 3"]),
        ("2.0,4.0,8.0,", "2.0,0.0,8.0,", ["line 9", "a range of 0.0", "must not be 0"]),
        ("2.0,4.0,8.0,", "2.0,4.0,1e-400,", ["line 9", "a range of 1e-400", "must not be 0"]),
        ("2.0,4.0,8.0,", "2.0,nan,8.0,", ["line 9", "'nan' is not a finite decimal number"]),
        ("1.0,-0.25,", "1.0,", ["line 10", "too few numbers: 1, expected 2", "weights of layer 1, unit 1"]),
        ("0.5,0.5,", "0.5,0.5,0.5,", ["line 11", "too many numbers: 3, expected 2", "weights of layer 1, unit 2"]),
        ("-2.0,1.0,", "-2.0,NaN,", ["line 12", "'NaN' is not a finite decimal number (weights of layer 1, unit 3)"]),
        ("-2.0,1.0,", "-2.0,,", ["line 12", "'' is not a finite decimal number"]),
        ("-2.0,1.0,", "-2.0,1_0,", ["line 12", "'1_0' is not a finite decimal number"]),
        ("-2.0,1.0,", "-2.0,\u0661,", ["line 12", "is not a finite decimal number"]),
        ("-2.0,1.0,", "-2.0 1.0,", ["line 12", "too few numbers"]),
        ("-2.0,1.0,", "-2.0,0x1p3,", ["line 12", "'0x1p3' is not a finite decimal number"]),
        ("-2.0,1.0,", "-2.0,1e400,", ["line 12", "'1e400' is beyond the range of float64"]),
        ("-2.0,1.0,", f"-2.0,{'1' * 2000},", ["line 12", f"'{'1' * 40}...' is not a finite decimal number"]),
        ("-0.5,\n", "-0.5,1.0,\n", ["line 14", "too many numbers: 2, expected 1", "bias of layer 1, unit 2"]),
        ("-0.0625,", "-0.0625,\n7,", ["line 18", "numbers behind the last bias that the sizes 2,3,1 allow"]),
        ("0.75,\n", "", ["cut short, or its sizes are wrong", "holds 7 lines", "2,3,1 need 8"]),
    ],
)
def test_faults_are_named_with_their_line(old: str, new: str, parts: Sequence[str]) -> None:
    refused(changed(old, new), *parts)


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"", ["not an NNet file, or cut short: it holds no numbers"]),
        (b"// only a comment\n", ["it holds no numbers"]),
        (b"2,2,1,3,\n2,3,1,\n", ["it ends behind line 2, within its header"]),
        (b"\n\n\xff\xfe", ["line 3: not an NNet file (byte 2 is no text in UTF-8)"]),
        (b"a\nb\nc\nd\ne\nf\ng\n", ["line 1: too few numbers: 1, expected 4"]),
    ],
)
def test_what_is_no_such_file_is_refused(data: bytes, parts: Sequence[str]) -> None:
    refused(data, *parts)


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ("2,2,1,3", "2,999999999999,1", "cut short, or its sizes are wrong: it holds 8 lines"),
        ("2,999999999999,1,3", "999999999999,3,1", "line 6: too few numbers: 2, expected 999,999,999,999"),
        ("999999999999,2,1,3", "2,3,1", "line 4: too few numbers: 3, expected 1,000,000,000,000"),
        ("2,2,1,3", "2,9999999999999,1", "line 4: '9999999999999' is no size"),
    ],
)
def test_absurd_sizes_cost_nothing(counts: str, sizes: str, message: str) -> None:
    refused(SMALL.replace("2,2,1,3,", counts).replace("2,3,1,", sizes).encode(), message)


def test_a_text_that_is_too_long_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nnet, "LARGEST", len(SMALL))
    nnet_to_onnx(SMALL.encode(), "small")
    refused(SMALL.encode() + b"\n", f"{len(SMALL) + 1} bytes; NNet files of at most {len(SMALL)} are read")


@pytest.mark.parametrize("text", ["1e1001", "1e-1001", "-1e-9999", "1e+" + "9" * 900])
def test_short_texts_of_long_numbers_are_refused(text: str) -> None:
    refused(SMALL.replace("-1.5,0.1,", f"{text},0.1,").encode(), "beyond the range of float64")


def test_many_sizes_are_not_all_shown() -> None:
    refused(
        SMALL.replace("2,2,1,3,", "14,2,1,3").replace("2,3,1,", "2," + "3," * 13 + "1,").encode(),
        "2,3,3,3,3,3,3,3,...,3,1 ",
    )


def test_every_cut_of_a_file_is_refused() -> None:
    """Also within the last number, where what is left is a number."""
    whole = SMALL.encode()
    accepted = []
    for length in range(len(whole)):
        try:
            nnet_to_onnx(whole[:length], "net.nnet")
        except ModelError:
            continue
        accepted.append(length)
    assert accepted == [len(whole) - 1]  # only the last line end is missing
    refused(whole[:-3], "line 17: the file may be cut short within its last number, '-0.062'", "add the comma")


# Public files


@pytest.mark.shared
def test_public_files_compute_what_they_say(shared: Path) -> None:
    paths = sorted((shared / "networks").rglob("*.nnet"))
    assert len(paths) >= 12
    for path in paths:
        text = path.read_text()
        data, (lower, upper), notes = read(text)
        assert len(notes) in (2, 3), notes
        dtype = DTYPES[session(data).get_inputs()[0].type]
        assert (dtype is np.float32) == path.name.startswith(("HCAS", "VertCAS", "mnist")), notes
        # The evaluator sees the points that the model sees, so that only the arithmetic differs.
        ends = [end.astype(np.float64) for end in (lower, upper)]
        points = np.random.default_rng(0).uniform(*ends, (100, len(lower))).astype(dtype).astype(np.float64)
        wanted = reference(text, points)
        # The outputs of the twin ladders do not depend on the inputs: what is left of two equal networks.
        other = wanted + 0.01 if path.name.startswith("twin") else reference(text, points, slope=1)
        for found in both(data, points):
            assert close(found, wanted, dtype), path.name
            assert not close(found, other, dtype), path.name
        layers = [array.ravel() for name, array in weights(data).items() if name.startswith("layer")]
        printed = [float(entry) for row in numbers_of(text)[7:] for entry in row]
        np.testing.assert_array_equal(np.concatenate(layers), np.array(printed).astype(dtype))
        assert [list(map(Fraction, row)) for row in numbers_of(text)[3:5]] == [list(lower), list(upper)]
