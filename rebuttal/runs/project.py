"""The file of the user's project: which packages a config may name, and in which folders further configs lie.

It is `rebuttal.yaml`, or the table `[tool.rebuttal]` of `pyproject.toml`. Only this file, which is the user's own, and
the command line can list packages; a config that both make findable cannot.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from rebuttal.errors import ConfigError, nearest, place_in_yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

YAML, TOML, TABLE = "rebuttal.yaml", "pyproject.toml", "[tool.rebuttal]"
_ALLOWED = {
    "packages": "a list of packages that configs may name, such as [mine]",
    "searchpath": "a list of folders of configs, such as [conf]",
}


@dataclass(frozen=True)
class Project:
    """`folder`: where the file lies, None if there is none; `packages`; `searchpath`, as Hydra takes it."""

    folder: Path | None = None
    packages: tuple[str, ...] = ()
    searchpath: tuple[str, ...] = ()

    @contextmanager
    def importable(self, packages: Sequence[str], here: str | Path | None = None) -> Iterator[None]:
        """Within the block `packages` are found beside the file and in `src/` beside it, before others of their names;
        without a file in the folder `here`, where the user who lists them gave the command.

        Without packages nothing changes: a folder in which a user only stands may be a stranger's."""
        folder = self.folder or (None if here is None else Path(here))
        found: list[str] = []
        if folder is not None and packages:
            found = [str(place) for place in (folder, folder / "src") if place.is_dir()]
        before = list(sys.path)
        sys.path[:0] = found
        importlib.invalidate_caches()  # the code may have been written since
        try:
            yield
        finally:
            sys.path[:] = before


def find_project(start: str | Path | None = None) -> Project:
    """Return the project of the nearest file in the folder `start` (None: the working directory) or above it.

    Above it, only what belongs to the user counts, up to the user's home and the first folder with `.git`. Raises
    `ConfigError` for a file with something wrong in it.
    """
    place = Path.cwd() if start is None else Path(start).absolute()
    for folder in _from_here_up(place):
        if (found := _project_in(folder)) is not None:
            return found
    return Project()


def _from_here_up(place: Path) -> Iterator[Path]:
    for folder in (place, *place.parents):
        if folder == place or _is_users(folder):
            yield folder
        if os.path.lexists(folder / ".git") or str(folder) == os.path.expanduser("~"):  # noqa: PTH111  # the user may have none
            return


def _is_users(folder: Path) -> bool:
    """True if nobody else has put a project's file there."""
    there = [folder, *(path for name in (YAML, TOML) if os.path.lexists(path := folder / name))]
    return all(path.lstat().st_uid == os.getuid() for path in there)


def _project_in(folder: Path) -> Project | None:
    """Return the project whose file lies in `folder`; None if there is none."""
    own, shared = folder / YAML, folder / TOML
    table = _table_in(shared) if os.path.lexists(shared) else None
    if not os.path.lexists(own):
        return None if table is None else _project(table, folder, f"{shared}: {TABLE}")
    if table is not None:
        raise ConfigError(f"{own}: {TABLE} in {TOML} beside it is for the same; allowed: one of the two")
    return _project(_yaml_in(own), folder, str(own))


def _yaml_in(path: Path) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        raise _unreadable(path, error) from None


def _table_in(path: Path) -> Any:
    """The table of this tool in a `pyproject.toml`; None if it has none."""
    try:
        tools = tomllib.loads(path.read_bytes().decode()).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from None
    return tools.get("rebuttal") if isinstance(tools, dict) else None


def _unreadable(path: Path, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    if isinstance(error, MarkedYAMLError):
        reason = f"not YAML{place_in_yaml(error)}"
    return ConfigError(f"{path}: cannot be read ({reason}); allowed: the keys {', '.join(_ALLOWED)}, each with a list")


def _project(content: Any, folder: Path, where: str) -> Project:
    """Return what the file says. Raises `ConfigError`; `where`: the file, for messages."""
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: {content}: allowed: the keys {', '.join(_ALLOWED)}, each with a list")
    for key, value in content.items():
        if key not in _ALLOWED:
            allowed = f"{', '.join(_ALLOWED)}{nearest(str(key), _ALLOWED)}"
            raise ConfigError(f"{where}: {key}={value}: unknown key; allowed: {allowed}")
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{where}: {key}={value}: allowed: {_ALLOWED[key]}")
    for name in content.get("packages", ()):
        if not all(part.isidentifier() and not iskeyword(part) for part in name.split(".")):
            raise ConfigError(f"{where}: packages={name}: is no package's name; allowed: {_ALLOWED['packages']}")
    places = (_searched(text, folder, where) for text in content.get("searchpath", ()))
    return Project(folder, tuple(content.get("packages", ())), tuple(places))


def _searched(text: str, folder: Path, where: str) -> str:
    """A folder of configs, relative to the file, as Hydra takes it. Raises `ConfigError` if there is no such folder."""
    place = os.path.normpath(folder / Path(text.removeprefix("file://")).expanduser())
    if not text or not Path(place).is_dir():
        raise ConfigError(f"{where}: searchpath={text}: there is no folder {place}; allowed: {_ALLOWED['searchpath']}")
    return f"file://{place}"
