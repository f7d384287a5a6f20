"""Comparisons of groups of runs, and trends, with their tests. They describe; `rebuttal.report.verdicts` judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import pandas as pd
from pydantic import Field

from rebuttal.config import checked
from rebuttal.report.gather import Run, independent_runs
from rebuttal.report.naming import has_settings, labels_name
from rebuttal.report.tables import Named, comparable_runs, fitted_runs, grouped, named
from rebuttal.statistics import (
    Comparison,
    Times,
    compare,
    curvature,
    holm,
    log_rank,
    median_time,
    rank_correlation_of_seeds,
)

Row = dict[str, str | float | bool | None]


@checked
class Contrast:
    """Two metrics of the same runs, compared on each configuration of `experiment`, seed by seed.

    `a`, `b`: label and metric name. `fitted`: training accuracies that must be 1 for a run to count. Where a metric is
    undefined for a seed, the means are those of the others, and nothing is tested: the others need not be like it.
    """

    experiment: str
    measure: str
    a: tuple[str, str]
    b: tuple[str, str]
    fitted: tuple[str, ...] = ()

    def metrics(self) -> Named:
        for key, (_, metric) in (("a", self.a), ("b", self.b)):
            yield f"{key}={metric}", (metric,)
        yield from named("fitted", self.fitted)

    def comparisons(self, runs: Sequence[Run]) -> list[tuple[Row, Comparison]]:
        """Return the comparison on each configuration that has both metrics, with the columns that identify it."""
        found = []
        for group in grouped((run for run in runs if run.experiment == self.experiment), _configuration):
            counted, _ = independent_runs(fitted_runs(group, self.fitted))
            both = [run for run in counted if all(name in run.metrics for _, name in (self.a, self.b))]
            a, b = (_by_seed(both, metric) for _, metric in (self.a, self.b))
            known = a.keys() & b.keys()
            if known:
                head: Row = {"experiment": self.experiment, "configuration": group[0].name, "measure": self.measure}
                head |= {"a": self.a[0], "b": self.b[0], "undefined": len(both) - len(known)}
                compared = compare(*({seed: of[seed] for seed in known} for of in (a, b)))
                found.append((head, compared if len(known) == len(both) else _untested(compared)))
        return found


@checked
class TimeToFit:
    """The optimiser steps until two groups of networks fit every label, as right-censored times.

    The groups are the stages `stage_a` and `stage_b` of the same runs, or with `by_labels` of different runs: those
    trained on the labels that `a` names, and those on the labels that `b` names; a kind of labels is a group of its own
    where several have one name. A seed counts once in a group.
    """

    experiment: str
    a: str
    b: str
    stage_a: str
    stage_b: str
    by_labels: bool = False

    def metrics(self) -> Named:
        for key, stage in (("stage_a", self.stage_a), ("stage_b", self.stage_b)):
            yield f"{key}={stage}", (f"{stage}/steps",)

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        """Return a row for each two kinds of labels of a setup; if all runs have both groups, one a configuration."""
        own = [run for run in runs if run.experiment == self.experiment]
        rows = []
        for group in grouped(own, _setup if self.by_labels else _configuration):
            kinds = self._kinds(group, self.a).items(), self._kinds(group, self.b).items()
            for (name_a, of_a), (name_b, of_b) in product(*kinds):
                a, b = self._times(of_a, self.stage_a), self._times(of_b, self.stage_b)
                if a and b:
                    setup = group[0].setup_name if self.by_labels else group[0].name
                    rows.append(self._row({"configuration": setup, "a": name_a, "b": name_b}, a, b))
        return rows

    def _kinds(self, runs: list[Run], name: str) -> dict[str, list[Run]]:
        """Return the runs of a group or, by its labels, of each kind of them, with its configuration if there are
        several."""
        if not self.by_labels:
            return {name: runs}
        kinds = grouped((run for run in runs if labels_name(run.config) == name), _configuration)
        return {name if len(kinds) == 1 else f"{name} ({kind[0].name})": kind for kind in kinds}

    def _row(self, head: Row, a: Times, b: Times) -> Row:
        row = {"experiment": self.experiment, **head}
        for group, times in (("a", a), ("b", b)):
            row[f"n_{group}"] = len(times)
            row[f"fitted_{group}"] = sum(reached for _, reached in times)
            row[f"median_steps_{group}"] = median_time(times)
        return row | {"p_log_rank": log_rank(a, b)}

    def _times(self, runs: Sequence[Run], stage: str) -> Times:
        times = []
        for run in independent_runs(runs)[0]:
            steps_to_fit, steps = (run.metrics.get(f"{stage}/{key}") for key in ("steps_to_fit", "steps"))
            if steps is not None:
                times.append((steps if steps_to_fit is None else steps_to_fit, steps_to_fit is not None))
        return times


@checked
class Trend:
    """A metric against another, `along`, over the runs of a setup: rank correlation, over all runs and the lowest and
    highest of one seed, and whether a line is enough.

    `settings`: the value of each key of the config of a run that counts. `fitted`: as for `Contrast`.
    """

    experiment: str
    measure: str
    metric: str
    along: str
    settings: dict[str, Any] = Field(default_factory=dict)
    fitted: tuple[str, ...] = ()

    def metrics(self) -> Named:
        for key, metric in (("metric", self.metric), ("along", self.along)):
            yield f"{key}={metric}", (metric,)
        yield from named("fitted", self.fitted)

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        """Return a row for each setup in which both metrics vary and are defined in all runs that have them."""
        own = [run for run in runs if run.experiment == self.experiment and has_settings(run.config, self.settings)]
        return [row for group in grouped(own, _setup) if (row := self._row(group)) is not None]

    def _row(self, group: Sequence[Run]) -> Row | None:
        known = [
            run
            for run in comparable_runs(group, self.metric, self.fitted)
            if {self.metric, self.along} <= set(run.metrics)
        ]
        x, y = (_defined(known, metric) for metric in (self.along, self.metric))
        if x is None or y is None:
            return None
        seeds = [run.seed for run in known]
        rho, lowest, highest = rank_correlation_of_seeds(x, y, seeds)
        if rho is None:
            return None
        line, parabola, p = curvature(x, y, seeds) or (None, None, None)
        head: Row = {"experiment": self.experiment, "configuration": group[0].setup_name, "measure": self.measure}
        head |= {"along": self.along, "runs": len(known)}
        correlation: Row = {"spearman": rho, "lowest_seed": lowest, "highest_seed": highest}
        return head | correlation | {"r2_line": line, "r2_parabola": parabola, "p_parabola": p}


def contrast_table(contrasts: Sequence[Contrast], runs: Sequence[Run]) -> pd.DataFrame:
    """Return a row for each contrast and configuration.

    `p_holm`: p of the paired t-test, or Welch's if the groups are not paired, Holm-corrected over this table.
    """
    found = [comparison for contrast in contrasts for comparison in contrast.comparisons(runs)]
    adjusted = holm([c.p_paired if c.paired else c.p_welch for _, c in found])
    return pd.DataFrame([head | asdict(c) | {"p_holm": p} for (head, c), p in zip(found, adjusted)])


def time_table(times: Sequence[TimeToFit], runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([row for time in times for row in time.rows(runs)])


def trend_table(trends: Sequence[Trend], runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([row for trend in trends for row in trend.rows(runs)])


def _by_seed(runs: Sequence[Run], metric: str) -> dict[int, float]:
    return {run.seed: value for run in runs if (value := run.metrics[metric]) is not None}


def _untested(found: Comparison) -> Comparison:
    """The comparison without what generalizes from its seeds."""
    nothing: dict[str, Any] = dict.fromkeys(("low", "high", "effect_size", "p_paired", "p_welch", "p_mann_whitney"))
    return replace(found, **nothing)


def _defined(runs: Sequence[Run], metric: str) -> list[float] | None:
    """Return the metric of each run, or None if it is undefined in one of them."""
    values = [value for run in runs if (value := run.metrics[metric]) is not None]
    return values if len(values) == len(runs) else None


def _configuration(run: Run) -> str:
    return run.configuration


def _setup(run: Run) -> str:
    return run.setup
