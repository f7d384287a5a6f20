"""Whatever tree of images is given: its archive is read as it is, and every file is used or counted.

REBUTTAL_FUZZ=1000 makes more trees, each time others; the slow test makes more, each time the same."""

import io
import os
import tarfile
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rebuttal.data import ImageFolder
from rebuttal.data.listing import list_images
from rebuttal.data.trees import archive_tree, folder_tree
from rebuttal.errors import ConfigError
from tests.conftest import add_bytes

LONGER = "REBUTTAL_FUZZ" in os.environ
MADE = settings(
    max_examples=int(os.environ.get("REBUTTAL_FUZZ", "150")),
    deadline=None,
    derandomize=not LONGER,
    database=None,
    suppress_health_check=list(HealthCheck),
)
CORE = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"]
FOLDERS = ["train", "test", "cat", "dog", "cat-1", "owl", "é a", "pool", ".hidden", "@eaDir", "__MACOSX", ".Trash-0"]
FILES = ["1.png", "2.PNG", "3.tif", "4.gif", "5.jpeg", "6", "7.txt", ".8.png", "Thumbs.db", "-9.png"]
MODES = ["RGB"] * 6 + ["L", "1", "P", "RGBA", "LA", "I;16", "turned"] * 2 + ["F", "alpha only", "broken", "larger"]


def content(mode, number):
    """The bytes of a picture of that mode, which differ from number to number."""
    values = np.random.default_rng(number).integers(
        256, size=(5, 5, 4) if mode == "larger" else (4, 4, 4), dtype=np.uint8
    )
    colour = Image.fromarray(values[..., :3])
    options = {}
    if mode == "broken":
        return b"\x89PNG\r\n\x1a\n" + bytes([number])
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(values).convert(mode)
    elif mode == "alpha only":
        image = Image.fromarray(np.where(np.arange(4) == 3, values, 255).astype(np.uint8))
    elif mode == "I;16":
        image = Image.fromarray((values[..., 0].astype(np.uint16) << 8) + 7)
    elif mode == "P":
        image, options = colour.quantize(5), {"transparency": number % 5} if number % 2 else {}
    elif mode in ("turned", "larger"):
        image, options["exif"] = colour, Image.Exif()
        options["exif"][0x0112] = 1 + number % 8
    else:
        image = colour.convert(mode)
    file = io.BytesIO()
    image.save(file, "tiff" if mode == "F" else "png", **options)
    return file.getvalue()


paths = st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(FILES)).map(
    lambda p: "/".join([*p[0], p[1]])
)
in_class = st.tuples(
    st.sampled_from(["train", "test"]), st.sampled_from(["cat", "dog", "cat-1"]), st.booleans(), st.sampled_from(FILES)
).map(lambda p: "/".join([p[0], p[1], *["deep"] * p[2], p[3]]))
files = st.tuples(paths | in_class | in_class, st.sampled_from(MODES))
links = st.tuples(
    st.sampled_from(["soft", "soft", "hard"]), paths | in_class, st.integers(0, 99), st.booleans(), st.booleans()
)
trees = st.fixed_dictionaries(
    {
        "core": st.sampled_from([True] * 5 + [False]),
        "above": st.sampled_from(["", "", "set/", "train/", "a/b/"]),
        "files": st.lists(files, max_size=6),
        "links": st.lists(links, max_size=3),
        "empty": st.lists(paths, max_size=1),
        "archive": st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"]),
        "name": st.sampled_from(["", ".", "/", "/srv/images"]),
        "older": st.integers(0, 3),
    }
)


