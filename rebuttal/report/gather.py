"""Reads run folders, and what earlier reports kept of theirs, into one tidy table; changes nothing in them."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from pydantic_core import from_json

from rebuttal.progress.console import track
from rebuttal.report.naming import names, setup_name
from rebuttal.runs.configuration import comparable
from rebuttal.store.folders import folders_below
from rebuttal.store.identity import fingerprint

COMMANDS = ("train", "rebuttal-train")  # the program of a run that did not record its overrides, if not Python's
RUN_FILES = frozenset({"metrics.json", "error.txt", "train.log"})  # a folder with any of them is a run folder
GROUPS = ("model", "dataset", "corruption", "training")  # whose settings are columns of the table of runs
RECORDS = "raw/runs.json"  # in the folder of a report: its runs, as `Gathered.records` gives them


@dataclass(frozen=True)
class Run:
    """A finished run: its metrics and its config.

    `configuration`: a fingerprint, equal for runs that differ only in their seed; `name` is its readable name. `setup`:
    equal also for other corruptions of the labels. `identity`: of its stages, equal for duplicates. `networks`: the
    names of the trained networks that its numbers come from. `judged`: False for a run whose numbers mean nothing
    (debug=tiny). `config`: without the keys that may differ within a configuration. `command`: the command that repeats
    the run. `version`: of rebuttal. `places`: the folders of configs, besides rebuttal's own, that the run was composed
    from. `report`: the folder of the earlier report that the run is known from; None for one whose own folder was read.
    """

    folder: Path
    experiment: str
    seed: int
    configuration: str
    identity: str
    config: dict[str, Any]
    metrics: dict[str, float | None]
    setup: str = ""
    name: str = ""
    command: str = ""
    version: str = ""
    networks: frozenset[str] = frozenset()
    judged: bool = True
    places: tuple[Path, ...] = ()
    report: Path | None = None

    @property
    def setup_name(self) -> str:
        return setup_name(self.config, self.classes, self.places)

    @property
    def classes(self) -> int | None:
        """K, if a stage that trains a network says it."""
        return next((int(k) for name, k in self.metrics.items() if name.endswith("/classes") and k), None)


RECORDED = [field.name for field in fields(Run) if field.name not in ("config", "name", "report")]
"""The fields of a run in a report: its config is there once for all of its seeds, its name depends on the others."""


@dataclass(frozen=True)
class Problem:
    """A folder whose run is excluded, and the reason.

    `status`: `failed`, `unfinished`, `damaged`, `duplicate`, or `conflict`: the same run as another with other numbers.
    """

    folder: Path
    status: str
    why: str


@dataclass(frozen=True)
class Gathered:
    """The runs found, and the folders excluded."""

    runs: list[Run]
    problems: list[Problem]

    def table(self) -> pd.DataFrame:
        """Return a row per run: folder, experiment, seed, configuration and its name, settings, every metric."""
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

    def records(self) -> dict[str, Any]:
        """Return the runs as JSON, from which a later report reads them: each config once, by its configuration."""
        return {
            "configs": {run.configuration: run.config for run in self.runs},
            "runs": [{name: _as_json(getattr(run, name)) for name in RECORDED} for run in self.runs],
        }

    def places(self) -> list[Path]:
        """Return the folders of configs that runs were composed from, besides rebuttal's own."""
        return list(dict.fromkeys(place for run in self.runs for place in run.places))

    def versions(self) -> Counter[str]:
        """Count the runs by the version of rebuttal that made them."""
        return Counter(run.version for run in self.runs)


def gather(folders: Iterable[str | Path]) -> Gathered:
    """Read every run below `folders`; of a folder that is a report's, the runs that it kept.

    A run that is there more than once is counted once, where it has most metrics, and judged if one of them is; if a
    metric differs, not at all, because none of the folders says which is right. A run's own folder says what that run
    is now, whatever a report has of it.
    """
    roots = [Path(root) for root in folders]
    found: dict[tuple[str, str], list[Run]] = {}
    problems: list[Problem] = []
    configs: dict[str, dict[str, Any]] = {}
    own = sorted(place for place, _, files in folders_below(roots) if not RUN_FILES.isdisjoint(files))
    read = [_read(folder, configs) for folder in track(own, "reading runs")]
    present = {(run.folder.resolve(), run.identity) for run in read if isinstance(run, Run)}
    kept = [run for root in dict.fromkeys(roots) for run in _runs_of_report(root)]
    for run in [*read, *kept]:
        if isinstance(run, Problem):
            problems.append(run)
        elif run.report is None or (run.folder.resolve(), run.identity) not in present:
            found.setdefault((run.experiment, run.identity), []).append(run)
    runs = []
    for same in found.values():
        first = max(same, key=lambda run: len(run.metrics))  # a later version may take more of the same networks
        if any(first.metrics.get(name, value) != value for run in same for name, value in run.metrics.items()):
            problems += [_conflict(run, same) for run in same]
            continue
        runs.append(replace(first, judged=any(run.judged for run in same)))
        elsewhere = [run.folder for run in same if run is not first and run.report is None]
        problems += [Problem(folder, "duplicate", f"the same run as {first.folder}") for folder in elsewhere]
    return Gathered(_with_names(runs), problems)


