"""Reads the YAML files of a report: strictly, because a key that is there twice would silently be the later one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rebuttal.errors import ConfigError, place_in_yaml


class _Strict(yaml.SafeLoader):
    """Hydra's own reading of configs is as strict. Checked as nodes are composed: `<<` merges some later."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        first: dict[tuple[str, Any], yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            before = first.setdefault((key.tag, key.value), key.start_mark)
            if before is not key.start_mark:
                said = f"the key {key.value} is there already, in line {before.line + 1}"
                raise yaml.composer.ComposerError(None, None, said, key.start_mark)
        return node


def read_yaml(path: Path, name: str, allowed: str) -> Any:
    """Return what a file says. Raises `ConfigError` for one that cannot be read; `name`, `allowed`: for its message."""
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, _Strict)  # it is a safe loader
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not YAML{place_in_yaml(error)}; allowed: {allowed}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}; allowed: a UTF-8 file with {allowed}") from None
