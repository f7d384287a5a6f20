"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): downloaded and verified through torchvision, or read in any form that they
are kept in.

The *binary* version is downloaded: plain bytes. torchvision's own classes read the Python version with pickle; this
package reads it by a reader of its own, and never unpickles anything.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import ClassVar

from rebuttal.config import checked
from rebuttal.data import cifar_forms
from rebuttal.data.cifar_forms import CIFAR10_FILES, CIFAR100_FILES, Contents, Version, forms
from rebuttal.data.download import FAILURES, check_url, download, md5_of
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.data.listing import SPLITS
from rebuttal.data.trees import check_end, find, kind_by_content, shown
from rebuttal.errors import ConfigError, UserError
from rebuttal.store.entries import Artifact, Store
from rebuttal.store.sources import known_digest

_TENSORS = ("train", "train_labels", "test", "test_labels")


@checked
class CIFAR(ImageSet):
    """60,000 colour images 3×32×32. `root`: the folder that the archive is kept in, the archive itself, or a folder
    with its content; or those of the Python version; or a folder of Parquet files, as on Hugging Face.

    `url` and `md5`: where it is downloaded from and its checksum, so that a mirror can replace the original.
    """

    root: str = field(metadata={"decides": False})
    url: str = field(metadata={"decides": False})
    md5: str
    version: ClassVar[Version]

    def read(self, cache: Path) -> Images:
        root, kind = find(self.root)
        archive = root if kind == "file" else root / self.version.archive
        if not self._is_there(archive, cache):
            for form in forms(root, self.version, cache):
                return self._images(form.place, form.read, whole=form.whole)
            self._refuse_another(root, archive)
            self._fetch(archive)
        return self._archived(archive, cache)

    def _is_there(self, archive: Path, cache: Path) -> bool:
        """Whether the whole archive is there; a file that nobody has touched is not read again."""
        files = {"": os.path.realpath(archive)}
        return archive.is_file() and known_digest(cache, "md5", archive, files, lambda: md5_of(archive)) == self.md5

    def _archived(self, archive: Path, cache: Path) -> Images:
        """The images of the archive, which is unpacked once for a store that can be written."""
        digest = f"md5:{self.md5}"

        def unpack() -> Artifact:
            found = self._images(archive, lambda: cifar_forms.binary_archive(archive, self.version), digest)
            tensors = {name: getattr(found, name) for name in _TENSORS}
            return Artifact({"class_names": list(found.class_names), "digest": digest}, tensors)

        identity = {"digest": digest, "of": self.version.title, "size": None, "version": 1}
        try:
            images = Store(cache).get_or_make_mapped("images", identity, unpack)
        except ConfigError:
            raise
        except (UserError, OSError):  # it cannot be written, or is full
            images = unpack()
        tensors = {name: images.tensors[name] for name in _TENSORS}
        return Images(**tensors, class_names=tuple(images.record["class_names"]), digest=digest)

    def _images(
        self, place: Path, read: Callable[[], Contents], digest: str | None = None, whole: bool = False
    ) -> Images:
        try:
            contents = read()
            cifar_forms.check(contents, self.version, whole=whole or digest is not None)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # of tarfile, of all decompressors, of pyarrow
            raise ConfigError(
                f"{self._key}: {shown(place.name)} cannot be read ({shown(str(error))}); {self._remedy}"
            ) from None
        *train, test = self.version.batches
        images = cifar_forms.decode(b"".join(contents[name] for name in train), self.version)
        names = tuple(contents[self.version.names].decode().split())
        digest = digest or cifar_forms.digest_of(contents, self.version)
        return Images(*images, *cifar_forms.decode(contents[test], self.version), names, digest)

    def _refuse_another(self, root: Path, archive: Path) -> None:
        """Raise `ConfigError` for a file or folder that could be meant as the data and is not, or is changed."""
        there = next((path for path in (archive, root / self.version.python_archive) if path.is_file()), None)
        what = _what_is_in(root, self.version) if there is None else _what_is_wrong(there, self.version)
        if what is not None:
            raise ConfigError(f"{self._key}: {what}; {self._remedy}")

    @property
    def _key(self) -> str:
        return f"dataset.root={shown(self.root)}"

    @property
    def _remedy(self) -> str:
        return (
            f"allowed: {self.version.archive} (md5 {self.md5}), {self.version.python_archive}, the folder of either, a "
            "folder of Parquet files, or a folder without any, to download it; for other images dataset=image_folder"
        )

    def _fetch(self, archive: Path) -> None:
        check_url(self.url)
        try:
            download(self.url, archive, self.md5)
        except FAILURES as error:
            raise ConfigError(
                f"{self._key}: {self.version.title} is not there and could not be downloaded ({error}); either "
                f"put {archive.name} (md5 {self.md5}) into that folder by hand, or use your own images: "
                "dataset=image_folder dataset.root=FOLDER_OR_TAR"
            ) from None


