"""What the terminal shows of a running sweep: a line for each job that ends, at the end a table and the exit status."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rebuttal.launch.cluster import wait_for_cluster
from rebuttal.launch.sweep import SUCCEEDED, Sweep, count_states, job_table
from rebuttal.progress.console import wide_console

MAX_SHARE = 0.05  # of the time may go into reading the status files of a large sweep


@contextmanager
def print_ended_jobs(sweep: Sweep) -> Iterator[None]:
    """While the block runs, print a line for each job of `sweep` that ends, wherever it runs."""
    over = threading.Event()
    printed: set[int] = set()

    def poll() -> None:
        took = 0.0
        while not over.wait(max(1, took / MAX_SHARE)):
            began = time.monotonic()
            _print_new(sweep, printed)
            took = time.monotonic() - began

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _print_new(sweep, printed)


def finish(sweep: Sweep, completed: bool = True) -> None:
    """Wait for jobs still on the cluster, print how each job ended, and exit with status 1 unless all succeeded.

    `completed`: whether Hydra came to the end of the sweep."""
    wait_for_cluster(sweep.folder)
    jobs = sweep.jobs()
    if not completed and all(job.state == "waiting" for job in jobs):
        return  # no job ever started, and the error being raised says why
    wide_console.print(job_table(jobs))
    wide_console.print(f"{sweep.folder}: {count_states(jobs)}", soft_wrap=True)
    if not completed or any(job.state not in SUCCEEDED for job in jobs):
        print("rebuttal: the sweep is not complete; rerun the command to resume it", file=sys.stderr)
        sys.exit(1)


def _print_new(sweep: Sweep, printed: set[int]) -> None:
    jobs = sweep.jobs()
    for job in jobs:
        if job.ended and job.number not in printed:
            printed.add(job.number)
            why = f": {job.why}" if job.why else ""
            line = f"job {job.number} ({len(printed)} of {len(jobs)}): {job.words()}: {job.state}{why}"
            wide_console.print(line, markup=False, highlight=False, soft_wrap=True)
