"""One job: a run in the folder that Hydra made for it, which tells how it goes and how it ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from omegaconf import DictConfig, OmegaConf

from rebuttal.asked import is_basic, packages_in
from rebuttal.errors import ConfigError, as_one_line, tell
from rebuttal.running import Running
from rebuttal.sweep import NotBegun, Sweep

if TYPE_CHECKING:
    from rebuttal.session import Session

# (config, folder, who is told how it goes, packages that the command line lists) -> metrics, and what they were made in
Compute = Callable[[DictConfig, str, Running, tuple[str, ...]], "tuple[dict[str, Any], Session]"]


def do(cfg: DictConfig, compute: Compute) -> Any:
    """Gives the objective, or without one all metrics; of a job that failed in a sweep nothing, because its folder
    says how it ended, and Hydra would not begin what comes after it."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        return _do(cfg, compute)
    # In a process of its own: one that the system kills does not take the others with it, and CUDA starts anew.
    with ProcessPoolExecutor(1) as own:
        try:
            hydra = OmegaConf.to_container(HydraConfig.get(), resolve=True)
            return own.submit(_do_there, hydra, cfg, compute).result()
        except TerminatedWorkerError:
            return None


def _do_there(hydra: dict[str, Any], cfg: DictConfig, compute: Compute) -> Any:
    HydraConfig.instance().cfg = OmegaConf.create({"hydra": hydra})
    configure_log(HydraConfig.get().job_logging, HydraConfig.get().verbose)
    return _do(cfg, compute)


def _do(cfg: DictConfig, compute: Compute) -> Any:
    hydra = HydraConfig.get()
    sweep = None if hydra.mode == RunMode.RUN else Sweep(hydra.sweep.dir)
    folder, overrides = hydra.runtime.output_dir, list(hydra.overrides.task)
    running = Running(folder)
    with running.alive(overrides, *(() if sweep is None else (hydra.job.num, sweep.id()))):
        try:
            if sweep is not None:
                sweep.check_not_stopped()
            packages = packages_in(overrides)
            with _share_of_machine(cfg, packages, sweep, running):
                metrics, session = compute(cfg, folder, running, packages)
            running.ended("done", computed=len(session.store.made))
            return metrics if cfg.objective is None else _objective(metrics, cfg.objective)
        except Exception as error:
            _leave_word(error, folder, running)
            if sweep is None:
                tell(error)  # here, because Hydra puts words of its own before what passes through it
                raise
            if cfg.on_failure == "stop" and not isinstance(error, NotBegun):
                sweep.stop(hydra.job.num)
            if not is_basic(hydra):
                raise  # a sweeper that learns from results must not take this for one


@contextmanager
def _share_of_machine(
    cfg: DictConfig, packages: tuple[str, ...], sweep: Sweep | None, running: Running
) -> Iterator[None]:
    """With the local launcher, what this job may use of the GPUs and cores, which it shares with others."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        yield
        return
    from rebuttal.plan import plain, settings_of
    from rebuttal.slots import gpu_slot, share_of_threads

    settings = settings_of(plain(cfg), packages)
    if settings.threads is None:
        cfg.threads = share_of_threads(HydraConfig.get().launcher.n_jobs, settings.jobs_per_gpu, sweep and sweep.size())
    with nullcontext() if settings.device == "cpu" else gpu_slot(settings.jobs_per_gpu) as gpu:
        running.claimed(gpu)
        yield


def _leave_word(error: Exception, folder: str, running: Running) -> None:
    from rebuttal.run_folder import write_error

    line = as_one_line(error) or repr(error)
    try:
        write_error(folder, error)
        running.ended("not begun" if isinstance(error, NotBegun) else "failed", why=line)
    except OSError as no_word:
        print(f"rebuttal: {folder}: {no_word.strerror}: could not leave word of: {line}", file=sys.stderr)


def _objective(metrics: dict[str, Any], name: str) -> Any:
    if name not in metrics:
        raise ConfigError(
            f"objective={name}: no such metric; allowed: a name in metrics.json, such as {next(iter(metrics))}"
        )
    return metrics[name]
