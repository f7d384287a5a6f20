"""One machine, several GPUs: each job claims a free place on one of them, before CUDA starts.

A place is a file lock, which the system takes from a process that dies; jobs from several terminals share the files.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.2


def gpus() -> list[str]:
    """The GPUs that jobs may have: those of CUDA_VISIBLE_DEVICES, or where it is not set all of the machine; each by
    its UUID where that is known, so that it has one name whoever names it."""
    names = _names()
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return list(names.values())
    return [names.get(name.strip(), name.strip()) for name in visible.split(",") if name.strip()]


def _names() -> dict[str, str]:
    """UUIDs by number, as nvidia-smi has them."""
    if shutil.which("nvidia-smi") is None:
        return {}
    asked = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    return dict(line.split(", ") for line in found.stdout.splitlines()) if found.returncode == 0 else {}


@contextmanager
def gpu_slot(jobs_per_gpu: int) -> Iterator[str | None]:
    """Within the block this process sees one GPU, which it shares with at most `jobs_per_gpu` − 1 others; gives its
    name, or null where the machine has none. Waits until a place is free."""
    names = gpus()
    if not names:
        yield None
        return
    gpu, lock = _claim(names, jobs_per_gpu)
    os.environ[VISIBLE] = gpu
    try:
        yield gpu
    finally:
        lock.release()


def _claim(names: list[str], jobs_per_gpu: int) -> tuple[str, FileLock]:
    """The emptiest GPU first: the first place on each, then the second on each, …"""
    folder = Path(tempfile.gettempdir()) / f"rebuttal-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for place in range(jobs_per_gpu):
            for name in names:
                lock = FileLock(folder / f"{name}-{place}.lock")
                try:
                    lock.acquire(timeout=0)
                    return name, lock
                except Timeout:
                    continue
        if not said:
            log.info("waiting for a GPU: all of %s are taken (jobs_per_gpu=%d)", ", ".join(names), jobs_per_gpu)
            said = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def share_of_threads(jobs: int, jobs_per_gpu: int, of: int | None) -> int:
    """CPU threads for each of the jobs that run at a time, so that together they do not want more than there are.
    `jobs` of joblib: −1, one a core. `of`: how many there are in all, where that is known."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_a_time = jobs if jobs > 0 else max(1, cores + 1 + jobs)
    if names := gpus():
        at_a_time = min(at_a_time, len(names) * jobs_per_gpu)
    at_a_time = min(at_a_time, of or at_a_time)
    return max(1, cores // at_a_time)
