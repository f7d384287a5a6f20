"""A sweep all of whose runs the store holds is answered at once, without Hydra's way through each job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from rebuttal.asked import MULTIRUN, Asked, asked_for
from rebuttal.errors import UserError
from rebuttal.files import write_text
from rebuttal.progress import track
from rebuttal.running import Running
from rebuttal.sweep import Sweep

if TYPE_CHECKING:
    from rebuttal.session import Session
    from rebuttal.stages.stage import Stage


def answered_from_store(arguments: Sequence[str]) -> Sweep | None:
    """Write the folders of a sweep all of whose runs are in the store. Null, with nothing written, for any other
    command, and for one that is wrong: Hydra will come to the error, and tell it."""
    elsewhere = any(argument.startswith("hydra.searchpath") for argument in arguments)  # Hydra notes down where
    if elsewhere or not set(arguments) & set(MULTIRUN):
        return None
    try:
        asked = asked_for(arguments)
        runs = None if asked.folder is None else _runs_in_store(asked)
    except Exception:
        return None
    if runs is None:
        return None
    sweep = Sweep(asked.folder)
    sweep.begin(asked.words())
    for number, (run, words) in enumerate(zip(track(runs, "from store"), asked.words())):
        folder = asked.folder / str(number)
        running = Running(folder)
        with running.alive(words, number, sweep.id()):
            run.write(folder, words)
            running.ended("done", computed=0)
    return sweep


@dataclass(frozen=True)
class _Run:
    cfg: DictConfig
    config: dict[str, Any]
    stages: dict[str, Stage]
    session: Session

    def write(self, folder: Path, words: list[str]) -> None:
        """What Hydra and the run itself would leave."""
        from rebuttal.run_folder import RunFolder

        (folder / ".hydra").mkdir(exist_ok=True)
        write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(self.cfg))
        write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(words)))
        if RunFolder(folder).found_again(self.config, self.stages, self.session) is None:
            raise UserError(f"{folder}: its run has just gone from the store; the same command makes it again")


def _runs_in_store(asked: Asked) -> list[_Run] | None:
    """Each job's run; null as soon as one is not there."""
    from rebuttal.plan import plain, plan
    from rebuttal.run_folder import in_store
    from rebuttal.session import Session

    runs, session = [], None
    for cfg in asked.configs():
        config = plain(cfg)
        settings, stages = plan(config, asked.packages())
        if session is None or settings.store != session.settings.store:
            session = Session(settings)  # for many jobs, so that a dataset is opened once
        if settings.force or settings.tracker.follows or not in_store(stages, session):
            return None
        runs.append(_Run(cfg, config, stages, session))
    return runs
