"""What the terminal shows of a running sweep: a line for each job that ends, at the end a table and the exit status."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any

from rebuttal.errors import TRACEBACK_WANTED, ConfigError, as_one_line
from rebuttal.launch.cluster import wait_for_cluster, wait_for_submitit_local
from rebuttal.launch.settings import JOBLIB, SLURM, SUBMITIT_LOCAL
from rebuttal.launch.sweep import SUCCEEDED, Job, Sweep
from rebuttal.launch.table import count_states, job_table, words_of
from rebuttal.progress.console import wide_console

MAX_SHARE = 0.05  # of the time may go into reading the status files of a large sweep
SECONDS_TO_STOP = 10  # for jobs whose launcher has ended, to save a checkpoint
_LAUNCHERS = ("joblib", "submitit", "hydra_plugins")


def run_watched(sweep: Sweep, jobs: list[list[str]] | None, launcher: str, start: Callable[[], None]) -> None:
    """Run a sweep by `start`; print a line for each job that ends and at the end a table of all.

    `jobs`, `launcher`: as for `Sweep.begin`. Exits with status 1 unless all jobs succeeded. Whatever ends `start`, the
    table comes if a job has begun. Raises what `start` raised if none has, and an interruption in any case."""
    failures: list[Exception] = []
    with sweep.running():
        sweep.begin(jobs, launcher)
        with print_ended_jobs(sweep, failures):
            with jobs_stopped_gently(sweep) if launcher == JOBLIB else nullcontext():
                stopped = _what_stops(start)
            if stopped is None or isinstance(stopped, Exception):
                stopped = _what_stops(lambda: _wait_for_jobs(sweep, launcher)) or stopped
            elif launcher != SLURM:
                _wait_for_running(sweep)
    finish(sweep, stopped, failures)


@contextmanager
def jobs_stopped_gently(sweep: Sweep) -> Iterator[None]:
    """Within the block joblib, which kills its workers and all that they have started if it is interrupted or one of
    them dies, lets the running jobs save a checkpoint first, and no further one begin."""
    from joblib.externals.loky import process_executor

    kill = process_executor.kill_process_tree

    @cache  # a job that does not stop is waited for once, and not for each worker
    def stop_jobs() -> None:
        with suppress(OSError):  # a full disk keeps nobody from stopping
            sweep.stop(None)
        for job in sweep.jobs():
            _ask_to_stop(job)
        _wait_for_running(sweep)

    def stop(process: Any, *settings: Any, **named: Any) -> None:
        stop_jobs()
        kill(process, *settings, **named)

    process_executor.kill_process_tree = stop
    try:
        yield
    finally:
        process_executor.kill_process_tree = kill


def _ask_to_stop(job: Job) -> None:
    status = job.status
    if job.state == "running" and status is not None and status.host == socket.gethostname() and status.process:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(status.process, signal.SIGTERM)


@contextmanager
def print_ended_jobs(sweep: Sweep, failures: list[Exception]) -> Iterator[None]:
    """While the block runs, print a line for each job of `sweep` that ends, wherever it runs. An error in this stops no
    job; it is added to `failures`."""
    over = threading.Event()
    printed: set[int | None] = set()

    def look() -> None:
        try:
            _print_new(sweep, printed)
        except Exception as error:  # of any kind: the jobs go on
            failures.append(error)

    def poll() -> None:
        took = 0.0
        while not over.wait(max(1, took / MAX_SHARE)):
            began = time.monotonic()
            look()
            took = time.monotonic() - began

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def finish(sweep: Sweep, stopped: BaseException | None = None, failures: Sequence[Exception] = ()) -> None:
    """Print how each job ended, and exit with status 1 unless all succeeded and nothing went wrong.

    `stopped`: what kept Hydra from coming to the end of the sweep; it is raised if no job has begun, or if it is not an
    error. `failures`: what went wrong while the sweep was watched."""
    failures = list(failures)
    jobs = _print_jobs(sweep, stopped, failures)
    for failure in failures[:1]:
        _print_error(f"the sweep could not be watched: {_in_words(failure)}", failure)
    if isinstance(stopped, Exception):
        _print_error(f"the sweep ended early: {_in_words(stopped)}", stopped)
    elif stopped is not None and not isinstance(stopped, SystemExit):
        raise stopped
    if stopped or failures or not jobs or any(job.state not in SUCCEEDED for job in jobs):
        print("rebuttal: the sweep is not complete; rerun the command to resume it", file=sys.stderr)
        sys.exit(1)
    sweep.forget_needs()


def _print_jobs(sweep: Sweep, stopped: BaseException | None, failures: list[Exception]) -> list[Job]:
    """Print the table. Raises `stopped` if no job has begun."""
    try:
        jobs = sweep.jobs()
    except Exception as error:  # of any kind: the exit status has to say so
        failures.insert(0, error)
        return []
    if stopped is not None and not any(job.begun for job in jobs):
        sweep.forget()
        raise _readable(stopped)
    try:
        wide_console.print(job_table(jobs))
        wide_console.print(f"{sweep.name}: {count_states(jobs)}", soft_wrap=True)
    except Exception as error:
        failures.insert(0, error)
    return jobs


def _what_stops(work: Callable[[], None]) -> BaseException | None:
    """What `work` raises, to be dealt with when the jobs' states are printed."""
    try:
        work()
    except BaseException as stop:
        return stop
    return None


def _wait_for_jobs(sweep: Sweep, launcher: str) -> None:
    """Wait for jobs that go on although the launcher has ended."""
    if launcher == SLURM:
        wait_for_cluster(sweep.folder)
        return
    if launcher == SUBMITIT_LOCAL:
        wait_for_submitit_local(sweep.folder)
    _wait_for_running(sweep)


def _wait_for_running(sweep: Sweep) -> None:
    """Wait for jobs on this machine, which stop by themselves when their launcher is gone."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while any(job.state == "running" for job in sweep.jobs()) and time.monotonic() < deadline:
        time.sleep(0.2)


def _print_new(sweep: Sweep, printed: set[int | None]) -> None:
    jobs = sweep.jobs()
    for job in jobs:
        if job.ended and job.number not in printed:
            printed.add(job.number)
            why = f": {job.why}" if job.why else ""
            line = f"job {job.number} ({len(printed)} of {len(jobs)}): {words_of(job)}: {job.state}{why}"
            wide_console.print(line, highlight=False, soft_wrap=True)


def _print_error(line: str, error: Exception) -> None:
    if TRACEBACK_WANTED:
        traceback.print_exception(error)
    print(f"rebuttal: {line}", file=sys.stderr)


def _in_words(error: BaseException) -> str:
    return as_one_line(error) or " ".join(f"{type(error).__name__}: {error}".split())


def _readable(error: BaseException) -> BaseException:
    """A launcher refuses its settings with errors of its own."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    by_launcher = bool(frames) and frames[-1].split(".")[0] in _LAUNCHERS
    if by_launcher and isinstance(error, (ValueError, TypeError)) and as_one_line(error) is None:
        return ConfigError(f"hydra.launcher: {_in_words(error)}")
    return error
