"""Images in class folders, or a tar archive of them: `train/<class>/*.jpg` and `test/<class>/*.jpg`.

They are decoded once and stored as uint8 under a digest of the files' contents. An archive is read member by member
and never unpacked to disk.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import field
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import Field, PositiveInt

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.errors import ConfigError
from rebuttal.store.entries import Artifact, Store

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
_MODES = {1: "L", 3: "RGB"}


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
        if self.channels not in _MODES:
            raise ConfigError(f"dataset.channels={self.channels}: allowed: 1 (grey), 3 (colour)")
        root = Path(self.root).expanduser()
        if not root.exists():
            raise ConfigError(
                f"dataset.root={self.root}: no such folder or archive; allowed: a folder or tar with "
                "train/<class>/… and test/<class>/…"
            )
        digest = _digest(root)
        identity = {"digest": digest, "size": self.size and list(self.size), "channels": self.channels, "version": 1}
        decoded = Store(cache).get_or_make("images", identity, lambda: self._decode(root))
        return Images(
            **decoded.tensors,
            class_names=tuple(decoded.record["class_names"]),
            digest=f"{digest}:{self.size}:{self.channels}",
        )

    def _decode(self, root: Path) -> Artifact:
        """Decode all images. Raises `ConfigError` for unreadable images, different sizes, or a wrong folder layout."""
        pixels: dict[str, list[np.ndarray]] = {"train": [], "test": []}
        names: dict[str, list[str]] = {"train": [], "test": []}
        for path, raw in _files(root):
            split, name = _split_and_class(path)
            if split is None:
                continue
            image = self._pixels(path, raw)
            if pixels[split] or pixels["train"]:
                first = (pixels["train"] or pixels[split])[0]
                if first.shape != image.shape:
                    raise ConfigError(
                        f"dataset.size=null: {path} is {image.shape[1]}x{image.shape[2]}, others are "
                        f"{first.shape[1]}x{first.shape[2]}; set dataset.size=[height,width] to resize all"
                    )
            pixels[split].append(image)
            names[split].append(name)
        classes = sorted(set(names["train"]))
        _check_classes(self.root, classes, names["test"])
        number = {name: i for i, name in enumerate(classes)}
        tensors = {}
        for split in ("train", "test"):
            tensors[split] = torch.from_numpy(np.stack(pixels[split]))
            tensors[f"{split}_labels"] = torch.tensor([number[name] for name in names[split]])
        return Artifact({"class_names": classes}, tensors)

    def _pixels(self, path: str, raw: bytes) -> np.ndarray:
        """Decode one image: uint8 (C, H, W)."""
        try:
            image = Image.open(io.BytesIO(raw)).convert(_MODES[self.channels])
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ConfigError(f"dataset.root={self.root}: {path} is not a readable image ({error})") from None
        if self.size is not None:
            height, width = self.size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        values = np.asarray(image, dtype=np.uint8)
        return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every image file as (path relative to the root, content), in alphabetical order."""
    if root.is_dir():
        for path in _images(root.rglob("*")):
            yield path.relative_to(root).as_posix(), path.read_bytes()
        return
    try:
        with tarfile.open(root) as tar:
            # A compressed archive can only be read forwards, so members are sorted after reading.
            files = ((m.name, tar.extractfile(m)) for m in tar if m.isfile() and _is_image(m.name))
            members = [(name, file.read()) for name, file in files if file is not None]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ConfigError(f"dataset.root={root}: not a readable tar archive ({error})") from None
    yield from sorted(members)


def _images(paths: Iterable[Path]) -> list[Path]:
    return sorted(p for p in paths if _is_image(p.name) and p.is_file())


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _split_and_class(path: str) -> tuple[str | None, str]:
    """Return ("train", "cat") for `…/train/cat/1.jpg`, (None, "") for a path of another form.

    The archive may have a folder above `train`."""
    parts = PurePosixPath(path).parts
    if len(parts) >= 3 and parts[-3] in ("train", "test"):
        return parts[-3], parts[-2]
    return None, ""


def _check_classes(root: str, classes: list[str], test: list[str]) -> None:
    if len(classes) < 2 or not test:
        raise ConfigError(
            f"dataset.root={root}: found {len(classes)} class folders below train/ and {len(test)} images below "
            "test/; allowed: at least 2 classes and 1 test image, as train/<class>/… and test/<class>/…"
        )
    unknown = sorted(set(test) - set(classes))
    if unknown:
        raise ConfigError(f"dataset.root={root}: test/{unknown[0]} has no counterpart below train/")


def _digest(root: Path) -> str:
    """Return the SHA-256 of an archive, or of the path and content of every image in a folder."""
    if root.is_file():
        return hashlib.sha256(root.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path, raw in _files(root):
        digest.update(f"{path}\0{len(raw)}\0".encode())
        digest.update(raw)
    return digest.hexdigest()
