"""Which solvers there are, what they can do, and how a problem gets into them; each is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType

from reluce.errors import UsageError
from reluce.solve._problem import Problem, Session


@dataclass(frozen=True)
class Solver:
    """A solver and what its adapter can do. ``extra`` is the extra of Reluce that brings ``package``, if any."""

    name: str
    package: str
    extra: str | None
    load: Callable[[Problem], Session]
    stops_on_bound: bool  # honours `Limits.below` in MIPs
    stops_on_solution: bool  # honours `Limits.above` in MIPs
    keeps_basis: bool  # a changed objective starts from the last basis of an LP
    lazy_constraints: bool  # the solver itself could take constraints during a solve

    @property
    def installed(self) -> bool:
        """Whether its package can be found."""
        return find_spec(self.package) is not None


def _highs(problem: Problem) -> Session:
    from reluce.solve._highs import Highs

    return Highs(problem)


def _scip(problem: Problem) -> Session:
    from reluce.solve._scip import Scip

    return Scip(problem)


def _gurobi(problem: Problem) -> Session:
    from reluce.solve._gurobi import Gurobi

    return Gurobi(problem)


_ALL = (
    Solver(
        "highs",
        package="highspy",
        extra=None,
        load=_highs,
        stops_on_bound=True,
        stops_on_solution=True,
        keeps_basis=True,
        lazy_constraints=False,
    ),
    Solver(
        "scip",
        package="pyscipopt",
        extra="scip",
        load=_scip,
        stops_on_bound=True,
        stops_on_solution=True,
        keeps_basis=False,
        lazy_constraints=True,
    ),
    Solver(
        "gurobi",
        package="gurobipy",
        extra="gurobi",
        load=_gurobi,
        stops_on_bound=True,
        stops_on_solution=True,
        keeps_basis=True,
        lazy_constraints=True,
    ),
)

SOLVERS: Mapping[str, Solver] = MappingProxyType({solver.name: solver for solver in _ALL})
"""The table of solvers; the first is the default."""


def find_solver(name: str) -> Solver:
    """The solver of that name.

    Parameters
    ----------
    name
        A key of ``SOLVERS``.

    Returns
    -------
    Solver
        Its row in the table; its package is installed.

    Raises
    ------
    UsageError
        There is no such solver, or its package is not installed; the message says what to do.
    """
    solver = SOLVERS.get(name)
    if solver is None:
        raise UsageError(f"there is no solver {name!r}; there are {', '.join(SOLVERS)}")
    if not solver.installed:
        wanted = f"reluce[{solver.extra}]" if solver.extra else solver.package
        raise UsageError(f'the solver {name!r} needs the package {solver.package}: pip install "{wanted}"')
    return solver
