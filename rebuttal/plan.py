"""From a composed config to settings and stages, all of it built and checked before any work."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from rebuttal.config import build, construct
from rebuttal.errors import ConfigError
from rebuttal.session import Session, Settings
from rebuttal.stages.stage import Stage
from rebuttal.store import name_of

_NAME = re.compile(r"[\w-]+")

# Built before the stages that copy them, so that a message names the key the user typed.
GROUPS = ("training", "model", "dataset", "corruption", "measuring")
REFERRED_TO = ("stages", "shape", *GROUPS)  # top-level keys that are read through references, or as stages
# What the rest of the program will ask of them.
_METHODS = {"training": "make_optimizer", "model": "network", "dataset": "open", "corruption": "__call__"}


def settings_of(config: dict[str, Any], packages: Iterable[str] = ()) -> Settings:
    """The top-level keys of a resolved config. `packages`: those that whoever gives the command lists; a config file
    must not add to them. Raises `ConfigError`."""
    content = {key: value for key, value in config.items() if key not in REFERRED_TO}
    content["tracker"] = build(content.get("tracker"), "tracker", packages)
    settings = construct(Settings, content | {"packages": build(content.get("packages") or [], "packages")})
    if not set(settings.packages) <= set(packages):
        raise ConfigError(
            f"packages={list(settings.packages)}: a config file lists them; allowed: to list them on the command line, "
            "as packages=[name]"
        )
    return settings


def plan(config: dict[str, Any], packages: Iterable[str] = ()) -> tuple[Settings, dict[str, Stage]]:
    """Build everything that a resolved config names. `packages`: see `settings_of`. Raises `ConfigError`."""
    settings = settings_of(config, packages)
    nodes = config.get("stages") or {}
    groups = {group: config.get(group) for group in GROUPS}
    for group, node in groups.items():
        built = build(node, group, settings.packages)
        if group in _METHODS and node is not None and not callable(getattr(built, _METHODS[group], None)):
            raise ConfigError(f"{group}={node}: allowed: an option of the group {group}")
    if not nodes:
        raise ConfigError("stages={}: allowed: at least one stage; choose an experiment, e.g. experiment=toy")
    if not isinstance(nodes, dict):
        raise ConfigError(f"stages={nodes}: allowed: stages by name")
    for name in nodes:
        if not _NAME.fullmatch(str(name)):
            raise ConfigError(f"stages.{name}: a stage's name also names files; allowed: letters, digits, _ and -")
    stages = {name: build(node, f"stages.{name}", settings.packages) for name, node in nodes.items()}
    for name, stage in stages.items():
        if not hasattr(stage, "run"):
            raise ConfigError(
                f"stages.{name}: is not a stage; allowed: one of the group stage (stages.{name}._target_)"
            )
    return settings, stages


def check(stages: dict[str, Stage], session: Session) -> None:
    """Let every stage look at its data and fit its parts together. Raises `ConfigError`."""
    session.settings.tracker.check()
    for stage in stages.values():
        stage.check(session)


def names(stages: dict[str, Stage], session: Session) -> dict[str, str]:
    """The names of the stages that train, by what they train as the store names it."""
    training = {name: stage.identity(session) for name, stage in stages.items() if hasattr(stage, "work")}
    return {name_of(identity["stage"], identity): name for name, identity in training.items()}


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, every reference resolved. Raises `ConfigError`."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it as {error.full_key}=…") from None
    except InterpolationKeyError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: refers to a key that is not there ({reason})") from None
