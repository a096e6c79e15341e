import io
import pickle
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from math import inf, nan, nextafter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tiny_models import build, known, two_inputs

from reluce.domain import Box, box_from_data, box_from_ranges, fit_data, load_box, load_data, make_box
from reluce.errors import DomainError
from reluce.io import loads
from reluce.network import Network

Array = np.ndarray[Any, Any]


def network_of(model: Any) -> Network:
    return loads(model.SerializeToString()).network


def image_network() -> Network:
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "W"], ["y"])]
    model = build(nodes, {"x": ["N", 1, 2, 3]}, {"y": ["N", 1]}, {"W": np.ones((6, 1), np.float32)})
    return network_of(model)


ONE, TWO, IMAGE = network_of(known()), network_of(two_inputs()), image_network()


def exact_box(low: Sequence[Fraction], high: Sequence[Fraction]) -> Box:
    lower, upper = np.empty(len(low), object), np.empty(len(high), object)
    lower[:], upper[:] = low, high
    return Box({"x": lower}, {"x": upper})


# Ranges


def test_a_range_is_kept_as_the_numbers_that_it_spells() -> None:
    box = box_from_ranges(ONE, ["0.1,0.3"])
    assert box.lower["x"].tolist() == [Fraction(1, 10)] * 2
    assert box.upper["x"].tolist() == [Fraction(3, 10)] * 2
    assert box.lower["x"].shape == (2,)
    assert not box.assumption


def test_a_tenth_is_rounded_outward_and_inward_to_its_neighbours() -> None:
    box = box_from_ranges(ONE, ["0.1,0.1"])  # the float64 0.1 lies above one tenth
    below = nextafter(0.1, -inf)
    assert Fraction(below) < Fraction(1, 10) < Fraction(0.1)
    assert [ends.tolist() for ends in box.outer["x"]] == [[below] * 2, [0.1] * 2]
    assert [ends.tolist() for ends in box.inner["x"]] == [[0.1] * 2, [below] * 2]
    assert not box.has_points


def test_three_tenths_are_rounded_outward_and_inward_to_their_neighbours() -> None:
    box = box_from_ranges(ONE, ["-0.3,0.3"])  # the float64 0.3 lies below three tenths
    above = nextafter(0.3, inf)
    assert Fraction(0.3) < Fraction(3, 10) < Fraction(above)
    assert [ends.tolist() for ends in box.outer["x"]] == [[-above] * 2, [above] * 2]
    assert [ends.tolist() for ends in box.inner["x"]] == [[-0.3] * 2, [0.3] * 2]


def test_representable_ends_are_left_alone() -> None:
    box = box_from_ranges(ONE, ["-0.5,255"])
    assert [ends.tolist() for ends in box.outer["x"]] == [[-0.5] * 2, [255.0] * 2]
    assert [ends.tolist() for ends in box.inner["x"]] == [[-0.5] * 2, [255.0] * 2]


def test_numbers_below_the_smallest_float_still_enclose() -> None:
    low, high = box_from_ranges(ONE, ["-1e-400,1e-400"]).outer["x"]
    assert (low < 0).all()
    assert (high > 0).all()


@pytest.mark.parametrize("text", ["1e308", "1.7976931348623157e308", "1.7976931348623158e308"])
def test_numbers_near_the_largest_float_still_enclose(text: str) -> None:
    low, high = box_from_ranges(ONE, [f"-{text},{text}"]).outer["x"]
    for end in (*high.tolist(), *(-low).tolist()):
        assert end == inf or Fraction(end) >= Fraction(text)


def test_a_named_range_wins_over_the_general_one() -> None:
    box = box_from_ranges(TWO, ["0,1", "b=-1,2"])
    assert [box.lower[name].tolist() for name in "ab"] == [[0, 0], [-1]]
    assert [box.upper[name].tolist() for name in "ab"] == [[1, 1], [2]]
    assert make_box(TWO, ["a=0,1", "b=-1,2"]).upper["b"].tolist() == [2]
    assert "b=-1,2" in box.description


