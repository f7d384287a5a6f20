"""Which entries no run needs, and their removal, beside running jobs too."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from rebuttal.store.beside import KINDS
from rebuttal.store.catalogue import FILES, FINGERPRINT, Entry, entries, kind_folders, read
from rebuttal.store.entries import aside, lock_of
from rebuttal.store.needs import Needs, RunNeeds, resolved

_CHECKPOINT = re.compile(rf"({FINGERPRINT})(\.forced)?\.checkpoint")
_LEFTOVER = re.compile(rf"\.({FINGERPRINT})-[0-9a-f]{{32}}")  # of a process that died while it wrote an entry


@dataclass(frozen=True)
class Piece:
    """An entry, checkpoint or leftover at `path`; `used`: when it was used or written last. `entry`: where the entry
    that it belongs to is or would be, whose lock guards it."""

    path: Path
    entry: Path
    size: int
    used: float

    @property
    def name(self) -> str:
        """The name of the entry that it belongs to."""
        return f"{self.entry.parent.name}/{self.entry.name}"

    @property
    def kind(self) -> str:
        return self.path.parent.name if self.path == self.entry else f"{self.path.parent.name}, unfinished"


@dataclass(frozen=True)
class Plan:
    """What stays and what goes. `needed`: entries that a run needs; `others`: what stays although none does, because
    it was used lately, is being trained anew, or is such that no run records its use; `unknown`: folders of runs that
    do not say what they need, for which everything stays."""

    needed: list[Entry]
    others: list[Entry]
    gone: list[Piece]
    unknown: list[Path]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.gone)


@dataclass
class Removed:
    """What a prune removed, what another process was using, and what could not be removed, with the reason."""

    pieces: list[Piece] = field(default_factory=list)
    in_use: list[Piece] = field(default_factory=list)
    failed: list[tuple[Piece, str]] = field(default_factory=list)


def needed(runs: Sequence[RunNeeds], stored: Sequence[Entry]) -> tuple[set[str], list[Path]]:
    """Return the names of the entries that runs need, with all that those were computed from and what is kept beside
    them; and the folders of runs that do not say what they need."""
    runs = resolved(runs, _by_stages(stored))
    needs = Needs()
    for run in runs:
        needs |= run.needs
    return _closure(needs, stored), [run.folder for run in runs if not run.known]


def plan(root: Path, runs: Sequence[RunNeeds], idle: float, unfinished: float) -> Plan:
    """Say what would go: every entry that no run needs and nobody used in the last `idle` seconds, and every checkpoint
    of a training that no run needs and that was not resumed in the last `unfinished` seconds."""
    stored = entries(root)
    names, unknown = needed(runs, stored)
    if unknown:
        return Plan(stored, [], [], unknown)
    now = time.time()
    checkpoints, leftovers = _unfinished(root, _CHECKPOINT), _unfinished(root, _LEFTOVER)
    in_training = {piece.name for piece in checkpoints}
    others = [entry for entry in stored if entry.name not in names]
    stay = [e for e in others if now - e.used < idle or e.name in in_training or not e.recorded]
    kept = {entry.name for entry in stay}
    gone = [_piece(root, entry) for entry in others if entry.name not in kept]
    gone += [piece for piece in checkpoints if piece.name not in names and now - piece.used >= unfinished]
    gone += [piece for piece in leftovers if now - piece.used >= idle]
    return Plan([entry for entry in stored if entry.name in names], stay, gone, [])


def remove(found: Plan) -> Removed:
    """Remove what a plan says, except what another process is using or has used since."""
    done = Removed()
    for piece in found.gone:
        try:
            with lock_of(piece.entry).acquire(timeout=0):
                (done.pieces if _remove(piece) else done.in_use).append(piece)
        except Timeout:
            done.in_use.append(piece)
        except OSError as error:
            done.failed.append((piece, error.strerror or str(error)))
    return done


def _remove(piece: Piece) -> bool:
    """Remove a piece; the caller holds its lock. Return False if it was used meanwhile or is no longer what it was."""
    if piece.path == piece.entry:
        entry = read(piece.path)
        if entry is None or entry.used > piece.used:
            return False
        hidden = aside(piece.path)
        piece.path.rename(hidden)  # so that nobody finds half of it
        shutil.rmtree(hidden)
        return True
    if not piece.path.exists() or piece.path.stat().st_mtime > piece.used:
        return False
    if piece.path.is_dir():
        shutil.rmtree(piece.path)
    else:
        piece.path.unlink()
    return True


def _closure(needs: Needs, stored: Iterable[Entry]) -> set[str]:
    by_name = {entry.name: entry for entry in stored}
    images: dict[str, set[str]] = {}  # an archive and the folder that it holds give the same images
    for entry in by_name.values():
        if entry.images is not None:
            images.setdefault(entry.images, set()).add(entry.name)
    pending, found = [needs], set[str]()
    while pending:
        behind = pending.pop()
        named = behind.entries.union(*(images.get(digest, ()) for digest in behind.images))
        pending += [by_name[name].needs for name in named - found if name in by_name]
        found |= named
        if not pending:
            pending += [e.needs for e in by_name.values() if e.name not in found and _is_beside(e, found)]
    return found


def _is_beside(entry: Entry, found: set[str]) -> bool:
    """True for what is kept beside a network that is needed."""
    networks = entry.needs.entries - {entry.name}
    return entry.kind in KINDS and bool(networks) and networks <= found


def _by_stages(stored: Iterable[Entry]) -> dict[str, Needs]:
    found: dict[str, Needs] = {}
    for entry in stored:
        if entry.stages is not None:
            found[entry.stages] = found.get(entry.stages, Needs()) | entry.needs | Needs(frozenset({entry.name}))
    return found


def _piece(root: Path, entry: Entry) -> Piece:
    return Piece(root / entry.name, root / entry.name, entry.size, entry.used)


def _unfinished(root: Path, pattern: re.Pattern[str]) -> list[Piece]:
    """Return the checkpoints in a store, or what processes left that died while they wrote an entry."""
    found = []
    for kind in kind_folders(root):
        for path in sorted(kind.iterdir()):
            match = pattern.fullmatch(path.name)
            with suppress(FileNotFoundError):  # another process is just writing it
                if match and _is_ours(path):
                    files = [path, *path.iterdir()] if path.is_dir() else [path]
                    size = sum(file.stat().st_size for file in files if file.is_file())
                    found.append(Piece(path, kind / match[1], size, path.stat().st_mtime))
    return found


def _is_ours(path: Path) -> bool:
    """True for a checkpoint, and for a leftover that holds nothing but files of an entry."""
    if path.is_symlink() or not path.is_dir():
        return path.is_file() and not path.is_symlink()
    names = {file.name for file in path.iterdir()}
    return all(name in FILES or re.fullmatch(rf"\.({'|'.join(FILES)})\.[0-9a-f]{{32}}", name) for name in names)
