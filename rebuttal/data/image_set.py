"""Finite image datasets: subsets, class subsets, pixel corruptions, disjoint splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from rebuttal.config import checked
from rebuttal.data.dataset import Source
from rebuttal.data.examples import Examples, Split
from rebuttal.data.pixels import Pixels, corrupt_pixels
from rebuttal.errors import ConfigError
from rebuttal.seeds import generator
from rebuttal.store.identity import describe, is_ours


@dataclass(frozen=True)
class Images:
    """All examples of a dataset: images (n, C, H, W) or vectors (n, d), uint8 pixels or float32; int64 labels (n,); and
    a digest of them or of the bytes that they were decoded from."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    digest: str


def digest_of_tensors(*tensors: Tensor) -> str:
    """Return a digest of tensors: equal ones have one identity, whatever files they come from."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().numpy().data)
    return f"sha256:{digest.hexdigest()}"


@checked
class ImageSet:
    """The settings that finite image datasets share. A size of None takes all available images.

    The student's images are the training images that the train split does not use: with `train_size` None there are
    none. `subset`: how a smaller part is chosen; `stratified` keeps class shares equal to within one example, `random`
    ignores classes; in both cases smaller parts are subsets of larger ones. `classes` = k keeps the first k classes,
    None all. `pixels`: see `rebuttal.data.pixels`.
    """

    train_size: PositiveInt | None = None
    student_size: PositiveInt | None = None
    test_size: PositiveInt | None = None
    subset: Literal["stratified", "random"] = "stratified"
    classes: Annotated[int, Field(ge=2)] | None = None
    pixels: Pixels = "original"

    def open(self, cache: Path) -> Source:
        return ImageSource(self, self.read(cache))

    def read(self, cache: Path) -> Images:
        """Read all images. Raises `ConfigError` if they are not available."""
        raise NotImplementedError


class ImageSource:
    """An opened `ImageSet`."""

    def __init__(self, settings: ImageSet, images: Images):
        available = len(images.class_names)
        if settings.classes is not None and settings.classes > available:
            raise ConfigError(f"dataset.classes={settings.classes}: allowed: 2 to {available}, or null for all")
        self.settings = settings
        self.digest = images.digest
        self.classes = settings.classes or available
        self.shape = tuple(images.train.shape[1:])
        self.tabular = len(self.shape) == 1 and images.train.is_floating_point()  # all pixels have one unit
        self._train = _of_first_classes(images.train, images.train_labels, self.classes)
        self._test = _of_first_classes(images.test, images.test_labels, self.classes)
        self._size("train")
        self._size("test")

    def examples(self, split: Split, seed: int) -> Examples:
        pool = self._test if split == "test" else self._train
        start = self._size("train") if split == "student" else 0
        size = self._size(split)
        order = arrangement(pool.labels.numpy(), self.settings.subset, generator(seed, "subset", _pool(split)))
        chosen = torch.from_numpy(order[start : start + size])
        inputs = corrupt_pixels(pool.inputs[chosen], self.settings.pixels, split, seed)
        return Examples(inputs, pool.labels[chosen])

    def identity(self, split: Split) -> dict[str, Any]:
        start = self._size("train") if split == "student" else 0
        return {
            "kind": "images",
            "digest": self.digest,
            "subset": self.settings.subset,
            "classes": self.classes,
            "pixels": describe(self.settings.pixels),
            "split": split,
            "start": start,
            "size": self._size(split),
            **_of_a_user(self.settings),
        }

    def _size(self, split: Split) -> int:
        """Return the size of a split. Raises `ConfigError` if it is empty or larger than the available images."""
        taken = self._size("train") if split == "student" else 0
        available = len(self._test if split == "test" else self._train) - taken
        wanted = getattr(self.settings, f"{split}_size")
        if wanted is None and available == 0:
            train_size = "null" if self.settings.train_size is None else self.settings.train_size
            raise ConfigError(
                f"dataset.{split}_size=null: no images are left for this split; the student's images are those that "
                f"dataset.train_size={train_size} leaves of {len(self._train)} training images"
            )
        if wanted is not None and wanted > available:
            allowed = f"allowed: 1 to {available}, or null"
            raise ConfigError(f"dataset.{split}_size={wanted}: only {available} examples are available; {allowed}")
        return wanted or available


def _of_a_user(settings: ImageSet) -> dict[str, Any]:
    """What else decides the images of a class of the user's: its code, which may do more than read the bytes of the
    digest, and the settings that it adds, but for the place of those bytes."""
    if is_ours(type(settings)):
        return {}
    left_out = {*(field.name for field in fields(ImageSet)), "root", "path"}
    return {"read_by": {name: value for name, value in describe(settings).items() if name not in left_out}}


def arrangement(labels: np.ndarray, subset: str, rng: np.random.Generator) -> np.ndarray:
    """Return an order of all examples, (n,), every prefix of which is a fair subset of its size.

    `stratified`: the k-th of the n_c examples of a class (in random order) is placed at the fraction (k + ½)/n_c of
    the order, so that each prefix contains the classes in proportion; `random`: a random permutation.
    """
    order = rng.permutation(len(labels))
    if subset == "random":
        return order
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return order[np.argsort(position[order], kind="stable")]


def _of_first_classes(images: Tensor, labels: Tensor, classes: int) -> Examples:
    kept = labels < classes
    return Examples(images, labels) if bool(kept.all()) else Examples(images[kept], labels[kept])


def _pool(split: Split) -> str:
    return "test" if split == "test" else "train"
