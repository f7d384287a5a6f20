"""Keys of the recipe that have moved since: overrides and runs of before mean what they meant."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import Override

from rebuttal.config import GROUPS

_KEYS = {
    "training.optimizer": "training/optimizer",
    "training.momentum": "training.optimizer.momentum",
    "training.schedule": "training/schedule",
    "training.decay": "training.schedule.decay",
    "training.crop": "preprocess.crop",
    "training.normalisation": "preprocess.normalisation",
}


def where_it_is_now(override: Override) -> str:
    """Return the override as text, with the key under which it stands now."""
    text = str(override.input_line)
    now = _KEYS.get(override.key_or_group)
    if now is None or override.package is not None or isinstance(override.value(), dict):
        return text
    return text.replace(override.key_or_group, now, 1)


def as_composed_now(config: dict[str, Any]) -> dict[str, Any]:
    """Return an unresolved config of a past run as it would be composed now."""
    recipe = config.get("training")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("optimizer"), str):
        return config
    kept = {name: value for name, value in recipe.items() if f"training.{name}" not in _KEYS}
    preprocess = {name: recipe[name] for name in ("crop", "normalisation")}
    return config | {
        "stages": _without_references(config.get("stages")),
        "training": {**kept, "optimizer": _optimizer(**recipe), "schedule": _schedule(**recipe)},
        "preprocess": {"_target_": "rebuttal.models.CropAndNormalise", **preprocess},
    }


def _optimizer(optimizer: str, momentum: Any, **_: Any) -> dict[str, Any]:
    if optimizer == "adam":
        return {"_target_": "rebuttal.training.AdamW", "beta1": momentum}
    return {"_target_": "rebuttal.training.SGD", "momentum": momentum, "nesterov": optimizer == "nesterov"}


def _schedule(schedule: str, decay: Any, **_: Any) -> dict[str, Any]:
    decay = {"decay": decay} if schedule == "exponential" else {}
    return {"_target_": f"rebuttal.training.{schedule.title()}", **decay}


def _without_references(node: Any) -> Any:
    """Stages of when each referred to the run's options, which they take of themselves now."""
    if not isinstance(node, dict):
        return node
    return {
        name: {} if name in GROUPS and value == f"${{{name}}}" else _without_references(value)
        for name, value in node.items()
    }
