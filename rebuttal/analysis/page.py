"""A report as one HTML page that opens offline: the libraries for plots (Bokeh) and tables (DataTables) lie in it."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from bokeh.embed import components
from bokeh.models import ColumnDataSource, HoverTool, Legend, Span
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

import rebuttal
from rebuttal.analysis.charts import Chart, Curves, Dots
from rebuttal.analysis.claims import Verdict
from rebuttal.analysis.contents import EXPERIMENTS
from rebuttal.analysis.figures import GREY, line_styles
from rebuttal.analysis.gather import Run
from rebuttal.analysis.results import Results
from rebuttal.analysis.tables import Table, grouped, shown

MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond", "v": "inverted_triangle", "*": "star"}
MOST_RUNS = 500  # that are listed on the page; raw/runs.csv has all
TOOLTIPS = [("", "@name"), ("mean", "@mean{0.[0000]}"), ("95 %", "@interval"), ("seeds", "@n")]


@dataclass(frozen=True)
class Section:
    """An experiment on the page. `plots`: a title and the panels' markup, for each chart."""

    id: str
    heading: str
    verdicts: list[Verdict]
    plots: list[tuple[str, list[Markup]]]
    tables: list[Table]
    frames: list[tuple[str, list[str], list[list[tuple[Any, str]]]]]
    configurations: list[list[Run]]


def page(results: Results) -> str:
    """The whole page. All that comes from a run is escaped."""
    plots = {(chart.name, i): _panel(panel) for chart in results.charts for i, panel in enumerate(chart.panels)}
    script, places = components({f"{name}-{i}": plot for (name, i), plot in plots.items()}) if plots else ("", {})
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"shown": shown, "settings": _settings}
    bundle = files("itables").joinpath("html")
    return environment.get_template("page.html.j2").render(
        results=results,
        sections=[_section(results, experiment, places) for experiment in _experiments(results)],
        version=rebuttal.__version__,
        left_out=max(0, len(results.gathered.runs) - MOST_RUNS),
        bokeh=Markup(Resources(mode="inline", components=["bokeh"]).render_js()),
        bokeh_script=Markup(script),
        datatables=base64.b64encode(bundle.joinpath("dt_bundle.js").read_bytes()).decode(),
        datatables_style=Markup(bundle.joinpath("dt_bundle.css").read_text(encoding="utf-8")),
    )


def _experiments(results: Results) -> list[str]:
    """Those of the paper in its order, of which there is something, then any others that have runs."""
    there = {run.experiment for run in results.gathered.runs} | {v.claim.experiment for v in results.verdicts}
    return [name for name in EXPERIMENTS if name in there] + sorted(there - set(EXPERIMENTS))


def _section(results: Results, experiment: str, places: dict[str, str]) -> Section:
    own = {
        title: frame[frame["experiment"] == experiment].drop(columns="experiment")
        for title, frame in (
            ("Comparisons", results.contrasts),
            ("Times to fit, censored where a run did not fit", results.times),
            ("Trends along the share of random labels", results.trends),
        )
        if len(frame)
    }
    runs = [run for run in results.gathered.runs[:MOST_RUNS] if run.experiment == experiment]
    return Section(
        id=experiment,
        heading=EXPERIMENTS.get(experiment, experiment),
        verdicts=[v for v in results.verdicts if v.claim.experiment == experiment],
        plots=[(chart.title, _placed(chart, places)) for chart in results.charts if chart.experiment == experiment],
        tables=[table for table in results.tables if table.experiment == experiment],
        frames=[
            (
                title,
                [str(name).replace("_", " ") for name in frame],
                [list(map(_cell, row)) for row in frame.to_numpy()],
            )
            for title, frame in own.items()
            if len(frame)
        ],
        configurations=grouped(runs, lambda run: run.configuration),
    )


def _placed(chart: Chart, places: dict[str, str]) -> list[Markup]:
    return [Markup(places[f"{chart.name}-{i}"]) for i in range(len(chart.panels))]


