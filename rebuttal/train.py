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
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from rebuttal.command import plan, preflight, repeat, stored_sweep
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import FULL_ERROR, exit_if_user_error
from rebuttal.launch import job as launch
from rebuttal.launch.expand import quoted, read_command
from rebuttal.launch.sweep import Sweep
from rebuttal.launch.watch import finish, print_ended_jobs
from rebuttal.progress.console import signs_replaced

if TYPE_CHECKING:
    from rebuttal.runs.execute import Prepared


def run(cfg: DictConfig, folder: str | Path | None = None, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Run the stages of a composed config; return `{"<stage>/<measure>": value}`.

    See `rebuttal.runs.execute.execute` for the arguments. Raises `ConfigError` before any training for a setting that
    cannot be used.
    """
    from rebuttal.runs.execute import execute

    return execute(cfg, folder, packages).metrics


_ROOT = hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")


@_ROOT
def job(cfg: DictConfig) -> Any:
    """One run in the folder that Hydra made for it."""
    return launch.run_job(cfg)


@signs_replaced()
def main() -> None:
    """Run from the command line."""
    with _errors_in_one_line():
        arguments = repeat.expand(sys.argv[1:])
        if plan.is_wanted(arguments):
            plan.show(arguments)
            return
        request = read_command(arguments)
        if request is None:
            _start_hydra(arguments)
            return
        if request.folder is None:
            _start_prepared(arguments, *preflight.prepare_run(request))
            return
        sweep = Sweep(request.folder)
        preflight.check_folders(request, sweep)
        if stored_sweep.restore(request, sweep):
            finish(sweep)
            return
        preflight.check_jobs(request)
        sweep.begin(request.overrides())
        try:
            with print_ended_jobs(sweep):
                _start_hydra([*arguments, f"hydra.sweep.dir={quoted(str(sweep.folder))}"])
        except Exception:
            finish(sweep, completed=False)
            raise
        finish(sweep)


def _start_prepared(arguments: list[str], prepared: Prepared, folder: str) -> None:
    """Start a single run in `folder`."""

    @_ROOT
    def prepared_job(cfg: DictConfig) -> Any:
        return launch.run_job(cfg, prepared)

    _start_hydra([*arguments, f"hydra.run.dir={quoted(folder)}"], prepared_job)


def _start_hydra(arguments: list[str], task: Callable[[], Any] = job) -> None:
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
