"""The store: what stages compute, kept under a fingerprint of everything that determines it.

An entry is a folder `<store>/<kind>/<fingerprint>/` of two files: `weights.safetensors`, and
`record.json` with the identity that was hashed, what was recorded, and the checksums of both.
Entries are written atomically, verified whenever they are read, and computed by one process at a time.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import AcquireReturnProxy, FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rebuttal.errors import ConfigError, UserError
from rebuttal.store import beside
from rebuttal.store.checkpoints import Checkpoint
from rebuttal.store.files import RECORD, WEIGHTS, to_disk, write_bytes, write_json
from rebuttal.store.identity import canonical, fingerprint, name_of, without_source
from rebuttal.store.origin import origin

log = logging.getLogger(__name__)

OF_STAGES = ("fit", "mimic", "judge", "accuracy", "measure")
FOLDERS = (*OF_STAGES, "images", "run", "trial", "code", "forced", "sources", *beside.KINDS)
SECONDS_BETWEEN_TRIES = 0.5  # to acquire a lock; many jobs of a cluster may wait for one network


@dataclass(frozen=True)
class Artifact:
    """The result of a stage: tensors by name (weights) and JSON-able facts (metrics, history, arrays).

    `origin`: where it was computed, see `rebuttal.store.origin`; empty for entries of before it was recorded."""

    record: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Artifact:
        """Return an artifact that shares no memory with this one; its tensors are on the CPU and without gradients."""
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.tensors.items()}
        return Artifact(copy.deepcopy(self.record), tensors, copy.deepcopy(self.origin))


class Damaged(Exception):
    """The bytes of a store entry are not those that were written."""


class Busy(Exception):
    """Another process computes the artifact just now."""


class Store:
    """Get an artifact by its identity, or compute and keep it.

    `force` recomputes each artifact once: later requests of the process find the new one, and so does a later process
    that resumes the same `forced_for`. `made`: the names of the artifacts that this object computed; `used`: the
    origin of each that it handed out, by name. What is handed out is a copy: to change it changes nothing here.

    `remedy`: what to do about an artifact that is missing, in words. With it nothing is computed or written.
    """

    def __init__(self, root: str | Path, force: bool = False, remedy: str | None = None):
        self.root = Path(root)
        self.force = force
        self.remedy = remedy
        self.made: list[str] = []
        self.used: dict[str, dict[str, Any]] = {}
        self._memory: dict[str, Artifact] = {}
        self._forced: Forced | None = None

    def check(self) -> None:
        """Raise `ConfigError` if a file is where the store, or one of its folders, would be."""
        for path in (*reversed(self.root.parents), self.root, *(self.root / name for name in FOLDERS)):
            if os.path.lexists(path) and not path.is_dir():
                raise ConfigError(f"store={self.root}: {path} is not a folder; allowed: a folder without it")

    @contextmanager
    def forced_for(self, what: Any) -> Iterator[None]:
        """Within the block, record which artifacts `force` has recomputed for `what` (JSON-able).

        Should this process die, the same block in a later one does not recompute them again."""
        if not self.force:
            yield
            return
        self._forced = Forced(self.root / "forced" / f"{fingerprint(what)}.json")
        yield
        self._forced.path.unlink(missing_ok=True)

    def get_or_make(self, kind: str, identity: Any, make: Callable[[], Artifact], wait: bool = True) -> Artifact:
        """Return the stored artifact, or call `make` and store what it returns.

        Raises `Busy` if it would have to `wait` for another process, and may not; `UserError` if there is something to
        compute and the store is not writable, or has a `remedy`."""
        name = name_of(kind, identity)
        if name not in self._memory:
            get = self._get_or_make if self.remedy is None else self._get_stored
            self._memory[name] = get(self.root / name, identity, make, wait)
            self.used[name] = self._memory[name].origin
        return self._memory[name].copy()

    def get_or_make_mapped(self, kind: str, identity: Any, make: Callable[[], Artifact]) -> Artifact:
        """As `get_or_make`, with tensors that are mapped from the stored file: nothing is copied, and processes share
        the memory. What is written to such a tensor stays in this process, and never reaches the file."""
        folder = self.root / name_of(kind, identity)
        artifact = None if self.force else _mapped(folder)
        if artifact is None:  # or damaged, which is found out, and said, once more
            made = self.get_or_make(kind, identity, make)
            artifact = _mapped(folder) or made
        return artifact

    def get(self, kind: str, identity: Any) -> Artifact | None:
        """Return the stored artifact or None; do not wait for a process that is creating it."""
        return None if self.force else self._read(self.root / kind / fingerprint(identity))

    def holds(self, name: str) -> bool:
        """True if there is an artifact of that name to be found, which may turn out to be damaged."""
        return not self.force and (self.root / name).exists()

    def keep(self, kind: str, identity: Any, artifact: Artifact, anew: bool = False) -> None:
        """Store what was derived from other artifacts, or `anew` also what is there; it does not count as made.

        If it cannot be written, log that: everything in it can be recomputed."""
        folder = self.root / kind / fingerprint(identity)
        if not anew and self.get(kind, identity) is not None:
            return
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(folder):
                clear_away(folder)
                self._write(folder, identity, artifact)
        except OSError as error:
            log.warning("not stored (%s: %s)", folder.parent, error.strerror)

    def is_whole(self, name: str) -> bool:
        """True if there is an artifact of that name, every byte of which is as it was written."""
        if not self.holds(name):
            return False
        try:
            read_entry(self.root / name)
        except Damaged:
            return False
        return True

    @contextmanager
    def claimed(self, kind: str, identity: Any) -> Iterator[None]:
        """Within the block no other process enters one with the same identity. Raises `Busy` if one is in it, `OSError`
        for a store that cannot be written."""
        folder = self.root / kind / fingerprint(identity)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder, wait=False) as lock:
            try:
                yield
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)  # within it, so that no other process has it open for long

    def checkpoint(self, kind: str, identity: Any, interval: float) -> Checkpoint:
        """The checkpoint of the training that computes an artifact. It is removed once the artifact is stored; one
        written under `force` is found only by another forced training."""
        forced = ".forced" if self.force else ""
        return Checkpoint(self.root / kind / f"{fingerprint(identity)}{forced}.checkpoint", interval)

    def _get_or_make(self, folder: Path, identity: Any, make: Callable[[], Artifact], wait: bool) -> Artifact:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock = _lock(folder, wait)
        except OSError as error:
            return self._get_unlocked(folder, error)
        name = f"{folder.parent.name}/{folder.name}"
        with lock:
            made_anew = self._forced is not None and name in self._forced
            artifact = self._read(folder) if made_anew or not self.force else None
            if artifact is None:
                clear_away(folder)
                self._log_changed_code(name, identity)
                artifact = replace(make().copy(), origin=origin())  # a copy, which holds no memory of the device
                self._write(folder, identity, artifact)
                self.made.append(name)
                if self._forced is not None:
                    self._forced.add(name)
        return artifact

    def _get_stored(self, folder: Path, *_: Any) -> Artifact:
        artifact = self._read(folder)
        if artifact is None:
            raise UserError(
                f"{folder.parent.name}/{folder.name} is not, or not whole, in the store {self.root}; {self.remedy}"
            )
        return artifact

    def _log_changed_code(self, name: str, identity: Any) -> None:
        """Log if the same result was computed before by other source code of the user's."""
        settings = without_source(identity)
        if settings == identity:
            return
        known = self.root / "code" / f"{fingerprint(settings)}.json"
        if known.exists() and known.read_text(encoding="utf-8").strip() != json.dumps(name):
            log.warning("%s: your code has changed since this was last computed: computing it again", name)
        known.parent.mkdir(exist_ok=True)
        write_json(known, name)

    def _get_unlocked(self, folder: Path, error: OSError) -> Artifact:
        """Get an artifact from a read-only store."""
        artifact = None if self.force else self._read(folder)
        if artifact is None:
            raise UserError(
                f"store={self.root}: cannot be written ({error.strerror}); allowed: a writable folder"
            ) from error
        return artifact

    def _read(self, folder: Path) -> Artifact | None:
        if not folder.exists():
            return None
        try:
            artifact = read_entry(folder)
        except Damaged as error:
            log.warning("damaged store entry %s (%s): %s", folder, error, self.remedy or "recomputing it")
            return None
        _note_use(folder)
        return artifact

    def _write(self, folder: Path, identity: Any, artifact: Artifact) -> None:
        # Cloned, because tied weights share their memory.
        weights = save({n: t.detach().cpu().contiguous().clone() for n, t in artifact.tensors.items()})
        digest = hashlib.sha256(weights).hexdigest()
        facts = {"identity": identity, "record": artifact.record, "origin": artifact.origin}
        content = facts | {"weights_sha256": digest}
        entry = {"sha256": hashlib.sha256(canonical(content).encode()).hexdigest(), **content}
        write_entry(folder, json.dumps(entry, indent=1, allow_nan=False).encode(), weights)
        for checkpoint in folder.parent.glob(f"{folder.name}*.checkpoint"):
            _remove(checkpoint)


