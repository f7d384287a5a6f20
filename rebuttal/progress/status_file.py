"""`status.json` in a run's folder: how far the run is, for anyone watching from another terminal.

A file lock shows whether the process is alive: the system releases it when the process dies.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rebuttal.errors import ConfigError, UserError
from rebuttal.store.files import write_json

log = logging.getLogger(__name__)

SECONDS_BETWEEN_UPDATES = 10  # of progress; many jobs may write to one file system
STATUS = "status.json"
LOCK = ".running.lock"


@dataclass(frozen=True)
class Status:
    """What `status.json` says of a run. `seconds_left`: of the current training, at most. `process`: on `host`, the
    number of the one that runs it, or ran it last."""

    state: str
    job: int | None
    sweep: str | None
    overrides: tuple[str, ...]
    began: float
    now: float
    why: str = ""
    computed: int | None = None
    stage: str | None = None
    stage_number: int | None = None
    stages: int | None = None
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    seconds_left: float | None = None
    host: str | None = None
    process: int | None = None


def read_status(folder: Path) -> Status | None:
    """Return the status of the run in `folder`; None without one. Raises `UserError` for a damaged or foreign file."""
    try:
        return TypeAdapter(Status).validate_json((folder / STATUS).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{folder / STATUS}: is not a run's status ({where and f'{where}: '}{first['msg']})") from None
    except OSError as error:
        raise UserError(f"{folder / STATUS}: cannot be read ({error.strerror})") from None


class StatusFile:
    """The state of one run. Without a folder nothing is written."""

    def __init__(self, folder: str | Path | None = None):
        self._folder = None if folder is None else Path(folder)
        self._status: dict[str, Any] = {}
        self._updated = -math.inf  # when progress was written last
        self._writing = threading.RLock()
        self._due: threading.Timer | None = None  # writes what has been reported since
        self._warned = False
        self._step = 0
        self._first = (0, 0.0)  # step and time at which this process began or resumed the current training

    @property
    def in_sweep(self) -> bool:
        return self._status.get("job") is not None

    @contextmanager
    def alive(self, overrides: list[str], job: int | None = None, sweep: str | None = None) -> Iterator[None]:
        """While the block runs, the run counts as running: job number `job` of the sweep with id `sweep`.

        Waits for another process that runs in the same folder. Raises `ValueError` without a folder, and `ConfigError`
        if the folder is that of another job of the sweep."""
        if self._folder is None:
            raise ValueError("a run without a folder has no status file")
        self._folder.mkdir(parents=True, exist_ok=True)
        began = time.time()
        with FileLock(self._folder / LOCK):
            _check_is_free(self._folder, job, sweep)
            self._status = {"job": job, "sweep": sweep, "overrides": overrides, "began": began}
            self._update(state="running", host=socket.gethostname(), process=os.getpid())
            try:
                yield
            finally:
                self._nothing_is_due()

    def claimed(self, gpu: str | None) -> None:
        self._update(gpu=gpu, claimed=time.time())

    def stage(self, name: str, number: int, of: int) -> None:
        self._step = 0
        self._report(stage=name, stage_number=number, stages=of, step=None, steps=None, loss=None, seconds_left=None)

    def step(self, step: int, steps: int) -> None:
        """Record that the current training has done `step` of at most `steps` steps."""
        if step <= self._step or self._step == 0:
            self._first = step, time.time()
        self._step = step
        self._report(step=step, steps=steps, seconds_left=self._seconds_left(steps))

    def epoch(self, row: dict[str, float]) -> None:
        """Record the loss of an epoch; it is written with the next step."""
        if math.isfinite(loss := row.get("loss", math.nan)):
            self._status["loss"] = loss

    def figures_failed(self, stages: list[str]) -> None:
        if stages:
            self._update(figures_failed=stages)

    def ended(self, state: str, **facts: Any) -> None:
        self._write(state=state, **facts)

    def _seconds_left(self, steps: int) -> float | None:
        first, began = self._first
        done = self._step - first
        return (time.time() - began) / done * (steps - self._step) if done > 0 else None

    def _report(self, **facts: Any) -> None:
        """Write progress now, or when it is due, also if nothing more is reported until then."""
        with self._writing:
            self._status |= facts
            wait = self._updated + SECONDS_BETWEEN_UPDATES - time.monotonic()
            if wait <= 0:
                self._write_progress()
            elif self._due is None and self._folder is not None:
                self._due = threading.Timer(wait, self._write_progress)
                self._due.daemon = True
                self._due.start()

    def _write_progress(self) -> None:
        with self._writing:
            self._updated = time.monotonic()
            self._update()

    def _nothing_is_due(self) -> None:
        with self._writing:
            if self._due is not None:
                self._due.cancel()
            self._due = None

    def _update(self, **facts: Any) -> None:
        """Write at once; a status file that cannot be written is logged once and never stops the run."""
        try:
            self._write(**facts)
        except OSError as error:
            if not self._warned:
                log.warning("cannot write the run's status (%s: %s); the run continues", self._folder, error.strerror)
            self._warned = True

    def _write(self, **facts: Any) -> None:
        with self._writing:
            self._nothing_is_due()  # all that was reported is written
            self._status |= facts
            if self._folder is not None:
                write_json(self._folder / STATUS, self._status | {"now": time.time()})


def is_running(folder: Path) -> bool:
    """True if a living process runs in `folder`."""
    return is_held(folder / LOCK)


def is_lock(path: Path) -> bool:
    """True if a file may be a lock of this tool's: they are empty."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size == 0


def is_held(lock: Path) -> bool:
    """True if a living process holds the file lock."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # another user's, or a file system that can only be read
        return _is_shut(lock)


def _is_shut(lock: Path) -> bool:
    """True if a process holds a lock that this one cannot take, as far as it can be seen."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True


def _check_is_free(folder: Path, job: int | None, sweep: str | None) -> None:
    there = read_status(folder)
    if there is not None and sweep is not None and there.sweep == sweep and there.job != job:
        raise ConfigError(
            f"hydra.sweep.subdir: job {there.job} of this sweep has the folder {folder}; allowed: a folder for each "
            "job, such as ${hydra:job.num}"
        )
