"""What a run is determined by."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, get_args

from reluce.errors import UsageError
from reluce.prove import Method, ProverSettings
from reluce.solve import find_solver


@dataclass(frozen=True)
class Settings:
    """What a run is determined by, besides model, domain and data.

    Parameters
    ----------
    budget
        The largest deviation of any output that is allowed, in units of the output; ``None``: none at all (exact).
    time_limit
        Seconds after which no new step of proving or rewriting starts; ``None`` for no limit.
    prover
        Which provers, with their seed and budgets.
    input_shapes
        Full ONNX shapes of inputs whose dimensions the model leaves open.

    Raises
    ------
    UsageError
        When a value makes no sense, or the solver that a prover needs is not installed.
    """

    budget: float | None = None
    time_limit: float | None = None
    prover: ProverSettings = field(default_factory=ProverSettings)
    input_shapes: Mapping[str, tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        budget: Any = self.budget
        if budget is not None and not (isinstance(budget, int | float) and 0 < budget < float("inf")):
            raise UsageError(f"budget {self.budget!r}: expected a positive number, or None for the exact guarantee")
        if self.time_limit is not None and not self.time_limit >= 0:
            raise UsageError(f"time limit {self.time_limit!r}: expected seconds, or None for no limit")
        if self.prover.method not in get_args(Method):
            raise UsageError(f"prover {self.prover.method!r}: expected one of {', '.join(get_args(Method))}")
        if self.prover.method != "ladder":
            find_solver(self.prover.solver)
        elif self.prover.trust_solver:
            raise UsageError("trust_solver goes with the provers that ask a solver: leo, isa")


DEFAULTS = Settings()


def parse_guarantee(text: str) -> float | None:
    """The budget of a guarantee in words: ``exact`` gives ``None``, ``within=EPS`` gives EPS.

    Raises
    ------
    UsageError
        For anything else, or an EPS that is not a positive number.
    """
    if text == "exact":
        return None
    name, _, value = text.partition("=")
    with suppress(ValueError):
        if name == "within" and 0 < float(value) < float("inf"):
            return float(value)
    raise UsageError(f"guarantee {text!r}: expected 'exact' or 'within=EPS' with a positive number EPS")
