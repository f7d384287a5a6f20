"""Hydra's own settings: what a command line asks of Hydra, checked before any job is launched."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from rebuttal.errors import ConfigError

QUESTIONS = ("help", "hydra_help", "cfg", "info", "shell_completion", "experimental_rerun", "resolve", "package")
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SLURM, SUBMITIT_LOCAL = "SlurmLauncher", "LocalLauncher"  # classes of hydra-submitit-launcher
N_JOBS = "hydra.launcher.n_jobs"
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


def check_typed(overrides: Iterable[Override]) -> None:
    """Raise `ConfigError` for a number of jobs that is not a number; Hydra's error does not say so."""
    for override in overrides:
        value = None if override.is_sweep_override() else override.value()
        if override.key_or_group == N_JOBS and not override.is_delete() and type(value) is not int:
            raise ConfigError(f"{override.input_line}: {_JOBS_AT_A_TIME}")


def check_sweep(hydra: DictConfig) -> None:
    """Raise `ConfigError` for settings of a sweep with which no job could run."""
    n_jobs = hydra.launcher.get("n_jobs", 1)
    if n_jobs == 0 or n_jobs < -1:
        raise ConfigError(f"{N_JOBS}={n_jobs}: {_JOBS_AT_A_TIME}")
    batch = hydra.sweeper.get("max_batch_size")
    if batch is not None and batch < 1:
        raise ConfigError(f"hydra.sweeper.max_batch_size={batch}: allowed: a whole number from 1, or null: all at once")


def failures_tolerated(cfg: DictConfig, overrides: Iterable[Override]) -> list[str]:
    """The override by which a study goes on after a failed trial, unless the user decides otherwise."""
    asked = any(override.key_or_group == f"hydra.sweeper.{MAX_FAILURE_RATE}" for override in overrides)
    by_default = cfg.hydra.sweeper.get(MAX_FAILURE_RATE) == 0 and not asked
    return [f"hydra.sweeper.{MAX_FAILURE_RATE}=1.0"] if by_default and cfg.on_failure == "go_on" else []


_JOBS_AT_A_TIME = "allowed: a whole number from 1, or -1: as many as there are cores"
