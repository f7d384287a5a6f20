"""If every run of a sweep is already stored, write their folders without launching any job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from rebuttal.errors import UserError
from rebuttal.launch.expand import Request
from rebuttal.launch.sweep import Sweep
from rebuttal.progress.console import track
from rebuttal.progress.status_file import StatusFile

if TYPE_CHECKING:
    from rebuttal.runs.folder import RunFolder
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
    from rebuttal.runs.folder import RunFolder

    folders = [RunFolder(sweep.folder / str(number), "hydra.sweep.dir") for number in range(len(runs))]
    for folder, run in zip(folders, runs):
        folder.check(run.stages)
    with sweep.running():
        sweep.begin(jobs)
        for number, (run, folder, overrides) in enumerate(zip(track(runs, "from store"), folders, jobs)):
            status = StatusFile(folder.folder)
            with status.alive(overrides, number, sweep.id()):
                sweep.register(number, folder.folder, overrides)
                folder.claim()
                run.write(folder, overrides)
                status.ended("done", computed=0)
    return True


@dataclass(frozen=True)
class _Run:
    cfg: DictConfig
    config: dict[str, Any]
    stages: dict[str, Stage]
    session: Session

    def write(self, folder: RunFolder, overrides: list[str]) -> None:
        """Write what the run itself would write."""
        from rebuttal.runs.folder import Asked

        if folder.restore(self.config, self.stages, self.session, Asked(overrides, self.cfg)) is None:
            raise UserError(
                f"{folder.folder}: its run was just removed from the store; rerun the command to recompute it"
            )


def _stored_runs(request: Request) -> list[_Run] | None:
    """Each job's run; None as soon as one is not in the store."""
    from rebuttal.runs.build import build_run, check_objective, resolve
    from rebuttal.runs.folder import in_store
    from rebuttal.runs.precision import is_undecided
    from rebuttal.stages.session import Session

    runs: list[_Run] = []
    session = None
    for cfg in request.configs():
        config = resolve(cfg)
        undecided = is_undecided(config)
        settings, stages = build_run(config, request.packages(), request.may_try)
        if undecided and not request.may_try(settings.device):
            return None
        if session is None or settings.store != session.settings.store:
            session = Session(settings)  # shared by many jobs, so that a dataset is opened once
        check_objective(settings.objective, stages, session)
        if settings.force or settings.tracker.follows or not in_store(stages, session):
            return None
        runs.append(_Run(cfg, config, stages, session))
    return runs
