"""`status.json` in a run's folder: how far the run is, for anyone watching from another terminal.

A file lock shows whether the process is alive: the system releases it when the process dies.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rebuttal.store.files import write_json

log = logging.getLogger(__name__)

SECONDS_BETWEEN_UPDATES = 1
STATUS = "status.json"
LOCK = ".running.lock"


class StatusFile:
    """The state of one run. Without a folder nothing is written."""

    def __init__(self, folder: str | Path | None = None):
        self._folder = None if folder is None else Path(folder)
        self._status: dict[str, Any] = {}
        self._updated = 0.0
        self._warned = False

    @property
    def in_sweep(self) -> bool:
        return self._status.get("job") is not None

    @contextmanager
    def alive(self, overrides: list[str], job: int | None = None, sweep: str | None = None) -> Iterator[None]:
        """While the block runs, the run counts as running: job number `job` of the sweep with id `sweep`.

        Waits for another process that runs in the same folder. Raises `ValueError` without a folder."""
        if self._folder is None:
            raise ValueError("a run without a folder has no status file")
        self._folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        with FileLock(self._folder / LOCK):
            self._status = {"job": job, "sweep": sweep, "overrides": overrides, "began": began}
            self._write(state="running", host=socket.gethostname(), process=os.getpid())
            yield

    def claimed(self, gpu: str | None) -> None:
        self._update(gpu=gpu, claimed=time.time())

    def stage(self, name: str, number: int, of: int) -> None:
        self._update(stage=name, stage_number=number, stages=of, step=None, steps=None)

    def step(self, step: int, steps: int) -> None:
        if time.monotonic() - self._updated > SECONDS_BETWEEN_UPDATES:
            self._update(step=step, steps=steps)

    def figures_failed(self, stages: list[str]) -> None:
        if stages:
            self._update(figures_failed=stages)

    def ended(self, state: str, **facts: Any) -> None:
        self._write(state=state, **facts)

    def _update(self, **facts: Any) -> None:
        """Write progress; a status file that cannot be written is logged once and never stops the run."""
        try:
            self._write(**facts)
        except OSError as error:
            if not self._warned:
                log.warning("cannot write the run's status (%s: %s); the run continues", self._folder, error.strerror)
            self._warned = True

    def _write(self, **facts: Any) -> None:
        self._status |= facts
        self._updated = time.monotonic()
        if self._folder is not None:
            write_json(self._folder / STATUS, self._status | {"now": time.time()})


def is_running(folder: Path) -> bool:
    """True if a living process runs in `folder`."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True
