"""Every field of a certificate is checked, and the message says where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from certificates import (
    Text,
    linear,
    multiples,
    relation,
    signs,
    touching_boxes,
    touching_case,
    touching_split,
)
from reluce.certificate._container import pack
from reluce_checker import Unreadable
from reluce_checker._certificate import Boxes, Linear, Split, read_certificate

SLOPES = {"tensor": "z1", "above": np.array([1, 4096], np.uint16), "below": np.array([0, 1], np.uint16)}
IGNORED = {("settings",), ("original", "bytes"), ("compressed", "bytes")}
Path = tuple[Any, ...]


def text() -> Text:
    """A certificate with something of everything."""
    case = touching_case(
        linear("z2", [0, 1], -1, "zero"),
        touching_split(),
        touching_boxes(),
        points=[{"input": "x", "values": np.array([[0.5], [1.0]])}],
        slopes=[dict(SLOPES)],
        relations=[relation("z2", "z2", [1, -1], [[1.0, 2.0]], [3.0], [1.0, 0.5], over="z1")],
        multiples=[multiples("z1", [1], [0], [-0.5])],
    )
    about = {name: {"sha256": 64 * "0", "bytes": 1} for name in ("original", "compressed")}
    return {**case.text, **about}


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield (*path, key)
            yield from paths(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from paths(part, (*path, number))


def changed(path: Path, value: Any) -> bytes:
    """The certificate with one field changed; ``...`` takes it out."""
    whole = text()
    part: Any = whole
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return pack(whole)


FIELDS = [path for path in paths(text()) if not any(path[: len(some)] == some for some in IGNORED)]
WRONG: dict[str, Any] = {
    "gone": ...,
    "null": None,
    "a number": 3,
    "a text": "some text",
    "an object": {},
    "a list": [[]],
    "an array": np.zeros((1, 1), dtype=np.int64),
}


def test_the_certificate_itself_can_be_read() -> None:
    found = read_certificate(pack(text()))
    linear_, split, boxes = found.facts["z2"]
    assert (type(linear_), type(split), type(boxes)) == (Linear, Split, Boxes)
    assert (found.level, found.budget, found.producer) == ("exact", Fraction(0), "a test")
    assert [list(end) for end in found.domain["x"]] == [[Fraction(-1)], [Fraction(1)]]
    assert found.relations["z2"].kept.tolist() == [1, -1]
    assert found.slopes["z1"][0].tolist() == [1, 4096]
    assert found.points["x"].tolist() == [[0.5], [1.0]]
    assert found.stable["z2"].inactive.tolist() == [0]


TEXTS = {"tensor", "input", "output", "of", "over", "producer", "sha256"}
OPTIONAL = {("multiples",), ("relations", 0, "over")}
MISTAKES = [
    (path, wrong)
    for path in FIELDS
    for wrong in WRONG
    if (wrong != "a text" or path[-1] not in TEXTS) and (wrong != "gone" or path not in OPTIONAL)
]


@pytest.mark.parametrize(("path", "wrong"), MISTAKES)
def test_every_field_has_its_type(path: Path, wrong: str) -> None:
    with pytest.raises(Unreadable, match=rf"'{path[-1]}'"):
        read_certificate(changed(path, WRONG[wrong]))


def array(*numbers: Any, kind: Any) -> Any:
    return np.array(numbers, dtype=kind)


f8, i4, u2, s1, u1 = np.float64, np.int32, np.uint16, np.int8, np.uint8
BAD: list[tuple[Path, Any, str]] = [
    (("level",), "lossless", "'level': expected one of exact, roundoff, within"),
    (("budget",), "much", "'budget': expected a number"),
    (("budget",), "-1", "'budget': expected a finite number that is not negative"),
    (("budget",), "inf", "'budget': expected a finite number"),
    (("budget",), "nan", "'budget': expected a finite number"),
    (("producer",), "\x1b[2Jproved", "'producer': expected a short printable text"),
    (("producer",), "x" * 201, "'producer': expected a short printable text"),
    (("domain", 0, "lower"), ["1/0"], "'lower': expected fractions"),
    (("domain", 0, "lower"), ["0.5"], "'lower': expected fractions"),
    (("domain", 0, "lower"), ["1e9"], "'lower': expected fractions"),
    (("domain", 0, "lower"), [1], "'lower': expected a list of texts"),
    (("domain", 0, "upper"), array(np.inf, kind=f8), "'upper': expected finite numbers"),
    (("domain", 0, "upper"), array(1, kind=np.int64), "'upper': expected an array of 1 dimension.* of type f8"),
    (("epsilon", 0, "values"), array(np.nan, kind=f8), "'values': expected finite numbers"),
    (("epsilon", 0, "values"), array([0.0], kind=f8), "'values': expected an array of 1 dimension"),
    (("points", 0, "values"), array(0.5, kind=f8), "'values': expected an array of 2 dimension"),
    (("points", 0, "values"), array([np.inf], kind=f8), "'values': expected finite numbers"),
    (("slopes", 0, "above"), array(0, 4097, kind=u2), "'above': expected slopes from 0 to 4096"),
    (("slopes", 0, "below"), array(0, 1, kind=i4), "'below': expected an array of 1 dimension.* of type u2"),
    (("facts", 0, "kind"), "proof", "'kind': expected one of linear, split, boxes"),
    (("facts", 0, "below"), "two", "'below': expected one of table, zero, one"),
    (("facts", 0, "sign"), 0, "'sign': expected 1 or -1"),
    (("facts", 0, "sign"), True, "'sign': expected 1 or -1"),
    (("facts", 0, "sign"), 1.0, "'sign': expected 1 or -1"),
    (("facts", 0, "rows"), array(-1, kind=i4), "'rows': expected coordinates that are not negative"),
    (("facts", 0, "rows"), array(1, 0, kind=i4), "'rows': expected coordinates in rising order"),
    (("facts", 0, "rows"), array(1, 1, kind=i4), "'rows': expected coordinates in rising order"),
    (("facts", 1, "sign"), 2, "'sign': expected 1 or -1"),
    (("facts", 1, "split"), array([2, 0], [-1, 0], kind=s1), "'split': expected 1, -1 or 0"),
    (("facts", 1, "split"), array([-128, 0], [-1, 0], kind=s1), "'split': expected 1, -1 or 0"),
    (("facts", 1, "above"), array(0, kind=u2), "'above': expected a slope for each column"),
    (("facts", 1, "above"), array(0, 5000, kind=u2), "'above': expected slopes"),
    (("facts", 1, "below"), array([0], [0], kind=u2), "'which': expected a row of 'below' for each leaf"),
    (("facts", 1, "below"), array([0, 4097], [0, 0], kind=u2), "'below': expected slopes"),
    (("facts", 1, "which"), array(0, 2, kind=i4), "'which': expected a row of 'below' for each leaf"),
    (("facts", 1, "which"), array(0, -1, kind=i4), "'which': expected coordinates that are not negative"),
    (("facts", 1, "which"), array(0, kind=i4), "'which': expected a row of 'below' for each leaf"),
    (("facts", 1, "rows"), array(0, kind=i4), "'rows': expected a coordinate for each leaf"),
    (("facts", 1, "beta"), array(0, kind=f8), "'beta': expected a number that is not negative for each split"),
    (("facts", 1, "beta"), array(0, -5e-324, kind=f8), "'beta': expected a number that is not negative"),
    (("facts", 1, "beta"), array(0, np.inf, kind=f8), "'beta': expected finite numbers"),
    (("facts", 1, "over"), ["z1", 1], "'over': expected a list of texts"),
    (("facts", 2, "signs"), array(0, kind=s1), "'signs': expected 1 or -1 for each goal"),
    (("facts", 2, "signs"), array(-128, kind=s1), "'signs': expected 1 or -1 for each goal"),
    (("facts", 2, "signs"), array(1, 1, kind=s1), "'signs': expected 1 or -1 for each goal"),
    (("facts", 2, "places"), array(0, 0, kind=i4), "'places': expected a coordinate for each of 'inputs'"),
    (("facts", 2, "inputs"), ["x", "x"], "'places': expected a coordinate for each of 'inputs'"),
    (("facts", 2, "dimension"), array(0, -1, kind=s1), "'dimension': expected the nodes of a tree"),
    (("facts", 2, "dimension"), array(0, -1, 1, -1, -1, kind=s1), "'dimension': expected the nodes of a tree"),
    (("facts", 2, "closed"), array([1], kind=u1), "'closed': expected a row for each node"),
    (("facts", 2, "closed"), np.ones((5, 2), dtype=u1), "'closed': expected a row for each node"),
    (("stable", 0, "inactive"), array(-1, kind=i4), "'inactive': expected coordinates that are not negative"),
    (("stable", 0, "active"), array(0, kind=np.int64), "'active': expected an array of 1 dimension.* of type i4"),
    (("relations", 0, "kept"), array(0, -2, kind=i4), "'kept': expected coordinates, or -1"),
    (("relations", 0, "kept"), array(0, 1, kind=i4), "'matrix': expected a row for each coordinate that is -1"),
    (("relations", 0, "factor"), array(1, kind=f8), "'factor': expected nothing, or a number that is not 0"),
    (("relations", 0, "factor"), array(1, 0, kind=f8), "'factor': expected nothing, or a number that is not 0"),
    (("relations", 0, "factor"), array(1, -0.0, kind=f8), "'factor': expected nothing, or a number that is not 0"),
    (("relations", 0, "factor"), array(1, np.inf, kind=f8), "'factor': expected finite numbers"),
    (("relations", 0, "over"), 1, "'over': expected text"),
    (("relations", 0, "over"), None, "'over': expected text"),
    (("multiples",), {}, "'multiples': expected a list"),
    (("multiples", 0), 1, "'multiples', entry 0: expected an object"),
    (("multiples", 0, "tensor"), 1, "'tensor': expected text"),
    (("multiples", 0, "unit"), array(1, kind=f8), "'unit': expected an array of 1 dimension.* of type i4"),
    (("multiples", 0, "unit"), array(-1, kind=i4), "'unit': expected coordinates that are not negative"),
    (("multiples", 0, "unit"), array(1, 1, kind=i4), "'to': expected a coordinate and a factor for each of 'unit'"),
    (("multiples", 0, "unit"), array(0, kind=i4), "'unit': expected coordinates once, and none of 'to'"),
    (("multiples", 0, "to"), array(-1, kind=i4), "'to': expected coordinates that are not negative"),
    (("multiples", 0, "to"), array(1, kind=i4), "'unit': expected coordinates once, and none of 'to'"),
    (("multiples", 0, "to"), array(0, 0, kind=i4), "'to': expected a coordinate and a factor for each of 'unit'"),
    (("multiples", 0, "factor"), array(1, kind=i4), "'factor': expected an array of 1 dimension.* of type f8"),
    (("multiples", 0, "factor"), array(np.nan, kind=f8), "'factor': expected finite numbers"),
    (("multiples", 0, "factor"), array(-np.inf, kind=f8), "'factor': expected finite numbers"),
    (("multiples", 0, "factor"), array(1, 2, kind=f8), "'to': expected a coordinate and a factor for each of 'unit'"),
    (("relations", 0, "matrix"), np.zeros((2, 2)), "'matrix': expected a row for each coordinate that is -1"),
    (("relations", 0, "matrix"), array([1, np.nan], kind=f8), "'matrix': expected finite numbers"),
    (("relations", 0, "shift"), array(1, 1, kind=f8), "'matrix': expected a row for each coordinate that is -1"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_values_that_make_no_sense(path: Path, value: Any, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        read_certificate(changed(path, value))


@pytest.mark.parametrize("key", ["domain", "epsilon", "points", "slopes", "stable", "relations", "multiples"])
def test_no_name_comes_twice(key: str) -> None:
    whole = text()
    whole[key] = whole[key] * 2
    with pytest.raises(Unreadable, match=rf"'{key}': expected every .* once"):
        read_certificate(pack(whole))


def test_the_message_says_which_entry() -> None:
    with pytest.raises(Unreadable, match=r"certificate, 'facts', entry 1, 'sign': expected 1 or -1"):
        read_certificate(changed(("facts", 1, "sign"), 0))


def test_ends_as_numbers_and_as_fractions_are_the_same() -> None:
    found = read_certificate(changed(("domain", 0, "lower"), array(-1, kind=f8)))
    assert list(found.domain["x"][0]) == [Fraction(-1)]
    third = read_certificate(changed(("domain", 0, "lower"), ["-1/3"])).domain["x"][0]
    assert list(third) == [Fraction(-1, 3)]


def test_signs_may_be_left_out_altogether() -> None:
    assert read_certificate(changed(("stable",), [])).stable == {}
    assert read_certificate(changed(("stable",), [signs("z2")])).stable["z2"].inactive.size == 0


def test_what_is_new_in_relations_may_be_left_out() -> None:
    """Files of before say nothing of other tensors or of multiples."""
    del (whole := text())["multiples"]
    del whole["relations"][0]["over"]
    found = read_certificate(pack(whole))
    assert found.multiples == {}
    assert found.relations["z2"].over == found.relations["z2"].of == "z2"


def test_two_units_claimed_twice_over() -> None:
    """One claim for each unit, and nothing is claimed of what others are multiples of."""
    for unit, to in (([1, 1], [0, 0]), ([1, 0], [0, 2]), ([2, 1], [1, 0])):
        whole = text()
        whole["multiples"] = [multiples("z1", unit, to, [1.0, 1.0])]
        with pytest.raises(Unreadable, match="'unit': expected coordinates once, and none of 'to'"):
            read_certificate(pack(whole))
