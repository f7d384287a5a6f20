"""From a composed config to settings and stages, all of it built and checked before any work."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from rebuttal.config import GROUPS, at_home, build, construct
from rebuttal.errors import ConfigError, nearest, options_of
from rebuttal.runs.precision import settle
from rebuttal.stages.networks import rehearse
from rebuttal.stages.session import Session, Settings
from rebuttal.stages.stage import Stage, trainings
from rebuttal.store.beside import SNAPSHOT, snapshot_identity
from rebuttal.store.identity import canonical, describe, name_of

log = logging.getLogger(__name__)

_STAGE_NAME = re.compile(r"[\w-]+")

REFERENCED = ("stages", "shape", *GROUPS)  # top-level keys that are read through interpolations, or as stages
# The method that shows that an object is an option of the group.
_METHODS = {
    **{"training": "make_optimizer", "preprocess": "layer", "model": "network"},
    **{"dataset": "open", "corruption": "__call__"},
}
_OF_STAGES = "training=same"  # an option that copies the run's


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values: every interpolation resolved, and the options that the stages share with the run set
    in each of them. Raises `ConfigError`."""
    try:
        config: dict[str, Any] = at_home(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it as {error.full_key}=…") from None
    except InterpolationKeyError as error:
        reason = str(error).splitlines()[0]
        missing = reason.partition("'")[2].partition("'")[0]
        near = nearest(missing, _keys(OmegaConf.to_container(cfg, resolve=False)))
        raise ConfigError(f"{error.full_key}: refers to a key that is not there ({reason}){near}") from None
    return {**config, "stages": _with_shared(config.get("stages"), config)}


def _with_shared(node: Any, config: dict[str, Any]) -> Any:
    """A part of the config in which each option of a group that has no `_target_` of its own is the run's, changed as
    it says."""
    if isinstance(node, list):
        return [_with_shared(item, config) for item in node]
    if not isinstance(node, dict):
        return node
    found = {name: _with_shared(value, config) for name, value in node.items()}
    if "_target_" not in found:
        return found
    return found | {name: _changed(config.get(name), found[name]) for name in GROUPS if name in found}


def _changed(option: Any, changes: Any) -> Any:
    """`changes`, where they say what they are; else the option with those keys changed."""
    if not isinstance(option, dict) or not isinstance(changes, dict) or "_target_" in changes:
        return changes
    return option | {name: _changed(option.get(name), value) for name, value in changes.items()}


def _keys(node: Any, above: str = "") -> Iterator[str]:
    """Yield every key of an unresolved config, dotted."""
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{above}{name}"
        yield from _keys(value, f"{above}{name}.")


def settings_of(config: dict[str, Any], packages: Iterable[str] = ()) -> Settings:
    """The top-level keys of a resolved config.

    `packages`: those that the command line lists; a config file must not add to them. Raises `ConfigError`.
    """
    content = {key: value for key, value in config.items() if key not in REFERENCED}
    content["tracker"] = build(content.get("tracker"), "tracker", packages)
    settings: Settings = construct(Settings, content | {"packages": build(content.get("packages") or [], "packages")})
    if not set(settings.packages) <= set(packages):
        raise ConfigError(
            f"packages={list(settings.packages)}: a config file lists them; allowed: to list them on the command line, "
            "as packages=[name], or in the project's rebuttal.yaml"
        )
    return settings


def build_run(
    config: dict[str, Any], packages: Iterable[str] = (), may_try: Callable[[str], bool] = lambda device: True
) -> tuple[Settings, dict[str, Stage]]:
    """Build everything that a resolved config names, in which `precision: auto` is replaced by what it becomes here.
    `packages`: see `settings_of`. `may_try`: see `settle`. Raises `ConfigError`."""
    settings = settings_of(config, packages)
    settle(config, settings, may_try)
    _build_groups(config, settings.packages)
    nodes = config.get("stages") or {}
    if not nodes:
        raise ConfigError("stages={}: allowed: at least one stage; choose an experiment, e.g. experiment=toy")
    if not isinstance(nodes, dict):
        raise ConfigError(f"stages={nodes}: allowed: stages by name")
    for name in nodes:
        if not _STAGE_NAME.fullmatch(str(name)):
            raise ConfigError(f"stages.{name}: a stage's name also names files; allowed: letters, digits, _ and -")
    stages = {name: build(node, f"stages.{name}", settings.packages) for name, node in nodes.items()}
    for name, stage in stages.items():
        if not hasattr(stage, "run"):
            raise ConfigError(
                f"stages.{name}: is not a stage; allowed: one of the group stage (stages.{name}._target_)"
            )
    return settings, stages


def check(stages: dict[str, Stage], session: Session) -> None:
    """Let the tracker, the store and every stage check that their parts and data fit together, and that the objective
    is one of their metrics. Raises `ConfigError`."""
    session.settings.tracker.check()
    session.store.check()
    for stage in stages.values():
        stage.check(session)
    check_objective(session.settings.objective, stages, session)


def check_objective(wanted: str | None, stages: dict[str, Stage], session: Session) -> None:
    """Raise `ConfigError` for an objective that this run cannot have.

    A stage that does not say which metrics it has may have any; one that measures, any of its functions."""
    if wanted is None:
        return
    metrics: dict[str, list[str]] = {}
    for name, stage in stages.items():
        names = stage.metric_names(session) if hasattr(stage, "metric_names") else ("*",)
        metrics[name] = [f"{name}/{metric}" for metric in names]
    possible = [metric for found in metrics.values() for metric in found]
    if any(fnmatchcase(wanted, metric) for metric in possible):
        return
    if wanted.lower() == "none":
        raise ConfigError(f"objective={wanted}: no such metric; none is called null here: objective=null")
    near = nearest(wanted, (metric for metric in possible if "*" not in metric))
    allowed = metrics.get(wanted.partition("/")[0]) or [f"{name}/…" for name, found in metrics.items() if found]
    raise ConfigError(f"objective={wanted}: no such metric; allowed: {', '.join(allowed)}{near}")


def rehearse_trainings(stages: dict[str, Stage], session: Session) -> None:
    """Read the examples of every network that is not stored yet, but for generated ones, which are drawn when needed,
    and try the network on two inputs, or on one if there are batches of one, before any is trained. Raises
    `ConfigError`."""
    tried = set()
    for name, (_, work) in trainings(stages.values(), session).items():
        kind = canonical(
            [
                describe(work.model),
                work.recipe.identity(work.preprocess),
                work.source.shape,
                work.source.classes,
                work.rehearsed,
            ]
        )
        if session.store.holds(name):
            continue
        for dataset, split, seed in work.reads:
            if not getattr(dataset, "generated", False):
                session.examples(dataset, split, seed)
        if kind in tried:
            continue
        tried.add(kind)
        inputs = work.source.examples("train", 0).inputs[: work.rehearsed].to(session.device)
        rehearse(work.model, work.preprocess, work.recipe, work.source, inputs)


def log_what_is_not_stored(stages: dict[str, Stage], session: Session) -> None:
    """Log, if snapshots or the accuracies of every epoch are asked for, which networks were stored without them: those
    are not trained again."""
    snapshots, every = session.settings.snapshots != "none", session.settings.evaluate == "every"
    for name, (stage, _) in trainings(stages.values(), session).items() if snapshots or every else ():
        if not session.store.holds(name):
            continue
        identity, lacks = stage.identity(session), {}
        if snapshots and not session.store.holds(name_of(SNAPSHOT, snapshot_identity(identity, 0))):
            lacks["snapshots=log"] = "without any"
        stored = session.store.get(name.partition("/")[0], identity) if every else None
        if stored and any("train_accuracy" not in row for row in stored.record.get("history", ())):
            lacks["evaluate=every"] = "with the accuracies of fewer epochs"
        for asked, how in lacks.items():
            log.warning("%s: %s is stored %s; force=true trains it again, and computes all else anew", asked, name, how)


def stage_names(stages: dict[str, Stage], session: Session) -> dict[str, str]:
    """The names of the stages that train, by the name under which the store keeps what they train."""
    training = {name: stage.identity(session) for name, stage in stages.items() if stage.work(session) is not None}
    return {name_of(identity["stage"], identity): name for name, identity in training.items()}


def _build_groups(config: dict[str, Any], packages: Iterable[str]) -> None:
    """Build the options before the stages that copy them, so that a message names the key that the user typed."""
    for group in GROUPS:
        node = config.get(group)
        if group == "training" and isinstance(node, dict) and "_target_" not in node:
            others = ", ".join(option.partition("=")[2] for option in options_of(group) if option != _OF_STAGES)
            raise ConfigError(f"{_OF_STAGES}: is for a stage, whose recipe it makes the run's; allowed here: {others}")
        built = build(node, group, packages)
        if group in _METHODS and node is not None and not callable(getattr(built, _METHODS[group], None)):
            raise ConfigError(f"{group}={node}: allowed: an option of the group {group}")
