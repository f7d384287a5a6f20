"""Every file below a root is used, or counted by the reason why not; an archive is read as its folder is."""

import io
import logging
import os
import socket
import tarfile
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from rebuttal.data import ImageFolder
from rebuttal.data.listing import list_images
from rebuttal.data.trees import archive_tree, folder_tree
from rebuttal.errors import ConfigError

PLAIN = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]


def image(number, size=(4, 4)):
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), number, dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def write(root, names, first=1):
    """Write a file a name: an image of one grey, numbered from `first`, or text if the name is not of an image."""
    for number, name in enumerate(names, first):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number) if path.suffix.lower() in (".png", ".bmp") else b"text")
    return root


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def listed(root):
    return list_images(folder_tree(root) if root.is_dir() else archive_tree(root, "dataset.root=x"), "dataset.root=x")


def used(root):
    return {file.name: file.label for file in listed(root).files}


def greys(root, tmp_path):
    """The grey of each image, by split and class name."""
    images = ImageFolder(root=str(root)).read(tmp_path / "cache")
    return {
        split: [(images.class_names[k], int(x[0, 0, 0])) for x, k in zip(inputs, labels.tolist(), strict=True)]
        for split, inputs, labels in (
            ("train", images.train, images.train_labels),
            ("test", images.test, images.test_labels),
        )
    }


def line(root, tmp_path):
    with pytest.raises(ConfigError) as caught:
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"dataset.root={root}: ") and "allowed: " in message
    return message.removeprefix(f"dataset.root={root}: ")


def tar(root, archive, **options):
    with tarfile.open(archive, "w", **options) as file:
        file.add(root, "", recursive=True)
    return archive


# Hidden and system files

SYSTEM = [
    ".ipynb_checkpoints/1-checkpoint.png",
    "@eaDir/1.png",
    "@eaDir/1.png/SYNOPHOTO_THUMB.png",
    "__MACOSX/1.png",
    ".Trash-1000/files/1.png",
    "$RECYCLE.BIN/1.png",
    "#recycle/1.png",
    ".git/1.png",
    "._1.png",
    ".1.png",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "THUMBS.DB",
]


@pytest.mark.parametrize("where", ["", "train/", "test/", "train/cat/", "train/cat/deep/", "test/dog/"])
def test_hidden_and_system_names_are_neither_classes_nor_images(tmp_path, where):
    for name in SYSTEM:
        root = write(tmp_path / name.replace("/", "_"), [*PLAIN, where + name])
        found = listed(root)
        assert {file.name for file in found.files} == set(PLAIN)
        assert found.left_out == {"hidden or of the system": 1}
        assert found.note == f"files that are not used: 1 hidden or of the system ({where}{name})"
    assert greys(root, tmp_path)["train"] == [("cat", 1), ("dog", 2)]


# Depth


def test_images_in_folders_below_a_class_belong_to_it(tmp_path):
    root = write(
        tmp_path / "images", [*PLAIN, "train/cat/2020/may/1.png", "test/dog/a/b/c/d/e.png", "train/cat/test/x.png"]
    )
    found = used(root)
    assert found["train/cat/2020/may/1.png"] == ("train", "cat")
    assert found["test/dog/a/b/c/d/e.png"] == ("test", "dog")
    assert found["train/cat/test/x.png"] == ("train", "cat")
    assert greys(root, tmp_path)["train"] == [("cat", 1), ("cat", 5), ("cat", 7), ("dog", 2)]


@pytest.mark.parametrize("above", ["", "sets/animals/", "test/", "train/", "train/test/"])
def test_the_data_set_may_lie_deeper_in_folders_of_any_name(tmp_path, above):
    root = write(tmp_path / "images", [above + name for name in PLAIN])
    assert used(root) == {above + name: tuple(name.split("/")[:2]) for name in PLAIN}


def test_classes_may_have_the_names_of_the_splits(tmp_path):
    names = [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("train", "test", "bus")]
    assert used(write(tmp_path / "images", names)) == {name: tuple(name.split("/")[:2]) for name in names}


# What is left out, by reason