def build(root, tree):
    """Make the tree; what cannot be made, such as a file below a file, is not."""
    wanted = [(name, "RGB") for name in CORE * tree["core"]] + tree["files"]
    for number, (name, mode) in enumerate(wanted):
        path = root / tree["above"] / name
        if made(path):
            suffix = path.suffix.lower()
            path.write_bytes(content(mode, number) if suffix not in ("", ".txt", ".db") else b"text %d" % number)
    for kind, name, number, absolute_folder, gone in tree["links"]:
        path = root / tree["above"] / name
        there = [p for p in sorted(root.rglob("*")) if not p.is_symlink()] + [root]
        target = there[number % len(there)]
        if absolute_folder:
            target = target.parent if target != root else root
            path = path.with_suffix("")
        if not made(path):
            continue
        if kind == "soft":
            path.symlink_to(os.path.relpath(target / "gone.png" if gone and number % 3 == 0 else target, path.parent))
        elif target.is_file():
            path.hardlink_to(target)
    for name in tree["empty"]:
        made(root / tree["above"] / name)


def made(path):
    """Make the folder of a file, and say whether the file could be made in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return not path.exists() and not path.is_symlink()


def pack(root, archive, tree):
    """An archive of the tree in which some files have older versions."""
    with tarfile.open(archive, tree["archive"]) as tar:
        files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]
        for number, path in enumerate(files[: tree["older"]]):
            add_bytes(tar, str(PurePosixPath(tree["name"], path.relative_to(root))), content("L", 200 + number))
        tar.add(root, tree["name"])
    return archive


def outcome(root, cache):
    """The data set, or the line that it is refused with, without the root's name."""
    try:
        images = ImageFolder(root=str(root)).read(cache)
    except ConfigError as error:
        assert "\n" not in str(error) and " at 0x" not in str(error)
        return str(error).replace(str(root), "ROOT").replace("srv/images/", "")
    return images


def listed(tree):
    """Names, counts and note, or the line."""
    try:
        found = list_images(tree, "x")
    except ConfigError as error:
        return str(error).replace("srv/images/", "")
    return (
        [f.name.removeprefix("srv/images/") for f in found.files],
        found.left_out,
        found.note.replace("srv/images/", ""),
    )


def in_classes(root, above):
    """The images of a data set without links, by an independent rule."""
    names = [p.relative_to(root / above).parts for p in (root / above).rglob("*") if p.is_file()]
    system = ("@eaDir", "__MACOSX", "Thumbs.db")
    return {
        "/".join(parts)
        for parts in names
        if len(parts) > 2
        and parts[0] in ("train", "test")
        and parts[-1].lower().endswith((".png", ".tif", ".gif", ".jpeg"))
        and not any(part[0] == "." or part in system for part in parts)
    }


@pytest.mark.slow
@MADE
@given(trees)
def test_an_archive_is_read_as_its_folder_and_every_file_is_used_or_counted(tree):
    check(tree)


@pytest.mark.slow
def test_so_are_five_hundred_of_which_a_fair_share_are_data_sets():
    seen = Counter()

    @settings(MADE, max_examples=500)
    @given(trees)
    def check_each(tree):
        seen[check(tree)] += 1

    check_each()
    assert sum(seen.values()) >= 500 and min(seen["a line"], seen["a data set"]) >= 125


def check(tree):
    """Check what the folder and the archive of a tree give, and return which of two things that is."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        root.mkdir()
        build(root, tree)
        archive = pack(root, Path(folder) / "images.tar", tree)
        one = listed(folder_tree(root))
        assert one == listed(archive_tree(archive, "x"))
        if not isinstance(one, str):
            names, left_out, _ = one
            assert len(names) + sum(left_out.values()) == sum(not path.is_dir() for path in root.rglob("*"))
            if tree["core"] and not tree["links"]:
                assert {name.removeprefix(tree["above"]) for name in names} == in_classes(root, tree["above"])
        found, again = outcome(root, Path(folder)), outcome(archive, Path(folder))
        if isinstance(found, str) or isinstance(again, str):
            assert found == again
            return "a line"
        assert found.class_names == again.class_names
        assert len(found.train) + len(found.test) == len(names)
        for name in ("train", "train_labels", "test", "test_labels"):
            assert torch.equal(getattr(found, name), getattr(again, name))
        return "a data set"
