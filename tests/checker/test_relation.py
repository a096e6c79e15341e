"""What tensors of the compressed network stand for: every rule, what it costs, and what it refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from checking import case_of, floats, model, moved
from onnx import ModelProto, NodeProto, helper
from strategies import box_of
from tiny_models import build, chain

from certificates import Case, Text, relation
from reluce_checker import NotProved, Unreadable
from reluce_checker._graph import Monotone
from reluce_checker._operations import lipschitz

node = helper.make_node
f32 = np.float32


# Chains

W1, B1 = floats([[1, 1], [1, -1], [2, 0]]), floats([-2, 0, 1])  # inactive on [0, 1]^2, unstable, active
W2, B2 = floats([[5, 1, 2]]), floats([1])
WHOLE = chain([(W1, B1), (W2, B2)])
GONE = [relation("z1", "z1", [1, 2]), relation("h1", "h1", [1, 2])]


def test_an_inactive_unit_goes() -> None:
    assert moved(case_of(WHOLE, chain([(W1[1:], B1[1:]), (W2[:, 1:], B2)]), GONE)) == [0]


def test_the_same_network_needs_no_relation() -> None:
    assert moved(case_of(WHOLE, WHOLE)) == [0]


def test_units_may_change_places_where_the_relation_says_so() -> None:
    order = [2, 0, 1]
    turned = chain([(W1[order], B1[order]), (W2[:, order], B2)])
    assert moved(case_of(WHOLE, turned, [relation("z1", "z1", order), relation("h1", "h1", order)])) == [0]
    with pytest.raises(NotProved, match="output 'y'"):
        case_of(WHOLE, turned).check()


def test_an_unstable_unit_costs_what_it_could_add() -> None:
    """Unit 1 reaches 1, and counts once."""
    rest = [0, 2]
    small = chain([(W1[rest], B1[rest]), (W2[:, rest], B2)])
    assert moved(case_of(WHOLE, small, [relation("z1", "z1", rest), relation("h1", "h1", rest)])) == [1]


def test_a_constant_in_a_bias_halves_what_a_unit_costs() -> None:
    rest = [0, 2]
    small = chain([(W1[rest], B1[rest]), (W2[:, rest], B2 + f32(0.5))])
    assert moved(case_of(WHOLE, small, [relation("z1", "z1", rest), relation("h1", "h1", rest)])) == [Fraction(1, 2)]


def test_weights_that_differ_cost_what_they_can_do() -> None:
    changed = chain([(W1, B1), (W2 + floats([[0, 0, 2.0**-20]]), B2)])
    assert moved(case_of(WHOLE, changed)) == [Fraction(3, 2**20)]  # unit 2 reaches 3
    changed = chain([(W1 + floats([[0, 0], [0, 0], [2.0**-20, 0]]), B1), (W2, B2)])
    assert moved(case_of(WHOLE, changed)) == [Fraction(2, 2**20)]
    changed = chain([(W1, B1), (W2, np.nextafter(B2, f32(2)))])
    assert moved(case_of(WHOLE, changed)) == [Fraction(1, 2**23)]


def test_weights_of_units_that_are_0_are_free() -> None:
    assert moved(case_of(WHOLE, chain([(W1, B1), (W2 + floats([[7, 0, 0]]), B2)]))) == [0]


def test_deviations_are_carried_by_absolute_values() -> None:
    """Two units that are off by 1/4 each: their weights 1 and -2 make 3/4 of it, not less."""
    first, second = floats([[1, 0], [0, 1]]), floats([[1, -2]])
    old = chain([(first, floats([0, 0])), (second, floats([0]))], batch="N")
    new = chain([(first, floats([0.25, 0.25])), (second, floats([0]))], batch="N")
    box = box_of((-1, 1), (-1, 1))
    assert moved(case_of(old, new, box=box)) == [Fraction(3, 4)]


def test_multiples() -> None:
    """Units scaled by positive numbers, and the next layer by their inverses."""
    factor = floats([1, 2, 0.25])
    small = chain([(W1 * factor[:, None], B1 * factor), (W2 / factor, B2)])
    said = [relation(name, name, [0, 1, 2], factor=factor) for name in ("z1", "h1")]
    assert moved(case_of(WHOLE, small, said)) == [0]
    with pytest.raises(NotProved, match="'h1' does not stand for what the ReLU's input stands for"):
        case_of(WHOLE, small, said[:1]).check()


# Combinations of active units

FRONT = floats([[1, 0], [0, 1], [1, 1]])
ON = floats([0.5, 0.25, 1])  # all active on [0, 1]^2
MIX = floats([1, 2, 0.5])  # of h; so that V h = v (MIX h)
OUT = floats([[1], [-3]])
JOINT = chain([(FRONT, ON), (OUT @ MIX[None], floats([1, 2]))])
JOINT_SMALL = chain([(MIX[None] @ FRONT, MIX[None] @ ON), (OUT, floats([1, 2]))])


def joint(shift: float = 0.0, mix: Any = MIX) -> list[Text]:
    return [relation(name, name, [-1], [mix], [shift]) for name in ("z1", "h1")]


def test_one_unit_in_place_of_three_by_joint_rank() -> None:
    """``h' = relu(B h + c)`` stands for a combination of active units: 3 units become 1, exactly."""
    assert moved(case_of(JOINT, JOINT_SMALL, joint())) == [0, 0]
    assert case_of(JOINT, JOINT_SMALL, joint()).check().units == (3, 1)


