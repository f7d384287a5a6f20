"""Downloads, verified by torchvision and made by one of several jobs."""

from __future__ import annotations

import hashlib
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from filelock import FileLock

from rebuttal.data.trees import shown
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
        guess = f" (https://{url.lstrip('/')}?)" if "://" not in url else ""
        raise ConfigError(
            f"dataset.url={shown(url)}: is no URL with a scheme and a host{shown(guess)}; allowed: https://…, "
            "http://…, ftp://…, file:///…"
        )


def download(url: str, path: Path, md5: str) -> None:
    """Download a file unless it is there. Raises one of `FAILURES`."""
    part = path.with_name(f".{path.name}.part")  # what is not whole is never taken for the file
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # one of several jobs downloads, the others wait for it
        if is_whole(path, md5):
            return
        try:
            _retrieve(url, part, md5)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


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
