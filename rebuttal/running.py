"""What a run tells while it runs, for whoever looks from another terminal: `status.json` in its folder.

A lock says whether the process lives: the system takes it from one that dies.
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

from rebuttal.files import write_json

log = logging.getLogger(__name__)

SECONDS_BETWEEN_WORDS = 1
_LOCK = ".running.lock"


class Running:
    """The state of one run. Without a folder nobody is told."""

    def __init__(self, folder: str | Path | None = None):
        self._folder = None if folder is None else Path(folder)
        self._facts: dict[str, Any] = {}
        self._told = 0.0
        self._muted = False

    @property
    def in_sweep(self) -> bool:
        return self._facts.get("job") is not None

    @contextmanager
    def alive(self, overrides: list[str], job: int | None = None, sweep: str | None = None) -> Iterator[None]:
        """While the block runs, the run counts as running: as the `job` of that number of the `sweep` of that name.
        Another process with the same folder is waited for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        with FileLock(self._folder / _LOCK):
            self._facts = {"job": job, "sweep": sweep, "overrides": overrides, "began": began}
            self._tell(state="running", host=socket.gethostname(), process=os.getpid())
            yield

    def claimed(self, gpu: str | None) -> None:
        self._try_to_tell(gpu=gpu, claimed=time.time())

    def stage(self, name: str, number: int, of: int) -> None:
        self._try_to_tell(stage=name, stage_number=number, stages=of, step=None, steps=None)

    def step(self, step: int, steps: int) -> None:
        if time.monotonic() - self._told > SECONDS_BETWEEN_WORDS:
            self._try_to_tell(step=step, steps=steps)

    def ended(self, state: str, **facts: Any) -> None:
        self._tell(state=state, **facts)

    def _try_to_tell(self, **facts: Any) -> None:
        """Nobody's training is to end because it could not be told how far it is."""
        try:
            self._tell(**facts)
        except OSError as error:
            if not self._muted:
                log.warning("cannot tell how far the run is (%s: %s); it goes on", self._folder, error.strerror)
            self._muted = True

    def _tell(self, **facts: Any) -> None:
        self._facts |= facts
        self._told = time.monotonic()
        if self._folder is not None:
            write_json(self._folder / "status.json", self._facts | {"now": time.time()})


def is_running(folder: Path) -> bool:
    """Whether a living process runs in `folder`."""
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True
