"""The checker knows the guards that Reluce writes, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from guards import Guardable, answered, exact, guardable, guardables, guarded_of, points_of
from hypothesis import given
from onnx import ModelProto, NodeProto, TensorProto, helper, load_from_string, numpy_helper
from strategies import box_of
from tiny_models import known

from certificates import Case, by_hand, domain_of
from reluce.domain import Box
from reluce.io import GUARD, guarded, loads
from reluce_checker import NotProved, Unreadable, check
from reluce_checker.__main__ import text

Array = np.ndarray[Any, Any]
Change = Callable[[ModelProto], Any]


def case_of(found: Guardable, data: bytes | None = None, **parts: Any) -> Case:
    """A certificate of a model and of the same with a guard."""
    lower, upper = ({name: ends[side] for name, ends in found.ends.items()} for side in (0, 1))
    small = guarded_of(found) if data is None else data
    return by_hand(found.data, small, Box(lower, upper), **{"guard": GUARD, **parts})


def changed(found: Guardable, change: Change) -> Case:
    """The same with a change of the guarded file."""
    model = load_from_string(guarded_of(found))
    change(model)
    return case_of(found, model.SerializeToString(deterministic=True))


# Honest ones


@given(case=guardables())
def test_every_guard_that_reluce_writes(case: Guardable) -> None:
    assert case_of(case).check().guard == GUARD


def test_what_is_proved_and_printed() -> None:
    proved = case_of(guardable()).check()
    assert proved.largest == 0.0
    assert "\n  guard        'in_domain' is true only in the certificate's domain\n" in text(proved)


def test_without_a_guard_nothing_is_said() -> None:
    found = guardable()
    case = case_of(found, found.data)
    del case.text["guard"]
    assert case.check().guard is None
    assert "guard" not in text(case.check())


def test_a_guard_that_the_certificate_does_not_name() -> None:
    case = case_of(guardable())
    del case.text["guard"]
    with pytest.raises(NotProved, match="the outputs differ"):
        case.check()


def test_a_guard_that_both_files_have() -> None:
    """Then it is an output as any other, and has to be the same."""
    found = guardable()
    case = case_of(Guardable(load_from_string(guarded_of(found)), found.ends, True, found.dtype), guarded_of(found))
    del case.text["guard"]
    assert case.check().guard is None


def test_the_users_domain_may_be_smaller() -> None:
    found = guardable(low=[0], high=[1])
    inner = guardable(low=["1/4"], high=["1/2"])
    case = case_of(found)
    lower, upper = ({name: ends[side] for name, ends in inner.ends.items()} for side in (0, 1))
    assert check(case.original, case.compressed, case.certificate, domain_of(Box(lower, upper))).guard == GUARD


def test_names_and_comments_mean_nothing() -> None:
    def described(model: ModelProto) -> None:
        for found in model.graph.node:
            found.name, found.doc_string = "a name", "a comment"

    assert changed(guardable(), described).check().guard == GUARD


def test_ends_that_are_further_in_promise_nothing_false() -> None:
    outer = guardable(low=["-1/8"], high=["9/8"])
    assert case_of(outer, guarded_of(guardable())).check().guard == GUARD


# Forgeries


def node(model: ModelProto, kind: str, number: int = 0) -> NodeProto:
    return [found for found in model.graph.node if found.op_type == kind][number]


def of(kind: str, change: Callable[[NodeProto], Any], number: int = 0) -> Change:
    """A change of one node."""
    return lambda model: change(node(model, kind, number))


def reads(position: int, name: str) -> Callable[[NodeProto], Any]:
    return lambda found: found.input.__setitem__(position, name)


def flag(name: str, value: Any) -> Callable[[NodeProto], None]:
    """Another value of an attribute, or one more attribute."""

    def change(found: NodeProto) -> None:
        kept = [entry for entry in found.attribute if entry.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def holds(values: Any, dtype: Any = np.float32) -> Callable[[NodeProto], None]:
    return flag("value", numpy_helper.from_array(np.asarray(values, dtype)))


def kind(name: str) -> Callable[[NodeProto], Any]:
    return lambda found: setattr(found, "op_type", name)


def set_domain(found: NodeProto) -> None:
    found.domain = "com.example"


def function(name: str) -> Change:
    """A function of the standard domain that stands in for an operator."""

    def change(model: ModelProto) -> None:
        body = [helper.make_node("Or", ["p", "q"], ["r"])]
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("", name, ["p", "q"], ["r"], body, opsets))

    return change


def stored(name: str) -> Change:
    """The constants of a name as an initialiser, as well."""
    return lambda model: model.graph.initializer.append(numpy_helper.from_array(np.full(1, -9, np.float32), name))


def replaceable(model: ModelProto) -> None:
    """An end as an initialiser that a user may replace when the network runs."""
    low = node(model, "Constant")
    array = numpy_helper.to_array(low.attribute[0].t)
    model.graph.initializer.append(numpy_helper.from_array(array, low.output[0]))
    model.graph.input.append(helper.make_tensor_value_info(low.output[0], TensorProto.FLOAT, array.shape))
    model.graph.node.remove(low)


def read_by(name: str) -> Change:
    """The network's own output comes from a tensor of the guard."""
    return lambda model: model.graph.node[0].input.__setitem__(0, name)


