import gzip
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import prod
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from tiny_models import build, known, random_chain, two_inputs

from reluce.domain import Box, _vnnlib_text, load_vnnlib, make_box
from reluce.domain._vnnlib import LONGEST
from reluce.errors import DomainError
from reluce.io import loads
from reluce.network import Network

F = Fraction
ZERO = F(0)
OUTPUT_NOTE = "output constraints of the specification are not used"


def network_of(model: Any) -> Network:
    return loads(model.SerializeToString()).network


def flat_network(inputs: Mapping[str, Sequence[int | str]]) -> Network:
    nodes = [helper.make_node("Flatten", [name], [f"{name}.flat"]) for name in inputs]
    return network_of(build(nodes, inputs, {f"{name}.flat": ["N", prod(s[1:])] for name, s in inputs.items()}, {}))


ONE, TWO = network_of(known()), network_of(two_inputs())
IMAGE = flat_network({"x": ["N", 1, 2, 3]})
CHAINS = {n: network_of(random_chain([n, 2])) for n in (1, 2, 3)}

VERSION_1 = """; a comment
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
"""
VERSION_2 = """; a comment
(vnnlib-version <2.0>)
(declare-network N
    (declare-input X Real [2])
    (declare-output Y Real [2]))
"""
UNIT = ("(>= X_0 0.0)", "(<= X_0 1.0)", "(>= X_1 0.0)", "(<= X_1 1.0)")


def asserted(*formulas: str) -> str:
    return "".join(f"(assert {formula})\n" for formula in formulas)


def written(folder: Path, text: str, name: str = "p.vnnlib") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def pairs(box: Box) -> list[tuple[Fraction, Fraction]]:
    """The ends of all elements of all inputs."""
    return [pair for name in box.lower for pair in zip(box.lower[name].ravel(), box.upper[name].ravel(), strict=True)]


def both(folder: Path, *formulas: str) -> Box:
    """The box of a version 1 text on two inputs; its twin of version 2 must have the same."""
    first = load_vnnlib(ONE, written(folder, VERSION_1 + asserted(*formulas)))
    twin = re.sub(r"\b([XY])_(\d+)", r"\1[\2]", asserted(*formulas)).replace("(= ", "(== ")
    second = load_vnnlib(ONE, written(folder, VERSION_2 + twin))
    assert pairs(first) == pairs(second)
    assert first.notes == second.notes
    return first


# Constructs, in both versions


