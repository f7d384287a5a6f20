"""Tables over runs, each cell a mean over seeds. `conf/report/` declares the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from rebuttal.config import checked
from rebuttal.report.gather import Run
from rebuttal.report.latex import escaped
from rebuttal.report.naming import dataset_name, has_settings, labels_name
from rebuttal.report.verdicts import Verdict
from rebuttal.rounding import decimals, fixed, significant
from rebuttal.statistics import Estimate, estimate

Cell = Estimate | str | None
Named = Iterator[tuple[str, tuple[str, ...]]]
"""Where a declaration names metrics, as `key=value`, and the metrics, one of which a run must have."""


@dataclass(frozen=True)
class Table:
    """Labelled rows of cells, computed from `runs`.

    `name` is unique and the stem of the table's files; tables of one declaration share what it calls them, `declared`.
    `corner`: the heading of the row labels. `left_out`: runs whose networks did not fit.
    """

    name: str
    experiment: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    runs: tuple[Run, ...]
    left_out: tuple[Run, ...] = ()
    declared: str = ""

    def text(self) -> pd.DataFrame:
        """Return the table for readers: each mean ± half of its 95 % interval."""
        cells = [[label, *map(format_cell, row)] for label, row in self.rows]
        return pd.DataFrame(cells, columns=[self.corner, *self.columns])

    def numbers(self) -> pd.DataFrame:
        """Return a row for each cell, at full precision."""
        rows = [
            {"row": label, "column": column, "mean": cell.mean, "low": cell.low, "high": cell.high, "n": cell.n}
            for label, row in self.rows
            for column, cell in zip(self.columns, row)
            if isinstance(cell, Estimate)
        ]
        return pd.DataFrame(rows, columns=["row", "column", "mean", "low", "high", "n"])

    def latex(self) -> str:
        """Return a `table` environment in booktabs style, scaled down to the text width if it is wider."""
        body = escaped(self.text()).to_latex(index=False, column_format="l" + "r" * len(self.columns))
        caption = escaped(f"{self.title}. {self.note()}")
        return (
            "\\begin{table}[!htbp]\n\\centering\n"
            f"\\caption{{{caption}}}\n\\label{{tab:{self.name}}}\n"
            f"\\setbox0=\\hbox{{\\small%\n{body.strip()}%\n}}\n"
            "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\box0}\\else\\box0\\fi\n"
            "\\end{table}\n"
        )

    def note(self) -> str:
        """Describe the cells, and the number of seeds behind them."""
        counts = {cell.n for _, row in self.rows for cell in row if isinstance(cell, Estimate)} or {0}
        seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
        note = f"Mean over {seeds} seed{'s' * (max(counts) != 1)}"
        note += " ± half the 95 % t-interval." if max(counts) > 1 else "."
        if self.left_out:
            note += f" Excluded because their networks did not fit: {len(self.left_out)} runs."
        return note


@checked
class Grid:
    """A table for each configuration of `experiment`; a cell is `metric` with {row} and {column} filled in.

    `rows`, `columns`: the text to fill in, by label. `fitted`: training accuracies that must be 1 for a run to count
    (functions are compared at equal fit).
    """

    name: str
    experiment: str
    title: str
    corner: str
    metric: str
    rows: dict[str, str]
    columns: dict[str, str]
    fitted: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Of rows and columns."""
        return (*self.rows, *self.columns)

    def metrics(self) -> Named:
        for label, row in self.rows.items():
            yield f"rows.{label}={row}", tuple(self._metric(row, column) for column in self.columns.values())
        for label, column in self.columns.items():
            yield f"columns.{label}={column}", tuple(self._metric(row, column) for row in self.rows.values())
        yield from named("fitted", self.fitted)

    def _metric(self, row: str, column: str) -> str:
        return self.metric.replace("{row}", row).replace("{column}", column)

    def tables(self, runs: Sequence[Run]) -> list[Table]:
        groups = grouped((run for run in runs if run.experiment == self.experiment), lambda run: run.configuration)
        return [table for group in groups if (table := self._table(group, len(groups)))]

    def _table(self, runs: list[Run], configurations: int) -> Table | None:
        counted = fitted_runs(runs, self.fitted)
        rows = {
            label: tuple(mean_of(counted, self._metric(row, column)) for column in self.columns.values())
            for label, row in self.rows.items()
        }
        nonempty = {label: cells for label, cells in rows.items() if any(cells)}
        kept = [i for i in range(len(self.columns)) if any(cells[i] for cells in nonempty.values())]
        if not nonempty:
            return None
        columns = list(self.columns)
        return Table(
            name=self.name if configurations == 1 else f"{self.name}_{runs[0].configuration[:8]}",
            experiment=self.experiment,
            title=f"{self.title} ({runs[0].name})",
            corner=self.corner,
            columns=tuple(columns[i] for i in kept),
            rows=tuple((label, tuple(cells[i] for i in kept)) for label, cells in nonempty.items()),
            runs=tuple(counted),
            left_out=tuple(run for run in runs if run not in counted),
            declared=self.name,
        )


