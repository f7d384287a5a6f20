"""Folders and tar archives as one kind of tree, whose links can be followed. Nothing is unpacked or unpickled."""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from rebuttal.errors import ConfigError

Kind = Literal["folder", "file", "special", "nowhere"]

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}

_MAX_LINKS = 40  # in one path, as on Linux
_OTHER_KINDS = {  # by the first bytes
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd, which this Python cannot read",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"LZIP": "compressed with lzip",
    b"\x1f\x9d": "compressed with compress (.Z)",
    b"\x1f\x8b": "compressed with gzip, but no tar that can be read",
    b"BZh": "compressed with bzip2, but no tar that can be read",
    b"\xfd7zXZ": "compressed with xz, but no tar that can be read",
    b"\x89PNG": "one image",
    b"\xff\xd8\xff": "one image",
    b"GIF8": "one image",
}


@dataclass(frozen=True)
class Entry:
    """A name in a folder. `kind` and `real` are those of what it leads to if it is a link; `real` has no links."""

    name: str
    kind: Kind
    real: str
    linked: bool = False


@dataclass(frozen=True)
class Tree:
    """`entries` lists a real folder in order of names, `read` returns the content of a real file; both may raise
    `OSError`. `before`: the files in an archive that are no links, as (name in the archive, real), in order of names;
    None for a folder."""

    root: str
    entries: Callable[[str], list[Entry]]
    read: Callable[[str], bytes]
    before: list[tuple[str, str]] | None = None


