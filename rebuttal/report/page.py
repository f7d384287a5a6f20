"""A report as one offline HTML page, with the libraries for plots (Bokeh) and tables (DataTables) embedded."""

from __future__ import annotations

import base64
import math
import textwrap
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from bokeh.embed import components
from bokeh.model import Model
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.models.annotations import Legend, Span
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

import rebuttal
from rebuttal.figures.style import GREY, line_styles
from rebuttal.report.charts import INTERVALS, Chart, Curves, Dots, Mark
from rebuttal.report.gather import Run
from rebuttal.report.results import Results
from rebuttal.report.tables import Table, format_cell, format_verdict, grouped
from rebuttal.report.verdicts import DECISIONS, Verdict

MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle", "*": "star"}
HEIGHT = 320  # of a plot, in pixels
LABEL = 26  # characters of a line of an axis label: a narrow screen has no room for more
MAX_RUNS = 500  # listed on the page; raw/runs.csv has all
TOOLTIPS = [("", "@name"), ("mean", "@mean{0.[0000]}"), ("95 %", "@interval"), ("seeds", "@n")]

Dimension = Literal["width", "height"]  # the direction of a line across a panel
Point = tuple[Any, Any, str, Mark]
"""x, y (a number, or a category and its offset), the name in the tooltip, and what is drawn there."""


@dataclass(frozen=True)
class Section:
    """An experiment on the page.

    `plots`: title and panel markup of each chart. `frames`: title, column names and rows of each further table; a cell
    is its sort key and its text.
    """

    id: str
    heading: str
    verdicts: list[Verdict]
    plots: list[tuple[str, list[Markup]]]
    tables: list[Table]
    frames: list[tuple[str, list[str], list[list[tuple[Any, str]]]]]
    configurations: list[list[Run]]


def page(results: Results) -> str:
    """Return the whole page as HTML. Everything that comes from a run is escaped."""
    plots: dict[str, Model] = {
        f"{chart.name}-{i}": panel_plot(panel) for chart in results.all_charts for i, panel in enumerate(chart.panels)
    }
    script, markup = components(plots) if plots else ("", {})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"format_cell": format_cell, "format_verdict": format_verdict, "settings": _settings}
    regions = results.by_region().to_dict("records")
    bundle = files("itables").joinpath("html")
    return environment.get_template("page.html.j2").render(
        results=results,
        regions=regions,
        decisions=[decision for decision in DECISIONS if any(row[decision] for row in regions)],
        overview=_panel_markup(results.overview, markup) if results.overview else [],
        sections=[_section(results, experiment, markup) for experiment in results.headings],
        version=rebuttal.__version__,
        intervals=INTERVALS,
        unlisted=max(0, len(results.gathered.runs) - MAX_RUNS),
        bokeh=Markup(Resources(mode="inline", components=["bokeh"]).render_js()),
        bokeh_script=Markup(script),
        datatables=base64.b64encode(bundle.joinpath("dt_bundle.js").read_bytes()).decode(),
        datatables_style=Markup(bundle.joinpath("dt_bundle.css").read_text(encoding="utf-8")),
    )


def _section(results: Results, experiment: str, markup: dict[str, str]) -> Section:
    runs = [run for run in results.gathered.runs[:MAX_RUNS] if run.experiment == experiment]
    return Section(
        id=experiment,
        heading=results.headings[experiment],
        verdicts=[v for v in results.verdicts if v.claim.experiment == experiment],
        plots=[
            (chart.title, _panel_markup(chart, markup)) for chart in results.charts if chart.experiment == experiment
        ],
        tables=[table for table in results.tables if table.experiment == experiment],
        frames=_frames(results, experiment),
        configurations=grouped(runs, lambda run: run.configuration),
    )


def _frames(results: Results, experiment: str) -> list[tuple[str, list[str], list[list[tuple[Any, str]]]]]:
    frames = {
        "Comparisons": results.contrasts,
        "Times to fit; a run that did not fit is censored": results.times,
        "Trends": results.trends,
    }
    found = []
    for title, frame in frames.items():
        rows = frame[frame["experiment"] == experiment].drop(columns="experiment") if len(frame) else frame
        if len(rows):
            columns = [str(name).replace("_", " ") for name in rows]
            found.append((title, columns, [list(map(_sort_key_and_text, row)) for row in rows.to_numpy()]))
    return found


def _panel_markup(chart: Chart, markup: dict[str, str]) -> list[Markup]:
    return [Markup(markup[f"{chart.name}-{i}"]) for i in range(len(chart.panels))]


def _sort_key_and_text(value: Any) -> tuple[Any, str]:
    if value is None or value != value:
        return "", "–"
    return value, f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(run: Run) -> str:
    """Return the settings of the config groups as YAML; the stages only repeat them."""
    settings = {key: value for key, value in run.config.items() if key != "stages"}
    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text


