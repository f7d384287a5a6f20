"""One job: a run in the folder that Hydra made for it, with its status and its errors recorded there."""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rebuttal.errors import ConfigError, UserError, as_one_line, exit_if_user_error
from rebuttal.launch.expand import as_typed, own_configs, packages_in
from rebuttal.launch.gpu_slots import gpu_slot, share_of_threads
from rebuttal.launch.packing import cores_of_task
from rebuttal.launch.processes import ProcessDied, own_process
from rebuttal.launch.settings import jobs_per_task, uses_basic_sweeper
from rebuttal.launch.stopping import stop_with_parent, unwound_on_sigterm
from rebuttal.launch.sweep import NotBegun, Sweep
from rebuttal.progress.console import signs_replaced
from rebuttal.progress.status_file import StatusFile
from rebuttal.runs.project import find_project

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from rebuttal.runs.execute import Prepared
    from rebuttal.runs.folder import Asked, RunFolder


def run_job(cfg: DictConfig, prepared: Prepared | None = None) -> Any:
    """Return the objective if one is set, else all metrics. `prepared`: the run of `cfg`, if it is built already.

    A failed sweep job returns None: raising would stop Hydra from starting later jobs; its folder records the error.
    If the sweeper learns from results, the error is raised, so that it does not take None for one.
    """
    stop_with_parent()
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        return _run_here(cfg, prepared)
    try:
        return _run_in_process_of_its_own(cfg)
    except ProcessDied:
        if uses_basic_sweeper(HydraConfig.get()):
            return None
        raise UserError("its process died without an error message") from None


def _run_in_process_of_its_own(cfg: DictConfig) -> Any:
    with own_process() as process:
        try:
            return process.run(partial(_run_in_child, _resolved_hydra(), cfg))
        except BaseException as stop:
            if not isinstance(stop, Exception):  # an interruption of this process; the job is to save a checkpoint, too
                process.terminate()
            raise


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


@signs_replaced()
def _run_here(cfg: DictConfig, prepared: Prepared | None = None) -> Any:
    hydra = HydraConfig.get()
    sweep = None if hydra.mode == RunMode.RUN else Sweep(Path(hydra.runtime.cwd, hydra.sweep.dir))
    with unwound_on_sigterm():
        try:
            return _recorded(cfg, sweep, prepared)
        except Exception as error:
            if sweep is None:
                exit_if_user_error(error)  # here, because Hydra prints a line of its own before it passes errors on
                raise
            if cfg.on_failure == "stop" and not isinstance(error, NotBegun):
                sweep.stop(hydra.job.num)
            if not uses_basic_sweeper(hydra):
                raise  # a sweeper that learns from results must not take this for one
            return None


def _recorded(cfg: DictConfig, sweep: Sweep | None, prepared: Prepared | None) -> Any:
    """Run the job; its status, and its error or what stopped it, are recorded in its folder."""
    from rebuttal.runs.folder import Asked

    hydra = HydraConfig.get()
    asked = Asked(as_typed(hydra.overrides.task), cfg, hydra, own_configs(hydra))
    with ExitStack() as stack:
        folder, status, refused = _begin(stack, asked.overrides, sweep, () if prepared is None else prepared.stages)
        if sweep is not None:
            sweep.register(hydra.job.num, folder.folder, asked.overrides)
        stack.enter_context(_end_recorded(folder, status))
        if refused is not None:
            raise refused
        folder.claim()
        stack.enter_context(folder.log(() if prepared is None else prepared.log))
        folder.write_request(asked)
        if sweep is not None:
            sweep.check_not_stopped()
        return _compute(cfg, folder, status, asked, sweep, prepared)


def _begin(
    stack: ExitStack, overrides: list[str], sweep: Sweep | None, stages: Iterable[str]
) -> tuple[RunFolder, StatusFile, Exception | None]:
    """Begin the job in its folder. If others have that, begin a job of a sweep in one beside it, so that the error that
    is returned can be recorded. Raises it if there is none."""
    from rebuttal.runs.folder import RunFolder

    hydra = HydraConfig.get()
    place = hydra.runtime.output_dir
    places = [place] if sweep is None else [place, f"{place}.{hydra.job.num}"]
    job = () if sweep is None else (hydra.job.num, _id_of(sweep))
    refusals: list[Exception] = []
    for place in places:
        folder, status = RunFolder(place, "hydra.run.dir" if sweep is None else "hydra.sweep.dir"), StatusFile(place)
        try:
            folder.check(stages)
            stack.enter_context(status.alive(overrides, *job))
            return folder, status, next(iter(refusals), None)
        except (UserError, OSError) as error:
            refusals.append(error)
    if sweep is not None:
        print(f"rebuttal: job {hydra.job.num}: {as_one_line(refusals[0]) or repr(refusals[0])}", file=sys.stderr)
    raise refusals[0]