def test_a_combination_may_be_shifted() -> None:
    small = chain([(MIX[None] @ FRONT, MIX[None] @ ON - 1), (OUT, floats([1, 2]) + OUT[:, 0])])
    assert moved(case_of(JOINT, small, joint(-1.0))) == [0, 0]


def test_a_combination_that_can_be_negative_costs_what_the_relu_cuts_off() -> None:
    """The combination is at least 3/2; shifted by -2 it can be -1/2, which the ReLU makes 0."""
    small = chain([(MIX[None] @ FRONT, MIX[None] @ ON - 2), (OUT, floats([1, 2]) + 2 * OUT[:, 0])])
    assert moved(case_of(JOINT, small, joint(-2.0))) == [Fraction(1, 2), Fraction(3, 2)]
    with pytest.raises(NotProved, match=r"output 'y', coordinate 0: 0.5 is proved, 0 is claimed"):
        case_of(JOINT, small, joint(-2.0)).check()


def test_a_combination_of_units_that_are_not_all_active_is_refused() -> None:
    with pytest.raises(NotProved, match="'h1' has a combination of units that are not all stably active"):
        case_of(JOINT, JOINT_SMALL, joint(), box=box_of((-1, 1), (0, 1))).check()


def test_a_wrong_combination_shows() -> None:
    with pytest.raises(NotProved, match="output 'y'"):
        case_of(JOINT, JOINT_SMALL, joint(mix=np.nextafter(MIX, 2))).check()
    with pytest.raises(NotProved, match="output 'y'"):
        case_of(JOINT, JOINT_SMALL, joint(2.0**-30)).check()


def test_a_combination_has_the_columns_of_the_tensor() -> None:
    with pytest.raises(NotProved, match="does not fit the networks"):
        case_of(JOINT, JOINT_SMALL, joint(mix=MIX[:2])).check()


def test_copies_beside_a_combination() -> None:
    """Two units: one a copy, one a combination of the others."""
    small = chain([(floats([[1, 1], [1, 2]]), floats([1, 1])), (floats([[0.5, 1], [-1.5, -3]]), floats([1, 2]))])
    said = [relation(name, name, [2, -1], [[1, 2, 0]], [0]) for name in ("z1", "h1")]
    assert moved(case_of(JOINT, small, said)) == [0, 0]


def test_an_active_layer_is_folded_into_the_next() -> None:
    """No ReLU is left: a dense layer of the inputs in place of two."""
    small = chain([((OUT @ MIX[None]) @ FRONT, (OUT @ MIX[None]) @ ON + floats([1, 2]))])
    assert moved(case_of(JOINT, small)) == [0, 0]
    assert case_of(JOINT, small).check().units == (3, 0)
    with pytest.raises(NotProved):
        case_of(JOINT, small, box=box_of((-1, 1), (0, 1))).check()