def _make_way(path: Path, for_folder: bool) -> None:
    """Move what is of the other kind, file or folder, to another name: it is nothing that the store wrote."""
    if path.exists() and path.is_dir() != for_folder:
        path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex}"))


class Forced:
    """A file with the names of the artifacts that `force` has recomputed."""

    def __init__(self, path: Path):
        self.path = path
        self._names: set[str] = set(self._read())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        self._names |= {name, *self._read()}  # other processes may write it too
        self.path.parent.mkdir(exist_ok=True)
        write_json(self.path, sorted(self._names))

    def _read(self) -> list[str]:
        try:
            names: list[str] = json.loads(self.path.read_text(encoding="utf-8"))
            return names
        except (OSError, ValueError):
            return []


def lock_of(folder: Path) -> FileLock:
    """The right to create or remove an entry. The system releases it when the process dies."""
    return FileLock(folder.with_suffix(".lock"))


def _lock(folder: Path, wait: bool = True) -> AcquireReturnProxy:
    """Acquire the lock of an entry. Raises `Busy` if another process has it, and this one is not to wait."""
    lock = lock_of(folder)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise Busy from None
        log.info("waiting for another process that computes %s/%s", folder.parent.name, folder.name)
    return lock.acquire(poll_interval=SECONDS_BETWEEN_TRIES)


