"""Charts rendered with matplotlib for print: journal column widths, vector text, distinguishable in greyscale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, StrMethodFormatter

from rebuttal.figures.style import GREY, STYLE, WIDTH, line_styles
from rebuttal.report.charts import Chart, Curves, Dots, Mark

MAX_COLUMNS = 3  # panels next to each other on the page's width
LONG = 16  # categories; a longer dot plot is the whole page wide


def draw(chart: Chart) -> Figure:
    """Draw the panels side by side, two journal columns wide; a single panel one column wide, but for a long dot plot.

    Dot plots share their category axis.
    """
    dots = all(isinstance(panel, Dots) for panel in chart.panels)
    columns = min(MAX_COLUMNS if dots else 2, len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    plots = [panel for panel in chart.panels if isinstance(panel, Dots)]
    categories = max((len(panel.categories) for panel in plots), default=0)
    lines = max((panel.lines_of_a_row for panel in plots), default=1)
    height = 0.75 + (0.09 + 0.11 * lines) * categories if dots else WIDTH * 0.68
    with rc_context(STYLE):
        wide = 2 if categories > LONG else min(2, columns)
        figure = Figure(figsize=(WIDTH * wide, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey="row" if dots else False).ravel()
        for axes, panel in zip(grid, chart.panels):
            if isinstance(panel, Dots):
                _dots(axes, panel)
            else:
                _curves(axes, panel)
        for axes in grid[len(chart.panels) :]:
            axes.set_axis_off()
        _legend(figure, list(grid))
        return figure


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as `pdf` or `png`. Text is embedded as text; equal figures give identical files."""
    metadata = {"CreationDate": None} if kind == "pdf" else None
    content = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(content, format=kind, metadata=metadata)
    return content.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Save as PDF or PNG, by the suffix of `path`."""
    path.write_bytes(rendered(figure, path.suffix.removeprefix(".")))


def _dots(axes: Axes, panel: Dots) -> None:
    rows = {category: y for y, category in enumerate(panel.categories)}
    several = len(panel.series) > 1
    for i, (name, marks) in enumerate(panel.marks().items()):
        style = line_styles(len(panel.series))[i]
        apart = 0.0 if panel.exclusive else 0.24  # so that no interval hides another
        offset = apart * (i - (len(panel.series) - 1) / 2)
        for j, mark in enumerate(marks):
            _dot(axes, mark, rows[str(mark.at)] + offset, style, name if several and j == 0 else None)
    for name, value in panel.lines.items():
        axes.axvline(value, color=GREY, linewidth=0.8, linestyle="--" if name == "claimed" else ":", label=name)
    axes.set_yticks(range(len(rows)), list(panel.rows().values()))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if panel.log:
        axes.set_xscale("log")
    axes.set_xlabel(panel.label)
    axes.grid(axis="y", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def _dot(axes: Axes, mark: Mark, y: float, style: dict[str, Any], label: str | None) -> None:
    if mark.interval is not None:
        axes.plot(mark.interval, [y, y], color=style["color"], linewidth=1.2)
    axes.plot(mark.mean, y, style["marker"], color=style["color"], markersize=4, label=label)


APART = 1.5  # ticks of a logarithmic axis whose labels stand side by side


def _curves(axes: Axes, panel: Curves) -> None:
    if panel.log_x:
        axes.set_xscale("log")  # before there are points: one alone has no limits that could be converted
    for (name, marks), style in zip(panel.marks().items(), line_styles(len(panel.series))):
        _curve(axes, marks, style, panel.label(name))
        if name in panel.vertical_lines:
            axes.axvline(panel.vertical_lines[name], color=style["color"], linewidth=0.8, linestyle=":")
    for name, value in panel.lines.items():
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle="--", label=name)
    if panel.vertical_lines:
        axes.plot([], [], ":", color=GREY, linewidth=0.8, label=panel.vertical_label)
    if panel.log_x:
        found = sorted({float(mark.at) for marks in panel.marks().values() for mark in marks})
        apart = all(b > APART * a for a, b in pairwise(found))
        _plain_numbers(axes.xaxis, found if apart else ())
    if panel.log_y:
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)


def _curve(axes: Axes, marks: list[Mark], style: dict[str, Any], label: str | None) -> None:
    axes.plot([mark.at for mark in marks], [mark.mean for mark in marks], **style, label=label)
    for mark in marks:  # those of a single seed have no interval
        if mark.interval is not None:
            axes.plot([mark.at, mark.at], mark.interval, color=style["color"], linewidth=1.2)


def _plain_numbers(axis: Axis, ticks: Sequence[float] = ()) -> None:
    """Label a logarithmic axis with plain numbers at `ticks`, or at 1, 2 and 5 times each power of ten."""
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, grid: list[Axes]) -> None:
    """Draw one legend for all panels, with each label once."""
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels())}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4)
