"""What a run reports: frozen data, and its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reluce._version import __version__
from reluce.certificate import Certified
from reluce.facts import Facts, FloatErrors, Guarantee, LayerFacts, Refusal, Rung, Verdict
from reluce.guard import GuardCheck
from reluce.io import Sizes
from reluce.network import Array
from reluce.verify import Check


@dataclass(frozen=True)
class RungRow:
    """How many units of a layer a rung decided, and the seconds that it took there, also where it decided none."""

    layer: str
    rung: str
    decided: int
    seconds: float


@dataclass(frozen=True)
class LayerRow:
    """Units of one ReLU by verdict, and how many the compressed network keeps (``None``: nothing was rewritten).

    ``verdicts``, ``proved_by``, ``lower`` and ``upper`` have one entry per unit: what is known of its pre-activation.
    ``kept_units`` are the original indices of the units that remain, in order. ``attested`` counts the units for which
    only a solver vouches (``None``: none was asked), and ``attested_as`` says as what: they are among the undecided, or
    under their verdict where the solver is trusted. ``highest`` and ``lowest`` say how near an undecided unit
    came to a sign that it lacks: its largest and smallest pre-activation at any point that was tried (else ``None``).
    """

    name: str
    units: int
    constant: int
    inactive: int
    active: int
    unstable: int
    undecided: int
    kept: int | None
    reason: str = ""
    verdicts: tuple[str, ...] = ()
    proved_by: tuple[str, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    kept_units: tuple[int, ...] | None = None
    attested: int | None = None
    attested_as: tuple[str, ...] = ()
    highest: tuple[float | None, ...] = ()
    lowest: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class SolverUse:
    """Which solver was asked in what way, whether its word counts, and what it took (``seconds`` are its own).

    ``unanswered`` counts solves that ended without an answer: out of time, failed.
    """

    method: str
    solver: str
    trusted: bool
    solves: int
    nodes: int
    seconds: float
    unanswered: int

    def __str__(self) -> str:
        return f"{self.method.upper()} on {self.name}"

    @property
    def name(self) -> str:
        """The solver as its makers spell it."""
        return {"highs": "HiGHS", "scip": "SCIP", "gurobi": "Gurobi"}.get(self.solver, self.solver)


@dataclass(frozen=True)
class CertificateRow:
    """A certificate that the independent checker has accepted: where it is, its size, and what it holds."""

    path: str
    bytes: int
    sha256: str
    original_sha256: str
    compressed_sha256: str
    facts: int
    signs: int


@dataclass(frozen=True)
class Report:
    """The outcome of ``compress`` or ``inspect``; printing it shows the tables that the command line shows.

    ``solver`` is there where one was asked, ``floats`` where the network was rewritten, ``certificate`` and
    ``guard`` where one was written.
    """

    name: str
    domain: str
    assumption: bool
    model: Sizes
    compressed: Sizes | None
    layers: tuple[LayerRow, ...]
    guarantee: Guarantee | None
    check: Check | None
    seconds: Mapping[str, float]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    cut_short: bool = False
    rungs: tuple[RungRow, ...] = ()
    solver: SolverUse | None = None
    floats: FloatErrors | None = None
    certificate: CertificateRow | None = None
    guard: GuardCheck | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; infinite numbers become ``None``."""
        layers = [_layer(row) for row in self.layers]
        result: dict[str, Any] = {
            "reluce": __version__,
            "name": self.name,
            "domain": {"description": self.domain, "assumption": self.assumption},
            "model": asdict(self.model),
            "layers": layers,
        }
        if self.solver is not None:
            result["solver"] = asdict(self.solver)
        if self.compressed is not None and self.guarantee is not None and self.check is not None:
            result["compressed"] = asdict(self.compressed)
            result["guarantee"] = _guarantee(self.guarantee)
            result["floats"] = None if self.floats is None else _floats(self.floats)
            result["max_deviation"] = _finite(self.check.largest)
            result["check"] = {
                "points": self.check.points,
                "float64": self.check.float64,
                "runtime": self.check.runtime,
                "measured": self.check.measured,
                "allowed": _finite(self.check.allowed),
                "measured_only": self.check.measured_only,
                "note": self.check.note,
            }
            result["certificate"] = None if self.certificate is None else asdict(self.certificate)
            result["guard"] = None if self.guard is None else asdict(self.guard)
        result["seconds"] = dict(self.seconds)
        result["refusals"] = [asdict(refusal) for refusal in self.refusals]
        result["notes"] = list(self.notes)
        result["cut_short"] = self.cut_short
        result["rungs"] = [asdict(row) for row in self.rungs]
        return result

    def __str__(self) -> str:
        from reluce.report._tables import as_text

        return as_text(self)


