"""One machine, several GPUs: each job claims a free place on one of them, before CUDA starts.

A place is a file lock, which the system takes from a process that dies; jobs from several terminals share the files.
"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.2
_visible_at_start = os.environ.get(VISIBLE)  # of this process, which may run several jobs one after the other


def gpus() -> list[str]:
    """The GPUs that jobs may have: those of CUDA_VISIBLE_DEVICES, or where it is not set all of the machine."""
    if _visible_at_start is not None:
        return [name.strip() for name in _visible_at_start.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    return found.stdout.split() if found.returncode == 0 else []


@contextmanager
def gpu_slot(jobs_per_gpu: int) -> Iterator[str | None]:
    """Within the block this process sees one GPU, which it shares with at most `jobs_per_gpu` − 1 others; gives its
    name, or null where the machine has none. Waits until a place is free."""
    names = gpus()
    if not names:
        yield None
        return
    gpu, lock = _claim(_reachable(names), jobs_per_gpu)
    os.environ[VISIBLE] = gpu
    try:
        yield gpu
    finally:
        lock.release()


def _reachable(names: list[str]) -> list[str]:
    """Once CUDA has started, a process keeps the GPU that it saw then."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return [os.environ[VISIBLE]]
    return names


def _claim(names: list[str], jobs_per_gpu: int) -> tuple[str, FileLock]:
    """The emptiest GPU first: the first place on each, then the second on each, …"""
    folder = Path(tempfile.gettempdir()) / f"rebuttal-gpus-{getpass.getuser()}"
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


def share_of_threads(jobs: int, jobs_per_gpu: int) -> int:
    """CPU threads for each of the jobs that run at a time, so that together they do not want more than there are.
    `jobs` of joblib: −1, one a core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    at_a_time = jobs if jobs > 0 else max(1, cores + 1 + jobs)
    if names := gpus():
        at_a_time = min(at_a_time, len(names) * jobs_per_gpu)
    return max(1, cores // at_a_time)
