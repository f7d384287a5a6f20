"""From a composed config to settings and stages, all of it built and checked before any work."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue

from rebuttal.config import build, construct
from rebuttal.errors import ConfigError
from rebuttal.session import Session, Settings
from rebuttal.stages.stage import Stage

# Built before the stages that copy them, so that a message names the key the user typed.
GROUPS = ("training", "model", "dataset", "corruption", "measuring")


def plan(cfg: DictConfig) -> tuple[Settings, dict[str, Stage]]:
    """Build everything that the config names. Raises `ConfigError`."""
    content = _plain(cfg)
    for group in GROUPS:
        build(content.pop(group, None), group)
    nodes = content.pop("stages", None) or {}
    settings = construct(Settings, content)
    if not nodes:
        raise ConfigError("stages={}: allowed: at least one stage; choose an experiment, e.g. experiment=toy")
    return settings, {name: build(node, f"stages.{name}") for name, node in nodes.items()}


def check(stages: dict[str, Stage], session: Session) -> None:
    """Let every stage look at its data and fit its parts together. Raises `ConfigError`."""
    for stage in stages.values():
        stage.check(session)


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key} is missing; give it as {error.full_key}=…") from None
    except InterpolationKeyError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{error.full_key}: refers to a key that is not there ({reason})") from None
