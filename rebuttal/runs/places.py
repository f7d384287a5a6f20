"""Where the data of a past run are, seen from here: relative paths in a config mean the folder that it was started in.

A config names them in `root`, `path` and `split` of its datasets, also of the user's own: those are what stands at or
below a key `dataset`. No code is imported to know them, because the config may be a stranger's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

OF_DATA = ("root", "path")  # keys of a dataset that say where its inputs are
PATHS = (*OF_DATA, "split")

_OURS = "rebuttal.data."

Keys = tuple[Any, ...]  # of dicts, and positions in lists


def started_in(folder: Path) -> Path:
    """The folder that the run in `folder` was started in; the working directory, if neither Hydra nor the run knows."""
    try:
        return Path(OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra.runtime.cwd)
    except (OSError, ValueError, TypeError, AttributeError, YAMLError, OmegaConfBaseException):
        return _recorded(folder / "provenance.json")


def _recorded(provenance: Path) -> Path:
    try:
        return Path(json.loads(provenance.read_text(encoding="utf-8"))["cwd"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Path()


def is_here(began_in: Path) -> bool:
    """True if relative paths mean the same here."""
    return began_in.resolve() == Path.cwd()


def from_here(path: str, began_in: Path) -> str:
    """A path of the run's config: from where it was started, if it is there, else as it stands."""
    try:
        return str(began_in / path) if (began_in / path).exists() else path
    except (OSError, ValueError):  # no path
        return path


def datasets(config: Any) -> frozenset[str]:
    """The classes of the datasets in a config, by the names in `_target_`."""
    nodes = ((key, node) for key, node in _nodes(config) if "_target_" in node)
    return frozenset(str(node["_target_"]) for key, node in nodes if is_ours(node) or "dataset" in key)


def is_ours(dataset: dict[str, Any]) -> bool:
    """True for the node of a dataset of this package: where its files lie decides no result."""
    return str(dataset.get("_target_")).startswith(_OURS)


def paths(config: Any, kinds: frozenset[str]) -> Iterator[tuple[dict[str, Any], str, Keys]]:
    """Yield each path in the datasets of a config, those of `kinds`: its node, its name there, and the keys above."""
    for key, node in _nodes(config):
        if str(node.get("_target_")) in kinds:
            yield from ((node, name, key) for name in PATHS if isinstance(node.get(name), str))


def _nodes(node: Any, key: Keys = ()) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """Yield every dict in a config with the keys above it, outermost first."""
    if isinstance(node, dict):
        yield key, node
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, value in inside:
        yield from _nodes(value, (*key, name))