def _id_of(sweep: Sweep) -> str | None:
    try:
        return sweep.id()
    except UserError as error:  # the job's own results do not depend on it
        log.warning("%s; the run continues", error)
        return None


@contextmanager
def _end_recorded(folder: RunFolder, status: StatusFile) -> Iterator[None]:
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
    cfg: DictConfig,
    folder: RunFolder,
    status: StatusFile,
    asked: Asked,
    sweep: Sweep | None,
    prepared: Prepared | None,
) -> Any:
    from rebuttal.runs.execute import carry_out, prepare

    packages = packages_in(asked.overrides)
    place = HydraConfig.get().runtime.cwd
    importable = find_project(place).importable(packages, place)  # in a process of another machine, too
    with importable, _share_of_machine(cfg, packages, sweep, status) as threads:
        if threads is not None:
            cfg.threads = threads
        done = carry_out(prepared or prepare(cfg, packages), folder, status, asked)
        computed = [done.computed]
        found: Any = done.metrics if cfg.objective is None else _objective(done.metrics, cfg.objective)
        if _learns():
            others = [
                carry_out(prepare(run.cfg, packages), place, status, run) for place, run in _others(folder, asked)
            ]
            computed += [other.computed for other in others]
            found = fmean([found, *(_objective(other.metrics, cfg.objective) for other in others)])
        status.ended("done", computed=sum(computed))  # before another job may claim the slot
    return found


def _others(folder: RunFolder, asked: Asked) -> Iterator[tuple[RunFolder, Asked]]:
    """The further runs of a trial, one for each of its other seeds, in folders within that of the trial."""
    from rebuttal.runs.folder import RunFolder

    for further in range(1, asked.cfg.seeds_per_trial):
        cfg = copy.deepcopy(asked.cfg)
        cfg.seed += further
        cfg.seeds_per_trial = 1
        overrides = [*asked.overrides, f"seed={cfg.seed}", "seeds_per_trial=1"]
        place, run = RunFolder(folder.folder / f"seed_{cfg.seed}"), replace(asked, overrides=overrides, cfg=cfg)
        place.claim()
        place.write_request(run)
        yield place, run


@contextmanager
def _share_of_machine(
    cfg: DictConfig, packages: tuple[str, ...], sweep: Sweep | None, status: StatusFile
) -> Iterator[int | None]:
    """Where jobs share a machine or a task: claim a GPU slot and yield this job's share of the CPU threads; None: as
    configured."""
    hydra = HydraConfig.get()
    if hydra.runtime.choices["hydra/launcher"] != "local" and jobs_per_task(hydra.launcher) == 1:
        yield None
        return
    from rebuttal.runs.build import resolve, settings_of

    settings = settings_of(resolve(cfg), packages)
    threads = settings.threads
    if threads is None:
        per_gpu = None if settings.device == "cpu" else settings.jobs_per_gpu
        threads = _share(hydra.launcher, per_gpu, sweep.size() if sweep else None)
    with nullcontext() if settings.device == "cpu" else gpu_slot(settings.jobs_per_gpu) as gpu:
        status.claimed(gpu)
        yield threads


def _share(launcher: Any, per_gpu: int | None, in_all: int | None) -> int:
    if jobs_per_task(launcher) > 1:
        of_task = min(launcher.jobs_per_task, in_all or launcher.jobs_per_task)
        return share_of_threads(launcher.jobs_at_a_time or -1, per_gpu, of_task, cores_of_task())
    return share_of_threads(launcher.n_jobs, per_gpu, in_all)


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
    value = metrics[name]
    if _learns() and not (isinstance(value, (int, float)) and math.isfinite(value)):
        raise UserError(f"objective={name}: {'undefined in this run' if value is None else f'{value} is no number'}")
    return value


def _learns() -> bool:
    """True if a sweeper chooses later jobs by the result of this one."""
    return HydraConfig.get().mode == RunMode.MULTIRUN and not uses_basic_sweeper(HydraConfig.get())
