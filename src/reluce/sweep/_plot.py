"""The plot of a sweep: accuracy against the parameters that are left.

matplotlib is imported only here, when it is used. Figures are made without pyplot, so no state of anybody's matplotlib
is touched, and no display is asked for.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from reluce.errors import UsageError
from reluce.sweep._plan import text_of
from reluce.sweep._results import Row, Sweep

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "reluce",  # the same bytes for the same figures
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
DOTS_PER_INCH = 150
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#555555"  # told apart by all eyes

DEPTH = 0.15
"""How far below the unregularised mean the axis goes: a network that learned nothing would flatten all others."""

NEAR = 0.03
"""Means that are nearer to each other, in parts of the axes, share a label."""

Point = tuple[float, float]


def demand_plots() -> None:
    """Find out before the work that plots can be drawn.

    Raises
    ------
    UsageError
        When matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise UsageError("plots need matplotlib: pip install 'reluce[train]'") from None


def plotted(sweep: Sweep) -> dict[str, bytes]:
    """The plot of a sweep as files, by kind: ``svg`` and ``png``.

    Raises
    ------
    UsageError
        When matplotlib is not installed.
    """
    demand_plots()
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {**matplotlib.rcParamsDefault, **STYLE}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        _draw(figure.add_subplot(), sweep)
        found = {}
        for kind, metadata in (("svg", {"Date": None}), ("png", {})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
            found[kind] = buffer.getvalue()
    return found


def _draw(axes: Any, sweep: Sweep) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("parameters left")
    axes.set_ylabel("validation accuracy")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    plain = next((row.trained for row in sweep.rows if row.strength == 0), None)
    _draw_runs(axes, sweep, 0.0 if plain is None else float(plain) - DEPTH)
    if plain is not None:
        axes.axhline(float(plain), color=GREY, linestyle="--", linewidth=1, label="unregularised mean")
    _ticks(axes)
    _draw_means(axes, sweep)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _draw_runs(axes: Any, sweep: Sweep, floor: float) -> None:
    """A point for each; those below the floor at the edge, pointing down."""
    points = [(float(max(1, each.after.parameters)), each.valid) for row in sweep.rows for each in row.figures]
    low = [point for point in points if point[1] < floor]
    high = [point for point in points if point not in low]
    look = {"s": 16, "color": BLUE, "alpha": 0.45, "linewidths": 0}
    for some, marker, label in ((high, "o", "one run"), (low, "v", "one run, below")):
        if some:
            places = [valid if marker == "o" else floor for _, valid in some]
            axes.scatter([left for left, _ in some], places, marker=marker, label=label, **look)
    if low:
        top = max([valid for _, valid in high] or [floor])
        axes.set_ylim(floor - 0.01, top + 0.02)


def _draw_means(axes: Any, sweep: Sweep) -> None:
    """Those of all strengths, in their order, joined by a line; the chosen one in a ring."""
    rows = [row for row in sweep.rows if row.figures]
    if not rows:
        return
    means = [_mean(row) for row in rows]
    line = {"color": BLUE, "marker": "o", "markersize": 5, "linewidth": 1.2, "label": "mean"}
    axes.plot(*zip(*means, strict=True), scalex=False, scaley=False, **line)
    for place, text in _labels(axes, rows):
        look = {"textcoords": "offset points", "color": GREY, "fontsize": 8, "annotation_clip": True}
        axes.annotate(text, place, xytext=(-4, 6), ha="right", **look)
    for row in rows:
        if row.strength == sweep.choice.strength:
            ring = {"marker": "o", "s": 170, "facecolors": "none", "edgecolors": ORANGE, "linewidths": 2, "zorder": 4}
            axes.scatter(*_mean(row), **ring, label=f"chosen: strength {text_of(row.strength)}, {row.ratio:.2f}x")


def _labels(axes: Any, rows: list[Row]) -> Iterator[tuple[Point, str]]:
    """Strengths, one label for neighbours whose means lie on each other."""
    transform = axes.transScale + axes.transLimits
    together: list[Row] = []
    for row in rows:
        if together:
            first, here = (transform.transform(_mean(each)) for each in (together[0], row))
            if abs(first - here).max() > NEAR:
                yield _mean(together[0]), _span(together)
                together = []
        together.append(row)
    yield _mean(together[0]), _span(together)


def _span(rows: list[Row]) -> str:
    ends = [text_of(rows[0].strength), text_of(rows[-1].strength)]
    return " to ".join(dict.fromkeys(ends))


def _mean(row: Row) -> Point:
    assert row.after is not None
    assert row.valid is not None
    return max(1.0, float(row.after)), float(row.valid)


def _ticks(axes: Any) -> None:
    """Counts as people write them, more of them where the axis spans less."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_xlim()
    span = high / low
    axes.xaxis.set_major_locator(MaxNLocator(5) if span < 3 else LogLocator(subs=(1, 2, 5) if span < 1000 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
