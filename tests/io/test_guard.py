"""The guard: what it answers, what it leaves alone, what it refuses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from guards import FORMATS, OPSETS, Guardable, answered, ends_of, exact, guardable, guardables, guarded_of, passing
from guards import points_of as points_next_to
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tiny_models import known

from reluce import UsageError
from reluce.io import GUARD, demand_guardable, guarded, inward, loads, open_model, unreachable

Array = np.ndarray[Any, Any]


@given(case=guardables(), seed=st.integers(0, 999), optimised=st.booleans())
def test_it_answers_as_the_exact_ends(case: Guardable, seed: int, optimised: bool) -> None:
    points = points_next_to(case, seed)
    found = answered(guarded_of(case), case, points, optimised)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, exact(case, points))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("form", FORMATS[:3])
def test_no_number_is_never_inside(form: str, opset: int) -> None:
    case = guardable(form, opset, low=["0.1"], high=["0.75"])
    x = np.array([[0.5, 0.5], [np.nan, 0.5], [0.5, np.inf], [-np.inf, 0.5], [np.nan, np.nan], [0.75, 0.75]], form)
    assert answered(guarded_of(case), case, {"a": x}).tolist() == [True, False, False, False, False, True]


@pytest.mark.parametrize("opset", [7, 11, 12, 17, 18, 22])
def test_ends_to_the_last_bit(opset: int) -> None:
    """0.1 is no float32: the one above is inside, the nearest below is not."""
    case = guardable(opset=opset, low=["0.1"], high=["1e39"])
    first = np.float32(0.1)
    assert Fraction(float(first)) > Fraction("0.1")
    x = np.array([[first, 1], [np.nextafter(first, np.float32(0)), 1], [first, np.finfo(np.float32).max]], np.float32)
    assert answered(guarded_of(case), case, {"a": x}).tolist() == [True, False, True]


@pytest.mark.parametrize("opset", [8, 13, 20])
def test_zeros_and_subnormal_numbers(opset: int) -> None:
    case = guardable(opset=opset, low=[0], high=["1e-40"])
    tiny = np.finfo(np.float32).smallest_subnormal
    x = np.array([[0.0, -0.0], [tiny, 0], [-tiny, 0], [1e-40, 0], [1.1e-40, 0]], np.float32)
    assert answered(guarded_of(case), case, {"a": x}).tolist() == exact(case, {"a": x}).tolist()
    assert exact(case, {"a": x}).tolist()[:3] == [True, True, False]


def test_the_comparison_of_these_tests_can_fail() -> None:
    case, wider = guardable(low=[0], high=[1]), guardable(low=[0], high=[2])
    x = {"a": np.array([[1.5, 0.5]], np.float32)}
    assert answered(guarded_of(wider), case, x).tolist() != exact(case, x).tolist()


def test_an_empty_batch() -> None:
    case = guardable()
    assert answered(guarded_of(case), case, {"a": np.zeros((0, 2), np.float32)}).shape == (0,)


@pytest.mark.parametrize(
    ("form", "low", "high", "ends"),
    [
        ("float32", "-1e50", "1e50", (-np.finfo(np.float32).max, np.finfo(np.float32).max)),
        ("float16", "-70000", "65504", (-65504, 65504)),
        ("float32", "1e50", "1e60", (1, 0)),
        ("float32", "-1e60", "-1e50", (1, 0)),
        ("float64", "0.1", "0.1", (1, 0)),
        ("float64", "0.5", "0.5", (0.5, 0.5)),
        ("int32", "-0.5", "2.5", (0, 2)),
        ("int32", "0.25", "0.75", (1, 0)),
        ("int32", "-1e20", "1e20", (-(2**31), 2**31 - 1)),
        ("int64", "1e20", "1e30", (1, 0)),
        ("int64", "-1e30", "-1e20", (1, 0)),
    ],
)
def test_ends_are_rounded_inward(form: str, low: str, high: str, ends: tuple[Any, Any]) -> None:
    bottom, top = inward(*ends_of((2,), [low], [high]), np.dtype(form))
    assert bottom.dtype == top.dtype == form
    assert [*bottom, *top] == [ends[0], ends[0], ends[1], ends[1]]


def test_a_guard_that_is_never_true() -> None:
    case = guardable(shapes=[(2,), (2,)], low=[0, "0.1"], high=[1, "0.1"])
    assert unreachable(loads(case.data), case.ends) == ("a", "b")
    assert unreachable(loads(guardable().data), guardable().ends) == ()
    assert not answered(guarded_of(case), case, points_next_to(case, 0)).any()


# What the file looks like


@pytest.mark.parametrize("case", [guardable(), guardable(opset=8), guardable(batched=False, shapes=[(2, 3), ()])])
def test_everything_else_stays_as_it_was(case: Guardable) -> None:
    data = guarded_of(case)
    model = onnx.load_from_string(data)
    count = len(case.model.graph.node)
    assert model.graph.output[-1].name == GUARD
    assert list(model.graph.node)[:count] == list(case.model.graph.node)
    del model.graph.node[count:], model.graph.output[-1]
    assert model == case.model
    assert guarded_of(case) == data


def test_a_stored_model_keeps_its_outputs() -> None:
    model, x = known(), np.random.default_rng(0).random((5, 2), np.float32)
    loaded = loads(model.SerializeToString())
    data = guarded(loaded, {"x": ends_of((2,), [0], [1])}, "the unit square")
    case = Guardable(model, {"x": ends_of((2,), [0], [1])}, True, np.dtype(np.float32))
    assert answered(data, case, {"x": x}).all()
    output = onnx.load_from_string(data).graph.output[-1]
    assert output.doc_string.endswith("nothing is promised: the unit square")
    assert output.type.tensor_type.elem_type == TensorProto.BOOL
    assert [dim.dim_param for dim in output.type.tensor_type.shape.dim] == ["N"]
    assert loads(data).network.outputs == ("y", GUARD)


@pytest.mark.parametrize("opset", [7, 12, 13, 18, 22])
def test_the_file_is_valid(opset: int) -> None:
    case = guardable(opset=opset, shapes=[(2,), (3, 1)])
    onnx.checker.check_model(onnx.load_from_string(guarded_of(case)), full_check=True)


@pytest.mark.parametrize(
    ("case", "dim"),
    [
        (guardable(batched=False, shapes=[(1, 2)]), 1),
        (guardable(batched=False, shapes=[(4, 2)]), 1),
        (guardable(shapes=[(2,)]), "N"),
    ],
)
def test_the_length_of_the_output(case: Guardable, dim: int | str) -> None:
    (found,) = onnx.load_from_string(guarded_of(case)).graph.output[-1].type.tensor_type.shape.dim
    assert dim in (found.dim_value, found.dim_param)


def test_ends_that_are_all_the_same_are_one_number() -> None:
    def sizes(case: Guardable) -> list[int]:
        nodes = onnx.load_from_string(guarded_of(case)).graph.node
        return [node.attribute[0].t.dims[0] for node in nodes if node.op_type == "Constant"]

    assert sizes(guardable(shapes=[(50,)])) == [1, 1]
    assert sizes(guardable(shapes=[(2,)], low=[0, "1/2"], high=[1, 1])) == [2, 1]


def test_names_that_are_taken_already() -> None:
    model = guardable().model
    model.graph.node.append(helper.make_node("Identity", ["a"], ["in_domain/low"], name="in_domain/high"))
    case = Guardable(model, guardable().ends, True, np.dtype(np.float32))
    data = guarded_of(case)
    names = [name for node in onnx.load_from_string(data).graph.node for name in node.output]
    assert len(set(names)) == len(names)
    assert answered(data, case, points_next_to(case, 0)).any()


# What is refused


def refused(model: onnx.ModelProto, **more: Any) -> str:
    with pytest.raises(UsageError) as error:
        demand_guardable(loads(model.SerializeToString(), **more))
    return str(error.value)


def test_a_name_that_is_taken() -> None:
    case = guardable()
    case.model.graph.output[0].name = case.model.graph.node[0].output[0] = GUARD
    assert "has something called 'in_domain' already: rename it" in refused(case.model)
    assert "already" in refused(onnx.load_from_string(guarded_of(guardable())))


@pytest.mark.parametrize(("form", "opset", "needed"), [("float32", 6, 7), ("int64", 8, 9), ("int32", 7, 9)])
def test_an_old_operator_set(form: str, opset: int, needed: int) -> None:
    message = refused(passing(form, opset, {"a": ["N", 2]}))
    assert (
        f"imports version {opset} of the standard operators; a guard of its inputs needs {needed}: convert" in message
    )


@pytest.mark.parametrize("form", ["uint8", "bool", "int8"])
def test_an_input_of_another_format(form: str) -> None:
    assert f"input 'a' is {form}; a guard compares float16" in refused(passing(form, 17, {"a": ["N", 2]}))


@pytest.mark.parametrize("dims", [["N", "M"], ["N", 2, "M"], [2, "M"]])
def test_an_input_of_open_shape(dims: list[Any]) -> None:
    model = passing("float32", 17, {"a": dims})
    assert "leaves dimensions of input 'a' open, other than its batch" in refused(model)
    fixed = [-1 if dim == "N" else 2 for dim in dims]
    assert "fix them in the file" in refused(model, input_shapes={"a": fixed})


def test_a_batch_that_only_the_user_fixes() -> None:
    model = passing("float32", 17, {"a": ["N", 2]})
    assert "fix them in the file" in refused(model, input_shapes={"a": (1, 2)})


def test_an_input_without_a_shape() -> None:
    model = guardable().model
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert "leaves dimensions of input 'a' open" in refused(model)


def test_an_input_without_a_batch_axis() -> None:
    model = passing("float32", 17, {"a": ["N", 2], "b": [1, 2]})
    assert "input 'b' has no batch axis, but other inputs have" in refused(model)


def test_a_model_that_is_no_onnx() -> None:
    torch = pytest.importorskip("torch")
    loaded = open_model(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), example_inputs=torch.zeros(1, 2))
    with pytest.raises(UsageError, match="a guard is an output of an ONNX model; export the model to ONNX first"):
        demand_guardable(loaded)
