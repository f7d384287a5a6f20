"""Readable names for configurations: the option names and settings that distinguish them, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import yaml

from rebuttal.config import CONFIG_DIR
from rebuttal.errors import nearest

if TYPE_CHECKING:
    from rebuttal.report.gather import Run

Config = dict[str, Any]
Places = tuple[Path, ...]
"""Folders of configs besides rebuttal's own, whose options have names too."""

# Datasets that have no true labels.
LABELLED_AT_RANDOM = {f"rebuttal.data.{name}" for name in ("UniformNoise", "GaussianNoise", "NoiseLike", "RandomWalk")}
_NOTHING = object()  # equal to no setting
FILES = ("path", "root")  # settings whose file is more of a name than the option's


def setup_name(config: Config, classes: int | None = None, places: Places = ()) -> str:
    """Return model, dataset, n and K, e.g. "mlp, image_folder, n = 5,000, K = 10": what a corruption sweep keeps
    constant. `classes`: K, if the config does not have it."""
    dataset = config.get("dataset") or {}
    parts = [model_name(config, places), dataset_name(config, places)]
    if "shape" in dataset:
        parts.append("×".join(map(str, dataset["shape"])))
    if dataset.get("train_size"):
        parts.append(f"n = {dataset['train_size']:,}")
    known = dataset.get("classes") or classes
    if known:
        parts.append(f"K = {known:,}")
    return ", ".join(part for part in parts if part)


def model_name(config: Config, places: Places = ()) -> str:
    """Return the option of `model` nearest to these settings, and the settings in which they differ from it."""
    return option_name("model", config.get("model") or {}, places)


def dataset_name(config: Config, places: Places = ()) -> str:
    """Return the option of `dataset` of this class, with the name of its file if it must be given one."""
    settings = config.get("dataset") or {}
    name = _nearest("dataset", settings, places)
    if name is None:
        return _class_name(settings, "dataset")
    required = [settings[key] for key in FILES if name[1].get(key) == "???" and isinstance(settings.get(key), str)]
    return " ".join([name[0], *(PurePath(path).name for path in required if settings.get("path") == path)])


def labels_name(config: Config) -> str:
    """Describe the labels that the network was trained on, e.g. "25% random labels"; those of noise are random."""
    if (config.get("dataset") or {}).get("_target_") in LABELLED_AT_RANDOM:
        return "random labels"
    share = random_share(config)
    if share is None:
        return "permuted labels"
    if share == 1:
        return "random labels"
    return f"{100 * share:g}% random labels" if share else "true labels"


def random_share(config: Config) -> float | None:
    """Return the share of labels that the corruption draws at random; None if it permutes them."""
    corruption = config.get("corruption") or {}
    kind = corruption.get("_target_", "")
    if kind.endswith("PermutedLabels"):
        return None
    share: float = corruption.get("fraction", 1.0 if kind.endswith(("random_labels", "BalancedLabels")) else 0.0)
    return share


def setting(config: Any, path: str, missing: Any = None) -> Any:
    """Return the value of a key, such as "model.hidden", with a list as a tuple; `missing` if there is no such key."""
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return missing
        config = config[key]
    return tuple(config) if isinstance(config, list) else config


def has_settings(config: Config, settings: Config) -> bool:
    """Whether the keys of a config have these values, by their paths; see `setting`. A missing key has none."""
    return all(setting(config, key, _NOTHING) == value for key, value in settings.items())


def unknown_setting(configs: Sequence[Config], paths: Iterable[str]) -> str:
    """Return the first of these keys that no config has, and some lacks beside others; "" if there is none."""
    for path in paths:
        parent, _, key = path.rpartition(".")
        parents = (setting(config, parent) if parent else config for config in configs)
        beside = [keys for keys in parents if isinstance(keys, dict)]
        if beside and not any(key in keys for keys in beside):
            return f"{path}{nearest(path, (f'{parent}.{name}' for keys in beside for name in keys))}"
    return ""


def names(configs: Sequence[Config], classes: Sequence[int | None] = (), places: Places = ()) -> list[str]:
    """Return a name for each config of one experiment; `classes`: K of each, for those that do not have it.

    A name has the setup, the labels if they differ between configs, and every other setting in which configs of the
    same name differ.
    """
    labels = [labels_name(config) for config in configs]
    known = [k for _, k in zip_longest(configs, classes)]
    short = [setup_name(config, k, places) for config, k in zip(configs, known)]
    if len(set(labels)) > 1:
        short = [f"{name}, {label}" for name, label in zip(short, labels)]
    namesakes: dict[str, list[int]] = {}
    for i, name in enumerate(short):
        namesakes.setdefault(name, []).append(i)
    unique = list(short)
    for members in namesakes.values():
        for i, settings in zip(members, _differences([configs[i] for i in members], places)):
            unique[i] = ", ".join([short[i], *settings])
    return unique


def _differences(configs: Sequence[Config], places: Places) -> list[list[str]]:
    """Return, for each config, the settings that are not the same in all of them.

    The stages' copies of the groups' settings are omitted if the groups alone distinguish the configs. Where options of
    a group differ, their names are given and not their settings.
    """
    differing = _differing(configs)
    groups = {key: values for key, values in differing.items() if not key.startswith("stages.")}
    if len(set(zip(*map(_texts, groups.values())))) == len(set(zip(*map(_texts, differing.values())))):
        differing = groups
    named = {key: _named(key, values, places) for key, values in _originals(differing).items()}
    return [[f"{key} = {values[i]}" for key, values in named.items()] for i in range(len(configs))]