# Sums, data movement, elementwise operations

SUM = [
    node("Gemm", ["x", "W", "b"], ["z"], transB=1),
    node("Relu", ["z"], ["h"]),
    node("Gemm", ["x", "V", "c"], ["g"], transB=1),
    node("Add", ["h", "g"], ["s"]),
    node("Gemm", ["s", "U"], ["y"], transB=1),
]
SUM_WEIGHTS = {"W": [[1, 1], [1, -1]], "b": [-2, 0], "V": [[0, 0], [1, 0]], "c": [0, 0], "U": [[1, 1]]}


def half(names: Sequence[str]) -> dict[str, Any]:
    rows = {name: floats(SUM_WEIGHTS[name])[1:] for name in names if name != "U"}
    return {**rows, "U": floats(SUM_WEIGHTS["U"])[:, 1:]}


def test_sums_of_the_same_coordinates() -> None:
    said = [relation(name, name, [1]) for name in ("z", "h", "g", "s")]
    small = model(SUM, 1, half(["W", "b", "V", "c"]))
    assert moved(case_of(model(SUM, 1, SUM_WEIGHTS), small, said)) == [0]


def test_deviations_of_both_addends_add_up() -> None:
    changed = {**SUM_WEIGHTS, "b": [-2, 0.5], "c": [0, 0.25]}
    assert moved(case_of(model(SUM, 1, SUM_WEIGHTS), model(SUM, 1, changed))) == [Fraction(3, 4)]


def test_addends_may_change_places_but_not_be_others() -> None:
    old = model(SUM, 1, SUM_WEIGHTS)
    turned = [*SUM[:3], node("Add", ["g", "h"], ["s"]), SUM[4]]
    assert moved(case_of(old, model(turned, 1, SUM_WEIGHTS))) == [0]
    for other in (["h", "h"], ["g", "g"], ["z", "g"]):
        wrong = [*SUM[:3], node("Add", other, ["s"]), SUM[4]]
        with pytest.raises(NotProved, match="'s' is a sum of others"):
            case_of(old, model(wrong, 1, SUM_WEIGHTS)).check()


def test_addends_stand_for_the_same_coordinates() -> None:
    said = [relation("z", "z", [1]), relation("h", "h", [1]), relation("g", "g", [0]), relation("s", "s", [1])]
    small = model(SUM, 1, {**half(["W", "b"]), "V": [[0, 0]], "c": [0], "U": [[1]]})
    with pytest.raises(NotProved, match="'s' is a sum of others"):
        case_of(model(SUM, 1, SUM_WEIGHTS), small, said).check()


MOVE = [
    node("Gemm", ["x", "W", "b"], ["z"], transB=1),
    node("Relu", ["z"], ["h"]),
    node("Concat", ["h", "x"], ["c"], axis=1),
    node("Gather", ["c", "i"], ["m"], axis=1),
    node("Gemm", ["m", "U"], ["y"], transB=1),
]
MOVE_WEIGHTS = {"W": [[1, 1], [1, -1]], "b": [-2, 0], "i": np.array([3, 0, 1, 2]), "U": [[1, 7, 2, 3]]}


def test_coordinates_that_are_moved() -> None:
    said = [
        relation("z", "z", [1]),
        relation("h", "h", [1]),
        relation("c", "c", [1, 2, 3]),
        relation("m", "m", [2, 3, 0]),
    ]
    small = {"W": [[1, -1]], "b": [0], "i": np.array([0, 1, 2]), "U": [[2, 3, 1]]}
    assert moved(case_of(model(MOVE, 1, MOVE_WEIGHTS), model(MOVE, 1, small), said)) == [0]
    wrong = {**small, "i": np.array([0, 2, 1])}
    with pytest.raises(NotProved, match="moves other coordinates"):
        case_of(model(MOVE, 1, MOVE_WEIGHTS), model(MOVE, 1, wrong), said).check()
    wrong_said = [*said[:3], relation("m", "m", [2, 0, 3])]
    with pytest.raises(NotProved, match="moves other coordinates"):
        case_of(model(MOVE, 1, MOVE_WEIGHTS), model(MOVE, 1, small), wrong_said).check()


