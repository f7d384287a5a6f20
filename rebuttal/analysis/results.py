"""All that a report has to say, as data: gathered runs, verdicts, tables, charts, comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rebuttal.analysis import contents
from rebuttal.analysis.charts import Chart
from rebuttal.analysis.claims import LEDGER, Verdict, judge, read_claims
from rebuttal.analysis.comparisons import contrast_table, race_table, trend_table
from rebuttal.analysis.gather import Gathered, gather
from rebuttal.analysis.tables import Table


@dataclass(frozen=True)
class Results:
    gathered: Gathered
    verdicts: list[Verdict]
    tables: list[Table]
    charts: list[Chart]
    contrasts: pd.DataFrame
    times: pd.DataFrame
    trends: pd.DataFrame

    def claims(self) -> pd.DataFrame:
        """A row a claim and configuration, with the numbers behind the verdict and what would fill a gap."""
        return pd.DataFrame([_claim_row(verdict) for verdict in self.verdicts])

    def problems(self) -> pd.DataFrame:
        rows = [(str(p.folder), p.status, p.why) for p in self.gathered.problems]
        return pd.DataFrame(rows, columns=["folder", "status", "why"])

    def notes(self) -> list[str]:
        """What a reader must know of the runs before the numbers, a line each."""
        counts = Counter(problem.status for problem in self.gathered.problems)
        found = [f"{count} runs not counted: {status}" for status, count in counts.items()]
        versions = self.gathered.versions()
        if len(versions) > 1:
            mixed = ", ".join(f"{version} ({count} runs)" for version, count in sorted(versions.items()))
            found.append(f"runs of several versions are counted together: {mixed}")
        return found


def find_results(folders: Iterable[str | Path], ledger: str | Path = LEDGER) -> Results:
    """Read every run below `folders` and work out what they show; judged by the claims of `ledger`."""
    claims = read_claims(Path(ledger))
    gathered = gather(folders)
    tables = contents.tables(gathered.runs)
    return Results(
        gathered=gathered,
        verdicts=judge(claims, gathered.runs),
        tables=tables,
        charts=contents.charts(gathered.runs, tables, claims),
        contrasts=contrast_table(contents.CONTRASTS, gathered.runs),
        times=race_table(contents.RACES, gathered.runs),
        trends=trend_table(contents.TRENDS, gathered.runs),
    )


def _claim_row(v: Verdict) -> dict[str, object]:
    return {
        "claim": v.claim.id,
        "verdict": v.verdict,
        "statement": v.claim.statement,
        "source": v.claim.source,
        "configuration": v.name,
        "n": len(v.values),
        "mean": v.mean,
        "low": v.low,
        "high": v.high,
        "comparison": v.claim.comparison,
        "threshold": v.claim.threshold,
        "p_holm": v.p,
        "effect_size": v.effect,
        "control": v.control,
        "left_out_unfitted": len(v.left_out),
        "runs": " ".join(str(run.folder) for run in v.runs),
        "command": v.claim.command if v.verdict == "not run" else "",
    }
