"""Writer and reader of the file format share no code, and agree."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reluce.certificate._container as writer
import reluce_checker._container as reader
from certificates import LEVELS, PROVERS, contents, domain_of, quick, random_network
from reluce.certificate._container import pack
from reluce_checker import check
from reluce_checker._container import unpack

leaves = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5) | st.floats(-8, 8)
arrays = st.tuples(
    st.sampled_from(sorted(writer.TYPES)), st.lists(st.integers(0, 3), min_size=1, max_size=2), st.integers(0, 99)
).map(lambda part: np.random.default_rng(part[2]).integers(0, 100, part[1]).astype(part[0]))
texts = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        leaves | arrays,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and first.shape == second.shape and np.array_equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return type(first) is type(second) and first == second


@given(texts)
def test_what_is_written_is_read(text: dict[str, Any]) -> None:
    assert same(unpack(pack(text)), text)


@given(texts)
def test_the_same_text_gives_the_same_bytes(text: dict[str, Any]) -> None:
    assert pack(text) == pack(text)


def test_they_agree_on_the_format_without_sharing_it() -> None:
    assert (writer.MAGIC, writer.VERSION) == (reader.MAGIC, reader.VERSION)
    assert {value: key for key, value in writer.TYPES.items()} == reader.TYPES
    for module, other in ((writer, "reluce_checker"), (reader, "reluce")):
        names = [
            node.module or ""
            for node in ast.walk(ast.parse(inspect.getsource(module)))
            if isinstance(node, ast.ImportFrom)
        ]
        assert not any(name.partition(".")[0] == other for name in names)


@pytest.mark.parametrize("value", [np.zeros(1, np.float32), np.array(["text"]), np.zeros(1, np.complex128)])
def test_other_arrays_are_not_written(value: Any) -> None:
    with pytest.raises(KeyError):
        pack({"a": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"a": value})


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_a_real_certificate_is_read_and_written_back(level: Any, tmp_path: Path) -> None:
    network, box = random_network(np.random.default_rng(3), 6, 3)
    found = quick(network, box, level, tmp_path, PROVERS["boxes"]).certified
    assert found is not None
    assert pack(contents(found.certificate)) == found.certificate
    check(found.original, found.compressed, found.certificate, domain_of(box))