def test_deviations_are_moved_along() -> None:
    changed = {**MOVE_WEIGHTS, "b": [-2, 0.5]}
    assert moved(case_of(model(MOVE, 1, MOVE_WEIGHTS), model(MOVE, 1, changed))) == [1]


def through(kind: str, parameter: Any = None, **attributes: Any) -> tuple[list[NodeProto], dict[str, Any]]:
    """A layer, an operation on its output, a ReLU, and a layer."""
    constants = {} if parameter is None else {"p": floats(parameter)}
    nodes = [
        node("Gemm", ["x", "W", "b"], ["z"], transB=1),
        node(kind, ["z", *constants], ["o"], **attributes),
        node("Relu", ["o"], ["h"]),
        node("Gemm", ["h", "U"], ["y"], transB=1),
    ]
    return nodes, {"W": [[1, 1], [1, -1]], "b": [-9, 0], "U": [[1, 1]], **constants}


@pytest.mark.parametrize(
    ("kind", "parameter", "smaller"),
    [("Mul", [[3, 2]], [[2]]), ("Add", [[3, 0.5]], [[0.5]]), ("Div", [[3, -2]], [[-2]]), ("LeakyRelu", None, None)],
)
def test_elementwise_operations_of_coordinates(kind: str, parameter: Any, smaller: Any) -> None:
    nodes, constants = through(kind, parameter)
    small = {"W": [[1, -1]], "b": [0], "U": [[1]], **({} if smaller is None else {"p": floats(smaller)})}
    said = [relation(name, name, [1]) for name in ("z", "o", "h")]
    old, new = model(nodes, 1, constants), model(nodes, 1, small)
    assert moved(case_of(old, new, said)) == [0]  # unit 0 is inactive behind all of these
    if smaller is not None:
        with pytest.raises(NotProved, match="'o' is computed with other parameters"):
            case_of(old, model(nodes, 1, {**small, "p": np.nextafter(floats(smaller), f32(9))}), said).check()


@pytest.mark.parametrize(
    ("kind", "parameter", "cost"),
    [
        ("Mul", [[3, -2]], Fraction(5, 4)),
        ("Add", [[3, 2]], Fraction(1, 2)),
        ("Tanh", None, Fraction(1, 2)),
        ("Softplus", None, Fraction(1, 2)),
        ("Sigmoid", None, Fraction(1, 8)),
        ("LeakyRelu", None, Fraction(1, 2)),
        ("Elu", None, Fraction(1, 2)),
    ],
)
def test_what_an_operation_makes_of_a_deviation(kind: str, parameter: Any, cost: Fraction) -> None:
    nodes, constants = through(kind, parameter)
    changed = {**constants, "b": [-8.75, 0.25]}
    assert moved(case_of(model(nodes, 1, constants), model(nodes, 1, changed))) == [cost]


def test_a_quotient_makes_of_a_deviation_at_least_what_it_should() -> None:
    nodes, constants = through("Div", [[3, -3]])
    (found,) = moved(case_of(model(nodes, 1, constants), model(nodes, 1, {**constants, "b": [-8.75, 0.25]})))
    assert Fraction(1, 6) <= found < Fraction(1, 6) + Fraction(1, 2**150)


def test_a_batch_normalisation_makes_of_a_deviation_at_least_what_it_should() -> None:
    nodes, constants = through("BatchNormalization")
    nodes[1] = node("BatchNormalization", ["z", "s", "t", "m", "v"], ["o"], epsilon=0.0)
    constants |= {"s": [1, 1], "t": [0, 0], "m": [0, 0], "v": [2, 4]}
    (found,) = moved(case_of(model(nodes, 1, constants), model(nodes, 1, {**constants, "b": [-9, 0.5]})))
    assert Fraction(1, 4) <= found < Fraction(1, 4) + Fraction(1, 2**150)
    other = {**constants, "v": [2, np.nextafter(f32(4), f32(5))]}
    with pytest.raises(NotProved, match="'o' is computed with other parameters"):
        case_of(model(nodes, 1, constants), model(nodes, 1, other)).check()


