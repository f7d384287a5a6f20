"""A sweep as a whole: which jobs it has, how far each one is, and how it ended.

All of it is read from the folders of the runs, never from a scheduler: SLURM calls a job whose run failed completed,
and knows nothing of a run that came from the store.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from rebuttal.errors import ConfigError, UserError
from rebuttal.launch.cluster import is_queued
from rebuttal.launch.settings import SLURM
from rebuttal.progress.status_file import Status, is_held, is_lock, is_running, read_status
from rebuttal.store.files import write_json
from rebuttal.store.needs import SWEEP_NEEDS, Needs, needs_of_sweep
from rebuttal.store.written import Written

log = logging.getLogger(__name__)

ENDED = ("done", "from store", "failed", "not begun")
SUCCEEDED = ("done", "from store")
_RECORD = "sweep.json"
_LOCK = ".sweep.lock"
_JOBS = ".jobs"  # a file for each job that began: where its folder is
_STOP = "stopped_by"
_LIST = ".sweep_files.json"
FILES = (_RECORD, _STOP, SWEEP_NEEDS, "multirun.yaml", "optimization_results.yaml")  # the last two are of sweepers


class NotBegun(UserError):
    """A job that an interruption, or `on_failure=stop`, kept from starting."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep, or a single run without a number, and its state.

    The states: `waiting`, `running`, `done`, `from store`, `failed`, `not begun`, `cut short` (its process died or was
    stopped), `unknown` (its status cannot be read)."""

    number: int | None
    overrides: tuple[str, ...]
    state: str
    why: str = ""
    status: Status | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def begun(self) -> bool:
        return self.status is not None or self.state == "unknown"

    @property
    def over(self) -> bool:
        """True if it will not change any more, unless a cluster requeues it."""
        return self.state not in ("waiting", "running")


@dataclass(frozen=True)
class _Record:
    """`sweep.json`. `id`: a name for this start of the sweep. Clocks differ between machines; this does not.

    `jobs`: the overrides of each; None if they are not known in advance. `launcher`: the class that starts the jobs."""

    id: str | None
    began: float
    jobs: tuple[tuple[str, ...], ...] | None
    launcher: str = ""


@dataclass(frozen=True)
class _Begun:
    """`.jobs/<number>.json`. `folder`: seen from that of the sweep if it lies below, so that both can be moved."""

    folder: Path
    overrides: tuple[str, ...]


class Sweep:
    """The sweep in `folder`; `sweep.json` there lists its jobs."""

    def __init__(self, folder: str | Path):
        self.name = str(folder)
        self.folder = Path(folder).absolute()  # code of the user's may change the working directory
        self._files = Written(self.folder, _LIST, f"hydra.sweep.dir={self.name}", self._of_earlier_version)
        self._begun_here: _Record | None = None
        self._made: list[Path] = []  # folders that were not there before, the innermost first

    def check(self) -> None:
        """Raise `ConfigError` if the sweep would overwrite a file that no sweep of this tool wrote."""
        lock, jobs = self.folder / _LOCK, self.folder / _JOBS
        if os.path.lexists(lock) and not is_lock(lock):  # which is not listed, because it comes first
            raise self._files.refused(lock)
        if os.path.lexists(jobs) and not jobs.is_dir():
            raise self._files.refused(jobs)
        for path in self._records():  # which jobs write at any time, each its own, so that no list can have them
            if _begun_in(path) is None:
                raise self._files.refused(path)
        self._files.check(FILES)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the block runs, jobs may begin. Waits for another command that runs a sweep in the folder.

        Raises `ConfigError` if there cannot be such a folder."""
        lock = FileLock(self.folder / _LOCK)
        try:
            self._made = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                print(f"{self.name}: waiting for another command that runs a sweep there", flush=True)
                lock.acquire()
        except OSError as error:
            raise self._not_writable(error) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, jobs: list[list[str]] | None, launcher: str = "") -> None:
        """Record the overrides of each job; None if they are not known in advance. Raises `ConfigError` as `check`, and
        for a folder that cannot be written."""
        record: dict[str, Any] = {"id": uuid.uuid4().hex, "began": time.time(), "jobs": jobs, "launcher": launcher}
        try:
            self.check()
            self._files.claim(FILES)
            (self.folder / _STOP).unlink(missing_ok=True)
            for path in self._records():
                path.unlink()
            write_json(self.folder / _RECORD, record)
        except OSError as error:
            raise self._not_writable(error) from None
        self._begun_here = TypeAdapter(_Record).validate_python(record)

    def forget(self) -> None:
        """Remove what a command has left in folders of its own, of whose jobs none began and for which nothing was
        trained."""
        if (self.folder / SWEEP_NEEDS).exists():
            return
        for name in (*FILES, _LIST, _LOCK) if self._made else ():
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # they hold something else
            for folder in self._made:
                folder.rmdir()

    def id(self) -> str | None:
        return self.record().id

    def size(self) -> int | None:
        """The number of its jobs, if known in advance."""
        jobs = self.record().jobs
        return None if jobs is None else len(jobs)

    def record(self) -> _Record:
        """Return what `sweep.json` says. Raises `UserError` if it is damaged."""
        if self._begun_here is not None:
            return self._begun_here
        path = self.folder / _RECORD
        try:
            return TypeAdapter(_Record).validate_json(path.read_bytes())
        except FileNotFoundError:  # a sweep that was started in some other way
            return _Record(None, 0, None)
        except (OSError, ValidationError) as error:
            raise UserError(f"{path}: cannot be read as the list of a sweep's jobs ({type(error).__name__})") from None

    def register(self, number: int, folder: Path, overrides: list[str]) -> None:
        """Record that a job, whose status is written, is in `folder`. One that cannot be recorded runs all the same."""
        real, of_sweep = folder.resolve(), self.folder.resolve()
        place = real.relative_to(of_sweep) if real.is_relative_to(of_sweep) else real
        try:
            (self.folder / _JOBS).mkdir(exist_ok=True)
            write_json(self.folder / _JOBS / f"{number}.json", {"folder": str(place), "overrides": overrides})
        except OSError as error:
            log.warning("cannot record job %d in %s (%s); it runs all the same", number, self.folder, error.strerror)

    def add_needs(self, needs: Needs) -> None:
        """Record, before it is trained, what jobs that have no folder yet need of the store, so that nothing of it is
        pruned should the sweep be cut short. A sweep that cannot record it goes on all the same."""
        before = needs_of_sweep(self.folder) or Needs()
        try:
            write_json(self.folder / SWEEP_NEEDS, (before | needs).content())
        except OSError as error:
            log.warning("cannot record what the jobs in %s need (%s); the sweep goes on", self.folder, error.strerror)

    def forget_needs(self) -> None:
        """For a sweep whose jobs are all done: their own folders say what they need."""
        with suppress(OSError):  # what is recorded twice does no harm
            (self.folder / SWEEP_NEEDS).unlink(missing_ok=True)

    def stop(self, job: int | None) -> None:
        """Let no further job begin, because this one failed; None: because the command was interrupted."""
        write_json(self.folder / _STOP, job)

    def check_not_stopped(self) -> None:
        """Raise `NotBegun` after the command was interrupted, or a job has failed under `on_failure=stop`."""
        if (self.folder / _STOP).exists():
            failed = (self.folder / _STOP).read_text(encoding="utf-8").strip()
            if failed == "null":
                raise NotBegun("not begun, because the sweep was interrupted; rerun the command to resume")
            raise NotBegun(f"on_failure=stop: not begun, because job {failed} failed")

    def is_running(self) -> bool:
        """True while further jobs may begin."""
        return is_held(self.folder / _LOCK) or (self.record().launcher == SLURM and is_queued(self.folder) is not False)

    def jobs(self) -> list[Job]:
        """In the order of their numbers. Raises `UserError` if `sweep.json` is damaged."""
        record = self.record()
        running = self.is_running()  # first, because a job that begins meanwhile must not count as not begun
        found = {number: self._job(number, begun, record.id) for number, begun in self._begun()}
        left = ("waiting", "") if running else ("not begun", "the sweep was stopped; rerun the command to resume")
        expected = {n: Job(n, overrides, *left) for n, overrides in enumerate(record.jobs or ())}
        return [job for _, job in sorted((expected | found).items())]

    def has_ended(self, number: int) -> bool:
        """True if this job, since the sweep began, has come to an end that a rerun would not change."""
        begun = _begun_in(self.folder / _JOBS / f"{number}.json")
        with suppress(UserError):  # a list that is damaged stops no job
            return begun is not None and self._job(number, begun, self.record().id).ended
        return False

    def _job(self, number: int, begun: _Begun, sweep: str | None) -> Job:
        """`sweep`: the id of this start of the sweep, if it has one."""
        folder = self.folder / begun.folder
        try:
            job = job_of(folder)
        except UserError as error:
            return Job(number, begun.overrides, "unknown", str(error))
        of_other_sweep = sweep is not None and job.status is not None and job.status.sweep != sweep
        if job.number != number or of_other_sweep:
            return Job(number, begun.overrides, "unknown", f"{folder}: holds another run; rerun the command")
        return job

    def _records(self) -> Iterator[Path]:
        return (self.folder / _JOBS).glob("[0-9]*.json")

    def _begun(self) -> Iterator[tuple[int, _Begun]]:
        for path in self._records():
            if (begun := _begun_in(path)) is None:
                log.warning("%s: is not the record of a job; it is left out", path)
            else:
                yield int(path.stem), begun

    def _of_earlier_version(self, content: Any) -> tuple[str, ...] | None:
        """The files of a sweep of a version that kept no list, known by its `sweep.json`; None for another list."""
        if content is not None:
            return None
        try:
            return FILES if self.record().began else ()
        except UserError:
            return ()

    def _not_writable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"hydra.sweep.dir={self.name}: cannot be written ({error.strerror}); allowed: a writable folder"
        )


def job_of(folder: Path) -> Job:
    """Return the single run, or the job of a sweep, in `folder`. Raises `UserError` if its status cannot be read."""
    status = read_status(folder)
    if status is None:
        raise UserError(f"{folder}: has no status.json; allowed: the folder of a run")
    state, why = status.state, status.why
    if state == "running" and not is_running(folder):
        state, why = "cut short", "its process died without an error message; rerun the command to resume"
    elif state == "done" and not status.computed:
        state = "from store"
    return Job(status.job, status.overrides, state, why, status)


def _begun_in(path: Path) -> _Begun | None:
    """What a file says of the job whose number is its name; None if it is not the record of a job."""
    try:
        return TypeAdapter(_Begun).validate_json(path.read_bytes()) if path.stem.isdigit() else None
    except (OSError, ValueError):
        return None
