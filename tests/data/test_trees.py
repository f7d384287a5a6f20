"""An archive is read as the folder that its extraction would leave."""

import bz2
import gzip
import hashlib
import io
import lzma
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rebuttal.data import ImageFolder
from rebuttal.data.listing import list_images
from rebuttal.data.trees import archive_tree, folder_tree
from rebuttal.errors import ConfigError
from tests.conftest import add_bytes

PLAIN = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]


def image(number):
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def write(root, names=PLAIN):
    for number, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number))
    return root


def pack(root, archive, mode="w", name=""):
    with tarfile.open(archive, mode) as tar:
        tar.add(root, name)
    return archive


def read(root, tmp_path):
    return ImageFolder(root=str(root)).read(tmp_path / "cache")


def used(archive):
    tree = archive_tree(archive, "dataset.root=x")
    return {
        file.name: Image.open(io.BytesIO(tree.read(file.real))).getpixel((0, 0))[0]
        for file in list_images(tree, "x").files
    }


def same(one, other):
    return (
        one.class_names == other.class_names
        and torch.equal(one.train, other.train)
        and torch.equal(one.train_labels, other.train_labels)
        and torch.equal(one.test, other.test)
        and torch.equal(one.test_labels, other.test_labels)
    )


def member(tar, name, kind, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    tar.addfile(made)


@pytest.fixture
def made(tmp_path):
    """Builds an archive of the plain images and of what a function adds to it."""

    def build(add, names=PLAIN):
        with tarfile.open(tmp_path / "images.tar", "w") as tar:
            for number, name in enumerate(names, 1):
                add_bytes(tar, name, image(number))
            add(tar)
        return tmp_path / "images.tar"

    return build


def line(root, tmp_path):
    with pytest.raises(ConfigError) as caught:
        read(root, tmp_path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"dataset.root={root}: ") and "; allowed: " in message
    return message.removeprefix(f"dataset.root={root}: ")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("name", ["", ".", "./", "images", "/", "/home/me/images"])
def test_an_archive_is_its_folder_whatever_its_compression_and_prefix(tmp_path, mode, name):
    root = write(tmp_path / "images", [*PLAIN, "train/cat/deep/1.png", "train/cat-1/1.png", "train/cat 2/1.png"])
    archive = pack(root, tmp_path / "images.any", mode, name)
    assert same(read(archive, tmp_path), read(root, tmp_path))


def test_names_that_are_absolute_are_taken_below_the_root(made):
    def add(tar):
        add_bytes(tar, "/train/cat/2.png", image(9))
        add_bytes(tar, "//train/./cat//3.png", image(8))

    assert used(made(add)) == {**dict(zip(PLAIN, (1, 2, 3, 4))), "train/cat/2.png": 9, "train/cat/3.png": 8}


@pytest.mark.parametrize("mode", ["w", "w:xz"])
def test_links_in_an_archive_are_those_of_its_folder(tmp_path, mode):
    root = write(tmp_path / "images", [*PLAIN, "pool/owl/1.png", "pool/owl/2.png", "pool/3.png"])
    (root / "pool/abc").write_bytes(image(77))
    (root / "train/owl").symlink_to("../pool/owl")
    (root / "train/fox").mkdir()
    (root / "train/fox/1.png").symlink_to("../../pool/3.png")
    (root / "train/fox/2.png").symlink_to("../../pool/abc")
    (root / "train/fox/3.png").hardlink_to(root / "train/cat/1.png")
    (root / "train/fox/4.png").hardlink_to(root / "pool/abc")
    (root / "train/cat/loop").symlink_to("../..")
    (root / "train/cat/gone.png").symlink_to("gone")
    folder, archive = folder_tree(root), archive_tree(pack(root, tmp_path / "images.tar", mode), "x")
    one, other = list_images(folder, "x"), list_images(archive, "x")
    assert [(f.path, f.label, folder.read(f.real)) for f in one.files] == [
        (f.path, f.label, archive.read(f.real)) for f in other.files
    ]
    assert len(one.files) == 10 and (one.left_out, one.note) == (other.left_out, other.note)
    assert same(read(root, tmp_path), read(tmp_path / "images.tar", tmp_path))


def test_of_members_of_one_name_the_last_counts(made):
    def add(tar):
        member(tar, "train/cat/2.png", tarfile.LNKTYPE, "train/cat/1.png")
        add_bytes(tar, "./train/cat/1.png", image(50))
        member(tar, "train/cat/3.png", tarfile.SYMTYPE, "1.png")
        add_bytes(tar, "train/dog/1.png", image(51))
        add_bytes(tar, "train/dog/1.png", image(52))

    # A hard link is to the file that was there, and 3.png is a second name of 1.png.
    expected = {
        "train/cat/1.png": 50,
        "train/cat/2.png": 1,
        "train/dog/1.png": 52,
        "test/cat/1.png": 3,
        "test/dog/1.png": 4,
    }
    assert used(made(add)) == expected


def test_members_below_a_linked_folder_go_where_it_leads(made):
    def add(tar):
        member(tar, "pool", tarfile.DIRTYPE)
        member(tar, "train/fox", tarfile.SYMTYPE, "../pool")
        add_bytes(tar, "train/fox/1.png", image(60))
        member(tar, "train/fox", tarfile.DIRTYPE)

    assert used(made(add))["train/fox/1.png"] == 60


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_counted(made, kind):
    found = list_images(archive_tree(made(lambda tar: member(tar, "train/cat/2.png", kind)), "x"), "x")
    assert len(found.files) == 4 and found.left_out == {"neither files nor folders": 1}


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../secret.png", "gone.png", "../../..", "", "1.png/x", "2.png"]
)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_out_of_the_archive_lead_nowhere(made, tmp_path, target, kind):
    write(tmp_path, ["secret.png"])
    if kind == tarfile.LNKTYPE and ".." in target:
        with pytest.raises(ConfigError, match=r"leads out of the archive by \.\."):
            used(made(lambda tar: member(tar, "train/cat/2.png", kind, target)))
        return
    found = list_images(archive_tree(made(lambda tar: member(tar, "train/cat/2.png", kind, target)), "x"), "x")
    assert len(found.files) == 4 and found.left_out == {"links that lead nowhere": 1}


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (
            lambda tar: add_bytes(tar, "../train/cat/2.png", b""),
            "its member ../train/cat/2.png leads out of the archive by ..",
        ),
        (lambda tar: add_bytes(tar, "train/x/../cat/2.png", b""), "its member train/x/../cat/2.png leads out"),
        (lambda tar: add_bytes(tar, "train/cat", b""), "its member train/cat is a folder and a file"),
        (
            lambda tar: add_bytes(tar, "train/cat/1.png/2.png", b""),
            "its member train/cat/1.png/2.png cannot be extracted",
        ),
        (lambda tar: member(tar, "train/cat/1.png", tarfile.DIRTYPE), "its member train/cat/1.png cannot be extracted"),
        (lambda tar: add_bytes(tar, "./", b""), "its member ./ has no name"),
    ],
)
def test_members_that_extraction_would_not_put_below_one_folder_are_refused(made, tmp_path, add, said):
    assert line(made(add), tmp_path).startswith(said)