def test_every_reason_is_counted_and_said_in_one_line(tmp_path, caplog):
    root = write(
        tmp_path / "images", [*PLAIN, "readme.txt", "train/cat/1.xml", "preview.png", "train/2.png", ".DS_Store"]
    )
    link(root / "train/cat/gone.png", "nowhere.png")
    link(root / "train/cat/round.png", "round.png")
    link(root / "train/cat/again.png", "1.png")
    link(root / "train/cat/up", "..")
    os.mkfifo(root / "train/cat/pipe.png")
    (root / "train/fox").mkdir()
    (root / "test/fox/deeper").mkdir(parents=True)
    write(root, ["train/owl/notes.txt"])
    found = listed(root)
    assert found.left_out == {
        "hidden or of the system": 1,
        "without an image's suffix": 3,
        "outside of a class folder": 2,
        "links that lead nowhere": 2,
        "neither files nor folders": 1,
        "further names of images that are used": 1,
    }
    with caplog.at_level(logging.WARNING):
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    assert [record.getMessage() for record in caplog.records] == [
        f"dataset.root={root}: files that are not used: "
        "1 further names of images that are used (train/cat/again.png), 1 hidden or of the system (.DS_Store), "
        "2 links that lead nowhere (train/cat/gone.png, train/cat/round.png), "
        "1 neither files nor folders (train/cat/pipe.png), 2 outside of a class folder (preview.png, train/2.png), "
        "3 without an image's suffix (readme.txt, train/cat/1.xml, train/owl/notes.txt); "
        "class folders without an image: test/fox, train/fox, train/owl; "
        "links to a folder above them: train/cat/up"
    ]


def test_nothing_is_said_of_a_folder_that_is_used_whole(tmp_path, caplog):
    for root in (write(tmp_path / "images", PLAIN), tar(tmp_path / "images", tmp_path / "images.tar")):
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    assert not caplog.records


def test_the_note_on_an_archive_is_said_each_time(tmp_path, caplog):
    root = tar(write(tmp_path / "images", [*PLAIN, "readme.txt"]), tmp_path / "images.tar")
    for _ in range(2):
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    assert len(caplog.records) == 2 and "1 without an image's suffix (readme.txt)" in caplog.text


def test_names_with_strange_signs_are_said_in_one_line(tmp_path, caplog):
    root = write(tmp_path / "images", [*PLAIN, "train/cat/a\nb.txt"])
    (root / os.fsdecode(b"train/cat/\xff.txt")).write_text("")
    (root / os.fsdecode(b"train/cat/\xff.png")).write_bytes(image(9))
    ImageFolder(root=str(root)).read(tmp_path / "cache")
    assert r"(train/cat/a\nb.txt, train/cat/\udcff.txt)" in caplog.text
    assert used(tar(root, tmp_path / "images.tar")) == used(root)


def test_an_empty_class_shifts_nothing(tmp_path):
    root = write(tmp_path / "images", PLAIN)
    before = greys(root, tmp_path)
    (root / "train/bee").mkdir()
    assert greys(root, tmp_path) == before


# Links


def test_links_to_folders_and_files_elsewhere_are_followed(tmp_path):
    pool = write(tmp_path / "pool", ["cats/1.png", "cats/old/2.png", "dogs/1.png", "mixed/abc", "mixed/def"])
    (pool / "mixed/abc").write_bytes(image(7))
    root = write(tmp_path / "images", ["test/cat/1.png", "test/dog/1.png"], first=20)
    link(root / "train/cat", pool / "cats")
    link(root / "train/dog", "../../pool/dogs")
    link(root / "train/fox/1.png", pool / "mixed/abc")
    link(tmp_path / "link", root)
    expected = [("cat", 1), ("cat", 2), ("dog", 3), ("fox", 7)]
    assert greys(root, tmp_path)["train"] == greys(tmp_path / "link", tmp_path)["train"] == expected
    other = tmp_path / "other"
    link(other / "train", root / "train")
    link(other / "test", root / "test")
    assert greys(other, tmp_path) == greys(root, tmp_path)


