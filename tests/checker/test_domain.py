"""The user's domain: exact, complete, and inside the one that was proved."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce_checker import Unreadable, Usage
from reluce_checker._domain import FINE, demand_box, enclosed, from_npz, from_ranges, within
from reluce_checker._graph import Graph, objects

ONE = Graph(("x",), ("x",), (), {"x": (1, 2)}, {"x": "float32"})
TWO = Graph(("a", "b"), ("a",), (), {"a": (1, 2), "b": (1,)}, {"a": "float32", "b": "float32"})
UNKNOWN = Graph(("x",), ("x",), (), {"x": None}, {"x": "float32"})


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(value) for name, value in arrays.items()})
    return file.getvalue()


def flat(domain: Any) -> dict[str, tuple[list[Fraction], list[Fraction]]]:
    return {name: (list(low), list(high)) for name, (low, high) in domain.items()}


def ends(*pairs: tuple[Any, Any]) -> Any:
    return tuple(objects([Fraction(pair[side]) for pair in pairs]) for side in (0, 1))


def test_ranges_are_exact_decimals() -> None:
    assert flat(from_ranges(ONE, ["0.1,1e2"])) == {"x": ([Fraction(1, 10)] * 2, [Fraction(100)] * 2)}
    assert flat(from_ranges(ONE, [" -.5 , +3. "])) == {"x": ([Fraction(-1, 2)] * 2, [Fraction(3)] * 2)}
    assert flat(from_ranges(TWO, ["0,1", "b=-1,2"])) == {
        "a": ([Fraction(0)] * 2, [Fraction(1)] * 2),
        "b": ([Fraction(-1)], [Fraction(2)]),
    }


@pytest.mark.parametrize(
    "ranges",
    [
        ["0"],
        ["0,1,2"],
        ["a,b"],
        ["0,inf"],
        ["nan,1"],
        ["0x1,2"],
        ["1/3,1"],
        ["0,1", "1,2"],
        ["y=0,1"],
        [""],
        ["0,1e9999"],
    ],
)
def test_other_ranges_are_a_wrong_request(ranges: list[str]) -> None:
    with pytest.raises(Usage, match="range"):
        from_ranges(ONE, ranges)


def test_every_input_needs_a_range() -> None:
    with pytest.raises(Usage, match="no range for input 'a'"):
        from_ranges(TWO, ["b=0,1"])


def test_a_range_may_not_be_empty() -> None:
    with pytest.raises(Unreadable, match="'x' has a lower end above its upper end"):
        from_ranges(ONE, ["1,0"])
    assert flat(from_ranges(ONE, ["1,1"])) == {"x": ([Fraction(1)] * 2, [Fraction(1)] * 2)}


def test_boxes_from_a_file() -> None:
    data = npz(lo=np.array([0.1, 0], np.float32), hi=1)
    assert flat(from_npz(ONE, data)) == {"x": ([Fraction(float(np.float32(0.1))), Fraction(0)], [Fraction(1)] * 2)}
    data = npz(**{"a.lo": [0, 0], "a.hi": [1, 2], "b.lo": -1, "b.hi": [5]})
    assert flat(from_npz(TWO, data)) == {
        "a": ([Fraction(0)] * 2, [Fraction(1), Fraction(2)]),
        "b": ([Fraction(-1)], [Fraction(5)]),
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be used"),
        (b"no zip", "cannot be used"),
        (npz(lo=[0, 0]), "cannot be used"),
        (npz(lo=[0, 0, 0], hi=1), "3 numbers where the input has 2"),
        (npz(lo=[0, np.nan], hi=1), "finite"),
        (npz(lo=0, hi=np.inf), "finite"),
        (npz(lo=["a", "b"], hi=1), "finite"),
        (npz(lo=[0, 2], hi=1), "lower end above"),
        (npz(lo=np.array([0, 1], object), hi=1), "cannot be used"),
    ],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        from_npz(ONE, data)


def member(header: str, content: bytes = bytes(16), version: bytes = b"\1\0", length: int | None = None) -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header) if length is None else length)
    return b"\x93NUMPY" + version + size + header.encode() + content


def archive(lo: bytes, how: int = zipfile.ZIP_STORED, name: str = "lo.npy") -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", how) as found:
        warnings.simplefilter("ignore")  # of a name that is there twice
        found.writestr(name, lo)
        found.writestr("hi.npy", member(GOOD))
    return file.getvalue()


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }"
FINE_FILE = archive(member(GOOD))
CONTENTS = FINE_FILE.index(b"PK\1\2")
HOSTILE = {
    "array": b"\x93NUMPY\1\0v\0{'descr': '<f8'}",
    "shape": archive(member(GOOD.replace("1, 2", f"{1 << 40}"))),
    "shape of nothing": archive(member(GOOD.replace("1, 2", f"0, {1 << 39}"), b"")),
    "shape, digits": archive(member(GOOD.replace("1, 2", "9" * 900))),
    "longer": archive(member(GOOD, bytes(24))),
    "shorter": archive(member(GOOD, bytes(8))),
    "bomb": archive(member(GOOD, bytes(1 << 24)), zipfile.ZIP_DEFLATED),
    "objects": archive(member(GOOD.replace("<f8", "|O"))),
    "records": archive(member(GOOD.replace("'<f8'", "[('a', '<f8')]"))),
    "complex": archive(member(GOOD.replace("<f8", "<c8"))),
    "long double": archive(member(GOOD.replace("<f8", "<f16").replace("1, 2", "1"))),
    "header": archive(member(GOOD.replace("{", "(" * 500))),
    "header of gigabytes": archive(member(GOOD, version=b"\2\0", length=(1 << 32) - 1)),
    "version": archive(member(GOOD, version=b"\3\0")),
    "no array": archive(b"some text"),
    "lzma": archive(member(GOOD), zipfile.ZIP_LZMA),
    "twice": archive(member(GOOD), name="hi.npy"),
    "name": archive(member(GOOD), name="lo"),
    "encrypted": FINE_FILE[: CONTENTS + 8] + b"\1" + FINE_FILE[CONTENTS + 9 :],
    "size": FINE_FILE[: CONTENTS + 24] + b"\xff" + FINE_FILE[CONTENTS + 25 :],
    "patched": FINE_FILE[: CONTENTS + 8] + b"\x20" + FINE_FILE[CONTENTS + 9 :],
    "check sum": FINE_FILE.replace(bytes(16), bytes(15) + b"\1"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    with pytest.raises(Unreadable, match="the domain file cannot be used"):
        from_npz(ONE, HOSTILE[name])


def test_the_file_that_hostile_ones_are_made_of_can_be_read() -> None:
    assert flat(from_npz(ONE, FINE_FILE)) == {"x": ([Fraction(0)] * 2, [Fraction(0)] * 2)}
    packed = archive(member(GOOD, version=b"\2\0"), zipfile.ZIP_DEFLATED)
    assert flat(from_npz(ONE, packed)) == flat(from_npz(ONE, FINE_FILE))


def test_the_order_of_the_numbers_is_kept() -> None:
    graph = Graph(("x",), ("x",), (), {"x": (2, 3)}, {"x": "float32"})
    low = np.arange(6.0).reshape(2, 3)
    for array in (low, np.asfortranarray(low), low.astype(">f4"), low.astype(np.int8)):
        assert flat(from_npz(graph, npz(lo=array, hi=9)))["x"][0] == [Fraction(k) for k in range(6)]


def test_a_box_has_the_inputs_of_the_network() -> None:
    box = {"x": ends((0, 1), (0, 1))}
    assert demand_box(ONE, box) is box
    with pytest.raises(Unreadable, match="the domain is of inputs"):
        demand_box(TWO, box)
    with pytest.raises(Unreadable, match="does not have 2 numbers"):
        demand_box(ONE, {"x": ends((0, 1))})
    with pytest.raises(Unreadable, match="leaves dimensions of input 'x' open"):
        demand_box(UNKNOWN, {"x": ends()})


def test_one_box_in_another() -> None:
    outer = {"a": ends((0, 1), (0, 1)), "b": ends((0, 1))}
    tiny = Fraction(1, 2**1100)
    assert within(outer, outer) is None
    assert within({**outer, "a": ends((tiny, 1), (0, 1 - tiny))}, outer) is None
    assert within({**outer, "a": ends((0, 1), (-tiny, 1))}, outer) == "a"
    assert within({**outer, "b": ends((0, 1 + tiny))}, outer) == "b"


@given(st.fractions(-10, 10), st.fractions(-10, 10))
def test_ends_that_are_no_dyadic_numbers_are_rounded_outward(first: Fraction, second: Fraction) -> None:
    low, high = sorted((first, second))
    x = enclosed(ends((low, high)))
    (found_low,), (found_high,) = (
        [Fraction(int(m)) * Fraction(2) ** end.exponent for m in end.mantissa.ravel()] for end in (x.low, x.high)
    )
    for found, wanted, sign in ((found_low, low, -1), (found_high, high, 1)):
        assert 0 <= sign * (found - wanted) < Fraction(1, 2**FINE)
        if wanted.denominator & (wanted.denominator - 1) == 0:
            assert found == wanted
    assert x.known.all()