@checked
class CIFAR10(CIFAR):
    """CIFAR-10: 10 classes."""

    url: str = field(default="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", metadata={"decides": False})
    md5: str = CIFAR10_FILES.md5
    version: ClassVar[Version] = CIFAR10_FILES


@checked
class CIFAR100(CIFAR):
    """CIFAR-100: 100 classes, the fine labels."""

    url: str = field(default="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", metadata={"decides": False})
    md5: str = CIFAR100_FILES.md5
    version: ClassVar[Version] = CIFAR100_FILES


def _what_is_in(root: Path, version: Version) -> str | None:
    """Return what else than this data a folder contains, None if nothing that could be meant as it."""
    if not root.is_dir():
        return None
    names = sorted(path.name for path in root.iterdir())
    inside = [name for name in names if _other(name, version)]
    for name in (root.name, *names):
        if (other := _other(name, version)) is not None and (name != root.name or inside):
            return f"{shown(name)} is {other}"
    for another in (CIFAR10_FILES, CIFAR100_FILES):
        if another is not version and cifar_forms.has_python_files(root, another):
            return f"{shown(root.name)} is {another.title}"
    if set(SPLITS) <= set(names):
        return "it has images in train/ and test/, for dataset=image_folder"
    stems = tuple(name.removesuffix("tar.gz") for name in (version.archive, version.python_archive))
    renamed = next((name for name in names if name.startswith(stems) and _is_large_file(root / name)), None)
    if renamed is None:
        return None
    meant = version.archive if renamed.startswith(stems[0]) else version.python_archive
    return f"{shown(renamed)} is not named {meant}"


def _is_large_file(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > cifar_forms.PIXELS


def _what_is_wrong(archive: Path, version: Version) -> str:
    """Return what a file is that has not the md5 of the archive."""
    name, size = shown(archive.name), archive.stat().st_size
    for folder, files in (
        (version.folder, (version.names, *version.batches)),
        (version.python_folder, (version.python_names[0], *version.batches.values())),
    ):
        if archive.name in files:
            return f"{name} is one file of the folder {folder}"
    if archive.suffix == ".parquet":
        return f"{name} is one file of a folder of Parquet files"
    members: list[str] = []
    try:
        with tarfile.open(archive) as tar:
            members += (member.name.removeprefix("./") for member in tar)
            check_end(tar)
        whole = True
    except Exception:  # those of tarfile and of all decompressors
        whole = False
    other = next((other for member in (archive.name, *members) if (other := _other(member, version))), None)
    if other is not None:
        return f"{name} is {other}"
    if not whole and (members or _ends_early(archive)):
        original = f", of {version.sizes[archive.name]:,} in the original" if archive.name in version.sizes else ""
        return f"{name} is cut off or damaged: {size:,} bytes{original}"
    if any(member.startswith(version.folder) for member in members):
        return f"{name} has the md5 {md5_of(archive)} (dataset.md5=… if that is meant)"
    if any(part in SPLITS for member in members for part in member.split("/")[:-1]):
        return f"{name} is an archive of images in train/ and test/, for dataset=image_folder"
    return f"{name} is {kind_by_content(archive) or f'not {version.title}'}"


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


def _other(name: str, version: Version) -> str | None:
    return next((other for start, other in version.others if name.startswith(start)), None)
