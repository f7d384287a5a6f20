"""The content of a report as data: runs, verdicts, tables, charts, comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rebuttal.report.charts import Chart, verdict_chart
from rebuttal.report.claims import LEDGER, read_claims
from rebuttal.report.comparisons import Contrast, TimeToFit, Trend, contrast_table, time_table, trend_table
from rebuttal.report.contents import headings, make_charts, make_tables
from rebuttal.report.declarations import check_claimed, read_declarations, unknown_metrics
from rebuttal.report.gather import Gathered, gather, independent_runs
from rebuttal.report.tables import Table, format_verdict
from rebuttal.report.verdicts import DECISIONS, Verdict, claims_by_region, judge


@dataclass(frozen=True)
class Results:
    """The content of a report.

    `unjudged`: how many runs no verdict is about, because their numbers mean nothing. `repeated`: how many are in no
    number, because they replicate none (`independent_runs`). `overview`: the chart of all judged claims. `headings`: of
    each experiment with runs, in order. `contrasts`, `times`, `trends`: the tables of `rebuttal.report.comparisons`.
    `unknown`: what is declared of metrics that no run has.
    """

    gathered: Gathered
    unjudged: int
    repeated: int
    verdicts: list[Verdict]
    headings: dict[str, str]
    tables: list[Table]
    overview: Chart | None
    charts: list[Chart]
    contrasts: pd.DataFrame
    times: pd.DataFrame
    trends: pd.DataFrame
    unknown: list[str]

    @property
    def all_charts(self) -> list[Chart]:
        return [*([self.overview] if self.overview else []), *self.charts]

    def claims(self) -> pd.DataFrame:
        """Return a row per claim and configuration; a claim that is not run has the command that would run it."""
        return pd.DataFrame([_claim_row(verdict) for verdict in self.verdicts])

    def by_region(self) -> pd.DataFrame:
        """Return a row per claim that is about several regions: in which of them it has which verdict."""
        rows = [_region_row(claim) for claim in claims_by_region(self.verdicts).values()]
        return pd.DataFrame(rows, columns=["claim", "statement", *DECISIONS])

    def problems(self) -> pd.DataFrame:
        """Return a row per excluded run."""
        rows = [(str(p.folder), p.status, p.why) for p in self.gathered.problems]
        return pd.DataFrame(rows, columns=["folder", "status", "why"])

    def notes(self) -> list[str]:
        """Return warnings about the runs, one line each: excluded runs, mixed versions of rebuttal, and
        declarations of metrics that no run has."""
        counts = Counter(problem.status for problem in self.gathered.problems)
        notes = [f"runs excluded as {status}: {count}" for status, count in counts.items()]
        if self.unjudged:
            notes.append(f"runs that no claim is judged on (debug=tiny): {self.unjudged}; --debug judges them too")
        if self.repeated:
            notes.append(
                f"runs with the seed or a network of another of their configuration, in no number: {self.repeated}"
            )
        versions = self.gathered.versions()
        if len(versions) > 1:
            mixed = ", ".join(f"{version} ({count} runs)" for version, count in sorted(versions.items()))
            notes.append(f"runs of different versions of rebuttal are averaged together: {mixed}")
        return notes + self.unknown


def find_results(
    folders: Iterable[str | Path],
    ledger: str | Path = LEDGER,
    debug: bool = False,
    declarations: Iterable[str | Path] = (),
) -> Results:
    """Read every run below `folders`, judge the claims of `ledger` on them, and compute the tables and charts.

    `debug`: claims and contrasts also on runs of debug size. `declarations`: folders with files like those of
    `conf/report/`, besides the folders `report` of the configs that the runs were composed from. Raises
    `ConfigError` for an invalid ledger or declaration."""
    claims = read_claims(Path(ledger))
    gathered = gather(folders)
    declared = read_declarations([place / "report" for place in gathered.places()], map(Path, declarations))
    check_claimed(declared, claims)
    comparisons = [spec for one in declared for spec in one.comparisons]
    judged = [run for run in gathered.runs if run.judged or debug]
    verdicts = judge(claims, judged)
    runs, repeated = independent_runs(gathered.runs)
    tested = [
        run for run in runs if run.judged or debug
    ]  # a correction counts the tests of numbers that mean something
    tables = make_tables(declared, runs)
    return Results(
        gathered=gathered,
        unjudged=len(gathered.runs) - len(judged),
        repeated=len(repeated),
        verdicts=verdicts,
        overview=verdict_chart(verdicts),
        headings=headings(declared, runs),
        tables=tables,
        charts=make_charts(declared, runs, tables, claims),
        contrasts=contrast_table([spec for spec in comparisons if isinstance(spec, Contrast)], tested),
        times=time_table([spec for spec in comparisons if isinstance(spec, TimeToFit)], runs),
        trends=trend_table([spec for spec in comparisons if isinstance(spec, Trend)], runs),
        unknown=unknown_metrics(declared, runs),
    )


def _region_row(verdicts: list[Verdict]) -> dict[str, str]:
    row = {"claim": verdicts[0].claim.id, "statement": verdicts[0].claim.statement}
    for decision in DECISIONS:
        row[decision] = "; ".join(_where(v) for v in verdicts if v.verdict == decision)
    return row


def _where(v: Verdict) -> str:
    """The region with its number and the configuration that it was measured on."""
    return f"{v.claim.region}: {format_verdict(v)} ({v.name})" if v.n else v.claim.region


def _claim_row(v: Verdict) -> dict[str, object]:
    return {
        "claim": v.claim.id,
        "region": v.claim.region,
        "verdict": v.verdict,
        "statement": v.claim.statement,
        "source": v.claim.source,
        "configuration": v.name,
        "n": v.n,
        "undefined": v.undefined,
        "censored": v.censored,
        "left_out_unfitted": len(v.left_out),
        "left_out_shared": len(v.shared),
        "measured": format_verdict(v),
        "median": v.median,
        "low": v.ends[0],
        "high": v.ends[1],
        "comparison": v.claim.comparison,
        "threshold": v.claim.threshold,
        "p_holm": v.p,
        "effect_size": v.effect,
        "control": v.control,
        "seeds_needed": v.needed if v.verdict == "inconclusive" else None,
        "remarks": v.remarks,
        "runs": " ".join(str(run.folder) for run in v.runs),
        "command": v.claim.command if v.verdict == "not run" else "",
    }
