"""Images that were read before images below links, in deeper folders or of other modes were, keep their identity."""

import base64
import io
import struct
import tarfile
import zlib

import pytest

from rebuttal.data import ImageFolder
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
