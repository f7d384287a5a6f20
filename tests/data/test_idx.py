"""MNIST and Fashion-MNIST: idx files, plain and compressed, found, downloaded, read or refused."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from rebuttal.data import MNIST, Arrays, FashionMNIST
from rebuttal.errors import ConfigError

NOWHERE = "file:///nowhere"
NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array, code=8):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    shapes = [(120, 9, 8), (120,), (30, 9, 8), (30,)]
    return [rng.integers(256 if len(s) == 3 else 10, size=s, dtype=np.uint8) for s in shapes]


def save(folder, arrays, names=NAMES, compress=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(names, arrays):
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


def md5s(folder):
    return tuple(hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES)


def read(root, kind=MNIST, url=NOWHERE, **settings):
    return kind(root=str(root), url=url, **settings).read(root)


def test_the_bytes_of_an_idx_file_are_images_and_labels(arrays, tmp_path):
    found = read(save(tmp_path, arrays))
    assert found.train.shape == (120, 1, 9, 8) and found.train.dtype == torch.uint8
    raw = gzip.decompress((tmp_path / f"{NAMES[0]}.gz").read_bytes())
    for n, y, x in [(0, 0, 0), (7, 3, 5), (119, 8, 7)]:
        assert found.train[n, 0, y, x] == raw[16 + n * 72 + y * 8 + x]
    assert found.train_labels.tolist() == list(gzip.decompress((tmp_path / f"{NAMES[1]}.gz").read_bytes())[8:])
    assert found.test.shape == (30, 1, 9, 8) and found.class_names == tuple("0123456789")


def test_every_form_gives_equal_tensors_and_one_identity(arrays, tmp_path):
    dots = [name.replace("-idx", ".idx") for name in NAMES]
    np.savez(
        tmp_path / "same.npz", x_train=arrays[0], y_train=arrays[1], x_test=arrays[2], y_test=arrays[3].astype(np.int32)
    )
    found = [
        read(save(tmp_path / "gz", arrays)),
        read(save(tmp_path / "plain", arrays, compress=False)),
        read(save(tmp_path / "dots", arrays, dots, compress=False)),
        read(save(tmp_path / "torchvision/MNIST/raw", arrays, compress=False).parent.parent),
        read(save(tmp_path / "torchvision/FashionMNIST/raw", arrays).parent.parent, FashionMNIST),
        Arrays(path=str(tmp_path / "same.npz")).read(tmp_path),
    ]
    for other in found[1:]:
        assert torch.equal(found[0].train, other.train) and torch.equal(found[0].test_labels, other.test_labels)
    assert len({other.digest for other in found}) == 1
    changed = [array.copy() for array in arrays]
    changed[2][4, 5, 6] ^= 1
    assert read(save(tmp_path / "changed", changed)).digest != found[0].digest


def test_missing_files_are_downloaded_and_verified(arrays, tmp_path):
    mirror = save(tmp_path / "mirror", arrays)
    settings = {"url": mirror.as_uri() + "/", "md5": md5s(mirror)}
    expected = read(mirror)
    for kind in (MNIST, FashionMNIST):
        root = tmp_path / kind.__name__
        assert torch.equal(read(root, kind, **settings).train, expected.train)
        assert torch.equal(read(root, kind, md5=settings["md5"]).train, expected.train)  # without a network
    (root / f"{NAMES[2]}.gz").unlink()
    assert torch.equal(read(root, **settings).test, expected.test)
    with pytest.raises(ConfigError, match="could not be downloaded"):
        read(tmp_path / "wrong", url=settings["url"], md5=("0" * 32,) * 4)
    assert not list((tmp_path / "wrong").glob("*gz*")) and not list((tmp_path / "wrong").glob(".*"))


def refusal(root, **settings):
    with pytest.raises(ConfigError) as caught:
        read(root, **settings)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"dataset.root={root}: ") and "; allowed: " in message
    return message.removeprefix(f"dataset.root={root}: ").partition("; allowed: ")[0]


def test_without_a_network_what_is_missing_is_named(arrays, tmp_path):
    said = refusal(tmp_path / "none")
    assert said.startswith("train-images-idx3-ubyte.gz of MNIST is not there and could not be downloaded")
    save(tmp_path / "some", arrays[:3])
    assert (
        refusal(tmp_path / "some") == "t10k-labels-idx1-ubyte.gz is missing, and the others are not the original files"
    )
    assert refusal(tmp_path / f"some/{NAMES[0]}.gz") == "is no folder"
    with pytest.raises(ConfigError, match=r"dataset\.url=www\.org/train-images-idx3-ubyte\.gz: is no URL"):
        read(tmp_path / "none", url="www.org")


@pytest.mark.parametrize(
    ("number", "content", "said"),
    [
        (0, b"", "cannot be read (it is no idx file)"),
        (0, b"\x00\x00\x08", "cannot be read (it is no idx file)"),
        (0, b"PK\x03\x04" + bytes(20), "cannot be read (it is no idx file)"),
        (0, idx(np.zeros((2, 9, 8), np.uint8))[:-1], "cannot be read (it has 143 bytes for 144 values)"),
        (0, idx(np.zeros((2, 9, 8), np.uint8)) + b"x", "cannot be read (it has 145 bytes for 144 values)"),
        (0, struct.pack(">HBBIII", 0, 8, 3, *[2**32 - 1] * 3), "cannot be read (it has 0 bytes for 79,228,162,458,"),
        (0, idx(np.zeros((2, 9, 8), ">f4"), 0x0D), "cannot be read (it has values of type 0x0d in 3 dimensions, not"),
        (0, idx(np.zeros(9, np.uint8)) + bytes(20), "cannot be read (it has values of type 0x08 in 1 dimensions, not"),
        (
            0,
            gzip.compress(idx(np.zeros((2, 9, 8), np.uint8)), mtime=0)[:-9],
            "cannot be read (Compressed file ended before",
        ),
        (0, idx(np.zeros((119, 9, 8), np.uint8)), "has 120 labels for 119 images"),
        (1, idx(np.full(120, 10, np.uint8)), "has labels beyond the 10 classes, or none"),
        (2, idx(np.zeros((30, 8, 9), np.uint8)), "has images of another size than those for training"),
        (3, idx(np.zeros(0, np.uint8)), "has 0 labels for 30 images"),
    ],
)
def test_other_files_are_named(number, content, said, arrays, tmp_path):
    save(tmp_path, arrays)
    (tmp_path / f"{NAMES[number]}.gz").write_bytes(content)
    found = refusal(tmp_path)
    assert found.split(" ", 1)[1].startswith(said) and found.startswith(tuple(NAMES))
