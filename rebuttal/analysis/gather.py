"""From run folders to one tidy table; nothing in a run is changed."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic_core import from_json

from rebuttal.analysis.naming import names
from rebuttal.progress import track
from rebuttal.run_folder import comparable, configuration
from rebuttal.store import fingerprint

MARKS = ("metrics.json", "error.txt", "train.log")


@dataclass(frozen=True)
class Run:
    """One finished run: what it found, and what it was. `configuration` is equal for runs that differ in their
    seed only, and `name` says it in words; `identity` is equal for runs that are one and the same. `version` is
    rebuttal's; `config` is without what may differ within a configuration."""

    folder: Path
    experiment: str
    seed: int
    configuration: str
    identity: str
    config: dict[str, Any]
    metrics: dict[str, float | None]
    name: str = ""
    command: str = ""
    version: str = ""

    @property
    def setup(self) -> str:
        """Equal for runs with the same model, data and recipe, whatever is done to the labels."""
        return fingerprint({group: self.config.get(group) for group in ("model", "dataset", "training")})


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
        """A row a run: folder, experiment, seed, configuration and its name, the groups' settings, every metric."""
        rows = []
        for run in self.runs:
            head = {
                "folder": str(run.folder),
                "experiment": run.experiment,
                "seed": run.seed,
                "configuration": run.configuration,
                "name": run.name,
                "version": run.version,
            }
            settings = {f"config.{key}": value for key, value in _settings(run.config)}
            rows.append(head | settings | run.metrics)
        return pd.DataFrame(rows)

    def versions(self) -> Counter[str]:
        """Runs by the version of rebuttal that made them."""
        return Counter(run.version for run in self.runs)


def gather(folders: Iterable[str | Path]) -> Gathered:
    """Every run below `folders`, each once, and what is wrong with the others."""
    runs: dict[str, Run] = {}
    problems: list[Problem] = []
    configs: dict[str, dict[str, Any]] = {}
    for folder in track(sorted({path for root in folders for path in _run_folders(Path(root))}), "reading runs"):
        found = _read(folder, configs)
        if isinstance(found, Problem):
            problems.append(found)
        elif found.identity in runs:
            problems.append(Problem(folder, "duplicate", f"the same run as {runs[found.identity].folder}"))
        else:
            runs[found.identity] = found
    return Gathered(_named(list(runs.values())), problems)


def _named(runs: list[Run]) -> list[Run]:
    """Each with the name of its configuration."""
    examples: dict[str, dict[str, Run]] = {}
    for run in runs:
        examples.setdefault(run.experiment, {}).setdefault(run.configuration, run)
    found: dict[str, str] = {}
    for configurations in examples.values():
        found |= dict(zip(configurations, names([run.config for run in configurations.values()])))
    return [replace(run, name=found[run.configuration]) for run in runs]


def _run_folders(root: Path) -> Iterator[Path]:
    for mark in MARKS:
        yield from (path.parent for path in root.rglob(mark))


def _read(folder: Path, configs: dict[str, dict[str, Any]]) -> Run | Problem:
    """The run in `folder`; runs of one configuration share its entry in `configs`, because thousands are large."""
    if (folder / "error.txt").exists():
        return Problem(folder, "failed", _first_line(folder / "error.txt"))
    if not (folder / "metrics.json").exists():
        return Problem(folder, "unfinished", "it has left no metrics.json; give its command again")
    try:
        metrics = from_json((folder / "metrics.json").read_bytes())
        provenance = from_json((folder / "provenance.json").read_bytes())
        config = provenance["config"]
        key = provenance.get("configuration") or configuration(config)
        if key not in configs:
            configs[key] = comparable(config)
        return Run(
            folder=folder,
            experiment=config["name"],
            seed=config["seed"],
            configuration=key,
            identity=fingerprint(provenance["stages"]),
            config=configs[key],
            metrics=dict(metrics),
            command=shlex.join(["python", "-m", "rebuttal.train", *provenance.get("command", [])[1:]]),
            version=provenance.get("rebuttal", "unknown"),
        )
    except KeyError as error:
        return Problem(folder, "damaged", f"provenance.json lacks {error}: written by another version?")
    except (OSError, ValueError, TypeError) as error:
        return Problem(folder, "damaged", f"{type(error).__name__}: {error}")


def _first_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return lines[0] if lines else "error.txt is empty"


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The scalar settings of the groups, flat; the stages repeat them."""
    for group in ("model", "dataset", "corruption", "training"):
        for key, value in config.get(group, {}).items():
            if not isinstance(value, dict):
                yield f"{group}.{key}", json.dumps(value) if isinstance(value, list) else value
