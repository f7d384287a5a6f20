"""A sweep as a whole: which jobs it has, how far each one is, and how it ended.

All of it is read from the folders of the runs. What a scheduler says of a job is not asked: SLURM calls a job
whose run failed completed, and knows nothing of one that came from the store.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rebuttal.asked import jobs_of
from rebuttal.errors import UserError
from rebuttal.files import write_json
from rebuttal.progress import wide_console
from rebuttal.running import is_running

log = logging.getLogger(__name__)

SHOWN_IN_FULL = 60  # jobs; of a larger sweep the table shows only those that did not end well
TRIES = 24  # how often a SLURM that does not answer is asked again
ENDED = ("done", "from store", "failed", "not begun")
_STOP = "stopped_by"


class NotBegun(UserError):
    """A job that `on_failure=stop` kept from beginning."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep and its state: `waiting`, `running`, `done`, `from store`, `failed`, `not begun`, or
    `cut short` (its process died)."""

    number: int
    overrides: tuple[str, ...]
    state: str
    folder: Path | None = None
    why: str = ""
    facts: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def words(self) -> str:
        return " ".join(self.overrides) or "(no overrides)"


class Sweep:
    """The sweep in `folder`; `sweep.json` there says which jobs it has."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def begin(self, jobs: list[list[str]] | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _STOP).unlink(missing_ok=True)
        write_json(self.folder / "sweep.json", {"id": uuid.uuid4().hex, "began": time.time(), "jobs": jobs})

    def id(self) -> str | None:
        """Of this time that the sweep was begun. Clocks differ from machine to machine; this does not."""
        return self._plan()["id"]

    def size(self) -> int | None:
        """The number of its jobs, where that is known beforehand."""
        jobs = self._plan()["jobs"]
        return jobs and len(jobs)

    def stop(self, job: int) -> None:
        write_json(self.folder / _STOP, job)

    def check_not_stopped(self) -> None:
        if (self.folder / _STOP).exists():
            failed = (self.folder / _STOP).read_text().strip()
            raise NotBegun(f"on_failure=stop: not begun, because job {failed} failed")

    def jobs(self) -> list[Job]:
        """In the order of their numbers; those of which nothing is known yet wait."""
        plan = self._plan()
        found = {job.number: job for job in self._begun(plan["id"])}
        expected = plan["jobs"] or []
        waiting = {n: Job(n, tuple(overrides), "waiting") for n, overrides in enumerate(expected)}
        return [job for _, job in sorted((waiting | found).items())]

    def _plan(self) -> dict[str, Any]:
        try:
            return json.loads((self.folder / "sweep.json").read_text(encoding="utf-8"))
        except FileNotFoundError:  # where the user's own config has no `Watch`
            return {"id": None, "jobs": None}

    def _begun(self, sweep: str) -> Iterator[Job]:
        for path in self.folder.rglob("status.json"):
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if facts["job"] is not None and (facts["sweep"] == sweep or is_running(path.parent)):
                yield _job(path.parent, facts)


def _job(folder: Path, facts: dict[str, Any]) -> Job:
    state, why = facts["state"], facts.get("why", "")
    if state == "running" and not is_running(folder):
        state, why = "cut short", "its process ended without a word; the same command goes on from the last checkpoint"
    elif state == "done" and not facts["computed"]:
        state = "from store"
    return Job(facts["job"], tuple(facts["overrides"]), state, folder, why, facts)


class Watch(Callback):
    """Hydra's callback: writes down, before a sweep begins, which jobs it has. Hydra turns what goes wrong in a
    callback into a warning; nothing here can fail a sweep."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global current
        sweep = Sweep(config.hydra.sweep.dir)
        jobs = jobs_of(config.hydra, config.hydra.overrides.task)
        sweep.begin(None if jobs is None else [[o for o in job if not o.startswith("hydra.")] for job in jobs])
        current = sweep


current: Sweep | None = None  # of this process; known only once Hydra has composed the config


def end(whole: bool = True) -> None:
    """Where this process ran a sweep: wait for jobs that are still on the cluster, show how each one ended, and
    exit with status 1 unless all ended well and Hydra came to the end of it as a whole."""
    if current is None:
        return
    wait_for_cluster(current)
    jobs = current.jobs()
    if all(job.state == "waiting" for job in jobs):
        return  # it never began: the error says why
    wide_console.print(table(jobs))
    wide_console.print(f"{current.folder}: {counted(jobs)}", soft_wrap=True)
    if not whole or any(job.state not in ("done", "from store") for job in jobs):
        print("rebuttal: the sweep is not complete; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(1)


@contextmanager
def told_line_by_line() -> Iterator[None]:
    """While the block runs, a line for each job of this process's sweep that ends, wherever it runs."""
    over = threading.Event()
    told: set[int] = set()

    def tell() -> None:
        took = 0.0
        while not over.wait(max(1, 20 * took)):  # a large sweep has many files to look at
            began = time.monotonic()
            _tell_new(told)
            took = time.monotonic() - began

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _tell_new(told)


def _tell_new(told: set[int]) -> None:
    jobs = current.jobs() if current else ()
    for job in jobs:
        if job.ended and job.number not in told:
            told.add(job.number)
            why = f": {job.why}" if job.why else ""
            said = f"job {job.number} ({len(told)} of {len(jobs)}): {job.words()}: {job.state}{why}"
            wide_console.print(said, markup=False, highlight=False, soft_wrap=True)


def table(jobs: Iterable[Job]) -> Any:
    """A row a job; of many jobs only those that did not end well."""
    from rich.table import Table

    jobs = list(jobs)
    shown = jobs if len(jobs) <= SHOWN_IN_FULL else [job for job in jobs if job.state not in ("done", "from store")]
    found = Table(title="The jobs" if shown == jobs else "The jobs that did not end well", show_edge=False)
    for column in ("job", "overrides", "state", "why, or how far"):
        found.add_column(column, no_wrap=column == "state", overflow="fold")
    for job in shown:
        found.add_row(str(job.number), job.words(), job.state, job.why or _how_far(job))
    return found


def counted(jobs: Iterable[Job]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(job.state for job in jobs).items())


def _how_far(job: Job) -> str:
    facts = job.facts or {}
    if job.state == "done":
        return f"{facts['computed']} results computed in {facts['now'] - facts['began']:.0f} s"
    if job.state != "running" or "stage" not in facts:
        return ""
    said = f"{facts['stage']} ({facts['stage_number']} of {facts['stages']})"
    if facts.get("steps"):
        said += f", step {facts['step']} of at most {facts['steps']}"
    return f"{said}, for {time.time() - facts['began']:.0f} s"


def wait_for_cluster(sweep: Sweep, seconds: float = 5) -> None:
    """Wait while SLURM still has jobs of this sweep. submitit gives up at the first job that dies."""
    ids = {path.name.split("_")[0] for path in (sweep.folder / ".submitit").glob("*")}
    silent = 0
    while ids and silent < TRIES:
        queued = _queued()
        if queued is not None and not ids & queued:
            return
        silent = silent + 1 if queued is None else 0
        time.sleep(seconds)


def _queued() -> set[str] | None:
    """The numbers of this user's jobs and arrays that SLURM has not ended; null where it does not answer."""
    try:
        asked = ["squeue", "--noheader", "--me", "--format=%F"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return set(answer.stdout.split()) if answer.returncode == 0 else None
