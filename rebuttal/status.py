"""Show the state of sweeps or of single runs, from any terminal; changes nothing.

python -m rebuttal.status                        # what was started last below multirun/ and outputs/
python -m rebuttal.status multirun/toy/2026-01-31_12-00-00-000000
python -m rebuttal.status outputs/runs/toy/*     # each of them; of a folder of several, what was started last
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

from rebuttal.errors import UserError, check_working_directory
from rebuttal.launch.sweep import Job, Sweep, job_of
from rebuttal.launch.table import count_states, job_table, time_left
from rebuttal.progress.console import signs_replaced, wide_console
from rebuttal.progress.status_file import read_status
from rebuttal.store.folders import folders_below

DEFAULT_FOLDERS = ("multirun", "outputs")
SECONDS_BETWEEN_LOOKS = 2

State = tuple[list[Job], bool, str]
"""What `state_of` returns."""


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


def state_of(folder: Path) -> State:
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
    itself = root / "status.json"
    if is_run := itself.exists() and not (root / "sweep.json").exists():
        paths = [itself]
    else:
        below = folders_below([root])
        paths = [place / name for place, _, files in below for name in ("sweep.json", "status.json") if name in files]
    for path in paths:
        try:
            if path.name == "sweep.json":
                yield path.parent, Sweep(path.parent).record().began
            elif (status := read_status(path.parent)) is not None and (is_run or status.job is None):
                yield path.parent, status.began
        except UserError as error:
            print(f"rebuttal: {error}; left out", file=sys.stderr)


def _asked(named: list[Path]) -> tuple[list[Path], bool]:
    """What to show: of each folder that is named, what began last in or below it; without one, what began last of all.
    And whether each had something to show; one that has nothing is named on standard error.

    Raises `UserError` if there is nothing at all."""
    if len(named) < 2:
        return [latest(named or [Path(name) for name in DEFAULT_FOLDERS])], True
    found: dict[Path, None] = {}
    lacking = []
    for folder in named:
        try:
            found[latest([folder])] = None  # which may be named twice, by itself and by a folder above it
        except UserError as error:
            lacking.append(str(error))
    if not found:
        return [latest(named)], False
    for line in lacking:
        print(f"rebuttal: {line}", file=sys.stderr)
    return list(found), not lacking


def _show(states: list[State]) -> None:
    for jobs, _, line in states:
        wide_console.print(job_table(jobs))
        wide_console.print(line, highlight=False, soft_wrap=True)


def _states(folders: list[Path]) -> Iterator[list[State]]:
    """Yield the states every few seconds until all is over."""
    while True:
        states = [state_of(folder) for folder in folders]
        yield states
        if all(over for _, over, _ in states):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _watch(folders: list[Path]) -> None:
    """Show the state until all is over: on a terminal in one place, elsewhere whenever a job's state has changed."""
    if wide_console.is_terminal:
        with Live(console=wide_console, auto_refresh=False) as live:
            for states in _states(folders):
                live.update(
                    Group(*(part for jobs, _, line in states for part in (job_table(jobs), Text(line)))), refresh=True
                )
        return
    shown = None
    for states in _states(folders):
        if (now := [(job.number, job.state) for jobs, _, _ in states for job in jobs]) != shown:
            _show(states)
        shown = now


@signs_replaced()
def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        "python -m rebuttal.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = "where to look; each is shown (default: what was started last below multirun and outputs)"
    parser.add_argument("folders", nargs="*", type=Path, help=where)
    parser.add_argument("--watch", action="store_true", help="refresh until all has ended")
    given = parser.parse_args()
    try:
        check_working_directory()
        folders, complete = _asked(given.folders)
        if given.watch:
            _watch(folders)
        else:
            _show([state_of(folder) for folder in folders])
        if not complete:
            sys.exit(2)
    except (UserError, OSError) as error:
        print(f"rebuttal: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
