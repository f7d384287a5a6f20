"""The entry point that computes: compose the config, check it, run its stages in order, leave the numbers.

    python -m rebuttal.train experiment=two_stage model=resnet18

`run(cfg)` is the same thing for Python callers. Nothing heavy is imported before there is work to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rebuttal import forecast, sweep
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError, as_one_line
from rebuttal.finished import answered_from_store
from rebuttal.from_run import expanded
from rebuttal.running import Running
from rebuttal.sweep import NotBegun, Sweep

if TYPE_CHECKING:
    from rebuttal.session import Session

_FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"  # the user asks for tracebacks


def run(cfg: DictConfig, folder: str | Path | None = None) -> dict[str, Any]:
    """Run the stages of a composed config; returns `{"<stage>/<measure>": value}`.

    With `folder`, leaves there what a run leaves: metrics, history, figures, resolved config, provenance; a
    folder that already holds this very run is left as it is.
    Raises `ConfigError` before any training for a setting that cannot be used.
    """
    return _run(cfg, folder, Running())[0]


def _run(cfg: DictConfig, folder: str | Path | None, running: Running) -> tuple[dict[str, Any], Session]:
    from rebuttal.plan import check, plain, plan
    from rebuttal.run_folder import RunFolder
    from rebuttal.session import Session

    config = plain(cfg)
    settings, stages = plan(config)
    session = Session(settings, running)
    check(stages, session)
    run_folder = None if folder is None else RunFolder(folder)
    if run_folder and not settings.force and (metrics := run_folder.finished(config, stages, session)):
        return metrics, session
    if running.in_sweep and (metrics := run_folder.found_again(config, stages, session)):
        return metrics, session
    outcomes = {}
    for number, (name, stage) in enumerate(stages.items(), start=1):
        running.stage(name, number, len(stages))
        outcomes[name] = stage.run(session)
    if run_folder:
        run_folder.write(config, stages, outcomes, session)
        if not running.in_sweep:  # of which a line a job is told
            run_folder.tell(outcomes, session)
    metrics = {f"{stage}/{key}": value for stage, outcome in outcomes.items() for key, value in outcome.metrics.items()}
    return metrics, session


@hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")
def job(cfg: DictConfig) -> Any:
    """One run in the folder that Hydra made for it."""
    hydra_cfg = HydraConfig.get()
    folder = hydra_cfg.runtime.output_dir
    alone = hydra_cfg.mode == RunMode.RUN
    running = Running(folder)
    with (
        running.alive(None if alone else hydra_cfg.job.num, list(hydra_cfg.overrides.task)),
        _share_of_machine(cfg, running),
    ):
        try:
            if not alone:
                Sweep(hydra_cfg.sweep.dir).check_not_stopped()
            metrics, session = _run(cfg, folder, running)
            running.ended("done", computed=len(session.store.made))
            return metrics if cfg.objective is None else _objective(metrics, cfg.objective)
        except Exception as error:
            _leave_word(cfg, error, folder, running)
            if alone:
                _tell(error)
            raise  # a sweep goes on with its other jobs, and fails at its end


@contextmanager
def _share_of_machine(cfg: DictConfig, running: Running) -> Iterator[None]:
    """With the local launcher, what this job may use of the GPUs and cores, which it shares with others."""
    if HydraConfig.get().runtime.choices["hydra/launcher"] != "local":
        yield
        return
    from rebuttal.slots import gpu_slot, share_of_threads

    if cfg.threads is None:
        cfg.threads = share_of_threads(HydraConfig.get().launcher.n_jobs, cfg.jobs_per_gpu)
    with nullcontext() if cfg.device == "cpu" else gpu_slot(cfg.jobs_per_gpu) as gpu:
        running.claimed(gpu)
        yield


def _leave_word(cfg: DictConfig, error: Exception, folder: str, running: Running) -> None:
    from rebuttal.run_folder import write_error

    line = as_one_line(error) or repr(error)
    try:
        write_error(folder, error)
        running.ended("not begun" if isinstance(error, NotBegun) else "failed", why=line)
        if HydraConfig.get().mode == RunMode.MULTIRUN and cfg.on_failure == "stop":
            Sweep(HydraConfig.get().sweep.dir).stop(HydraConfig.get().job.num)
    except OSError as no_word:
        print(f"rebuttal: {folder}: {no_word.strerror}: could not leave word of: {line}", file=sys.stderr)


def _objective(metrics: dict[str, Any], name: str) -> Any:
    if name not in metrics:
        raise ConfigError(
            f"objective={name}: no such metric; allowed: a name in metrics.json, such as {next(iter(metrics))}"
        )
    return metrics[name]


def _tell(error: Exception) -> None:
    """For what the user can mend: print one line and exit with status 2."""
    line = as_one_line(error)
    if line is not None and not _FULL_ERROR:
        print(f"rebuttal: {line}", file=sys.stderr)
        sys.exit(2)


def main() -> None:
    """Run from the command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises to here, instead of printing and exiting
    try:
        sys.argv[1:] = expanded(sys.argv[1:])
        if forecast.is_wanted(sys.argv[1:]):
            forecast.show(sys.argv[1:])
            return
        if finished := answered_from_store(sys.argv[1:]):
            sweep.current = finished
        else:
            with sweep.told_line_by_line():
                job()
        sweep.end(None)
    except KeyboardInterrupt:
        print("rebuttal: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sweep.end(error)
        _tell(error)
        raise
    finally:
        if not _FULL_ERROR:
            del os.environ["HYDRA_FULL_ERROR"]


if __name__ == "__main__":
    # Jobs on other machines find `job` by the module's name, which is not __main__ there.
    from rebuttal.train import main as start

    start()
