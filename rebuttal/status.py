"""Show the state of a sweep or of a single run, from any terminal; changes nothing.

python -m rebuttal.status                        # what was started last below multirun/ and outputs/
python -m rebuttal.status multirun/toy/2026-01-31_12-00-00-000000
python -m rebuttal.status outputs/runs/toy/2026-01-31_12-00-00-000000
python -m rebuttal.status --watch                # again and again, until all of it has ended
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.text import Text

from rebuttal.errors import UserError
from rebuttal.launch.sweep import Job, Sweep, job_of
from rebuttal.launch.table import count_states, job_table, time_left
from rebuttal.progress.console import signs_replaced, wide_console
from rebuttal.progress.status_file import read_status

DEFAULT_FOLDERS = ("multirun", "outputs")
SECONDS_BETWEEN_LOOKS = 2


def latest(folders: list[Path]) -> Path:
    """Return the folder of the sweep or single run that began last in or below `folders`.

    Raises `UserError` if there is none. A damaged or foreign file is named on standard error and left out."""
    began = {folder: time for root in folders for folder, time in _begun_below(root)}
    if not began:
        raise UserError(
            f"no sweep below {', '.join(map(str, folders))}; allowed: folders of sweeps or runs that "
            "python -m rebuttal.train writes"
        )
    return max(began, key=lambda folder: began[folder])


def state_of(folder: Path) -> tuple[list[Job], bool, str]:
    """Return the jobs of the sweep, or the single run, in `folder`; whether all of it is over; and that in one line.

    Raises `UserError` for a damaged file."""
    if not (folder / "sweep.json").exists():
        run = job_of(folder)
        return [run], run.over, f"{folder}: {run.state}"
    sweep = Sweep(folder)
    jobs = sweep.jobs()
    over = all(job.over for job in jobs) and not sweep.is_running()
    left = "" if over else time_left(jobs, time.time() - sweep.record().began)
    return jobs, over, f"{folder}: {count_states(jobs)}{left}"


def _begun_below(root: Path) -> Iterator[tuple[Path, float]]:
    """The sweeps and single runs in and below a folder; if it is itself the folder of a run, only that one."""
    if (root / "status.json").exists() and not (root / "sweep.json").exists():
        yield root, 0
        return
    for path in [*root.rglob("sweep.json"), *root.rglob("status.json")]:
        try:
            if path.name == "sweep.json":
                yield path.parent, Sweep(path.parent).record().began
            elif (status := read_status(path.parent)) is not None and status.job is None:
                yield path.parent, status.began
        except UserError as error:
            print(f"rebuttal: {error}; left out", file=sys.stderr)


def _show(jobs: list[Job], line: str) -> None:
    wide_console.print(job_table(jobs))
    wide_console.print(line, highlight=False, soft_wrap=True)


def _states(folder: Path) -> Iterator[tuple[list[Job], str]]:
    """Yield the jobs and the line of `state_of` every few seconds until all is over."""
    while True:
        jobs, over, line = state_of(folder)
        yield jobs, line
        if over:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _watch(folder: Path) -> None:
    """Show the state until all is over: on a terminal in one place, elsewhere whenever a job's state has changed."""
    if wide_console.is_terminal:
        with Live(console=wide_console, auto_refresh=False) as live:
            for jobs, line in _states(folder):
                live.update(Group(job_table(jobs), Text(line)), refresh=True)
        return
    shown = None
    for jobs, line in _states(folder):
        if (states := [(job.number, job.state) for job in jobs]) != shown:
            _show(jobs, line)
        shown = states


@signs_replaced()
def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        "python -m rebuttal.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, help="where to look (default: multirun outputs)")
    parser.add_argument("--watch", action="store_true", help="refresh until all has ended")
    given = parser.parse_args()
    try:
        folder = latest(given.folders or [Path(name) for name in DEFAULT_FOLDERS])
        if given.watch:
            _watch(folder)
        else:
            jobs, _, line = state_of(folder)
            _show(jobs, line)
    except (UserError, OSError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