@pytest.mark.parametrize(
    ("formula", "wanted"),
    [
        ("(<= X_0 0.1)", (F(0), F(1, 10))),
        ("(< X_0 0.1)", (F(0), F(1, 10))),
        ("(>= X_0 0.1)", (F(1, 10), F(1))),
        ("(> X_0 0.1)", (F(1, 10), F(1))),
        ("(= X_0 0.1)", (F(1, 10), F(1, 10))),
        ("(!= X_0 0.0)", (F(0), F(1))),
        ("(<= 0.1 X_0)", (F(1, 10), F(1))),
        ("(>= 1 (* 3 X_0))", (F(0), F(1, 3))),
        ("(<= X_0 1e-3)", (F(0), F(1, 1000))),
        ("(<= X_0 2.5E-1)", (F(0), F(1, 4))),
        ("(<= X_0 1e-320)", (F(0), F(1, 10**320))),
        ("(>= X_0 -0e-0)", (F(0), F(1))),
        ("(<= X_0 .5)", (F(0), F(1, 2))),
        ("(<= X_0 +1.)", (F(0), F(1))),
        ("(<= (* -1.0 X_0) -0.3)", (F(3, 10), F(1))),
        ("(<= (- X_0) (- 0.3))", (F(3, 10), F(1))),
        ("(<= (- (* 2.0 X_0) 0.5 0.1) (+ X_0 -0.5))", (F(0), F(1, 10))),
        ("(<= (* 2.0 (+ X_0 0.5) (- 3.0 1.0)) 3.0)", (F(0), F(1, 4))),
        ("(<= (- X_0 X_0) 1.0)", (F(0), F(1))),
        ("(<= (+ X_0 (* 0.0 X_1)) 0.5)", (F(0), F(1, 2))),
        ("(and (<= X_0 0.5) (and (>= X_0 0.25)))", (F(1, 4), F(1, 2))),
        ("(or (<= X_0 0.5) (and (>= X_0 0.25) (<= X_0 0.75)))", (F(0), F(3, 4))),
        ("(or (<= X_0 -1.0) (and (>= X_0 0.25) (<= X_0 0.75)))", (F(1, 4), F(3, 4))),
        ("(or (<= X_0 0.5) (or (<= X_0 0.6) (<= X_0 0.7)))", (F(0), F(7, 10))),
        ("(or (and (<= X_0 0.5) (or (<= X_0 0.2) (<= X_1 -1.0))) (<= X_0 0.1))", (F(0), F(1, 5))),
        ("(or (<= X_0 0.5) (>= Y_0 0.5))", (F(0), F(1))),
        ("(or (and (<= X_0 0.5) (>= Y_0 0.5)) (and (<= X_0 0.6) (<= Y_0 0.5)))", (F(0), F(3, 5))),
        ("(<= (+ X_0 Y_0) -5.0)", (F(0), F(1))),
        ("(<= (* X_0 X_1) -5.0)", (F(0), F(1))),
        ("(<= (* X_0 X_0 X_0) -5.0)", (F(0), F(1))),
        ("(<= (* X_0 Y_0) -5.0)", (F(0), F(1))),
        ("(<= 1.0 2.0)", (F(0), F(1))),
        ("(or (<= 2.0 1.0) (!= 1.0 1.0) (<= X_0 0.5))", (F(0), F(1, 2))),
        ("(or (!= 1.0 2.0) (<= X_0 0.5))", (F(0), F(1))),
        ("(<= (+ X_0 (* -1.0 X_1)) -0.9)", (F(0), F(1, 10))),
        ("(= (+ X_0 X_1) 1.9)", (F(9, 10), F(1))),
        ("(and (<= (+ X_0 X_1) 0.9) (>= X_1 X_0))", (F(0), F(9, 10))),
        ("(and (<= X_0 (* 0.5 X_1)) (<= X_1 (- 1.0 X_0)))", (F(0), F(1, 2))),
        ("(or (>= (+ X_0 X_1) 1.9) (>= (- X_0 X_1) 0.8))", (F(4, 5), F(1))),
    ],
)
def test_a_formula_within_the_unit_box_has_exact_ends(
    formula: str, wanted: tuple[Fraction, Fraction], tmp_path: Path
) -> None:
    box = both(tmp_path, *UNIT, formula)
    assert pairs(box)[0] == wanted
    assert not box.assumption


def test_ends_that_only_several_rounds_find(tmp_path: Path) -> None:
    chain = ("(<= X_0 (- X_1 0.5))", "(or (<= X_1 0.75) (<= X_1 0.6))")
    assert pairs(both(tmp_path, *chain, *UNIT)) == [(F(0), F(1, 4)), (F(1, 2), F(3, 4))]


def test_a_sum_bounds_an_input_that_has_no_other_end(tmp_path: Path) -> None:
    box = both(tmp_path, "(>= X_0 0.0)", "(>= X_1 0.0)", "(<= (+ (* 3.0 X_0) X_1) 1.0)")
    assert pairs(box) == [(F(0), F(1, 3)), (F(0), F(1))]


def test_endless_tightening_stops_early_and_stays_sound(tmp_path: Path) -> None:
    box = both(tmp_path, *UNIT, "(<= X_0 (* 0.9 X_1))", "(<= X_1 (* 0.9 X_0))")  # only 0 satisfies it
    assert all(low == 0 < high < F(1, 10) for low, high in pairs(box))


def test_digits_that_pile_up_are_rounded_outward(tmp_path: Path) -> None:
    weight, steps = F("0." + "123456789" * 10), 8
    text = "".join(f"(declare-const X_{i} Real)\n" for i in range(steps)) + "(assert (= X_0 1))\n"
    text += "".join(f"(assert (= X_{i} (* 0.{'123456789' * 10} X_{i - 1})))\n" for i in range(1, steps))
    ends = pairs(load_vnnlib(flat_network({"x": ["N", steps]}), written(tmp_path, text)))
    assert all(low <= weight**i <= high <= low + F(1, 2**1000) for i, (low, high) in enumerate(ends))
    assert ends[1] == (weight, weight)
    assert ends[-1][0] < weight ** (steps - 1) < ends[-1][1]


def test_an_unbounded_input_lends_no_end_to_another(tmp_path: Path) -> None:
    formulas = ("(<= (- X_0 X_1) 1.0)", "(<= (+ X_0 X_1) 3.0)")  # the point (2, 1) satisfies both
    assert pairs(both(tmp_path, "(>= X_0 0.0)", "(>= X_1 0.0)", *formulas)) == [(F(0), F(3))] * 2


