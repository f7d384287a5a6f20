"""Charts over runs as data: what a picture shows, apart from how it is drawn (`draw`: for paper, `page`: a browser)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rebuttal.analysis.gather import Run
from rebuttal.analysis.statistics import Estimate
from rebuttal.analysis.tables import Table, comparable_runs, grouped, mean_of


@dataclass(frozen=True)
class Dots:
    """A row a category, a dot with its interval for each series. `lines`: reference values by their meaning."""

    label: str
    categories: tuple[str, ...]
    series: dict[str, dict[str, Estimate]]
    lines: dict[str, float] = field(default_factory=dict)
    log: bool = False


@dataclass(frozen=True)
class Curves:
    """y with its interval against x, a line a series. `lines`: reference values of y; `uprights`: a reference value of
    x for a series, all of them meaning `upright`."""

    x: str
    y: str
    series: dict[str, list[tuple[float, Estimate]]]
    lines: dict[str, float] = field(default_factory=dict)
    uprights: dict[str, float] = field(default_factory=dict)
    upright: str = ""
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Chart:
    """Panels side by side. `name` is unique, and the stem of its files; `title` says what is to be seen."""

    name: str
    experiment: str
    title: str
    panels: tuple[Dots | Curves, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class DotChart:
    """A chart from a table: `panels`, each a label and the columns (or, `by_row`, the rows) that it shows. `claimed`:
    panels with a line at the threshold of the claim of that id."""

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
        for label, shown in self.panels.items():
            series = {
                name: {c: cell for c in categories if isinstance(cell := cells.get((c, name)), Estimate)}
                for name in shown
            }
            if any(series.values()):
                lines = dict(self.lines.get(label, {}))
                if self.claimed.get(label) in thresholds:
                    lines["claimed"] = thresholds[self.claimed[label]]
                panels.append(Dots(label, categories, series, lines, label in self.log))
        if not panels or not table.runs:
            return None
        return Chart(table.name, table.experiment, f"{self.title} ({table.runs[0].name})", tuple(panels), table.runs)


@dataclass(frozen=True)
class AlongNoise:
    """Metrics against the share of random labels, a chart for each setup: `panels`, metrics by label. `fitted`: as of
    `Grid`."""

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
        known = sorted(fraction for fraction in levels if fraction is not None)
        panels = []
        for label, metric in self.panels.items():
            counted = {fraction: comparable_runs(levels[fraction], metric, self.fitted) for fraction in known}
            points = [(fraction, y) for fraction in known if (y := mean_of(counted[fraction], metric)) is not None]
            if len(points) > 1:
                panels.append(Curves("share of random labels", label, {label: points}))
        if not panels:
            return None
        name = self.name if setups == 1 else f"{self.name}_{runs[0].setup[:8]}"
        return Chart(name, self.experiment, self.title, tuple(panels), tuple(runs))


@dataclass(frozen=True)
class FromNames:
    """Curves whose x stands in the metrics' names, a chart for each configuration.

    `panels`: a pattern by the label of y, with the group `x`, and `series` where there are several lines. `upright`:
    what the x that is marked for a series means, and how it follows from the series' key in the pattern."""

    name: str
    experiment: str
    title: str
    x: str
    panels: dict[str, str]
    series: str = "{}"
    upright: tuple[str, Callable[[str], float]] | None = None
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
        lines: dict[str, list[tuple[float, Estimate]]] = {}
        uprights: dict[str, float] = {}
        for metric in runs[0].metrics:
            found = re.fullmatch(pattern, metric)
            value = mean_of(runs, metric) if found else None
            if found is None or value is None:
                continue
            key = found.groupdict().get("series", "")
            line = self.series.format(key) if key else label
            lines.setdefault(line, []).append((float(found["x"]), value))
            if self.upright is not None:
                uprights[line] = self.upright[1](key)
        if not lines:
            return None
        ordered = {name: sorted(points, key=lambda point: point[0]) for name, points in lines.items()}
        meaning = self.upright[0] if self.upright else ""
        return Curves(self.x, label, ordered, uprights=uprights, upright=meaning, log_x=True, log_y=label in self.log_y)


def _configuration(run: Run) -> str:
    return run.configuration