def panel_plot(panel: Dots | Curves) -> figure:
    """Return a panel as a plot of Bokeh's."""
    return _dots(panel) if isinstance(panel, Dots) else _curves(panel)


def _plot(height: int = HEIGHT, **settings: Any) -> figure:
    plot = figure(height=height, sizing_mode="stretch_width", toolbar_location=None, tools="", **settings)
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.add_layout(Legend(orientation="horizontal", background_fill_alpha=0, border_line_alpha=0), "above")
    return plot


def _wrapped(label: str) -> str:
    return textwrap.fill(label, LABEL)


def _dots(panel: Dots) -> figure:
    log: dict[str, Any] = {"x_axis_type": "log"} if panel.log else {}
    rows = panel.rows()
    height = max(HEIGHT, 100 + (4 + 14 * panel.lines_of_a_row) * len(rows))
    plot = _plot(height, y_range=list(reversed(rows.values())), x_axis_label=_wrapped(panel.label), **log)
    for i, (name, marks) in enumerate(panel.marks().items()):
        style = line_styles(len(panel.series))[i]
        offset = 0.0 if panel.exclusive else -0.24 * (i - (len(panel.series) - 1) / 2)
        points: list[Point] = [(mark.mean, (rows[str(mark.at)], offset), str(mark.at), mark) for mark in marks]
        _points(plot, points, name if len(panel.series) > 1 else None, style, interval_of="x")
    _reference_lines(plot, panel.lines, "height", rows[panel.categories[0]])
    return plot


def _curves(panel: Curves) -> figure:
    log: dict[str, Any] = {f"{axis}_axis_type": "log" for axis, on in (("x", panel.log_x), ("y", panel.log_y)) if on}
    plot = _plot(x_axis_label=_wrapped(panel.x), y_axis_label=_wrapped(panel.y), **log)
    for (name, marks), style in zip(panel.marks().items(), line_styles(len(panel.series))):
        points: list[Point] = [(mark.at, mark.mean, f"{name}, {mark.at:g}", mark) for mark in marks]
        plot.line([x for x, *_ in points], [y for _, y, *_ in points], color=style["color"], line_width=2)
        _points(plot, points, panel.label(name), style, interval_of="y")
        if name in panel.vertical_lines:
            plot.add_layout(_line(panel.vertical_lines[name], "height", style["color"], "dotted"))
    _reference_lines(plot, panel.lines, "width", math.nan)
    if panel.vertical_lines:
        plot.line([math.nan], [math.nan], color=GREY, line_dash="dotted", legend_label=panel.vertical_label)
    return plot


def _points(
    plot: figure, points: list[Point], label: str | None, style: dict[str, Any], interval_of: Literal["x", "y"]
) -> None:
    source = ColumnDataSource(
        {
            "x": [x for x, *_ in points],
            "y": [y for _, y, *_ in points],
            "name": [name for *_, name, _ in points],
            "mean": [mark.mean for *_, mark in points],
            "low": [mark.interval[0] if mark.interval else mark.mean for *_, mark in points],
            "high": [mark.interval[1] if mark.interval else mark.mean for *_, mark in points],
            "interval": [_ends(mark) for *_, mark in points],
            "n": [mark.estimate.n for *_, mark in points],
        }
    )
    ends = ("low", "y", "high", "y") if interval_of == "x" else ("x", "low", "x", "high")
    plot.segment(*ends, source=source, color=style["color"], line_width=1.5)
    legend: dict[str, Any] = {} if label is None else {"legend_label": label}
    marker = MARKERS.get(style["marker"], "circle")
    dots = plot.scatter("x", "y", source=source, marker=marker, size=8, color=style["color"], **legend)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=TOOLTIPS))


def _ends(mark: Mark) -> str:
    """Return the ends of the estimate's own interval, also of one that is drawn cut."""
    return "–" if mark.interval is None else f"{mark.estimate.low:.4g} to {mark.estimate.high:.4g}"


def _reference_lines(plot: figure, lines: dict[str, float], dimension: Dimension, any_y: Any) -> None:
    """Draw a line across the panel at each value. Spans have no legend, so an invisible line at `any_y` provides it."""
    for name, value in lines.items():
        dash = "dashed" if name == "claimed" else "dotted"
        plot.add_layout(_line(value, dimension, GREY, dash))
        plot.line([math.nan], [any_y], color=GREY, line_dash=dash, legend_label=name)


def _line(at: float, dimension: Dimension, colour: str, dash: str) -> Span:
    return Span(location=at, dimension=dimension, line_color=colour, line_dash=dash, line_width=1)
