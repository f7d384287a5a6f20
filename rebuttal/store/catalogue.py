"""What lies in a store: its entries, and how large, old and recently used each is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rebuttal.errors import UserError
from rebuttal.store.files import RECORD, WEIGHTS
from rebuttal.store.identity import fingerprint
from rebuttal.store.needs import Needs, needs_in, stages_fingerprint
from rebuttal.store.words import KINDS, in_words

KIND = r"\w[\w.-]*"
FINGERPRINT = r"[0-9a-f]{32}"
FILES = {RECORD, WEIGHTS}


@dataclass(frozen=True)
class Entry:
    """One entry. `made` and `used`, when it was used last, in seconds since the epoch. `needs`: what it was computed
    from. `images`: the digest of the images that it holds. `stages`: of a run, see `stages_fingerprint`. `recorded`:
    whether runs record that they need it; nobody records what a dataset of the user's keeps in the store."""

    name: str
    words: str
    size: int
    made: float
    used: float
    needs: Needs
    images: str | None = None
    stages: str | None = None
    recorded: bool = True

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def require_store(root: Path) -> None:
    """Raise `UserError` if there is no such folder."""
    if not root.is_dir():
        raise UserError(f"--store={root}: there is no such folder; allowed: the store of a run (its key store)")


def kind_folders(root: Path) -> Iterator[Path]:
    """Yield the folders in a store that may hold entries."""
    yield from (path for path in sorted(root.iterdir()) if re.fullmatch(KIND, path.name) and path.is_dir())


def entry_folders(root: Path) -> Iterator[Path]:
    """Yield every folder in a store that has the name of an entry, whole or not. Links are none."""
    for kind in kind_folders(root):
        for path in sorted(kind.iterdir()):
            if re.fullmatch(FINGERPRINT, path.name) and path.is_dir() and not path.is_symlink():
                yield path


def entries(root: Path) -> list[Entry]:
    """Read what every entry in a store is. What is no entry, or so damaged that it does not say what it is, is left
    out."""
    found = (read(folder) for folder in entry_folders(root))
    return [entry for entry in found if entry is not None]


def read(folder: Path) -> Entry | None:
    """Read what an entry is; None for a folder with other files, or whose record is not that of its name."""
    try:
        if {path.name for path in folder.iterdir()} - FILES:
            return None
        content = json.loads((folder / RECORD).read_bytes())
        identity, record = content["identity"], content["record"]
        if fingerprint(identity) != folder.name or not isinstance(record, dict):
            return None
        sizes = [path.stat().st_size for path in folder.iterdir()]
        written, used = (folder / RECORD).stat().st_mtime, folder.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    kind = folder.parent.name
    return Entry(
        name=f"{kind}/{folder.name}",
        words=in_words(kind, identity, record),
        size=sum(sizes),
        made=_date(content.get("origin"), written),
        used=used,
        needs=needs_in(identity),
        images=record.get("digest") if kind == "images" and isinstance(record.get("digest"), str) else None,
        stages=_stages(identity) if kind == "run" else None,
        recorded=kind in KINDS or (isinstance(identity, dict) and identity.get("stage") == kind),
    )


def _date(origin: Any, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(origin["date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return otherwise


def _stages(identity: Any) -> str | None:
    try:
        return stages_fingerprint({name: fingerprint(stage) for name, stage in identity["stages"].items()})
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
