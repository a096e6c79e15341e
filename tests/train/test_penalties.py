import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reluce.errors import UsageError
from reluce.train import L1, L2, Penalty, SparseGroup

SHAPES = st.sampled_from([(3, 4), (1, 5), (5, 1), (2, 3, 2, 2)])
STRENGTHS = st.sampled_from([0.0, 0.1, 0.5, 1.0])
STEPS = st.sampled_from([0.0, 0.01, 0.3, 1.0])


@st.composite
def weight(draw: st.DrawFn) -> torch.Tensor:
    """Float64 with plenty of zeros and ties."""
    shape = draw(SHAPES)
    entries = draw(st.lists(st.integers(-8, 8), min_size=math.prod(shape), max_size=math.prod(shape)))
    return (torch.tensor(entries, dtype=torch.float64) / 4).reshape(shape)


def objective(penalty: Penalty, v: torch.Tensor, w: torch.Tensor, step: float) -> float:
    return float(((w - v) ** 2).sum() / 2 + step * penalty.value(w))


def groups(w: torch.Tensor, axis: int) -> torch.Tensor:
    """One row for each group."""
    return w.movedim(axis, 0).flatten(1)


def is_optimal(v: torch.Tensor, w: torch.Tensor, l1: float, group: float, axis: int) -> bool:
    """Whether 0 is a subgradient of ``|w - v|^2 / 2 + l1 |w|_1 + group sum s |w_g|`` at w, group by group."""
    scale = math.sqrt(w[0].numel() if axis == 0 else w[:, 0].numel())
    for vg, wg in zip(groups(v, axis).numpy(), groups(w, axis).numpy(), strict=True):
        rest = vg - wg
        if wg.any():
            rest = rest - group * scale * wg / np.linalg.norm(wg)
            inside = np.where(wg != 0, np.abs(rest - l1 * np.sign(wg)), np.maximum(np.abs(rest) - l1, 0))
            if inside.max() > 1e-12:
                return False
        elif np.linalg.norm(np.maximum(np.abs(rest) - l1, 0)) > group * scale * (1 + 1e-12) + 1e-12:
            return False
    return True


@given(weight(), STRENGTHS, STEPS)
def test_l1_is_the_soft_threshold(v: torch.Tensor, strength: float, step: float) -> None:
    expected = np.sign(v.numpy()) * np.maximum(np.abs(v.numpy()) - step * strength, 0)
    assert (L1(strength).prox(v, step).numpy() == expected).all()
    assert is_optimal(v, L1(strength).prox(v, step), step * strength, 0.0, 0)


@given(weight(), STRENGTHS, STRENGTHS, STEPS, st.sampled_from([0, 1]))
def test_the_proximal_map_of_a_sparse_group_is_exact(
    v: torch.Tensor, l1: float, group: float, step: float, axis: int
) -> None:
    penalty = SparseGroup(l1, rows=group) if axis == 0 else SparseGroup(l1, columns=group)
    assert is_optimal(v, penalty.prox(v, step), step * l1, step * group, axis)


@given(weight(), STRENGTHS, st.sampled_from([0, 1]))
def test_optimality_is_judged_sharply(v: torch.Tensor, l1: float, axis: int) -> None:
    penalty = SparseGroup(l1, rows=0.3) if axis == 0 else SparseGroup(l1, columns=0.3)
    w = penalty.prox(v, 1.0)
    if v.abs().max() > 0:
        place = tuple(int(k) for k in np.unravel_index(int(v.abs().argmax()), tuple(v.shape)))
        w[place] += 1e-3 if v[place] > 0 else -1e-3
        if w.any():
            assert not is_optimal(v, w, l1, 0.3, axis)


@given(weight(), weight(), STRENGTHS, STRENGTHS, STRENGTHS, STEPS)
def test_no_other_point_is_better_where_the_map_is_exact(
    v: torch.Tensor, other: torch.Tensor, l1: float, rows: float, columns: float, step: float
) -> None:
    for penalty in (L1(l1), L2(l1), SparseGroup(l1, rows), SparseGroup(l1, 0.0, columns)):
        w = penalty.prox(v, step)
        found = objective(penalty, v, w, step)
        points = [v, torch.zeros_like(v), w * 0.99, w * 1.01]
        points += [other] if other.shape == v.shape else []
        assert all(found <= objective(penalty, v, point, step) + 1e-12 for point in points)


@given(weight(), STRENGTHS, STRENGTHS, STRENGTHS, STEPS)
def test_rows_and_columns_together_never_increase_a_weight(
    v: torch.Tensor, l1: float, rows: float, columns: float, step: float
) -> None:
    w = SparseGroup(l1, rows, columns).prox(v, step)
    assert (w.abs() <= v.abs()).all()
    assert (w * v >= 0).all()


def test_small_rows_and_columns_become_zero() -> None:
    v = torch.ones(3, 4)
    v[1] = 0.01
    v[:, 2] = 0.01
    w = SparseGroup(0.0, rows=0.02).prox(v, 1.0)
    assert (w == 0).all(1).tolist() == [False, True, False]
    w = SparseGroup(0.0, columns=0.02).prox(v, 1.0)
    assert (w == 0).all(0).tolist() == [False, False, True, False]


def test_a_group_of_equal_weights_is_penalised_as_by_l1() -> None:
    v = torch.full((3, 5, 2, 2), 0.25, dtype=torch.float64)
    assert float(SparseGroup(rows=2.0).value(v)) == pytest.approx(float(L1(2.0).value(v)), rel=1e-15)
    assert float(SparseGroup(columns=2.0).value(v)) == pytest.approx(float(L1(2.0).value(v)), rel=1e-15)
    assert float(SparseGroup(l1=2.0).value(v)) == float(L1(2.0).value(v))


def test_in_a_convolution_a_row_is_an_output_channel() -> None:
    v = torch.ones(2, 3, 2, 2)
    v[1] = 0.001
    assert (SparseGroup(rows=0.01).prox(v, 1.0)[1] == 0).all()
    assert (SparseGroup(rows=0.01).prox(v, 1.0)[0] != 0).all()


@pytest.mark.parametrize("step", [1e-30, 1e-44, 1e-300])
def test_no_step_is_so_small_that_zeros_become_nan(step: float) -> None:
    assert (SparseGroup(rows=1.0, columns=1.0).prox(torch.zeros(2, 3), step) == 0).all()


@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan, "1"])
def test_a_strength_that_makes_no_sense(strength: Any) -> None:
    with pytest.raises(UsageError, match=r"L1: strength is .*; give a finite number >= 0"):
        L1(strength)
    with pytest.raises(UsageError, match="SparseGroup: columns is"):
        SparseGroup(columns=strength)


def test_a_vector_has_no_rows() -> None:
    assert L1(1.0).prox(torch.tensor([3.0, 0.5]), 1.0).tolist() == [2.0, 0.0]
    with pytest.raises(UsageError, match=r"a weight of shape \(2,\) has no rows and columns"):
        SparseGroup(rows=1.0).prox(torch.ones(2), 1.0)
