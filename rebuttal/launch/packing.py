"""Several jobs in one SLURM task, each in a process of its own, so that one that is killed takes no other with it.

They share the task's cores and GPUs as jobs of `hydra/launcher=local` share those of a machine.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from hydra.core.utils import JobStatus

from rebuttal.errors import UserError
from rebuttal.launch.gpu_slots import cores
from rebuttal.launch.processes import OwnProcess, ProcessDied, own_process

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A job of a task: its number in the sweep, and its overrides."""

    number: int
    overrides: tuple[str, ...]

    def outcome(self, error: Exception | None) -> tuple[JobStatus, Any]:
        """How it ended without a result of its own, for Hydra."""
        if isinstance(error, ProcessDied):
            error = UserError("its process died without an error message")
        return (JobStatus.COMPLETED if error is None else JobStatus.FAILED), error


def in_tasks(overrides: Sequence[Sequence[str]], first: int, size: int) -> list[list[Job]]:
    """The jobs, numbered from `first`, in tasks of `size`; the last has what is left."""
    jobs = [Job(number, tuple(words)) for number, words in enumerate(overrides, start=first)]
    return [jobs[begin : begin + size] for begin in range(0, len(jobs), size)]


def cores_of_task() -> int:
    """The cores that SLURM gave the task, else those that the process may use."""
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(asked) if asked.isdigit() else cores()


def run_jobs(jobs: Sequence[Callable[[], T]], at_a_time: int) -> list[T | Exception]:
    """Run each job in a process of its own; return what it returned or, of one that raised or died, the error.

    If this process is interrupted, the jobs get SIGTERM, on which they save a checkpoint; no further one starts."""
    running: set[OwnProcess] = set()
    stopped = threading.Event()
    with ThreadPoolExecutor(at_a_time) as threads:
        futures = [threads.submit(_in_process_of_its_own, job, running, stopped) for job in jobs]
        try:
            return _outcomes(futures)
        except BaseException:  # submitit exits by a signal handler when the task is requeued
            stopped.set()
            for future in futures:
                future.cancel()
            for process in list(running):
                process.terminate()
            raise


def _outcomes(futures: Sequence[Future[T]]) -> list[T | Exception]:
    found: list[T | Exception] = []
    for future in futures:
        try:
            found.append(future.result())
        except Exception as error:
            found.append(error)
    return found


def _in_process_of_its_own(job: Callable[[], T], running: set[OwnProcess], stopped: threading.Event) -> T:
    with own_process() as process:
        process.run(_leave_warnings_to_the_task)
        running.add(process)
        try:
            if stopped.is_set():  # since this job was chosen
                process.terminate()
            return process.run(job)
        finally:
            running.discard(process)


def _leave_warnings_to_the_task() -> None:
    """SLURM may send its warning to all processes of a task; only the task's own answers."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