def test_other_functions_are_not_the_same() -> None:
    nodes, constants = through("Elu", alpha=0.5)
    other, _ = through("Elu", alpha=0.25)
    with pytest.raises(NotProved, match="'o' is computed with other parameters"):
        case_of(model(nodes, 1, constants), model(other, 1, constants)).check()
    other, _ = through("Tanh")
    with pytest.raises(NotProved, match="'o' is computed with other parameters"):
        case_of(model(nodes, 1, constants), model(other, 1, constants)).check()
    other, _ = through("Relu")
    with pytest.raises(NotProved, match="a Relu cannot be compared with a Monotone"):
        case_of(model(nodes, 1, constants), model(other, 1, constants)).check()


@pytest.mark.parametrize(
    ("function", "parameters", "slope"),
    [
        ("Sigmoid", (), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
        ("Tanh", (), lambda x: 1 - np.tanh(x) ** 2),
        ("Softplus", (), lambda x: 1 / (1 + np.exp(-x))),
        ("Softsign", (), lambda x: 1 / (1 + abs(x)) ** 2),
        ("Erf", (), lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2))),
        ("LeakyRelu", (0.5,), lambda x: np.where(x > 0, 1, 0.5)),
        ("Elu", (3.0,), lambda x: np.where(x > 0, 1, 3 * np.exp(np.minimum(x, 0)))),
        ("HardSigmoid", (0.2, 0.5), lambda x: np.where(abs(x) < 2, 0.2, 0)),
    ],
)
def test_no_function_is_steeper_than_is_said(function: str, parameters: tuple[float, ...], slope: Any) -> None:
    largest = lipschitz(Monotone(function, parameters))
    assert largest is not None
    assert slope(np.linspace(-5, 5, 100_001)).max() <= largest


def test_the_slope_of_what_is_not_known_is_not_known() -> None:
    assert lipschitz(Monotone("Exp")) is None


def test_a_deviation_goes_through_clip() -> None:
    nodes, constants = through("Clip")
    nodes[1] = node("Clip", ["z", "low", "high"], ["o"])
    constants |= {"low": np.array(-1, f32), "high": np.array(1, f32)}
    assert moved(case_of(model(nodes, 1, constants), model(nodes, 1, constants))) == [0]
    assert moved(case_of(model(nodes, 1, constants), model(nodes, 1, {**constants, "b": [-9, 0.5]}))) == [
        Fraction(1, 2)
    ]


@pytest.mark.parametrize(("kind", "cost"), [("Softmax", Fraction(1, 8)), ("LogSoftmax", Fraction(1, 2))])
def test_a_softmax_halves_a_deviation_and_its_logarithm_doubles_it(kind: str, cost: Fraction) -> None:
    nodes = [node("Gemm", ["x", "W", "b"], ["z"], transB=1), node(kind, ["z"], ["y"], axis=1)]
    constants = {"W": [[1, 1], [1, -1]], "b": [0, 0]}
    old = model(nodes, 2, constants)
    assert moved(case_of(old, model(nodes, 2, {**constants, "b": [0.25, 0]}))) == [cost, cost]
    assert moved(case_of(old, old)) == [0, 0]


def test_a_softmax_of_fewer_coordinates_is_another_function() -> None:
    nodes = [
        node("Gemm", ["x", "W"], ["z"], transB=1), node("Softmax", ["z"], ["p"], axis=1),
        node("Gemm", ["p", "U"], ["y"], transB=1),
    ]  # fmt: skip
    old = model(nodes, 1, {"W": [[1, 1], [1, -1], [0, 1]], "U": [[1, 1, 0]]})
    new = model(nodes, 1, {"W": [[1, 1], [1, -1]], "U": [[1, 1]]})
    with pytest.raises(NotProved, match="softmax reads other tensors"):
        case_of(old, new, [relation("z", "z", [0, 1]), relation("p", "p", [0, 1])]).check()


