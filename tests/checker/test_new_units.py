"""Units that are new, opposites, multiples and selections: each rule, what it costs, and its twins."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from checking import case_of, floats, fractions, graph_of, model, moved, on_box
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, helper
from oracle import at, cells, whole_domain
from strategies import Case as Sample
from strategies import box_of, chains
from tiny_models import chain

import reluce_checker._relation as relations_of
from certificates import Text, multiples, relation
from reluce_checker import NotProved
from reluce_checker._certificate import Multiples
from reluce_checker._exact import Exact
from reluce_checker._forms import Forms
from reluce_checker._linear import Backward, Functional
from reluce_checker._read import read_graph

node = helper.make_node
BOX = box_of((-1, 1), (-1, 1))
seeds = st.integers(0, 2**32 - 1)

# Rows of another tensor: functions of the pre-activation, in front of the ReLU and behind it

FRONT, ON = floats([[1, 0], [0, 1], [1, 1]]), floats([1.5, 1.25, 3])  # all active on [-1, 1]^2
MIX, OUT = floats([1, 2, 0.5]), floats([[1], [-3]])
JOINT = chain([(FRONT, ON), (OUT @ MIX[None], floats([1, 2]))])
SMALL = chain([(MIX[None] @ FRONT, MIX[None] @ ON), (OUT, floats([1, 2]))])


def joint(shift: float = 0.0, mix: Any = MIX, over: str = "z1") -> list[Text]:
    return [relation(name, name, [-1], [mix], [shift], over=over) for name in ("z1", "h1")]


def test_a_new_unit_stands_for_a_function_of_the_pre_activation() -> None:
    assert moved(case_of(JOINT, SMALL, joint(), box=BOX)) == [0, 0]


def test_it_stands_for_that_and_nothing_else() -> None:
    for said in (joint(mix=np.nextafter(MIX, 2)), joint(2.0**-30), joint(mix=-MIX)):
        assert any(value > 0 for value in moved(case_of(JOINT, SMALL, said, box=BOX)))


def test_units_that_are_not_active_are_no_longer_what_the_pre_activation_is() -> None:
    """The twin: a unit that is cut off at 0 is not its pre-activation, wherever the combination stays positive."""
    cut = chain([(FRONT, ON - 1), (OUT @ MIX[None], floats([1, 2]))])
    low = chain([(MIX[None] @ FRONT, MIX[None] @ (ON - 1)), (OUT, floats([1, 2]))])
    found = moved(case_of(cut, low, joint(), box=BOX))
    assert found[0] >= Fraction(1, 2)
    assert found[1] == 3 * found[0]


def test_the_tensor_is_the_same_on_both_sides_of_a_relu() -> None:
    for first, second in (("z1", "x"), ("x", "z1"), ("h1", "z1"), ("y", "z1")):
        columns = {"z1": 3, "h1": 3, "x": 2, "y": 2}
        said = [
            relation(name, name, [-1], [np.ones(columns[over])], [0.0], over=over)
            for name, over in (("z1", first), ("h1", second))
        ]
        with pytest.raises(NotProved, match="'h1' does not stand for what the ReLU's input stands for"):
            case_of(JOINT, SMALL, said, box=BOX).check()


def test_new_units_may_stand_for_functions_of_any_tensor() -> None:
    """Of the input: what the unit is, written out."""
    said = [relation(name, name, [-1], MIX[None] @ FRONT, [float(MIX @ ON)], over="x") for name in ("z1", "h1")]
    assert moved(case_of(JOINT, SMALL, said, box=BOX)) == [0, 0]
    wrong = [relation(name, name, [-1], MIX[None] @ FRONT, [0.0], over="x") for name in ("z1", "h1")]
    assert moved(case_of(JOINT, SMALL, wrong, box=BOX)) != [0, 0]


def test_a_tensor_that_there_is_with_as_many_columns() -> None:
    for over, columns in (("nowhere", 3), ("z1", 2), ("x", 3)):
        with pytest.raises(NotProved, match="does not fit the networks"):
            case_of(JOINT, SMALL, joint(mix=np.ones(columns), over=over), box=BOX).check()


def test_outputs_are_no_new_units() -> None:
    with pytest.raises(NotProved, match="output 'y' does not stand for itself"):
        case_of(JOINT, JOINT, [relation("y", "y", [-1, -1], np.eye(2), [0, 0], over="y")], box=BOX).check()


# Opposites: y = relu(x) as relu(-x) + x, with x carried by an active unit


def turned(
    reader: Any = ((1, 1),), bias: float = -1.0, shift: float = 1.0, factor: float = -1.0
) -> tuple[ModelProto, ModelProto, list[Text]]:
    old = chain([(floats([[1]]), floats([0])), (floats([[1]]), floats([0]))])
    new = chain([(floats([[-1], [1]]), floats([0, shift])), (floats(reader), floats([bias]))])
    names = ("z1", "h1")
    said = [relation(name, name, [0, -1], [[1]], [shift], [factor, 1], over="z1") for name in names]
    return old, new, said


LINE = box_of((-1, 1))


def test_a_unit_may_be_turned_over() -> None:
    assert moved(case_of(*turned(), box=LINE)) == [0]


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({"reader": ((1, 0),), "bias": 0.0}, 1),  # without what is linear in it: x itself is missing
        ({"shift": 0.5, "bias": -0.5}, Fraction(1, 2)),  # x + 1/2 is cut off
        ({"factor": 1.0}, 2),  # -x is not x
        ({"factor": -0.5}, Fraction(1, 2)),
        ({"reader": ((-1, 1),)}, 2),
    ],
)
def test_what_is_not_its_opposite_costs_as_much_as_it_differs(changes: dict[str, Any], cost: Fraction) -> None:
    assert moved(case_of(*turned(**changes), box=LINE))[0] >= cost


def test_a_negative_factor_of_a_relu_of_a_relu_is_refused() -> None:
    nodes = [node("Relu", ["x"], ["h1"]), node("Relu", ["h1"], ["h2"]), node("Gemm", ["h2", "W"], ["y"], transB=1)]
    net = model(nodes, 1, {"W": [[1, 1]]})
    said = [relation(name, name, [0, 1], factor=[-1.0, 1.0]) for name in ("h1", "h2")]
    with pytest.raises(NotProved):
        case_of(net, net, said, box=BOX).check()
    second = [relation("h1", "h1", [0, 1]), relation("h2", "h2", [0, 1], factor=[-1.0, 1.0])]
    with pytest.raises(NotProved, match="'h2' does not stand for what the ReLU's input stands for"):
        case_of(net, net, second, box=BOX).check()


def test_a_relu_of_negative_multiples_of_a_relu() -> None:
    """h1' = relu(-x) in place of relu(x); relu of that is relu(-x) again, and no multiple of relu(relu(x))."""
    ends = [node("Relu", ["z1"], ["h1"]), node("Relu", ["h1"], ["h2"]), node("Gemm", ["h2", "V"], ["y"], transB=1)]
    old, new = (
        model([node("Gemm", ["x", "W"], ["z1"], transB=1), *ends], 1, {"W": [[sign]], "V": [[1]]}, inputs=1)
        for sign in (1, -1)
    )
    said = [relation(name, name, [0], factor=[-1.0]) for name in ("z1", "h1", "h2")]
    with pytest.raises(NotProved, match="'h2' is a ReLU of negative multiples of a ReLU"):
        case_of(old, new, said, box=LINE).check()


