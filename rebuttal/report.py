"""The entry point that reads many runs; it trains nothing and changes no run.

    python -m rebuttal.report                       # every run below outputs/ and multirun/
    python -m rebuttal.report outputs/runs/toy --out paper

Leaves in `--out`: `index.html`, the whole report as one page; `raw/`, a row a run, and the runs that failed, are
unfinished, damaged or there twice; `processed/`, each claim of conf/claims.yaml judged on each configuration, the
numbers of every table, comparisons and trends; `figures/` and `tables/`; and `main.tex`, a paper that includes them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from rich.table import Table

from rebuttal.analysis.claims import LEDGER
from rebuttal.analysis.paper import write
from rebuttal.analysis.results import Results, find_results
from rebuttal.analysis.tables import shown
from rebuttal.errors import UserError
from rebuttal.progress import wide_console

DEFAULT_FOLDERS = ("outputs", "multirun")


def report(folders: list[Path], out: Path, ledger: Path = LEDGER) -> Results:
    """Work out what the runs below `folders` show, by the claims of `ledger`, and write all of it to `out`.

    Raises `ConfigError` for a ledger that cannot be read, `UserError` where there is no run to report."""
    results = find_results(folders, ledger)
    if not results.gathered.runs:
        raise UserError(
            f"no finished run below {', '.join(map(str, folders))} "
            f"({len(results.gathered.problems)} that cannot be counted); "
            "allowed: folders that python -m rebuttal.train has written"
        )
    write(results, out)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    _tell(results, arguments.out)


def _tell(results: Results, out: Path) -> None:
    several = len({v.claim.id for v in results.verdicts}) < len(results.verdicts)
    table = Table(title="The claims on trial")
    for column in ("claim", "verdict", "mean ± half the 95 % interval", "claimed", "n", *(["on"] if several else [])):
        table.add_column(column, no_wrap=column != "on")
    for v in results.verdicts:
        row = (v.claim.id, v.verdict, shown(v.estimate), v.claimed, str(len(v.values)))
        table.add_row(*row, *([v.name] if several else []))
    wide_console.print(table)
    counted = Counter(v.verdict for v in results.verdicts)
    wide_console.print(", ".join(f"{count} {verdict}" for verdict, count in counted.items()))
    for note in results.notes():
        wide_console.print(note)
    for problem in results.gathered.problems[:20]:
        wide_console.print(f"  {problem.status}: {problem.folder}: {problem.why}", soft_wrap=True, markup=False)
    if len(results.gathered.problems) > 20:
        wide_console.print(f"  … and others: {out / 'raw' / 'problems.csv'}")
    wide_console.print(f"all of it: {out / 'index.html'}", soft_wrap=True)


if __name__ == "__main__":
    main()
