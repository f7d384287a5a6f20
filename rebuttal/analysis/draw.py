"""Charts for paper: matplotlib, as wide as a journal's columns, vector text, told apart in grey by marker and line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from rebuttal.analysis.charts import Chart, Curves, Dots
from rebuttal.analysis.figures import GREY, STYLE, WIDTH, line_styles
from rebuttal.analysis.statistics import Estimate

ACROSS = 3  # panels in a row of the page's width


def draw(chart: Chart) -> Figure:
    """The panels side by side on the width of two columns; a lone panel on one. Panels of dots share their rows."""
    dots = all(isinstance(panel, Dots) for panel in chart.panels)
    across = min(ACROSS if dots else 2, len(chart.panels))
    down = -(-len(chart.panels) // across)
    rows = max((len(panel.categories) for panel in chart.panels if isinstance(panel, Dots)), default=0)
    height = 0.75 + 0.2 * rows if dots else WIDTH * 0.68
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * min(2, across), height * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False, sharey="row" if dots else False).ravel()
        for at, panel in zip(axes, chart.panels):
            if isinstance(panel, Dots):
                _dots(at, panel)
            else:
                _curves(at, panel)
        for at in axes[len(chart.panels) :]:
            at.set_axis_off()
        _legend(figure, list(axes))
        return figure


def save(figure: Figure, path: Path) -> None:
    """As PDF or PNG by the path's ending. Text stays text, and equal figures give equal files."""
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(path, metadata=metadata)


def _dots(axes: Axes, panel: Dots) -> None:
    rows = {category: y for y, category in enumerate(panel.categories)}
    several = len(panel.series) > 1
    for i, (name, found) in enumerate(panel.series.items()):
        style = line_styles(len(panel.series))[i]
        aside = 0.24 * (i - (len(panel.series) - 1) / 2)  # so that no interval hides another
        for j, (category, value) in enumerate(found.items()):
            _dot(axes, value, rows[category] + aside, style, name if several and j == 0 else None)
    for name, value in panel.lines.items():
        axes.axvline(value, color=GREY, linewidth=0.8, linestyle="--" if name == "claimed" else ":", label=name)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if panel.log:
        axes.set_xscale("log")
    axes.set_xlabel(panel.label)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def _dot(axes: Axes, value: Estimate, y: float, style: dict, label: str | None) -> None:
    if value.low is not None and value.high is not None:
        axes.plot([value.low, value.high], [y, y], color=style["color"], linewidth=1.2)
    axes.plot(value.mean, y, style["marker"], color=style["color"], markersize=4, label=label)


def _curves(axes: Axes, panel: Curves) -> None:
    several = len(panel.series) > 1
    for (name, points), style in zip(panel.series.items(), line_styles(len(panel.series))):
        x = [at for at, _ in points]
        axes.plot(x, [value.mean for _, value in points], **style, label=name if several else None)
        if all(value.low is not None for _, value in points):
            low, high = [value.low for _, value in points], [value.high for _, value in points]
            axes.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
        if name in panel.uprights:
            axes.axvline(panel.uprights[name], color=style["color"], linewidth=0.8, linestyle=":")
    for name, value in panel.lines.items():
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle="--", label=name)
    if panel.uprights:
        axes.plot([], [], ":", color=GREY, linewidth=0.8, label=panel.upright)
    if panel.log_x:
        axes.set_xscale("log")
        _plain(axes.xaxis, sorted({x for points in panel.series.values() for x, _ in points}))
    if panel.log_y:
        axes.set_yscale("log")
        _plain(axes.yaxis)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)


def _plain(axis: Axis, ticks: Sequence[float] = ()) -> None:
    """On a logarithmic axis plain numbers at `ticks`, or at 1, 2 and 5 of each decade."""
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: list[Axes]) -> None:
    """One for all panels, each label once."""
    named = {label: handle for at in axes for handle, label in zip(*at.get_legend_handles_labels())}
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=4)
