"""What the jobs of a sweep need, trained as one before they run; each job then takes it from the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from rebuttal.errors import as_one_line
from rebuttal.launch.expand import as_typed, hydra_config, packages_in
from rebuttal.launch.stopping import unwound_on_sigterm
from rebuttal.launch.sweep import Sweep
from rebuttal.store.needs import Needs

if TYPE_CHECKING:
    from rebuttal.stages.session import Session, Settings
    from rebuttal.stages.stage import Stage

log = logging.getLogger(__name__)


def train_networks_of(jobs: Iterable[Callable[[], DictConfig]], sweep: Sweep) -> None:
    """Train what these jobs need, in stacks where that is faster; with `force` each job trains its own.

    `jobs`: what composes their configs, with Hydra's part. `sweep`: theirs, which first records what they need. A job
    that is refused, or whose networks fail, says so when it runs."""
    together: dict[Settings, list[dict[str, Stage]]] = {}
    for compose in jobs:
        for settings, stages in _runs(compose):
            if not settings.force:
                together.setdefault(settings, []).append(stages)
    for settings, runs in together.items():
        with unwound_on_sigterm():
            _train(settings, runs, sweep)


def _runs(compose: Callable[[], DictConfig]) -> Iterator[tuple[Settings, dict[str, Stage]]]:
    """Yield the runs of a job, which are several with `seeds_per_trial`: their settings, but for those that decide no
    training, and their stages."""
    from rebuttal.runs.build import build_run, resolve

    try:
        composed = compose()
        packages = packages_in(as_typed(composed.hydra.overrides.task))
        cfg = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        with hydra_config(composed):
            for further in range(cfg.seeds_per_trial):
                cfg.seed += min(further, 1)
                settings, stages = build_run(resolve(cfg), packages)
                yield _shared(settings), stages
    except Exception as error:
        log.debug("a job that cannot be built: %s", as_one_line(error) or error)


def _shared(settings: Settings) -> Settings:
    from rebuttal.progress.trackers import NoTracker

    return replace(settings, name="stacked", seed=0, objective=None, judged=True, tracker=NoTracker())


def _is_right(stage: Stage, session: Session) -> bool:
    try:
        stage.check(session)
        stage.identity(session)
    except Exception:  # of a stage of the user's, too
        return False
    return True


def _needs(runs: Iterable[dict[str, Stage]], session: Session) -> Needs:
    from rebuttal.runs.provenance import needs
    from rebuttal.stages.stage import trainings

    found = Needs()
    for stages in runs:
        found |= needs(stages, session, trainings(stages.values(), session))
    return found


def _train(settings: Settings, runs: list[dict[str, Stage]], sweep: Sweep) -> None:
    from rebuttal.device import configured
    from rebuttal.runs.isolation import isolated
    from rebuttal.stages.session import Session
    from rebuttal.stages.together import train_together

    with isolated(), configured(settings.device, settings.threads):
        session = Session(settings)
        try:
            right = [{name: stage for name, stage in run.items() if _is_right(stage, session)} for run in runs]
            sweep.add_needs(_needs(right, session))
            train_together([stage for run in right for stage in run.values()], session)
        except Exception as error:
            log.warning("not trained as one (%s): each job trains its own", as_one_line(error) or error)