def test_an_input_without_a_domain_is_named() -> None:
    with pytest.raises(DomainError, match=r"no domain for input 'b'.*such as b=0,1"):
        box_from_ranges(TWO, ["a=0,1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0", "'1,0'.*lower end exceeds the upper end"),
        ("x=1,0", "'x=1,0'.*lower end exceeds the upper end"),
        ("q=0,1", "no input 'q'; it has 'x'"),
        ("0", "expected LO,HI"),
        ("0,1,2", "expected LO,HI"),
        ("", "expected LO,HI"),
        ("a,1", "'a' is not a finite decimal number"),
        ("0,nan", "'nan' is not a finite decimal number"),
        ("0,inf", "'inf' is not a finite decimal number"),
        ("0,1e400", "'1e400' is not a finite decimal number"),
        ("0,1/0", "'1/0' is not a finite decimal number"),
        ("0,", "'' is not a finite decimal number"),
    ],
)
def test_ranges_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        box_from_ranges(ONE, [text])


decimals = st.decimals(min_value=-1000, max_value=1000, allow_nan=False, allow_infinity=False, places=7)
fractions = st.fractions(min_value=-1000, max_value=1000)
pairs = st.lists(st.tuples(fractions, fractions).map(sorted), min_size=1, max_size=5)


@given(st.tuples(decimals, decimals).map(sorted))
def test_any_decimal_range_is_exact(ends: list[Any]) -> None:
    box = box_from_ranges(ONE, [f"{ends[0]},{ends[1]}"])
    assert set(box.lower["x"].tolist()) == {Fraction(str(ends[0]))}
    assert set(box.upper["x"].tolist()) == {Fraction(str(ends[1]))}


@given(pairs)
def test_outer_encloses_and_inner_lies_inside_by_one_neighbour(ends: list[list[Fraction]]) -> None:
    box = exact_box(*map(list, zip(*ends, strict=True)))
    outer, inner = box.outer["x"], box.inner["x"]
    for i, (low, high) in enumerate(ends):
        assert Fraction(float(outer[0][i])) <= low <= Fraction(float(inner[0][i]))
        assert Fraction(float(inner[1][i])) <= high <= Fraction(float(outer[1][i]))
        for down, up, end in ((outer[0][i], inner[0][i], low), (inner[1][i], outer[1][i], high)):
            assert up == (down if Fraction(float(down)) == end else nextafter(down, inf))


@given(pairs, st.integers(0, 2**32), st.integers(1, 20))
def test_points_that_a_box_makes_lie_in_it_exactly(ends: list[list[Fraction]], seed: int, samples: int) -> None:
    box = exact_box(*map(list, zip(*ends, strict=True)))
    if not box.has_points:
        return
    generator = np.random.default_rng(seed)
    wild = {"x": generator.normal(scale=2000, size=(samples, len(ends)))}
    for points in (box.clip(wild), box.sample(generator, samples), box.corners(generator, samples)):
        assert points["x"].shape == (samples, len(ends))
        assert box.contains(points).all()
        for row in points["x"].tolist():
            for value, (low, high) in zip(row, ends, strict=True):
                assert low <= Fraction(value) <= high


@given(pairs)
def test_contains_is_exact_at_the_ends(ends: list[list[Fraction]]) -> None:
    box = exact_box(*map(list, zip(*ends, strict=True)))
    if not box.has_points:
        return
    low, high = box.inner["x"]
    assert box.contains({"x": np.stack([low, high])}).all()
    for i in range(len(ends)):
        below, above = low.copy(), high.copy()
        below[i], above[i] = nextafter(low[i], -inf), nextafter(high[i], inf)
        assert not box.contains({"x": np.stack([below, above])}).any()


def test_nan_lies_in_no_box() -> None:
    box = box_from_ranges(ONE, ["0,1"])
    assert box.contains({"x": np.array([[0.5, nan], [0.5, 0.5]])}).tolist() == [False, True]


