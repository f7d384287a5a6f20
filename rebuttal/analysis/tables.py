"""Tables over runs: each cell a mean over seeds. Which tables there are: `rebuttal.analysis.contents`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from rebuttal.analysis.gather import Run
from rebuttal.analysis.latex import escaped
from rebuttal.analysis.naming import labels_name
from rebuttal.analysis.statistics import Estimate, estimate

Cell = Estimate | str | None


@dataclass(frozen=True)
class Table:
    """Labelled rows of cells, from `runs`; `left_out` are the runs whose networks did not fit. `name` is unique, and
    the stem of its files."""

    name: str
    experiment: str
    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    runs: tuple[Run, ...]
    left_out: tuple[Run, ...] = ()

    def text(self) -> pd.DataFrame:
        """As it is read: mean ± half the 95 % interval."""
        cells = [[label, *map(shown, row)] for label, row in self.rows]
        return pd.DataFrame(cells, columns=[self.corner, *self.columns])

    def numbers(self) -> pd.DataFrame:
        """A row a cell with its numbers in full."""
        found = [
            {"row": label, "column": column, "mean": cell.mean, "low": cell.low, "high": cell.high, "n": cell.n}
            for label, row in self.rows
            for column, cell in zip(self.columns, row)
            if isinstance(cell, Estimate)
        ]
        return pd.DataFrame(found, columns=["row", "column", "mean", "low", "high", "n"])

    def latex(self) -> str:
        """A `table` environment in the style of booktabs, no wider than the text."""
        body = escaped(self.text()).to_latex(index=False, column_format="l" + "r" * len(self.columns))
        caption = escaped(f"{self.title}. {self.said()}")
        return (
            "\\begin{table}[!htbp]\n\\centering\n"
            f"\\caption{{{caption}}}\n\\label{{tab:{self.name}}}\n"
            f"\\setbox0=\\hbox{{\\small%\n{body.strip()}%\n}}\n"
            "\\ifdim\\wd0>\\linewidth\\resizebox{\\linewidth}{!}{\\box0}\\else\\box0\\fi\n"
            "\\end{table}\n"
        )

    def said(self) -> str:
        """What the cells are, and on how many seeds."""
        said = f"Mean over {len({run.seed for run in self.runs})} seeds ± half the 95 % t-interval."
        if self.left_out:
            said += f" Left out, because their networks did not fit: {len(self.left_out)} runs."
        return said


@dataclass(frozen=True)
class Grid:
    """A table for each configuration of `experiment`: the cell is `metric` with {row} and {column} filled in.

    `rows`, `columns`: what fills it by its label. `fitted`: shares of the training labels that must be 1 for a run to
    count (comparison at equal fit)."""

    name: str
    experiment: str
    title: str
    corner: str
    metric: str
    rows: dict[str, str]
    columns: dict[str, str]
    fitted: tuple[str, ...] = ()

    def tables(self, runs: Sequence[Run]) -> list[Table]:
        groups = grouped((run for run in runs if run.experiment == self.experiment), lambda run: run.configuration)
        return [table for group in groups if (table := self._table(group, len(groups)))]

    def _table(self, runs: list[Run], configurations: int) -> Table | None:
        counted = fitted_runs(runs, self.fitted)
        rows = {
            label: tuple(
                mean_of(counted, self.metric.format(row=row, column=column)) for column in self.columns.values()
            )
            for label, row in self.rows.items()
        }
        known = {label: cells for label, cells in rows.items() if any(cells)}
        kept = [i for i in range(len(self.columns)) if any(cells[i] for cells in known.values())]
        if not known:
            return None
        columns = list(self.columns)
        return Table(
            name=self.name if configurations == 1 else f"{self.name}_{runs[0].configuration[:8]}",
            experiment=self.experiment,
            title=f"{self.title} ({runs[0].name})",
            corner=self.corner,
            columns=tuple(columns[i] for i in kept),
            rows=tuple((label, tuple(cells[i] for i in kept)) for label, cells in known.items()),
            runs=tuple(counted),
            left_out=tuple(run for run in runs if run not in counted),
        )


@dataclass(frozen=True)
class Levels:
    """A row for each configuration of `experiment`; a table for each `setup`, or one for `all_setups`.

    `columns`: metrics by label. `beside`: further columns of words, from a run. `fitted`: as of `Grid`."""

    name: str
    experiment: str
    title: str
    columns: dict[str, str]
    all_setups: bool = False
    beside: dict[str, Callable[[Run], str]] = field(default_factory=dict)
    fitted: tuple[str, ...] = ()

    def tables(self, runs: Sequence[Run]) -> list[Table]:
        own = [run for run in runs if run.experiment == self.experiment]
        setups = [own] if self.all_setups and own else grouped(own, lambda run: run.setup)
        return [self._table(group, len(setups)) for group in setups]

    def _table(self, runs: list[Run], setups: int) -> Table:
        levels = sorted(grouped(runs, lambda run: run.configuration), key=_by_noise)
        columns = self.columns.values()
        rows = []
        for level in levels:
            measured = tuple(mean_of(comparable_runs(level, metric, self.fitted), metric) for metric in columns)
            rows.append((self._row_name(level[0]), measured + tuple(say(level[0]) for say in self.beside.values())))
        return Table(
            name=self.name if setups == 1 else f"{self.name}_{runs[0].setup[:8]}",
            experiment=self.experiment,
            title=self.title if self.all_setups else f"{self.title} ({_without_labels(runs[0])})",
            corner="network" if self.all_setups else "labels",
            columns=(*self.columns, *self.beside),
            rows=tuple(rows),
            runs=tuple(fitted_runs(runs, self.fitted)),
            left_out=tuple(run for run in runs if run not in fitted_runs(runs, self.fitted)),
        )

    def _row_name(self, run: Run) -> str:
        return run.name if self.all_setups else labels_name(run.config)


def mean_of(runs: Iterable[Run], metric: str) -> Estimate | None:
    """The estimate of a metric over runs, null where no run has it, or some run has it undefined or censored: a mean of
    the others would flatter it."""
    values = [run.metrics[metric] for run in runs if metric in run.metrics]
    return None if None in values else estimate(values)


def fitted_runs(runs: Iterable[Run], shares: Sequence[str]) -> list[Run]:
    """Those in which each of these shares of the training labels is 1: functions are compared at equal fit."""
    return [run for run in runs if all(run.metrics.get(share) == 1 for share in shares)]


def comparable_runs(runs: Sequence[Run], metric: str, shares: Sequence[str]) -> Sequence[Run]:
    """The runs over which a metric may be averaged: those that fitted, but for a time to fit all, because to leave out
    the slow would flatter it."""
    return runs if metric.endswith("_to_fit") else fitted_runs(runs, shares)


def grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def shown(cell: Cell) -> str:
    """A cell as words: the half-width with two digits, the mean with as many places, but no more than five digits."""
    if cell is None or isinstance(cell, str):
        return cell or "–"
    half = (cell.high - cell.low) / 2 if cell.high is not None and cell.low is not None else 0.0
    if not half:
        return f"{cell.mean:,.0f}" if abs(cell.mean) >= 1000 else f"{cell.mean:.4g}"
    if half < 1e-4 * abs(cell.mean):
        return f"{cell.mean:.5g} ± {half:.1g}"
    places = max(0, 1 - math.floor(math.log10(half)))
    return f"{cell.mean:,.{places}f} ± {half:,.{places}f}"


def _by_noise(runs: list[Run]) -> tuple[str, float]:
    return _without_labels(runs[0]), runs[0].metrics.get("fit/label_noise") or 0.0


def _without_labels(run: Run) -> str:
    return run.name.replace(f", {labels_name(run.config)}", "")
