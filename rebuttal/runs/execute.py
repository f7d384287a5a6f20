"""One run, from its composed config to its metrics."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import LogRecord
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rebuttal.device import configured
from rebuttal.progress.console import signs_replaced
from rebuttal.progress.status_file import StatusFile
from rebuttal.progress.trackers import Forwarder
from rebuttal.runs.build import build_run, check, log_what_is_not_stored, rehearse_trainings, resolve, stage_names
from rebuttal.runs.folder import Asked, RunFolder, flat_metrics
from rebuttal.runs.isolation import isolated
from rebuttal.stages.session import Session, Settings
from rebuttal.stages.stage import Outcome, Stage, run_stage
from rebuttal.stages.together import train_together


@dataclass(frozen=True)
class Done:
    """A finished run: its metrics, `{"<stage>/<measure>": value}`, and how many results it had to compute."""

    metrics: dict[str, Any]
    computed: int


@dataclass(frozen=True)
class Prepared:
    """A run that is built and checked, so that what could be refused is refused; nothing of it has been written.

    `log`: what was logged meanwhile."""

    config: dict[str, Any]
    settings: Settings
    stages: dict[str, Stage]
    session: Session
    log: list[LogRecord]


def prepare(cfg: DictConfig, packages: Sequence[str] = ()) -> Prepared:
    """Build the run of a composed config, check that its parts, data and device fit together, and try its networks.

    `packages`: those that `_target_` in the config may name besides rebuttal's own and torch.nn; the config must list
    them too. Raises `ConfigError` for a setting that cannot be used.
    """
    with isolated(), _kept_log() as log:
        config = resolve(cfg)
        settings, stages = build_run(config, tuple(packages))
        with configured(settings.device, settings.threads):
            session = Session(settings)
            check(stages, session)
            rehearse_trainings(stages, session)
            log_what_is_not_stored(stages, session)
    return Prepared(config, settings, stages, session, log)


@signs_replaced()
def execute(
    cfg: DictConfig,
    folder: str | Path | None = None,
    packages: Sequence[str] = (),
    asked: Asked | None = None,
) -> Done:
    """Run the stages of a composed config; see `prepare` and `carry_out`.

    The process is afterwards as before; threads wait for each other. Raises `ConfigError` before any training for a
    setting or a folder that cannot be used.
    """
    return carry_out(prepare(cfg, packages), None if folder is None else RunFolder(folder), asked=asked)


def carry_out(
    run: Prepared, folder: RunFolder | None, status: StatusFile | None = None, asked: Asked | None = None
) -> Done:
    """Run the stages.

    `folder`: where to write metrics, history, figures, resolved config and provenance; one that already holds this
    very run is left as it is. `status`: where to report progress. `asked`: how the run was asked for, if known.
    Raises `ConfigError`, before any training, for a folder with files that are not a run's.
    """
    run.session.status = status or StatusFile()
    with isolated(), configured(run.settings.device, run.settings.threads):
        if folder is not None:
            folder.claim(run.stages)
        metrics = _execute(run, folder, asked)
    return Done(metrics, len(run.session.store.made))


def _execute(run: Prepared, folder: RunFolder | None, asked: Asked | None) -> dict[str, Any]:
    config, settings, stages, session = run.config, run.settings, run.stages, run.session
    in_sweep = session.status.in_sweep
    metrics = None
    if folder is not None and not settings.force:
        metrics = folder.finished_metrics(config, stages, session)
    if folder is not None and metrics is None and in_sweep and not settings.tracker.follows:
        metrics = folder.restore(config, stages, session, asked)
    if metrics is not None:
        return metrics
    if folder is not None:
        folder.begin(stages, session)
        names = stage_names(stages, session)
        session.forwarder = Forwarder(lambda: settings.tracker.open(folder.folder, config), names)
    with session.forwarder.closed_at_end():
        with session.store.forced_for({name: stage.identity(session) for name, stage in stages.items()}):
            outcomes = _run_stages(stages, session)
            if folder is not None:
                folder.write(config, stages, outcomes, session, asked)
        if folder is not None and not in_sweep:  # a sweep prints a line a job
            folder.print_summary(outcomes, session)
        metrics = flat_metrics(outcomes)
        session.forwarder.end(metrics)
    return metrics


@contextmanager
def _kept_log() -> Iterator[list[LogRecord]]:
    """Within the block what is logged is also added to the list."""
    handler = MemoryHandler(sys.maxsize, sys.maxsize)
    logging.getLogger().addHandler(handler)
    try:
        yield handler.buffer
    finally:
        logging.getLogger().removeHandler(handler)


def _run_stages(stages: dict[str, Stage], session: Session) -> dict[str, Outcome]:
    train_together(stages.values(), session)
    outcomes = {}
    for number, (name, stage) in enumerate(stages.items(), start=1):
        session.status.stage(name, number, len(stages))
        outcomes[name] = run_stage(name, stage, session)
        session.forwarder.stage_ended(name, outcomes[name].history)
    return outcomes