def test_the_first_two_corners_are_the_lowest_and_the_highest() -> None:
    points = box_from_ranges(TWO, ["a=0,1", "b=-1,2"]).corners(np.random.default_rng(0), 64)
    assert points["a"][:2].tolist() == [[0, 0], [1, 1]]
    assert points["b"][:2].tolist() == [[-1], [2]]
    assert {tuple(row) for row in points["a"].tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_crossed_ends_are_refused_with_their_coordinate() -> None:
    with pytest.raises(DomainError, match=r"'x': lower end 2\.0 exceeds upper end 1\.0 at coordinate \[1\]"):
        exact_box([Fraction(0), Fraction(2)], [Fraction(1), Fraction(1)])


# Files and arrays


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_box_file_for_one_input(tmp_path: Path) -> None:
    path = write(tmp_path / "box.npz", lo=[0.0, 0.1], hi=np.array([1, 2], np.int32))
    box = load_box(ONE, path)
    assert box.lower["x"].tolist() == [0, Fraction(0.1)]
    assert box.upper["x"].tolist() == [1, 2]
    assert "box.npz" in box.description
    named = write(tmp_path / "named.npz", **{"x.lo": [0.0, 0.1], "x.hi": [1.0, 2.0]})
    assert make_box(ONE, named).digest == make_box(ONE, str(path)).digest == box.digest


def test_a_box_file_for_several_inputs(tmp_path: Path) -> None:
    path = write(tmp_path / "box.npz", **{"a.lo": [0.0, 0.0], "a.hi": [1.0, 1.0], "b.lo": [-1.0], "b.hi": [2.0]})
    box = load_box(TWO, path)
    assert box.digest == box_from_ranges(TWO, ["0,1", "b=-1,2"]).digest


def test_float32_ends_are_taken_as_they_are() -> None:
    box = make_box(ONE, {"lo": np.zeros(2, np.float32), "hi": np.array([0.1, 0.1], np.float32)})
    assert box.upper["x"].tolist() == [Fraction(float(np.float32(0.1)))] * 2


def test_a_flat_box_fits_an_image_and_faults_are_named_in_its_shape() -> None:
    assert make_box(IMAGE, {"lo": np.zeros(6), "hi": np.ones((2, 3))}).lower["x"].shape == (1, 2, 3)
    low = np.zeros((1, 2, 3))
    low[0, 1, 2] = nan
    with pytest.raises(DomainError, match=r"lo: nan at coordinate \[0, 1, 2\]"):
        make_box(IMAGE, {"lo": low, "hi": np.ones((1, 2, 3))})
    low[0, 1, 2] = 7
    with pytest.raises(DomainError, match=r"7\.0 exceeds upper end 1\.0 at coordinate \[0, 1, 2\]"):
        make_box(IMAGE, {"lo": low, "hi": np.ones((1, 2, 3))})


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"lo": [0.0, 0.0], "hi": [1.0, nan]}, r"hi: nan at coordinate \[1\]"),
        ({"lo": [-inf, 0.0], "hi": [1.0, 1.0]}, r"lo: -inf at coordinate \[0\]"),
        ({"lo": [0.0, 3.0], "hi": [1.0, 1.0]}, r"lower end 3\.0 exceeds upper end 1\.0 at coordinate \[1\]"),
        ({"lo": [0.0], "hi": [1.0, 1.0]}, r"lo: has 1 values, expected 2: coordinate 1 is missing"),
        ({"lo": [0.0, 0.0], "hi": [1.0, 1.0, 1.0]}, r"hi: has 3 values, expected 2"),
        ({"lo": [0.0, 0.0]}, r"no domain for input 'x': array 'hi' is missing \(found 'lo'\)"),
        ({"low": [0.0, 0.0], "high": [1.0, 1.0]}, r"array 'lo' is missing \(found 'low', 'high'\)"),
        ({"lo": ["a", "b"], "hi": [1.0, 1.0]}, r"lo: holds <U1, not numbers"),
        ({"lo": [0j, 0j], "hi": [1.0, 1.0]}, r"lo: holds complex128, not numbers"),
    ],
)
def test_box_files_that_do_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "box.npz", **arrays)
    with pytest.raises(DomainError, match=message) as error:
        load_box(ONE, path)
    assert "box.npz" in str(error.value) or "input 'x'" in str(error.value)


