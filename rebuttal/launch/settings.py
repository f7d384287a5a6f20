"""Hydra's own settings: what a command line asks of Hydra, checked before any job is launched."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, Sweep
from omegaconf import DictConfig

from rebuttal.errors import ConfigError

QUESTIONS = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun", "resolve", "package")
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SLURM, SUBMITIT_LOCAL = "SlurmLauncher", "LocalLauncher"  # classes of hydra-submitit-launcher
JOBLIB = "JoblibLauncher"  # of hydra-joblib-launcher
N_JOBS = "hydra.launcher.n_jobs"
PARAMS = "hydra.sweeper.params"
MAX_FAILURE_RATE = "max_failure_rate"  # of Optuna's sweeper, which by default ends the study at the first failed trial


def read_flags(arguments: Sequence[str]) -> Namespace | None:
    """Parse a command line as Hydra does, flags and overrides in any order; None for a question that Hydra answers.

    Raises `ConfigError` for another root config."""
    given = get_args_parser().parse_intermixed_args(list(arguments))
    if any(getattr(given, question) for question in QUESTIONS):
        return None
    for flag in ("config_path", "config_name"):
        if (value := getattr(given, flag)) is not None:
            name = f"--{flag.replace('_', '-')}"
            raise ConfigError(f"{name}={value}: the root config is conf/train.yaml; allowed: --config-dir=FOLDER")
    return given


def uses_basic_sweeper(hydra: Any) -> bool:
    """True if all jobs of a sweep are known in advance, whatever their results."""
    return bool(hydra.sweeper["_target_"] == BASIC_SWEEPER)


def jobs_per_task(launcher: Any) -> int:
    """How many jobs share a task, where the launcher's jobs are tasks of SLURM; else 1."""
    return int(launcher.get("jobs_per_task", 1))


def check_typed(overrides: Iterable[Override]) -> None:
    """Raise `ConfigError` for a number of jobs that is not a number; Hydra's error does not say so."""
    for override in overrides:
        value = None if override.is_sweep_override() else override.value()
        if override.key_or_group == N_JOBS and not override.is_delete() and type(value) is not int:
            raise ConfigError(f"{override.input_line}: {_JOBS_AT_A_TIME}")


def check_not_nested(override: Override) -> None:
    """Raise `ConfigError` for a sweep among or within other values. Hydra notices it only when it composes a job, and
    then does not name the override."""
    value: Any = override.value()
    within = value.list if isinstance(value, ChoiceSweep) else value
    if any(_holds_sweep(part) for part in _parts(within)):
        raise ConfigError(
            f"{override.input_line}: choice(…), range(…) and the like stand alone, never among or within values; "
            "allowed: each value by itself, as in -m seed=0,1,2"
        )


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _holds_sweep(value: Any) -> bool:
    return isinstance(value, (Sweep, Glob)) or any(map(_holds_sweep, _parts(value)))


def check_sweep(hydra: DictConfig) -> None:
    """Raise `ConfigError` for settings of a sweep with which no job could run."""
    n_jobs = hydra.launcher.get("n_jobs", 1)
    if n_jobs == 0 or n_jobs < -1:
        raise ConfigError(f"{N_JOBS}={n_jobs}: {_JOBS_AT_A_TIME}")
    for key in ("jobs_per_task", "jobs_at_a_time"):
        value = hydra.launcher.get(key, 1)
        if value is not None and value < 1:
            null = ", or null: as many as the task has cores" if key == "jobs_at_a_time" else ""
            raise ConfigError(f"hydra.launcher.{key}={value}: allowed: a whole number from 1{null}")
    batch = hydra.sweeper.get("max_batch_size")
    if batch is not None and batch < 1:
        raise ConfigError(f"hydra.sweeper.max_batch_size={batch}: allowed: a whole number from 1, or null: all at once")


def check_objective_wanted(cfg: DictConfig) -> None:
    """Raise `ConfigError` for a sweeper that learns without a number to learn from."""
    learns = not uses_basic_sweeper(cfg.hydra)
    if learns and cfg.objective is None:
        raise ConfigError(
            f"objective=null: {_sweeper(cfg)} learns from a number; allowed: a metric, as in objective=student/kappa"
        )
    check_seeds_of_trial(cfg, learns)


