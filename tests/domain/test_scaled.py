"""The image of a box under scalers: it contains what the library makes of any point, and what real numbers would be."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from reluce import Box, DomainError
from reluce.domain import scaled_box
from reluce.io import Scaling
from reluce.io._sklearn_scaler import read_scaling

Array = np.ndarray[Any, Any]
DTYPES = (np.float32, np.float64)


def negated(scaler: Any) -> Any:
    scaler.scale_ = -scaler.scale_
    return scaler


SCALERS: dict[str, Callable[[Array], Any]] = {
    "standard": lambda x: StandardScaler().fit(x),
    "standard without mean": lambda x: StandardScaler(with_mean=False).fit(x),
    "standard without deviation": lambda x: StandardScaler(with_std=False).fit(x),
    "standard that does nothing": lambda x: StandardScaler(with_mean=False, with_std=False).fit(x),
    "standard in place": lambda x: StandardScaler(copy=False).fit(x.copy()),
    "standard from float32": lambda x: StandardScaler().fit(x.astype(np.float32)),
    "least and most": lambda x: MinMaxScaler().fit(x),
    "least and most from float32": lambda x: MinMaxScaler((-1, 1)).fit(x.astype(np.float32)),
    "to -3 and 7": lambda x: MinMaxScaler((-3, 7)).fit(x),
    "largest": lambda x: MaxAbsScaler().fit(x),
    "robust": lambda x: RobustScaler().fit(x),
    "robust without centre": lambda x: RobustScaler(with_centering=False).fit(x),
    "robust without scale": lambda x: RobustScaler(with_scaling=False).fit(x),
    "negative": lambda x: negated(StandardScaler().fit(x)),
    "negative and robust": lambda x: negated(RobustScaler().fit(x)),
    "nothing": lambda x: "passthrough",
    "no function": lambda x: FunctionTransformer(),
}


def scaling_of(*scalers: Any, width: int) -> Scaling | None:
    return read_scaling([(f"step {number}", scaler) for number, scaler in enumerate(scalers)], width)


def image(box: Box, scaling: Scaling) -> Box:
    return scaled_box(box, scaling.slope, scaling.offset, scaling.apply)


def box_from(*ends: tuple[Any, Any]) -> Box:
    low, high = np.empty(len(ends), dtype=object), np.empty(len(ends), dtype=object)
    low[:], high[:] = [Fraction(end[0]) for end in ends], [Fraction(end[1]) for end in ends]
    return Box({"X": low}, {"X": high}, "test", True, ("a note",))


def assert_inside(values: Array, box: Box) -> None:
    """Exactly, in fractions."""
    for row in values.tolist():
        for value, low, high in zip(row, box.lower["X"], box.upper["X"], strict=True):
            assert low <= Fraction(value) <= high


def exact_points(box: Box, shares: list[Fraction]) -> Array:
    low, high = box.lower["X"], box.upper["X"]
    return np.array([low + (high - low) * share for share in shares])


@st.composite
def ends(draw: st.DrawFn) -> tuple[Fraction, Fraction]:
    """Floats of any size, and decimals, with a width from 0 to large."""
    number = st.one_of(
        st.floats(-1e6, 1e6, allow_subnormal=False).map(Fraction),
        st.decimals(-100, 100, places=3).map(Fraction),
        st.fractions(-2, 2, max_denominator=7),
    )
    return tuple(sorted((draw(number), draw(number)))) if draw(st.booleans()) else (draw(number),) * 2  # type: ignore[return-value]


@given(
    names=st.lists(st.sampled_from(sorted(SCALERS)), min_size=1, max_size=3),
    sides=st.lists(ends(), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_image_holds_for_the_reals_and_for_the_library(
    names: list[str], sides: list[tuple[Fraction, Fraction]], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    width, box = len(sides), box_from(*sides)
    seen = generator.normal(size=(9, width)) * 10.0 ** generator.integers(-3, 4, width) + generator.normal(size=width)
    scaling = scaling_of(*(SCALERS[name](seen) for name in names), width=width)
    if scaling is None:
        assert set(names) <= {"nothing", "no function"}
        return
    found = image(box, scaling)
    shares = [Fraction(0), Fraction(1), *(Fraction(int(k), 97) for k in generator.integers(0, 98, 5))]
    assert_inside(exact_points(box, shares) * scaling.slope + scaling.offset, found)
    low, high = (np.array(side["X"], dtype=float) for side in (box.lower, box.upper))
    for dtype in DTYPES:
        points = np.concatenate([[low, high], low + (high - low) * generator.random((200, width))]).astype(dtype)
        for direction in (-np.inf, np.inf):  # neighbours of the ends, in and out
            points = np.concatenate([points, np.nextafter(points[:2], dtype(direction))])
        points = points[box.contains({"X": points.astype(float)})]
        if not len(points):
            continue
        images = scaling.apply(points)
        assert images.dtype == dtype
        assert_inside(images, found)


@given(names=st.lists(st.sampled_from(sorted(SCALERS)), min_size=1, max_size=3), seed=st.integers(0, 2**32 - 1))
def test_slope_and_offset_are_what_the_library_rounds(names: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    seen = generator.normal(size=(20, 3)) * 3 + 1
    scaling = scaling_of(*(SCALERS[name](seen) for name in names), width=3)
    if scaling is None:
        return
    exact = np.array([[Fraction(value) for value in row] for row in seen.tolist()]) * scaling.slope + scaling.offset
    scale = 1 + np.abs(exact).max()
    assert np.abs((exact - scaling.apply(seen)).astype(float)).max() <= 1e-12 * scale
    assert np.abs((exact - scaling.apply(seen.astype(np.float32))).astype(float)).max() <= 1e-3 * scale


def test_several_scalers_compose_exactly() -> None:
    first, second = StandardScaler().fit([[0.0], [2.0]]), MinMaxScaler((0, 10)).fit([[-1.0], [4.0]])
    first.mean_, first.scale_ = np.array([0.1]), np.array([3.0])
    scaling = scaling_of(first, second, width=1)
    assert scaling is not None
    by, plus = Fraction(float(second.scale_[0])), Fraction(float(second.min_[0]))
    assert scaling.slope.tolist() == [by / 3]
    assert scaling.offset.tolist() == [-Fraction(0.1) / 3 * by + plus]


def test_a_mean_that_is_not_used_is_not_used() -> None:
    scaler = StandardScaler(with_mean=False).fit([[1.0], [5.0]])
    assert scaler.mean_ is not None
    scaling = scaling_of(scaler, width=1)
    assert scaling is not None
    assert scaling.offset.tolist() == [0]


@pytest.mark.parametrize("sign", [1, -1])
def test_ends_are_exact_where_the_library_is(sign: int) -> None:
    scaler = MaxAbsScaler().fit([[4.0, 2.0]])
    scaler.scale_ = scaler.scale_ * sign
    scaling = scaling_of(scaler, width=2)
    assert scaling is not None
    found = image(box_from((0, 8), (-1, "1/4")), scaling)
    assert found.lower["X"].tolist() == ([0, Fraction(-1, 2)] if sign > 0 else [-2, Fraction(-1, 8)])
    assert found.upper["X"].tolist() == ([2, Fraction(1, 8)] if sign > 0 else [0, Fraction(1, 2)])
    assert (found.description, found.assumption, found.notes) == ("test", True, ("a note",))


def test_the_ends_of_a_third_lie_beyond_those_of_its_floats() -> None:
    scaling = scaling_of(MaxAbsScaler().fit([[3.0]]), width=1)
    assert scaling is not None
    found = image(box_from((0, 1)), scaling)
    assert found.upper["X"][0] == max(Fraction(1, 3), Fraction(1 / 3), Fraction(float(np.float32(1) / np.float32(3))))
    assert found.upper["X"][0] - Fraction(1, 3) < Fraction(1, 2**25)


def test_a_domain_beyond_float32_is_scaled_all_the_same() -> None:
    scaling = scaling_of(MaxAbsScaler().fit([[2.0**100]]), width=1)
    assert scaling is not None
    found = image(box_from((0, 2**200)), scaling)
    assert found.upper["X"].tolist() == [2**100]


def test_an_end_that_no_number_is_made_of() -> None:
    scaler = MaxAbsScaler().fit([[1.0]])
    scaler.scale_ = np.array([1e-30])
    scaling = scaling_of(scaler, width=1)
    assert scaling is not None
    with pytest.raises(DomainError, match="input 'X': the scaler makes no finite number of an end in float32"):
        image(box_from((0, 10**20)), scaling)


def test_a_scale_that_float32_rounds_to_nothing() -> None:
    scaler = StandardScaler(with_mean=False).fit([[1.0], [2.0]])
    scaler.scale_ = np.array([1e-60])
    scaling = scaling_of(scaler, width=1)
    assert scaling is not None
    with pytest.raises(DomainError, match="no finite number"):
        image(box_from((0, 1)), scaling)


def test_the_comparison_can_fail() -> None:
    box = box_from((0, 1))
    assert_inside(np.array([[0.0], [1.0]]), box)
    for value in (-5e-324, 1 + 2.0**-52, Fraction(10**30 + 1, 10**30)):
        with pytest.raises(AssertionError):
            assert_inside(np.array([[value]]), box)


def test_exact_ends_alone_would_not_do() -> None:
    """The hull with what the library makes of the ends is needed: its rounding leaves the exact image."""
    scaling = scaling_of(MaxAbsScaler().fit([[3.0]]), width=1)
    assert scaling is not None
    alone = Box({"X": np.array([Fraction(0)])}, {"X": np.array([Fraction(1, 3)])})
    with pytest.raises(AssertionError):
        assert_inside(scaling.apply(np.ones((1, 1), np.float32)), alone)
