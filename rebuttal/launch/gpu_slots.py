"""GPU slots: each job on a machine with several GPUs claims a free slot on one of them, before CUDA starts.

A slot is a file lock, which the system releases when its process dies; jobs from several terminals share the files.
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
from functools import partial
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # by which CUDA numbers the GPUs as nvidia-smi does
SECONDS_BETWEEN_TRIES = 0.2


def gpus() -> list[str]:
    """The GPUs that jobs may use: those of CUDA_VISIBLE_DEVICES or, if it is not set, all of the machine's.

    Each by its UUID if that is known, so that a GPU has one name however it was listed. As for CUDA, what follows the
    number of a GPU that there is not, such as -1, does not count.
    """
    uuids = _uuids()
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return list(uuids.values())
    names = (name.strip() for name in visible.split(",") if name.strip())
    return [uuids.get(name, name) for name in takewhile(partial(_may_be_there, uuids=uuids), names)]


def _may_be_there(name: str, uuids: dict[str, str]) -> bool:
    return not name.startswith("-") and (name in uuids or not uuids or not name.isdigit())


def _uuids() -> dict[str, str]:
    """UUIDs by index, from nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    if answer.returncode != 0:
        return {}
    pairs = (line.split(", ") for line in answer.stdout.splitlines())
    return {index: uuid for index, uuid in pairs}


@contextmanager
def gpu_slot(jobs_per_gpu: int) -> Iterator[str | None]:
    """Within the block this process sees one GPU, which it shares with at most `jobs_per_gpu` − 1 others.

    Yields the GPU's name; None if the machine has none. Waits until a slot is free.
    """
    names = gpus()
    if not names:
        yield None
        return
    gpu, lock = _claim(names, jobs_per_gpu)
    try:
        with _environment({VISIBLE: gpu, **ORDER}):
            yield gpu
    finally:
        lock.release()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Within the block the process has these environment variables; afterwards those that it had."""
    before = {name: os.environ.pop(name, None) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _claim(names: list[str], jobs_per_gpu: int) -> tuple[str, FileLock]:
    """The least used GPU first: the first slot on each, then the second on each, …"""
    folder = Path(tempfile.gettempdir()) / f"rebuttal-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    logged = False
    while True:
        for slot in range(jobs_per_gpu):
            for name in names:
                lock = FileLock(folder / f"{name}-{slot}.lock")
                try:
                    lock.acquire(timeout=0)
                    return name, lock
                except Timeout:
                    continue
        if not logged:
            log.info("waiting for a GPU: all of %s are taken (jobs_per_gpu=%d)", ", ".join(names), jobs_per_gpu)
            logged = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_threads(jobs: int, per_gpu: int | None, in_all: int | None, of_cores: int | None = None) -> int:
    """CPU threads for each of the jobs that run concurrently, so that together they use no more than the cores.

    `jobs`: joblib's `n_jobs` (−1: one job a core). `per_gpu`: how many share a GPU; None: they use none.
    `in_all`: the number of jobs in all, if known. `of_cores`: those to share, if not all that the process may use.
    """
    shared = of_cores or cores()
    concurrent = jobs if jobs > 0 else max(1, shared + 1 + jobs)
    if per_gpu is not None and (names := gpus()):
        concurrent = min(concurrent, len(names) * per_gpu)
    concurrent = min(concurrent, in_all or concurrent)
    return max(1, shared // concurrent)
