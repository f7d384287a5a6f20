"""CIFAR-10 (Krizhevsky 2009), downloaded and verified through torchvision.

The *binary* version is used: plain bytes. torchvision's own CIFAR10 class reads the Python version, which is a
pickle, and this package never unpickles anything.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.errors import ConfigError

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
_RECORD = 1 + 3 * 32 * 32  # one byte of label, then the red, green and blue planes


@checked
class CIFAR10(ImageSet):
    """60,000 colour images 3×32×32 in 10 classes; the archive is kept in the folder `root`.

    `url` and `md5`: where it is downloaded from and its checksum, so that a mirror can replace the original.
    """

    root: str = field(metadata={"decides": False})
    url: str = field(default=URL, metadata={"decides": False})
    md5: str = MD5

    def read(self, cache: Path) -> Images:
        archive = Path(self.root).expanduser() / "cifar-10-binary.tar.gz"
        self._fetch(archive)
        try:
            with tarfile.open(archive) as tar:
                names = _member(tar, "batches.meta.txt").decode().split()
                images, labels = _decode(b"".join(_member(tar, f"data_batch_{i}.bin") for i in range(1, 6)))
                test_images, test_labels = _decode(_member(tar, "test_batch.bin"))
        except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as error:
            raise ConfigError(f"dataset.root={self.root}: {archive.name} cannot be read ({error})") from None
        return Images(images, labels, test_images, test_labels, tuple(names), digest=f"md5:{self.md5}")

    def _fetch(self, archive: Path) -> None:
        from torchvision.datasets.utils import check_integrity, download_url

        if check_integrity(str(archive), self.md5):
            return
        try:
            # One of several jobs downloads, the others wait for it.
            with _place_of(archive) as lock, FileLock(lock):
                download_url(self.url, str(archive.parent), archive.name, md5=self.md5)
        except (URLError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"dataset.root={self.root}: CIFAR-10 is not there and could not be downloaded ({error}); either "
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


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(f"cifar-10-batches-bin/{name}")
    if file is None:
        raise tarfile.ReadError(f"{name} is not a file")
    return file.read()


def _decode(raw: bytes) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 32, 32) uint8 and labels (n,) int64."""
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, _RECORD)
    labels = torch.from_numpy(records[:, 0].astype(np.int64))
    images = torch.from_numpy(np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32))
    return images, labels
