"""Waiting for the jobs of a sweep that SLURM still holds."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

MAX_SILENT_QUERIES = 24  # consecutive unanswered queries before giving up on SLURM


def wait_for_cluster(folder: Path, seconds: float = 5) -> None:
    """Wait while SLURM still has jobs of the sweep in `folder`. submitit stops waiting at the first job that dies."""
    ids = {path.name.split("_")[0] for path in (folder / ".submitit").glob("*")}
    silent = 0
    while ids and silent < MAX_SILENT_QUERIES:
        queued = _queued()
        if queued is not None and not ids & queued:
            return
        silent = silent + 1 if queued is None else 0
        time.sleep(seconds)


def _queued() -> set[str] | None:
    """The ids of this user's jobs and arrays in SLURM's queue; None if SLURM does not answer."""
    try:
        query = ["squeue", "--noheader", "--me", "--format=%F"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(answer.stdout.split()) if answer.returncode == 0 else None
