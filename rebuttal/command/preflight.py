"""What can be refused is refused before anything is written: settings, and folders that hold files of others."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import configure_log, env_override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from rebuttal.errors import ConfigError
from rebuttal.launch.expand import Request, hydra_config
from rebuttal.launch.sweep import Sweep

if TYPE_CHECKING:
    from rebuttal.runs.execute import Prepared
    from rebuttal.stages.session import Session


def prepare_run(request: Request) -> tuple[Prepared, str]:
    """Build and check a single run; return it and the name of its folder. Raises `ConfigError`."""
    from rebuttal.runs.execute import prepare
    from rebuttal.runs.folder import RunFolder

    _check_hydra(request.composed.hydra)
    with as_in_hydra(request.composed) as (cfg, folder):
        prepared = prepare(cfg, request.packages())
        RunFolder(folder, "hydra.run.dir").check(prepared.stages)
        return prepared, folder


def check_folders(request: Request, sweep: Sweep) -> None:
    """Raise `ConfigError` if the sweep or one of its jobs would overwrite a file that this tool did not write."""
    _check_hydra(request.composed.hydra)
    sweep.check()
    from rebuttal.runs.folder import RunFolder

    for folder in (sweep.folder / name for name in request.subdirs):
        if folder.exists():
            RunFolder(folder, "hydra.sweep.dir").check()


def check_jobs(request: Request) -> None:
    """Raise `ConfigError` if every job of a sweep would be refused, and Hydra's errors for one that it cannot compose.

    One job that is refused beside others that run is a job that failed."""
    if request.jobs is None:
        return
    sessions: dict[Any, Session] = {}
    refused: list[ConfigError] = []
    runs = False
    for cfg in request.configs():  # all of them, to find one that cannot be composed
        if not runs:
            error = _refusal(cfg, request, sessions)
            refused += [] if error is None else [error]
            runs = error is None
    if not runs:
        alike = len({str(error) for error in refused}) == 1
        others = "" if alike else f" (job 0; none of the other {len(refused) - 1} can run either)"
        raise ConfigError(f"{refused[0]}{others}")


def _refusal(cfg: DictConfig, request: Request, sessions: dict[Any, Session]) -> ConfigError | None:
    """Why a job would be refused; None for one that would run, or fail in another way, which it will record itself."""
    try:
        _check_job(cfg, request, sessions)
    except ConfigError as error:
        return error
    except Exception:
        return None
    return None


def _check_job(cfg: DictConfig, request: Request, sessions: dict[Any, Session]) -> None:
    from rebuttal.runs.build import build_run, check, rehearse_trainings, resolve
    from rebuttal.stages.session import Session

    settings, stages = build_run(resolve(cfg), request.packages(), request.may_try)
    if request.runs_elsewhere():  # where other devices and files may be
        return
    place = (settings.store, settings.device, settings.force)
    if place not in sessions:
        sessions[place] = Session(settings)
    check(stages, sessions[place])
    if sessions[place].device.type == "cpu":  # a GPU's memory is the jobs'
        rehearse_trainings(stages, sessions[place])


def _check_hydra(hydra: DictConfig) -> None:
    """Raise `ConfigError` if Hydra would write files of its own, which it does without a look at what is there, or work
    in the run's folder, from where relative paths lead elsewhere."""
    if hydra.job.chdir:
        raise ConfigError(
            "hydra.job.chdir=true: relative paths, of store and data too, would lead elsewhere from each "
            "run's folder; allowed: false"
        )
    if hydra.output_subdir is not None:
        raise ConfigError(
            f"hydra.output_subdir={hydra.output_subdir}: a run's config is in .hydra, where from_run=… reads it; "
            "allowed: null"
        )
    handlers = OmegaConf.to_container(hydra.job_logging, resolve=False).get("handlers") or {}  # type: ignore[union-attr]
    for name, handler in handlers.items():
        if "filename" in handler:
            raise ConfigError(
                f"hydra.job_logging.handlers.{name}.filename={handler['filename']}: a run logs to train.log in its "
                "folder; allowed: handlers without a file, as in hydra/job_logging=terminal"
            )


@contextmanager
def as_in_hydra(composed: DictConfig, folder: str | None = None) -> Iterator[tuple[DictConfig, str]]:
    """Yield the config and the folder of a single run; within the block logging, environment variables, `HydraConfig`
    and `${hydra:…}` are as Hydra sets them for the run. `folder`: that of the run, if it is known already,
    because its name may hold the time."""
    composed = copy.deepcopy(composed)
    if folder is None:
        with hydra_config(composed):
            folder = str(Path(composed.hydra.run.dir).resolve())  # `..` would need folders to be made
    with flag_override(composed.hydra, ["struct", "readonly"], False):
        composed.hydra.mode = RunMode.RUN
        composed.hydra.run.dir = composed.hydra.runtime.output_dir = folder
    with hydra_config(composed):
        configure_log(composed.hydra.job_logging, composed.hydra.verbose)
        with env_override(composed.hydra.job.env_set):
            yield OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"]), folder
