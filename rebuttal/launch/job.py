"""One job: a run in the folder that Hydra made for it, with its status and its errors recorded there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import DictConfig, OmegaConf

from rebuttal.errors import ConfigError, UserError, as_one_line, exit_if_user_error
from rebuttal.launch.expand import own_configs, packages_in, uses_basic_sweeper
from rebuttal.launch.gpu_slots import gpu_slot, share_of_threads
from rebuttal.launch.sweep import NotBegun, Sweep
from rebuttal.progress.console import signs_replaced
from rebuttal.progress.status_file import StatusFile

if TYPE_CHECKING:
    from rebuttal.runs.execute import Prepared
    from rebuttal.runs.folder import Asked, RunFolder


def run_job(cfg: DictConfig, prepared: Prepared | None = None) -> Any:
    """Return the objective if one is set, else all metrics. `prepared`: the run of `cfg`, if it is built already.

    A failed sweep job returns None: raising would stop Hydra from starting later jobs; its folder records the error.
    """
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        return _run_here(cfg, prepared)
    # In a process of its own: one that the system kills does not take the others with it, and CUDA starts afresh.
    with ProcessPoolExecutor(1) as process:
        try:
            hydra = OmegaConf.to_container(HydraConfig.get(), resolve=True)
            return process.submit(_run_in_child, hydra, cfg).result()
        except TerminatedWorkerError:
            return None


def _run_in_child(hydra: dict[str, Any], cfg: DictConfig) -> Any:
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})  # type: ignore[assignment]  # as Hydra itself does
    configure_log(OmegaConf.create(hydra["job_logging"]), hydra["verbose"])
    return _run_here(cfg)


@signs_replaced()
def _run_here(cfg: DictConfig, prepared: Prepared | None = None) -> Any:
    from rebuttal.runs.folder import RunFolder

    hydra = HydraConfig.get()
    sweep = None if hydra.mode == RunMode.RUN else Sweep(hydra.sweep.dir)
    overrides = list(hydra.overrides.task)
    folder = RunFolder(hydra.runtime.output_dir, "hydra.run.dir" if sweep is None else "hydra.sweep.dir")
    status = StatusFile(folder.folder)
    try:
        folder.check(() if prepared is None else prepared.stages)
    except (UserError, OSError) as error:  # where nothing can be recorded
        return _refuse(error, sweep)
    with status.alive(overrides, *_place(sweep)):
        try:
            folder.claim()
            with folder.log(() if prepared is None else prepared.log):
                return _recorded(cfg, folder, status, sweep, prepared)
        except Exception as error:
            _record_error(error, folder, status)
            if sweep is None:
                exit_if_user_error(error)  # here, because Hydra prints a line of its own before it passes errors on
                raise
            if cfg.on_failure == "stop" and not isinstance(error, NotBegun):
                sweep.stop(hydra.job.num)
            if not uses_basic_sweeper(hydra):
                raise  # a sweeper that learns from results must not take this for one
            return None


def _recorded(
    cfg: DictConfig, folder: RunFolder, status: StatusFile, sweep: Sweep | None, prepared: Prepared | None
) -> Any:
    """Run the job, with how it was asked for recorded in its folder."""
    from rebuttal.runs.folder import Asked

    hydra = HydraConfig.get()
    asked = Asked(list(hydra.overrides.task), cfg, hydra, own_configs(hydra))
    folder.write_request(asked)
    if sweep is not None:
        sweep.check_not_stopped()
    metrics = _compute(cfg, folder, status, asked, sweep, prepared)
    return metrics if cfg.objective is None else _objective(metrics, cfg.objective)


def _place(sweep: Sweep | None) -> tuple[Any, ...]:
    return () if sweep is None else (HydraConfig.get().job.num, sweep.id())


def _refuse(error: Exception, sweep: Sweep | None) -> None:
    """Say why a job cannot be begun in its folder. Raises where that must not pass for a result."""
    if sweep is None:
        exit_if_user_error(error)
        raise error
    print(f"rebuttal: job {HydraConfig.get().job.num}: {as_one_line(error) or repr(error)}", file=sys.stderr)
    if not uses_basic_sweeper(HydraConfig.get()):
        raise error


def _compute(
    cfg: DictConfig,
    folder: RunFolder,
    status: StatusFile,
    asked: Asked,
    sweep: Sweep | None,
    prepared: Prepared | None,
) -> dict[str, Any]:
    from rebuttal.runs.execute import carry_out, prepare

    packages = packages_in(asked.overrides)
    with _share_of_machine(cfg, packages, sweep, status) as threads:
        if threads is not None:
            cfg.threads = threads
        done = carry_out(prepared or prepare(cfg, packages), folder, status, asked)
        status.ended("done", computed=done.computed)  # before another job may claim the slot
    return done.metrics


@contextmanager
def _share_of_machine(
    cfg: DictConfig, packages: tuple[str, ...], sweep: Sweep | None, status: StatusFile
) -> Iterator[int | None]:
    """With the local launcher: claim a GPU slot and yield this job's share of the CPU threads; None: as configured."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        yield None
        return
    from rebuttal.runs.build import resolve, settings_of

    settings = settings_of(resolve(cfg), packages)
    threads = settings.threads
    if threads is None:
        jobs = sweep.size() if sweep else None
        threads = share_of_threads(HydraConfig.get().launcher.n_jobs, settings.jobs_per_gpu, jobs)
    with nullcontext() if settings.device == "cpu" else gpu_slot(settings.jobs_per_gpu) as gpu:
        status.claimed(gpu)
        yield threads


def _record_error(error: Exception, folder: RunFolder, status: StatusFile) -> None:
    line = as_one_line(error) or repr(error)
    try:
        folder.write_error(error)
        status.ended("not begun" if isinstance(error, NotBegun) else "failed", why=line)
    except (OSError, ConfigError) as unwritable:
        why = as_one_line(unwritable) or unwritable
        print(f"rebuttal: {folder.folder}: {why}: could not record the error: {line}", file=sys.stderr)


def _objective(metrics: dict[str, Any], name: str) -> Any:
    if name not in metrics:
        raise ConfigError(
            f"objective={name}: no such metric; allowed: a name in metrics.json, such as {next(iter(metrics))}"
        )
    return metrics[name]
