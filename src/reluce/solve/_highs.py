"""HiGHS, through highspy: the default solver."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import highspy
import numpy as np

from reluce.network import Array
from reluce.solve._adapter import GAP, SEED, Adapter, check_numbers
from reluce.solve._problem import Limits, Outcome, Problem, Status

_STATUS: Mapping[str, Status] = MappingProxyType(
    {
        "kOptimal": Status.OPTIMAL,
        "kInfeasible": Status.INFEASIBLE,
        "kUnbounded": Status.UNBOUNDED,
        "kTimeLimit": Status.LIMIT,
        "kInterrupt": Status.STOPPED,  # by our callback
        "kObjectiveTarget": Status.STOPPED,
    }
)

_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "output_flag": False,
        "threads": 1,
        "parallel": "off",
        "random_seed": SEED,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": GAP,
        "small_matrix_value": 1e-12,  # the smallest allowed: below it, entries are silently dropped
    }
)


class _Watch:
    """Called by HiGHS between the steps of a MIP: interrupts on the bound and on time."""

    def __init__(self, limits: Limits) -> None:
        self._below, self._end = limits.below, time.monotonic() + limits.seconds
        self.dual_bound = np.inf
        self.late = False

    def __call__(self, event: Any) -> None:
        self.dual_bound = min(self.dual_bound, -event.data_out.mip_dual_bound)
        self.late = self.dual_bound > self._below and time.monotonic() >= self._end
        # Always said, also when it is "no": HiGHS remembers the word of an earlier solve.
        event.interrupt(self.late or self.dual_bound <= self._below)


class Highs(Adapter):
    """A problem in HiGHS. It minimises ``-objective``: one sign convention for bounds, callbacks and targets."""

    def __init__(self, problem: Problem) -> None:
        check_numbers(problem)
        self._highs = highspy.Highs()
        self._integer = bool(problem.integer.any())
        self._columns = np.arange(len(problem.lower), dtype=np.int32)
        for name, value in _OPTIONS.items():
            self._highs.setOptionValue(name, value)
        _check(self._highs.passModel(_model(problem)))

    def _maximise(self, objective: Array, limits: Limits) -> Outcome:
        highs, watch = self._highs, _Watch(limits)
        _check(highs.changeColsCost(len(objective), self._columns, -objective))
        highs.setOptionValue("objective_target", -limits.above)
        # HiGHS's clock runs on over all solves for an LP, and starts anew for a MIP; there `watch` keeps the time.
        highs.setOptionValue("time_limit", highs.getRunTime() + limits.seconds)
        highs.cbMipInterrupt.subscribe(watch)
        try:
            highs.run()
        finally:
            highs.cbMipInterrupt.unsubscribe(watch)
        return self._read(watch)

    def _read(self, watch: _Watch) -> Outcome:
        highs = self._highs
        info, said = highs.getInfo(), highs.getModelStatus()
        status = Status.LIMIT if watch.late else _STATUS.get(said.name, Status.FAILED)
        solution = highs.getSolution()
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        bound = -info.objective_function_value if status is Status.OPTIMAL else np.inf
        return Outcome(
            status,
            # An interrupt at the root forgets the bound that caused it.
            dual_bound=min(-info.mip_dual_bound, watch.dual_bound) if self._integer else bound,
            point=np.array(solution.col_value) if feasible and solution.value_valid else None,
            nodes=max(0, info.mip_node_count),
            note=f"HiGHS: {highs.modelStatusToString(said)}",
        )

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        _check(self._highs.changeColsBounds(len(columns), np.asarray(columns, dtype=np.int32), lower, upper))

    def close(self) -> None:
        self._highs.clear()


def _check(status: highspy.HighsStatus) -> None:
    """Raise if HiGHS refused something; it would go on with what it had before."""
    if status == highspy.HighsStatus.kError:
        raise ValueError("HiGHS refused the problem or a change of it")


def _model(problem: Problem) -> highspy.HighsLp:
    rows, columns = problem.matrix.shape
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = rows, columns
    model.col_cost_ = np.zeros(columns)
    model.col_lower_, model.col_upper_ = problem.lower, problem.upper
    model.row_lower_, model.row_upper_ = problem.row_lower, problem.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = rows, columns
    model.a_matrix_.start_ = problem.matrix.indptr.astype(np.int32)
    model.a_matrix_.index_ = problem.matrix.indices.astype(np.int32)
    model.a_matrix_.value_ = problem.matrix.data
    if problem.integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[bool(whole)] for whole in problem.integer]
    return model