def test_text_of_version_1_in_other_dress(tmp_path: Path) -> None:
    text = (
        '\ufeff(set-logic QF_LRA)\n(set-info :status "unknown; maybe")\r\n'
        "(declare-fun X_0 () Real)\n( declare-fun  X_1 ( )  Real ) ; é\n(declare-fun Y_0 () Real)\n"
        "( assert (and(<= X_0 0.5)(>= X_0 0)\n(<= X_1 2)(>= X_1\n-1)))(check-sat)\n"
    )
    assert pairs(load_vnnlib(ONE, written(tmp_path, text))) == [(F(0), F(1, 2)), (F(-1), F(2))]


def test_a_compressed_file_and_a_path_given_as_text(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib.gz"
    path.write_bytes(gzip.compress((VERSION_1 + asserted(*UNIT)).encode()))
    for domain in (path, str(path)):
        box = make_box(ONE, domain)
        assert pairs(box) == [(F(0), F(1))] * 2
        assert box.description == "VNN-LIB p.vnnlib.gz (version 1)"
        assert box.notes == ()
    assert make_box(ONE, written(tmp_path, VERSION_2 + asserted("(<= X[0] 1.0)", "(>= X[0] 0.0)", "(== X[1] 2)")))


def test_nested_sums(tmp_path: Path) -> None:
    nested = "(+ 0.001 " * 150 + "X_0" + ")" * 150
    assert pairs(both(tmp_path, *UNIT, f"(<= {nested} 1.0)"))[0] == (F(0), F(85, 100))


# What the user is told


@pytest.mark.parametrize(
    ("formulas", "notes"),
    [
        (["(<= X_0 0.5)"], []),
        (["(<= Y_0 0.5)", "(or (<= Y_1 1.0) (<= X_0 Y_1))"], [OUTPUT_NOTE]),
        (
            ["(or (<= X_0 0.5) (<= X_0 0.6) (<= X_1 0.6))"],
            ["the specification's disjunction of 3 input boxes is replaced by the box that encloses them"],
        ),
        (
            ["(or (<= X_0 0.5) (<= X_0 0.6))", "(or (<= X_0 0.7) (<= X_0 0.6))"],
            ["the specification's 2 disjunctions of input boxes are replaced by the box that encloses them"],
        ),
        (["(or (and (<= X_0 0.5) (<= Y_0 1.0)) (and (>= Y_0 2.0) (<= X_0 0.5)))"], [OUTPUT_NOTE]),
        (
            ["(<= X_0 X_1)"],
            ["1 linear constraint on several inputs is used only for the box that encloses them"],
        ),
        (
            ["(<= X_0 X_1)", "(= (+ X_0 X_1) 0.5)"],
            ["2 linear constraints on several inputs are used only for the box that encloses them"],
        ),
        (["(<= (* X_0 X_1) 0.5)"], ["1 non-linear constraint on inputs is not used"]),
        (["(!= X_0 0.5)", "(!= X_0 X_1)"], ["2 constraints with != on inputs are not used"]),
        (
            ["(or (<= X_0 0.5) (<= Y_0 0.5))"],
            [OUTPUT_NOTE, "1 disjunction with a branch that admits every input is not used"],
        ),
    ],
)
def test_what_is_not_used_is_said(formulas: list[str], notes: list[str], tmp_path: Path) -> None:
    assert list(both(tmp_path, *UNIT, *formulas).notes) == notes


# Inputs of networks


def tensors(*declarations: str, network: str = "N") -> str:
    return f"(declare-network {network} {' '.join(declarations)} (declare-output {network}out Real [1]))\n"


def version_2(*parts: str) -> str:
    return "(vnnlib-version <2.0>)\n" + "".join(parts)


def test_version_1_counts_the_elements_of_all_inputs_in_order(tmp_path: Path) -> None:
    sizes = [TWO.tensors[name].shape for name in TWO.inputs]
    count = sum(prod(shape or ()) for shape in sizes)
    text = "".join(f"(declare-const X_{i} Real)\n(assert (= X_{i} {i}))\n" for i in range(count))
    box = load_vnnlib(TWO, written(tmp_path, text))
    assert [box.lower[name].shape for name in TWO.inputs] == sizes
    assert pairs(box) == [(F(i), F(i)) for i in range(count)]


@pytest.mark.parametrize("shape", ["[1, 2, 3]", "[1,1,2,3]", "[2,3]", "[6]"])
def test_elements_are_counted_row_by_row(shape: str, tmp_path: Path) -> None:
    sizes = [int(n) for n in shape.strip("[]").split(",")]
    text = version_2(tensors(f"(declare-input image float32 {shape})"))
    for i, place in enumerate(np.ndindex(*sizes)):
        text += f"(assert (== image[{','.join(map(str, place))}] {i}.5))\n"
    box = load_vnnlib(IMAGE, written(tmp_path, text))
    assert box.lower["x"].shape == (1, 2, 3)
    assert pairs(box) == [(F(2 * i + 1, 2),) * 2 for i in range(6)]


THREE = flat_network({"a": ["N", 1], "b": ["N", 1], "c": ["N", 1]})


def three(*names: str) -> str:
    """Inputs p, q, r and an output with these ONNX names, or without."""
    kinds = ("-input p Real []", "-input q Real [1]", "-input r int64 [1,1]", "-output y Real [1]")
    quoted = [f' "{name}"' for name in names] or [""] * 4
    declared = " ".join(f"(declare{kind}{name})" for kind, name in zip(kinds, quoted, strict=True))
    return version_2(f"(declare-network N {declared})\n", asserted("(== p 1.0)", "(== q[0] 2.0)", "(== r[0,0] 3)"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (three(), {"a": [1], "b": [2], "c": [3]}),
        (re.sub(r"\b([pqr])\b", lambda m: chr(ord(m[1]) - 15), three()), {"a": [1], "b": [2], "c": [3]}),
    ],
    ids=["other names", "the same names"],
)
def test_inputs_are_matched_in_order(text: str, wanted: dict[str, list[int]], tmp_path: Path) -> None:
    box = load_vnnlib(THREE, written(tmp_path, text))
    assert {name: box.lower[name].tolist() for name in box.lower} == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (re.sub(r"\bq\b", "a", three()), "input a stands where the network has 'b'; declare the inputs in"),
        (three("b", "a", "c", "out"), "line 2: syntax error"),  # the parser knows ONNX names of hidden tensors only
    ],
)
def test_inputs_that_could_be_matched_in_two_ways_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=re.escape(message)):
        load_vnnlib(THREE, written(tmp_path, text))


