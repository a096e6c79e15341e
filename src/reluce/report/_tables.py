"""The report as tables for a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from math import inf

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from reluce.facts import Guarantee
from reluce.io import Sizes
from reluce.report._report import Report


def as_text(report: Report, width: int = 100) -> str:
    """The tables as plain text."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None).print(render(report))
    return buffer.getvalue().rstrip()


def render(report: Report) -> RenderableType:
    """The tables for a rich console."""
    parts: list[RenderableType] = [Text(f"{report.name} on {report.domain}{_assumed(report)}"), _layers(report)]
    if report.compressed is not None:
        parts.append(_sizes(report))
    parts.extend(Text(line) for line in _lines(report))
    return Group(*parts)


def _layers(report: Report) -> Table:
    table = Table()
    table.add_column("layer", overflow="fold")
    columns = ["units", "constant", "inactive", "active", "unstable", "undecided"]
    columns += ["attested"] if report.solver is not None else []
    for name in columns + (["kept"] if report.compressed is not None else []):
        table.add_column(name, justify="right")
    for row in report.layers:
        cells = [str(getattr(row, name)) for name in columns]
        table.add_row(Text(row.name), *cells, *([str(row.kept)] if report.compressed is not None else []))
    return table


def _assumed(report: Report) -> str:
    return " (an assumption: the data may not cover what comes later)" if report.assumption else ""


def _sizes(report: Report) -> Table:
    assert report.compressed is not None
    table = Table()
    table.add_column("")
    for name in ("before", "after", "removed"):
        table.add_column(name, justify="right")
    for name in ("parameters", "nonzeros", "macs", "bytes"):
        before, after = getattr(report.model, name), getattr(report.compressed, name)
        share = f"{100 * (before - after) / before:.1f} %" if before else "-"
        table.add_row(name, f"{before:,}", f"{after:,}", share)
    return table


