"""Charts over runs as data, without their rendering: `draw` renders them with matplotlib, `page` with Bokeh."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rebuttal.report.gather import Run
from rebuttal.report.tables import Table, comparable_runs, grouped, mean_of
from rebuttal.report.verdicts import DECISIONS, Verdict
from rebuttal.statistics import Estimate


@dataclass(frozen=True)
class Dots:
    """A dot plot: a row per category, and in it a dot with its interval for each series.

    `series`: for each series, the estimate of each category. `lines`: labelled reference values. `log`: a logarithmic
    value axis. `exclusive`: a category has an estimate in one series only.
    """

    label: str
    categories: tuple[str, ...]
    series: dict[str, dict[str, Estimate]]
    lines: dict[str, float] = field(default_factory=dict)
    log: bool = False
    exclusive: bool = False


@dataclass(frozen=True)
class Curves:
    """Curves of y with its interval against x, one per series.

    `lines`: labelled reference values of y. `vertical_lines`: a reference value of x for a series; `vertical_label` is
    the meaning of all of them.
    """

    x: str
    y: str
    series: dict[str, list[tuple[float, Estimate]]]
    lines: dict[str, float] = field(default_factory=dict)
    vertical_lines: dict[str, float] = field(default_factory=dict)
    vertical_label: str = ""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Chart:
    """Panels side by side. `name` is unique and the stem of the chart's files; `title` is its caption."""

    name: str
    experiment: str
    title: str
    panels: tuple[Dots | Curves, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class DotChart:
    """A dot chart of each table named `table`.

    `panels`: for each panel label, the columns that it shows as series (with `by_row`, the rows). `lines`: reference
    values by panel. `claimed`: for a panel, the id of the claim whose threshold it shows. `log`: panels with a
    logarithmic axis.
    """

    table: str
    title: str
    panels: dict[str, tuple[str, ...]]
    by_row: bool = False
    lines: dict[str, dict[str, float]] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    log: tuple[str, ...] = ()

    def charts(self, tables: Sequence[Table], thresholds: dict[str, float]) -> list[Chart]:
        return [
            chart
            for table in tables
            if table.name == self.table or table.name.startswith(f"{self.table}_")
            if (chart := self._chart(table, thresholds)) is not None
        ]

    def _chart(self, table: Table, thresholds: dict[str, float]) -> Chart | None:
        cells = {(row, column): cell for row, cells in table.rows for column, cell in zip(table.columns, cells)}
        if self.by_row:
            cells = {(column, row): cell for (row, column), cell in cells.items()}
        categories = tuple(dict.fromkeys(category for category, _ in cells))
        panels = []
        for label, names in self.panels.items():
            series = {
                name: {c: cell for c in categories if isinstance(cell := cells.get((c, name)), Estimate)}
                for name in names
            }
            if any(series.values()):
                panels.append(Dots(label, categories, series, self._lines(label, thresholds), label in self.log))
        if not panels or not table.runs:
            return None
        return Chart(table.name, table.experiment, f"{self.title} ({table.runs[0].name})", tuple(panels), table.runs)

    def _lines(self, label: str, thresholds: dict[str, float]) -> dict[str, float]:
        lines = dict(self.lines.get(label, {}))
        if self.claimed.get(label) in thresholds:
            lines["claimed"] = thresholds[self.claimed[label]]
        return lines


@dataclass(frozen=True)
class LabelNoiseChart:
    """Metrics against the share of random labels, one chart per setup.

    `panels`: the metric of each panel label. `fitted`: as for `Grid`.
    """

    name: str
    experiment: str
    title: str
    panels: dict[str, str]
    fitted: tuple[str, ...] = ()

    def charts(self, runs: Sequence[Run]) -> list[Chart]:
        own = [run for run in runs if run.experiment == self.experiment and "corruption" in run.config]
        setups = grouped(own, lambda run: run.setup)
        return [chart for setup in setups if (chart := self._chart(setup, len(setups))) is not None]

    def _chart(self, runs: list[Run], setups: int) -> Chart | None:
        levels = {level[0].config["corruption"].get("fraction"): level for level in grouped(runs, _configuration)}
        fractions = sorted(fraction for fraction in levels if fraction is not None)
        panels = []
        for label, metric in self.panels.items():
            counted = {fraction: comparable_runs(levels[fraction], metric, self.fitted) for fraction in fractions}
            points = [(x, y) for x in fractions if (y := mean_of(counted[x], metric)) is not None]
            if len(points) > 1:
                panels.append(Curves("share of random labels", label, {label: points}))
        if not panels:
            return None
        name = self.name if setups == 1 else f"{self.name}_{runs[0].setup[:8]}"
        return Chart(name, self.experiment, self.title, tuple(panels), tuple(runs))


@dataclass(frozen=True)
class MetricNameChart:
    """Curves whose x values are parts of metric names, one chart per configuration.

    `panels`: for each label of y, a regular expression with the group `x`, and the group `series` if there are several
    curves. `series`: the format of a curve's label. `vertical`: the label of the vertical reference lines, and the
    function from a curve's `series` group to its x.
    """

    name: str
    experiment: str
    title: str
    x: str
    panels: dict[str, str]
    series: str = "{}"
    vertical: tuple[str, Callable[[str], float]] | None = None
    log_y: tuple[str, ...] = ()

    def charts(self, runs: Sequence[Run]) -> list[Chart]:
        configurations = grouped((run for run in runs if run.experiment == self.experiment), _configuration)
        return [chart for group in configurations if (chart := self._chart(group, len(configurations)))]

    def _chart(self, runs: list[Run], configurations: int) -> Chart | None:
        panels = tuple(panel for label, pattern in self.panels.items() if (panel := self._panel(runs, label, pattern)))
        if not panels:
            return None
        name = self.name if configurations == 1 else f"{self.name}_{runs[0].configuration[:8]}"
        return Chart(name, self.experiment, f"{self.title} ({runs[0].name})", panels, tuple(runs))

    def _panel(self, runs: list[Run], label: str, pattern: str) -> Curves | None:
        curves: dict[str, list[tuple[float, Estimate]]] = {}
        vertical_lines: dict[str, float] = {}
        for metric in runs[0].metrics:
            match = re.fullmatch(pattern, metric)
            value = mean_of(runs, metric) if match else None
            if match is None or value is None:
                continue
            key = match.groupdict().get("series", "")
            name = self.series.format(key) if key else label
            curves.setdefault(name, []).append((float(match["x"]), value))
            if self.vertical is not None:
                vertical_lines[name] = self.vertical[1](key)
        if not curves:
            return None
        return Curves(
            x=self.x,
            y=label,
            series={name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()},
            vertical_lines=vertical_lines,
            vertical_label=self.vertical[0] if self.vertical else "",
            log_x=True,
            log_y=label in self.log_y,
        )


OVERVIEW = "verdicts"  # the name of the chart of all judged claims


def verdict_chart(verdicts: Sequence[Verdict]) -> Chart | None:
    """Return one chart of all judged claims: each median with its interval, as a signed distance from the threshold,
    positive on the claimed side, as a part of the longest distance of its row; None if no claim is judged."""
    judged = [v for v in verdicts if v.median is not None]
    if not judged:
        return None
    several = len({v.claim.id for v in judged}) < len(judged)
    names = [f"{v.claim.id} ({v.name})" if several else v.claim.id for v in judged]
    series: dict[str, dict[str, Estimate]] = {}
    for name, v in zip(names, judged):
        series.setdefault(v.verdict, {})[name] = _distance(v)
    ordered: dict[str, dict[str, Estimate]] = {
        decision: series[decision] for decision in DECISIONS if decision in series
    }
    title = "All judged claims: the median over seeds with its 95 % interval, as a distance from the threshold."
    label = "against the claim  ←  threshold  →  for the claim (each row in a unit of its own)"
    runs = tuple(run for v in judged for run in v.runs)
    return Chart(
        OVERVIEW, OVERVIEW, title, (Dots(label, tuple(names), ordered, {"threshold": 0.0}, exclusive=True),), runs
    )


def _distance(v: Verdict) -> Estimate:
    sign = 1 if v.claim.comparison == "at_least" else -1
    ends = [v.median if end is None else end for end in (v.low, v.median, v.high)]
    low, middle, high = sorted(sign * (float(end or 0) - v.claim.threshold) for end in ends)
    unit = max(abs(low), abs(high)) or 1.0
    known = v.low is not None
    return Estimate(middle / unit, low / unit if known else None, high / unit if known else None, v.n)


def _configuration(run: Run) -> str:
    return run.configuration
