"""Which folders lie below those that a user names: the same ones for every command that looks for runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path


def folders_below(
    roots: Iterable[Path], unreadable: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield the roots and every folder below them, with the names of its folders and of its files, as `os.walk` does:
    folders that are taken out of the list are left out. Links are followed and may run in circles: each folder comes
    once, by a path without links below a root if it has one.

    `unreadable`: called with the error of a folder that cannot be read; by default it is left out."""
    seen: set[str] = set()
    pending = deque(map(Path, roots))
    while pending:
        for place, folders, files in os.walk(pending.popleft(), onerror=unreadable):
            real = os.path.realpath(place)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            yield Path(place), folders, files
            pending += [path for name in folders if (path := Path(place, name)).is_symlink()]
