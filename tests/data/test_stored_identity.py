"""Images that were read before images below links, in deeper folders or of other modes were, keep their identity."""

import base64
import hashlib
import io
import struct
import tarfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from rebuttal.data import ImageFolder
from rebuttal.errors import ConfigError
from rebuttal.store.entries import Artifact, Store
from rebuttal.store.identity import fingerprint

JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6j"
    "q62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKT/wAARCAAIAAgDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAXEAEAAwAAAAAAAAAAAAAAAAAAAgVi"
    "/8QAFAEBAAAAAAAAAAAAAAAAAAAAAP/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AJYVOQAf/9k="
)  # 8×8, colour


def png(number):
    """A colour image of 4×4 whose bytes depend on no library: its pixels are not compressed."""
    pixels = b"".join(b"\0" + bytes((number * 37 + 12 * y + i) % 256 for i in range(12)) for y in range(4))
    stored = b"\x78\x01\x01" + struct.pack("<HH", len(pixels), len(pixels) ^ 0xFFFF) + pixels
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)),
        (b"IDAT", stored + struct.pack(">I", zlib.adler32(pixels))),
        (b"IEND", b""),
    ]
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


FILES = {
    f"{split}/{name}/{i:02}.{suffix}": png(10 * k + i) if suffix == "png" else JPEG
    for k, (split, name, count, suffix) in enumerate(
        [
            ("train", "ant", 3, "png"),
            ("train", "bee", 2, "jpg"),
            ("train", "bee", 1, "png"),
            ("train", "cat", 4, "png"),
            ("test", "ant", 2, "png"),
            ("test", "cat", 1, "jpg"),
        ]
    )
    for i in range(count)
}


def folder(root):
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def archive(path, prefix):
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(FILES):
            member = tarfile.TarInfo(prefix + name)
            member.size = len(FILES[name])
            tar.addfile(member, io.BytesIO(FILES[name]))
    return path


SETTINGS = {"as they are": {"size": (4, 4)}, "grey": {"size": (4, 4), "channels": 1}}


@pytest.mark.parametrize(
    ("form", "settings", "expected"),
    [
        # Computed by the code of before.
        ("folder", "as they are", "4f9bbbc78ebf8108e13ec1cd72243757"),
        ("folder", "grey", "d2934378075cf60414936bef2bfa9aa2"),
        ("", "as they are", "c59f11b8b2718bc618438f2a185627a8"),
        ("", "grey", "8eccb5584445935ca167c588cd93ebfc"),
        ("./", "as they are", "91782f2785e09303395f68e32d5189c0"),
        ("./", "grey", "6b4f9ac3c5d0cc9f98eea5242231417d"),
        ("sets/a/", "as they are", "ce0c815228720f85caa2121ce073a2e8"),
        ("sets/a/", "grey", "bdfef4195a8a7a8af00e14dfbc4c4b93"),
    ],
)
def test_the_identity_is_that_of_before(form, settings, expected, tmp_path):
    root = folder(tmp_path / "images") if form == "folder" else archive(tmp_path / "images.tar", form)
    source = ImageFolder(root=str(root), **SETTINGS[settings]).open(tmp_path)
    assert fingerprint([source.identity("train"), source.identity("test")]) == expected
    assert ImageFolder(root=str(root), size=(4, 4)).read(tmp_path).train[2].permute(1, 2, 0).numpy().tobytes() == bytes(
        (2 * 37 + 12 * y + i) % 256 for y in range(4) for i in range(12)
    )
    assert source.examples("train", 0).labels.bincount().tolist() == [3, 3, 4]


def identity(root, cache, **settings):
    return ImageFolder(root=str(root), size=(4, 4), **settings).read(cache).digest


