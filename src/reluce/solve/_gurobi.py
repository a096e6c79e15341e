"""Gurobi, through gurobipy. The licence that pip brings takes 2000 variables and 2000 constraints."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import gurobipy
import numpy as np
from gurobipy import GRB

from reluce.network import Array
from reluce.solve._adapter import GAP, SEED, Adapter, check_numbers, targets
from reluce.solve._problem import Limits, Outcome, Problem, Status

_STATUS: Mapping[int, Status] = MappingProxyType(
    {
        GRB.OPTIMAL: Status.OPTIMAL,
        GRB.INFEASIBLE: Status.INFEASIBLE,
        GRB.UNBOUNDED: Status.UNBOUNDED,
        GRB.TIME_LIMIT: Status.LIMIT,
        GRB.USER_OBJ_LIMIT: Status.STOPPED,
    }
)

_PARAMETERS: Mapping[str, Any] = MappingProxyType({"Threads": 1, "Seed": SEED, "MIPGap": 0.0, "MIPGapAbs": GAP})


class Gurobi(Adapter):
    """A problem in Gurobi. It minimises ``-objective``, as the other adapters do."""

    def __init__(self, problem: Problem) -> None:
        check_numbers(problem)
        self._environment = gurobipy.Env(params={"OutputFlag": 0})
        self._model = gurobipy.Model(env=self._environment)
        for name, value in _PARAMETERS.items():
            self._model.setParam(name, value)
        kinds = np.where(problem.integer, GRB.INTEGER, GRB.CONTINUOUS)
        self._x = self._model.addMVar(len(kinds), lb=problem.lower, ub=problem.upper, vtype=kinds)
        equal = problem.row_lower == problem.row_upper
        for rows, sense, side in (
            (equal, "=", problem.row_upper),
            (~equal & (problem.row_upper < np.inf), "<", problem.row_upper),
            (~equal & (problem.row_lower > -np.inf), ">", problem.row_lower),
        ):
            if rows.any():
                self._model.addMConstr(problem.matrix[rows], self._x, sense, side[rows])
        self._whole = bool(problem.integer.any())

    def _maximise(self, objective: Array, limits: Limits) -> Outcome:
        model = self._model
        primal, dual = targets(limits)
        self._x.Obj = -objective
        model.setParam("TimeLimit", limits.seconds)
        model.setParam("BestObjStop", primal)
        model.setParam("BestBdStop", dual)
        model.optimize()
        if model.Status == GRB.INF_OR_UNBD:
            model.setParam("DualReductions", 0)  # the reductions that lose the difference
            model.optimize()
            model.setParam("DualReductions", 1)
        return self._read()

    def _read(self) -> Outcome:
        model = self._model
        status = _STATUS.get(model.Status, Status.FAILED)
        # An LP that was cut short has neither a bound nor a feasible point.
        whole = self._whole or status is Status.OPTIMAL
        return Outcome(
            status,
            dual_bound=-self._bound() if whole else np.inf,
            point=self._x.X if whole and model.SolCount else None,
            nodes=int(model.NodeCount),
            note=f"Gurobi: status {model.Status}",
        )

    def _bound(self) -> float:
        return float(self._model.ObjBound if self._whole else self._model.ObjVal)

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        self._x[columns].LB = lower
        self._x[columns].UB = upper

    def close(self) -> None:
        self._model.dispose()
        self._environment.dispose()