def _cell(value: Any) -> tuple[Any, str]:
    """By what it is sorted, and as it is read."""
    if value is None or value != value:
        return "", "–"
    return value, f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(run: Run) -> str:
    """The groups that were chosen; the stages repeat them."""
    chosen = {key: value for key, value in run.config.items() if key != "stages"}
    return yaml.safe_dump(chosen, sort_keys=False, allow_unicode=True)


def _panel(panel: Dots | Curves) -> Any:
    return _dots(panel) if isinstance(panel, Dots) else _curves(panel)


def _plot(**settings: Any) -> Any:
    plot = figure(height=320, sizing_mode="stretch_width", toolbar_location=None, tools="", **settings)
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.add_layout(Legend(orientation="horizontal", background_fill_alpha=0, border_line_alpha=0), "above")
    return plot


def _dots(panel: Dots) -> Any:
    log = {"x_axis_type": "log"} if panel.log else {}
    plot = _plot(y_range=list(reversed(panel.categories)), x_axis_label=panel.label, **log)
    for i, (name, found) in enumerate(panel.series.items()):
        style = line_styles(len(panel.series))[i]
        aside = -0.24 * (i - (len(panel.series) - 1) / 2)
        points = [(value.mean, (category, aside), category, value) for category, value in found.items()]
        _points(plot, points, name if len(panel.series) > 1 else None, style, upright=False)
    _lines(plot, panel.lines, "height", panel.categories[0])
    return plot


def _curves(panel: Curves) -> Any:
    kinds = {f"{axis}_axis_type": "log" for axis, log in (("x", panel.log_x), ("y", panel.log_y)) if log}
    plot = _plot(x_axis_label=panel.x, y_axis_label=panel.y, **kinds)
    for (name, found), style in zip(panel.series.items(), line_styles(len(panel.series))):
        points = [(x, value.mean, f"{name}, {x:g}", value) for x, value in found]
        plot.line([x for x, *_ in points], [y for _, y, *_ in points], color=style["color"], line_width=2)
        _points(plot, points, name if len(panel.series) > 1 else None, style, upright=True)
        if name in panel.uprights:
            plot.add_layout(_line(panel.uprights[name], "height", style["color"], "dotted"))
    _lines(plot, panel.lines, "width", math.nan)
    return plot


def _points(plot: Any, points: list[tuple], label: str | None, style: dict[str, Any], upright: bool) -> None:
    source = ColumnDataSource(
        {
            "x": [x for x, *_ in points],
            "y": [y for _, y, *_ in points],
            "name": [name for *_, name, _ in points],
            "mean": [v.mean for *_, v in points],
            "low": [v.mean if v.low is None else v.low for *_, v in points],
            "high": [v.mean if v.high is None else v.high for *_, v in points],
            "interval": ["–" if v.low is None else f"{v.low:.4g} to {v.high:.4g}" for *_, v in points],
            "n": [v.n for *_, v in points],
        }
    )
    ends = ("x", "low", "x", "high") if upright else ("low", "y", "high", "y")
    plot.segment(*ends, source=source, color=style["color"], line_width=1.5)
    named = {} if label is None else {"legend_label": label}
    marker = MARKERS.get(style["marker"], "circle")
    dots = plot.scatter("x", "y", source=source, marker=marker, size=8, color=style["color"], **named)
    plot.add_tools(HoverTool(renderers=[dots], tooltips=TOOLTIPS))


def _lines(plot: Any, lines: dict[str, float], dimension: str, somewhere: Any) -> None:
    for name, value in lines.items():
        dash = "dashed" if name == "claimed" else "dotted"
        plot.add_layout(_line(value, dimension, GREY, dash))
        plot.line([math.nan], [somewhere], color=GREY, line_dash=dash, legend_label=name)  # for the legend alone


def _line(at: float, dimension: str, colour: str, dash: str) -> Span:
    return Span(location=at, dimension=dimension, line_color=colour, line_dash=dash, line_width=1)
