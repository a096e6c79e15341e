"""Input ranges that onnxsim stores in the metadata."""

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import ModelProto, helper

from reluce.io import Ranges
from reluce.io._ranges import stored_ranges

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, tuple[int, ...] | None]

KEY = "onnxsim.range.x"
SHAPES: Shapes = {"x": (2,)}


def model(*entries: tuple[str, Any]) -> ModelProto:
    made = ModelProto()
    for key, value in entries:
        text = value if isinstance(value, str) else json.dumps(value)
        made.metadata_props.add(key=key, value=text)
    return made


def stored(value: Any, shape: tuple[int, ...] | None = (2,), batched: bool = True) -> tuple[Array, Array]:
    """The ends of an input ``x`` that must be readable."""
    ranges, notes = stored_ranges(model((KEY, value)), {"x": shape}, batched)
    assert notes == ()
    assert ranges is not None
    assert ranges.source == "metadata onnxsim.range (onnxsim)"
    assert list(ranges.ends) == ["x"]
    for end in ranges.ends["x"]:
        assert isinstance(end, np.ndarray)
        assert end.dtype == object
        assert end.shape == shape
        assert all(entry is None or type(entry) is Fraction for entry in end.ravel())
    return ranges.ends["x"]


def ends(value: Any, **more: Any) -> list[list[Fraction | None]]:
    return [list(end.ravel()) for end in stored(value, **more)]


def test_numbers_fill_the_input_and_are_exact() -> None:
    assert ends('{"min": 0.1, "max": 3e-1}') == [[Fraction(1, 10)] * 2, [Fraction(3, 10)] * 2]
    assert ends('{"min": -1, "max": 123456789012345678901}') == [
        [Fraction(-1)] * 2,
        [Fraction(123456789012345678901)] * 2,
    ]
    assert ends('{"min": 1.0000000000000000000001e0, "max": 2}')[0][0] == 1 + Fraction(1, 10**22)


def test_an_open_end_is_none() -> None:
    assert ends({"min": None, "max": 1}) == [[None, None], [1, 1]]
    assert ends({"min": 0, "max": None}) == [[0, 0], [None, None]]
    assert ends({"min": None, "max": None}) == [[None, None], [None, None]]
    assert ends({"max": 1}) == [[None, None], [1, 1]]


def test_a_range_of_one_point() -> None:
    assert ends({"min": 0.5, "max": 0.5}) == [[Fraction(1, 2)] * 2] * 2


@pytest.mark.parametrize(
    ("low", "shape", "batched", "wanted"),
    [
        ([1, 2], (2,), True, [1, 2]),
        ([[1, 2]], (2,), True, [1, 2]),
        ([[1, 2], [1, 2]], (2,), True, [1, 2]),
        ([[1]], (2,), True, [1, 1]),
        ([1], (), True, [1]),
        (1, (), True, [1]),
        (1, (), False, [1]),
        ([[1, 2]], (1, 2), False, [1, 2]),
        ([[1], [2]], (2, 2), False, [1, 1, 2, 2]),
        ([[[[1]], [[2]], [[3]]]], (3, 1, 2), True, [1, 1, 2, 2, 3, 3]),
        ([[[[1]], [[2]], [[3]]]], (1, 3, 1, 2), False, [1, 1, 2, 2, 3, 3]),
        ([[[1]], [[2]], [[3]]], (3, 1, 2), True, [1, 1, 2, 2, 3, 3]),
    ],
)
def test_lists_broadcast_to_all_axes(low: Any, shape: tuple[int, ...], batched: bool, wanted: list[int]) -> None:
    lower, upper = stored({"min": low, "max": 7}, shape, batched)
    assert list(lower.ravel()) == wanted
    assert list(upper.ravel()) == [7] * len(wanted)


