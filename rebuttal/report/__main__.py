"""Report on many runs: judge the claims on them, and write tables, figures and a page. Trains nothing.

    python -m rebuttal.report                       # every run below outputs/ and multirun/
    python -m rebuttal.report outputs/runs/toy --out paper

Writes to `--out`: `index.html`, the whole report as one page; `raw/`, a row per run, and the runs excluded because
they failed or are unfinished, damaged or duplicates; `processed/`, each claim of conf/claims.yaml judged on each
configuration, the numbers of every table, comparisons and trends; `figures/` and `tables/`; and `main.tex`, a paper
that includes them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.table import Table

from rebuttal.errors import UserError
from rebuttal.progress.console import signs_replaced, wide_console
from rebuttal.report.claims import LEDGER
from rebuttal.report.paper import write_report
from rebuttal.report.results import Results, find_results
from rebuttal.report.tables import format_cell

DEFAULT_FOLDERS = ("outputs", "multirun")
MAX_PROBLEMS = 20  # printed; raw/problems.csv has all


def report(folders: list[Path], out: Path, ledger: Path = LEDGER) -> Results:
    """Report on the runs below `folders`, judged by the claims of `ledger`, and write the report to `out`.

    Raises `ConfigError` for an invalid ledger, `UserError` if there is no finished run."""
    results = find_results(folders, ledger)
    if not results.gathered.runs:
        raise UserError(
            f"no finished run below {', '.join(map(str, folders))} "
            f"({len(results.gathered.problems)} excluded); allowed: folders written by python -m rebuttal.train"
        )
    write_report(results, out)
    return results


@signs_replaced()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m rebuttal.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="where to look for runs (default: outputs multirun)")
    parser.add_argument("--out", type=Path, default=Path("paper"), help="where to write (default: paper)")
    parser.add_argument("--claims", type=Path, default=LEDGER, help="another claims ledger")
    arguments = parser.parse_args()
    folders = arguments.folders or [Path(name) for name in DEFAULT_FOLDERS]
    try:
        results = report(folders, arguments.out, arguments.claims)
    except (UserError, OSError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    _print_summary(results, arguments.out)


def _print_summary(results: Results, out: Path) -> None:
    wide_console.print(_verdict_table(results))
    counts = Counter(v.verdict for v in results.verdicts)
    wide_console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for note in results.notes():
        wide_console.print(note)
    for problem in results.gathered.problems[:MAX_PROBLEMS]:
        wide_console.print(f"  {problem.status}: {problem.folder}: {problem.why}", soft_wrap=True, markup=False)
    if len(results.gathered.problems) > MAX_PROBLEMS:
        wide_console.print(f"  … and others: {out / 'raw' / 'problems.csv'}")
    wide_console.print(f"report: {out / 'index.html'}", soft_wrap=True)


def _verdict_table(results: Results) -> Table:
    """Return the verdicts as a table; the configurations only if a claim was judged on more than one."""
    several = len({v.claim.id for v in results.verdicts}) < len(results.verdicts)
    columns = ("claim", "verdict", "mean ± half the 95 % interval", "claimed", "n", *(["configuration"] * several))
    table = Table(title="The claims on trial")
    for column in columns:
        table.add_column(column, no_wrap=column != "configuration")
    for v in results.verdicts:
        row = (v.claim.id, v.verdict, format_cell(v.estimate), v.claimed, str(len(v.values)), v.name)
        table.add_row(*row[: len(columns)])
    return table


if __name__ == "__main__":
    main()
