"""Tables of our numbers beside published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rebuttal.config import checked
from rebuttal.report.gather import Run
from rebuttal.report.tables import Cell, Named, Selection, Table, data_and_size, grouped, mean_of, named
from rebuttal.statistics import Estimate


@checked
class PublishedRow(Selection):
    """The published `values`, by the label of their column, of the runs of a selection; a text says what came out in
    place of a number."""

    values: dict[str, float | str]


@checked
class Published:
    """A row for each of the published `rows` and each configuration of `experiment` that it is about; one that was not
    run says so. `columns`: the metric of each label, beside which stand the published value and, for runs that are
    `comparable`, our mean less that, and whether it lies within our interval. `size`: the metric that labels of rows
    show as n."""

    name: str
    experiment: str
    title: str
    columns: dict[str, str]
    rows: dict[str, PublishedRow]
    size: str
    comparable: tuple[Selection, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of columns, by which a chart can show them."""
        return tuple(self.columns)

    def metrics(self) -> Named:
        yield from named("columns", self.columns)
        yield "size=" + self.size, (self.size,)

    def tables(self, runs: Sequence[Run]) -> list[Table]:
        own = tuple(run for run in runs if run.experiment == self.experiment)
        if not own:
            return []
        headings = [
            heading
            for label in self.columns
            for heading in (label, f"{label}, published", f"{label}: difference", f"{label}: within")
        ]
        rows = tuple(row for label, one in self.rows.items() for row in self._rows(label, one, own))
        return [
            Table(
                self.name, self.experiment, self.title, "network", ("seeds", *headings), rows, own, declared=self.name
            )
        ]

    def _rows(self, label: str, row: PublishedRow, runs: Sequence[Run]) -> list[tuple[str, tuple[Cell, ...]]]:
        found = grouped((run for run in runs if row.has(run)), lambda run: run.configuration)
        if not found:
            return [(label, self._cells(row, []))]
        places = [data_and_size(same[0], self.size) for same in found]
        unique = len(set(places)) == len(places)
        return [
            (f"{label}: {place if unique else same[0].name}", self._cells(row, same))
            for place, same in zip(places, found)
        ]

    def _cells(self, row: PublishedRow, runs: Sequence[Run]) -> tuple[Cell, ...]:
        cells: list[Cell] = [str(len({run.seed for run in runs})) if runs else "not run"]
        comparable = any(one.has(run) for one in self.comparable for run in runs[:1])
        for label, metric in self.columns.items():
            ours, theirs = mean_of(runs, metric), row.values.get(label)
            shown = f"{theirs:g}" if isinstance(theirs, float) else theirs
            cells += [ours, shown, *(_compared(ours, theirs) if comparable else (None, None))]
        return tuple(cells)


def _compared(ours: Estimate | None, theirs: float | str | None) -> tuple[Cell, Cell]:
    """Return our mean less the published value, and whether that lies within our interval, where there is one."""
    if ours is None or not isinstance(theirs, float):
        return None, None
    if ours.low is None or ours.high is None:
        return replace(ours, mean=ours.mean - theirs), None
    difference = Estimate(ours.mean - theirs, ours.low - theirs, ours.high - theirs, ours.n)
    return difference, "yes" if ours.low <= theirs <= ours.high else "no"