def also_output(name: str, elem: int) -> Change:
    return lambda model: model.graph.output.append(helper.make_tensor_value_info(name, elem, None))


def captured(name: str) -> Change:
    """A subgraph of the network reads a tensor of the guard."""

    def change(model: ModelProto) -> None:
        info = helper.make_tensor_value_info("inner", TensorProto.BOOL, None)
        body = helper.make_graph([helper.make_node("Identity", [name], ["inner"])], "body", [], [info])
        model.graph.node.append(helper.make_node("If", [name], ["seen"], then_branch=body, else_branch=body))

    return change


def second_writer(name: str) -> Change:
    return lambda model: model.graph.node.append(helper.make_node("Identity", ["a"], [name]))


def extended(model: ModelProto) -> None:
    """One more step behind the guard."""
    last = node(model, "Cast", 1)
    last.output[0] = "in_domain/really"
    model.graph.node.append(helper.make_node("Not", ["in_domain/really"], [GUARD]))


def declared(change: Callable[[Any], Any]) -> Change:
    return lambda model: change(model.graph.output[-1])


FORGERIES: dict[str, Change] = {
    "a lower end outside": of("Constant", holds([-1e-9])),
    "an upper end outside": of("Constant", holds([np.nextafter(np.float32(1), np.float32(2))]), 1),
    "no lower end": of("Constant", holds([-np.inf])),
    "no upper end": of("Constant", holds([np.inf]), 1),
    "an end that is no number": of("Constant", holds([np.nan]), 1),
    "one end of two outside": of("Constant", holds([1, 2]), 1),
    "ends for rows": of("Constant", holds([[1], [1]]), 1),
    "ends for three columns": of("Constant", holds([1, 1, 1]), 1),
    "an end of rank 0": of("Constant", holds(1), 1),
    "no ends": of("Constant", holds([]), 1),
    "an end of another format": of("Constant", holds([1], np.float64), 1),
    "an end in another attribute": of(
        "Constant", lambda n: (n.ClearField("attribute"), flag("value_floats", [1.0])(n))
    ),
    "an end with another attribute": of("Constant", flag("value_float", 1.0)),
    "an end that reads": of("Constant", lambda n: n.input.append("a")),
    "an end that can be replaced": replaceable,
    "an end that is an input": of("GreaterOrEqual", reads(1, "a")),
    "ends the wrong way round": of("GreaterOrEqual", lambda n: n.input.extend([n.input.pop(0)])),
    "without its upper end": of("LessOrEqual", kind("GreaterOrEqual")),
    "without its lower end": of("And", reads(0, "in_domain/not_above")),
    "strictly": of("LessOrEqual", kind("Less")),
    "or": of("And", kind("Or")),
    "one side twice": of("And", reads(1, "in_domain/not_below")),
    "another tensor is compared": of("LessOrEqual", reads(0, "a_out")),
    "the output is compared": lambda m: (
        of("LessOrEqual", reads(0, "a_out"))(m),
        of("GreaterOrEqual", reads(0, "a_out"))(m),
    ),
    "cast to whole numbers": of("Cast", flag("to", TensorProto.INT32)),
    "cast to text": of("Cast", flag("to", TensorProto.STRING)),
    "cast by a number that is none": of("Cast", flag("to", 1.0)),
    "cast and saturated": of("Cast", flag("saturate", 1)),
    "no truth value": of("Cast", flag("to", TensorProto.FLOAT), 1),
    "the largest": of("ReduceMin", kind("ReduceMax")),
    "reduced over samples": of("ReduceMin", flag("axes", [0])),
    "reduced over all that there is": of("ReduceMin", lambda n: n.attribute.remove(n.attribute[0])),
    "reduced over all": of("ReduceMin", flag("axes", [0, 1])),
    "reduced from the end": of("ReduceMin", flag("axes", [-1])),
    "axes kept": of("ReduceMin", flag("keepdims", 1)),
    "an attribute more": of("ReduceMin", flag("noop_with_empty_axes", 1)),
    "an attribute without a meaning": of("And", flag("axis", 0)),
    "an operator of another domain": of("GreaterOrEqual", set_domain),
    "a cast of another domain": of("Cast", set_domain, 1),
    "a constant of another domain": of("Constant", set_domain),
    "another overload": of("And", lambda n: setattr(n, "overload", "mine")),
    "a function called And": function("And"),
    "a function called Cast": function("Cast"),
    "an end that is stored as well": stored("in_domain/low"),
    "a step that is stored as well": stored("in_domain/all"),
    "a step that is written twice": second_writer("in_domain/one"),
    "an end that is written twice": second_writer("in_domain/high"),
    "the guard written twice": second_writer(GUARD),
    "two outputs of a node": of("And", lambda n: n.output.append("more")),
    "the network reads it": read_by("in_domain/one"),
    "the network reads an end": read_by("in_domain/low"),
    "an output of its steps": also_output("in_domain/one", TensorProto.FLOAT),
    "a subgraph reads it": captured(GUARD),
    "the guard listed twice": also_output(GUARD, TensorProto.BOOL),
    "one more step": extended,
    "declared as a float": declared(lambda o: setattr(o.type.tensor_type, "elem_type", TensorProto.FLOAT)),
    "declared as a matrix": declared(lambda o: o.type.tensor_type.shape.dim.add()),
    "declared without a shape": declared(lambda o: o.type.tensor_type.ClearField("shape")),
    "an older operator set": lambda m: setattr(m.opset_import[0], "version", 11),
    "a newer operator set": lambda m: setattr(m.opset_import[0], "version", 18),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES)