# What is not modelled


def around(kind: str = "Exp", **attributes: Any) -> list[NodeProto]:
    return [
        node("Gemm", ["x", "W", "b"], ["z"], transB=1),
        node("Relu", ["z"], ["h"]),
        node("Gemm", ["h", "V"], ["g"], transB=1),
        node(kind, ["g"], ["o"], **attributes),
        node("Gemm", ["o", "U"], ["y"], transB=1),
    ]


AROUND = {"W": [[1, 1], [1, -1]], "b": [-2, 0], "V": [[1, 1], [2, 1]], "U": [[1, 1]]}
AROUND_SMALL = {"W": [[1, -1]], "b": [0], "V": [[1], [1]], "U": [[1, 1]]}
AROUND_SAID = [relation("z", "z", [1]), relation("h", "h", [1])]


def test_what_is_not_modelled_stays_as_it_is() -> None:
    old, new = model(around(), 1, AROUND), model(around(), 1, AROUND_SMALL)
    assert moved(case_of(old, new, AROUND_SAID)) == [0]


@pytest.mark.parametrize(
    ("nodes", "constants", "message"),
    [
        (around(), {**AROUND_SMALL, "V": [[1], [1 + 2.0**-20]]}, "'o': Exp is not the original's"),
        (around("Abs"), AROUND_SMALL, "'o': Abs is not the original's"),
        (around("Tanh"), AROUND_SMALL, "'o': a Monotone cannot be compared with a Exp"),
        (around(), {**AROUND_SMALL, "U": [[1, 2]]}, "difference from the original is unbounded"),
    ],
)
def test_what_is_not_modelled_may_not_change(
    nodes: list[NodeProto], constants: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(NotProved, match=message):
        case_of(model(around(), 1, AROUND), model(nodes, 1, constants), AROUND_SAID).check()


def test_randomness_is_no_function() -> None:
    nodes = around("RandomUniformLike")
    with pytest.raises(NotProved, match="'o': RandomUniformLike is not the original's"):
        case_of(model(nodes, 1, AROUND), model(nodes, 1, AROUND)).check()


# Constants


def test_a_constant_in_place_of_what_hardly_varies() -> None:
    """A layer that is almost constant becomes a constant."""
    old = chain([(floats([[2.0**-10, 0]]), floats([1])), (floats([[3]]), floats([0]))])
    new = model([node("Mul", ["x", "zero"], ["n"]), node("Gemm", ["n", "U", "b"], ["y"], transB=1)], 1,
                {"zero": [[0, 0]], "U": [[0, 0]], "b": [3 + 3 * 2.0**-11]})  # fmt: skip
    with pytest.raises(NotProved):
        case_of(old, new).check()
    alone = model([node("Gemm", ["x", "U", "b"], ["y"], transB=1)], 1, {"U": [[0, 0]], "b": [3 + 3 * 2.0**-11]})
    assert moved(case_of(old, alone)) == [Fraction(3, 2**11)]


# What relations may not be


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], "'z1' has another size than in the original, and nothing says why"),
        (GONE[:1], "'h1' has another size than in the original"),
        ([GONE[0], relation("h1", "h1", [2, 1])], "'h1' does not stand for what the ReLU's input stands for"),
        ([relation("z1", "z1", [1, 3]), GONE[1]], "certificate says of tensor 'z1' does not fit"),
        ([relation("z1", "z1", [1]), GONE[1]], "certificate says of tensor 'z1' does not fit"),
        ([relation("z1", "nowhere", [1, 2]), GONE[1]], "certificate says of tensor 'z1' does not fit"),
        ([relation("z1", "x", [0, 1]), GONE[1]], "stands for one that no node of the original writes"),
        ([*GONE, relation("y", "y", [0], factor=[2.0])], "output 'y' does not stand for itself"),
        ([*GONE, relation("y", "y", [-1], [[1.0]], [0.0])], "output 'y' does not stand for itself"),
        ([*GONE, relation("y", "z1", [0])], "output 'y' does not stand for itself"),
        ([*GONE, relation("x", "x", [1, 0])], "input 'x' does not stand for itself"),
        ([*GONE, relation("x", "x", [0, 1], factor=[1.0, 2.0])], "input 'x' does not stand for itself"),
        ([relation("z1", "h1", [1, 2]), GONE[1]], "'h1' does not stand for what the ReLU's input stands for|Relu"),
    ],
)
def test_relations_that_do_not_hold(said: list[Text], message: str) -> None:
    small = chain([(W1[1:], B1[1:]), (W2[:, 1:], B2)])
    with pytest.raises(NotProved, match=message):
        case_of(WHOLE, small, said).check()