@given(st.data(), hnp.array_shapes(min_dims=0, max_dims=3, max_side=3), st.booleans())
def test_lists_broadcast_as_numpy_does(data: st.DataObject, shape: tuple[int, ...], batched: bool) -> None:
    full = (1, *shape) if batched else shape
    axes = data.draw(st.integers(0, len(full)))
    part = tuple(data.draw(st.sampled_from([1, size])) for size in full[len(full) - axes :])
    values = data.draw(hnp.arrays(np.float64, part, elements=st.floats(-1e6, 1e6)))
    wanted = np.broadcast_to(values, full)[0] if batched else np.broadcast_to(values, full)
    lower, upper = stored({"min": values.tolist(), "max": None}, shape, batched)
    # json prints the shortest text that gives the float back, and that text is what is read exactly.
    assert list(lower.ravel()) == [Fraction(repr(float(value))) for value in wanted.ravel()]
    assert not [end for end in upper.ravel() if end is not None]
    if values.size:  # a twin that must fail
        assert list(lower.ravel()) != [Fraction(repr(float(value))) + 1 for value in wanted.ravel()]


def test_the_ends_are_arrays_of_their_own() -> None:
    lower, upper = stored({"min": [0], "max": 1})
    lower[0] = upper[0] = Fraction(9)
    assert (list(lower), list(upper)) == ([9, 0], [9, 1])


def test_entries_for_other_tensors_are_passed_over() -> None:
    other = model(("onnxsim.range.y", "no JSON"), ("onnxsim.ranges.x", "0"), ("onnxsim.range_opt.log", "0"))
    assert stored_ranges(other, SHAPES, True) == (None, ())
    assert stored_ranges(ModelProto(), SHAPES, True) == (None, ())
    note = model(("onnxsim.precondition.note", "valid only inside the box"))
    assert stored_ranges(note, {"x": (2,), "note": (2,)}, True) == (None, ())


def test_names_may_hold_dots_and_several_inputs_have_ranges_of_their_own() -> None:
    both = model(("onnxsim.range.a.b", {"min": 0, "max": 1}), ("onnxsim.range.c", {"min": 2, "max": 3}))
    ranges, notes = stored_ranges(both, {"a.b": (1,), "c": (1, 1), "d": (5,)}, True)
    assert ranges is not None
    assert notes == ()
    assert {name: (list(low.ravel()), list(high.ravel())) for name, (low, high) in ranges.ends.items()} == {
        "a.b": ([0], [1]),
        "c": ([2], [3]),
    }


BOX, WIDER = {"min": 0, "max": 1}, {"min": -5, "max": 5}


def least(ranges: Ranges | None) -> dict[str, Fraction | None]:
    assert ranges is not None
    return {name: low.ravel()[0] for name, (low, _) in ranges.ends.items()}


def test_a_precondition_counts_where_there_is_no_range() -> None:
    key = "onnxsim.precondition.range.x"
    ranges, notes = stored_ranges(model((key, BOX)), SHAPES, True)
    assert least(ranges) == {"x": 0}
    assert ranges is not None
    assert ranges.source == "metadata onnxsim.precondition.range (onnxsim)"
    assert notes == ()

    ranges, notes = stored_ranges(model((key, BOX), (KEY, WIDER)), SHAPES, True)
    assert least(ranges) == {"x": -5}
    assert ranges is not None
    assert ranges.source == "metadata onnxsim.range (onnxsim)"
    assert notes == ()

    mixed = model((KEY, WIDER), ("onnxsim.precondition.range.z", BOX))
    ranges, _ = stored_ranges(mixed, {"x": (2,), "z": (1,)}, True)
    assert least(ranges) == {"x": -5, "z": 0}
    assert ranges is not None
    assert ranges.source == "metadata onnxsim.range and onnxsim.precondition.range (onnxsim)"


