"""What a run is determined by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from reluce.errors import UsageError
from reluce.guarantee import Level, Roundoff
from reluce.prove import Method, ProverSettings
from reluce.rewrite import Objective
from reluce.solve import find_solver


@dataclass(frozen=True)
class Settings:
    """What a run is determined by, besides model, domain and data.

    Parameters
    ----------
    guarantee
        How far the outputs may move: ``Exact()``, ``Roundoff()`` or ``Within(epsilon)``.
    time_limit
        Seconds after which no new step of proving or rewriting starts; ``None`` for no limit.
    prover
        Which provers, with their seed and budgets.
    input_shapes
        Full ONNX shapes of inputs whose dimensions the model leaves open.
    objective
        What a rewrite has to make smaller to be taken: ``"parameters"``, ``"nonzeros"``, ``"macs"`` (multiply-adds) or
        ``"bytes"``. No result has more parameters or non-zeros than the original.
    softmax_shift
        For classifiers whose outputs go into a softmax or are compared with each other: whether one of them may be
        subtracted from all, where that saves. Softmax and argmax stay as they are, the outputs themselves do not.
    skips
        Whether what reads a layer may read the layer's input beside it, in place of the layer's linear part, where
        that saves. That changes the architecture.

    Raises
    ------
    UsageError
        When a value makes no sense, or the solver that a prover needs is not installed.
    """

    guarantee: Level = field(default_factory=Roundoff)
    time_limit: float | None = None
    prover: ProverSettings = field(default_factory=ProverSettings)
    input_shapes: Mapping[str, tuple[int, ...]] | None = None
    objective: Objective = "parameters"
    softmax_shift: bool = False
    skips: bool = False

    def __post_init__(self) -> None:
        level: Any = self.guarantee
        if not isinstance(level, Level):
            raise UsageError(f"guarantee {level!r}: expected Exact(), Roundoff() or Within(EPS)")
        if self.time_limit is not None and not self.time_limit >= 0:
            raise UsageError(f"time limit {self.time_limit!r}: expected seconds, or None for no limit")
        if self.objective not in get_args(Objective):
            raise UsageError(f"objective {self.objective!r}: expected one of {', '.join(get_args(Objective))}")
        if self.prover.method not in get_args(Method):
            raise UsageError(f"prover {self.prover.method!r}: expected one of {', '.join(get_args(Method))}")
        if self.prover.method != "ladder":
            find_solver(self.prover.solver)
        elif self.prover.trust_solver:
            raise UsageError("trust_solver goes with the provers that ask a solver: leo, isa")


DEFAULTS = Settings()