def test_forgeries(change: Change) -> None:
    with pytest.raises(NotProved, match="output 'in_domain' is not known to be a guard: "):
        changed(guardable(), change).check()


OLD_FORGERIES: dict[str, Change] = {
    "a lower end outside": of("Constant", holds([-1e-9])),
    "without NaN": lambda m: of("Cast", reads(0, "in_domain/not_outside"))(m),
    "not outside, twice": of("And", reads(1, "in_domain/not_outside")),
    "outside": of("And", reads(0, "in_domain/outside")),
    "NaN of another tensor": of("Less", reads(0, "a_out"), 1),
    "NaN above only": of("Greater", kind("Less"), 1),
    "NaN compared with itself": of("Less", reads(1, "a"), 1),
    "NaN by columns": of("Constant", holds([1, 1]), 2),
    "NaN by numbers that are none": of("Constant", holds([np.nan]), 2),
    "and for or": of("Or", kind("And")),
    "and for the other or": of("Or", kind("And"), 1),
    "above and above": of("Less", kind("Greater")),
    "above another tensor": of("Greater", reads(0, "a_out")),
    "reduced over samples": of("ReduceMin", flag("axes", [0])),
    "a newer operator set": lambda m: setattr(m.opset_import[0], "version", 12),
    "too old an operator set": lambda m: setattr(m.opset_import[0], "version", 6),
}


@pytest.mark.parametrize("change", OLD_FORGERIES.values(), ids=OLD_FORGERIES)
def test_forgeries_in_old_operator_sets(change: Change) -> None:
    with pytest.raises(NotProved, match="output 'in_domain' is not known to be a guard: "):
        changed(guardable(opset=9), change).check()


