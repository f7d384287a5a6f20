"""The entry point that computes: compose the config, check it, run its stages in order, write the numbers.

    python -m rebuttal.train experiment=two_stage model=resnet18

`run(cfg)` is the same for Python callers. Nothing heavy is imported before there is work to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.utils import setup_globals
from omegaconf import DictConfig

from rebuttal.command import plan, preflight, repeat, stored_sweep
from rebuttal.command.arguments import check_launcher, prepare
from rebuttal.command.project import add_project
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import FULL_ERROR, as_config_errors, check_working_directory, exit_if_user_error
from rebuttal.launch import job as launch
from rebuttal.launch.cluster import sbatch_refusals
from rebuttal.launch.expand import Request, packages_in, quoted, read_command
from rebuttal.launch.stopping import unwound_on_sigterm
from rebuttal.launch.sweep import Sweep
from rebuttal.launch.watch import finish, run_watched
from rebuttal.progress.console import signs_replaced
from rebuttal.runs.project import find_project


def run(cfg: DictConfig, folder: str | Path | None = None, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Run the stages of a composed config; return `{"<stage>/<measure>": value}`.

    See `rebuttal.runs.execute.execute` for the arguments. Raises `ConfigError` before any training for a setting that
    cannot be used.
    """
    from rebuttal.runs.execute import execute

    with as_config_errors():
        return execute(cfg, folder, packages).metrics


_ROOT = hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")


@_ROOT
def job(cfg: DictConfig) -> Any:
    """One run in the folder that Hydra made for it."""
    return launch.run_job(cfg)


@signs_replaced()
def main() -> None:
    """Run from the command line."""
    with unwound_on_sigterm(), _errors_in_one_line():
        check_working_directory()
        setup_globals()  # Hydra's resolvers, for configs that are resolved before Hydra starts
        project = find_project()
        arguments = repeat.expand(add_project(prepare(sys.argv[1:]), project))
        with project.importable(packages_in(arguments), Path.cwd()):
            _carry_out(arguments)


def _carry_out(arguments: list[str]) -> None:
    if plan.is_wanted(arguments):
        plan.show(arguments)
        return
    request = read_command(arguments)
    check_launcher(arguments, request)
    if request is None:
        _start_hydra(arguments)
    elif request.folder is None:
        _run(request)
    else:
        _sweep(request, Sweep(request.folder))


def _run(request: Request) -> None:
    prepared, folder = preflight.prepare_run(request)
    if not request.needs_hydra():  # which would compose the config twice more
        with preflight.as_in_hydra(request.composed, folder) as (cfg, _):
            launch.run_job(cfg, prepared)
        return

    @_ROOT
    def prepared_job(cfg: DictConfig) -> Any:
        return launch.run_job(cfg, prepared)

    _start_hydra([*request.arguments, f"hydra.run.dir={quoted(folder)}"], prepared_job)


def _sweep(request: Request, sweep: Sweep) -> None:
    preflight.check_folders(request, sweep)
    if stored_sweep.restore(request, sweep):
        finish(sweep)
        return
    preflight.check_jobs(request)

    def start() -> None:
        with sbatch_refusals(request.composed.hydra):
            _start_hydra(request.arguments)

    run_watched(sweep, request.overrides(), request.launcher, start)


def _start_hydra(arguments: Sequence[str], task: Callable[[], Any] = job) -> None:
    sys.argv[1:] = arguments
    task()


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an error that the user can fix in one line and exit with status 2."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"  # Hydra then raises to here, instead of printing and exiting
    try:
        yield
    except KeyboardInterrupt:
        print("rebuttal: interrupted; rerun the command to resume", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        exit_if_user_error(error)
        raise
    finally:
        os.environ.pop(FULL_ERROR)
        os.environ |= {} if before is None else {FULL_ERROR: before}


if __name__ == "__main__":
    # Jobs on other machines find `job` by the module's name, which is not __main__ there.
    from rebuttal.train import main as start

    start()