@checked
class Selection:
    """The runs of one of the `datasets` and of `labels`, as names have them, whose `settings` and `metrics` are these.

    `settings`: by the path of the key, such as `model.hidden`. `one_of`: likewise, several values of each key, of which
    a run has one. What is not given is not compared.
    """

    datasets: tuple[str, ...] = ()
    labels: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    one_of: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)

    def has(self, run: Run) -> bool:
        return (
            (not self.datasets or dataset_name(run.config) in self.datasets)
            and self.labels in (None, labels_name(run.config))
            and has_settings(run.config, self.settings)
            and all(any(has_settings(run.config, {key: v}) for v in values) for key, values in self.one_of.items())
            and all(run.metrics.get(name) == value for name, value in self.metrics.items())
        )


@checked
class CellText(Selection):
    """A text for the runs of a selection."""

    text: str


def data_and_size(run: Run, size: str) -> str:
    """Name a run's data with the metric that is their size, if the run has it."""
    n = run.metrics.get(size)
    return dataset_name(run.config) if n is None else f"{dataset_name(run.config)}, n = {n:,.0f}"


def _text(texts: Sequence[CellText], run: Run) -> str:
    return next((one.text for one in texts if one.has(run)), "")


@checked
class Levels:
    """A row for each configuration of `experiment`, by label noise; a table for each setup, or one for `all_setups`.

    `columns`: the metric of each label. `text_columns`: further columns, each with the texts of its cells; left out if
    all cells are empty. `fitted`: as for `Grid`.
    """

    name: str
    experiment: str
    title: str
    columns: dict[str, str]
    all_setups: bool = False
    text_columns: dict[str, tuple[CellText, ...]] = Field(default_factory=dict)
    fitted: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Of columns: those of rows are the names of configurations."""
        return tuple(self.columns)

    def metrics(self) -> Named:
        yield from named("columns", self.columns)
        yield from named("fitted", self.fitted)

    def tables(self, runs: Sequence[Run]) -> list[Table]:
        own = [run for run in runs if run.experiment == self.experiment]
        setups = [own] if self.all_setups and own else grouped(own, lambda run: run.setup)
        return [self._table(group, len(setups)) for group in setups]

    def _table(self, runs: list[Run], setups: int) -> Table:
        levels = sorted(grouped(runs, lambda run: run.configuration), key=_noise_key)
        counted = fitted_runs(runs, self.fitted)
        texts = {label: text for label, text in self.text_columns.items() if any(_text(text, run) for run in runs)}
        return Table(
            name=self.name if setups == 1 else f"{self.name}_{runs[0].setup[:8]}",
            experiment=self.experiment,
            title=self.title if self.all_setups else f"{self.title} ({_name_without_labels(runs[0])})",
            corner="network" if self.all_setups else "labels",
            columns=(*self.columns, *texts),
            rows=tuple(
                (
                    self._row_label(level[0]),
                    self._means(level) + tuple(_text(text, level[0]) for text in texts.values()),
                )
                for level in levels
            ),
            runs=tuple(counted),
            left_out=tuple(run for run in runs if run not in counted),
            declared=self.name,
        )

    def _means(self, level: list[Run]) -> tuple[Cell, ...]:
        columns = self.columns.values()
        return tuple(mean_of(comparable_runs(level, metric, self.fitted), metric) for metric in columns)

    def _row_label(self, run: Run) -> str:
        return run.name if self.all_setups else labels_name(run.config)


def named(key: str, metrics: Mapping[str, str] | Sequence[str]) -> Named:
    """Yield where a declaration's `key` names each of these metrics."""
    if isinstance(metrics, Mapping):
        yield from ((f"{key}.{label}={metric}", (metric,)) for label, metric in metrics.items())
    else:
        yield from ((f"{key}[{i}]={metric}", (metric,)) for i, metric in enumerate(metrics))


