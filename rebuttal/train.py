"""The entry point that computes: compose the config, check it, run its stages in order, leave the numbers.

    python -m rebuttal.train experiment=two_stage model=resnet18

`run(cfg)` is the same thing for Python callers. Nothing heavy is imported before there is work to do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from rebuttal import forecast, sweep
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import WITH_TRACEBACK, tell
from rebuttal.finished import answered_from_store
from rebuttal.from_run import expanded
from rebuttal.job import do
from rebuttal.running import Running

if TYPE_CHECKING:
    from rebuttal.session import Session


def run(cfg: DictConfig, folder: str | Path | None = None, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Run the stages of a composed config; returns `{"<stage>/<measure>": value}`.

    With `folder`, leaves there what a run leaves: metrics, history, figures, resolved config, provenance; a
    folder that already holds this very run is left as it is. `packages`: those that `_target_` in the config may
    name besides rebuttal's own and torch.nn; the config must list them too.
    Raises `ConfigError` before any training for a setting that cannot be used.
    """
    return _run(cfg, folder, Running(), tuple(packages))[0]


def _run(
    cfg: DictConfig, folder: str | Path | None, running: Running, packages: tuple[str, ...]
) -> tuple[dict[str, Any], Session]:
    from rebuttal.plan import check, names, plain, plan
    from rebuttal.run_folder import RunFolder
    from rebuttal.session import Session
    from rebuttal.trackers import Follower

    config = plain(cfg)
    settings, stages = plan(config, packages)
    session = Session(settings, running)
    check(stages, session)
    run_folder = None if folder is None else RunFolder(folder)
    if run_folder and not settings.force and (metrics := run_folder.finished(config, stages, session)):
        return metrics, session
    quick = running.in_sweep and not settings.tracker.follows
    if quick and (metrics := run_folder.found_again(config, stages, session)):
        return metrics, session
    if run_folder:
        session.follower = Follower(lambda: settings.tracker.open(run_folder.folder, config), names(stages, session))
    with session.store.forced_for({name: stage.identity(session) for name, stage in stages.items()}):
        outcomes = {}
        for number, (name, stage) in enumerate(stages.items(), start=1):
            running.stage(name, number, len(stages))
            outcomes[name] = stage.run(session)
            session.follower.stage_ended(name, outcomes[name].history)
        if run_folder:
            run_folder.write(config, stages, outcomes, session)
    if run_folder and not running.in_sweep:  # of which a line a job is told
        run_folder.tell(outcomes, session)
    metrics = {f"{stage}/{key}": value for stage, outcome in outcomes.items() for key, value in outcome.metrics.items()}
    session.follower.end(metrics)
    return metrics, session


@hydra.main(config_path=str(CONFIG_DIR), config_name="train", version_base="1.3")
def job(cfg: DictConfig) -> Any:
    """One run in the folder that Hydra made for it."""
    return do(cfg, _run)


def main() -> None:
    """Run from the command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises to here, instead of printing and exiting
    try:
        _answer(sys.argv)
    except KeyboardInterrupt:
        print("rebuttal: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        tell(error)
        raise
    finally:
        if not WITH_TRACEBACK:
            del os.environ["HYDRA_FULL_ERROR"]


def _answer(command: list[str]) -> None:
    command[1:] = expanded(command[1:])
    if forecast.is_wanted(command[1:]):
        forecast.show(command[1:])
        return
    if finished := answered_from_store(command[1:]):
        sweep.current = finished
        sweep.end()
        return
    try:
        with sweep.told_line_by_line():
            job()
    except Exception:
        sweep.end(whole=False)
        raise
    sweep.end()


if __name__ == "__main__":
    # Jobs on other machines find `job` by the module's name, which is not __main__ there.
    from rebuttal.train import main as start

    start()
