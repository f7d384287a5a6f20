"""CIFAR-10 (Krizhevsky 2009), downloaded and verified through torchvision.

The *binary* version is used: plain bytes. torchvision's own CIFAR10 class reads the Python version, which is a
pickle, and this package never unpickles anything.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.data.listing import SPLITS
from rebuttal.data.trees import check_end, find, kind_by_content, shown
from rebuttal.errors import ConfigError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_BYTES = 170_052_171  # of the archive
_ARCHIVE = "cifar-10-binary.tar.gz"
_FOLDER = "cifar-10-batches-bin"
_NAMES = "batches.meta.txt"
_BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
_RECORD = 1 + 3 * 32 * 32  # one byte of label, then the red, green and blue planes
_SCHEMES = ("https", "http", "ftp", "file")
_OTHERS = {  # what the folder in an archive, the archive, or a file in the folder begins with
    "the Python version of CIFAR-10: pickles, which are never read": ("cifar-10-batches-py", "cifar-10-python"),
    "the MATLAB version of CIFAR-10": ("cifar-10-batches-mat", "cifar-10-matlab"),
    "CIFAR-100": ("cifar-100-",),
}
_FILES_OF_OTHERS = {
    "data_batch_1": "cifar-10-batches-py",
    "batches.meta": "cifar-10-batches-py",
    "data_batch_1.mat": "cifar-10-batches-mat",
    "fine_label_names.txt": "cifar-100-binary",
}


@checked
class CIFAR10(ImageSet):
    """60,000 colour images 3×32×32 in 10 classes. `root`: the folder that the archive is kept in, the archive itself,
    or a folder with its content.

    `url` and `md5`: where it is downloaded from and its checksum, so that a mirror can replace the original.
    """

    root: str = field(metadata={"decides": False})
    url: str = field(default=URL, metadata={"decides": False})
    md5: str = MD5

    def read(self, cache: Path) -> Images:
        from torchvision.datasets.utils import check_integrity

        root, kind = find(self.root)
        archive = root if kind == "file" else root / _ARCHIVE
        if not check_integrity(str(archive), self.md5):
            for folder in (root / _FOLDER, root):
                if any((folder / name).is_file() for name in _BATCHES):
                    return self._images(folder, _read_folder)
            self._refuse_another(root, archive)
            self._fetch(archive)
        return self._images(archive, _read_archive, f"md5:{self.md5}")

    def _images(self, place: Path, read: Callable[[Path], dict[str, bytes]], digest: str | None = None) -> Images:
        try:
            contents = read(place)
            names = contents[_NAMES].decode().split()
            _check(contents, len(names), verified=digest is not None)
        except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as error:
            raise ConfigError(f"{self._key}: {place.name} cannot be read ({error}); {self._remedy}") from None
        images, labels = _decode(b"".join(contents[name] for name in _BATCHES[:-1]))
        test_images, test_labels = _decode(contents[_BATCHES[-1]])
        return Images(images, labels, test_images, test_labels, tuple(names), digest or _digest(contents))

    def _refuse_another(self, root: Path, archive: Path) -> None:
        """Raise `ConfigError` for a file or folder that is not CIFAR-10 in its binary version, whole, and unchanged."""
        what = _what_is_wrong(archive) if archive.is_file() else _what_is_in(root)
        if what is not None:
            raise ConfigError(f"{self._key}: {what}; {self._remedy}")

    @property
    def _key(self) -> str:
        return f"dataset.root={shown(self.root)}"

    @property
    def _remedy(self) -> str:
        return (
            f"allowed: {_ARCHIVE} (md5 {self.md5}), its folder, or a folder without either, to download it; for other "
            "images dataset=image_folder"
        )

    def _fetch(self, archive: Path) -> None:
        from torchvision.datasets.utils import check_integrity, download_url

        _check_url(self.url)
        part = archive.with_name(f".{archive.name}.part")  # what is not whole is never taken for the archive
        try:
            # One of several jobs downloads, the others wait for it.
            with _place_of(archive) as lock, FileLock(lock):
                if check_integrity(str(archive), self.md5):
                    return
                try:
                    download_url(self.url, str(part.parent), part.name, md5=self.md5)
                    part.replace(archive)
                finally:
                    part.unlink(missing_ok=True)
        except (OSError, RuntimeError, ValueError, HTTPException) as error:
            raise ConfigError(
                f"{self._key}: CIFAR-10 is not there and could not be downloaded ({error}); either "
                f"put {archive.name} (md5 {self.md5}) into that folder by hand, or use your own images: "
                "dataset=image_folder dataset.root=FOLDER_OR_TAR"
            ) from None


@contextmanager
def _place_of(archive: Path) -> Iterator[Path]:
    """Make the archive's folder and yield the name of a lock there; if the block fails, nothing of both is left."""
    lock = archive.with_suffix(".lock")
    made = [folder for folder in (archive.parent, *archive.parent.parents) if not folder.exists()]
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield lock
    except BaseException:
        lock.unlink(missing_ok=True)
        with suppress(OSError):  # others have put something there
            for folder in made:
                folder.rmdir()
        raise


