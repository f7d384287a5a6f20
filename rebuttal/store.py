"""The store: what a stage made, kept under a fingerprint of everything that determines it.

An entry is a folder `<store>/<kind>/<fingerprint>/` of two files: `weights.safetensors`, and
`record.json` with the identity that was hashed, what was recorded, and the checksums of both.
Entries appear whole (written aside, then renamed), are checked whenever they are read, and are made by
one process at a time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rebuttal.checkpoint import Checkpoint
from rebuttal.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Artifact:
    """What a stage leaves: tensors by name (weights) and JSON-able facts (metrics, history, arrays)."""

    record: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Damaged(Exception):
    """A store entry whose bytes are not those that were written."""


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values give equal text. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(identity: Any) -> str:
    """32 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(identity).encode()).hexdigest()[:32]


class Store:
    """Get an artifact by its identity, or make it and keep it.

    `force` makes each artifact anew, once: within one process later requests find the new one.
    """

    def __init__(self, root: str | Path, force: bool = False):
        self.root = Path(root)
        self.force = force
        self.made: list[str] = []
        self._memory: dict[str, Artifact] = {}

    def get_or_make(self, kind: str, identity: Any, make: Callable[[], Artifact]) -> Artifact:
        """Raises `UserError` where something has to be made and the store cannot be written."""
        name = fingerprint(identity)
        if name not in self._memory:
            self._memory[name] = self._get_or_make(self.root / kind / name, identity, make)
        return self._memory[name]

    def get(self, kind: str, identity: Any) -> Artifact | None:
        """What is there, without waiting for who may be making it."""
        return None if self.force else self._read(self.root / kind / fingerprint(identity))

    def keep(self, kind: str, identity: Any, artifact: Artifact) -> None:
        """Put what a run made of other artifacts; it does not count as made."""
        folder = self.root / kind / fingerprint(identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if self.force or self._read(folder) is None:
                self._write(folder, identity, artifact)

    def checkpoint(self, kind: str, identity: Any, interval: float) -> Checkpoint:
        """Where the making of an artifact may leave its state. It goes when the artifact is there; with `force`
        only another forced making finds it."""
        forced = ".forced" if self.force else ""
        return Checkpoint(self.root / kind / f"{fingerprint(identity)}{forced}.checkpoint", interval)

    def _get_or_make(self, folder: Path, identity: Any, make: Callable[[], Artifact]) -> Artifact:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder.with_suffix(".lock")).acquire()  # the system takes it from a process that dies
        except OSError as error:
            return self._get_unlocked(folder, error)
        with lock:
            artifact = None if self.force else self._read(folder)
            if artifact is None:
                _clear_away(folder)
                artifact = make()
                self._write(folder, identity, artifact)
                self.made.append(f"{folder.parent.name}/{folder.name}")
        return artifact

    def _get_unlocked(self, folder: Path, error: OSError) -> Artifact:
        """From a store that can only be read."""
        artifact = None if self.force else self._read(folder)
        if artifact is None:
            raise UserError(
                f"store={self.root}: cannot be written ({error.strerror}); allowed: a folder to write in"
            ) from error
        return artifact

    def _read(self, folder: Path) -> Artifact | None:
        if not folder.exists():
            return None
        try:
            return read_entry(folder)
        except Damaged as error:
            log.warning("damaged store entry %s (%s): it is made anew", folder, error)
            return None

    def _write(self, folder: Path, identity: Any, artifact: Artifact) -> None:
        aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        aside.mkdir()
        try:
            weights = save({name: t.detach().cpu().contiguous() for name, t in artifact.tensors.items()})
            digest = hashlib.sha256(weights).hexdigest()
            content = {"identity": identity, "record": artifact.record, "weights_sha256": digest}
            entry = {"sha256": hashlib.sha256(canonical(content).encode()).hexdigest(), **content}
            (aside / "weights.safetensors").write_bytes(weights)
            (aside / "record.json").write_text(json.dumps(entry, indent=1, allow_nan=False))
            if folder.is_dir():
                shutil.rmtree(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        for checkpoint in folder.parent.glob(f"{folder.name}*.checkpoint"):
            checkpoint.unlink()


def _clear_away(folder: Path) -> None:
    """Remove what processes left that died while they wrote; the lock says that none is writing now."""
    for path in folder.parent.glob(f".{folder.name}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_entry(folder: Path) -> Artifact:
    """Read one entry and check every byte of it. Raises `Damaged`."""
    try:
        entry = json.loads((folder / "record.json").read_text())
        declared = entry.pop("sha256")
        if hashlib.sha256(canonical(entry).encode()).hexdigest() != declared:
            raise Damaged("record.json fails its checksum")
        weights = (folder / "weights.safetensors").read_bytes()
        if hashlib.sha256(weights).hexdigest() != entry["weights_sha256"]:
            raise Damaged("weights.safetensors fails its checksum")
        return Artifact(record=entry["record"], tensors=load(weights))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
        raise Damaged(str(error)) from error
