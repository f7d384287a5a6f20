"""Groups of runs beside each other, and trends, with the tests that go with them. These describe; what is claimed is
judged in `rebuttal.analysis.claims`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from rebuttal.analysis.gather import Run
from rebuttal.analysis.naming import setup_name
from rebuttal.analysis.statistics import (
    Times,
    compare,
    curvature,
    holm,
    log_rank,
    median_time,
    rank_correlation_interval,
)
from rebuttal.analysis.tables import comparable_runs, fitted_runs, grouped
from rebuttal.seeds import generator

Row = dict[str, object]


@dataclass(frozen=True)
class Contrast:
    """Two metrics of the same runs, `a` and `b`, each a label and the metric's name; in each configuration of
    `experiment`. `fitted`: shares of training labels that must be 1 for a run to count."""

    experiment: str
    measure: str
    a: tuple[str, str]
    b: tuple[str, str]
    fitted: tuple[str, ...] = ()

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        found = []
        for group in grouped((run for run in runs if run.experiment == self.experiment), _configuration):
            counted = fitted_runs(group, self.fitted)
            a, b = (_by_seed(counted, metric) for _, metric in (self.a, self.b))
            if a and b:
                head = {"experiment": self.experiment, "configuration": group[0].name, "measure": self.measure}
                found.append(head | {"a": self.a[0], "b": self.b[0]} | asdict(compare(a, b)))
        return found


@dataclass(frozen=True)
class Race:
    """The optimiser steps until two groups of networks fit every label, as censored times: stages `stage_a` and
    `stage_b` of the same runs, or runs told apart by what `between` calls them."""

    experiment: str
    a: str
    b: str
    stage_a: str
    stage_b: str
    between: Callable[[dict], str] | None = None

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        found = []
        for group in grouped((run for run in runs if run.experiment == self.experiment), _setup):
            a, b = self._times(group, self.a, self.stage_a), self._times(group, self.b, self.stage_b)
            if a and b:
                row = {
                    "experiment": self.experiment,
                    "configuration": setup_name(group[0].config),
                    "a": self.a,
                    "b": self.b,
                }
                for end, times in (("a", a), ("b", b)):
                    row |= {f"n_{end}": len(times), f"fitted_{end}": sum(reached for _, reached in times)}
                    row |= {f"median_steps_{end}": median_time(times)}
                found.append(row | {"p_log_rank": log_rank(a, b)})
        return found

    def _times(self, runs: Sequence[Run], name: str, stage: str) -> Times:
        chosen = [run for run in runs if self.between is None or self.between(run.config) == name]
        found = []
        for run in chosen:
            reached, watched = (run.metrics.get(f"{stage}/{key}") for key in ("steps_to_fit", "steps"))
            if watched is not None:
                found.append((watched if reached is None else reached, reached is not None))
        return found


@dataclass(frozen=True)
class Trend:
    """A metric against another over the runs of a setup: rank correlation, and whether a line is enough. None where the
    metric is undefined in some run. `fitted`: as of `Contrast`."""

    experiment: str
    measure: str
    metric: str
    along: str
    fitted: tuple[str, ...] = ()

    def rows(self, runs: Sequence[Run]) -> list[Row]:
        found = []
        for group in grouped((run for run in runs if run.experiment == self.experiment), _setup):
            known = [
                run
                for run in comparable_runs(group, self.metric, self.fitted)
                if {self.metric, self.along} <= set(run.metrics)
            ]
            x, y = ([run.metrics[name] for run in known] for name in (self.along, self.metric))
            if None in x or None in y:
                continue
            seeds = [run.seed for run in known]
            rho, low, high = rank_correlation_interval(x, y, seeds, generator(0, "trend", self.measure))
            if rho is None:
                continue
            line, parabola, p = curvature(x, y, seeds) or (None, None, None)
            head = {"experiment": self.experiment, "measure": self.measure, "runs": len(known)}
            numbers = {"spearman": rho, "low": low, "high": high}
            found.append(head | numbers | {"r2_line": line, "r2_parabola": parabola, "p_parabola": p})
        return found


def contrast_table(contrasts: Sequence[Contrast], runs: Sequence[Run]) -> pd.DataFrame:
    """A row a contrast and configuration. `p_holm`: the paired t-test's (Welch's where not paired), Holm-corrected over
    this table."""
    rows = [row for contrast in contrasts for row in contrast.rows(runs)]
    p_values = [row["p_paired"] if row["paired"] else row["p_welch"] for row in rows]
    return pd.DataFrame([row | {"p_holm": p} for row, p in zip(rows, holm(p_values))])


def race_table(races: Sequence[Race], runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([row for race in races for row in race.rows(runs)])


def trend_table(trends: Sequence[Trend], runs: Sequence[Run]) -> pd.DataFrame:
    return pd.DataFrame([row for trend in trends for row in trend.rows(runs)])


def _by_seed(runs: Sequence[Run], metric: str) -> dict[int, float]:
    return {run.seed: value for run in runs if (value := run.metrics.get(metric)) is not None}


def _configuration(run: Run) -> str:
    return run.configuration


def _setup(run: Run) -> str:
    return run.setup