def test_a_tensor_of_another_name_needs_a_word() -> None:
    nodes = [
        node("Gemm", ["x", "W1", "b1"], ["other"], transB=1),
        node("Relu", ["other"], ["h1"]),
        node("Gemm", ["h1", "W2", "b2"], ["y"], transB=1),
    ]
    small = model(nodes, 1, {"W1": W1, "b1": B1, "W2": W2, "b2": B2})
    with pytest.raises(NotProved, match="nothing says what tensor 'other'"):
        case_of(WHOLE, small).check()
    assert moved(case_of(WHOLE, small, [relation("other", "z1", [0, 1, 2])])) == [0]


def test_relations_of_tensors_that_are_not_there_are_not_looked_at() -> None:
    assert moved(case_of(WHOLE, WHOLE, [relation("nowhere", "z1", [0])])) == [0]


# Positions


def positions(weight: Any, whole: bool) -> ModelProto:
    """``W`` at both positions of ``(2, 1)``, of which the first is the output; or at the first alone."""
    constants = {"s": np.array([0]), "e": np.array([1]), "a": np.array([1]), "W": floats([[weight]])}
    shape = np.array([0, 2, 1] if whole else [0, 1, 1])
    if whole:
        nodes = [
            node("Reshape", ["x", "shape"], ["t"]),
            node("MatMul", ["t", "W"], ["z"]),
            node("Slice", ["z", "s", "e", "a"], ["y"]),
        ]
    else:
        nodes = [
            node("Slice", ["x", "s", "e", "a"], ["t"]),
            node("MatMul", ["t", "W"], ["z"]),
            node("Reshape", ["z", "shape"], ["y"]),
        ]
    return build(nodes, {"x": ["N", 2]}, {"y": ["N", 1, 1]}, {**constants, "shape": shape})


def test_a_layer_at_one_position_in_place_of_two() -> None:
    """One coefficient must not stand for two coordinates: x is (5, -5), whose sum is 0, and the claim is false."""
    said, box = [relation("t", "t", [0]), relation("z", "z", [0])], box_of((5, 5), (-5, -5))
    assert moved(case_of(positions(1, True), positions(1, False), said, box)) == [0]
    assert moved(case_of(positions(1, True), positions(3, False), said, box)) == [10]
    with pytest.raises(NotProved, match="10 is proved, 0 is claimed"):
        case_of(positions(1, True), positions(3, False), said, box).check()


def test_units_go_at_all_positions_at_once() -> None:
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]),
        node("MatMul", ["t", "W"], ["z"]),
        node("Relu", ["z"], ["h"]),
        node("MatMul", ["h", "U"], ["y"]),
    ]
    shape = {"shape": np.array([0, 2, 1])}

    def made(first: Any, second: Any) -> ModelProto:
        constants = {**shape, "W": floats(first), "U": floats(second)}
        return build(nodes, {"x": ["N", 2]}, {"y": ["N", 2, 1]}, constants)

    old = made([[-1, 2]], [[9], [1]])
    said = [relation(name, name, [1, 3]) for name in ("z", "h")]
    assert moved(case_of(old, made([[2]], [[1]]), said)) == [0, 0]
    assert moved(case_of(old, made([[2]], [[1.5]]), said)) == [1, 1]
    twisted = [relation(name, name, [3, 1]) for name in ("z", "h")]
    with pytest.raises(NotProved):
        case_of(old, made([[2]], [[1]]), twisted).check()


