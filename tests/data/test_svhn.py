"""SVHN: MATLAB files of images and digits, found, downloaded, read or refused."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.io import savemat

from rebuttal.data import SVHN
from rebuttal.errors import ConfigError


def save(folder, change=None):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, n in (("train", 40), ("test", 20)):
        content = {"X": rng.integers(256, size=(32, 32, 3, n), dtype=np.uint8)}
        content["y"] = (1 + np.arange(n, dtype=np.uint8) % 10)[:, None]
        savemat(folder / f"{name}_32x32.mat", (change or (lambda c: c))(content), do_compression=True)
    return folder


def read(root, **settings):
    return SVHN(root=str(root), **{"url": "file:///nowhere", **settings}).read(root)


def test_images_and_digits(tmp_path):
    found = read(save(tmp_path / "a"))
    pixels = np.random.default_rng(0).integers(256, size=(32, 32, 3, 40), dtype=np.uint8)
    assert found.train.shape == (40, 3, 32, 32) and found.train.dtype == torch.uint8
    for n, c, y, x in [(0, 0, 0, 0), (7, 1, 2, 3), (39, 2, 31, 30)]:
        assert found.train[n, c, y, x] == pixels[y, x, c, n]
    assert found.train_labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert found.class_names == tuple("0123456789") and len(found.test) == 20


def test_it_is_downloaded_and_verified(tmp_path):
    mirror = save(tmp_path / "mirror")
    md5 = tuple(hashlib.md5((mirror / f"{name}_32x32.mat").read_bytes()).hexdigest() for name in ("train", "test"))
    found = read(tmp_path / "data", url=mirror.as_uri(), md5=md5)
    assert torch.equal(found.train, read(mirror).train) and found.digest == read(mirror).digest
    with pytest.raises(ConfigError, match=r"train_32x32\.mat of SVHN is not there and could not be downloaded"):
        read(tmp_path / "other", url=mirror.as_uri())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: {"y": c["y"]}, "it has no uint8 images X (32, 32, 3, n)"),
        (lambda c: {"X": c["X"]}, "it has no labels y, one for each image"),
        (lambda c: {**c, "X": c["X"].astype(float)}, "it has no uint8 images X (32, 32, 3, n)"),
        (lambda c: {**c, "X": c["X"][:16]}, "it has no uint8 images X (32, 32, 3, n)"),
        (lambda c: {**c, "X": {"a": 1}}, "it has no uint8 images X (32, 32, 3, n)"),
        (lambda c: {**c, "y": c["y"][:-1]}, "it has no labels y, one for each image"),
        (lambda c: {**c, "y": c["y"] - 1}, "its labels y are not from 1 to 10"),
        (lambda c: {**c, "y": c["y"] + 1}, "its labels y are not from 1 to 10"),
        (lambda c: {**c, "y": c["y"] + 0.5}, "its labels y are not from 1 to 10"),
    ],
)
def test_other_files_are_named(change, said, tmp_path):
    root = save(tmp_path / "a", change)
    with pytest.raises(ConfigError) as caught:
        read(root)
    assert str(caught.value).startswith(f"dataset.root={root}: train_32x32.mat cannot be read ({said}); allowed: ")


def test_damaged_files_are_named(tmp_path):
    root = save(tmp_path / "a")
    path = root / "train_32x32.mat"
    raw = path.read_bytes()
    for content in (b"", b"text", raw[:100], raw[:200], raw[: len(raw) // 2]):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read(root)
        assert "train_32x32.mat cannot be read (" in str(caught.value) and "\n" not in str(caught.value)