def independent_runs(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Return the runs that replicate, and the others. Of a configuration's runs those of one seed are one, and those of
    two seeds that share a trained network, as they do where a stage has a seed of its own; the first is kept."""
    seed_of: dict[tuple[str, str], int] = {}
    seeds: set[tuple[str, int]] = set()
    independent, others = [], []
    for run in runs:
        names = [(run.configuration, network) for network in run.networks]
        repeats = (run.configuration, run.seed) in seeds
        if repeats or any(seed_of.get(name, run.seed) != run.seed for name in names):
            others.append(run)
            continue
        independent.append(run)
        seeds.add((run.configuration, run.seed))
        seed_of |= dict.fromkeys(names, run.seed)
    return independent, others


def _conflict(run: Run, same: list[Run]) -> Problem:
    others = ", ".join(str(other.folder) for other in same if other is not run)
    return Problem(run.folder, "conflict", f"the same run as {others}, with other numbers: none of them is counted")


def _with_names(runs: list[Run]) -> list[Run]:
    """Return the runs with the names of their configurations, which depend on the other runs of the experiment."""
    examples: dict[str, dict[str, Run]] = {}
    for run in runs:
        examples.setdefault(run.experiment, {}).setdefault(run.configuration, run)
    by_configuration: dict[str, str] = {}
    for configurations in examples.values():
        by_configuration |= dict(zip(configurations, _names(list(configurations.values()))))
    return [replace(run, name=by_configuration[run.configuration]) for run in runs]


def _names(runs: list[Run]) -> list[str]:
    places = tuple(dict.fromkeys(place for run in runs for place in run.places))
    return names([run.config for run in runs], [run.classes for run in runs], places)


def _runs_of_report(report: Path) -> list[Run] | list[Problem]:
    """Read the runs that a report kept; none if the folder is not a report's."""
    if not (report / RECORDS).is_file():
        return []
    try:
        content = from_json((report / RECORDS).read_bytes())
        return [_of_record(record, content["configs"], report) for record in content["runs"]]
    except KeyError as error:
        return [Problem(report, "damaged", f"{RECORDS}: no key {error}; written by another version?")]
    except (OSError, ValueError, TypeError) as error:
        return [Problem(report, "damaged", f"{RECORDS}: {type(error).__name__}: {error}")]


def _of_record(record: dict[str, Any], configs: dict[str, dict[str, Any]], report: Path) -> Run:
    paths = {"folder": Path(record["folder"]), "places": tuple(p for p in map(Path, record["places"]) if p.is_dir())}
    own = {name: record[name] for name in RECORDED}
    own |= {"networks": frozenset(record["networks"]), "metrics": _numbers(record["metrics"])}
    return Run(**own | paths | {"config": _config(configs[record["configuration"]]), "report": report})


def _as_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return sorted(map(str, value)) if isinstance(value, (tuple, frozenset)) else value


def _read(folder: Path, configs: dict[str, dict[str, Any]]) -> Run | Problem:
    """Read one run. Runs of one configuration share its config in `configs`, to save memory over thousands of runs."""
    if (folder / "error.txt").exists():
        return Problem(folder, "failed", _first_line(folder / "error.txt"))
    if not (folder / "metrics.json").exists():
        return Problem(folder, "unfinished", "no metrics.json; rerun its command to resume")
    try:
        metrics = _numbers(from_json((folder / "metrics.json").read_bytes()))
        provenance = from_json((folder / "provenance.json").read_bytes())
        config, overrides = _config(provenance["config"]), _texts(provenance.get("overrides"))
        key = provenance.get("configuration") or fingerprint(comparable(config))
        if key not in configs:
            configs[key] = comparable(config)
        return Run(
            folder=folder,
            experiment=config["name"],
            seed=config["seed"],
            configuration=key,
            identity=fingerprint(provenance["stages"]),
            config=configs[key],
            metrics=metrics,
            setup=provenance.get("setup") or _setup(config),
            networks=frozenset(provenance.get("networks", ())),
            judged=config.get("judged", True),
            command=_command(folder, provenance),
            version=provenance.get("rebuttal", "unknown"),
            places=_places(folder, overrides),
        )
    except KeyError as error:
        return Problem(folder, "damaged", f"provenance.json: no key {error}; written by another version?")
    except (OSError, ValueError, TypeError) as error:
        return Problem(folder, "damaged", f"{type(error).__name__}: {error}")


def _config(config: Any) -> dict[str, Any]:
    """Return the config of a run. Raises `ValueError` for what is none."""
    if not isinstance(config, dict):
        raise ValueError(f"the config of the run is {config!r}, no table")
    for group in GROUPS:
        if not isinstance(config.get(group, {}), dict):
            raise ValueError(f"the config of the run: {group} is {config[group]!r}, no table")
    return config


def _texts(overrides: Any) -> list[str]:
    """Return the overrides of a run, if it has any. Raises `ValueError` for what are none."""
    if not isinstance(overrides or [], list) or not all(isinstance(text, str) for text in overrides or []):
        raise ValueError(f"the overrides of the run are {overrides!r}, no list of texts")
    return overrides or []


def _numbers(metrics: Any) -> dict[str, float | None]:
    """Return the metrics of a run. Raises `ValueError` for what are none."""
    if not isinstance(metrics, dict):
        raise ValueError("metrics.json: is no table of numbers")
    for name, value in metrics.items():
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f"metrics.json: {name} is {value!r}, no number")
    return {name: int(value) if isinstance(value, bool) else value for name, value in metrics.items()}