def test_the_interface_is_the_same() -> None:
    other = chain([(W1, B1), (W2, B2)], np.float64)
    with pytest.raises(NotProved, match="another shape or number format"):
        case_of(WHOLE, other).check()
    wider = chain([(W1, B1), (floats([[5, 1, 2], [0, 0, 0]]), floats([1, 0]))])
    with pytest.raises(NotProved, match="another shape or number format"):
        case_of(WHOLE, wider).check()


def test_a_sum_of_others_is_another_sum() -> None:
    """``a + a`` in place of ``a + b``: every addend stands for itself, but for the wrong one."""
    layers = [node("Gemm", ["x", "A"], ["a"]), node("Gemm", ["x", "B"], ["b"])]
    weights = {"A": [[1], [2]], "B": [[3], [4]]}
    original = model([*layers, node("Add", ["a", "b"], ["y"])], 1, weights)
    assert moved(case_of(original, model([*layers, node("Add", ["b", "a"], ["y"])], 1, weights))) == [0]
    for twice in ("a", "b"):
        wrong = model([*layers, node("Add", [twice, twice], ["y"])], 1, weights)
        with pytest.raises(NotProved, match="a sum of others than in the original"):
            case_of(original, wrong).check()


def test_of_many_coordinates_one_that_moves_is_enough() -> None:
    original, moves = chain([([[1, 0], [0, 1]], [0, 0])]), chain([([[1, 0], [0, 1]], [0, 0.25])])
    with pytest.raises(NotProved, match=r"coordinate 1: 0.25 is proved, 0 is claimed"):
        case_of(original, moves).check()


# Logits less one of them

LOGITS = chain([([[1, 0], [0, 1], [1, 1]], [0, 0, 1])])
LESS = np.eye(3) - np.eye(3)[1]


def less_one(said: Any = ("y", 1), matrix: Any = LESS, shift: Any = (0, 0, 0), kept: Any = (-1, -1, -1)) -> Case:
    small = chain([([[1, -1], [0, 0], [1, 0]], [0, 0, 1])])
    parts = {"shift": [{"output": said[0], "by": said[1]}]} if said else {}
    return case_of(LOGITS, small, [relation("y", "y", kept, matrix, shift)] if len(kept) else [], **parts)


def test_logits_less_one_of_them() -> None:
    assert moved(less_one()) == [0, 0, 0]
    assert less_one().check().shift == {"y": 1}
    nothing_said = case_of(LOGITS, LOGITS).check()
    assert nothing_said.shift == {}


WRONG = LESS.copy()
WRONG[0, 0] = 1 + 2.0**-52


@pytest.mark.parametrize(
    "case",
    [
        less_one(said=("y", 0)),
        less_one(said=("y", 3)),
        less_one(matrix=np.eye(3) - np.eye(3)[0]),
        less_one(matrix=WRONG),
        less_one(shift=[0, 0, 2.0**-52]),
        less_one(kept=[0, -1, -1], matrix=LESS[1:], shift=[0, 0]),
        less_one(kept=[]),
        case_of(LOGITS, LOGITS, shift=[{"output": "y", "by": 0}]),
    ],
)
def test_logits_that_are_shifted_otherwise(case: Case) -> None:
    with pytest.raises(NotProved, match=r"0 is claimed|does not stand for itself less coordinate"):
        case.check()


def test_logits_that_are_shifted_without_a_word() -> None:
    with pytest.raises(NotProved, match=r"output 'y' does not stand for itself$"):
        less_one(said=None).check()
    with pytest.raises(NotProved, match="something is shifted that is no output"):
        less_one(said=("x", 0)).check()


@pytest.mark.parametrize("by", [-1, True, 1.0, None])
def test_a_place_is_a_coordinate(by: Any) -> None:
    with pytest.raises(Unreadable, match="expected a coordinate"):
        less_one(said=("y", by)).check()
