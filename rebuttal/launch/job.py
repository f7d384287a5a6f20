"""One job: a run in the folder that Hydra made for it, with its status and its errors recorded there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import DictConfig, OmegaConf

from rebuttal.errors import ConfigError, as_one_line, exit_if_user_error
from rebuttal.launch.expand import as_typed, packages_in, uses_basic_sweeper
from rebuttal.launch.gpu_slots import gpu_slot, share_of_threads
from rebuttal.launch.sweep import NotBegun, Sweep
from rebuttal.progress.status_file import StatusFile


def run_job(cfg: DictConfig) -> Any:
    """Return the objective if one is set, else all metrics.

    A failed sweep job returns None: raising would stop Hydra from starting later jobs; its folder records the error.
    """
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        return _run_here(cfg)
    # In a process of its own: one that the system kills does not take the others with it, and CUDA starts afresh.
    with ProcessPoolExecutor(1) as process:
        try:
            return process.submit(_run_in_child, _resolved_hydra(), cfg).result()
        except TerminatedWorkerError:
            return None


def _resolved_hydra() -> dict[str, Any]:
    """Hydra's own config as plain values; overrides are kept as typed, because `${…}` in them is not Hydra's."""
    hydra: Any = HydraConfig.get()
    values = {name: hydra[name] for name in hydra if name != "overrides"}
    resolved = {n: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for n, v in values.items()}
    return resolved | {"overrides": OmegaConf.to_container(hydra.overrides, resolve=False)}


def _run_in_child(hydra: dict[str, Any], cfg: DictConfig) -> Any:
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})  # type: ignore[assignment]  # as Hydra itself does
    configure_log(OmegaConf.create(hydra["job_logging"]), hydra["verbose"])
    return _run_here(cfg)


def _run_here(cfg: DictConfig) -> Any:
    hydra = HydraConfig.get()
    sweep = None if hydra.mode == RunMode.RUN else Sweep(hydra.sweep.dir)
    folder, overrides = hydra.runtime.output_dir, as_typed(hydra.overrides.task)
    status = StatusFile(folder)
    with status.alive(overrides, *(() if sweep is None else (hydra.job.num, sweep.id()))):
        try:
            if sweep is not None:
                sweep.check_not_stopped()
            metrics = _compute(cfg, folder, status, packages_in(overrides), sweep)
            return metrics if cfg.objective is None else _objective(metrics, cfg.objective)
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
    return metrics[name]
