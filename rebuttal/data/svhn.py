"""SVHN: street view house numbers (Netzer et al. 2011), cropped digits."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.download import find_or_download
from rebuttal.data.image_set import Images, ImageSet, digest_of_tensors
from rebuttal.data.trees import shown
from rebuttal.errors import ConfigError

_FILES = ("train_32x32.mat", "test_32x32.mat")


@checked
class SVHN(ImageSet):
    """73,257 and 26,032 colour images 3×32×32 of the digits 0 to 9. `root`: the folder of train_32x32.mat and
    test_32x32.mat.

    `url` and `md5`: where they are downloaded from, and their checksums, so that a mirror can replace the original.
    """

    root: str = field(metadata={"decides": False})
    url: str = field(default="http://ufldl.stanford.edu/housenumbers", metadata={"decides": False})
    md5: tuple[str, str] = field(
        default=("e26dedcc434d2e4c54c9b2d4a06d8373", "eb5a983be6a315427106f1b164d9cef3"), metadata={"decides": False}
    )

    def read(self, cache: Path) -> Images:
        names = {name: [name] for name in _FILES}
        paths = find_or_download(self.root, [".", "SVHN"], names, self.url, self.md5, "SVHN")
        (train, train_labels), (test, test_labels) = (self._read(path) for path in paths)
        tensors = (train, train_labels, test, test_labels)
        return Images(*tensors, tuple("0123456789"), digest_of_tensors(*tensors))

    def _read(self, path: Path) -> tuple[Tensor, Tensor]:
        from scipy.io import loadmat  # reads no pickles

        try:
            content = loadmat(path, variable_names=["X", "y"])
            return _decode(content.get("X"), content.get("y"))
        except MemoryError:
            raise
        except Exception as error:  # its reader stumbles over damaged files in many ways
            raise ConfigError(
                f"dataset.root={shown(self.root)}: {path.name} cannot be read ({shown(str(error))}); allowed: the "
                "files of SVHN's cropped digits, with images X (32, 32, 3, n) and labels y from 1 to 10"
            ) from None


def _decode(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 32, 32) uint8 and labels (n,) int64; 10 means the digit 0."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[:-1] != (32, 32, 3):
        raise ValueError("it has no uint8 images X (32, 32, 3, n)")
    if not isinstance(labels, np.ndarray) or labels.size != images.shape[-1] or not labels.size:
        raise ValueError("it has no labels y, one for each image")
    digits = labels.ravel().astype(np.int64)
    if digits.min() < 1 or digits.max() > 10 or not np.array_equal(digits, labels.ravel()):
        raise ValueError("its labels y are not from 1 to 10")
    return torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1))), torch.from_numpy(digits % 10)