@pytest.mark.parametrize("behind", ["Add", "Neg", "Gather", "Softmax", "Exp", "Tanh"])
def test_opposites_and_new_units_are_read_by_dense_layers_only(behind: str) -> None:
    """Whatever else reads them is refused, whether it would be right or not."""
    inputs = {"Add": ["h1", "h1"], "Gather": ["h1", "places"]}.get(behind, ["h1"])
    nodes = [
        node("Gemm", ["x", "W"], ["z1"], transB=1),
        node("Relu", ["z1"], ["h1"]),
        node(behind, inputs, ["t"], **({"axis": 1} if behind in ("Gather", "Softmax") else {})),
        node("Gemm", ["t", "V"], ["y"], transB=1),
    ]
    constants = {"W": [[1, 0], [0, 1]], "V": [[1, 1]], "places": np.array([1, 0])}
    net = model(nodes, 1, constants if behind == "Gather" else {k: constants[k] for k in "WV"})
    assert moved(case_of(net, net, box=BOX)) == [0]
    opposite = [relation(name, name, [0, 1], factor=[1.0, -1.0]) for name in ("z1", "h1", "t")]
    new = [relation(name, name, [0, -1], [[0, 1]], [0], over="z1") for name in ("z1", "h1", "t")]
    for said in (opposite, new):
        with pytest.raises(NotProved):
            case_of(net, net, said, box=BOX).check()
        with pytest.raises(NotProved):
            case_of(net, net, said[:2], box=BOX).check()


