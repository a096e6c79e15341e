"""Problems whose optimum is known, and one that no solver finishes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import csr_array

from reluce.solve import Problem

Numbers = Sequence[float]


def problem(
    matrix: Sequence[Numbers],
    rows: tuple[Numbers, Numbers],
    columns: tuple[Numbers, Numbers],
    integer: Sequence[bool],
) -> Problem:
    ends = (np.asarray(end, dtype=float) for end in (*rows, *columns))
    shape = (len(rows[0]), len(columns[0]))
    return Problem(csr_array(np.reshape(matrix, shape).astype(float)), *ends, np.asarray(integer, dtype=bool))


def market_split(columns: int = 40, rows: int = 5) -> tuple[Problem, np.ndarray]:
    """Split all customers' demands in half: the bound is 0 at once, and reaching it takes branch and bound for ever."""
    random = np.random.default_rng(0)
    demand = random.integers(0, 100, (rows, columns))
    half = demand.sum(axis=1) // 2
    matrix = np.hstack([demand, np.eye(rows), -np.eye(rows)])
    upper = np.r_[np.ones(columns), np.full(2 * rows, 1e4)]
    whole = np.r_[np.ones(columns), np.zeros(2 * rows)]
    split = problem(matrix, (half, half), (np.zeros_like(upper), upper), whole)
    return split, -np.r_[np.zeros(columns), np.ones(2 * rows)]


def fits(asked: Problem, point: np.ndarray) -> bool:
    rows, slack = asked.matrix @ point, 1e-5
    return bool(
        (asked.row_lower - slack <= rows).all()
        and (rows <= asked.row_upper + slack).all()
        and (asked.lower - slack <= point).all()
        and (point <= asked.upper + slack).all()
        and (abs(point - np.round(point))[asked.integer] <= slack).all()
    )


def optimum(asked: Problem, objective: np.ndarray) -> float:
    """The largest value over all integer points, or all corners of an LP in two columns; ``-inf`` if there is none."""
    points = _integer_points(asked) if asked.integer.all() else _corners(asked)
    return max((float(objective @ point) for point in points if fits(asked, point)), default=-np.inf)


def _integer_points(asked: Problem) -> list[np.ndarray]:
    ranges = (range(int(low), int(high) + 1) for low, high in zip(asked.lower, asked.upper, strict=True))
    return [np.array(point, dtype=float) for point in product(*ranges)]


def _corners(asked: Problem) -> list[np.ndarray]:
    normals = np.vstack([asked.matrix.toarray()] * 2 + [np.eye(2)] * 2)
    sides = np.r_[asked.row_lower, asked.row_upper, asked.lower, asked.upper]
    pairs = (list(pair) for pair in combinations(np.flatnonzero(np.isfinite(sides)), 2))
    return [np.linalg.solve(normals[pair], sides[pair]) for pair in pairs if abs(np.linalg.det(normals[pair])) > 1e-9]


small = st.integers(-5, 5)


@st.composite
def boxes(draw: st.DrawFn, columns: int) -> tuple[list[int], list[int]]:
    lower = draw(st.lists(st.integers(-3, 3), min_size=columns, max_size=columns))
    return lower, [low + draw(st.integers(0, 4)) for low in lower]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Few columns, all integer or all not, small integer coefficients; feasible or not."""
    whole = draw(st.booleans())
    columns = draw(st.integers(1, 3)) if whole else 2
    rows = draw(st.integers(0, 3))
    matrix = [draw(st.lists(small, min_size=columns, max_size=columns)) for _ in range(rows)]
    lower = [draw(st.sampled_from([-np.inf, -6, -1, 0, 2])) for _ in range(rows)]
    upper = [draw(st.sampled_from([np.inf, 2, 3, 7])) for _ in range(rows)]
    return problem(matrix, (lower, upper), draw(boxes(columns)), [whole] * columns)


def objectives(columns: int) -> st.SearchStrategy[np.ndarray]:
    return st.lists(small, min_size=columns, max_size=columns).map(lambda entries: np.array(entries, dtype=float))