def test_axes_in_another_order_are_refused(tmp_path: Path) -> None:
    text = version_2(tensors("(declare-input image Real [3,2])")) + asserted("(<= image[0,1] 1.0)")
    with pytest.raises(DomainError, match=re.escape("has shape [3, 2], the network's input 'x' has [1, 2, 3]")):
        load_vnnlib(IMAGE, written(tmp_path, text))


def test_one_network_on_several_inputs_is_refused(tmp_path: Path) -> None:
    other = tensors("(equal-to N)", "(declare-input U Real [1])", network="M")
    text = version_2(
        tensors("(declare-input X Real [1])"), other, asserted("(<= X[0] 1)", "(>= X[0] 0)", "(== U[0] 9)")
    )
    with pytest.raises(DomainError, match="'N', 'M' are one network on several inputs"):
        load_vnnlib(CHAINS[1], written(tmp_path, text))


# Operators without a blank behind them, and numbers that the parser would split


def test_an_operator_needs_no_blank_behind_it(tmp_path: Path) -> None:
    # 1.0 stands for the second number of the text in what the parser reads; it must not be taken for it.
    formulas = ("(<=-1.0 X_0)", "(<= X_0 0.25)", "(>=1.0 X_1)", "(>=X_1 0.5)", "(<= (*2.0 X_0) 0.25)")
    assert pairs(both(tmp_path, *formulas)) == [(F(-1), F(1, 8)), (F(1, 2), F(1))]


@pytest.mark.parametrize("word", ["0x10", "1/3", "--5", "1.0-0.5", "1_0", "1.0e", "+-5", "1e5.0"])
def test_a_word_that_holds_a_number_and_is_none_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=re.escape(f"{word!r} is neither a number nor a name")):
        load_vnnlib(ONE, written(tmp_path, VERSION_1 + asserted(*UNIT, f"(<= X_0 {word})")))


