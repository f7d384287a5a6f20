"""MNIST and Fashion-MNIST: idx files (LeCun et al. 1998), plain or compressed."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import field
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.download import find_or_download
from rebuttal.data.image_set import Images, ImageSet, digest_of_tensors
from rebuttal.data.trees import shown
from rebuttal.errors import ConfigError

_FILES = (("train-images", "idx3"), ("train-labels", "idx1"), ("t10k-images", "idx3"), ("t10k-labels", "idx1"))
_UINT8 = 0x08


@checked
class IDX(ImageSet):
    """70,000 grey images 1×28×28 in 10 classes. `root`: the folder of the four idx files, plain or .gz.

    `url` and `md5`: where they are downloaded from, and the checksums of the .gz files, so that a mirror can replace
    the original.
    """

    root: str = field(metadata={"decides": False})
    url: str = field(metadata={"decides": False})
    md5: tuple[str, str, str, str] = field(metadata={"decides": False})
    class_names: ClassVar[tuple[str, ...]]

    def read(self, cache: Path) -> Images:
        title = type(self).__name__
        names = {
            f"{stem}-{kind}-ubyte.gz": [f"{stem}{dot}{kind}-ubyte{gz}" for gz in ("", ".gz") for dot in "-."]
            for stem, kind in _FILES
        }
        places = [".", "raw", f"{title}/raw"]  # the last two are torchvision's
        paths = find_or_download(self.root, places, names, self.url, self.md5, title)
        train, train_labels, test, test_labels = (self._read(path, size) for path, size in zip(paths, (3, 1, 3, 1)))
        for images, labels, path in ((train, train_labels, paths[1]), (test, test_labels, paths[3])):
            if len(images) != len(labels):
                raise self._refusal(path, f"has {len(labels)} labels for {len(images)} images")
            if not len(labels) or int(labels.max()) >= len(self.class_names):
                raise self._refusal(path, f"has labels beyond the {len(self.class_names)} classes, or none")
        if train.shape[1:] != test.shape[1:]:
            raise self._refusal(paths[2], "has images of another size than those for training")
        tensors = (train[:, None], train_labels.long(), test[:, None], test_labels.long())
        return Images(*tensors, self.class_names, digest_of_tensors(*tensors))

    def _read(self, path: Path, dimensions: int) -> Tensor:
        try:
            raw = path.read_bytes()
            raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
            return torch.from_numpy(read_idx(raw, dimensions))
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise self._refusal(path, f"cannot be read ({error})") from None

    def _refusal(self, path: Path, why: str) -> ConfigError:
        return ConfigError(
            f"dataset.root={shown(self.root)}: {path.name} {why}; allowed: the four idx files of {type(self).__name__}"
        )


@checked
class MNIST(IDX):
    """MNIST: handwritten digits (LeCun et al. 1998)."""

    url: str = field(default="https://ossci-datasets.s3.amazonaws.com/mnist", metadata={"decides": False})
    md5: tuple[str, str, str, str] = field(
        default=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        metadata={"decides": False},
    )
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")


@checked
class FashionMNIST(IDX):
    """Fashion-MNIST: articles of clothing (Xiao et al. 2017)."""

    url: str = field(default="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", metadata={"decides": False})
    md5: tuple[str, str, str, str] = field(
        default=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        metadata={"decides": False},
    )
    class_names: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )


def read_idx(raw: bytes, dimensions: int) -> np.ndarray:
    """Return the uint8 array of an idx file. Raises `ValueError` for one of other values, dimensions or length."""
    begin = 4 * (1 + dimensions)
    if len(raw) < begin or raw[:2] != bytes(2):
        raise ValueError("it is no idx file")
    if raw[2] != _UINT8 or raw[3] != dimensions:
        raise ValueError(f"it has values of type {raw[2]:#04x} in {raw[3]} dimensions, not 0x08 in {dimensions}")
    shape = struct.unpack(f">{dimensions}I", raw[4:begin])
    if len(raw) != begin + prod(shape):
        raise ValueError(f"it has {len(raw) - begin:,} bytes for {prod(shape):,} values")
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape).copy()