def has_image_suffix(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES


def shown(path: str) -> str:
    """Return a path as one printable line, whatever its characters."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in path)


def find(root: str) -> tuple[Path, Kind]:
    """Return the path that a user gave, and what is there."""
    path = Path(root)
    try:
        path = path.expanduser()
        return path, _kind(path.stat().st_mode)
    except (OSError, RuntimeError, ValueError):  # no such file, no such user, not a path
        return path, "nowhere"


def folder_tree(root: Path) -> Tree:
    return Tree(os.path.realpath(root), _entries, lambda real: Path(real).read_bytes())


def _entries(folder: str) -> list[Entry]:
    with os.scandir(folder) as found:
        return sorted((_entry(entry) for entry in found), key=lambda entry: entry.name)


def _entry(entry: os.DirEntry[str]) -> Entry:
    if not entry.is_symlink():
        is_folder, is_file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
        return Entry(entry.name, "folder" if is_folder else "file" if is_file else "special", entry.path)
    try:
        return Entry(entry.name, _kind(entry.stat().st_mode), os.path.realpath(entry.path, strict=True), linked=True)
    except OSError:
        return Entry(entry.name, "nowhere", entry.path, linked=True)


def _kind(mode: int) -> Kind:
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special"


def archive_tree(archive: Path, key: str) -> Tree:
    """Return what extraction of a tar would leave: of members of one name the last; a hard link is a file.

    Raises `ConfigError` for a file that is no tar, a damaged one, and members that could not be extracted safely;
    `key` is what the user gave, as `key=value`."""
    tree = _Extracted(key)
    contents: dict[int, bytes] = {}
    for number, member, content in _members(archive, key, lambda _, member: has_image_suffix(member.name)):
        tree.add(member, number)
        if content is not None:
            contents[number] = content
    # A compressed archive can only be read forwards: a second time, only for links with an image's suffix to others.
    missing = tree.images() - contents.keys()
    if missing:
        again = _members(archive, key, lambda number, _: number in missing)
        contents |= {number: content for number, _, content in again if content is not None}
    return Tree("", tree.entries, lambda real: contents[tree.member(real).number], sorted(tree.before))


def kind_by_content(path: Path) -> str | None:
    """Return what a file is by its first bytes, e.g. "a zip archive"; None if they do not say."""
    with path.open("rb") as file:
        first = file.read(8)
    return next((kind for magic, kind in _OTHER_KINDS.items() if first.startswith(magic)), None)


def _members(
    archive: Path, key: str, wanted: Callable[[int, tarfile.TarInfo], bool]
) -> Iterator[tuple[int, tarfile.TarInfo, bytes | None]]:
    """Yield number, member, and the content of each file that is wanted."""
    try:
        with tarfile.open(archive) as tar:
            for number, member in enumerate(tar):
                file = tar.extractfile(member) if _is_file(member) and wanted(number, member) else None
                yield number, member, None if file is None else file.read()
            check_end(tar)
    except MemoryError:
        raise
    except Exception as error:  # tarfile lets those of the decompressors through, which differ between Pythons
        raise ConfigError(
            f"{key}: {_what_is_wrong(archive, error)}; allowed: a folder or tar (also .tar.gz, .tar.bz2, .tar.xz) with "
            "train/<class>/… and test/<class>/…"
        ) from None


def _is_file(member: tarfile.TarInfo) -> bool:
    return member.isreg() or member.type not in tarfile.SUPPORTED_TYPES  # as extraction sees it


def check_end(tar: tarfile.TarFile) -> None:
    """Raise `tarfile.ReadError` unless the archive ends in its end mark: iteration stops at whatever is no member."""
    file = cast(IO[bytes], tar.fileobj)
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"damaged or cut off after {len(tar.getmembers())} members")
    while file.read(1 << 20):  # the decompressor checks all that it has read at its end
        pass


def _what_is_wrong(archive: Path, error: Exception) -> str:
    if not str(error).startswith("file could not be opened successfully"):  # tarfile lists why each of its ways failed
        return f"not a readable tar archive ({shown(str(error))})"
    kind = "an empty file" if archive.stat().st_size == 0 else kind_by_content(archive)
    return f"it is {kind}, not a readable tar archive" if kind else "not a readable tar archive"


@dataclass(frozen=True)
class _Member:
    """What extraction leaves under a name: a link to `target`, a file with the content of member `number`."""

    kind: Literal["folder", "file", "special", "link"]
    target: str = ""
    number: int = -1


class _Extracted:
    """The tree that extraction of an archive's members, one after the other, would leave."""

    def __init__(self, key: str):
        self.key = key
        self.folders: dict[str, dict[str, _Member]] = {"": {}}
        self.before: list[tuple[str, str]] = []

    def add(self, member: tarfile.TarInfo, number: int) -> None:
        """Raises `ConfigError` for a member that extraction would put elsewhere, or could not put anywhere."""
        made = self._made(member, number)
        parts = self._parts(member.name)
        if not parts:
            if made.kind != "folder":
                raise self._refusal(member.name, "has no name")
            return
        folder = ""
        for part in parts[:-1]:
            folder = self._enter(folder, part, member.name)
        if made.kind == "folder":
            self._enter(folder, parts[-1], member.name)
            return
        known = self.folders[folder].get(parts[-1])
        if known is not None and known.kind == "folder":
            raise self._refusal(member.name, "is a folder and a file")
        self.folders[folder][parts[-1]] = made
        if member.isreg() and has_image_suffix(member.name):
            self.before.append((member.name, posixpath.join(folder, parts[-1])))

    def _made(self, member: tarfile.TarInfo, number: int) -> _Member:
        if member.isdir():
            return _Member("folder")
        if member.issym():
            return _Member("link", target=member.linkname)
        if member.islnk():
            return self._target(self._parts(member.linkname))
        return _Member("file", number=number) if _is_file(member) else _Member("special")

    def _target(self, parts: list[str]) -> _Member:
        """Return what a hard link to a path is: the very thing that is there now."""
        folder = self._resolved("", "/".join(parts[:-1]))
        found = self.folders.get(folder, {}).get(parts[-1]) if parts and folder is not None else None
        return _NOWHERE if found is None or found.kind == "folder" else found

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self._refusal(name, "leads out of the archive by ..")
        return parts

    def _enter(self, folder: str, name: str, member: str) -> str:
        """Return the real path of a folder in a folder, which is made if there is nothing."""
        path = posixpath.join(folder, name)
        if name not in self.folders[folder]:
            self.folders[folder][name] = _Member("folder")
            self.folders[path] = {}
            return path
        real = self._resolved(folder, name)
        if real not in self.folders:
            raise self._refusal(member, f"cannot be extracted: {shown(path)} is no folder in the archive")
        return real

    def _refusal(self, name: str, why: str) -> ConfigError:
        return ConfigError(
            f"{self.key}: its member {shown(name)} {why}; allowed: members that tar extracts into one folder"
        )

    def _resolved(self, folder: str, path: str) -> str | None:
        """Return the real path of `path` in a real folder; None if it leads nowhere or out of the archive."""
        todo, here, links = path.split("/")[::-1], folder, 0
        while todo:
            if here not in self.folders:
                return None
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    return None
                here = posixpath.dirname(here)
                continue
            member = self.folders[here].get(part)
            if member is None:
                return None
            if member.kind == "link":
                links += 1
                if links > _MAX_LINKS or member.target[:1] in ("", "/"):
                    return None
                todo += member.target.split("/")[::-1]
            else:
                here = posixpath.join(here, part)
        return here

    def member(self, real: str) -> _Member:
        folder, name = posixpath.split(real)
        return self.folders[folder][name]

    def entries(self, folder: str) -> list[Entry]:
        return [self._entry(folder, name, member) for name, member in sorted(self.folders[folder].items())]

    def _entry(self, folder: str, name: str, member: _Member) -> Entry:
        path = posixpath.join(folder, name)
        if member.kind != "link":
            return Entry(name, member.kind, path)
        real = self._resolved(folder, name)
        if real is None:
            return Entry(name, "nowhere", path, linked=True)
        kind = "folder" if real in self.folders else self.member(real).kind
        return Entry(name, cast(Kind, kind), real, linked=True)

    def images(self) -> set[int]:
        """Return the numbers of the members that hold the content of files with an image's suffix."""
        entries = (self._entry(folder, *item) for folder, items in self.folders.items() for item in items.items())
        return {self.member(e.real).number for e in entries if e.kind == "file" and has_image_suffix(e.name)}


_NOWHERE = _Member("link", target="/")  # absolute targets are never followed
