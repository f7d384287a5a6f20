"""Waiting for the jobs of a sweep that submitit started, which stops waiting at the first job that dies."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

MAX_SILENT_QUERIES = 24  # consecutive unanswered queries before giving up on SLURM


def wait_for_cluster(folder: Path, seconds: float = 5) -> None:
    """Wait while SLURM still has jobs of the sweep in `folder`. submitit stops waiting at the first job that dies."""
    silent = 0
    while (queued := is_queued(folder)) is not False and silent < MAX_SILENT_QUERIES:
        silent = silent + 1 if queued is None else 0
        time.sleep(seconds)


def is_queued(folder: Path) -> bool | None:
    """True if SLURM has jobs of the sweep in `folder`; None if it does not answer."""
    ids = _submitted(folder)
    queued = _queued() if ids else set()
    return None if queued is None else bool(ids & queued)


def wait_for_submitit_local(folder: Path, seconds: float = 0.2) -> None:
    """Wait while processes that submitit started here for the sweep in `folder` run; it names jobs by process."""
    for number in _submitted(folder):
        while number.isdigit() and _is_running_child(int(number)):
            time.sleep(seconds)


def _is_running_child(process: int) -> bool:
    try:
        return os.waitpid(process, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # it has ended, and submitit has seen it
        return False


def _submitted(folder: Path) -> set[str]:
    """The ids of the jobs and arrays that submitit started for the sweep in `folder`."""
    return {path.name.split("_")[0] for path in (folder / ".submitit").glob("*")}


def _queued() -> set[str] | None:
    """The ids of this user's jobs and arrays in SLURM's queue; None if SLURM does not answer."""
    try:
        query = ["squeue", "--noheader", "--me", "--format=%F"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(answer.stdout.split()) if answer.returncode == 0 else None
