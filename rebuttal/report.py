"""The entry point that reads many runs; it trains nothing and changes no run.

    python -m rebuttal.report                       # every run below outputs/ and multirun/
    python -m rebuttal.report outputs/runs/toy --out paper

Leaves in `--out`: `runs.csv` and `runs.parquet`, a row a run; `problems.csv`, the runs that failed, are unfinished,
damaged or there twice; `claims.csv`, each claim of conf/claims.yaml judged on each configuration.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
from rich.table import Table

from rebuttal.analysis.claims import LEDGER, Verdict, judge, read_claims
from rebuttal.analysis.gather import Gathered, gather
from rebuttal.errors import UserError
from rebuttal.progress import wide_console

DEFAULT_FOLDERS = ("outputs", "multirun")


def report(folders: list[Path], out: Path, ledger: Path = LEDGER) -> tuple[Gathered, list[Verdict]]:
    """Gather the runs below `folders`, judge the claims of `ledger` on them, and write all of it to `out`."""
    gathered = gather(folders)
    if not gathered.runs:
        raise UserError(
            f"no finished run below {', '.join(map(str, folders))} ({len(gathered.problems)} that cannot be counted); "
            "allowed: folders that python -m rebuttal.train has written"
        )
    verdicts = judge(read_claims(ledger), gathered.runs)
    out.mkdir(parents=True, exist_ok=True)
    runs = gathered.table()
    runs.to_csv(out / "runs.csv", index=False)
    runs.to_parquet(out / "runs.parquet", index=False)
    problem_table(gathered).to_csv(out / "problems.csv", index=False)
    claim_table(verdicts).to_csv(out / "claims.csv", index=False)
    return gathered, verdicts


def problem_table(gathered: Gathered) -> pd.DataFrame:
    columns = ["folder", "status", "why"]
    return pd.DataFrame([(str(p.folder), p.status, p.why) for p in gathered.problems], columns=columns)


def claim_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """A row a claim and configuration, with the numbers behind the verdict and what would fill a gap."""
    rows = [
        {
            "claim": v.claim.id,
            "verdict": v.verdict,
            "statement": v.claim.statement,
            "source": v.claim.source,
            "configuration": v.configuration,
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
        for v in verdicts
    ]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="where to look for runs (default: outputs multirun)")
    parser.add_argument("--out", type=Path, default=Path("paper"), help="where to write (default: paper)")
    parser.add_argument("--claims", type=Path, default=LEDGER, help="another claims ledger")
    arguments = parser.parse_args()
    folders = arguments.folders or [Path(name) for name in DEFAULT_FOLDERS]
    try:
        gathered, verdicts = report(folders, arguments.out, arguments.claims)
    except (UserError, OSError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    _tell(gathered, verdicts, arguments.out)


def _tell(gathered: Gathered, verdicts: list[Verdict], out: Path) -> None:
    table = Table(title="The claims on trial")
    for column in ("claim", "verdict", "mean [95 %]", "claimed", "n"):
        table.add_column(column, no_wrap=True)
    for v in verdicts:
        sign = "≥" if v.claim.comparison == "at_least" else "≤"
        interval = "" if v.low is None else f" [{v.low:.3g}, {v.high:.3g}]"
        mean = "–" if v.mean is None else f"{v.mean:.3g}{interval}"
        table.add_row(v.claim.id, v.verdict, mean, f"{sign} {v.claim.threshold:g}", str(len(v.values)))
    wide_console.print(table)
    counted = Counter(v.verdict for v in verdicts)
    wide_console.print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()))
    for status, count in Counter(problem.status for problem in gathered.problems).items():
        wide_console.print(f"{count} runs not counted: {status} (see {out / 'problems.csv'})")
    wide_console.print(f"all of it: {out}", soft_wrap=True)


if __name__ == "__main__":
    main()
