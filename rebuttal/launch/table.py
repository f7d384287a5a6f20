"""The jobs of a sweep, or single runs, as a table and in one line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rebuttal.launch.sweep import SUCCEEDED, Job

if TYPE_CHECKING:
    from rich.table import Table

    from rebuttal.progress.status_file import Status

MAX_ROWS = 60  # the table of a larger sweep lists only the jobs that did not end well


def job_table(jobs: Sequence[Job]) -> Table:
    """A row a job, with the overrides in which it differs from others; of many jobs only those that did not end
    well."""
    from rich.table import Table

    shared = _shared_overrides(jobs)
    shown = jobs if len(jobs) <= MAX_ROWS else [job for job in jobs if job.state not in SUCCEEDED]
    title = "Jobs" if shown == jobs else "Jobs that did not end well"
    table = Table(title=" ".join([f"{title}:", *shared]) if shared else title, show_edge=False)
    for column in ("job", "overrides", "state", "reason, or progress"):
        table.add_column(column, no_wrap=column == "state", overflow="fold")
    for job in shown:
        own = " ".join(override for override in job.overrides if override not in shared)
        table.add_row("" if job.number is None else str(job.number), own, job.state, job.why or _progress(job))
    return table


def words_of(job: Job) -> str:
    return " ".join(job.overrides) or "(no overrides)"


def count_states(jobs: Sequence[Job]) -> str:
    """`2 done, 1 failed`"""
    return ", ".join(f"{n} {state}" for state, n in Counter(job.state for job in jobs).items()) or "no jobs"


def time_left(jobs: Sequence[Job], seconds: float) -> str:
    """In words, the time that the jobs which are not over will take at the rate of the others in the past `seconds`;
    empty if nothing is left, or there is no rate yet."""
    over = sum(job.over for job in jobs)
    return f"; about {_duration(seconds / over * (len(jobs) - over))} left" if 0 < over < len(jobs) else ""


def _shared_overrides(jobs: Sequence[Job]) -> list[str]:
    if not jobs:
        return []
    others = [set(job.overrides) for job in jobs]
    return [override for override in jobs[0].overrides if all(override in other for other in others)]


def _progress(job: Job) -> str:
    status = job.status
    if status is None:
        return ""
    if job.state in SUCCEEDED:
        return f"{status.computed or 0} results computed in {_duration(status.now - status.began)}"
    if job.state != "running" or status.stage is None:
        return ""
    return ", ".join([*_of_training(status), f"for {_duration(time.time() - status.began)}"])


def _of_training(status: Status) -> list[str]:
    facts = [f"{status.stage} ({status.stage_number} of {status.stages})"]
    if status.steps:
        facts.append(f"step {status.step} of at most {status.steps}")
    if status.loss is not None:
        facts.append(f"loss {status.loss:.3g}")
    if status.seconds_left is not None:
        facts.append(f"at most {_duration(status.seconds_left)} left of this training")
    return facts


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
