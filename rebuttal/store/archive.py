"""Entries in one tar archive, to share them: `rebuttal-store.json`, the list of entries, then the two files of each.

Nothing is extracted by tar: names are compared with those that an entry can have, and each entry is verified before it
becomes visible.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from lzma import LZMAError
from pathlib import Path

from filelock import Timeout

from rebuttal.device import require_memory
from rebuttal.errors import UserError
from rebuttal.store.catalogue import FINGERPRINT, KIND
from rebuttal.store.entries import Damaged, clear_away, lock_of, verified, write_entry
from rebuttal.store.files import RECORD, WEIGHTS

LIST = "rebuttal-store.json"
_FORMAT = 1  # increased when archives of another form are written
_XZ = b"\xfd7zXZ\0"  # what a compressed archive begins with
_MODES = {".tar": "w", ".xz": "w:xz", ".txz": "w:xz"}
_NAME = re.compile(rf"({KIND}/{FINGERPRINT})/({re.escape(RECORD)}|{re.escape(WEIGHTS)})")
_ALLOWED = "allowed: an archive that python -m rebuttal.store export wrote"


@dataclass
class Imported:
    """The names of the entries that were added; that the store had already; that another process is computing."""

    added: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)


def export(root: Path, names: Sequence[str], file: Path) -> int:
    """Write entries of the store in `root` to a new archive, `.tar` or `.tar.xz`; return its size in bytes.

    Raises `UserError` for another name, a file that exists, no entries, and an entry that is damaged; `file` is then
    not written."""
    mode = _MODES.get(file.suffix)
    if mode is None:
        raise UserError(f"FILE={file}: allowed: a name that ends in .tar, or in .tar.xz to compress it")
    if file.exists():
        raise UserError(f"FILE={file}: exists; allowed: a new file")
    if not names:
        raise UserError(f"--store={root}: there is nothing to export; allowed: a store with entries, and their runs")
    made = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with tarfile.open(made, mode) as tar:  # type: ignore[call-overload]  # one of `_MODES`
            _add(tar, LIST, json.dumps({"format": _FORMAT, "entries": list(names)}, indent=1).encode())
            for name in names:
                record, weights = _files(root / name)
                _add(tar, f"{name}/{RECORD}", record)
                _add(tar, f"{name}/{WEIGHTS}", weights)
        made.rename(file)
    except OSError as error:
        raise UserError(f"FILE={file}: cannot be written ({error.strerror}); allowed: a folder that has room") from None
    finally:
        with suppress(OSError):
            made.unlink()
    return file.stat().st_size


def import_archive(root: Path, file: Path) -> Imported:
    """Add the entries of an archive to the store in `root`; one that is there already is left as it is.

    Everything is verified before the first is added. Raises `UserError` for what `export` did not write, or is no
    longer what it wrote."""
    for _ in _entries(file):
        pass
    done = Imported()
    for name, record, weights in _entries(file):
        try:
            (done.added if _add_entry(root / name, record, weights) else done.there).append(name)
        except Timeout:
            done.in_use.append(name)
        except OSError as error:
            raise UserError(
                f"--store={root}: cannot be written ({error.strerror}); allowed: a folder with room"
            ) from None
    return done


def _add_entry(folder: Path, record: bytes, weights: bytes) -> bool:
    """Add an entry to a store; return False if it is there. Raises `Timeout` if another process is computing it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(folder).acquire(timeout=0):
        if folder.exists():
            return False
        clear_away(folder)
        write_entry(folder, record, weights)
        return True


def _entries(file: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield the name and the files of each entry of an archive, verified."""
    with _one_line(file), tarfile.open(file, "r:xz" if _is_compressed(file) else "r:") as tar:
        listed = _listed(file, _next(file, tar, LIST))
        for name in listed:
            record, weights = (_next(file, tar, f"{name}/{part}") for part in (RECORD, WEIGHTS))
            try:
                verified(record, weights, name.partition("/")[2])
            except Damaged as error:
                raise UserError(f"{file}: its entry {name} is damaged ({error}); nothing was imported") from None
            yield name, record, weights
        if (further := tar.next()) is not None:
            raise UserError(f"{file}: its member {further.name!r} is in no entry; {_ALLOWED}")


def _listed(file: Path, content: bytes) -> list[str]:
    """The names of the entries that an archive lists."""
    found = json.loads(content)
    if not isinstance(found, dict) or found.get("format") != _FORMAT or not isinstance(found.get("entries"), list):
        raise UserError(f"{file}: its {LIST} is not that of format {_FORMAT}; {_ALLOWED}")
    names: list[str] = found["entries"]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(f"{name}/{RECORD}"):
            raise UserError(f"{file}: it lists {name!r}, which is not the name of an entry; {_ALLOWED}")
    if len(set(names)) != len(names):
        raise UserError(f"{file}: it lists an entry twice; {_ALLOWED}")
    return names


def _next(file: Path, tar: tarfile.TarFile, name: str) -> bytes:
    """The content of an archive's next member, which must be the plain file `name`."""
    member = tar.next()
    if member is None:
        raise UserError(f"{file}: it ends before {name}; {_ALLOWED}")
    if member.name != name or not member.isreg():
        raise UserError(f"{file}: its member {member.name!r} is not the file {name}; {_ALLOWED}")
    require_memory(member.size, f"{file}: its member {name} would")
    content = tar.extractfile(member)
    return b"" if content is None else content.read()


@contextmanager
def _one_line(file: Path) -> Iterator[None]:
    """Turn what tar and its compressions raise into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (tarfile.TarError, EOFError, LZMAError, OSError, ValueError, OverflowError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read ({why}); {_ALLOWED}") from None


def _is_compressed(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_XZ)) == _XZ


def _files(folder: Path) -> tuple[bytes, bytes]:
    """The files of an entry, verified."""
    name = f"{folder.parent.name}/{folder.name}"
    try:
        record, weights = (folder / RECORD).read_bytes(), (folder / WEIGHTS).read_bytes()
        verified(record, weights, folder.name)
    except (OSError, Damaged) as error:
        raise UserError(f"{name}: is damaged ({error}); rerun what computes it, or remove it from the store") from None
    return record, weights


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))
