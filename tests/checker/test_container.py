"""The file format: whatever is not exactly one is refused before it is used."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reluce.certificate._container import pack
from reluce_checker import Unreadable, _container
from reluce_checker._container import MAGIC, VERSION, unpack

TYPES = ["<f8", "<i8", "<i4", "<u2", "|u1", "|i1"]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.floats(-8, 8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def written(text: Any, arrays: bytes = b"", head: int | None = None) -> bytes:
    """A file with any text at all, by hand."""
    data = text if isinstance(text, bytes) else json.dumps(text).encode()
    return framed(struct.pack("<Q", len(data) if head is None else head) + data + arrays)


def framed(body: bytes, length: int | None = None, version: int = VERSION, magic: bytes = MAGIC) -> bytes:
    return magic + struct.pack("<IQ", version, len(body) if length is None else length) + zlib.compress(body)


@given(st.dictionaries(st.text(max_size=3), values, max_size=3))
def test_text_comes_back(text: dict[str, Any]) -> None:
    assert unpack(pack(text)) == text


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (0, 4), (4, 0)])
def test_arrays_come_back(kind: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)) - 3).astype(kind).reshape(shape)
    other = np.arange(5, dtype=np.int32)
    found = unpack(pack({"first": other, "list": [array, {"again": array.T}]}))
    assert np.array_equal(found["first"], other)
    first, (second,) = found["list"][0], found["list"][1].values()
    assert first.dtype == array.dtype
    assert first.shape == shape
    assert np.array_equal(first, array)
    assert np.array_equal(second, array.T)


def test_floats_come_back_bit_by_bit() -> None:
    array = np.array([-0.0, np.nan, np.inf, 5e-324, 0.1])
    assert unpack(pack({"a": array}))["a"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not start as one"),
        (b"RELUCERT", "does not start as one"),
        (b"\x08\x07onnx" * 9, "does not start as one"),
        (framed(b"", version=2), "format version 2; this checker reads version 1"),
        (framed(b"", length=(1 << 31) + 1), "claims 2147483649 bytes"),
        (MAGIC + struct.pack("<IQ", VERSION, 9) + b"no zlib", "cannot be decompressed"),
        (pack({})[:-1], "cut off, or longer"),
        (pack({}) + b"\0", "cut off, or longer"),
        (framed(b"", length=5), "cut off, or longer"),
        (framed(b"\0" * 9, length=8), "cut off, or longer"),
        (framed(b"\0" * 7), "text is cut off"),
        (written(b"{}", head=3), "text is cut off"),
        (written(b"{}", head=1 << 63), "text is cut off"),
        (written(b"{"), "not JSON"),
        (written(b"\xff"), "not JSON"),
        (written(b'{"a": NaN}'), "NaN is not a number"),
        (written(b'{"a": -Infinity}'), "-Infinity is not a number"),
        (written(b"[" * 100_000), "not JSON"),
        (written(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (written([]), "not an object"),
        (written("{}"), "not an object"),
        (written({"a": [[[[[[[[[[[[[[]]]]]]]]]]]]]]}), "nested too deeply"),
    ],
)
def test_what_is_no_certificate(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        unpack(data)


@pytest.mark.parametrize(
    "reference",
    [
        [0, "f8", [3]],
        [1, "f8", [2]],
        [17, "u1", [0]],
        [-1, "u1", [1]],
        [0, "u1", [-1]],
        [0, "u1", [1 << 62, 1 << 62]],
        [0, "u1", [0, 1 << 62]],
        [0, "u1", [0, 1 << 31, 1 << 31]],
        [0, "u1", [1, 1, 1]],
        [True, "u1", [1]],
        [0, "u1", [True]],
        [0, "f4", [1]],
        [0, "O", [1]],
        [0, "u1"],
        [0.0, "u1", [1]],
        [0, "u1", [1.0]],
        "array",
        None,
        {},
    ],
)
def test_references_to_arrays_that_are_not_there(reference: Any) -> None:
    with pytest.raises(Unreadable, match="refers to an array"):
        unpack(written({"a": {"array": reference}}, bytes(16)))


def test_arrays_may_share_bytes_and_an_array_may_be_empty_at_the_end() -> None:
    text = {"a": {"array": [0, "u1", [16]]}, "b": {"array": [8, "f8", [1]]}, "c": {"array": [16, "f8", [0]]}}
    found = unpack(written(text, bytes(16)))
    assert [found[key].size for key in "abc"] == [16, 1, 0]


def test_the_text_itself_may_not_be_an_array() -> None:
    with pytest.raises(Unreadable):
        unpack(written({"array": [0, "u1", [1]]}, bytes(16)))


def test_a_text_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_container, "LONGEST", 100)
    with pytest.raises(Unreadable, match="at most 100 are read"):
        unpack(pack({"a": "x" * 100}))


def test_no_more_is_decompressed_than_a_file_says() -> None:
    """A small file that swells: its length was checked before."""
    with pytest.raises(Unreadable, match="longer than it says"):
        unpack(framed(bytes(1 << 24), length=100))


def test_arrays_share_bytes_only_so_far() -> None:
    once = {"array": [0, "u1", [1 << 20]]}
    assert len(unpack(written({"a": [once] * 65}, bytes(1 << 20)))["a"]) == 65
    with pytest.raises(Unreadable, match="the same bytes again and again"):
        unpack(written({"a": [once] * 66}, bytes(1 << 20)))
