"""One run, from its composed config to its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rebuttal.device import configured
from rebuttal.progress.status_file import StatusFile
from rebuttal.progress.trackers import Forwarder
from rebuttal.runs.build import build_run, check, rehearse_trainings, resolve, stage_names
from rebuttal.runs.folder import RunFolder, flat_metrics
from rebuttal.stages.session import Session, Settings
from rebuttal.stages.stage import Outcome, Stage


@dataclass(frozen=True)
class Done:
    """A finished run: its metrics, `{"<stage>/<measure>": value}`, and how many results it had to compute."""

    metrics: dict[str, Any]
    computed: int


def execute(
    cfg: DictConfig, folder: str | Path | None = None, packages: Sequence[str] = (), status: StatusFile | None = None
) -> Done:
    """Run the stages of a composed config.

    `folder`: where to write metrics, history, figures, resolved config and provenance; a folder that already holds
    this very run is left as it is. `packages`: those that `_target_` in the config may name besides rebuttal's own
    and torch.nn; the config must list them too. `status`: where to report progress.
    Raises `ConfigError` before any training for a setting that cannot be used.
    """
    config = resolve(cfg)
    settings, stages = build_run(config, tuple(packages))
    with configured(settings.device, settings.threads):
        session = Session(settings, status or StatusFile())
        check(stages, session)
        metrics = _execute(config, settings, stages, session, None if folder is None else RunFolder(folder))
    return Done(metrics, len(session.store.made))


def _execute(
    config: dict[str, Any], settings: Settings, stages: dict[str, Stage], session: Session, folder: RunFolder | None
) -> dict[str, Any]:
    in_sweep = session.status.in_sweep
    metrics = None
    if folder is not None and not settings.force:
        metrics = folder.finished_metrics(config, stages, session)
    if folder is not None and metrics is None and in_sweep and not settings.tracker.follows:
        metrics = folder.restore(config, stages, session)
    if metrics is not None:
        return metrics
    rehearse_trainings(stages, session)
    if folder is not None:
        folder.begin(stages, session)
        names = stage_names(stages, session)
        session.forwarder = Forwarder(lambda: settings.tracker.open(folder.folder, config), names)
    with session.store.forced_for({name: stage.identity(session) for name, stage in stages.items()}):
        outcomes = _run_stages(stages, session)
        if folder is not None:
            folder.write(config, stages, outcomes, session)
    if folder is not None and not in_sweep:  # a sweep prints a line a job
        folder.print_summary(outcomes, session)
    metrics = flat_metrics(outcomes)
    session.forwarder.end(metrics)
    return metrics


def _run_stages(stages: dict[str, Stage], session: Session) -> dict[str, Outcome]:
    outcomes = {}
    for number, (name, stage) in enumerate(stages.items(), start=1):
        session.status.stage(name, number, len(stages))
        outcomes[name] = stage.run(session)
        session.forwarder.stage_ended(name, outcomes[name].history)
    return outcomes