def _check_url(url: str) -> None:
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


def _read_folder(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (_NAMES, *_BATCHES)}


def _read_archive(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {name: _member(tar, name) for name in (_NAMES, *_BATCHES)}


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"{_FOLDER}/{name}")
    if file is None:
        raise tarfile.ReadError(f"{name} is not a file")
    return file.read()


def _check(contents: dict[str, bytes], classes: int, verified: bool) -> None:
    """Raise `ValueError` unless all batches are whole; those without a known checksum must be of one size, too."""
    longest = max(len(contents[name]) for name in _BATCHES)
    for name in _BATCHES:
        size = len(contents[name])
        if size == 0 or size % _RECORD or (size < longest and not verified):
            raise ValueError(f"{name} is cut off: {size} bytes")
        if max(contents[name][::_RECORD]) >= classes:
            raise ValueError(f"{name} has labels beyond the {classes} classes of {_NAMES}")


def _digest(contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def _decode(raw: bytes) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 32, 32) uint8 and labels (n,) int64."""
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, _RECORD)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    images = torch.from_numpy(np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32))
    return images, labels


def _what_is_in(root: Path) -> str | None:
    """Return what else than CIFAR-10's binary version a folder contains, None if nothing that could be meant as it."""
    if not root.is_dir():
        return None
    names = sorted(path.name for path in root.iterdir())
    for name in (root.name, *names):
        version = _version(name) or _version(_FILES_OF_OTHERS.get(name, ""))
        if version is not None and (name != root.name or set(_FILES_OF_OTHERS) & set(names)):
            return f"{shown(name)} is {version}"
    if set(SPLITS) <= set(names):
        return "it has images in train/ and test/, for dataset=image_folder"
    renamed = next((n for n in names if n.startswith("cifar-10-binary.") and _is_large_file(root / n)), None)
    return None if renamed is None else f"{shown(renamed)} is not named {_ARCHIVE}"


def _is_large_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > _RECORD


def _what_is_wrong(archive: Path) -> str:
    """Return what a file is that has not the md5 of the archive."""
    name, size = shown(archive.name), archive.stat().st_size
    if archive.name in (_NAMES, *_BATCHES):
        return f"{name} is one file of the folder {_FOLDER}"
    members: list[str] = []
    try:
        with tarfile.open(archive) as tar:
            members += (member.name.removeprefix("./") for member in tar)
            check_end(tar)
        whole = True
    except Exception:  # those of tarfile and of all decompressors
        whole = False
    found = (_version(member) for member in (_FILES_OF_OTHERS.get(archive.name, ""), *members))
    version = next((version for version in found if version), None)
    if version is not None:
        return f"{name} is {version}"
    if not whole and (members or _ends_early(archive)):
        return f"{name} is cut off or damaged: {size:,} bytes, of {_BYTES:,} in the original"
    if any(member.startswith(_FOLDER) for member in members):
        return f"{name} has the md5 {_md5(archive)} (dataset.md5=… if that is meant)"
    if any(part in SPLITS for member in members for part in member.split("/")[:-1]):
        return f"{name} is an archive of images in train/ and test/, for dataset=image_folder"
    return f"{name} is {kind_by_content(archive) or 'not CIFAR-10'}"


def _ends_early(archive: Path) -> bool:
    """True for a file that is compressed with gzip and cut off."""
    try:
        with gzip.open(archive) as file:
            while file.read(1 << 20):
                pass
    except EOFError:
        return True
    except (OSError, zlib.error):
        return False
    return False


def _md5(path: Path) -> str:
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _version(name: str) -> str | None:
    return next((version for version, starts in _OTHERS.items() if name.startswith(starts)), None)
