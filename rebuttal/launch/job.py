"""One job: a run in the folder that Hydra made for it, with its status and its errors recorded there."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import DictConfig, OmegaConf

from rebuttal.errors import ConfigError, UserError, as_one_line, exit_if_user_error
from rebuttal.launch.expand import as_typed, packages_in
from rebuttal.launch.gpu_slots import gpu_slot, share_of_threads
from rebuttal.launch.settings import uses_basic_sweeper
from rebuttal.launch.stopping import stop_with_parent, unwound_on_sigterm
from rebuttal.launch.sweep import NotBegun, Sweep
from rebuttal.progress.status_file import FolderTaken, StatusFile

log = logging.getLogger(__name__)


def run_job(cfg: DictConfig) -> Any:
    """Return the objective if one is set, else all metrics.

    A failed sweep job returns None: raising would stop Hydra from starting later jobs; its folder records the error.
    If the sweeper learns from results, the error is raised, so that it does not take None for one.
    """
    stop_with_parent()
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        return _run_here(cfg)
    try:
        return _run_in_process_of_its_own(cfg)
    except TerminatedWorkerError:
        if uses_basic_sweeper(HydraConfig.get()):
            return None
        raise UserError("its process died without an error message") from None


def _run_in_process_of_its_own(cfg: DictConfig) -> Any:
    """One that the system kills does not take the others with it, and CUDA starts afresh."""
    with ProcessPoolExecutor(1) as executor:
        child = executor.submit(os.getpid).result()
        job = executor.submit(_run_in_child, _resolved_hydra(), cfg)
        try:
            return job.result()
        except BaseException:
            if not job.done():  # an interruption of this process; the job is to save a checkpoint, too
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
            raise


def _resolved_hydra() -> dict[str, Any]:
    """Hydra's own config as plain values; overrides are kept as typed, because `${…}` in them is not Hydra's."""
    hydra: Any = HydraConfig.get()
    values = {name: hydra[name] for name in hydra if name != "overrides"}
    resolved = {n: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for n, v in values.items()}
    return resolved | {"overrides": OmegaConf.to_container(hydra.overrides, resolve=False)}


def _run_in_child(hydra: dict[str, Any], cfg: DictConfig) -> Any:
    stop_with_parent()
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})  # type: ignore[assignment]  # as Hydra itself does
    configure_log(OmegaConf.create(hydra["job_logging"]), hydra["verbose"])
    return _run_here(cfg)


def _run_here(cfg: DictConfig) -> Any:
    hydra = HydraConfig.get()
    sweep = None if hydra.mode == RunMode.RUN else Sweep(Path(hydra.runtime.cwd, hydra.sweep.dir))
    with unwound_on_sigterm():
        try:
            return _recorded(cfg, hydra.runtime.output_dir, sweep)
        except Exception as error:
            if sweep is None:
                exit_if_user_error(error)  # here, because Hydra prints a line of its own before it passes errors on
                raise
            if cfg.on_failure == "stop" and not isinstance(error, NotBegun):
                sweep.stop(hydra.job.num)
            if not uses_basic_sweeper(hydra):
                raise  # a sweeper that learns from results must not take this for one
            return None


def _recorded(cfg: DictConfig, folder: str, sweep: Sweep | None) -> Any:
    """Run the job; its status, and its error or what stopped it, are recorded in its folder."""
    hydra = HydraConfig.get()
    overrides, job = as_typed(hydra.overrides.task), () if sweep is None else (hydra.job.num, _id_of(sweep))
    status, taken = StatusFile(folder), None
    with ExitStack() as stack:
        try:
            stack.enter_context(status.alive(overrides, *job))
        except FolderTaken as error:
            status, taken = StatusFile(folder := f"{folder}.{hydra.job.num}"), error
            stack.enter_context(status.alive(overrides, *job))
        if sweep is not None:
            sweep.register(hydra.job.num, Path(folder), overrides)
        stack.enter_context(_end_recorded(folder, status))
        if taken is not None:
            raise taken
        return _result(cfg, folder, status, sweep)


def _result(cfg: DictConfig, folder: str, status: StatusFile, sweep: Sweep | None) -> Any:
    if sweep is not None:
        sweep.check_not_stopped()
    packages = packages_in(as_typed(HydraConfig.get().overrides.task))
    metrics = _compute(cfg, folder, status, packages, sweep)
    return metrics if cfg.objective is None else _objective(metrics, cfg.objective)


def _id_of(sweep: Sweep) -> str | None:
    try:
        return sweep.id()
    except UserError as error:  # the job's own results do not depend on it
        log.warning("%s; the run continues", error)
        return None


@contextmanager
def _end_recorded(folder: str, status: StatusFile) -> Iterator[None]:
    """Record an error in the block, or an interruption, as the end of the run."""
    try:
        yield
    except Exception as error:
        _record_error(error, folder, status)
        raise
    except BaseException as stop:
        with suppress(OSError):
            status.ended("cut short", why=f"stopped ({type(stop).__name__}); rerun the command to resume")
        raise


def _compute(
    cfg: DictConfig, folder: str, status: StatusFile, packages: tuple[str, ...], sweep: Sweep | None
) -> dict[str, Any]:
    from rebuttal.runs.execute import execute

    with _share_of_machine(cfg, packages, sweep, status) as threads:
        if threads is not None:
            cfg.threads = threads
        done = execute(cfg, folder, packages, status)
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


def _record_error(error: Exception, folder: str, status: StatusFile) -> None:
    from rebuttal.runs.folder import write_error

    line = as_one_line(error) or repr(error)
    try:
        write_error(folder, error)
        status.ended("not begun" if isinstance(error, NotBegun) else "failed", why=line)
    except OSError as unwritable:
        print(f"rebuttal: {folder}: {unwritable.strerror}: could not record the error: {line}", file=sys.stderr)


def _objective(metrics: dict[str, Any], name: str) -> Any:
    if name not in metrics:
        raise ConfigError(
            f"objective={name}: no such metric; allowed: a name in metrics.json, such as {next(iter(metrics))}"
        )
    value = metrics[name]
    learns = HydraConfig.get().mode == RunMode.MULTIRUN and not uses_basic_sweeper(HydraConfig.get())
    if learns and not (isinstance(value, (int, float)) and math.isfinite(value)):
        raise UserError(f"objective={name}: {'undefined in this run' if value is None else f'{value} is no number'}")
    return value
