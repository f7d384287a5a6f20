"""The tables and charts of a report: those that are declared, and plain ones of the other experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rebuttal.report.charts import RESERVED, Chart, DotChart
from rebuttal.report.claims import Claim
from rebuttal.report.declarations import Declaration
from rebuttal.report.gather import Run
from rebuttal.report.plain import plain_charts, plain_tables
from rebuttal.report.tables import Table

Named = TypeVar("Named", Table, Chart)


def headings(declared: Sequence[Declaration], runs: Sequence[Run]) -> dict[str, str]:
    """Return the heading of each experiment that has runs, in the order of the report."""
    present = {run.experiment for run in runs}
    known = {one.experiment: one.heading for one in declared if one.experiment in present}
    return known | {name: name for name in sorted(present - set(known))}


def make_tables(declared: Sequence[Declaration], runs: Sequence[Run]) -> list[Table]:
    """Return the tables in the order of the report, those of experiments without a declaration last."""
    tables = [table for one in declared for spec in one.tables for table in spec.tables(runs)]
    return tables + _apart(plain_tables(runs, {one.experiment for one in declared}), tables)


def make_charts(
    declared: Sequence[Declaration], runs: Sequence[Run], tables: Sequence[Table], claims: Sequence[Claim]
) -> list[Chart]:
    """Return the charts in the order of the report. Some are drawn from `tables`; `claims` give reference lines."""
    thresholds = {claim.id: claim.threshold for claim in claims}
    charts = [
        chart
        for one in declared
        for spec in one.charts
        for chart in (spec.charts(tables, thresholds) if isinstance(spec, DotChart) else spec.charts(runs))
    ]
    return charts + _apart(plain_charts(runs, {one.experiment for one in declared}), charts)


def _apart(plain: list[Named], declared: Sequence[Named]) -> list[Named]:
    """Return plain ones, under another name where a declared one or the report itself has it: names are those of
    files."""
    taken = {*RESERVED, *(one.name for one in declared)}
    return [replace(one, name=f"{one.name}_metrics") if one.name in taken else one for one in plain]