def _lines(report: Report) -> list[str]:
    lines = []
    if report.compressed is not None:
        lines += [] if _anything_gone(report, report.compressed) else [_nothing_gone(report)]
        lines += [_promise(report), *_certificate(report), *_guard(report), *_floats(report), _check(report)]
    lines += [f"why kept: {refusal.where}: {refusal.what}: {refusal.why}" for refusal in report.refusals]
    lines += _undecided(report) + _solver(report)
    lines += [f"note: {note}" for note in report.notes]
    if report.cut_short:
        lines.append("note: time ran out or the run was interrupted; what was proved by then was used")
    stages = {name: value for name, value in report.seconds.items() if report.compressed or name not in WRITING}
    return [*lines, "seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in stages.items())]


WRITING = ("rewrite", "certify", "verify")
"""Stages that ``inspect`` does not have."""


def _undecided(report: Report) -> list[str]:
    """One line for each reason that left whole layers undecided."""
    layers: dict[str, list[str]] = {}
    for row in report.layers:
        if row.reason:
            layers.setdefault(row.reason, []).append(row.name)
    return [f"note: undecided, {reason}: {', '.join(names)}" for reason, names in layers.items()]


def _solver(report: Report) -> list[str]:
    """What a solver was asked, and what its word is worth here."""
    solver = report.solver
    if solver is None:
        return []
    lost = f", {solver.unanswered:,} without an answer" if solver.unanswered else ""
    asked = f"note: {solver}: {solver.solves:,} solves{lost}, {solver.nodes:,} nodes, {solver.seconds:.2f} s"
    if not _attested(report):
        return [asked]
    worth = "they count as if they were proved" if solver.trusted else "they stay (--trust-solver removes them)"
    return [asked, f"note: {_attested(report):,} units are attested by {solver.name}, not proved: {worth}"]


def _attested(report: Report) -> int:
    return sum(row.attested or 0 for row in report.layers)


def _ceiling(value: float) -> str:
    """Three digits, rounded up: a printed bound must not be below the proved one."""
    exact = Decimal(repr(value))
    if not exact or not exact.is_finite():
        return f"{value:g}"
    step = Decimal(1).scaleb(exact.adjusted() - 2)
    return f"{float(exact.quantize(step, rounding=ROUND_CEILING)):.3g}"


def _anything_gone(report: Report, compressed: Sizes) -> bool:
    """Whether a result is another network than the model; a guard makes the file longer."""
    guarded = report.guard is not None
    return replace(compressed, bytes=report.model.bytes if guarded else compressed.bytes) != report.model


def _nothing_gone(report: Report) -> str:
    stable = sum(row.constant + row.inactive + row.active for row in report.layers)
    why = "no unit was proved stable" if not stable else f"{stable} units are stable, but none could be removed"
    result = "the input" if report.guard is None else "the input and its guard"
    return f"Nothing could be removed ({why}); the output is {result}."


def _promise(report: Report) -> str:
    guarantee = report.guarantee
    assert guarantee is not None
    where = f"for every input of the domain{' (an assumption)' if report.assumption else ''}, over the reals"
    if guarantee.level == "attested" and report.solver is not None:
        what = f"attested by {report.solver.name}, not proved. If it is right about {_attested(report):,} units, "
        return f"Guarantee: {what}{_effect(guarantee)} {where}.{_shifted(guarantee)}"
    effect = _effect(guarantee)
    effect = effect[0].upper() + effect[1:]
    return f"Guarantee: {guarantee.asked}. {effect} {where}{_already(guarantee)}.{_shifted(guarantee)}"


def _shifted(guarantee: Guarantee) -> str:
    """Which promise is about other numbers than the original puts out."""
    return "".join(
        f" Shifted: each logit of output {name!r} less logit {by}; softmax and argmax are the same but for that, "
        "the logits are not."
        for name, by in guarantee.shifted.items()
    )


def _effect(guarantee: Guarantee) -> str:
    if guarantee.shifted:
        most = f"by more than {_ceiling(guarantee.epsilon)}" if guarantee.epsilon else "at all"
        return f"no difference of two logits to the one that is subtracted differs {most}"
    if guarantee.epsilon:
        used = f" ({100 * guarantee.share:.3g} % of what it may)" if guarantee.asked == "roundoff" else ""
        return f"no output differs by more than {_ceiling(guarantee.epsilon)}{used}"
    return "the outputs are equal" if guarantee.asked == "exact" else "no output differs at all"


def _already(guarantee: Guarantee) -> str:
    """What is not part of this run's promise, but of what the file is from the first original."""
    spent = max((float(values.max(initial=0.0)) for values in guarantee.spent.values()), default=0.0)
    if not spent:
        return ""
    return ", from this model; earlier runs had moved it by up to " + (_ceiling(spent) if spent < inf else "anything")


def _guard(report: Report) -> list[str]:
    row = report.guard
    if row is None:
        return []
    if row.unreachable:
        lost = ", ".join(map(repr, row.unreachable))
        return [f"Guard: output {row.output!r} is never true: no number of {lost} lies between the ends of its domain."]
    tried = f"tried on {row.points:,} points in {row.runtime}"
    return [f"Guard: output {row.output!r} is true for the samples of the domain only; {tried}."]


def _certificate(report: Report) -> list[str]:
    """Where the proof is that others can check."""
    row = report.certificate
    if row is None:
        return []
    return [f"Certificate: {row.path}, {row.bytes:,} bytes, proved by the independent checker (reluce-check)."]


def _floats(report: Report) -> list[str]:
    """What floats do to both networks: information, and no part of the guarantee."""
    floats = report.floats
    if floats is None:
        return []
    before, after = (
        max((float(e.max(initial=0.0)) for e in part.values()), default=0.0) for part in (floats.before, floats.after)
    )
    errors = "not bounded" if before == inf else f"{_ceiling(before)} before, {_ceiling(after)} after"
    lines = f"Floats: a-priori evaluation error of an output: {errors}"
    if not floats.deleted:
        return [f"{lines}."]
    units = f"{floats.deleted:,} deleted inactive {'unit' if floats.deleted == 1 else 'units'}"
    safe = (
        "none can fire in floats either"
        if floats.float_safe
        else f"{floats.unshown:,} not shown to stay silent in floats"
    )
    return [f"{lines}; of {units} {safe}, in any order of summation."]


def _check(report: Report) -> str:
    check = report.check
    assert check is not None
    if check.points == 0:
        return f"Check: {check.note}."
    parts = []
    if check.float64 is not None:
        parts.append(f"float64 {check.float64:.3g}")
    if check.measured is not None:
        bound = f"allowed {check.allowed:.3g}: epsilon and the float rounding of both networks"
        bound = "measured only" if check.measured_only else bound
        parts.append(f"{check.runtime} {check.measured:.3g} ({bound})")
    note = f" [{check.note}]" if check.note else ""
    return f"Check: largest deviation on {check.points:,} points: {', '.join(parts) or 'not run'}{note}."
