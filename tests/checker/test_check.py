"""The whole check: which files, which domain, which level."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from strategies import box_of
from tiny_models import chain

from certificates import (
    Case,
    Text,
    by_hand,
    domain_of,
    relation,
    sealed,
    signs,
    touching,
    touching_case,
    touching_split,
)
from reluce.certificate._container import pack
from reluce_checker import NotProved, Unreadable, Usage, check, from_ranges

OTHER, _ = touching(-0.75)
ORIGINAL, COMPRESSED = touching()


def honest(**parts: Any) -> Case:
    return touching_case(touching_split(), **parts)


def test_what_is_proved() -> None:
    case = honest()
    proved = case.check()
    assert (proved.level, proved.budget, proved.largest) == ("exact", Fraction(0), 0.0)
    assert (proved.facts, proved.claims, proved.units) == (1, 1, (4, 3))
    assert proved.producer == "a test"
    assert {name: values.tolist() for name, values in proved.epsilon.items()} == {"y": [0.0]}
    assert all(len(digest) == 64 for digest in (proved.original, proved.compressed, proved.certificate))


@pytest.mark.parametrize(("which", "other"), [("original", OTHER), ("compressed", OTHER), ("compressed", ORIGINAL)])
def test_another_file_than_the_certificate_is_about(which: str, other: bytes) -> None:
    case = honest()
    files = {"original": case.original, "compressed": case.compressed, which: other}
    with pytest.raises(NotProved, match=f"the certificate is about another {which} network: its SHA-256 is"):
        check(files["original"], files["compressed"], case.certificate, domain_of(case.box))


def test_files_in_the_wrong_order() -> None:
    case = honest()
    with pytest.raises(NotProved, match="about another original network"):
        check(case.compressed, case.original, case.certificate, domain_of(case.box))


def test_a_certificate_that_is_sealed_for_another_file() -> None:
    case = honest()
    with pytest.raises(NotProved, match=r"does not fit the networks|is proved, 0 is claimed"):
        check(case.original, OTHER, sealed(case.text, case.original, OTHER), domain_of(case.box))


@pytest.mark.parametrize(
    "domain",
    [
        box_of((-1, "9/8")),
        box_of(("-9/8", 1)),
        box_of((Fraction(-1) - Fraction(1, 2**1100), 1)),
    ],
)
def test_a_domain_that_is_larger_than_what_was_proved(domain: Any) -> None:
    with pytest.raises(NotProved, match="the domain of input 'x' is larger"):
        Case(ORIGINAL, COMPRESSED, honest().text, domain).check()


def test_a_smaller_domain_will_do() -> None:
    assert Case(ORIGINAL, COMPRESSED, honest().text, box_of((0, "1/3"))).check().largest == 0.0


def test_a_certificate_for_a_smaller_domain_than_the_users() -> None:
    """The forger widens nothing: on [-1, 0] the unit is plainly inactive, and the user asks about [-1, 1]."""
    narrow = [{"input": "x", "lower": ["-1"], "upper": ["0"]}]
    assert Case(ORIGINAL, COMPRESSED, honest(domain=narrow, facts=[]).text, box_of((-1, 0))).check().facts == 0
    with pytest.raises(NotProved, match="larger"):
        honest(domain=narrow).check()


@pytest.mark.parametrize(
    "domain",
    [
        [],
        [{"input": "y", "lower": ["0"], "upper": ["1"]}],
        [{"input": "x", "lower": ["0", "0"], "upper": ["1", "1"]}],
        [{"input": "x", "lower": ["1"], "upper": ["-1"]}],
    ],
)
def test_a_domain_that_is_none_of_the_network(domain: list[Text]) -> None:
    with pytest.raises(Unreadable, match="the domain"):
        honest(domain=domain).check()


def test_the_users_domain_is_checked_as_well() -> None:
    case = honest()
    with pytest.raises(Unreadable, match="the domain is of inputs"):
        check(case.original, case.compressed, case.certificate, lambda graph: {})
    with pytest.raises(Usage, match="range"):
        check(case.original, case.compressed, case.certificate, lambda graph: from_ranges(graph, ["1"]))


# Epsilon and level

BOX = box_of((-1, 1))
PLAIN = chain([([[1], [-1]], [0, 0]), ([[1, 2]], [0])])  # |y| is at most 2
SHIFTED = chain([([[1], [-1]], [0, 0]), ([[1, 2]], [2.0**-20])])


def deviating(epsilon: Any, **parts: Any) -> Case:
    """A bias that was moved by ``2**-20``."""
    values = np.atleast_1d(np.array(epsilon, dtype=np.float64))
    text = {"epsilon": [{"output": "y", "values": values}], **parts}
    return by_hand(PLAIN.SerializeToString(), SHIFTED.SerializeToString(), BOX, **text)


def points(*values: float) -> dict[str, Any]:
    return {"points": [{"input": "x", "values": np.array(values, dtype=np.float64).reshape(-1, 1)}]}


def test_within_a_budget() -> None:
    tiny = 2.0**-20
    assert deviating(tiny, level="within", budget=repr(tiny)).check().largest == tiny
    assert deviating(tiny, level="within", budget="1.0").check().budget == 1
    assert deviating(1.0, level="within", budget="1.0").check().largest == 1.0  # more may be claimed than is needed


@pytest.mark.parametrize(
    ("epsilon", "parts", "message"),
    [
        (0.0, {}, "coordinate 0: 9.53674e-07 is proved, 0 is claimed"),
        (2.0**-20, {}, "9.53674e-07 is more than the level exact allows"),
        (2.0**-20, {"budget": "1.0"}, "more than the level exact allows"),
        (np.nextafter(2.0**-20, 0), {"level": "within", "budget": "1.0"}, "is proved"),
        (2.0**-20, {"level": "within", "budget": repr(np.nextafter(2.0**-20, 0).item())}, "the level within allows"),
        (-(2.0**-20), {"level": "within", "budget": "1.0"}, "does not state an epsilon for each coordinate"),
        ([2.0**-20] * 2, {"level": "within", "budget": "1.0"}, "does not state an epsilon for each coordinate"),
        ([], {"level": "within", "budget": "1.0"}, "does not state an epsilon for each coordinate"),
    ],
)
def test_epsilons_that_are_too_small_or_not_allowed(epsilon: Any, parts: dict[str, Any], message: str) -> None:
    with pytest.raises(NotProved, match=message):
        deviating(epsilon, **parts).check()


@pytest.mark.parametrize("outputs", [[], ["z"], ["y", "z"]])
def test_epsilons_of_other_outputs(outputs: list[str]) -> None:
    said = [{"output": name, "values": np.zeros(1)} for name in outputs]
    with pytest.raises(NotProved, match="epsilon for other outputs"):
        honest(epsilon=said).check()


def test_roundoff_is_measured_at_points() -> None:
    """16 units of roundoff of 2 are ``2**-19``; of the value at 1, half of that; of 0, nothing."""
    tiny = 2.0**-20
    assert deviating(2 * tiny, level="roundoff", **points(-1)).check().level == "roundoff"
    assert deviating(tiny, level="roundoff", **points(0, 1)).check().largest == tiny
    for parts in (points(1), points(0.5, 0), points(0), points(), {}, {"points": []}):
        with pytest.raises(NotProved, match="the level roundoff allows"):
            deviating(2 * tiny, level="roundoff", **parts).check()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (points(-1.5), "a point of the certificate lies outside of the domain of input 'x'"),
        (points(np.nextafter(-1, -2)), "lies outside"),
        (points(1e300), "lies outside"),
        ({"points": [{"input": "x", "values": np.zeros((1, 2))}]}, "points do not have the size of input 'x'"),
        ({"points": [{"input": "y", "values": np.zeros((1, 1))}]}, "are not points of the network's inputs"),
    ],
)
def test_points_that_are_none(where: dict[str, Any], message: str) -> None:
    with pytest.raises(NotProved, match=message):
        deviating(2.0**-19, level="roundoff", **where).check()


def test_points_lie_in_the_users_domain_not_only_in_the_certificates() -> None:
    """Roundoff is measured where the user asks, or a large output far away would allow much here."""
    text = deviating(2.0**-19, level="roundoff", **points(-1)).text
    case = Case(PLAIN.SerializeToString(), SHIFTED.SerializeToString(), text, box_of((0, 1)))
    with pytest.raises(NotProved, match="lies outside"):
        case.check()


def test_magnitudes_are_not_believed() -> None:
    """There is no field for them: what a forger adds is not read."""
    parts = {"level": "roundoff", "magnitudes": [{"output": "y", "values": np.full(1, 1e9)}], "m": np.full(1, 1e9)}
    with pytest.raises(NotProved, match="the level roundoff allows"):
        deviating(2.0**-19, **points(0), **parts).check()


def test_roundoff_of_other_formats() -> None:
    """16 units of roundoff are far less in float64."""
    layers = [([[1], [-1]], [0, 0]), ([[1, 2]], [0])]
    old = chain(layers, np.float64).SerializeToString()
    for shift, fine in ((2.0**-48, True), (2.0**-47, False)):
        new = chain([layers[0], ([[1, 2]], [shift])], np.float64).SerializeToString()
        said = {"epsilon": [{"output": "y", "values": np.array([shift])}], "level": "roundoff", **points(-1)}
        case = by_hand(old, new, BOX, **said)
        if fine:
            assert case.check().largest == shift
        else:
            with pytest.raises(NotProved, match="the level roundoff allows"):
                case.check()


# Whatever is no file


@pytest.mark.parametrize("data", [b"", b"garbage", COMPRESSED[:-20], b"\0" * 100])
@pytest.mark.parametrize("which", ["original", "compressed"])
def test_what_is_no_network(which: str, data: bytes) -> None:
    case = honest()
    files = {"original": case.original, "compressed": case.compressed, which: data}
    made = sealed(case.text, files["original"], files["compressed"])
    with pytest.raises((Unreadable, NotProved)):
        check(files["original"], files["compressed"], made, domain_of(case.box))


@pytest.mark.parametrize("data", [b"", b"RELUCERT", COMPRESSED, pack({}), pack({"facts": []})])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(Unreadable):
        check(ORIGINAL, COMPRESSED, data, domain_of(BOX))


def test_numbers_that_are_not_finite_are_refused() -> None:
    bad = chain([([[1], [np.nan]], [0, 0]), ([[1, 2]], [0])]).SerializeToString()
    with pytest.raises(Unreadable, match="not finite"):
        by_hand_of(bad).check()


def by_hand_of(data: bytes) -> Case:
    text = deviating(0.0).text
    return Case(data, data, text, BOX)


def test_what_was_not_foreseen_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import reluce_checker._check as module

    for error in (
        IndexError("beyond"),
        KeyError("missing"),
        ValueError("shapes"),
        ZeroDivisionError(),
        OverflowError(),
    ):

        def broken(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(module, "proved_intervals", broken)
        with pytest.raises(NotProved, match=f"cannot be followed: {type(error).__name__}"):
            honest().check()


def test_claims_and_relations_together() -> None:
    """The claim is right, and a relation that does not rest on it is wrong: refused."""
    wrong = [relation("z2", "z2", [0]), relation("h2", "h2", [0])]
    with pytest.raises(NotProved):
        honest(relations=wrong, stable=[signs("z2", inactive=[0])]).check()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "gave up \\(MemoryError\\)"),
        (RecursionError(), "gave up \\(RecursionError\\)"),
        (AttributeError("no such thing"), "cannot be followed: AttributeError: no such thing"),
        (AssertionError(), "cannot be followed: AssertionError"),
        (NotImplementedError("new"), "cannot be followed: NotImplementedError: new"),
    ],
)
def test_whatever_was_not_foreseen_proves_nothing(error: Exception, message: str) -> None:
    case = touching_case(touching_split())

    def domain(graph: Any) -> Any:
        raise error

    with pytest.raises(NotProved, match=message):
        check(case.original, case.compressed, case.certificate, domain)
