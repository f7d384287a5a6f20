"""What runs need of the store, as their folders say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rebuttal.errors import UserError
from rebuttal.store.files import RECORD
from rebuttal.store.folders import folders_below
from rebuttal.store.identity import artifacts_in, digests_in, fingerprint

NEEDS = "needs.json"  # in the folder of a run that has begun to compute; provenance.json has it of a finished one
SWEEP_NEEDS = "sweep_needs.json"  # in that of a sweep: what was trained for jobs that may have no folder yet
_PROVENANCE, _STATUS = "provenance.json", "status.json"
_RUN_FILES = {NEEDS, _PROVENANCE, _STATUS, "metrics.json", "error.txt"}  # a folder with any of them is a run's
_NEVER_COMPUTED = ("failed", "not begun")  # states of a run that, if no stage is named, used nothing


@dataclass(frozen=True)
class Needs:
    """The names of `entries`, and the digests of sets of `images`."""

    entries: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.entries | other.entries, self.images | other.images)

    def content(self) -> dict[str, list[str]]:
        """Return it as JSON."""
        return {"entries": sorted(self.entries), "images": sorted(self.images)}


def needs_in(identity: Any) -> Needs:
    """What a run or an artifact of that identity is computed from, and itself if it is an artifact."""
    return Needs(frozenset(artifacts_in(identity)), frozenset(digests_in(identity)))


@dataclass(frozen=True)
class RunNeeds:
    """What the run in `folder` needs; `known`: whether that is all. `stages`: equal for runs of the same stages."""

    folder: Path
    needs: Needs
    known: bool
    stages: str | None = None


def runs_below(folders: Iterable[Path], store: Path) -> list[RunNeeds]:
    """Read what each run below the folders needs; links are followed, the store's entries are left out.

    Raises `UserError` for a folder that is missing or cannot be read, in which a run could be overlooked."""
    return [run for place, files in _searched(folders, store) for run in _runs_in(place, files)]


def resolved(runs: Sequence[RunNeeds], stored: dict[str, Needs]) -> list[RunNeeds]:
    """Complete runs of before their needs were recorded by other runs of the same stages, and by those that the store
    keeps as a whole (`stored`, by their stages)."""
    known = dict(stored)
    for run in runs:
        if run.known and run.stages is not None:
            known[run.stages] = run.needs | known.get(run.stages, Needs())
    return [_completed(run, known) for run in runs]


def stages_fingerprint(stages: dict[str, str]) -> str:
    """Return what is equal for runs of the same stages, whose own fingerprints are given by name."""
    return fingerprint(stages)


def _completed(run: RunNeeds, known: dict[str, Needs]) -> RunNeeds:
    if run.known or run.stages is None or run.stages not in known:
        return run
    return replace(run, needs=run.needs | known[run.stages], known=True)


def needs_of_sweep(folder: Path) -> Needs | None:
    """Return what a sweep has recorded for jobs that may have no folder yet; None if it cannot be read."""
    return _needs(_json(folder / SWEEP_NEEDS))


def _runs_in(folder: Path, files: Iterable[str]) -> Iterator[RunNeeds]:
    if _RUN_FILES & {*files}:
        yield _read(folder)
    if SWEEP_NEEDS in files:
        needs = needs_of_sweep(folder)
        yield RunNeeds(folder, needs or Needs(), known=needs is not None)


def _searched(roots: Iterable[Path], store: Path) -> Iterator[tuple[Path, list[str]]]:
    roots = list(roots)
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: there is no such folder; allowed: folders with runs, such as outputs or multirun")
    real_store = store.resolve()
    for place, folders, files in folders_below(roots, _unreadable):
        if RECORD in files and place.resolve().parent.parent == real_store:  # beside which there may be runs
            folders.clear()
        else:
            yield place, files


def _unreadable(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: cannot be read ({error.strerror}), and may hold runs; allowed: what can be read"
    )


def _read(folder: Path) -> RunNeeds:
    begun, provenance, status = (_json(folder / name) for name in (NEEDS, _PROVENANCE, _STATUS))
    recorded, finished = _needs(begun), _needs(provenance.get("needs"))
    names = [name for key in ("networks", "computed") for name in provenance.get(key) or () if isinstance(name, str)]
    needs = Needs(frozenset(names)) | (recorded or Needs()) | (finished or Needs())
    if not _says_what_it_does(folder, recorded, status):
        return RunNeeds(folder, needs, known=False)
    stages = provenance.get("stages")
    of = stages_fingerprint(stages) if isinstance(stages, dict) else None
    return RunNeeds(folder, needs, finished is not None or not (folder / _PROVENANCE).exists(), of)


def _says_what_it_does(folder: Path, recorded: Needs | None, status: dict[str, Any]) -> bool:
    """False if the folder's run used the store, or may be about to, and did not record what for."""
    if (folder / NEEDS).exists():
        return recorded is not None
    if status.get("state") == "running":
        return False
    if (folder / _PROVENANCE).exists():
        return True
    never_computed = status.get("state") in _NEVER_COMPUTED and "stage" not in status
    return never_computed and not (folder / "metrics.json").exists()


def _needs(content: Any) -> Needs | None:
    """What `Needs.content` wrote; None for anything else."""
    try:
        return Needs(frozenset(map(str, content["entries"])), frozenset(map(str, content["images"])))
    except (KeyError, TypeError):
        return None


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
