"""Readable names for configurations: the option names and settings that distinguish them, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any

import yaml

from rebuttal.config import CONFIG_DIR

Config = dict[str, Any]

# Datasets that have no true labels.
LABELLED_AT_RANDOM = {f"rebuttal.data.{name}" for name in ("UniformNoise", "GaussianNoise", "NoiseLike", "RandomWalk")}


def setup_name(config: Config, classes: int | None = None) -> str:
    """Return model, dataset, n and K, e.g. "mlp, image_folder, n = 5,000, K = 10": what a corruption sweep keeps
    constant. `classes`: K, if the config does not have it."""
    dataset = config.get("dataset") or {}
    parts = [model_name(config), dataset_name(config)]
    if "shape" in dataset:
        parts.append("×".join(map(str, dataset["shape"])))
    if dataset.get("train_size"):
        parts.append(f"n = {dataset['train_size']:,}")
    known = dataset.get("classes") or classes
    if known:
        parts.append(f"K = {known:,}")
    return ", ".join(part for part in parts if part)


def model_name(config: Config) -> str:
    """Return the option of `model` that has exactly these settings, or describe the settings."""
    return _option_name("model", config.get("model") or {})


def dataset_name(config: Config) -> str:
    """Return the option of `dataset` of this class, or describe the settings."""
    return _option_name("dataset", config.get("dataset") or {})


def labels_name(config: Config) -> str:
    """Describe the labels that the network was trained on, e.g. "25% random labels"; those of noise are random."""
    corruption = config.get("corruption") or {}
    if (config.get("dataset") or {}).get("_target_") in LABELLED_AT_RANDOM:
        return "random labels"
    fraction = corruption.get("fraction", 0.0)
    if corruption.get("_target_", "").endswith("PermutedLabels"):
        return "permuted labels"
    if corruption.get("_target_", "").endswith("random_labels") or fraction == 1:
        return "random labels"
    return f"{fraction:.0%} random labels" if fraction else "true labels"


def names(configs: Sequence[Config], classes: Sequence[int | None] = ()) -> list[str]:
    """Return a name for each config of one experiment; `classes`: K of each, for those that do not have it.

    A name has the setup, the labels if they differ between configs, and every other setting in which configs of the
    same name differ.
    """
    labels = [labels_name(config) for config in configs]
    short = [setup_name(config, *known) for config, *known in zip_longest(configs, classes)]
    if len(set(labels)) > 1:
        short = [f"{name}, {label}" for name, label in zip(short, labels)]
    namesakes: dict[str, list[int]] = {}
    for i, name in enumerate(short):
        namesakes.setdefault(name, []).append(i)
    unique = list(short)
    for members in namesakes.values():
        for i, settings in zip(members, _differences([configs[i] for i in members])):
            unique[i] = ", ".join([short[i], *settings])
    return unique


def _differences(configs: Sequence[Config]) -> list[list[str]]:
    """Return, for each config, the settings that are not the same in all of them.

    The stages' copies of the groups' settings are omitted if the groups alone distinguish the configs.
    """
    flat = [dict(_leaves(config)) for config in configs]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    differing = [key for key in keys if len({leaves.get(key) for leaves in flat}) > 1]
    groups = [key for key in differing if not key.startswith("stages.")]
    if len({tuple(leaves.get(key) for key in groups) for leaves in flat}) == len({*map(str, flat)}):
        differing = groups
    return [[f"{key} = {leaves.get(key, 'none')}" for key in differing] for leaves in flat]


def swept(configs: Sequence[Config]) -> tuple[str | None, list[float]]:
    """Return the one setting in which all configs differ and its numbers; (None, []) if there is no single one.

    The stages' copies of the groups' settings do not count."""
    flat = [{key: value for key, value in _leaves(config) if not key.startswith("stages.")} for config in configs]
    keys = dict.fromkeys(key for leaves in flat for key in leaves)
    differing = [key for key in keys if len({leaves.get(key) for leaves in flat}) > 1]
    if len(differing) != 1:
        return None, []
    try:
        numbers = [float(leaves[differing[0]]) for leaves in flat]
    except (KeyError, ValueError):
        return None, []
    return (differing[0], numbers) if len(set(numbers)) == len(numbers) else (None, [])


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, node if isinstance(node, str) else json.dumps(node)


def _option_name(group: str, settings: Config) -> str:
    """Return the name of the option in `conf/<group>/` that has these settings, or describe the settings.

    A model must match in all of its settings, a dataset only in its class.
    """
    if not settings:
        return ""
    for name, option in _options(group):
        same = option == settings if group == "model" else option.get("_target_") == settings.get("_target_")
        if same:
            return name
    for name, option in _options(group):  # one that has to be completed, such as model=torchvision
        if option.get("_target_") == settings.get("_target_") and "???" in option.values():
            required = [str(settings.get(key)) for key, value in option.items() if value == "???"]
            others = [f"{key}={value}" for key, value in settings.items() if option.get(key) not in ("???", value)]
            return " ".join([name, *required, *others])
    rest = {key: value for key, value in settings.items() if key != "_target_"}
    return " ".join([settings.get("_target_", group).rpartition(".")[2], *(f"{k}={v}" for k, v in rest.items())])


@cache
def _options(group: str) -> list[tuple[str, Config]]:
    paths = sorted((CONFIG_DIR / group).glob("*.yaml"))
    return [(path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in paths]
