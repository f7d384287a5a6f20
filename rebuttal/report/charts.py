"""Charts over runs as data, without their rendering: `draw` renders them with matplotlib, `page` with Bokeh."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
from pydantic import Field

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.report.gather import Run
from rebuttal.report.naming import random_share
from rebuttal.report.tables import Named, Selection, Table, comparable_runs, data_and_size, grouped, mean_of, named
from rebuttal.report.verdicts import DECISIONS, Verdict
from rebuttal.statistics import Estimate, estimate
from rebuttal.store.identity import fingerprint

OVERVIEW = "verdicts"  # the name of the chart of all judged claims
RESERVED = (OVERVIEW, "regions")  # names of the files of a report that no declaration names
INTERVALS = "Mean over seeds and 95 % interval, where there are two seeds or more."


@dataclass(frozen=True)
class Mark:
    """An estimate as every rendering draws it: at `at`, an x or a category, its mean, and its interval if it has one.

    An interval that a logarithmic axis cannot show whole ends at the axis's lowest value.
    """

    at: float | str
    mean: float
    interval: tuple[float, float] | None
    estimate: Estimate


def _marks(points: Sequence[tuple[float | str, Estimate]], lowest: float | None) -> list[Mark]:
    """Return the marks of a series; on a logarithmic axis, whose `lowest` value is given, those of positive means."""
    marks = []
    for at, e in points:
        if lowest is not None and e.mean <= 0:
            continue
        known = e.low is not None and e.high is not None
        ends = (e.low if lowest is None else max(e.low or 0, lowest), e.high) if known else None
        marks.append(Mark(at, e.mean, ends, e))  # type: ignore[arg-type]
    return marks


def _lowest(estimates: Iterable[Estimate]) -> float:
    """Return the lowest value that a logarithmic axis shows: a tenth of the lowest mean, or a lower end above 0."""
    found = list(estimates)
    means = [e.mean / 10 for e in found if e.mean > 0]
    return min([*means, *(e.low for e in found if e.low is not None and e.low > 0)], default=1.0)


ROW = 40  # characters of a line beside a row of a dot plot; more leave none of a narrow screen, or of a printed column


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

    def marks(self) -> dict[str, list[Mark]]:
        """Return what is drawn of each series."""
        lowest = _lowest(e for cells in self.series.values() for e in cells.values()) if self.log else None
        return {name: _marks(list(cells.items()), lowest) for name, cells in self.series.items()}

    def rows(self) -> dict[str, str]:
        """Return how each category is written beside its row: in lines that leave room for the plot."""
        whole = {category: re.sub(" ([=≤≥]) ", "\u00a0\\1\u00a0", category) for category in self.categories}  # K = 10
        return {category: textwrap.fill(text, ROW) for category, text in whole.items()}

    @property
    def lines_of_a_row(self) -> int:
        return max((row.count("\n") + 1 for row in self.rows().values()), default=1)


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

    def label(self, name: str) -> str | None:
        """What the legend calls a series: nothing, if there is no other and the axis says it."""
        return name if len(self.series) > 1 or name != self.y else None

    def marks(self) -> dict[str, list[Mark]]:
        """Return what is drawn of each series."""
        lowest = _lowest(e for points in self.series.values() for _, e in points) if self.log_y else None
        shown = {name: [(x, e) for x, e in points if x > 0 or not self.log_x] for name, points in self.series.items()}
        return {name: _marks(points, lowest) for name, points in shown.items()}


@dataclass(frozen=True)
class Chart:
    """Panels side by side. `name` is unique and the stem of the chart's files; `caption` goes below it."""

    name: str
    experiment: str
    title: str
    panels: tuple[Dots | Curves, ...]
    runs: tuple[Run, ...]

    @property
    def caption(self) -> str:
        return self.title if self.name == OVERVIEW else f"{self.title} {INTERVALS}"


