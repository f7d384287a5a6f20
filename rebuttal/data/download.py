"""Downloads, verified by torchvision and made by one of several jobs."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

from rebuttal.data.trees import find, shown
from rebuttal.errors import ConfigError

FAILURES = (OSError, RuntimeError, ValueError, HTTPException)  # of a download
_SCHEMES = ("https", "http", "ftp", "file")


def check_url(url: str) -> None:
    """Raise `ConfigError` for what is no URL that can be downloaded."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in _SCHEMES and bool(parts.path) and bool(parts.netloc or parts.scheme == "file")
        _ = parts.port
    except ValueError:
        whole = False
    if not whole:
        guess = _guess(url)
        raise ConfigError(
            f"dataset.url={shown(url)}: is no URL with a scheme and a host{shown(guess)}; allowed: https://…, "
            "http://…, ftp://…, file:///…"
        )


def _guess(url: str) -> str:
    """` (https://host/file?)`: what the user may have meant; empty if nothing is near."""
    slip = re.match(r"([a-z]+)(?:[:;]/*|/{2,})(.*)", url, re.IGNORECASE | re.DOTALL)
    meant = get_close_matches(slip[1].lower(), _SCHEMES, n=1, cutoff=0.7) if slip and slip[2].strip("/") else []
    if url.startswith(("/", "~/")):
        place = Path(url).expanduser().absolute().as_uri()
    elif slip and meant:
        place = f"{meant[0]}://{'/' * (meant[0] == 'file')}{slip[2].lstrip('/')}"
    else:
        place = f"https://{url}" if url and "://" not in url else ""
    return f" ({place}?)" if place and place != url else ""


def download(url: str, path: Path, md5: str) -> None:
    """Download a file unless it is there. Raises one of `FAILURES`."""
    part = path.with_name(f".{path.name}.part")  # what is not whole is never taken for the file
    with _place_of(path) as lock, FileLock(lock):  # one of several jobs downloads, the others wait for it
        if is_whole(path, md5):
            return
        try:
            _retrieve(url, part, md5)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _place_of(path: Path) -> Iterator[Path]:
    """Make the file's folder and yield the name of a lock there; if the block fails, nothing of both is left."""
    lock = path.with_suffix(".lock")
    if os.path.lexists(lock) and (not lock.is_file() or lock.is_symlink() or lock.stat().st_size):
        raise FileExistsError(errno.EEXIST, "is in the way: it is no lock of a download", str(lock))
    made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield lock
    except BaseException:
        lock.unlink(missing_ok=True)
        with suppress(OSError):  # others have put something there
            for folder in made:
                folder.rmdir()
        raise


def find_or_download(
    root: str, folders: Sequence[str], names: Mapping[str, Sequence[str]], url: str, md5: Sequence[str], title: str
) -> list[Path]:
    """Return the path of each of the files that make up a data set, in order; if none is there, download all.

    `root`: the folder, as the user gave it. `folders`: places below it where they may be. `names`: the names that each
    may have, by the one that it has at `url`. `md5`: checksums of those. Raises `ConfigError`."""
    place, kind = find(root)
    key, remedy = f"dataset.root={shown(root)}", f"allowed: a folder with {', '.join(names)}, or without any of them"
    if kind not in ("folder", "nowhere"):
        raise ConfigError(f"{key}: is no folder; {remedy}, to download them")
    found = max(([_first(place / below, each) for each in names.values()] for below in folders), key=_count)
    present = [path for path in found if path is not None]
    if len(present) == len(names):
        return present
    missing = next(name for name, path in zip(names, found) if path is None)
    if not all(path is None or is_whole(path, checksum) for path, checksum in zip(found, md5)):
        raise ConfigError(f"{key}: {missing} is missing, and the others are not the original files; {remedy}")
    check_url(f"{url.rstrip('/')}/{missing}")
    folder = present[0].parent if present else place
    try:
        for name, path, checksum in zip(names, found, md5):
            if path is None:
                download(f"{url.rstrip('/')}/{name}", folder / name, checksum)
    except FAILURES as error:
        raise ConfigError(
            f"{key}: {missing} of {title} is not there and could not be downloaded ({error}); put it into that folder "
            f"by hand; {remedy}"
        ) from None
    return [path or folder / name for name, path in zip(names, found)]


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _count(found: list[Path | None]) -> int:
    return sum(path is not None for path in found)


def _retrieve(url: str, path: Path, md5: str) -> None:
    from torchvision.datasets.utils import download_url

    if urlsplit(url).scheme in ("http", "https"):
        download_url(url, str(path.parent), path.name, md5=md5)
        return
    with urlopen(url) as source, path.open("wb") as target:  # torchvision can only read answers of HTTP
        shutil.copyfileobj(source, target)
    if not is_whole(path, md5):
        raise RuntimeError("File not found or corrupted.")


def is_whole(path: Path, md5: str) -> bool:
    """True if there is a file of that checksum."""
    from torchvision.datasets.utils import check_integrity

    return bool(check_integrity(str(path), md5))


def md5_of(path: Path) -> str:
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