@pytest.mark.parametrize("pool", ["pool", ".pool", "train/.pool", "pool/deep/er"])
def test_links_to_what_lies_in_no_class_give_it_one(tmp_path, pool):
    root = write(tmp_path / "images", [*PLAIN, f"{pool}/2.png", f"{pool}/3.png", f"{pool}/owl/4.png"])
    link(root / "train/cat/2.png", root / pool / "2.png")
    link(root / "train/owl", root / pool / "owl")
    found = listed(root)
    names = {file.name: file.label for file in found.files}
    assert names["train/cat/2.png"] == ("train", "cat") and names["train/owl/4.png"] == ("train", "owl")
    assert len(names) == 6 and sum(found.left_out.values()) == 2  # pool/2.png, which is used, and pool/3.png


def test_a_pool_may_hold_more_than_what_is_linked(tmp_path):
    root = write(tmp_path / "images", [*PLAIN, "pool/owl/1.png", "pool/2.png"])
    link(root / "train/owl", "../pool/owl")
    assert set(used(root)) == {*PLAIN, "train/owl/1.png"}
    assert listed(root).left_out == {"outside of a class folder": 1}


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "../../../..", "/", "deep/.."])
def test_a_link_to_a_folder_above_it_is_not_followed(tmp_path, target):
    root = write(tmp_path / "sub/images", [*PLAIN, "train/cat/deep/1.png"])
    link(root / "train/cat/loop", target)
    assert set(used(root)) == {*PLAIN, "train/cat/deep/1.png"}


def test_links_between_two_folders_elsewhere_end(tmp_path):
    write(tmp_path, ["a/1.png", "b/1.png"], first=8)
    link(tmp_path / "a/b", "../b")
    link(tmp_path / "b/a", "../a")
    root = write(tmp_path / "images", PLAIN)
    link(root / "train/cat/a", tmp_path / "a")
    assert set(used(root)) == {*PLAIN, "train/cat/a/1.png", "train/cat/a/b/1.png"}


def test_many_links_among_many_folders_take_linear_time(tmp_path):
    root = write(tmp_path / "images", PLAIN)
    folders = [tmp_path / f"elsewhere/{i}" for i in range(60)]
    for folder in folders:
        write(folder, ["1.png"])
        for j in range(60):
            link(folder / f"to{j}", folders[j])
    link(root / "train/cat/all", folders[0])
    assert len(used(root)) == len(PLAIN) + 60


@pytest.mark.parametrize(
    ("name", "target", "said"),
    [
        ("train/fox", "cat", "train/fox/1.png and train/cat/1.png"),
        ("train/fox/1.png", "../cat/1.png", "train/fox/1.png and train/cat/1.png"),
        ("test/cat/2.png", "../../train/cat/1.png", "test/cat/2.png and train/cat/1.png"),
        ("train/cat/more", "../dog", "train/cat/more/1.png and train/dog/1.png"),
    ],
)
def test_one_image_with_two_labels_is_refused(tmp_path, name, target, said):
    root = write(tmp_path / "images", PLAIN)
    link(root / name, target)
    assert line(root, tmp_path).startswith(f"{said} are the same by links, and would have two labels; allowed: ")


def test_one_folder_elsewhere_for_two_classes_or_splits_is_refused(tmp_path):
    write(tmp_path, ["pool/1.png", "set/cat/1.png", "set/dog/1.png"])
    root = write(tmp_path / "images", PLAIN)
    link(root / "train/ant", tmp_path / "pool")
    link(root / "train/bee", tmp_path / "pool")
    assert line(root, tmp_path).startswith("train/bee and train/ant are the same by links")
    link(tmp_path / "both/train", tmp_path / "set")
    link(tmp_path / "both/test", tmp_path / "set")
    assert line(tmp_path / "both", tmp_path).startswith("train and test are the same by links")


def test_hard_links_are_files_like_any_other(tmp_path):
    root = write(tmp_path / "images", PLAIN)
    (root / "train/cat/2.png").hardlink_to(root / "train/cat/1.png")
    assert greys(root, tmp_path)["train"] == [("cat", 1), ("cat", 1), ("dog", 2)]