NEW_FORGERIES: dict[str, Change] = {
    "reduced over samples": of("Constant", holds([0], np.int64), 2),
    "reduced over both": of("Constant", holds([0, 1], np.int64), 2),
    "axes in another format": of("Constant", holds([1], np.int32), 2),
    "no axes": of("ReduceMin", lambda n: n.input.pop()),
    "axes left out": of("ReduceMin", reads(1, "")),
    "axes as an attribute": of("ReduceMin", flag("axes", [1])),
    "axes that are an input": of("ReduceMin", reads(1, "a")),
}


@pytest.mark.parametrize("change", NEW_FORGERIES.values(), ids=NEW_FORGERIES)
def test_forgeries_in_new_operator_sets(change: Change) -> None:
    with pytest.raises(NotProved, match="output 'in_domain' is not known to be a guard: "):
        changed(guardable(opset=20), change).check()


def test_whole_numbers_in_an_old_operator_set() -> None:
    """They have been compared since version 9."""
    with pytest.raises(NotProved, match="input 'a' is of a format that it does not compare"):
        changed(guardable("int32", 9), lambda model: setattr(model.opset_import[0], "version", 8)).check()


def test_a_format_that_reluce_does_not_compare() -> None:
    def small(model: ModelProto) -> None:
        for info in (model.graph.input[0], model.graph.output[0]):
            info.type.tensor_type.elem_type = TensorProto.UINT8
        for number in range(sum(found.op_type == "Constant" for found in model.graph.node)):
            of("Constant", holds([number], np.uint8), number)(model)

    found = guardable("int32")
    case = changed(found, small)
    small(found.model)
    with pytest.raises(NotProved, match="input 'a' is of a format that it does not compare"):
        Case(found.data, case.compressed, case.text, case.box).check()


def other_input(model: ModelProto) -> None:
    for kind in ("GreaterOrEqual", "LessOrEqual"):
        node(model, kind, 1).input[0] = "a"


def one_batch(model: ModelProto) -> None:
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_value = 1


SEVERAL: dict[str, Change] = {
    "one of them without a batch axis": one_batch,
    "one input twice": other_input,
    "the rows of one input twice": of("Min", reads(1, "in_domain/all")),
    "inputs in another order": of("Min", lambda n: n.input.extend([n.input.pop(0)])),
    "the largest": of("Min", kind("Max")),
    "the sum": of("Min", kind("Sum")),
    "one input left out": of("Min", lambda n: n.input.pop()),
    "one input too many": of("Min", lambda n: n.input.append("in_domain/all")),
    "no least": of("Cast", reads(0, "in_domain/all"), 2),
    "an end of the other input": of("Constant", holds([2]), 3),
}


@pytest.mark.parametrize("change", SEVERAL.values(), ids=SEVERAL)
def test_forgeries_with_several_inputs(change: Change) -> None:
    found = guardable(shapes=[(2,), (2,)])
    assert case_of(found).check().guard == GUARD
    with pytest.raises(NotProved, match="output 'in_domain' is not known to be a guard: "):
        changed(found, change).check()


ROWS: dict[str, tuple[Guardable, Change]] = {
    "samples as columns": (guardable(shapes=[(2, 2)]), of("Flatten", flag("axis", 0))),
    "rows of a sample": (guardable(shapes=[(2, 2)]), of("Flatten", flag("axis", 2))),
    "no axis": (guardable(shapes=[(2, 2)]), of("Flatten", lambda n: n.ClearField("attribute"))),
    "an axis twice": (guardable(shapes=[(2, 2)]), of("Flatten", lambda n: n.attribute.append(n.attribute[0]))),
    "another tensor": (guardable(shapes=[(2, 2)]), of("Flatten", reads(0, "a_out"))),
    "reshaped": (guardable(shapes=[(2, 2)]), of("Flatten", kind("Reshape"))),
    "not flattened": (
        guardable(shapes=[(2, 2)]),
        lambda m: [of(kind, reads(0, "a"))(m) for kind in ("GreaterOrEqual", "LessOrEqual")],
    ),
    "rows of a whole sample": (guardable(batched=False, shapes=[(2, 2)]), of("Flatten", flag("axis", 1))),
    "a whole sample, not flattened": (
        guardable(batched=False, shapes=[(2, 2)]),
        lambda m: [of(kind, reads(0, "a"))(m) for kind in ("GreaterOrEqual", "LessOrEqual")],
    ),
}


