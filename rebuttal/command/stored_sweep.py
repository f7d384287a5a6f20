"""If every run of a sweep is already stored, write their folders without launching any job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rebuttal.errors import UserError
from rebuttal.launch.expand import Request
from rebuttal.launch.sweep import Sweep
from rebuttal.progress.console import track
from rebuttal.progress.status_file import StatusFile
from rebuttal.store.files import write_text

if TYPE_CHECKING:
    from rebuttal.stages.session import Session
    from rebuttal.stages.stage import Stage


def restore(request: Request, sweep: Sweep) -> bool:
    """Write the folders of a sweep if the store holds all of its runs, and return True; else write nothing.

    A job whose config is wrong is not in the store: False, and Hydra will report the error as that job's."""
    jobs = request.overrides()
    if not jobs or not request.numbered or request.uses_own_configs():  # Hydra records where it found them
        return False
    try:
        runs = _stored_runs(request)
    except (UserError, HydraException, OmegaConfBaseException):
        return False
    if runs is None:
        return False
    sweep.begin(jobs)
    for number, (run, overrides) in enumerate(zip(track(runs, "from store"), jobs)):
        folder = sweep.folder / str(number)
        status = StatusFile(folder)
        with status.alive(overrides, number, sweep.id()):
            sweep.register(number, folder, overrides)
            run.write(folder, overrides)
            status.ended("done", computed=0)
    return True


@dataclass(frozen=True)
class _Run:
    cfg: DictConfig
    config: dict[str, Any]
    stages: dict[str, Stage]
    session: Session

    def write(self, folder: Path, overrides: list[str]) -> None:
        """Write what Hydra and the run itself would write."""
        from rebuttal.runs.folder import RunFolder

        (folder / ".hydra").mkdir(exist_ok=True)
        write_text(folder / ".hydra" / "config.yaml", OmegaConf.to_yaml(self.cfg))
        write_text(folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
        if RunFolder(folder).restore(self.config, self.stages, self.session) is None:
            raise UserError(f"{folder}: its run was just removed from the store; rerun the command to recompute it")


def _stored_runs(request: Request) -> list[_Run] | None:
    """Each job's run; None as soon as one is not in the store."""
    from rebuttal.runs.build import build_run, check_objective, resolve
    from rebuttal.runs.folder import in_store
    from rebuttal.stages.session import Session

    runs: list[_Run] = []
    session = None
    for cfg in request.configs():
        config = resolve(cfg)
        settings, stages = build_run(config, request.packages())
        if session is None or settings.store != session.settings.store:
            session = Session(settings)  # shared by many jobs, so that a dataset is opened once
        check_objective(settings.objective, stages, session)
        if settings.force or settings.tracker.follows or not in_store(stages, session):
            return None
        runs.append(_Run(cfg, config, stages, session))
    return runs
