"""From run folders to one tidy table; nothing in a run is changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rebuttal.store import fingerprint

NOT_COMPARED = {"seed", "store", "device", "force", "objective"}  # keys that do not tell configurations apart
MARKS = ("metrics.json", "error.txt", "train.log")


@dataclass(frozen=True)
class Run:
    """One finished run: what it found, and what it was. `configuration` is equal for runs that differ in their
    seed only; `identity` for runs that are one and the same."""

    folder: Path
    experiment: str
    seed: int
    configuration: str
    identity: str
    config: dict[str, Any]
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Problem:
    """A folder whose run cannot be counted, and why: `failed`, `unfinished`, `damaged` or `duplicate`."""

    folder: Path
    status: str
    why: str


@dataclass(frozen=True)
class Gathered:
    runs: list[Run]
    problems: list[Problem]

    def table(self) -> pd.DataFrame:
        """A row a run: folder, experiment, seed, configuration, the top-level settings, every metric."""
        rows = []
        for run in self.runs:
            head = {
                "folder": str(run.folder),
                "experiment": run.experiment,
                "seed": run.seed,
                "configuration": run.configuration,
            }
            settings = {f"config.{key}": value for key, value in _settings(run.config)}
            rows.append(head | settings | run.metrics)
        return pd.DataFrame(rows)


def gather(folders: Iterable[str | Path]) -> Gathered:
    """Every run below `folders`, each once, and what is wrong with the others."""
    runs: dict[str, Run] = {}
    problems: list[Problem] = []
    for folder in sorted({path for root in folders for path in _run_folders(Path(root))}):
        found = _read(folder)
        if isinstance(found, Problem):
            problems.append(found)
        elif found.identity in runs:
            problems.append(Problem(folder, "duplicate", f"the same run as {runs[found.identity].folder}"))
        else:
            runs[found.identity] = found
    return Gathered(list(runs.values()), problems)


def _run_folders(root: Path) -> Iterator[Path]:
    for mark in MARKS:
        yield from (path.parent for path in root.rglob(mark))


def _read(folder: Path) -> Run | Problem:
    if (folder / "error.txt").exists():
        return Problem(folder, "failed", _first_line(folder / "error.txt"))
    if not (folder / "metrics.json").exists():
        return Problem(folder, "unfinished", "it has left no metrics.json; give its command again")
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        provenance = json.loads((folder / "provenance.json").read_text())
        config = provenance["config"]
        return Run(
            folder=folder,
            experiment=config["name"],
            seed=config["seed"],
            configuration=fingerprint(_comparable(config)),
            identity=fingerprint(provenance["stages"]),
            config=config,
            metrics=dict(metrics),
        )
    except KeyError as error:
        return Problem(folder, "damaged", f"provenance.json lacks {error}: written by another version?")
    except (OSError, ValueError, TypeError) as error:
        return Problem(folder, "damaged", f"{type(error).__name__}: {error}")


def _first_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return lines[0] if lines else "error.txt is empty"


def _comparable(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _comparable(value) for key, value in node.items() if key not in NOT_COMPARED}
    return [_comparable(item) for item in node] if isinstance(node, list) else node


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The scalar settings of the groups, flat; the stages repeat them."""
    for group in ("model", "dataset", "corruption", "training"):
        for key, value in config.get(group, {}).items():
            if not isinstance(value, dict):
                yield f"{group}.{key}", json.dumps(value) if isinstance(value, list) else value