def certificate_row(certified: Certified, place: Path) -> CertificateRow:
    """What to say of a certificate."""
    proved = certified.proved
    return CertificateRow(
        path=str(place),
        bytes=len(certified.certificate),
        sha256=proved.certificate,
        original_sha256=proved.original,
        compressed_sha256=proved.compressed,
        facts=proved.facts,
        signs=proved.claims,
    )


def layer_rows(facts: Facts, kept: Mapping[str, Array] | None, solver: bool = False) -> tuple[LayerRow, ...]:
    """One row per ReLU, in topological order; ``solver`` says whether one was asked."""
    return tuple(
        LayerRow(
            name=layer.layer,
            units=layer.units,
            constant=layer.count(Verdict.CONSTANT),
            inactive=layer.count(Verdict.INACTIVE),
            active=layer.count(Verdict.ACTIVE),
            unstable=layer.count(Verdict.UNSTABLE),
            undecided=layer.count(Verdict.UNDECIDED),
            kept=None if kept is None else len(kept[layer.node]),
            reason=layer.reason,
            verdicts=_names(layer.verdict),
            proved_by=tuple(str(rung) for rung in layer.rung),
            lower=tuple(layer.lower.tolist()),
            upper=tuple(layer.upper.tolist()),
            kept_units=None if kept is None else tuple(int(unit) for unit in kept[layer.node] if unit >= 0),
            attested=int((layer.attested != Verdict.UNDECIDED).sum()) if solver else None,
            attested_as=_names(layer.attested) if solver else (),
            highest=_reached(layer, layer.reached[0]),
            lowest=_reached(layer, -layer.reached[1]),
        )
        for layer in facts.layers.values()
    )


def rung_rows(facts: Facts, spent: Mapping[str, Mapping[Rung, float]]) -> tuple[RungRow, ...]:
    """What decided units or took time, by layer, in the order of the ladder; the cheapest rungs are timed together."""
    return tuple(
        RungRow(layer.layer, str(rung), layer.rung.count(rung), spent.get(layer.node, {}).get(rung, 0.0))
        for layer in facts.layers.values()
        for rung in Rung
        if rung is not Rung.NONE and (rung in layer.rung or rung in spent.get(layer.node, {}))
    )


def _reached(layer: LayerFacts, values: Array) -> tuple[float | None, ...]:
    undecided = layer.having(Verdict.UNDECIDED)
    return tuple(_finite(value) if open_ else None for value, open_ in zip(values.tolist(), undecided, strict=True))


def _names(verdicts: Array) -> tuple[str, ...]:
    return tuple(Verdict(int(verdict)).name.lower() for verdict in verdicts)


def _layer(row: LayerRow) -> dict[str, Any]:
    """Units as lists; infinite bounds become ``None``."""
    result = asdict(row)
    if row.attested is None:
        del result["attested"], result["attested_as"]
    result["lower"], result["upper"] = [_finite(v) for v in row.lower], [_finite(v) for v in row.upper]
    return result


def _guarantee(guarantee: Guarantee) -> dict[str, Any]:
    """Per output an array; ``magnitudes`` at roundoff only, ``spent`` where earlier runs had moved anything.

    ``shifted`` has the coordinate that was subtracted, where one was.
    """
    found = {
        "level": guarantee.level,
        "asked": guarantee.asked,
        "conditional": guarantee.level == "attested",
        "epsilon": _finite(guarantee.epsilon),
        "budget": _finite(guarantee.budget),
        "share": _finite(guarantee.share),
        "epsilons": _arrays(guarantee.epsilons),
        "budgets": _arrays(guarantee.budgets),
    }
    if guarantee.magnitudes:
        found["magnitudes"] = _arrays(guarantee.magnitudes)
    if any(values.any() for values in guarantee.spent.values()):
        found["spent"] = _arrays(guarantee.spent)
    if guarantee.shifted:
        found["shifted"] = dict(guarantee.shifted)
    return found


def _floats(floats: FloatErrors) -> dict[str, Any]:
    return {
        "errors_before": _arrays(floats.before),
        "errors_after": _arrays(floats.after),
        "deleted": floats.deleted,
        "unshown": floats.unshown,
        "float_safe": floats.float_safe,
    }


def _arrays(values: Mapping[str, Array]) -> dict[str, list[float | None]]:
    return {name: [_finite(value) for value in part.tolist()] for name, part in values.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
