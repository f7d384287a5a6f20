"""The jobs that a command line asks for, composed before Hydra runs any of them.

Hydra composes the config of each job twice, which for a finished job takes longer than all else. Here it is composed
once for each choice of groups, and the jobs' single values are set on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError

MULTIRUN = ("-m", "--multirun")


@dataclass(frozen=True)
class Asked:
    """`jobs`: the overrides of each job of a sweep by Hydra's basic sweeper, or of a single run. `folder`: the
    sweep's; null for a single run, and where jobs do not have their numbers as folders."""

    jobs: list[list[Override]]
    folder: Path | None

    def words(self) -> list[list[str]]:
        """The overrides of each job as they were typed, without Hydra's own."""
        return [[o.input_line for o in job if not o.input_line.startswith("hydra.")] for job in self.jobs]

    def packages(self) -> tuple[str, ...]:
        """Those that the command line lists, for all jobs."""
        return packages_in(o.input_line for o in self.jobs[0])

    def configs(self) -> Iterator[DictConfig]:
        """Each job's config. A single value set on a composed config gives what Hydra gives, because references are
        resolved later; the overrides that choose groups, or add or remove keys, are composed."""
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            whole = compose("train", [o.input_line for o in self.jobs[0]])
        values = {o.key_or_group for o in self.jobs[0] if _sets_a_value(o, whole)}
        composed: dict[tuple[str, ...], DictConfig] = {}
        for job in self.jobs:
            choices = tuple(o.input_line for o in job if o.key_or_group not in values)
            if choices not in composed:
                with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
                    composed[choices] = compose("train", list(choices))
            cfg = copy.deepcopy(composed[choices])
            for override in job:
                if override.key_or_group in values:
                    OmegaConf.update(cfg, override.key_or_group, override.value())
            yield cfg


def asked_for(arguments: Sequence[str]) -> Asked:
    """Raises `ConfigError` for what only Hydra itself can answer, and Hydra's own errors for what is wrong."""
    overrides = [argument for argument in arguments if argument not in MULTIRUN]
    if flags := [argument for argument in overrides if argument.startswith("-")]:
        raise ConfigError(f"{flags[0]}: allowed here: overrides, and {' or '.join(MULTIRUN)}")
    parsed = OverridesParser.create().parse_overrides(overrides)
    if len(overrides) == len(arguments):
        return Asked([parsed], folder=None)
    common = [override.input_line for override in parsed if not override.is_sweep_override()]
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        hydra = compose("train", common, return_hydra_config=True).hydra
    jobs = jobs_of(hydra, overrides)
    if jobs is None:
        raise ConfigError("hydra/sweeper: which jobs there will be is not known beforehand; allowed: basic")
    numbered = OmegaConf.to_container(hydra.sweep)["subdir"] == "${hydra:job.num}"
    return Asked(_parsed(jobs), Path(hydra.sweep.dir) if numbered else None)


def is_basic(hydra: DictConfig) -> bool:
    """Whether all jobs of a sweep are known beforehand, whatever comes out of them."""
    return hydra.sweeper["_target_"].endswith(".BasicSweeper")


def packages_in(overrides: Iterable[str]) -> tuple[str, ...]:
    """The packages that these overrides list. A config file, which may be a stranger's, has no say in them."""
    listed: Any = ()
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.key_or_group == "packages" and not override.is_sweep_override():
            listed = override.value()
    return tuple(listed) if isinstance(listed, list) else ()  # what is no list is told where the config is checked


def jobs_of(hydra: DictConfig, overrides: Sequence[str]) -> list[list[str]] | None:
    """The overrides of each job that Hydra's basic sweeper makes of these and of the sweep that the configs ask for;
    null for a sweeper that decides as it goes."""
    if not is_basic(hydra):
        return None
    given = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*given, *overrides])
    batches = BasicSweeper.split_arguments(parsed, hydra.sweeper.max_batch_size)
    return [job for batch in batches for job in batch]


def _parsed(jobs: list[list[str]]) -> list[list[Override]]:
    """But for the launcher, which decides nothing of a job."""
    parser = OverridesParser.create()
    parsed = {text: parser.parse_override(text) for text in {text for job in jobs for text in job}}
    return [[parsed[text] for text in job if not text.startswith("hydra/launcher=")] for job in jobs]


def _sets_a_value(override: Override, cfg: DictConfig) -> bool:
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    parent, _, key = override.key_or_group.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    there = isinstance(node, DictConfig) and key in node
    return there and not isinstance(node[key], DictConfig)
