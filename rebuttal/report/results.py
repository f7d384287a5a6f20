"""The content of a report as data: runs, verdicts, tables, charts, comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rebuttal.report import contents
from rebuttal.report.charts import Chart, verdict_chart
from rebuttal.report.claims import LEDGER, read_claims
from rebuttal.report.comparisons import contrast_table, time_table, trend_table
from rebuttal.report.gather import Gathered, gather
from rebuttal.report.tables import Table, format_verdict
from rebuttal.report.verdicts import Verdict, judge


@dataclass(frozen=True)
class Results:
    """The content of a report.

    `unjudged`: how many runs no verdict is about, because their numbers mean nothing. `overview`: the chart of all
    judged claims. `contrasts`, `times`, `trends`: the tables of `rebuttal.report.comparisons`.
    """

    gathered: Gathered
    unjudged: int
    verdicts: list[Verdict]
    tables: list[Table]
    overview: Chart | None
    charts: list[Chart]
    contrasts: pd.DataFrame
    times: pd.DataFrame
    trends: pd.DataFrame

    @property
    def all_charts(self) -> list[Chart]:
        return [*([self.overview] if self.overview else []), *self.charts]

    def claims(self) -> pd.DataFrame:
        """Return a row per claim and configuration; a claim that is not run has the command that would run it."""
        return pd.DataFrame([_claim_row(verdict) for verdict in self.verdicts])

    def problems(self) -> pd.DataFrame:
        """Return a row per excluded run."""
        rows = [(str(p.folder), p.status, p.why) for p in self.gathered.problems]
        return pd.DataFrame(rows, columns=["folder", "status", "why"])

    def notes(self) -> list[str]:
        """Return warnings about the runs, one line each: excluded runs, and mixed versions of rebuttal."""
        counts = Counter(problem.status for problem in self.gathered.problems)
        notes = [f"runs excluded as {status}: {count}" for status, count in counts.items()]
        if self.unjudged:
            notes.append(f"runs that no claim is judged on (debug=tiny): {self.unjudged}; --debug judges them too")
        versions = self.gathered.versions()
        if len(versions) > 1:
            mixed = ", ".join(f"{version} ({count} runs)" for version, count in sorted(versions.items()))
            notes.append(f"runs of different versions of rebuttal are averaged together: {mixed}")
        return notes


def find_results(folders: Iterable[str | Path], ledger: str | Path = LEDGER, debug: bool = False) -> Results:
    """Read every run below `folders`, judge the claims of `ledger` on them, and compute the tables and charts.

    `debug`: judge the claims also on runs of debug size."""
    claims = read_claims(Path(ledger))
    gathered = gather(folders)
    judged = [run for run in gathered.runs if run.judged or debug]
    verdicts = judge(claims, judged)
    tables = contents.make_tables(gathered.runs)
    return Results(
        gathered=gathered,
        unjudged=len(gathered.runs) - len(judged),
        verdicts=verdicts,
        overview=verdict_chart(verdicts),
        tables=tables,
        charts=contents.make_charts(gathered.runs, tables, claims),
        contrasts=contrast_table(contents.CONTRASTS, gathered.runs),
        times=time_table(contents.TIMES_TO_FIT, gathered.runs),
        trends=trend_table(contents.TRENDS, gathered.runs),
    )


def _claim_row(v: Verdict) -> dict[str, object]:
    return {
        "claim": v.claim.id,
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
        "low": v.low,
        "high": v.high,
        "comparison": v.claim.comparison,
        "threshold": v.claim.threshold,
        "test": v.test,
        "p_holm": v.p,
        "effect_size": v.effect,
        "control": v.control,
        "seeds_needed": v.needed if v.verdict == "inconclusive" else None,
        "remarks": v.remarks,
        "runs": " ".join(str(run.folder) for run in v.runs),
        "command": v.claim.command if v.verdict == "not run" else "",
    }
