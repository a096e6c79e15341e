"""Facts: what covers the domain, what follows on each part of it, and that nothing else is taken for a proof."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from strategies import box_of
from tiny_models import build

from certificates import Text, by_hand, linear, outcome, signs, touching, touching_boxes, touching_case, touching_split
from reluce_checker import NotProved, Unreadable, _boxes
from reluce_checker._facts import covers

Array = np.ndarray[Any, Any]
ROOM = -0.5625


def agrees(split: Array) -> bool:
    """Whether every choice of signs agrees with a leaf, by trying all."""
    return all(
        any(all(s in (0, c) for s, c in zip(leaf, choice, strict=True)) for leaf in split.tolist())
        for choice in product((1, -1), repeat=split.shape[1])
    )


@st.composite
def trees(draw: st.DrawFn, columns: int = 4) -> Array:
    """The leaves of a binary tree of splits, in any order."""
    leaves = [[0] * columns]
    for _ in range(draw(st.integers(0, 6))):
        leaf = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
        free = [k for k, sign in enumerate(leaf) if sign == 0]
        if not free:
            leaves.append(leaf)
            continue
        column = draw(st.sampled_from(free))
        leaves += [[sign if k == column else s for k, s in enumerate(leaf)] for sign in (1, -1)]
    return np.array(draw(st.permutations(leaves)), dtype=np.int8)


@given(trees())
def test_the_leaves_of_a_tree_cover_the_domain(split: Array) -> None:
    assert agrees(split)
    assert covers(split)


@given(trees(), st.integers(0, 100))
def test_a_tree_that_lacks_a_leaf_does_not(split: Array, place: int) -> None:
    assert not covers(np.delete(split, place % len(split), axis=0))


@given(st.lists(st.lists(st.sampled_from([1, -1, 0]), min_size=3, max_size=3), max_size=8))
def test_what_is_said_to_cover_does(leaves: list[list[int]]) -> None:
    split = np.array(leaves, dtype=np.int8).reshape(len(leaves), 3)
    assert not covers(split) or agrees(split)


def test_a_deep_tree_takes_no_recursion() -> None:
    depth = 300
    split = np.zeros((depth + 1, depth), dtype=np.int8)
    for leaf in range(depth):
        split[leaf, :leaf], split[leaf, leaf] = 1, -1
    split[depth] = 1
    assert covers(split)
    split[depth, 0] = -1
    assert not covers(split)


def test_one_linear_bound_is_not_enough() -> None:
    facts = [linear("z2", [0], 1, below) for below in ("table", "zero", "one")]
    slopes = [{"tensor": "z1", "above": np.array([2048, 1024], np.uint16), "below": np.array([0, 2048], np.uint16)}]
    with pytest.raises(
        NotProved, match="unit 0 of 'z2' is claimed to be inactive, but a positive value is not excluded"
    ) as error:
        touching_case(*facts, slopes=slopes).check()
    assert (error.value.tensor, error.value.rows) == ("z2", (0,))


@pytest.mark.parametrize("fact", [touching_split(), touching_boxes()], ids=["split", "boxes"])
def test_a_bound_on_each_part_of_the_domain_is(fact: Text) -> None:
    proved = touching_case(fact, bias=ROOM).check()
    assert (proved.facts, proved.claims, proved.largest) == (1, 1, 0.0)
    assert proved.units == (4, 3)


def test_without_a_claim_the_units_that_went_are_looked_at_all_the_same() -> None:
    assert touching_case(touching_split(), stable=[]).check().largest == 0.0
    with pytest.raises(NotProved, match=r"output 'y', coordinate 0: .* is proved, 0 is claimed"):
        touching_case(stable=[]).check()


def two(*parts: Any, kind: Any) -> Array:
    return np.array(parts, dtype=kind)


SPLITS = {
    "a leaf is missing": touching_split(
        rows=two(0, kind=np.int32), split=two([1, 0], kind=np.int8), which=two(0, kind=np.int32), beta=np.zeros(1)
    ),
    "both leaves are the same": touching_split(split=two([1, 0], [1, 0], kind=np.int8)),
    "leaves of different splits": touching_split(split=two([1, 0], [0, -1], kind=np.int8)),
    "leaves of different units": touching_split(rows=two(0, 1, kind=np.int32)),
    "a lower slope that is too small": touching_split(below=two([0, 0], [0, 0], kind=np.uint16)),
    "a lower slope that is too large": touching_split(below=two([0, 4096], [0, 0], kind=np.uint16)),
    "the other kind of slopes": touching_split(which=two(1, 0, kind=np.int32)),
    "a multiplier that does not help": touching_split(beta=two(1.0, 0, kind=np.float64)),
    "the other sign": touching_split(sign=-1),
    "another unit": touching_split(rows=two(1, 1, kind=np.int32)),
    "no leaf at all": touching_split(
        rows=np.zeros(0, np.int32), split=np.zeros((0, 2), np.int8), which=np.zeros(0, np.int32), beta=np.zeros(0)
    ),
    "over what is no pre-activation": touching_split(over=["h1"]),
    "over what is not there": touching_split(over=["nowhere"]),
    "over too few columns": touching_split(over=[]),
    "over the same twice": touching_split(
        over=["z1", "z1"],
        split=two([1, 0, 0, 0], [-1, 0, 0, 0], kind=np.int8),
        above=two(0, 0, 0, 0, kind=np.uint16),
        below=np.zeros((2, 4), np.uint16),
    ),
    "rows that are not there": touching_split(rows=two(2, 2, kind=np.int32)),
    "of a tensor that is not there": touching_split(tensor="nowhere"),
}


@pytest.mark.parametrize("name", SPLITS)
def test_splits_that_prove_nothing(name: str) -> None:
    with pytest.raises(NotProved):
        touching_case(SPLITS[name]).check()


def test_any_slopes_and_multipliers_in_range_do_no_harm() -> None:
    """A second fact with useless multipliers cannot take back what is known."""
    useless = touching_split(below=np.zeros((2, 2), np.uint16), beta=np.full(2, 1e6))
    assert touching_case(touching_split(), useless).check().facts == 2
    assert touching_case(useless, touching_split()).check().facts == 2


def test_split_multipliers_count() -> None:
    """Where the slope alone does not do, ``beta`` does: z1[0] >= 0 is used as x <= 0 is not possible there."""
    steep = {"below": two([0, 3072], [0, 0], kind=np.uint16)}
    with pytest.raises(NotProved):
        touching_case(touching_split(**steep)).check()
    fact = touching_split(**steep, beta=two(0.5, 0, kind=np.float64))
    with pytest.raises(NotProved):  # x - 1.5 (x - 1/2) - 1/2 + x / 2 = 1/4
        touching_case(fact).check()


def tree(*dimension: int, closed: str) -> Text:
    """Boxes that are cut along some dimensions; ``closed`` has a digit for each."""
    return touching_boxes(
        dimension=two(*dimension, kind=np.int8), closed=two(*([int(c)] for c in closed), kind=np.uint8)
    )


CUT = {
    "not cut": tree(-1, closed="1"),
    "cut once": tree(0, -1, -1, closed="011"),
    "cut on the other side": tree(0, 0, -1, -1, -1, closed="00111"),
    "one part is not closed": tree(0, -1, 0, -1, -1, closed="01010"),
    "nothing is closed": tree(0, -1, 0, -1, -1, closed="00000"),
    "only what no way leads to": tree(-1, 0, 0, -1, -1, closed="01111"),
    "the other sign": touching_boxes(signs=two(-1, kind=np.int8)),
    "another unit": touching_boxes(rows=two(1, kind=np.int32)),
}


@pytest.mark.parametrize("name", CUT)
def test_boxes_that_prove_nothing(name: str) -> None:
    with pytest.raises(NotProved, match="a positive value is not excluded"):
        touching_case(CUT[name], bias=ROOM).check()


TREES = {
    "a dimension that is not there": (tree(1, -1, -1, closed="111"), "dimension"),
    "no node": (
        touching_boxes(dimension=np.zeros(0, np.int8), closed=np.zeros((0, 1), np.uint8)),
        "dimension",
    ),
    "a node too many": (tree(0, -1, -1, -1, closed="1111"), "dimension"),
    "a node too few": (tree(0, -1, 0, -1, closed="1111"), "dimension"),
    "an input that is not there": (touching_boxes(inputs=["z1"]), "inputs that are not there"),
    "a coordinate that is not there": (touching_boxes(places=two(1, kind=np.int32)), "inputs that are not there"),
    "no input": (touching_boxes(inputs=[], places=np.zeros(0, np.int32)), "dimension"),
    "the same goal twice": (
        touching_boxes(rows=two(0, 0, kind=np.int32), signs=two(1, 1, kind=np.int8), closed=np.ones((5, 2), np.uint8)),
        "every goal once",
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_that_are_none(name: str) -> None:
    fact, message = TREES[name]
    with pytest.raises((NotProved, Unreadable), match=message):
        touching_case(fact, bias=ROOM).check()


@given(st.lists(st.sampled_from([-1, 0]), min_size=0, max_size=6), st.data())
def test_whatever_the_tree_a_box_is_only_closed_by_all_of_its_parts(cut: list[int], data: st.DataObject) -> None:
    """Any shape that can be read: the unit goes only where the shape has the cut at 1/2, and closes what it has to."""
    nodes = 1 + 2 * sum(d >= 0 for d in cut)
    dimension = [*cut, *[-1] * nodes][:nodes]
    if sum(d >= 0 for d in dimension) * 2 + 1 != nodes:
        return
    closed = data.draw(st.lists(st.sampled_from("01"), min_size=nodes, max_size=nodes))
    case = touching_case(tree(*dimension, closed="".join(closed)), bias=ROOM)
    children = 2 * np.cumsum(np.array(dimension) >= 0) - 1

    def covered(node: int, low: float, high: float) -> bool:
        true = high <= 0.5 or low >= 0.5 or low == high
        if closed[node] == "1" and true:
            return True
        middle, first = (low + high) / 2, int(children[node])
        return dimension[node] == 0 and covered(first, low, middle) and covered(first + 1, middle, high)

    if outcome(case)[0] == "proved":
        assert covered(0, -1.0, 1.0)


def test_a_bound_that_touches_0_is_evaluated_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """``x - 1/2 <= 0`` on [-1, 1/2]: float64 has to charge for its rounding."""
    box, (original, _) = box_of((-1, "1/2")), touching()
    fact = {**tree(-1, closed="1"), "tensor": "z1", "rows": two(1, kind=np.int32)}
    claim = {"tensor": "z1", "inactive": fact["rows"], "active": np.zeros(0, np.int32)}
    case = by_hand(original, original, box, facts=[fact], stable=[claim])
    assert case.check().facts == 1
    monkeypatch.setattr(_boxes, "MOST_DOUBTFUL", 0)
    with pytest.raises(NotProved, match="do not follow in float64"):
        case.check()


def test_many_boxes_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_boxes, "CHUNK", 1)
    assert touching_case(touching_boxes(), bias=ROOM).check().facts == 1


@pytest.mark.parametrize(
    ("stable", "message"),
    [
        (signs("z2", inactive=[1]), "unit 1 of 'z2' is claimed to be inactive"),
        (signs("z2", active=[0]), "unit 0 of 'z2' is claimed to be active, but a negative value is not excluded"),
        (signs("z1", active=[1, 0]), "unit 1 of 'z1' is claimed to be active"),
        (signs("z2", inactive=[2]), "coordinates of 'z2' that the original does not have"),
        (signs("nowhere", inactive=[0]), "coordinates of 'nowhere' that the original does not have"),
    ],
)
def test_claims_that_do_not_follow(stable: Text, message: str) -> None:
    with pytest.raises(NotProved, match=message):
        touching_case(touching_split(), stable=[stable]).check()


def test_claims_about_other_tensors_are_looked_at_too() -> None:
    assert (
        touching_case(touching_split(), stable=[signs("h1", active=[0, 1]), signs("y", active=[0])]).check().claims == 3
    )


@pytest.mark.parametrize(
    ("tensor", "above", "below"),
    [("z1", [0], [0]), ("z1", [0, 0], [0]), ("h1", [0, 0], [0, 0]), ("x", [0], [0]), ("nowhere", [0], [0])],
)
def test_slopes_belong_to_a_pre_activation(tensor: str, above: list[int], below: list[int]) -> None:
    slopes = {"tensor": tensor, "above": np.array(above, np.uint16), "below": np.array(below, np.uint16)}
    with pytest.raises(NotProved, match=f"the slopes of '{tensor}'"):
        touching_case(touching_split(), slopes=[slopes]).check()


def test_a_fact_may_rest_on_those_before_it_only() -> None:
    """``y`` is at most 1 once ``z2[0] <= 0`` is known, and that fact comes too late if it stands behind."""
    network = touching_case(touching_split(), stable=[signs("z2", inactive=[0])])
    assert network.check().facts == 1
    late = touching_case(touching_split(tensor="h2"), stable=[signs("z2", inactive=[0])])
    with pytest.raises((NotProved, Unreadable)):
        late.check()


def test_coefficients_of_two_relus_on_one_tensor_are_added_before_they_are_rounded() -> None:
    """``(2^60 + 1) relu(z) - 2^60 relu(z) - 1/4``, ``z = x - 1/4``: rounded one by one they would cancel."""
    large = 2.0**60
    nodes = [
        helper.make_node("Gemm", ["x", "W0", "b"], ["z"]),
        helper.make_node("Relu", ["z"], ["r1"]),
        helper.make_node("Relu", ["z"], ["r2"]),
        helper.make_node("Gemm", ["r1", "W1"], ["p"]),
        helper.make_node("Gemm", ["p", "W2"], ["q"]),
        helper.make_node("Gemm", ["r2", "W3", "b"], ["w"]),
        helper.make_node("Add", ["q", "w"], ["u"]),
        helper.make_node("Relu", ["u"], ["y"]),
    ]
    weights = {"W0": [[1]], "b": [-0.25], "W1": [[large, 1]], "W2": [[1], [1]], "W3": [[-large]]}
    arrays = {name: np.array(value, np.float32) for name, value in weights.items()}
    original = build(nodes, {"x": ["N", 1]}, {"y": ["N", 1]}, arrays).SerializeToString()
    claim = {"tensor": "u", "inactive": np.zeros(1, np.int32), "active": np.zeros(0, np.int32)}
    fact = {
        "kind": "boxes",
        "tensor": "u",
        "rows": np.zeros(1, np.int32),
        "signs": np.ones(1, np.int8),
        "inputs": ["x"],
        "places": np.zeros(1, np.int32),
        "dimension": np.array([-1], np.int8),
        "closed": np.ones((1, 1), np.uint8),
    }
    with pytest.raises(NotProved, match="a positive value is not excluded"):
        by_hand(original, original, box_of((0, 1)), facts=[fact], stable=[claim]).check()