def test_a_range_that_cannot_be_read_leaves_the_precondition() -> None:
    ranges, notes = stored_ranges(model((KEY, "?"), ("onnxsim.precondition.range.x", BOX)), SHAPES, True)
    assert least(ranges) == {"x": 0}
    assert len(notes) == 1
    assert notes[0].startswith("metadata onnxsim.range.x cannot be read (no JSON: ")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "no JSON: Expecting value at character 0"),
        ('{"min": 0, "max": 1', "no JSON: "),
        ('{"min": 0, "max": 01}', "no JSON: "),
        ("[0, 1]", 'expected {"min": ..., "max": ...}'),
        ("null", 'expected {"min": ..., "max": ...}'),
        ('{"low": 0, "high": 1}', 'expected {"min": ..., "max": ...}'),
        ('{"min": 0, "max": NaN}', "NaN is not a finite number"),
        ('{"min": -Infinity, "max": 1}', "-Infinity is not a finite number"),
        ('{"min": 0, "max": 1e309}', "1e309 is not a finite number that float64 can hold"),
        ('{"min": 0, "max": 1e-99999999999}', "1e-99999999999 is not a finite number"),
        ('{"min": 0, "max": 1' + "0" * 5000 + "}", f"1{'0' * 39}... is not a finite number"),
        ('{"min": true, "max": 1}', "min is neither null, nor a number, nor lists of numbers"),
        ('{"min": "0", "max": 1}', "min is neither null"),
        ('{"min": 0, "max": {}}', "max is neither null"),
        ('{"min": [null, 0], "max": 1}', "min is neither null"),
        ('{"min": [0, [0]], "max": 1}', "min is neither null"),
        ('{"min": [[0], 0], "max": 1}', "the lists of min are empty or of different lengths"),
        ('{"min": [[0, 1], [0]], "max": 1}', "the lists of min are empty or of different lengths"),
        ('{"min": [], "max": 1}', "the lists of min are empty"),
        ('{"min": [[]], "max": 1}', "the lists of min are empty"),
        ('{"min": [0, 0, 0], "max": 1}', "min has the shape [3], which does not broadcast to [N, 2]"),
        ('{"min": 0, "max": [[1, 1, 1]]}', "max has the shape [1, 3], which does not broadcast to [N, 2]"),
        ('{"min": [[[0, 0]]], "max": 1}', "min has 3 axes, the input has 2"),
        ('{"min": [[0, 0], [0, 1]], "max": 1}', "min differs between the 2 samples of a batch"),
        ('{"min": 2, "max": 1}', "min exceeds max"),
        ('{"min": [0, 1.0000000000000000001], "max": 1}', "min exceeds max"),
        ('{"min": 0, "max": 1, "min": 2}', "it states a key twice"),
        ('{"min": ' + "[" * 100_000 + "]" * 100_000 + "}", "its lists are nested too deeply"),
        ('{"min": ' + "[" * 200 + "1" + "]" * 200 + "}", "min has 200 axes, the input has 2"),
    ],
)
def test_a_malformed_entry_is_a_note(value: str, why: str) -> None:
    ranges, notes = stored_ranges(model((KEY, value)), SHAPES, True)
    assert ranges is None
    assert len(notes) == 1
    assert notes[0].startswith(f"metadata onnxsim.range.x cannot be read ({why}")
    assert notes[0].endswith(") and is not used")
    assert "\n" not in notes[0]
    assert len(notes[0]) < 200


def test_without_a_batch_the_first_axis_is_like_any_other() -> None:
    value = {"min": [[0, 0], [0, 1]], "max": 1}
    assert ends(value, shape=(2, 2), batched=False) == [[0, 0, 0, 1], [1] * 4]
    _, notes = stored_ranges(model((KEY, value)), {"x": (3, 2)}, False)
    assert notes == (
        "metadata onnxsim.range.x cannot be read (min has the shape [2, 2], which does not broadcast to [3, 2]) "
        "and is not used",
    )


def test_an_input_of_unknown_shape_has_no_range() -> None:
    _, notes = stored_ranges(model((KEY, BOX)), {"x": None}, True)
    assert notes == ("metadata onnxsim.range.x cannot be read (the shape of the input is not known) and is not used",)


def test_an_entry_that_is_given_twice() -> None:
    ranges, notes = stored_ranges(model((KEY, BOX), (KEY, WIDER)), SHAPES, True)
    assert ranges is None
    assert notes == ("metadata onnxsim.range.x cannot be read (it is given twice) and is not used",)
    ranges, notes = stored_ranges(model((KEY, BOX), (KEY, BOX)), SHAPES, True)
    assert least(ranges) == {"x": 0}
    assert notes == ()


def test_a_malformed_entry_leaves_the_others() -> None:
    made = model((KEY, "?"), ("onnxsim.range.z", BOX))
    ranges, notes = stored_ranges(made, {"x": (2,), "z": (1,)}, True)
    assert least(ranges) == {"z": 0}
    assert len(notes) == 1


def test_entries_survive_the_serialised_model() -> None:
    made = helper.make_model(helper.make_graph([], "g", [], []))
    helper.set_model_props(made, {KEY: json.dumps(BOX)})
    ranges, _ = stored_ranges(ModelProto.FromString(made.SerializeToString()), SHAPES, True)
    assert least(ranges) == {"x": 0}
