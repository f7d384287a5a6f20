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


def from_here(path: str, began_in: Path) -> str:
    """A path of the run's config: from where it was started, if it is there, else as it stands. What means the same
    here stays as it stands, because it may decide what a dataset of the user's is."""
    try:
        same = Path(path).is_absolute() or began_in.resolve() == Path.cwd()
        return path if same or not (began_in / path).exists() else str(began_in / path)
    except (OSError, ValueError):  # no path
        return path


def datasets(config: Any) -> frozenset[str]:
    """The classes of the datasets in a config, by the names in `_target_`."""
    named = ((key, str(node["_target_"])) for key, node in _nodes(config) if "_target_" in node)
    return frozenset(target for key, target in named if target.startswith(_OURS) or "dataset" in key)


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
