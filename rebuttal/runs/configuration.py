"""Which runs are of one configuration: those whose stages differ in nothing but the seed.

It is derived from the checked objects, not from the text of the config, so that `1` and `1.0`, or two ways to name one
option, are one configuration.
"""

from __future__ import annotations

from typing import Any

from rebuttal.store.identity import fingerprint

# Top-level keys that do not distinguish configurations; a report does not show them.
NOT_COMPARED = {
    "seed",
    "shape",  # repeated in every dataset that has the choice
    "store",
    "device",
    "force",
    "objective",
    "seeds_per_trial",
    "judged",
    "checkpoint",
    "snapshots",
    "evaluate",
    "stack",
    "batch_size",
    "threads",
    "jobs_per_gpu",
    "on_failure",
    "packages",
    "tracker",
}
SEEDS = {"seed", "data_seed"}  # in the identities of stages; a seed that is set apart has another name there


def configuration(experiment: str, stages: dict[str, Any]) -> str:
    """Return a fingerprint that is equal for runs whose stages' identities differ in seeds only."""
    return fingerprint([experiment, _without(stages, SEEDS)])


def setup(experiment: str, stages: dict[str, Any]) -> str:
    """Return a fingerprint that is equal for runs that differ in seeds and in the corruption of the labels only."""
    return fingerprint([experiment, _without(stages, SEEDS | {"corruption"})])


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's resolved config without the keys in which runs of one configuration may differ."""
    return {key: _without(value, {"seed"}) for key, value in config.items() if key not in NOT_COMPARED}


def _without(node: Any, keys: set[str]) -> Any:
    if isinstance(node, dict):
        return {key: _without(value, keys) for key, value in node.items() if key not in keys}
    return [_without(item, keys) for item in node] if isinstance(node, list) else node
