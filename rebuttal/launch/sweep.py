"""A sweep as a whole: which jobs it has, how far each one is, and how it ended.

All of it is read from the folders of the runs, never from a scheduler: SLURM calls a job whose run failed completed,
and knows nothing of a run that came from the store.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebuttal.errors import UserError
from rebuttal.progress.status_file import is_running
from rebuttal.store.files import write_json
from rebuttal.store.written import Written, read_json

if TYPE_CHECKING:
    from rich.table import Table

MAX_ROWS = 60  # the table of a larger sweep lists only the jobs that did not end well
ENDED = ("done", "from store", "failed", "not begun")
SUCCEEDED = ("done", "from store")
_STOP = "stopped_by"
FILES = ("sweep.json", _STOP, "multirun.yaml", "optimization_results.yaml")  # the last two are written by sweepers


class NotBegun(UserError):
    """A job that `on_failure=stop` kept from starting."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep and its state: `waiting`, `running`, `done`, `from store`, `failed`, `not begun`, or
    `cut short` (its process died)."""

    number: int
    overrides: tuple[str, ...]
    state: str
    folder: Path | None = None
    why: str = ""
    status: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def words(self) -> str:
        return " ".join(self.overrides) or "(no overrides)"


class Sweep:
    """The sweep in `folder`; `sweep.json` there lists its jobs."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._files = Written(self.folder, ".sweep_files.json", "hydra.sweep.dir", self._of_earlier_version)

    def check(self) -> None:
        """Raise `ConfigError` if the sweep would overwrite a file that no sweep of this tool wrote."""
        self._files.check(FILES)

    def _of_earlier_version(self, content: Any) -> tuple[str, ...] | None:
        """The files of a sweep of a version that kept no list, known by its `sweep.json`; None for another list."""
        record = read_json(self.folder / "sweep.json")
        ours = isinstance(record, dict) and {"id", "began", "jobs"} <= set(record)
        return None if content is not None else FILES if ours else ()

    def begin(self, jobs: list[list[str]] | None) -> None:
        """Record the overrides of each job; None if they are not known in advance. Raises `ConfigError` as `check`."""
        self._files.claim(FILES)
        (self.folder / _STOP).unlink(missing_ok=True)
        write_json(self.folder / "sweep.json", {"id": uuid.uuid4().hex, "began": time.time(), "jobs": jobs})

    def id(self) -> str | None:
        """A name for this start of the sweep. Clocks differ between machines; this does not."""
        found: str | None = self._record()["id"]
        return found

    def size(self) -> int | None:
        """The number of its jobs, if known in advance."""
        jobs = self._record()["jobs"]
        return None if jobs is None else len(jobs)

    def stop(self, job: int) -> None:
        write_json(self.folder / _STOP, job)

    def check_not_stopped(self) -> None:
        """Raise `NotBegun` after a job has failed under `on_failure=stop`."""
        if (self.folder / _STOP).exists():
            failed = (self.folder / _STOP).read_text(encoding="utf-8").strip()
            raise NotBegun(f"on_failure=stop: not begun, because job {failed} failed")

    def jobs(self) -> list[Job]:
        """In the order of their numbers; those without a status yet are `waiting`."""
        record = self._record()
        found = {job.number: job for job in self._begun(record["id"])}
        expected = record["jobs"] or []
        waiting = {n: Job(n, tuple(overrides), "waiting") for n, overrides in enumerate(expected)}
        return [job for _, job in sorted((waiting | found).items())]

    def _record(self) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads((self.folder / "sweep.json").read_text(encoding="utf-8"))
            return record
        except FileNotFoundError:  # a sweep that was started in some other way
            return {"id": None, "jobs": None}

    def _begun(self, sweep: str | None) -> Iterator[Job]:
        for path in self.folder.rglob("status.json"):
            try:
                status = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if status["job"] is not None and (status["sweep"] == sweep or is_running(path.parent)):
                yield _job(path.parent, status)


def _job(folder: Path, status: dict[str, Any]) -> Job:
    state, why = status["state"], status.get("why", "")
    if state == "running" and not is_running(folder):
        state, why = "cut short", "its process died without an error message; rerun the command to resume"
    elif state == "done" and not status["computed"]:
        state = "from store"
    return Job(status["job"], tuple(status["overrides"]), state, folder, why, status)


def job_table(jobs: Iterable[Job]) -> Table:
    """A row a job; of many jobs only those that did not end well."""
    from rich.table import Table

    jobs = list(jobs)
    shown = jobs if len(jobs) <= MAX_ROWS else [job for job in jobs if job.state not in SUCCEEDED]
    table = Table(title="Jobs" if shown == jobs else "Jobs that did not end well", show_edge=False)
    for column in ("job", "overrides", "state", "reason, or progress"):
        table.add_column(column, no_wrap=column == "state", overflow="fold")
    for job in shown:
        table.add_row(str(job.number), job.words(), job.state, job.why or _progress(job))
    return table


def count_states(jobs: Iterable[Job]) -> str:
    """`2 done, 1 failed`"""
    return ", ".join(f"{n} {state}" for state, n in Counter(job.state for job in jobs).items())


def _progress(job: Job) -> str:
    status = job.status or {}
    if job.state == "done":
        return f"{status['computed']} results computed in {status['now'] - status['began']:.0f} s"
    if job.state != "running" or "stage" not in status:
        return ""
    progress = f"{status['stage']} ({status['stage_number']} of {status['stages']})"
    if status.get("steps"):
        progress += f", step {status['step']} of at most {status['steps']}"
    return f"{progress}, for {time.time() - status['began']:.0f} s"
