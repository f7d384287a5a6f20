"""Which runs are of one configuration: those whose configs differ in nothing but the seed and where they ran."""

from __future__ import annotations

from typing import Any

from rebuttal.store.identity import fingerprint

# Top-level keys that do not distinguish configurations.
NOT_COMPARED = {
    "seed",
    "shape",  # repeated in every dataset that has the choice
    "store",
    "device",
    "force",
    "objective",
    "checkpoint",
    "batch_size",
    "threads",
    "jobs_per_gpu",
    "on_failure",
    "packages",
    "tracker",
}


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A run's resolved config without the keys in which runs of one configuration may differ."""
    return {key: _without_seeds(value) for key, value in config.items() if key not in NOT_COMPARED}


def configuration(config: dict[str, Any]) -> str:
    """A fingerprint that is equal for runs which differ in their seed only."""
    return fingerprint(comparable(config))


def _without_seeds(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_seeds(value) for key, value in node.items() if key != "seed"}
    return [_without_seeds(item) for item in node] if isinstance(node, list) else node
