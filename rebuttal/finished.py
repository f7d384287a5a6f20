"""A sweep all of whose runs the store holds is answered at once.

Hydra composes the config of each job twice, which takes longer than all else that a finished job needs. Here it is
composed once for each choice of groups, and the jobs' single values are set on copies.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from rebuttal.config import CONFIG_DIR
from rebuttal.progress import track
from rebuttal.running import Running
from rebuttal.sweep import Sweep

if TYPE_CHECKING:
    from rebuttal.session import Session
    from rebuttal.stages.stage import Stage


@dataclass(frozen=True)
class _Asked:
    """The sweep that a command line asks Hydra's basic sweeper for."""

    folder: Path
    jobs: list[list[Override]]

    def words(self) -> list[list[str]]:
        return [[o.input_line for o in job if not o.input_line.startswith("hydra.")] for job in self.jobs]


def answered_from_store(arguments: list[str]) -> Sweep | None:
    """Write the folders of a sweep all of whose runs are in the store. Null, with nothing written, for any other
    command, and for one that is wrong: Hydra will come to the error, and tell it."""
    overrides = [argument for argument in arguments if argument not in ("-m", "--multirun")]
    if len(overrides) == len(arguments) or any(argument.startswith("-") for argument in overrides):
        return None
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            asked = _asked(overrides)
            runs = None if asked is None else _runs_in_store(asked)
    except Exception:
        return None
    if runs is None:
        return None
    sweep = Sweep(asked.folder)
    sweep.begin(asked.words())
    for number, (run, words) in enumerate(zip(track(runs, "from store"), asked.words())):
        running = Running(asked.folder / str(number))
        with running.alive(number, words):
            run.write(asked.folder / str(number))
            running.ended("done", computed=0)
    return sweep


@dataclass(frozen=True)
class _Run:
    config: dict[str, Any]
    stages: dict[str, Stage]
    session: Session

    def write(self, folder: Path) -> None:
        from rebuttal.run_folder import RunFolder

        RunFolder(folder).found_again(self.config, self.stages, self.session)


def _asked(overrides: list[str]) -> _Asked | None:
    hydra = compose("train", [o.input_line for o in _split(overrides)[0]], return_hydra_config=True).hydra
    basic = hydra.sweeper["_target_"].endswith(".BasicSweeper") and hydra.sweeper.max_batch_size is None
    if not basic or OmegaConf.to_container(hydra.sweep)["subdir"] != "${hydra:job.num}":
        return None
    given = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    return _Asked(Path(hydra.sweep.dir), _split([*given, *overrides]))


def _split(overrides: list[str]) -> list[list[Override]]:
    """The overrides of each job."""
    parser = OverridesParser.create()
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(overrides), None)
    parsed = {text: parser.parse_override(text) for text in {text for job in jobs for text in job}}
    return [[parsed[text] for text in job if not text.startswith("hydra/launcher=")] for job in jobs]


def _runs_in_store(asked: _Asked) -> list[_Run] | None:
    """Each job's run; null as soon as one is not there."""
    from rebuttal.plan import plain, plan
    from rebuttal.run_folder import in_store
    from rebuttal.session import Session

    runs, session = [], None
    for cfg in _configs(asked.jobs):
        config = plain(cfg)
        settings, stages = plan(config)
        if session is None or settings.store != session.settings.store:
            session = Session(settings)  # for many jobs, so that a dataset is opened once
        if settings.force or not in_store(stages, session):
            return None
        runs.append(_Run(config, stages, session))
    return runs


def _configs(jobs: list[list[Override]]) -> Iterator[DictConfig]:
    """Each job's config. A single value set on a composed config gives what Hydra gives, because references are
    resolved later; the overrides that choose groups, or add or remove keys, are composed."""
    whole = compose("train", [o.input_line for o in jobs[0]])
    values = {o.key_or_group for o in jobs[0] if _sets_a_value(o, whole)}
    composed: dict[tuple[str, ...], DictConfig] = {}
    for job in jobs:
        choices = tuple(o.input_line for o in job if o.key_or_group not in values)
        if choices not in composed:
            composed[choices] = compose("train", list(choices))
        cfg = copy.deepcopy(composed[choices])
        for override in job:
            if override.key_or_group in values:
                OmegaConf.update(cfg, override.key_or_group, override.value())
        yield cfg


def _sets_a_value(override: Override, cfg: DictConfig) -> bool:
    if override.type != OverrideType.CHANGE or override.package is not None:
        return False
    parent, _, key = override.key_or_group.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    there = isinstance(node, DictConfig) and key in node
    return there and not isinstance(node[key], DictConfig)
