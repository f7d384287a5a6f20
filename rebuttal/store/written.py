"""The files of a folder that this tool wrote. No other file is ever overwritten or removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rebuttal.errors import ConfigError
from rebuttal.store.files import as_json, write_bytes

ABOUT = "files that rebuttal wrote, with the SHA-256 of their content; null: the content changes while it works"


@dataclass(frozen=True)
class Written:
    """The files that this tool wrote into `folder`, known by the list `name` there.

    A file is this tool's if the list has its name with the content that it has now. The list is written first, with the
    content before and after, so that a process that dies in between leaves no file that the next one would not know.
    `before`: the files that an earlier version wrote, from the content of its list, or from None if there is no list;
    it returns None for a list of someone else's. `setting`: what chose the folder, `key=value`, for messages.
    """

    folder: Path
    name: str
    setting: str
    before: Callable[[Any], Iterable[str] | None] = lambda content: None

    def check(self, names: Iterable[str]) -> None:
        """Raise `ConfigError` if any of `names`, which may be patterns, is a file that is not this tool's."""
        listed = self._listed()
        for name in names:
            found = sorted(self.folder.glob(name)) if "*" in name else [self.folder / name]
            for path in found:
                if (obstacle := self._obstacle(path, listed)) is not None:
                    raise self.refused(obstacle)

    def claim(self, names: Iterable[str]) -> None:
        """List files whose content changes while this tool works. Raises `ConfigError` as `check` does."""
        names = list(names)
        self.check(names)
        self._save(self._listed() | dict.fromkeys(names))

    def write(self, contents: Mapping[str, bytes]) -> None:
        """List the files, then write them, in their order. Raises `ConfigError`, before any is written, as `check`
        does."""
        self.check(contents)
        listed = self._listed()
        for name, content in contents.items():
            path = self.folder / name
            now = [_digest(path.read_bytes())] if path.exists() else []
            listed[name] = list(dict.fromkeys([*now, _digest(content)]))
        self._save(listed)
        for name, content in contents.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / name, content)

    def remove(self, kept: Iterable[str], first: Iterable[str] = ()) -> None:
        """Remove this tool's files except those in `kept`; `first` before all others."""
        self.discard([name for name in dict.fromkeys([*first, *self._listed()]) if name not in kept])

    def discard(self, names: Iterable[str]) -> None:
        """Remove those of `names` that are this tool's files, in their order."""
        listed = self._listed()
        names = [name for name in names if name in listed]
        for name in names:
            path = self.folder / name
            if self._obstacle(path, listed) is None:
                path.unlink(missing_ok=True)
        if names:
            self._save({name: known for name, known in listed.items() if name not in names})

    def _obstacle(self, path: Path, listed: dict[str, Any]) -> Path | None:
        """What is at `path` or in the way to it, if it is not this tool's."""
        for parent in reversed(path.parents):
            if os.path.lexists(parent) and not parent.is_dir():
                return parent
        name = path.relative_to(self.folder).as_posix()
        if not os.path.lexists(path) or (name in listed and _is(path, listed[name])):
            return None
        return path

    def _listed(self) -> dict[str, Any]:
        """The content of the list: digests by name, or null. Raises `ConfigError` if it is not this tool's."""
        path = self.folder / self.name
        if not os.path.lexists(path):
            return dict.fromkeys(self.before(None) or ())
        content = read_json(path)
        files = _files(content)
        if files is None and content is not None and (before := self.before(content)) is not None:
            files = dict.fromkeys(before)
        if files is None or not all(_is_inside(name) for name in files):
            raise self.refused(path)
        return files

    def _save(self, listed: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / self.name, as_json({"about": ABOUT, "files": dict(sorted(listed.items()))}))

    def refused(self, path: Path) -> ConfigError:
        """The error for a file in the way."""
        return ConfigError(
            f"{self.setting}: {path} is in the way: rebuttal did not write it, or it was changed since; "
            "allowed: a folder without it"
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file; None if there is none that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _files(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, dict) or content.get("about") != ABOUT or not isinstance(content.get("files"), dict):
        return None
    return dict(content["files"])


def _is(path: Path, known: list[str] | None) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    return known is None or _digest(path.read_bytes()) in known


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