def mean_of(runs: Iterable[Run], metric: str) -> Estimate | None:
    """Return the estimate of a metric over the runs that have it, or None if there are none.

    Also None if the metric is undefined or censored in one of them: the mean of the others would be biased.
    """
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    defined = [value for value in values if value is not None]
    return estimate(defined) if len(defined) == len(values) else None


def fitted_runs(runs: Iterable[Run], accuracies: Sequence[str]) -> list[Run]:
    """Return the runs in which all of these training accuracies are 1: functions are compared at equal fit."""
    return [run for run in runs if all(run.metrics.get(accuracy) == 1 for accuracy in accuracies)]


def comparable_runs(runs: Sequence[Run], metric: str, accuracies: Sequence[str]) -> Sequence[Run]:
    """Return the runs over which a metric may be averaged: those that fitted.

    Times to fit are averaged over all runs, because excluding the slow ones would bias the mean.
    """
    return runs if metric.endswith("_to_fit") else fitted_runs(runs, accuracies)


def grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def format_cell(cell: Cell) -> str:
    """Return a cell as text: the half-width with two significant digits, the mean with as many decimals.

    Very narrow or missing intervals: the mean with four or five significant digits. What is not 1 is not rounded to it.
    """
    if cell is None or isinstance(cell, str):
        return cell or "–"
    half = (cell.high - cell.low) / 2 if cell.high is not None and cell.low is not None else 0.0
    if not half:
        return _significant(cell.mean, 4, (1.0,))
    if half < 1e-4 * abs(cell.mean):
        return f"{_significant(cell.mean, 5, (1.0,))} ± {half:.1g}"
    digits = decimals((cell.mean,), half, (1.0,))
    return f"{cell.mean:,.{digits}f} ± {half:,.{digits}f}"


def format_verdict(v: Verdict) -> str:
    """Return the median with its interval; the values themselves if they are too few for one. No number is rounded to
    the threshold, or across it."""
    limits = (v.claim.threshold, 1.0)
    if v.median is None:
        return "–"
    if v.low is None or v.high is None:
        found = sorted(zip(v.values, v.bounds))
        return ", ".join(BOUNDS[bound] + _significant(value, 4, limits) for value, bound in found)
    return BOUNDS[v.bound] + format_interval(v.median, v.low, v.high, limits)


BOUNDS = {0: "", 1: "≥ ", -1: "≤ "}  # before a number that is known as at least, or at most, so much


def format_interval(middle: float, low: float, high: float, limits: Sequence[float] = (1.0,)) -> str:
    """Return a value with the ends of its interval, to two significant digits of half its width, and to as many more as
    keep each on its side of the `limits`. Ends may be infinite."""
    numbers = [number for number in (middle, low, high) if math.isfinite(number)]
    half = (max(numbers) - min(numbers)) / 2
    if len(numbers) == 3 and half < 1e-4 * abs(middle):
        return _significant(middle, 4, limits)
    digits = decimals(numbers, half, limits)
    shown, least, most = (
        f"{number:,.{digits}f}" if math.isfinite(number) else ("-∞" if number < 0 else "∞")
        for number in (middle, low, high)
    )
    return f"{shown} ({least} to {most})"


def _significant(number: float, digits: int, limits: Sequence[float]) -> str:
    return fixed(number, 0, limits) if abs(number) >= 1000 else significant(number, digits, limits)


def _noise_key(runs: list[Run]) -> tuple[str, float]:
    return _name_without_labels(runs[0]), runs[0].metrics.get("fit/label_noise") or 0.0


def _name_without_labels(run: Run) -> str:
    return run.name.replace(f", {labels_name(run.config)}", "")