def clear_away(folder: Path) -> None:
    """Remove leftovers of processes that died while writing; the caller holds the lock, so none is writing now."""
    for path in folder.parent.glob(f".{folder.name}*"):
        _remove(path)


def aside(folder: Path) -> Path:
    """Return a new path beside an entry, under which it is not found."""
    return folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")


def write_entry(folder: Path, record: bytes, weights: bytes) -> None:
    """Write the files of an entry so that it appears whole, in place of what is there; the caller holds its lock."""
    made = aside(folder)
    made.mkdir()
    try:
        write_bytes(made / WEIGHTS, weights, sync=True)
        write_bytes(made / RECORD, record, sync=True)
        if folder.is_dir():  # damaged; someone may have put files of their own into it
            for part in (WEIGHTS, RECORD):
                _make_way(folder / part, for_folder=False)
                (made / part).replace(folder / part)
        else:
            _make_way(folder, for_folder=True)
            made.rename(folder)
        to_disk(folder.parent)  # before the checkpoints, which could recompute it, are removed
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_entry(folder: Path, mapped: bool = False) -> Artifact:
    """Read one entry, or map its tensors; verify every byte, and that it is the one that the folder's name says. Raises
    `Damaged`."""
    try:
        record = (folder / RECORD).read_bytes()
        if not mapped:
            return verified(record, (folder / WEIGHTS).read_bytes(), folder.name)
        return verified(record, np.memmap(folder / WEIGHTS, mode="c"), folder.name, _views)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise Damaged(str(error)) from error


def _mapped(folder: Path) -> Artifact | None:
    """Return an entry with mapped tensors; None if it is not there, damaged, or of kinds that are not mapped."""
    try:
        artifact = read_entry(folder, mapped=True)
    except Damaged:
        return None
    _note_use(folder)
    return artifact


def _note_use(folder: Path) -> None:
    with suppress(OSError):  # it may be somebody else's
        os.utime(folder)  # when it was used last, for `prune`


def _views(content: Any) -> dict[str, Tensor]:
    """The tensors of a safetensors file as views of its content; of kinds that images and labels have."""
    begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
    tensors = {}
    for name, about in json.loads(content[8:begin].tobytes()).items():
        first, last = about["data_offsets"]
        flat = torch.from_numpy(content[begin + first : begin + last])
        tensors[name] = flat.view(_MAPPED[about["dtype"]]).view(about["shape"])
    return tensors


_MAPPED = {"U8": torch.uint8, "I64": torch.int64}


def verified(record: bytes, weights: Any, name: str, load: Callable[[Any], dict[str, Tensor]] = load) -> Artifact:
    """Return the artifact that the two files of an entry hold; `name` is its fingerprint, `load` takes its tensors from
    `weights`. Raises `Damaged`."""
    try:
        entry = json.loads(record)
        declared = entry.pop("sha256")
        if hashlib.sha256(canonical(entry).encode()).hexdigest() != declared:
            raise Damaged(f"{RECORD} fails its checksum")
        if fingerprint(entry["identity"]) != name:
            raise Damaged("it belongs to another identity")
        if hashlib.sha256(weights).hexdigest() != entry["weights_sha256"]:
            raise Damaged(f"{WEIGHTS} fails its checksum")
        return Artifact(record=entry["record"], tensors=load(weights), origin=entry.get("origin", {}))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError, SafetensorError) as error:
        raise Damaged(str(error)) from error