# Multiples


def pair(scale: float, more: float = 0.0) -> tuple[ModelProto, ModelProto, list[Text]]:
    """relu(x) + 3 relu(scale x + more t) and a network without the second unit, as if more were 0."""
    old = chain([(floats([[1, 0], [scale, more]]), floats([0, 0])), (floats([[1, 3]]), floats([0]))])
    first, linear = 1 + 3 * abs(scale), 3 * min(scale, 0)
    weight, bias = floats([[1, 0], [1, 0]]), floats([0, 1])
    new = chain([(weight, bias), (floats([[first, linear]]), floats([-linear]))])
    return old, new, [relation(name, name, [0, -1], [[1, 0]], [1], over="z1") for name in ("z1", "h1")]


@pytest.mark.parametrize("scale", [2.0, 1.0, 0.375, -1.0, -2.0])
def test_a_multiple_goes(scale: float) -> None:
    assert moved(case_of(*pair(scale), box=BOX, multiples=[multiples("z1", [1], [0], [scale])])) == [0]


@pytest.mark.parametrize("scale", [2.0, -2.0])
def test_what_is_not_quite_a_multiple_costs_what_it_differs(scale: float) -> None:
    claim = multiples("z1", [1], [0], [scale])
    assert moved(case_of(*pair(scale, 2.0**-10), box=BOX, multiples=[claim])) == [Fraction(3, 2**10)]
    other = multiples("z1", [1], [0], [scale * (1 + 2.0**-20)])
    assert 0 < moved(case_of(*pair(scale), box=BOX, multiples=[other]))[0] < Fraction(1, 2**15)


@pytest.mark.parametrize("factor", [1.0, -2.0, 0.0, 5e-324, 1e300])
def test_a_claim_that_does_not_hold_proves_nothing(factor: float) -> None:
    without = moved(case_of(*pair(2.0), box=BOX, multiples=[]))[0]
    assert without > 0
    assert moved(case_of(*pair(2.0), box=BOX, multiples=[multiples("z1", [1], [0], [factor])]))[0] > 0


def test_multiples_of_multiples() -> None:
    """z2 has multiples only since units of z1 are multiples; each claim is proved with those in front of it."""
    front = (floats([[1], [2]]), floats([0, 0]))
    old = chain([front, (floats([[1, 0], [0, 1]]), floats([-0.25, -0.5])), (floats([[1, 1]]), floats([0]))])
    new = chain([(floats([[1]]), floats([0])), (floats([[1]]), floats([-0.25])), (floats([[3]]), floats([0]))])
    said = [relation(name, name, [0]) for name in ("z1", "h1", "z2", "h2")]
    both = [multiples(name, [1], [0], [2.0]) for name in ("z1", "z2")]
    assert moved(case_of(old, new, said, box=LINE, multiples=both)) == [0]
    assert moved(case_of(old, new, said, box=LINE, multiples=both[::-1])) == [0]  # in whatever order they stand
    assert moved(case_of(old, new, said, box=LINE, multiples=both[1:]))[0] > 0
    assert moved(case_of(old, new, said, box=LINE, multiples=both[:1]))[0] > 0


@pytest.mark.parametrize("tensor", ["x", "nowhere", "y2"])
def test_claims_about_tensors_that_nothing_computes(tensor: str) -> None:
    with pytest.raises(NotProved, match="multiples of a tensor that the original does not compute"):
        case_of(*pair(2.0), box=BOX, multiples=[multiples(tensor, [1], [0], [2.0])]).check()