def test_members_through_a_link_out_of_the_archive_are_refused(made, tmp_path):
    (tmp_path / "out").mkdir()

    def add(tar):
        member(tar, "train/fox", tarfile.SYMTYPE, str(tmp_path / "out"))
        add_bytes(tar, "train/fox/1.png", image(1))

    assert line(made(add), tmp_path).startswith(
        "its member train/fox/1.png cannot be extracted: train/fox is no folder"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_sparse_file_is_read_with_its_holes(made, tmp_path):
    content = image(99)
    content += bytes((1 << 20) - len(content))
    (tmp_path / "train/cat").mkdir(parents=True)
    with (tmp_path / "train/cat/9.png").open("wb") as file:
        file.write(content.rstrip(b"\0"))
        file.truncate(1 << 20)
    archive = made(lambda tar: None)
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("no GNU tar")
    for form in ("gnu", "pax"):
        subprocess.run([tar, "--append", "-S", f"--format={form}", "-f", archive, "-C", tmp_path, "train"], check=True)
        assert used(archive)["train/cat/9.png"] == 99


def test_gnu_tar_s_archive_of_a_folder_is_that_folder(tmp_path):
    tar = shutil.which("tar")
    if tar is None:
        pytest.skip("no GNU tar")
    root = write(tmp_path / "images", [*PLAIN, f"train/cat/{'long name ' * 20}/1.png", "train/cat/é.png"])
    (root / "train/owl").symlink_to("cat")
    (root / "train/cat/2.png").hardlink_to(root / "test/cat/1.png")
    for form in ("gnu", "pax", "posix"):
        subprocess.run([tar, f"--format={form}", "-czf", tmp_path / "a.tgz", "-C", root, "."], check=True)
        assert line(tmp_path / "a.tgz", tmp_path) == line(root, tmp_path)
    (root / "train/owl").unlink()
    subprocess.run([tar, "-cJPf", tmp_path / "a.txz", root], check=True)
    assert same(read(tmp_path / "a.txz", tmp_path), read(root, tmp_path))


# Damaged and other files


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_that_is_cut_off_anywhere_is_refused(tmp_path, mode):
    raw = pack(write(tmp_path / "images"), tmp_path / "whole", mode).read_bytes()
    # Of a plain tar only the filling after the two empty blocks at its end may be missing.
    end = len(raw.rstrip(b"\0")) if mode == "w" else len(raw)
    lengths = sorted({*range(0, end, 512), *random.Random(0).sample(range(end), 60), end - 1})
    for length in lengths:
        (tmp_path / "cut.tar").write_bytes(raw[:length])
        assert "not a readable tar archive" in line(tmp_path / "cut.tar", tmp_path), length


def test_a_damaged_header_is_no_end(tmp_path):
    raw = bytearray(pack(write(tmp_path / "images"), tmp_path / "whole").read_bytes())
    with tarfile.open(tmp_path / "whole") as tar:
        offsets = [m.offset for m in tar]
    for offset in offsets:
        (tmp_path / "bad.tar").write_bytes(raw[:offset] + b"?" + raw[offset + 1 :])
        assert "not a readable tar archive" in line(tmp_path / "bad.tar", tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_damaged_bytes_give_the_images_or_one_line(tmp_path, mode):
    raw = pack(write(tmp_path / "images"), tmp_path / "whole", mode).read_bytes()
    whole, chance = read(tmp_path / "images", tmp_path), random.Random(mode)
    for _ in range(60):
        damaged = bytearray(raw)
        for _ in range(chance.choice([1, 5])):
            damaged[chance.randrange(len(raw))] = chance.randrange(256)
        (tmp_path / "bad.tar").write_bytes(damaged)
        try:
            found = read(tmp_path / "bad.tar", tmp_path)
            assert mode == "w" or same(found, whole)  # a plain tar has no checksum of what is in its files
        except ConfigError as error:
            assert "\n" not in str(error) and " at 0x" not in str(error)


def zipped(root, path):
    with zipfile.ZipFile(path, "w") as file:
        for name in PLAIN:
            file.write(root / name, name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "it is a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(600), "it is a RAR archive"),
        (gzip.compress(b"no tar" * 200), "it is compressed with gzip, but no tar that can be read"),
        (bz2.compress(b"no tar" * 200), "it is compressed with bzip2, but no tar that can be read"),
        (lzma.compress(b"no tar" * 200), "it is compressed with xz, but no tar that can be read"),
        (image(1), "it is one image"),
        (b"", "it is an empty file"),
        (b"text", "not a readable tar archive"),
        (b"x" * 10_000, "not a readable tar archive"),
    ],
    ids=["7z", "rar", "gzip", "bzip2", "xz", "image", "empty", "text", "long"],
)
def test_a_file_of_another_kind_is_named_as_that(tmp_path, content, said):
    (tmp_path / "images.tar").write_bytes(content)
    found = line(tmp_path / "images.tar", tmp_path)
    assert said in found and "allowed: a folder or tar (also .tar.gz, .tar.bz2, .tar.xz)" in found


def test_a_zip_archive_is_named_as_that(tmp_path):
    zipped(write(tmp_path / "images"), tmp_path / "images.zip")
    assert line(tmp_path / "images.zip", tmp_path).startswith(
        "it is a zip archive, not a readable tar archive; allowed: "
    )


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd")
def test_zstd_is_read_where_python_reads_it(tmp_path):
    root = write(tmp_path / "images")
    subprocess.run(["zstd", "-q", pack(root, tmp_path / "images.tar")], check=True)
    if sys.version_info >= (3, 14):
        assert same(read(tmp_path / "images.tar.zst", tmp_path), read(root, tmp_path))
    else:
        assert line(tmp_path / "images.tar.zst", tmp_path).startswith(
            "it is compressed with zstd, which this Python cannot"
        )


def test_zstd_is_named(tmp_path):
    (tmp_path / "images.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert line(tmp_path / "images.tar.zst", tmp_path).startswith("it is compressed with zstd")


def test_reading_writes_nothing_but_the_cache(tmp_path):
    archive = pack(write(tmp_path / "images"), tmp_path / "images.tar")
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in tmp_path.rglob("*") if p.is_file()}
    here = set(Path.cwd().iterdir())
    read(archive, tmp_path)
    after = {p: hashlib.sha256(p.read_bytes()).digest() for p in tmp_path.rglob("*") if p.is_file()}
    assert {p: d for p, d in after.items() if not p.is_relative_to(tmp_path / "cache")} == before
    assert set(Path.cwd().iterdir()) == here
