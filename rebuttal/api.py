"""The Python API, for notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from rebuttal.command import plan, repeat
from rebuttal.command.arguments import prepare_override
from rebuttal.command.project import add_project
from rebuttal.config import composing
from rebuttal.errors import ConfigError, as_config_errors, check_working_directory
from rebuttal.launch.expand import SEARCHPATH, packages_in
from rebuttal.launch.settings import check_seeds_of_trial
from rebuttal.progress.console import console, signs_replaced
from rebuttal.rounding import percent
from rebuttal.runs.execute import execute
from rebuttal.runs.folder import Asked, as_path
from rebuttal.runs.load import load
from rebuttal.runs.project import find_project

__all__ = ["load", "run", "run_baseline_replication"]


def run(experiment: str, overrides: str | Sequence[str] = (), folder: str | Path | None = None) -> pd.DataFrame:
    """Run one experiment with Hydra overrides, e.g. `run("two_stage", ["model=resnet18", "seed=0"])`.

    Returns a row a metric, with the columns `stage`, `measure`, `value`. `folder`: where to leave the
    files of the run; none by default. Of Hydra's own settings only `hydra.searchpath` is for Python. The file of the
    user's project is read as by a command. The process, its random states, torch's settings and a Hydra that it uses
    are afterwards as before; runs of several threads wait for each other. Raises `ConfigError` for a setting that
    cannot be used.
    """
    check_working_directory()
    project = find_project()
    given = [_override(f"experiment={experiment}"), *(_override(text) for text in _several(overrides, "overrides"))]
    for text in given[1:]:
        if text.startswith("experiment="):
            raise ConfigError(f"{text}: the run is one of {experiment}; allowed: the experiment as the first argument")
    chosen = add_project(given, project)
    packages = packages_in(chosen)
    place = None if folder is None else as_path(folder, "folder")
    with as_config_errors(), composing(), project.importable(packages):
        cfg = compose("train", chosen)
        check_seeds_of_trial(cfg, are_trials=False)
        metrics = execute(cfg, place, packages, Asked(chosen, cfg)).metrics
    rows = [(*name.split("/", 1), value) for name, value in metrics.items()]
    return pd.DataFrame(rows, columns=["stage", "measure", "value"])


@signs_replaced()
def run_baseline_replication(
    architectures: str | Sequence[str] = ("resnet18",),
    seeds: int | Sequence[int] = (42,),
    epochs: int = 50,
    verbose: bool = True,
    overrides: str | Sequence[str] = (),
) -> pd.DataFrame:
    """The comparison of Zhang et al. 2017, Table 1: each architecture on true and on random labels.

    Returns a row a network: `architecture`, `labels` ("none": true, or "random"), `seed`, and the metrics
    of the `fit` stage. `overrides` go to each run, e.g. `["dataset=image_folder", "dataset.root=…"]`. Raises
    `ConfigError` for a setting that cannot be used.
    """
    rows = []
    networks = product(_several(architectures, "architectures"), ("none", "random"), _several(seeds, "seeds"))
    for architecture, labels, seed in networks:
        chosen = [f"model={architecture}", f"corruption={labels}", f"seed={seed}", f"training.epochs={epochs}"]
        found = run("baseline", [*chosen, *_several(overrides, "overrides")]).set_index("measure")["value"]
        rows.append({"architecture": architecture, "labels": labels, "seed": seed, **found})
        if verbose:
            train_accuracy, test_accuracy = found["train_accuracy"], found["test_accuracy"]
            said = f"train {percent(train_accuracy, 2)}, test {percent(test_accuracy, 2)}"
            console.print(f"{architecture}, labels={labels}, seed={seed}: {said}")
    return pd.DataFrame(rows)


def _several(values: Any, name: str) -> list[Any]:
    """The values as a list; a single one is taken as a list of one. Raises `ConfigError` for a dict and None, and for
    no values where nothing would be run."""
    if isinstance(values, (str, int)):
        return [values]
    if isinstance(values, (Mapping, bytes)) or not isinstance(values, Iterable):
        raise ConfigError(f"{name}={values!r}: allowed: a list" + ', e.g. ["seed=0"]' * (name == "overrides"))
    found = list(values)
    if not found and name != "overrides":
        raise ConfigError(f"{name}={values!r}: allowed: at least one")
    return found


def _override(text: Any) -> str:
    if not isinstance(text, str):
        raise ConfigError(f'{text!r}: allowed: overrides as text, e.g. "seed=0"')
    if text.startswith("-") or ("=" not in text and not text.startswith("~")):
        raise ConfigError(f'{text}: is not of the form key=value; allowed from Python: overrides, e.g. "seed=0"')
    prepared = prepare_override(text, repr)
    if OverridesParser.create().parse_override(prepared).is_sweep_override():
        raise ConfigError(f"{text}: several values, and each call is one run; allowed: one, or a list as in key=[1,2]")
    _check_effect(text, prepared.lstrip("+~"))
    return prepared


def _check_effect(text: str, override: str) -> None:
    """Raise `ConfigError` for what only a command acts on: it would be ignored here."""
    key = re.split("[=@]", override)[0]
    if f"{key}=" in (plan.WORD, repeat.WORD):
        raise ConfigError(f"{text}: is for commands; allowed: python -m rebuttal.train {text}")
    if not re.match(r"hydra($|[./])", key) or key == SEARCHPATH:
        return
    where = f"{text}: has no effect from Python; allowed"
    if re.match(r"hydra[./](run|output_subdir)\b", key):
        raise ConfigError(f"{where}: the argument folder= of rebuttal.run, where a run's files are to be left")
    if re.match(r"hydra[./](sweep|sweeper|launcher|mode)\b", key):
        raise ConfigError(f"{where}: one run a call; for a sweep python -m rebuttal.train -m")
    raise ConfigError(f"{where}: of Hydra's settings {SEARCHPATH}; others with python -m rebuttal.train")