@pytest.mark.parametrize(("unit", "to"), [(2, 0), (1, 2), (2**31 - 1, 0)])
def test_claims_about_coordinates_that_are_not_there(unit: int, to: int) -> None:
    with pytest.raises(NotProved, match="multiples of coordinates of 'z1' that the original does not have"):
        case_of(*pair(2.0), box=BOX, multiples=[multiples("z1", [unit], [to], [2.0])]).check()


def test_multiples_of_what_nothing_is_known_of() -> None:
    nodes = [node("Exp", ["x"], ["e"]), node("Gemm", ["e", "W"], ["z1"], transB=1), node("Relu", ["z1"], ["h1"])]
    net = model([*nodes, node("Gemm", ["h1", "V"], ["y"], transB=1)], 1, {"W": [[1, 0], [2, 0]], "V": [[1, 1]]})
    with pytest.raises(NotProved, match="'z1' has multiples that are none: their difference is unbounded"):
        case_of(net, net, box=BOX, multiples=[multiples("z1", [1], [0], [1.0])]).check()
    assert moved(case_of(net, net, box=BOX, multiples=[multiples("z1", [1], [0], [2.0])])) == [0]


def test_more_claims_than_are_proved_at_once() -> None:
    count = 600
    scales = np.resize(floats([1, 2, -0.5]), count + 1)
    scales[0] = 1
    front = (scales[:, None], floats(np.zeros(count + 1)))
    old = chain([front, (floats(np.ones((1, count + 1))), floats([0]))])
    claim = multiples("z1", range(1, count + 1), [0] * count, scales[1:])
    graph = read_graph(old.SerializeToString())
    backward = Backward(graph, Forms(), on_box(graph, LINE))
    backward.assume({"z1": Multiples(claim["unit"].astype(int), claim["to"].astype(int), claim["factor"])})
    _, error = backward._multiples["z1"]
    assert error.shape == (count,)
    assert not error.sign.any()


@given(chains(layers=3, units=4), seeds)
def test_no_functional_is_larger_than_is_said(sample: Sample, seed: int) -> None:
    """Whatever is claimed of multiples, what is proved with the claims is so."""
    (network, box), generator = sample, np.random.default_rng(seed)
    graph = graph_of(network)
    backward = Backward(graph, Forms(), on_box(graph, box))
    claims = {}
    for relu in network.relus:
        size = network.tensors[relu.inputs[0]].size
        order = generator.permutation(size)
        count = int(generator.integers(0, size))
        to = generator.choice(order[count:], count)
        factor = generator.choice([1.0, -1.0, 2.0, 0.5, -0.25, 0.0], count)
        claims[relu.inputs[0]] = Multiples(order[:count], to, factor)
    backward.assume(claims)
    names = [relu.output for relu in network.relus] + [relu.inputs[0] for relu in network.relus]
    parts = {
        name: Exact.of(generator.integers(-2, 3, (2, network.tensors[name].size)))
        for name in generator.choice(names, min(2, len(names)), replace=False).tolist()
    }
    constant = Exact.of(generator.integers(-1, 2, 2))
    largest, unbounded = backward.largest(Functional(dict(parts), constant, Exact.zeros((2,))))
    assert not unbounded.any()
    for cell in cells(network, [whole_domain(box)]):
        for corner in cell.corners:
            for row, (bound, lift) in enumerate(zip(fractions(largest), fractions(constant), strict=True)):
                total = lift + sum(
                    int(part.mantissa[row, k]) * Fraction(2) ** part.exponent * at(form, corner)
                    for name, part in parts.items()
                    for k, form in enumerate(cell.forms[name])
                )
                assert abs(total) <= bound


# Selections


def picked(places: Any, kept: Any = None, weight: Any = ((1, 3),), **said: Any) -> tuple[ModelProto, ModelProto, Any]:
    old = model([node("Gemm", ["x", "W"], ["y"], transB=1)], 1, {"W": [[1, 0, 3]]}, inputs=3)
    nodes = [node("Gather", ["x", "places"], ["part"], axis=1), node("Gemm", ["part", "W"], ["y"], transB=1)]
    new = model(nodes, 1, {"W": weight, "places": np.array(places)}, inputs=3)
    return old, new, [relation("part", "x", places if kept is None else kept, **said)]


CUBE = box_of((-1, 1), (-1, 1), (0, 1))


