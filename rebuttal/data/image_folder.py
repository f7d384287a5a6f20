"""Images in class folders, or a tar archive of them: `train/<class>/…` and `test/<class>/…`.

They are decoded once and stored as uint8 under a digest of the files' contents, which is taken again only after a file
has changed. An archive is read member by member and never unpacked to disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.data.listing import SPLITS, ImageFile, Listing, list_images
from rebuttal.data.pictures import COLOURS, Picture, Unreadable, read_picture
from rebuttal.data.trees import Tree, archive_tree, find, folder_tree, shown
from rebuttal.errors import ConfigError
from rebuttal.store.entries import Artifact, Store
from rebuttal.store.sources import known_digest

log = logging.getLogger(__name__)

_RULES = 2  # what is read, and how; raised when files come to mean other images
_LEAST_RANGE = 0.25  # evenly spaced, 64 values of 16 bits remain 64 values in 8


@checked
class ImageFolder(ImageSet):
    """Images of the user. `root`: a folder or a tar (also .tar.gz, .tar.bz2, .tar.xz) that contains `train` and `test`.

    Labels 0, 1, … number the classes in alphabetical order. `size`: (height, width) to resize to; None requires that
    all images have the same size. `channels`: 3 (colour) or 1 (grey).
    """

    root: str = field(metadata={"decides": False})
    size: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=2)] | None = None
    channels: Annotated[int, Field(json_schema_extra={"enum": [1, 3]})] = 3

    def read(self, cache: Path) -> Images:
        if self.channels not in COLOURS:
            raise ConfigError(f"dataset.channels={self.channels}: allowed: 1 (grey), 3 (colour)")
        root, kind = find(self.root)
        if kind == "folder":
            tree = folder_tree(root)
            listing = list_images(tree, self._key)
            files = {"/".join(file.path): file.real for file in listing.files}
            digest = known_digest(cache, "images", root, files, lambda: self._content_digest(tree, listing))
            decoded = self._decoded(cache, digest, lambda: self._decode(tree, listing, digest))
            note = listing.note
        elif kind == "file":
            digest = known_digest(cache, "images", root, {"": os.path.realpath(root)}, lambda: self._file_digest(root))
            decoded = self._decoded(cache, digest, lambda: self._decode_archive(root, digest))
            note = decoded.record["note"]
        else:
            raise ConfigError(
                f"{self._key}: no such folder or archive; allowed: a folder or tar with "
                "train/<class>/… and test/<class>/…"
            )
        if note:
            log.warning("%s: %s", self._key, note)
        names = tuple(decoded.record["class_names"])
        return Images(**decoded.tensors, class_names=names, digest=decoded.record["digest"])

    @property
    def _key(self) -> str:
        return f"dataset.root={shown(self.root)}"

    def _decoded(self, cache: Path, digest: str, decode: Callable[[], Artifact]) -> Artifact:
        identity = {"digest": digest, "size": self.size and list(self.size), "channels": self.channels}
        return Store(cache).get_or_make_mapped("images", {**identity, "version": _RULES}, decode)

    def _decode_archive(self, root: Path, digest: str) -> Artifact:
        tree = archive_tree(root, self._key)
        return self._decode(tree, list_images(tree, self._key), digest)

    def _decode(self, tree: Tree, listing: Listing, digest: str) -> Artifact:
        """Decode all images. Raises `ConfigError` for unreadable images, different sizes, or a wrong folder layout.

        `digest`, of the folder or archive, identifies the images if they are those that the first rules gave."""
        classes = self._classes(listing)
        number = {name: i for i, name in enumerate(classes)}
        pictures, content = self._pictures(tree, listing)
        if tree.before is None and content != digest:
            raise ConfigError(f"{self._key}: its files were changed while they were read; rerun when they are complete")
        self._check_alike(listing, pictures)
        tensors = {}
        for split in SPLITS:
            chosen = [i for i, file in enumerate(listing.files) if file.label[0] == split]
            tensors[split] = torch.from_numpy(np.stack([pictures[i].pixels for i in chosen]))
            tensors[f"{split}_labels"] = torch.tensor([number[listing.files[i].label[1]] for i in chosen])
        new = _by_new_rules(tree, listing) or any(picture.by_new_rules for picture in pictures)
        identity = f"{content}:{self.size}:{self.channels}:{_RULES}" if new else f"{digest}:{self.size}:{self.channels}"
        return Artifact({"class_names": classes, "digest": identity, "note": listing.note}, tensors)

    def _classes(self, listing: Listing) -> list[str]:
        """Return the class names in order. Raises `ConfigError` if these images are no data set."""
        classes, test = ({file.label[1] for file in listing.files if file.label[0] == split} for split in SPLITS)
        tests = sum(file.label[0] == "test" for file in listing.files)
        if len(classes) < 2 or not tests:
            raise ConfigError(
                f"{self._key}: found {len(classes)} class folders below train/ and {tests} images below test/"
                f"{listing.note and f' ({listing.note})'}; allowed: at least 2 classes and 1 test image, as "
                "train/<class>/… and test/<class>/…"
            )
        unknown = sorted(test - classes)
        if unknown:
            raise ConfigError(f"{self._key}: test/{shown(unknown[0])} has no counterpart with images below train/")
        return sorted(classes)

    def _pictures(self, tree: Tree, listing: Listing) -> tuple[list[Picture], str]:
        """Return all pictures, and the digest of what they were decoded from."""
        pictures, digest = [], hashlib.sha256()
        for file, raw in self._contents(tree, listing):
            digest.update(_described(file, raw))
            try:
                pictures.append(read_picture(raw, self.channels, self.size))
            except Unreadable as error:
                raise ConfigError(f"{self._key}: {file.name} {error}") from None
        return pictures, digest.hexdigest()

    def _content_digest(self, tree: Tree, listing: Listing) -> str:
        """Return the SHA-256 of the name and content of every image that is used."""
        digest = hashlib.sha256()
        for file, raw in self._contents(tree, listing):
            digest.update(_described(file, raw))
        return digest.hexdigest()

    def _contents(self, tree: Tree, listing: Listing) -> Iterator[tuple[ImageFile, bytes]]:
        for file in listing.files:
            try:
                yield file, tree.read(file.real)
            except OSError as error:
                raise ConfigError(f"{self._key}: {file.name} cannot be read ({error.strerror})") from None

    def _file_digest(self, archive: Path) -> str:
        digest = hashlib.sha256()
        try:
            with archive.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise ConfigError(f"{self._key}: cannot be read ({error.strerror})") from None
        return digest.hexdigest()

    def _check_alike(self, listing: Listing, pictures: list[Picture]) -> None:
        """Raise `ConfigError` unless all are of one size, and those of 16 bits use them."""
        _, height, width = pictures[0].pixels.shape
        for file, picture in zip(listing.files, pictures, strict=True):
            _, h, w = picture.pixels.shape
            if (h, w) != (height, width):
                raise ConfigError(
                    f"dataset.size=null: {file.name} is {h}x{w}, others are {height}x{width}; set "
                    "dataset.size=[height,width] to resize all"
                )
        deep = [(file, picture.deep) for file, picture in zip(listing.files, pictures, strict=True) if picture.deep]
        merged = [file for file, grey in deep if grey.merged]
        if merged and max(grey.brightest for _, grey in deep) - min(grey.darkest for _, grey in deep) < _LEAST_RANGE:
            raise ConfigError(
                f"{self._key}: {merged[0].name} and all others of more than 8 bits use less than a quarter of their "
                "range, and would lose grey values in 8 bits; allowed: pictures that use their whole range"
            )


def _described(file: ImageFile, raw: bytes) -> bytes:
    return f"{'/'.join(file.path)}\0{len(raw)}\0".encode(errors="surrogateescape") + raw


def _by_new_rules(tree: Tree, listing: Listing) -> bool:
    """True unless the first rules gave the same images: those that are no links, just below their class."""
    before = tree.before
    if before is None:
        before = [("/".join(file.path), file.real) for file in listing.files]
    then = [(label, real) for name, real in before if (label := _label_at_first(name))]
    return then != [(file.label, file.real) for file in listing.files]


def _label_at_first(name: str) -> tuple[str, str] | None:
    parts = PurePosixPath(name).parts
    if len(parts) >= 3 and parts[-3] in SPLITS and not parts[-1].startswith("."):
        return parts[-3], parts[-2]
    return None
