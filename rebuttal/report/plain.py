"""Tables and charts of experiments that are not declared, and declared charts of metrics over what was swept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rebuttal.config import checked
from rebuttal.report.charts import Chart, Curves
from rebuttal.report.gather import Run
from rebuttal.report.naming import swept
from rebuttal.report.tables import Named, Table, grouped, mean_of, named
from rebuttal.statistics import Estimate

MAX_COLUMNS = 6  # a table of more configurations has a row for each
MAX_PANELS = 6


@dataclass(frozen=True)
class _Own:
    """The runs of one experiment, by configuration, and the metrics that are not the ends of another's interval.

    `key`: the one number that was swept, and `values` those of the configurations, in order; None if there is none.
    """

    experiment: str
    configurations: list[list[Run]]
    metrics: tuple[str, ...]
    key: str | None
    values: tuple[float, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for runs in self.configurations for run in runs)

    def cells(self, metric: str) -> tuple[Estimate | None, ...]:
        return tuple(mean_of(runs, metric) for runs in self.configurations)


@checked
class SweptChart:
    """Metrics over the one number that was swept, such as a width; no chart if none was.

    `panels`: the metric of each label of y.
    """

    name: str
    experiment: str
    title: str
    panels: dict[str, str]

    def metrics(self) -> Named:
        yield from named("panels", self.panels)

    def charts(self, runs: Sequence[Run]) -> list[Chart]:
        found = [run for run in runs if run.experiment == self.experiment]
        own = _own(found) if found else None
        if own is None or own.key is None:
            return []
        drawn = [_panel(own, metric, own.key, label) for label, metric in self.panels.items()]
        panels = tuple(panel for panel in drawn if panel is not None)
        return [Chart(self.name, self.experiment, self.title, panels, own.runs)] if panels else []


def plain_tables(runs: Sequence[Run], declared: set[str]) -> list[Table]:
    """Return a table of all metrics for each experiment that is not among those declared."""
    return [_table(own) for own in _undeclared(runs, declared)]


def plain_charts(runs: Sequence[Run], declared: set[str]) -> list[Chart]:
    """Return a chart of the metrics over what was swept, for each experiment not declared that swept one number."""
    return [chart for own in _undeclared(runs, declared) if (chart := _chart(own)) is not None]


def _undeclared(runs: Sequence[Run], declared: set[str]) -> list[_Own]:
    experiments = grouped((run for run in runs if run.experiment not in declared), lambda run: run.experiment)
    return [_own(experiment) for experiment in experiments]


def _own(runs: list[Run]) -> _Own:
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    ends = {f"{name}{end}" for name in names for end in ("_low", "_high")}
    configurations = grouped(runs, lambda run: run.configuration)
    key, values = swept([same[0].config for same in configurations])
    if key is not None:
        configurations = [configurations[i] for i in sorted(range(len(values)), key=values.__getitem__)]
    metrics = tuple(name for name in names if name not in ends)
    return _Own(runs[0].experiment, configurations, metrics, key, tuple(sorted(values)))


def _table(own: _Own) -> Table:
    names = tuple(runs[0].name for runs in own.configurations)
    rows = tuple((metric, own.cells(metric)) for metric in own.metrics)
    columns, corner = names, "metric"
    if len(names) > MAX_COLUMNS:
        rows = tuple(zip(names, zip(*(cells for _, cells in rows))))
        columns, corner = own.metrics, "configuration"
    return Table(own.experiment, own.experiment, "All metrics", corner, columns, rows, own.runs)


def _chart(own: _Own) -> Chart | None:
    if own.key is None:
        return None
    panels = [panel for metric in own.metrics if (panel := _panel(own, metric, own.key, metric)) is not None]
    if not panels:
        return None
    return Chart(own.experiment, own.experiment, f"The metrics over {own.key}.", tuple(panels[:MAX_PANELS]), own.runs)


def _panel(own: _Own, metric: str, key: str, label: str) -> Curves | None:
    """Return the metric as a curve; None if it is not defined at two values, or is the same at all."""
    found = [(x, cell) for x, cell in zip(own.values, own.cells(metric)) if cell is not None]
    if len(found) < 2 or len({cell.mean for _, cell in found}) == 1:
        return None
    wide = own.values[0] > 0 and own.values[-1] >= 100 * own.values[0]
    return Curves(key, label, {label: found}, log_x=wide)