def test_a_selection_stands_for_what_it_selects_from() -> None:
    assert moved(case_of(*picked([0, 2]), box=CUBE)) == [0]
    assert moved(case_of(*picked([2, 0], weight=[[3, 1]]), box=CUBE)) == [0]
    assert moved(case_of(*picked([0, 2, 0], weight=[[0.5, 3, 0.5]]), box=CUBE)) == [0]  # one of them twice
    row = {"kept": [0, -1], "matrix": [[0, 0, 1]], "shift": [0]}
    assert moved(case_of(*picked([0, 2], **row), box=CUBE)) == [0]  # a row that is a coordinate


def test_a_selection_of_others_costs_what_they_are() -> None:
    assert moved(case_of(*picked([0, 1]), box=CUBE)) == [6]
    assert moved(case_of(*picked([2, 0]), box=CUBE)) == [4]
    assert moved(case_of(*picked([0, 0], weight=[[1, 3]]), box=CUBE)) == [6]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"kept": [2, 0]}, "'part' selects other coordinates than the certificate says"),
        ({"kept": [0, 1]}, "'part' selects other coordinates"),
        ({"factor": [1.0, 2.0]}, "'part' selects other coordinates"),
        ({"factor": [1.0, -1.0]}, "'part' selects something that does not stand for coordinates"),
        ({"kept": [0, -1], "matrix": [[0, 0, 2]], "shift": [0]}, "'part' selects something that does not stand for"),
        ({"kept": [0, -1], "matrix": [[0, 1, 1]], "shift": [0]}, "'part' selects something that does not stand for"),
        ({"kept": [0, -1], "matrix": [[0, 0, 0]], "shift": [0]}, "'part' selects something that does not stand for"),
        ({"kept": [0, -1], "matrix": [[0, 0, 1]], "shift": [1]}, "'part' selects something that does not stand for"),
        ({"kept": [0, -1], "matrix": [[0, 1, 0]], "shift": [0]}, "'part' selects other coordinates"),
        ({"kept": [0, 3]}, "what the certificate says of tensor 'part' does not fit"),
    ],
)
def test_a_selection_is_what_it_does(said: dict[str, Any], message: str) -> None:
    with pytest.raises(NotProved, match=message):
        case_of(*picked([0, 2], **said), box=CUBE).check()


def test_a_selection_carries_what_its_source_deviates() -> None:
    """x' = h' with h' off by 2^-9 in one coordinate, of which the selection takes the other, or that."""
    ends = [node("Gemm", ["part", "V"], ["y"], transB=1)]
    old = model([node("Gemm", ["x", "W", "b"], ["z"], transB=1), node("Gemm", ["z", "V0"], ["y"], transB=1)], 1,
                {"W": np.eye(2), "b": [0, 0], "V0": [[1, 1]]})  # fmt: skip
    for place, weight, cost in ((0, 1, 1), (1, 1, 1 + Fraction(1, 2**9))):
        nodes = [node("Gemm", ["x", "W", "b"], ["z"], transB=1), node("Gather", ["z", "i"], ["part"], axis=1), *ends]
        constants = {"W": np.eye(2), "b": [0, 2.0**-9], "V": [[weight]], "i": np.array([place])}
        found = moved(case_of(old, model(nodes, 1, constants), [relation("part", "z", [place])], box=BOX))
        assert found == [cost]


def test_a_selection_of_a_new_unit_is_refused() -> None:
    nodes = [
        node("Gemm", ["x", "W", "b"], ["z1"], transB=1),
        node("Relu", ["z1"], ["h1"]),
        node("Gather", ["h1", "i"], ["part"], axis=1),
        node("Gemm", ["part", "V", "c"], ["y"], transB=1),
    ]
    constants = {"W": MIX[None] @ FRONT, "b": MIX[None] @ ON, "V": OUT, "c": [1, 2], "i": np.array([0])}
    new = model(nodes, 2, {**constants, "b": constants["b"]})
    said = [*joint(), relation("part", "h1", [-1], [MIX], [0.0], over="z1")]
    with pytest.raises(NotProved, match="'part' selects something that does not stand for coordinates"):
        case_of(JOINT, new, said, box=BOX).check()


# Skips: a selection of several tensors