# What cannot be meant


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (["a/train/cat/1.png", "a/test/cat/1.png"], "train/ and a/train/ are two data sets"),
        (["a/train/cat/1.png"], "train/ and a/train/ are two data sets"),
        (["masks/train/1.png"], "train/ and masks/train/ are two data sets"),
        (["cat/1.png"], "cat/ holds images beside train/ and test/"),
        (["fox/1.png", "owl/2.png"], "fox/ holds images beside train/ and test/"),
    ],
)
def test_two_data_sets_below_one_root_are_refused(tmp_path, others, said):
    root = write(tmp_path / "images", [*PLAIN, *others])
    assert line(root, tmp_path).startswith(f"{said}; allowed: ")
    assert line(tar(root, tmp_path / "images.tar"), tmp_path).startswith(f"{said}; allowed: ")


def test_two_data_sets_beside_each_other_are_refused(tmp_path):
    root = write(tmp_path / "images", [f"{which}/{name}" for which in "ab" for name in PLAIN])
    assert line(root, tmp_path).startswith("a/train/ and b/train/ are two data sets; allowed: ")
    halves = write(tmp_path / "halves", ["a/train/cat/1.png", "a/train/dog/1.png", "b/test/cat/1.png"])
    assert line(halves, tmp_path).startswith("a/train/ and b/test/ are two data sets; allowed: ")


def test_other_files_beside_the_splits_are_counted(tmp_path):
    root = write(tmp_path / "images", [*PLAIN, "val/cat/1.png", "labels/train/1.txt", "figure.png"])
    assert listed(root).left_out == {"outside of a class folder": 2, "without an image's suffix": 1}


def test_a_link_to_the_newest_of_one_set_is_no_second_set(tmp_path):
    root = write(tmp_path / "images", [f"v1/{name}" for name in PLAIN])
    link(root / "latest", "v1")
    assert set(used(root)) == {f"v1/{name}" for name in PLAIN}


def test_a_data_set_of_links_that_lead_nowhere_says_so(tmp_path):
    root = write(tmp_path / "images", PLAIN[2:])
    link(root / "train/cat/1.png", "../../.git/annex/objects/1.png")
    assert (
        "found 0 class folders below train/ and 2 images below test/ (files that are not used: 1 links that lead"
        in line(root, tmp_path)
    )


@contextmanager
def without_rights():
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_named_unless_it_is_the_system_s(tmp_path):
    root = write(tmp_path / "images", [*PLAIN, "lost+found/x"])
    for path in (root, *root.parents):
        if any(part.startswith("pytest-of-") for part in path.parts):
            path.chmod(0o755)
    (root / "lost+found").chmod(0)
    (tmp_path / "cache").mkdir(mode=0o777)
    (tmp_path / "cache").chmod(0o777)
    with without_rights():
        assert len(greys(root, tmp_path)["train"]) == 2
    (root / "train/cat/1.png").chmod(0)
    with without_rights(), pytest.raises(ConfigError, match=r"train/cat/1\.png cannot be read \(Permission denied\)"):
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    (root / "train/cat").chmod(0)
    with without_rights(), pytest.raises(ConfigError, match=r"train/cat/ cannot be listed \(Permission denied\)"):
        ImageFolder(root=str(root)).read(tmp_path / "cache")
    (root / "train/cat").chmod(0o755)


@pytest.mark.parametrize("root", ["gone", "x" * 300, "~no_such_user/images", "a\0b"])
def test_a_root_that_is_not_there(root, tmp_path):
    with pytest.raises(ConfigError, match=r"^dataset\.root=.*: no such folder or archive"):
        ImageFolder(root=root).read(tmp_path)


def test_a_root_that_is_neither_folder_nor_file(tmp_path):
    with socket.socket(socket.AF_UNIX) as made, pytest.raises(ConfigError, match="no such folder or archive"):
        made.bind(str(tmp_path / "socket"))
        ImageFolder(root=str(tmp_path / "socket")).read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no such folder or archive"):
        ImageFolder(root=str(tmp_path / "pipe")).read(tmp_path)
