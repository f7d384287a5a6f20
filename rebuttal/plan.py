"""From a composed config to settings and stages, all of it built and checked before any work."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from rebuttal.config import build, construct
from rebuttal.errors import ConfigError
from rebuttal.session import Session, Settings
from rebuttal.stages.stage import Stage

_NAME = re.compile(r"[\w-]+")

# Built before the stages that copy them, so that a message names the key the user typed.
GROUPS = ("training", "model", "dataset", "corruption", "measuring")
# What the rest of the program will ask of them.
_METHODS = {"training": "make_optimizer", "model": "network", "dataset": "open", "corruption": "__call__"}


def plan(config: dict[str, Any]) -> tuple[Settings, dict[str, Stage]]:
    """Build everything that a resolved config names. Raises `ConfigError`."""
    content = dict(config)
    nodes = content.pop("stages", None) or {}
    groups = {group: content.pop(group, None) for group in GROUPS}
    settings = construct(Settings, content | {"packages": tuple(content.get("packages") or ())})
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
    for stage in stages.values():
        stage.check(session)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain values, every reference resolved. Raises `ConfigError`."""
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it as {error.full_key}=…") from None
    except InterpolationKeyError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: refers to a key that is not there ({reason})") from None