UNIT = box_of((0, 1), (0, 1))
AROUND = chain([(floats([[1, 0], [1, 1], [1, -1]]), floats([1, 1, 0])), (floats([[1, 2, 3]]), floats([0.5]))])


def skipped(weight: Any = ((3, 3, 2),), order: Any = ("h1", "x"), **said: Any) -> tuple[ModelProto, ModelProto, Any]:
    """What AROUND's last layer takes of two active units, 1 (x + 1) + 2 (x + y + 1), is read from the input."""
    nodes = [
        node("Gemm", ["x", "W", "b"], ["z1"], transB=1),
        node("Relu", ["z1"], ["h1"]),
        node("Concat", list(order), ["both"], axis=1),
        node("Gemm", ["both", "V", "c"], ["y"], transB=1),
    ]
    new = model(nodes, 1, {"W": [[1, -1]], "b": [0], "V": weight, "c": [3.5]})
    stands = {"of": "h1", "kept": [2, -1, -1], "matrix": np.eye(2), "shift": [0, 0], "over": "x"} | said
    return AROUND, new, [relation("z1", "z1", [2]), relation("h1", "h1", [2]), relation("both", **stands)]


def test_a_layer_and_its_input_side_by_side() -> None:
    assert moved(case_of(*skipped(), box=UNIT)) == [0]
    assert moved(case_of(*skipped(weight=((3, 3, 2.25),)), box=UNIT)) == [Fraction(1, 4)]
    assert moved(case_of(*skipped(weight=((3, 2, 3),)), box=UNIT)) == [1]
    the_other_way = skipped(((3, 2, 3),), ("x", "h1"), kept=[-1, -1, 2])
    assert moved(case_of(*the_other_way, box=UNIT)) == [0]


def test_of_a_layer_side_by_side_nothing_may_be_left() -> None:
    """Without the unit that is not stable, 3 relu(x - y) is missing."""
    stands = {"kept": [-1, -1], "matrix": np.eye(2), "shift": [0, 0]}
    assert moved(case_of(*skipped(((3, 2),), ("x",), **stands), box=UNIT)) == [3]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"order": ("x", "h1")}, "'both' selects other coordinates"),
        ({"kept": [1, -1, -1]}, "'both' selects other coordinates"),
        ({"matrix": np.eye(2)[::-1]}, "'both' selects other coordinates"),
        ({"matrix": 2 * np.eye(2)}, "'both' selects something that does not stand for coordinates"),
        ({"matrix": [[1, 0], [1, 1]]}, "'both' selects something that does not stand for coordinates"),
        ({"shift": [0, 1]}, "'both' selects something that does not stand for coordinates"),
        ({"over": "y", "matrix": [[1], [1]]}, "'both' selects other coordinates"),
        ({"kept": [-1, -1, -1], "matrix": [[1, 0]] * 3, "shift": [0] * 3}, "'both' selects other coordinates"),
        (
            {"factor": [1.0, 1.0, 1.0], "kept": [2, 0, 1], "matrix": None, "shift": None},
            "'both' selects other coordinates",
        ),
    ],
)
def test_what_stands_side_by_side_is_what_it_is(said: dict[str, Any], message: str) -> None:
    with pytest.raises(NotProved, match=message):
        case_of(*skipped(**said), box=UNIT).check()


# What is too much to look at


def test_a_constant_that_stands_for_many_functions_of_a_large_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations_of, "MOST", 10)
    wide = [node("Gemm", ["x", "W"], ["z1"], transB=1), node("Gemm", ["x", "V"], ["w"], transB=1)]
    old = model([*wide, node("Add", ["z1", "s"], ["y"]), node("Relu", ["w"], ["h"])], 2,
                {"W": np.zeros((2, 2)), "V": np.ones((7, 2)), "s": [0, 0]})  # fmt: skip
    new = model([node("Relu", ["c"], ["z1"]), node("Mul", ["x", "o"], ["t"]), node("Add", ["t", "z1"], ["y"])], 2,
                {"c": [[0, 0]], "o": [0, 0]})  # fmt: skip
    with pytest.raises(NotProved):
        case_of(old, new, [relation("z1", "z1", [-1, -1], np.zeros((2, 7)), [0, 0], over="w")], box=BOX).check()
