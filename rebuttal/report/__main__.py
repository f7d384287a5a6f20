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
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from rebuttal.errors import UserError, check_working_directory
from rebuttal.progress.console import signs_replaced, wide_console
from rebuttal.report.claims import LEDGER
from rebuttal.report.paper import write_report
from rebuttal.report.results import Results, find_results
from rebuttal.report.tables import format_verdict
from rebuttal.report.verdicts import DECISIONS

DEFAULT_FOLDERS = ("outputs", "multirun")
MAX_PROBLEMS = 20  # printed; raw/problems.csv has all


def report(
    folders: list[Path], out: Path, ledger: Path = LEDGER, debug: bool = False, declarations: Sequence[Path] = ()
) -> Results:
    """Report on the runs below `folders`, judged by the claims of `ledger`, and write the report to `out`.

    `debug`: judge runs of debug size too. `declarations`: folders that declare tables and figures.

    Raises `ConfigError` for an invalid ledger or declaration, `UserError` if there is no finished run or `out` cannot
    be written."""
    results = find_results(folders, ledger, debug, declarations)
    if not results.gathered.runs:
        excluded = results.gathered.problems
        first = f", the first is {excluded[0].status}: {excluded[0].folder}: {excluded[0].why}" if excluded else ""
        raise UserError(
            f"no finished run below {', '.join(map(str, folders))} ({len(excluded)} excluded{first}); "
            "allowed: folders written by python -m rebuttal.train"
        )
    try:
        write_report(results, out)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error}; allowed: a folder with room, of your own") from error
    return results


@signs_replaced()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m rebuttal.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="where to look for runs (default: outputs multirun)")
    parser.add_argument("--out", type=Path, default=Path("paper"), help="where to write (default: paper)")
    parser.add_argument("--claims", type=Path, default=LEDGER, help="another claims ledger")
    parser.add_argument("--debug", action="store_true", help="judge the claims also on runs of debug size")
    parser.add_argument(
        "--declarations",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder of YAML files like those of conf/report: your tables and figures; may be repeated. Those in the "
        "folder report/ of hydra.searchpath, with which the runs were made, are found without it",
    )
    arguments = parser.parse_args()
    folders = arguments.folders or [Path(name) for name in DEFAULT_FOLDERS]
    try:
        check_working_directory()
        for folder in arguments.folders:  # of the usual ones either may be absent
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder; allowed: folders written by python -m rebuttal.train")
        results = report(folders, arguments.out, arguments.claims, arguments.debug, arguments.declarations)
    except (UserError, OSError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    _print_summary(results, arguments.out)


def _print_summary(results: Results, out: Path) -> None:
    wide_console.print(_verdict_table(results))
    for row in results.by_region().to_dict("records"):
        found = "; ".join(f"{decision}: {row[decision]}" for decision in DECISIONS if row[decision])
        wide_console.print(f"{row['claim']}: {found}", soft_wrap=True, markup=False, highlight=False)
    counts = Counter(v.verdict for v in results.verdicts)
    wide_console.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    for note in results.notes():
        wide_console.print(note, soft_wrap=True, markup=False, highlight=False)
    for problem in results.gathered.problems[:MAX_PROBLEMS]:
        wide_console.print(f"  {problem.status}: {problem.folder}: {problem.why}", soft_wrap=True, markup=False)
    if len(results.gathered.problems) > MAX_PROBLEMS:
        wide_console.print(f"  … and others: {out / 'raw' / 'problems.csv'}")
    wide_console.print(f"report: {out / 'index.html'}", soft_wrap=True)


def _verdict_table(results: Results) -> Table:
    table = Table(title="The claims on trial")
    for column in ("claim", "verdict", "median (95 % interval)", "claimed", "seeds", "model, data, n, K"):
        table.add_column(column, no_wrap=column in ("claim", "verdict", "claimed", "seeds"))
    for v in results.verdicts:
        scope = "; ".join(filter(None, (v.claim.region, v.name, v.remarks)))
        table.add_row(v.claim.id, v.verdict, format_verdict(v), v.claimed, str(v.n), escape(scope))
    return table


if __name__ == "__main__":
    main()