def _originals(differing: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the keys without the copies of a stage's settings in the stages that contain it, which lie deeper."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for key, values in differing.items():
        alike.setdefault((key.rpartition(".")[2], *_texts(values)), []).append(key)
    depth = {key: min(other.count(".") for other in same) for same in alike.values() for key in same}
    return {key: values for key, values in differing.items() if key.count(".") == depth[key]}


def _differing(nodes: Sequence[Any], path: str = "") -> dict[str, list[Any]]:
    """Return the values of each key in which the nodes differ, down to the options of groups that differ."""
    if len(set(_texts(nodes))) == 1:
        return {}
    options = {node.get("_target_") if isinstance(node, dict) else repr(node) for node in nodes}
    if not any(isinstance(node, dict) for node in nodes) or (len(options) > 1 and path):
        return {path: list(nodes)}
    keys = dict.fromkeys(key for node in nodes for key in node)
    found: dict[str, list[Any]] = {}
    for key in keys:
        found |= _differing([node.get(key) for node in nodes], f"{path}.{key}" if path else key)
    return found


def _texts(nodes: Sequence[Any]) -> list[str]:
    return [json.dumps(node, sort_keys=True) for node in nodes]


def _named(key: str, values: Sequence[Any], places: Places) -> list[str]:
    """Return values of one key as text: an option by its name, a file without the folders that all have."""
    group = key.rpartition(".")[2]
    texts = [option_name(group, value, places) if isinstance(value, dict) else _text(value) for value in values]
    files = [isinstance(value, str) and "/" in value for value in values]
    return _tails(texts) if any(files) else texts


def _tails(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of different paths that are different."""
    parts = [PurePath(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        tails = [str(PurePath(*each[-length:])) for each in parts]
        if len(set(tails)) == len(set(paths)):
            return tails
    return list(paths)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


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


def option_name(group: str, settings: Config, places: Places = ()) -> str:
    """Return the option of a group that these settings come nearest to, and the settings in which they differ from it,
    e.g. "mlp, hidden=[20]"; the name of the class, if no option has it."""
    if not settings:
        return ""
    found = _nearest(group, settings, places)
    if found is None:
        return _class_name(settings, group)
    name, option = found
    required = [
        _as_option(key, settings[key]) for key in option if option[key] == "???" and settings.get(key) is not None
    ]
    others = [f"{key}={_as_option(key, settings.get(key))}" for key in _changed(option, settings)]
    return ", ".join([" ".join([name, *required]), *others])


def _class_name(settings: Config, group: str) -> str:
    return str(settings.get("_target_", group)).rpartition(".")[2]


def _nearest(group: str, settings: Config, places: Places) -> tuple[str, Config] | None:
    """Return the option of this class with the fewest settings that differ, before others that of its name; or None."""
    options = [
        (name, option) for name, option in _options(group, places) if option.get("_target_") == settings.get("_target_")
    ]
    own = _class_name(settings, group).lower()
    return min(options, key=lambda one: (len(_changed(one[1], settings)), one[0] != own), default=None)


def _changed(option: Config, settings: Config) -> list[str]:
    """Return the keys whose settings are not the option's; what it computes or leaves open may be anything."""
    free = [key for key, value in option.items() if isinstance(value, str) and (value == "???" or "${" in value)]
    return [key for key, value in settings.items() if key not in free and option.get(key) != value]


def _as_option(key: str, value: Any) -> str:
    """Return a setting as it is typed on the command line; a file without its folder."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{_as_option(name, inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_as_option(key, inner) for inner in value) + "]"
    return PurePath(value).name if isinstance(value, str) and key in FILES else _text(value).replace("none", "null")


def known_models(runs: Sequence[Run]) -> set[str]:
    """The names that `model_name` may give: of options, and of the models of these runs."""
    return _known("model", model_name, runs)


def known_datasets(runs: Sequence[Run]) -> set[str]:
    """The names that `dataset_name` may give: of options, and of the data sets of these runs."""
    return _known("dataset", dataset_name, runs)


def _known(group: str, name_of: Callable[[Config, Places], str], runs: Sequence[Run]) -> set[str]:
    options = {name for name, _ in _options(group, _all_places(runs))}
    return options | {name_of(run.config, run.places) for run in runs}


def known_experiments(runs: Sequence[Run]) -> set[str]:
    """The names that experiments may have: those that configs give themselves, and those of these runs."""
    options = {str(option.get("name", stem)) for stem, option in _options("experiment", _all_places(runs))}
    return options | {run.experiment for run in runs}


def _all_places(runs: Sequence[Run]) -> Places:
    return tuple(dict.fromkeys(place for run in runs for place in run.places))


@cache
def _options(group: str, places: Places) -> list[tuple[str, Config]]:
    """The options of a group and of groups within groups that have this name, such as training/optimizer."""
    found: dict[str, Config] = {}
    for folder in (CONFIG_DIR, *places):
        for path in sorted([*folder.glob(f"{group}/*.yaml"), *folder.glob(f"*/{group}/*.yaml")]):
            found.setdefault(path.stem, _option(path))
    return list(found.items())


def _option(path: Path) -> Config:
    """Return what an option sets, after those of its own group that it builds on."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    merged: Config = {}
    for base in content.get("defaults") or ():
        other = next((at for at in _bases(path, base) if at.exists()), None)
        merged |= _option(other) if other is not None and other != path else {}
    return merged | {key: value for key, value in content.items() if key != "defaults"}


def _bases(path: Path, base: Any) -> list[Path]:
    """Return where an entry of a defaults list may stand: beside the option, or among rebuttal's own."""
    if not isinstance(base, str) or not re.fullmatch(r"[\w-]+", base):
        return []
    return [path.with_stem(base), CONFIG_DIR / path.parent.name / f"{base}.yaml"]
