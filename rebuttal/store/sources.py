"""Digests of the content of files, kept with the state in which the files were, so that files that nobody has touched
are not read again.

The state is what git compares, with the time of the last change of the inode, which no program can set back: a file
that is changed in place, with its size and its time of modification restored, is noticed. A state of the last seconds
is not kept, because a file that changes again within one tick of the file system's clock would look the same.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from rebuttal.store.files import write_json
from rebuttal.store.identity import fingerprint
from rebuttal.store.written import read_json

FOLDER = "sources"
SECONDS_TO_SETTLE = 2  # FAT's clock, the coarsest, ticks every two seconds


def known_digest(store: Path, kind: str, root: Path, files: Mapping[str, str | Path], digest: Callable[[], str]) -> str:
    """Return what `digest` returns for `files`, real ones by what each is called; it is only called if one of them, or
    how they are called, is not as it was. `root`: what the user gave; the last digest of each `kind` is kept."""
    try:
        now = time.time()
        state, changed = _state(files)
    except OSError:  # the digest's own reading says it in words
        return digest()
    record = store / FOLDER / f"{fingerprint([kind, os.path.realpath(root)])}.json"
    kept = read_json(record)
    if isinstance(kept, dict) and kept.get("state") == state and isinstance(kept.get("digest"), str):
        return str(kept["digest"])
    found = digest()
    with suppress(OSError):  # a store that cannot be written, or a file that is gone
        if changed < now - SECONDS_TO_SETTLE and _state(files)[0] == state:
            record.parent.mkdir(parents=True, exist_ok=True)
            write_json(record, {"state": state, "digest": found})
    return found


def _state(files: Mapping[str, str | Path]) -> tuple[str, float]:
    """Return a digest of the states of all files, and when the last of them changed."""
    state, changed = hashlib.sha256(), 0.0
    for name, path in files.items():
        found = os.lstat(path)  # twice as fast as a Path's
        line = f"{name}\0{path}\0{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n"
        state.update(line.encode(errors="surrogateescape"))
        changed = max(changed, found.st_mtime, found.st_ctime)
    return state.hexdigest(), changed