def test_a_comment_ends_at_a_carriage_return(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_bytes((VERSION_1 + asserted(*UNIT, "(or (<= X_0 0.5) ; one\r (<= X_0 0.9))")).encode())
    assert pairs(load_vnnlib(ONE, path))[0] == (F(0), F(9, 10))


@pytest.mark.parametrize("where", [VERSION_1 + "(declare-const X_01 Real)", VERSION_1])
def test_leading_zeros_make_another_variable(where: str, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="X_01"):
        load_vnnlib(ONE, written(tmp_path, where + asserted(*UNIT, "(<= X_01 0.5)")))


def test_a_number_of_many_digits_has_a_digest(tmp_path: Path) -> None:
    tiny = load_vnnlib(ONE, written(tmp_path, VERSION_1 + asserted(*UNIT, "(>= X_0 1e-9999)")))
    assert pairs(tiny)[0] == (F(1, 10**9999), F(1))
    assert tiny.digest != load_vnnlib(ONE, written(tmp_path, VERSION_1 + asserted(*UNIT))).digest


def test_hidden_tensors_bound_nothing(tmp_path: Path) -> None:
    text = version_2(
        '(declare-network N (declare-input X Real [1]) (declare-hidden H Real [1] "z;(") (declare-output Y Real [1]))',
        asserted("(<= X[0] 1.0)", "(>= X[0] 0.0)", "(<= H[0] X[0])"),
    )
    box = load_vnnlib(CHAINS[1], written(tmp_path, text))
    assert pairs(box) == [(F(0), F(1))]
    assert box.notes == (OUTPUT_NOTE,)


def test_of_several_networks_the_first_that_fits_is_used(tmp_path: Path) -> None:
    text = version_2(
        tensors("(declare-input V Real [5])", network="big"),
        tensors("(declare-input W Real [1])", network="small"),
        tensors("(declare-input Z Real [1])", network="other"),
        asserted("(<= W[0] 1.0)", "(>= W[0] -1.0)", "(<= W[0] Z[0])", "(== Z[0] 0.0)", "(<= V[4] W[0])"),
    )
    box = load_vnnlib(CHAINS[1], written(tmp_path, text))
    assert pairs(box) == [(F(-1), F(1))]
    assert box.notes == ("of the specification's 3 networks only small is used, and only what is said of it alone",)


# Errors

COMPRESSED = gzip.compress(b"(assert" * 99, mtime=0)
ERRORS = [
    ("", "not VNN-LIB: it has neither (declare-const X_0 Real) as in version 1 nor (vnnlib-version <2.0>)"),
    ("0,1", "not VNN-LIB: it has neither (declare-const X_0 Real) as in version 1 nor (vnnlib-version <2.0>)"),
    (VERSION_1 + asserted(*UNIT) + "\0", "not VNN-LIB: it has neither"),
    (VERSION_1, "the specification has no assertion, so its inputs are unbounded"),
    (VERSION_2, "the specification has no assertion, so its inputs are unbounded"),
    (VERSION_1 + "(assert (<= X_0 1 2.0))", "cannot be read as VNN-LIB version 1: line 6: syntax error at '2.0'"),
    (VERSION_1 + "(assert (<= X_0 1)", "cannot be read as VNN-LIB version 1: line 6: syntax error at its end"),
    (VERSION_1 + "\n(assert (=> X_0 1))", "cannot be read as VNN-LIB version 1: line 7: syntax error at '='"),
    (VERSION_1 + "(assert (<= Z_0 1))", "version 1: line 6: Undeclared variable Z_0: Variable must be"),
    (VERSION_1.replace("const ", "const\n") + "(assert\n(<= X_0))", "version 1: line 11: syntax error at ')'"),
    (VERSION_1 + "(assert (<= Y_2 1.0))", "version 1: line 6: Index out of bounds for variable Y_2: Index 2 is out"),
    (VERSION_1 + "(assert (<= X_0 1e400))", "'1e400' is not a finite decimal number"),
    (VERSION_1 + "(assert (<= X_0 1e999999999))", "'1e999999999' is not a finite decimal number"),
    (VERSION_1 + "(declare-const Z Real)" + asserted(*UNIT), "declares 'Z'; the variables of version 1 are the inputs"),
    (
        VERSION_1 + "(declare-const X_2 Real)" + asserted(*UNIT),
        "the specification has 3 inputs X, the network has 2 input elements",
    ),
    (VERSION_1.replace("X_1", "X_7") + asserted(*UNIT), "its inputs are not X_0 to X_1: it declares X_7"),
    (
        VERSION_1 + asserted(*UNIT[:3]),
        "input X_1 (coordinate [1] of 'x') has no upper end; add one, such as (assert (<= X_1 0.0))",
    ),
    (
        VERSION_1 + asserted(*UNIT[1:]),
        "input X_0 (coordinate [0] of 'x') has no lower end; add one, such as (assert (>= X_0 0.0))",
    ),
    (
        VERSION_1 + asserted(*UNIT, "(<= X_1 -0.25)"),
        "no input satisfies the specification: X_1 would have to be at least 0 and at most -0.25; "
        "check its assertions on the inputs",
    ),
    (
        VERSION_1 + asserted(*UNIT, "(or (<= X_1 -0.25) (>= (+ X_0 X_1) 2.1))"),
        "no input satisfies the specification; check its assertions on the inputs",
    ),
    (VERSION_1 + asserted(*UNIT, "(>= (+ X_0 X_1) 2.1)"), "no input satisfies the specification; check"),
    (VERSION_1 + asserted(*UNIT, "(<= 2.0 1.0)"), "no input satisfies the specification; check"),
    (VERSION_1 + "(assert " + "(or " * 300 + "(<= X_0 1)" + ")" * 301, "parentheses are nested more than 200 deep"),
    (VERSION_1 + "(assert " * 100_000, "parentheses are nested more than 200 deep"),
    (VERSION_2 + "(assert (<= X[0] y))", "cannot be read as VNN-LIB version 2: line 6: Undeclared variable y: "),
    (VERSION_2 + "(assert (<= X[0] 1e-3 4))", "cannot be read as VNN-LIB version 2: line 6: syntax error at '4'"),
    (
        VERSION_2.replace("[2]", "[1,3]") + "(assert (<= X[0,0] 1.0))",
        "the specification's input X has shape [1, 3], the network's input 'x' has [2]",
    ),
    (
        VERSION_2.replace("[2]", "[1,2]") + asserted("(<= X[0,0] 1.0)", "(>= X[0,0] 0.0)", "(>= X[0,1] 0.0)"),
        "input X[0, 1] (coordinate [1] of 'x') has no upper end; add one, such as (assert (<= X[0, 1] 0.0))",
    ),
    (
        version_2(tensors("(declare-input a Real [2])", "(declare-input b Real [2])"), "(assert (<= a[0] 1.0))"),
        "the specification has the inputs 'a', 'b', the network has 'x'",
    ),
    (
        version_2(tensors("(declare-input a Real [3])"), tensors("(declare-input b Real [4])", network="M"))
        + "(assert (<= a[0] 1.0))",
        "none of its 2 networks fits: the specification's input a has shape [3], the network's input 'x' has [2]",
    ),
    (VERSION_2.replace("<2.0>", "<3.0>") + "(assert (<= X[0] 1))", "line 2: Incompatible VNNLib version <3.0>: "),
    (VERSION_2.replace("Y Real [2]", "X Real [2]") + "(assert (<= X[0] 1))", "Duplicate variable declaration X"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[message[:50] for _, message in ERRORS])
def test_what_cannot_be_used_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DomainError) as caught:
        load_vnnlib(ONE, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("absent.vnnlib", None, "no such file"),
        ("absent.vnnlib.gz", None, "no such file"),
        ("damaged.vnnlib.gz", b"no gzip at all", "Not a gzipped file"),
        ("short.vnnlib.gz", COMPRESSED[:-9], "Compressed file ended"),
        ("garbled.vnnlib.gz", COMPRESSED[:10] + b"\xff" * 40, "invalid block type"),
        ("folder.vnnlib", b"", "Is a directory"),
        ("bomb.vnnlib.gz", gzip.compress(b" " * (LONGEST + 1), mtime=0), "more than 16,777,216 bytes"),
    ],
    ids=["absent", "absent gz", "no gzip", "short", "garbled", "folder", "bomb"],
)
def test_a_file_that_cannot_be_opened_is_refused(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if message == "Is a directory":
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    with pytest.raises(DomainError, match=message) as caught:
        load_vnnlib(ONE, path)
    assert str(caught.value).startswith(f"{path}: cannot be read as VNN-LIB: ")


def test_an_input_of_unknown_shape_is_refused(tmp_path: Path) -> None:
    network = replace(ONE, tensors={**ONE.tensors, "x": replace(ONE.tensors["x"], shape=None)})
    with pytest.raises(DomainError, match="--input-shape x:"):
        load_vnnlib(network, written(tmp_path, VERSION_1 + asserted(*UNIT)))


# No point of a formula is lost

COMPARE: dict[str, Callable[[Any, Any], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt, "==": eq, "!=": ne}
GRID = [F(k, 2) for k in range(-4, 5)]


@dataclass(frozen=True)
class Formula:
    """``operator`` is a connective of ``parts``, or compares ``sum_i weights[i] v_i`` with ``constant``."""

    operator: str
    parts: tuple["Formula", ...] = ()
    weights: tuple[Fraction, ...] = ()
    constant: Fraction = ZERO

    def holds(self, values: Sequence[Fraction]) -> bool:
        if self.operator in COMPARE:
            total = sum((a * v for a, v in zip(self.weights, values, strict=True)), F(0))
            return COMPARE[self.operator](total, self.constant)
        return (all if self.operator == "and" else any)(part.holds(values) for part in self.parts)

    def text(self, version: int) -> str:
        if self.operator not in COMPARE:
            return f"({self.operator} {' '.join(part.text(version) for part in self.parts)})"
        inputs = len(self.weights) - 1
        names = [("X", i) for i in range(inputs)] + [("Y", 0)]
        terms = [
            f"(* {float(a)} {letter}_{i})" if version == 1 else f"(* {letter}[{i}] {float(a)})"
            for a, (letter, i) in zip(self.weights, names, strict=True)
            if a
        ]
        operator = "=" if self.operator == "==" and version == 1 else self.operator
        left = f"(+ {' '.join(terms)})" if terms else "0.0"
        if version == 1:
            return f"({operator} {left} {float(self.constant)})"
        return f"({operator} (- {left} {float(self.constant)}) 0)"


def specification(formula: Formula, inputs: int, version: int) -> str:
    ends = asserted(*(f"({sign} X_{i} {end})" for i in range(inputs) for sign, end in (("<=", 2), (">=", -2))))
    if version == 1:
        declared = "".join(f"(declare-const X_{i} Real)\n" for i in range(inputs)) + "(declare-const Y_0 Real)\n"
        return declared + ends + asserted(formula.text(1))
    declared = f"(declare-network N (declare-input X float32 [{inputs}]) (declare-output Y float32 [1]))\n"
    return version_2(declared, asserted(formula.text(2)), re.sub(r"X_(\d)", r"X[\1]", ends))


@st.composite
def comparisons(draw: st.DrawFn, inputs: int) -> Formula:
    numbers = st.integers(-6, 6).map(lambda k: F(k, 4))
    weights = [draw(numbers) if draw(st.booleans()) else F(0) for _ in range(inputs)]
    output = draw(numbers) if draw(st.integers(0, 5)) == 0 else F(0)
    return Formula(draw(st.sampled_from([*COMPARE, "<=", ">="])), (), (*weights, output), draw(numbers))


def formulas(inputs: int) -> st.SearchStrategy[Formula]:
    return st.recursive(
        comparisons(inputs),
        lambda parts: st.builds(
            Formula, st.sampled_from(["and", "or"]), st.lists(parts, min_size=1, max_size=4).map(tuple)
        ),
        max_leaves=8,
    )


def lost(formula: Formula, box: Box | None, inputs: int) -> list[tuple[Fraction, ...]]:
    """Grid points that satisfy the formula for some output, and lie outside the box."""
    ends = [] if box is None else pairs(box)
    return [
        point
        for point in product(GRID, repeat=inputs)
        if (box is None or not all(low <= x <= high for x, (low, high) in zip(point, ends, strict=True)))
        and any(formula.holds((*point, y)) for y in (F(-9), F(0), F(9)))
    ]


def box_of(formula: Formula, inputs: int, version: int, folder: Path) -> Box | None:
    """The box of the formula within [-2, 2]; ``None`` where no input satisfies it."""
    try:
        return load_vnnlib(CHAINS[inputs], written(folder, specification(formula, inputs, version)))
    except DomainError as error:
        if "no input satisfies the specification" in str(error):
            return None
        raise


@given(data=st.data(), inputs=st.integers(1, 3))
def test_the_box_contains_every_point_of_a_formula(
    data: st.DataObject, inputs: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    formula = data.draw(formulas(inputs))
    folder = tmp_path_factory.getbasetemp()
    first, second = (box_of(formula, inputs, version, folder) for version in (1, 2))
    assert lost(formula, first, inputs) == []
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert pairs(first) == pairs(second)


def test_a_box_that_loses_a_point_is_noticed(tmp_path: Path) -> None:
    formula = Formula("or", (Formula("==", (), (F(1), F(1), F(0)), F(3)), Formula("<=", (), (F(1), F(0), F(0)), F(-1))))
    box = box_of(formula, 2, 1, tmp_path)
    assert box is not None
    assert lost(formula, box, 2) == []
    assert lost(formula, None, 2)
    smaller = {"x": box.upper["x"] - F(1, 10**9)}
    assert (F(1), F(2)) in lost(formula, replace(box, upper=smaller), 2)


# Specifications that nobody of this project made


@pytest.mark.shared
def test_every_public_specification_is_read(shared: Path) -> None:
    paths = sorted((shared / "networks").rglob("*.vnnlib*"))
    assert paths
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        count = len(set(re.findall(rb"declare-\w+\s+(X_\d+)\s", data)))
        box = load_vnnlib(flat_network({"x": ["N", count]}), path)
        assert len(pairs(box)) == count, path
        assert all(low <= high for low, high in pairs(box)), path


@pytest.mark.shared
def test_a_public_disjunction_of_boxes_has_the_ends_that_its_text_spells(shared: Path) -> None:
    network = flat_network({"x": ["N", 1, 1, 5]})
    box = load_vnnlib(network, shared / "networks/vnncomp2021/acasxu/prop_6.vnnlib")
    assert box.description == "VNN-LIB prop_6.vnnlib (version 1)"
    assert box.notes == (
        "the specification's disjunction of 2 input boxes is replaced by the box that encloses them",
        OUTPUT_NOTE,
    )
    assert pairs(box) == [
        (F("-0.129289109"), F("0.700434925")),
        (F("-0.499999896"), F("0.499999896")),
        (F("-0.499999896"), F("-0.499204121")),
        (F("-0.5"), F("0.5")),
        (F("-0.5"), F("0.5")),
    ]


@pytest.mark.shared
def test_a_public_specification_with_a_linear_constraint_is_tightened_by_it(shared: Path) -> None:
    box = load_vnnlib(CHAINS[3], shared / "networks/vnncomp2024/ACC/spec/prop_far0_eps0.vnnlib.gz")
    assert pairs(box) == [(F(0), F(50)), (F(-50), F(50)), (F(0), F(150))]  # 1.5 X_1 - X_2 <= -5 cuts no end off
    assert len(box.notes) == 2


# Texts that ask for much


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.vnnlib")
    with pytest.raises(DomainError, match="not a regular file"):
        load_vnnlib(ONE, tmp_path / "p.vnnlib")


COSTLY = {
    "brackets": (VERSION_2 + "(assert (<= X[0] 1))" + "[" * 300_000, "syntax error"),
    "digits": (VERSION_1 + asserted("(<= X_0 " + "1" * 300_000 + "x)"), "too long a word"),
    "digits of a number": (VERSION_1 + asserted("(<= X_0 " + "1" * 4999 + ")"), "not a finite decimal number"),
    "quotes": (VERSION_1 + asserted('(<= X_0 1)') + '"' * 300_001, "cannot be read"),
    "a product": (VERSION_1 + asserted(f"(<= (* X_0 {'1e-9999 ' * 9999}) 1)"), "products .* too many digits"),
    "nested products": (
        VERSION_1 + asserted(f"(<= {'(* 1e-9999 ' * 150}(+ X_0 X_1){')' * 150} 1)"), "products .* too many digits"
    ),
    "declarations": ("(declare-const X_0 Real)(declare-const X_1" + " " * 300_000 + asserted("(<= X_0 1)"), "inputs"),
    "comments": (VERSION_1 + ";\n" * 100_000 + "(assert", "syntax error at its end"),
    "outputs": (VERSION_1 + "(declare-const Y_999999999 Real)" + asserted("(<= X_0 1)"), "X"),
    "shapes": (VERSION_2.replace("[2]", "[999999999,999999999]") + asserted("(<= X[0,0] 1)"), "shape|syntax"),
}  # fmt: skip


@pytest.mark.parametrize("name", COSTLY)
def test_a_text_that_asks_for_much_is_refused_at_once(name: str, tmp_path: Path) -> None:
    text, message = COSTLY[name]
    path, begun = written(tmp_path, text), time.process_time()
    with pytest.raises(DomainError, match=message):
        load_vnnlib(ONE, path)
    assert time.process_time() - begun < 5


def test_all_numbers_together_have_few_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vnnlib_text, "MOST_BITS", 50_000)
    one = VERSION_1 + asserted(*UNIT, "(>= X_0 1e-9999)")
    load_vnnlib(ONE, written(tmp_path, one))
    with pytest.raises(DomainError, match="its numbers have too many digits"):
        load_vnnlib(ONE, written(tmp_path, one + asserted("(>= X_0 1e-9998)")))


def test_a_negative_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match=r"X has no element \[-1\]; its shape is \[2\]"):
        load_vnnlib(ONE, written(tmp_path, VERSION_2 + asserted("(<= X[0] 1)", "(>= X[0] 0)", "(<= X[-1] 1)")))
