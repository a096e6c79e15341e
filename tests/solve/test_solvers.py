from __future__ import annotations

import subprocess
import sys

import pytest
from misbehaving import nothing

from reluce.errors import UsageError
from reluce.solve import SOLVERS, find_solver, open_session


def never() -> bool:
    return False


def test_an_unknown_solver() -> None:
    with pytest.raises(UsageError, match="there is no solver 'cplex'; there are highs, scip, gurobi"):
        open_session("cplex", nothing(), never)


@pytest.mark.parametrize(
    ("name", "package", "wanted"),
    [
        ("highs", "highspy", "highspy"),
        ("scip", "pyscipopt", r"reluce\[scip\]"),
        ("gurobi", "gurobipy", r"reluce\[gurobi\]"),
    ],
)
def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, name: str, package: str, wanted: str) -> None:
    monkeypatch.setattr("reluce.solve._solvers.find_spec", lambda asked: None if asked == package else asked)
    message = f'the solver {name!r} needs the package {package}: pip install "{wanted}"'
    with pytest.raises(UsageError, match=message):
        open_session(name, nothing(), never)
    assert [solver for solver in SOLVERS if solver != name] == [
        find_solver(solver).name for solver in SOLVERS if solver != name
    ]


def test_no_solver_is_imported_before_it_is_used() -> None:
    packages = [solver.package for solver in SOLVERS.values()] + ["torch"]
    code = (
        f"import sys, reluce.solve._worker, reluce.solve; print([name for name in {packages} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