def test_a_missing_input_in_a_box_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "box.npz", **{"a.lo": [0.0, 0.0], "a.hi": [1.0, 1.0]})
    with pytest.raises(DomainError, match=r"no domain for input 'b': array 'b\.lo' is missing"):
        load_box(TWO, path)


def bad_files() -> dict[str, bytes]:
    objects, raw, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(objects, lo=np.array([Fraction(0), Fraction(0)], object), hi=np.ones(2))
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("lo", b"no array")
        archive.writestr("hi", b"no array")
    np.savez_compressed(plain, lo=np.zeros(2), hi=np.ones(2))
    flipped = bytearray(plain.getvalue())
    flipped[60:90] = bytes(30)
    return {
        "objects.npz": objects.getvalue(),
        "pickled.npz": pickle.dumps({"lo": [0, 0], "hi": [1, 1]}),
        "text.npz": b"lo=0, hi=1\n",
        "empty.npz": b"",
        "short.npz": plain.getvalue()[:100],
        "flipped.npz": bytes(flipped),
        "raw.npz": raw.getvalue(),
        "header.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',\n",
    }


@pytest.mark.parametrize("name", bad_files())
def test_files_that_hold_no_arrays_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(bad_files()[name])
    with pytest.raises(DomainError, match=name):
        load_box(ONE, path)
    with pytest.raises(DomainError, match=name):
        load_data(ONE, path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(DomainError, match="cannot be read"):
            load_box(ONE, path)


def test_an_object_file_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "box.npz"
    with path.open("wb") as file:
        np.savez(file, lo=np.array([Trap(), Trap()], object), hi=np.ones(2))
    with pytest.raises(DomainError):
        load_box(ONE, path)
    assert not (tmp_path / "sprung").exists()


def test_long_doubles_are_exact_or_refused() -> None:
    ends = {"lo": np.zeros(2, np.longdouble), "hi": np.array([1, 2], np.longdouble)}
    with suppress(DomainError):
        assert make_box(ONE, ends).upper["x"].tolist() == [1, 2]


def test_a_box_is_taken_as_it_is_and_must_fit() -> None:
    box = box_from_ranges(ONE, ["0,1"])
    assert make_box(ONE, box).digest == box.digest
    with pytest.raises(DomainError, match="no domain for input 'a'; the box has 'x'"):
        make_box(TWO, box)
    with pytest.raises(DomainError, match=r"'x' has shape \(2,\), expected \(1, 2, 3\)"):
        make_box(IMAGE, box)


@pytest.mark.parametrize(("net", "ranges"), [(ONE, ["-0.5,2"]), (TWO, ["0,1", "b=-1,2"]), (IMAGE, ["0,255"])])
def test_a_saved_box_is_the_same_box(tmp_path: Path, net: Network, ranges: list[str]) -> None:
    box = box_from_ranges(net, ranges)
    path = tmp_path / "box.npz"
    path.write_bytes(box.to_bytes())
    again = load_box(net, path)
    assert again.digest == box.digest
    assert box.to_bytes() == again.to_bytes()
    for name in net.inputs:
        assert (again.lower[name] == box.lower[name]).all()
        assert (again.upper[name] == box.upper[name]).all()


def test_a_saved_box_encloses_ends_that_no_float_holds(tmp_path: Path) -> None:
    path = tmp_path / "box.npz"
    path.write_bytes(box_from_ranges(ONE, ["0.1,0.3"]).to_bytes())
    again = load_box(ONE, path)
    assert (again.lower["x"] < Fraction(1, 10)).all()
    assert (again.upper["x"] > Fraction(3, 10)).all()


def test_digests_tell_boxes_apart() -> None:
    texts = ["0,1", "0,2", "-1,1", "0,1.0000000000000000000001"]
    assert len({box_from_ranges(ONE, [text]).digest for text in texts}) == len(texts)
    assert box_from_ranges(ONE, ["0,1"]).digest == box_from_ranges(ONE, ["0.0,1.0"]).digest


# Data


def test_a_box_around_data_with_a_margin_is_an_assumption() -> None:
    data = {"x": np.array([[0.0, 3.0], [1.0, -2.0], [0.5, 0.1]])}
    box = box_from_data(ONE, data, "0.25", "X.npy")
    assert box.lower["x"].tolist() == [-0.25, -2.25]
    assert box.upper["x"].tolist() == [1.25, 3.25]
    assert box.assumption
    assert "X.npy" in box.description
    assert "0.25" in box.description
    assert box.contains(data).all()
    assert box_from_data(ONE, data).upper["x"].tolist() == [1, 3]


def test_a_decimal_margin_is_never_cut_short() -> None:
    data = {"x": np.array([[0.0, 3.0], [1.0, -2.0]])}
    box, tenth = box_from_data(ONE, data, "0.1"), Fraction(1, 10)
    for end, exact in zip(box.lower["x"].tolist(), [-tenth, -2 - tenth], strict=True):
        assert nextafter(float(exact), -inf) <= end <= exact
    for end, exact in zip(box.upper["x"].tolist(), [1 + tenth, 3 + tenth], strict=True):
        assert exact <= end <= nextafter(float(exact), inf)


@pytest.mark.parametrize(
    ("margin", "message"), [("-1", "must not be negative"), ("nan", "not a finite"), ("", "not a")]
)
def test_margins_that_cannot_be(margin: str, message: str) -> None:
    with pytest.raises(DomainError, match=f"margin '{margin}'.*{message}"):
        box_from_data(ONE, {"x": np.zeros((1, 2))}, margin)


def test_nan_in_data_is_named() -> None:
    with pytest.raises(DomainError, match=r"least value of x: nan at coordinate \[1\]"):
        box_from_data(ONE, {"x": np.array([[0.0, nan], [1.0, 1.0]])})


def test_data_of_one_input_in_all_layouts(tmp_path: Path) -> None:
    X = np.arange(12).reshape(2, 6)
    np.save(tmp_path / "X.npy", X)
    write(tmp_path / "X.npz", X=X, y=np.arange(2))
    write(tmp_path / "named.npz", X=np.zeros(3), x=X.reshape(2, 2, 3))
    write(tmp_path / "other.npz", images=X.astype(np.uint8))
    for name in ("X.npy", "X.npz", "named.npz", "other.npz"):
        data = load_data(IMAGE, tmp_path / name)
        assert data["x"].dtype == np.float64
        assert data["x"].shape == (2, 1, 2, 3)
        assert data["x"].ravel().tolist() == list(range(12))


def test_data_of_several_inputs(tmp_path: Path) -> None:
    data = load_data(TWO, write(tmp_path / "X.npz", a=np.zeros((3, 2)), b=np.ones((3, 1))))
    assert [data[name].shape for name in "ab"] == [(3, 2), (3, 1)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((3, 2))}, r"no array for input 'b' \(found 'a'\)"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((2, 1))}, "different numbers of samples"),
        ({"a": np.zeros((3, 5)), "b": np.zeros((3, 1))}, r"input 'a' has shape \(3, 5\); expected .* 2 values"),
        ({"a": np.zeros((0, 2)), "b": np.zeros((0, 1))}, r"input 'a' has shape \(0, 2\)"),
        ({"a": np.float64(3), "b": np.zeros((0, 1))}, r"input 'a' has shape \(\)"),
        ({"a": np.array([["p", "q"]]), "b": np.zeros((1, 1))}, "holds <U1, not numbers"),
    ],
)
def test_data_that_does_not_fit(arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        fit_data(TWO, arrays)


def test_an_input_of_unknown_shape_asks_for_it() -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": ["N", "M"]}, {"y": ["N", "M"]}, {})
    with pytest.raises(DomainError, match=r"'x' has dimensions.*--input-shape x:"):
        box_from_ranges(network_of(model), ["0,1"])


def test_ends_beyond_every_float_are_refused() -> None:
    data = {"x": np.full((1, 2), 1.7e308)}
    with pytest.raises(DomainError, match="larger than any float64"):
        box_from_data(ONE, data, "1e308")
