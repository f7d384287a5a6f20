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
from safetensors.torch import load_file, save_file
from torch import Tensor

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
        name = fingerprint(identity)
        if name in self._memory:
            return self._memory[name]
        folder = self.root / kind / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            artifact = None if self.force else self._read(folder)
            if artifact is None:
                artifact = make()
                self._write(folder, identity, artifact)
                self.made.append(f"{kind}/{name}")
        self._memory[name] = artifact
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
            weights = aside / "weights.safetensors"
            save_file({name: t.detach().cpu().contiguous() for name, t in artifact.tensors.items()}, weights)
            content = {"identity": identity, "record": artifact.record, "weights_sha256": _sha256(weights)}
            entry = {"sha256": hashlib.sha256(canonical(content).encode()).hexdigest(), **content}
            (aside / "record.json").write_text(json.dumps(entry, indent=1, allow_nan=False))
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def read_entry(folder: Path) -> Artifact:
    """Read one entry and check every byte of it. Raises `Damaged`."""
    try:
        entry = json.loads((folder / "record.json").read_text())
        declared = entry.pop("sha256")
        if hashlib.sha256(canonical(entry).encode()).hexdigest() != declared:
            raise Damaged("record.json fails its checksum")
        weights = folder / "weights.safetensors"
        if _sha256(weights) != entry["weights_sha256"]:
            raise Damaged("weights.safetensors fails its checksum")
        return Artifact(record=entry["record"], tensors=load_file(weights))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged(str(error)) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
