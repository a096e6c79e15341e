"""SCIP, through pyscipopt."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pyscipopt

from reluce.network import Array
from reluce.solve._adapter import GAP, SEED, Adapter, check_numbers, targets
from reluce.solve._problem import Limits, Outcome, Problem, Status

_STATUS: Mapping[str, Status] = MappingProxyType(
    {
        "optimal": Status.OPTIMAL,
        "gaplimit": Status.OPTIMAL,  # the absolute gap that we asked for
        "infeasible": Status.INFEASIBLE,
        "unbounded": Status.UNBOUNDED,
        "timelimit": Status.LIMIT,
        "primallimit": Status.STOPPED,
        "duallimit": Status.STOPPED,
    }
)

_INFINITY = 1e20  # what SCIP takes for infinite
_OFF = 1e99  # switches a limit off

_PARAMETERS: Mapping[str, Any] = MappingProxyType(
    {
        "misc/catchctrlc": False,
        "lp/threads": 1,
        "parallel/maxnthreads": 1,
        "randomization/randomseedshift": SEED,
        "limits/absgap": GAP,
        "limits/gap": 0.0,
    }
)


class Scip(Adapter):
    """A problem in SCIP. It minimises ``-objective``, as the other adapters do."""

    def __init__(self, problem: Problem) -> None:
        check_numbers(problem)
        model = self._model = pyscipopt.Model()
        model.hideOutput()
        model.setParams(dict(_PARAMETERS))
        # The bounds come later: created within [0, 1], an integer is binary for good, whatever bounds it gets then.
        self._variables = [
            model.addVar(lb=None, ub=None, vtype="I" if whole else "C") for whole in problem.integer.tolist()
        ]
        self.bound(np.arange(len(self._variables)), problem.lower, problem.upper)
        rows = zip(_ends(problem.row_lower), _ends(problem.row_upper), strict=True)
        start, index, value = problem.matrix.indptr, problem.matrix.indices, problem.matrix.data
        for row, (lower, upper) in enumerate(rows):
            # An empty row that is then filled: many times faster than building an expression of each row.
            added = model.addCons(pyscipopt.scip.ExprCons(pyscipopt.Expr(), lhs=lower, rhs=upper))
            for entry in range(start[row], start[row + 1]):
                model.addConsCoeff(added, self._variables[index[entry]], float(value[entry]))

    def _maximise(self, objective: Array, limits: Limits) -> Outcome:
        model = self._model
        terms = [-float(objective[i]) * self._variables[i] for i in np.flatnonzero(objective)]
        model.setObjective(pyscipopt.quicksum(terms), "minimize")
        primal, dual = targets(limits)
        model.setParam("limits/primal", primal if np.isfinite(primal) else _OFF)
        model.setParam("limits/dual", dual if np.isfinite(dual) else _OFF)
        model.setParam("limits/time", min(limits.seconds, _INFINITY))
        try:
            model.optimizeNogil()  # the thread that listens to the parent must be able to run
            return self._read()
        finally:
            model.freeTransform()  # back to where objective and bounds may change; solutions are kept as candidates

    def _read(self) -> Outcome:
        model, said = self._model, self._model.getStatus()
        solution = model.getBestSol() if model.getNSols() else None
        return Outcome(
            _STATUS.get(said, Status.FAILED),
            dual_bound=-model.getDualbound(),
            point=None if solution is None else np.array([solution[variable] for variable in self._variables]),
            nodes=model.getNTotalNodes(),
            note=f"SCIP: {said}",
        )

    def bound(self, columns: Array, lower: Array, upper: Array) -> None:
        for column, low, high in zip(columns, _ends(lower), _ends(upper), strict=True):
            self._model.chgVarLb(self._variables[column], low)
            self._model.chgVarUb(self._variables[column], high)

    def close(self) -> None:
        self._model.freeProb()


def _ends(values: Array) -> list[float]:
    return [float(value) for value in np.clip(values, -_INFINITY, _INFINITY)]