def check_seeds_of_trial(cfg: DictConfig, are_trials: bool) -> None:
    """Raise `ConfigError` for several seeds of a trial where there are no trials, as in a single run."""
    if not are_trials and cfg.seeds_per_trial != 1:
        raise ConfigError(
            f"seeds_per_trial={cfg.seeds_per_trial}: is for a sweeper that learns, such as hydra/sweeper=optuna; "
            "allowed here: 1, with -m seed=0,1,2 for several seeds"
        )


def search_only_what_was_asked(cfg: DictConfig, overrides: Sequence[Override], parser: OverridesParser) -> list[str]:
    """The overrides by which a sweeper that learns does not search what an experiment compares by default.

    The lists in a config's `hydra.sweeper.params` are what -m compares, unless the config chooses the sweeper, too.
    Raises `ConfigError` for a search over seeds, and if nothing is left to search."""
    for override in overrides:
        _check_no_seeds(override, cfg, parser)
    of_command_line = any(
        override.key_or_group in ("hydra/sweeper", "hydra.sweeper._target_") for override in overrides
    )
    params = {str(key): str(value) for key, value in (cfg.hydra.sweeper.get("params") or {}).items()}
    parsed = {key: parser.parse_override(f"{key}={value}") for key, value in params.items()}
    asked = {key for override in overrides for key in _asked_params(override)}
    compared = {
        key: params[key]
        for key, override in parsed.items()
        if key not in asked
        and override.is_sweep_override()
        and (_SEED.search(key) or (of_command_line and override.is_discrete_sweep()))
    }
    if not compared:
        return []
    kept = {key: value for key, value in params.items() if key not in compared}
    _check_something_to_search(cfg, [*overrides, *(parsed[key] for key in kept)], compared)
    listed = ", ".join(f"{key}={value}" for key, value in compared.items())
    print(f"{_sweeper(cfg)} does not search what the experiment compares by default: {listed}", flush=True)
    words = ",".join(f"{key}:{QuotedString(value, Quote.single).with_quotes()}" for key, value in kept.items())
    return [f"{PARAMS}=null", *([f"++{PARAMS}={{{words}}}"] if kept else [])]


def _asked_params(override: Override) -> dict[str, Any]:
    """What an override itself gives to `hydra.sweeper.params`."""
    if override.is_sweep_override() or override.is_delete():
        return {}
    value = override.value()
    if override.key_or_group == PARAMS:
        return {str(key): of_key for key, of_key in value.items()} if isinstance(value, dict) else {}
    within = override.key_or_group.startswith(f"{PARAMS}.")
    return {override.key_or_group.removeprefix(f"{PARAMS}."): value} if within else {}


def _check_no_seeds(override: Override, cfg: DictConfig, parser: OverridesParser) -> None:
    params = (parser.parse_override(f"{key}={value}") for key, value in _asked_params(override).items())
    if any(_SEED.search(found.key_or_group) and found.is_sweep_override() for found in (override, *params)):
        raise ConfigError(
            f"{override.input_line}: {_sweeper(cfg)} would search for the luckiest seed; allowed: one seed, and "
            "seeds_per_trial=3 for the mean over several"
        )


def _check_something_to_search(cfg: DictConfig, overrides: Iterable[Override], compared: Mapping[str, str]) -> None:
    elsewhere = any(cfg.hydra.sweeper.get(key) for key in ("search_space", "custom_search_space"))
    if not elsewhere and not any(override.is_sweep_override() for override in overrides):
        listed = ", ".join(f"{key}={value}" for key, value in compared.items())
        raise ConfigError(
            f"{_sweeper(cfg)}: there is nothing to search but what the experiment compares by default ({listed}); "
            "allowed: at least one key with a range, as in training.lr=interval(1e-4,1e-1)"
        )


def _sweeper(cfg: DictConfig) -> str:
    return f"hydra/sweeper={cfg.hydra.runtime.choices['hydra/sweeper']}"


def failures_tolerated(cfg: DictConfig, overrides: Iterable[Override]) -> list[str]:
    """The override by which a study goes on after a failed trial, unless the user decides otherwise."""
    asked = any(override.key_or_group == f"hydra.sweeper.{MAX_FAILURE_RATE}" for override in overrides)
    by_default = cfg.hydra.sweeper.get(MAX_FAILURE_RATE) == 0 and not asked
    return [f"hydra.sweeper.{MAX_FAILURE_RATE}=1.0"] if by_default and cfg.on_failure == "go_on" else []


_SEED = re.compile(r"(^|\.)seeds?(\.|$)")  # keys of which the best value means nothing
_JOBS_AT_A_TIME = "allowed: a whole number from 1, or -1: as many as there are cores"