@checked
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
    lines: dict[str, dict[str, float]] = Field(default_factory=dict)
    claimed: dict[str, str] = Field(default_factory=dict)
    log: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.table

    def metrics(self) -> Named:
        yield from ()  # the table has them

    def charts(self, tables: Sequence[Table], thresholds: dict[str, float]) -> list[Chart]:
        return [
            chart
            for table in tables
            if table.declared == self.table
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


@checked
class LabelNoiseChart:
    """Metrics against the share of random labels, one chart per setup.

    `panels`: the metric of each panel label. `fitted`: as for `Grid`.
    """

    name: str
    experiment: str
    title: str
    panels: dict[str, str]
    fitted: tuple[str, ...] = ()

    def metrics(self) -> Named:
        yield from named("panels", self.panels)
        yield from named("fitted", self.fitted)

    def charts(self, runs: Sequence[Run]) -> list[Chart]:
        own = [run for run in runs if run.experiment == self.experiment and "corruption" in run.config]
        setups = grouped(own, lambda run: run.setup)
        return [chart for setup in setups if (chart := self._chart(setup, len(setups))) is not None]

    def _chart(self, runs: list[Run], setups: int) -> Chart | None:
        """A curve for each kind of wrong labels; true labels, and labels that are all random, are the ends of drawn
        ones."""
        kinds: dict[str, dict[float, list[Run]]] = {}
        for level in grouped(runs, _configuration):
            kind, share = _label_noise(level[0])
            if share is not None:
                kinds.setdefault(kind, {}).setdefault(share, []).extend(level)
        panels = []
        for label, metric in self.panels.items():
            found = {kind: self._points(levels, metric) for kind, levels in kinds.items()}
            curves = {kind: points for kind, points in found.items() if len(points) > 1}
            if curves:
                named = {label if len(curves) == 1 else kind: points for kind, points in curves.items()}
                panels.append(Curves("share of random labels", label, named))
        if not panels:
            return None
        name = self.name if setups == 1 else f"{self.name}_{runs[0].setup[:8]}"
        title = self.title if setups == 1 else f"{self.title} ({runs[0].setup_name})"
        return Chart(name, self.experiment, title, tuple(panels), tuple(runs))

    def _points(self, levels: dict[float, list[Run]], metric: str) -> list[tuple[float, Estimate]]:
        means = ((share, mean_of(comparable_runs(runs, metric, self.fitted), metric)) for share, runs in levels.items())
        return sorted((share, mean) for share, mean in means if mean is not None)


def _label_noise(run: Run) -> tuple[str, float | None]:
    """The kind of a run's wrong labels, and the share that is drawn at random; None if that is not what is varied."""
    kind = str(run.config["corruption"].get("_target_", "")).rpartition(".")[2]
    return "RandomLabels" if kind in ("true_labels", "random_labels") else kind, random_share(run.config)


@checked
class MetricNameChart:
    """Curves whose x values are parts of metric names, one chart per configuration.

    `panels`: for each label of y, a regular expression with the group `x`, and the group `series` if there are several
    curves. `series`: the label of a curve, in which `{}` stands for that group. `vertical`: the label of a vertical
    reference line for each curve, at its `series` over `vertical_divisor`. `log_y`: panels with a logarithmic y axis.
    """

    name: str
    experiment: str
    title: str
    x: str
    panels: dict[str, str]
    series: str = "{}"
    vertical: str = ""
    vertical_divisor: float = 1.0
    log_y: tuple[str, ...] = ()

    def metrics(self) -> Named:
        yield from ()  # patterns, of which no run need have any

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
        for metric in dict.fromkeys(name for run in runs for name in run.metrics):
            match = re.fullmatch(pattern, metric)
            value = mean_of(runs, metric) if match else None
            if match is None or value is None:
                continue
            key = match.groupdict().get("series", "")
            name = self.series.replace("{}", key) if key else label
            curves.setdefault(name, []).append((_number(match["x"], "x", metric), value))
            if self.vertical and key:
                vertical_lines[name] = _number(key, "series", metric) / self.vertical_divisor
        if not curves:
            return None
        return Curves(
            x=self.x,
            y=label,
            series={name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()},
            vertical_lines=vertical_lines,
            vertical_label=self.vertical,
            log_x=True,
            log_y=label in self.log_y,
        )


def _number(text: str, group: str, metric: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"panels: ?P<{group}> is {text!r} in {metric}; allowed: a pattern of numbers") from None


@checked
class HistoryChart:
    """Curves of a `stage`'s history, such as its training loss, against its steps: one for each of `series`, the runs
    that it shows; one chart for each size of their data, the metric `size`.

    `panels`: the column of the history for each label of y. `log_y`: panels with a logarithmic y axis.
    """

    name: str
    experiment: str
    title: str
    stage: str
    panels: dict[str, str]
    series: dict[str, Selection]
    size: str
    log_y: tuple[str, ...] = ()

    def metrics(self) -> Named:
        yield "size=" + self.size, (self.size,)

    def charts(self, runs: Sequence[Run]) -> list[Chart]:
        own = [run for run in runs if run.experiment == self.experiment and run.metrics.get(self.size)]
        drawn = [self._chart(group) for group in grouped(own, lambda run: data_and_size(run, self.size))]
        found = [chart for chart in drawn if chart.panels]
        if len(found) < 2:
            return found
        places = [data_and_size(chart.runs[0], self.size) for chart in found]
        return [replace(one, name=f"{self.name}_{fingerprint(place)[:8]}") for one, place in zip(found, places)]

    def _chart(self, runs: list[Run]) -> Chart:
        """Return the chart of runs on data of one size; without panels if none of them has a curve."""
        shown = {label: curve for name, one in self.series.items() for label, curve in _curves(name, one, runs)}
        used = tuple(run for curve in shown.values() for run in curve)
        histories = {(run.folder, run.report): _history(run, self.stage) for run in used}
        panels = []
        for label, column in self.panels.items():
            curves = {
                name: points
                for name, curve in shown.items()
                if (points := _mean_curve([histories[run.folder, run.report] for run in curve], column))
            }
            if curves:
                panels.append(Curves("step", label, curves, log_x=True, log_y=label in self.log_y))
        place = data_and_size(runs[0], self.size)
        return Chart(self.name, self.experiment, f"{self.title} ({place})", tuple(panels), used)


def _curves(name: str, selection: Selection, runs: Iterable[Run]) -> list[tuple[str, list[Run]]]:
    """Return the runs of each curve of a series, by its label: those of one configuration."""
    found = grouped((run for run in runs if selection.has(run)), _configuration)
    return [(name if len(found) == 1 else f"{name}: {same[0].name}", same) for same in found]


def _history(run: Run, stage: str) -> pd.DataFrame:
    """Return the numbers of the history of a run's stage, by step; empty if there is none, as in an earlier report."""
    if run.report is not None:
        return pd.DataFrame()
    try:
        table = pd.read_csv(run.folder / "history.csv")
        own = table[table["stage"] == stage].drop(columns="stage").apply(pd.to_numeric, errors="coerce")
        return own.dropna(subset="step").drop_duplicates("step", keep="last").set_index("step")
    except (OSError, ValueError, KeyError):
        return pd.DataFrame()


def _mean_curve(histories: Sequence[pd.DataFrame], column: str) -> list[tuple[float, Estimate]]:
    """Return the mean of a column over the runs that have one, at the steps at which each has it or has ended.

    A run that has ended counts with its last value: without it, those that take long would be shown alone."""
    curves = [values for history in histories if len(values := history.get(column, pd.Series(dtype=float)).dropna())]
    found = pd.concat(curves, axis="columns").sort_index() if curves else pd.DataFrame()
    for position, curve in enumerate(curves):
        ended = found.index > curve.index.max()
        found.iloc[ended, position] = curve.loc[curve.index.max()]
    means = ((step, estimate(values.tolist())) for step, values in found.dropna().iterrows())
    return [(float(step), mean) for step, mean in means if mean is not None]


def verdict_chart(verdicts: Sequence[Verdict]) -> Chart | None:
    """Return one chart of all judged claims: each median with its interval, as a signed distance from the threshold,
    positive on the claimed side, as a part of the longest distance of its row; None if no claim is judged."""
    judged = [v for v in verdicts if v.median is not None]
    if not judged:
        return None
    several = len({v.claim.name for v in judged}) < len(judged)
    names = [f"{v.claim.name} ({v.name})" if several else v.claim.name for v in judged]
    counts = Counter(names)  # setups of which no setting that names show is another have one name
    names = [f"{n}, {v.configuration[:8]}" if counts[n] > 1 else n for n, v in zip(names, judged)]
    series: dict[str, dict[str, Estimate]] = {}
    for name, v in zip(names, judged):
        series.setdefault(v.verdict, {})[name] = _distance(v)
    ordered: dict[str, dict[str, Estimate]] = {
        decision: series[decision] for decision in DECISIONS if decision in series
    }
    title = (
        "All judged claims: the median over seeds with its 95 % interval, as a distance from the threshold, "
        "each row in a unit of its own."
    )
    label = "against the claim  ←  threshold  →  for the claim"
    runs = tuple(run for v in judged for run in v.runs)
    return Chart(
        OVERVIEW, OVERVIEW, title, (Dots(label, tuple(names), ordered, {"threshold": 0.0}, exclusive=True),), runs
    )


def _distance(v: Verdict) -> Estimate:
    sign = 1 if v.claim.comparison == "at_least" else -1
    ends = [v.median if end is None else end for end in (v.median, *v.ends)]
    low, middle, high = sorted(sign * (float(end or 0) - v.claim.threshold) for end in ends)
    unit = max(abs(low), abs(high)) or 1.0
    known = v.low is not None
    return Estimate(middle / unit, low / unit if known else None, high / unit if known else None, v.n)


def _configuration(run: Run) -> str:
    return run.configuration