@pytest.mark.parametrize(("found", "change"), ROWS.values(), ids=ROWS)
def test_forgeries_of_rows(found: Guardable, change: Change) -> None:
    assert case_of(found).check().guard == GUARD
    with pytest.raises((NotProved, Unreadable), match=r"not known to be a guard: |has the attribute 'axis' twice"):
        changed(found, change).check()


def test_a_matrix_may_be_flattened_all_the_same() -> None:
    def flattened(model: ModelProto) -> None:
        of("GreaterOrEqual", reads(0, "rows"))(model)
        of("LessOrEqual", reads(0, "rows"))(model)
        model.graph.node.append(helper.make_node("Flatten", ["a"], ["rows"], axis=1))

    assert changed(guardable(), flattened).check().guard == GUARD


def test_another_batch_axis() -> None:
    """The compressed network's input has a fixed length where the original's is open."""

    def fixed(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    changed(guardable(), lambda model: None).check()
    assert changed(guardable(), fixed).check().guard == GUARD  # its claim is about one sample, and so is this

    def some(model: ModelProto) -> None:
        fixed(model)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2

    with pytest.raises(NotProved):
        changed(guardable(), some).check()


def test_a_larger_domain_than_the_certificates() -> None:
    with pytest.raises(NotProved, match="it is true outside of the domain, along coordinate 0 of input 'a'"):
        case_of(guardable(), guarded_of(guardable(low=[0, 0], high=["9/8", 1]))).check()
    with pytest.raises(NotProved, match="along coordinate 1 of input 'a'"):
        case_of(guardable(), guarded_of(guardable(low=[0, "-1/1024"], high=[1, 1]))).check()


def test_ends_that_are_rounded_outward() -> None:
    """0.1 as the nearest float32 lies above it: as an upper end that is outside of the domain."""
    found = guardable(low=[0], high=["0.1"])
    assert case_of(found).check().guard == GUARD
    with pytest.raises(NotProved, match="true outside of the domain"):
        changed(found, of("Constant", holds([0.1]), 1)).check()


def test_a_network_that_differs_besides() -> None:
    """Behind the guard everything is checked as before."""

    def negated(model: ModelProto) -> None:
        model.graph.node[0].op_type = "Neg"

    with pytest.raises(NotProved, match="tensor 'a_out': a Scale cannot be compared"):
        changed(guardable(), negated).check()


def test_an_output_that_the_original_has() -> None:
    """A guard in place of an output is one output less."""
    case = case_of(guardable(), guard="a_out")
    with pytest.raises(NotProved, match="output 'a_out' is not known to be a guard"):
        case.check()


@pytest.mark.parametrize("guard", ["", "y", "in_domain/one", "\n"])
def test_a_guard_that_is_no_output(guard: str) -> None:
    with pytest.raises((NotProved, Unreadable), match=r"has 0 outputs of this name|a short printable text"):
        case_of(guardable(), guard=guard).check()


@pytest.mark.parametrize("guard", [1, None, ["in_domain"]])
def test_a_guard_that_is_no_text(guard: Any) -> None:
    with pytest.raises(Unreadable, match="'guard': expected text"):
        case_of(guardable(), guard=guard).check()


def test_a_domain_of_other_inputs() -> None:
    narrow = [{"input": "b", "lower": ["0", "0"], "upper": ["1", "1"]}]
    with pytest.raises(NotProved, match="the certificate's domain is not one of the graph's inputs"):
        case_of(guardable(), domain=narrow).check()


def test_forgeries_would_run() -> None:
    """The forged ends are no straw men: such a file runs, and is true outside."""
    found = guardable()
    model = load_from_string(guarded_of(found))
    of("Constant", holds([2]), 1)(model)
    points = {"a": np.array([[1.5, 1.5]], np.float32)}
    assert answered(model.SerializeToString(), found, points).tolist() == [True]
    assert exact(found, points).tolist() == [False]
    assert exact(found, points_of(found, 0)).any()


def test_a_trained_shape_of_network() -> None:
    model, box = known(), box_of((0, 1), (0, 1))
    data = model.SerializeToString(deterministic=True)
    small = guarded(loads(data), {"x": (box.lower["x"], box.upper["x"])}, "a test")
    proved = by_hand(data, small, box, guard=GUARD).check()
    assert (proved.guard, proved.units) == (GUARD, (6, 6))