def _command(folder: Path, provenance: dict[str, Any]) -> str:
    """Return the command that repeats a run: its own, or one that runs its config, if its overrides are not known."""
    words = _texts(provenance.get("command"))
    of_command = words and Path(words[0]).stem in COMMANDS
    overrides = provenance["overrides"] if "overrides" in provenance else words[1:] if of_command else None
    if overrides is not None:
        return shlex.join(["python", "-m", "rebuttal.train", *overrides])
    packages = provenance["config"].get("packages") or []
    load = f"OmegaConf.load({str(folder / 'config.yaml')!r})"
    run = f"run({load}, packages={packages})" if packages else f"run({load})"
    return shlex.join(["python", "-c", f"from omegaconf import OmegaConf; from rebuttal.train import run; {run}"])


def _places(folder: Path, overrides: Iterable[str]) -> tuple[Path, ...]:
    """Return the folders that the run's overrides add to Hydra's search path, if they are still there."""
    texts = [text for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]
    relative = [place for text in texts for place in _searched(text)]
    if not relative:
        return ()
    return tuple(place for path in relative if (place := _cwd(folder) / path).is_dir())


@cache
def _searched(override: str) -> tuple[Path, ...]:
    try:
        value = OverridesParser.create().parse_override(override).value()
    except HydraException:
        return ()
    found = (_as_path(place) for place in (value if isinstance(value, list) else [value]))
    return tuple(place for place in found if place is not None)


def _as_path(place: Any) -> Path | None:
    """Return the folder of an entry of Hydra's search path. A package is found and not imported: a report runs no code
    of its runs."""
    scheme, _, rest = str(place).rpartition("://")
    if scheme in ("file", ""):
        return Path(rest).expanduser()
    top, *below = re.split("[./]", rest)
    spec = find_spec(top) if scheme == "pkg" and top else None
    home = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    return Path(home, *below) if home else None


def _cwd(folder: Path) -> Path:
    """Return where the run was started, which Hydra records; the working directory, if it was started from Python."""
    try:
        recorded = re.search(r"^ +cwd: (.+)$", (folder / ".hydra/hydra.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        recorded = None
    return Path(recorded[1].strip("'\"")) if recorded else Path.cwd()


def _setup(config: dict[str, Any]) -> str:
    """The setup of a run whose provenance does not name it, by model, data and recipe."""
    return fingerprint({group: config.get(group) for group in ("model", "dataset", "training")})


def _first_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return lines[0] if lines else "error.txt is empty"


def _settings(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of the config groups that are no groups themselves; the stages only repeat them."""
    for group in GROUPS:
        for key, value in config.get(group, {}).items():
            if not isinstance(value, dict):
                yield f"{group}.{key}", json.dumps(value) if isinstance(value, list) else value