def test_the_identity_of_an_archive_is_its_checksum_as_long_as_it_means_what_it_meant(tmp_path):
    path = archive(tmp_path / "images.tar", "")
    assert identity(path, tmp_path) == f"{hashlib.sha256(path.read_bytes()).hexdigest()}:(4, 4):3"


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "Thumbs.db",
        "readme.txt",
        "train/.ipynb_checkpoints/1.png",
        "train/cat/@eaDir/1.png",
        "train/cat/.1.png",
        "preview.png",
    ],
)
def test_files_that_are_not_used_do_not_change_a_folder_s_identity(name, tmp_path):
    root = folder(tmp_path / "images")
    before = identity(root, tmp_path)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(png(99))
    (root / "train/empty").mkdir()
    assert identity(root, tmp_path) == before


def deeper(root):
    (root / "train/cat/deep").mkdir()
    (root / "train/cat/deep/1.png").write_bytes(png(98))


def hidden_class(root):
    (root / "train/.trash").mkdir()
    (root / "train/.trash/1.png").write_bytes(png(98))


def checkpoints(root):
    (root / "test/.ipynb_checkpoints").mkdir()
    (root / "test/.ipynb_checkpoints/1.png").write_bytes(png(98))
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "train/.ipynb_checkpoints/2.png").write_bytes(png(97))


def hard_link(root):
    (root / "train/cat/zz.png").hardlink_to(root / "train/cat/00.png")


def soft_link(root):
    (root / "train/cat/zz.png").symlink_to("../../pool.png")
    (root / "pool.png").write_bytes(png(98))


def other_order(root):
    (root / "train/ant-2").mkdir()
    (root / "train/ant-2/1.png").write_bytes(png(98))


def transparent(root):
    image = Image.open(root / "train/cat/00.png")
    image.putalpha(Image.new("L", (4, 4), 100))
    image.save(root / "train/cat/00.png")


def deep_grey(root):
    Image.fromarray((np.arange(16, dtype=np.uint16) * 4000).reshape(4, 4)).save(root / "train/cat/00.png")


def turned(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "train/cat/00.png").save(root / "train/cat/00.png", exif=exif)


@pytest.mark.parametrize(
    "change",
    [deeper, hidden_class, checkpoints, hard_link, soft_link, other_order, transparent, deep_grey, turned],
)
def test_an_archive_that_means_other_images_than_it_meant_has_another_identity(change, tmp_path):
    root = folder(tmp_path / "images")
    change(root)
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(root, "")
    found = identity(tmp_path / "images.tar", tmp_path)
    assert found.endswith(":(4, 4):3:2")
    assert hashlib.sha256((tmp_path / "images.tar").read_bytes()).hexdigest() not in found


@pytest.mark.parametrize("change", [deeper, transparent, deep_grey, turned])
def test_a_folder_whose_files_mean_other_images_has_another_identity(change, tmp_path):
    """With the same names and bytes, of which its identity was made."""
    root = folder(tmp_path / "images")
    change(root)
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    assert identity(root, tmp_path) == f"{digest.hexdigest()}:(4, 4):3:2"


def test_images_that_were_decoded_by_other_rules_are_decoded_again(tmp_path):
    path = archive(tmp_path / "images.tar", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    stale = {
        f"{split}{kind}": torch.zeros(2, dtype=torch.int64) for split in ("train", "test") for kind in ("", "_labels")
    }
    old = {"digest": digest, "size": [4, 4], "channels": 3, "version": 1}
    Store(tmp_path).get_or_make("images", old, lambda: Artifact({"class_names": ["a", "b"]}, stale))
    assert len(ImageFolder(root=str(path), size=(4, 4)).read(tmp_path).train) == 10


def test_files_that_change_while_they_are_read_are_not_kept(tmp_path, monkeypatch):
    root = folder(tmp_path / "images")
    first = ImageFolder._content_digest

    def then_changed(*args):
        found = first(*args)
        (root / "train/cat/00.png").write_bytes(png(77))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "_content_digest", then_changed)
        with pytest.raises(ConfigError, match="were changed while they were read"):
            identity(root, tmp_path)
    assert ImageFolder(root=str(root), size=(4, 4)).read(tmp_path).train[6, 0, 0, 0] == 77 * 37 % 256
