"""CIFAR-10 and CIFAR-100 in every form: equal tensors, one identity, and nothing unpickled."""

import os
import pickle
import pickletools

import numpy as np
import pytest
import torch

from rebuttal.data import CIFAR10, CIFAR100, cifar_forms
from rebuttal.data.cifar_forms import CIFAR10_FILES
from rebuttal.errors import ConfigError
from tests.data.cifar_files import (
    BATCHES,
    NAMES,
    binary_files,
    packed,
    python2,
    python_files,
    records,
    save_parquet,
    written,
)

NOWHERE = "file:///nowhere/file.tar.gz"


def read(root, cache, kind=CIFAR10, **settings):
    return kind(root=str(root), url=NOWHERE, **settings).read(cache)


def same(one, other):
    tensors = ("train", "train_labels", "test", "test_labels")
    return one.class_names == other.class_names and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in tensors
    )


def save(form, images, place):
    """Write a form of CIFAR-10; returns what `dataset.root` may be."""
    train = np.concatenate([images[name] for name in list(BATCHES)[:-1]])
    test = images["test_batch.bin"]
    match form:
        case "binary folder":
            folder = written(binary_files(images), place / "cifar-10-batches-bin")
            return [place, folder]
        case "Python folder":
            folder = written(python_files(images), place / "cifar-10-batches-py")
            return [place, folder]
        case "Python folder, written by Python 3":
            return [written(python_files(images, lambda value: pickle.dumps(value, 2)), place)]
        case "Python archive":
            archive, _ = packed(python_files(images), place / "cifar-10-python.tar.gz", "cifar-10-batches-py")
            return [place, archive]
        case "Python archive with ./":
            return [packed(python_files(images), place / "cifar-10-python.tar.gz", "./cifar-10-batches-py")[0]]
        case "Python archive under the name of the binary one":
            return [packed(python_files(images), place / "cifar-10-binary.tar.gz", "cifar-10-batches-py")[0], place]
        case "Parquet":
            save_parquet(train, place / "plain_text/train-00000-of-00001.parquet", names=NAMES)
            save_parquet(test, place / "plain_text/test-00000-of-00001.parquet", names=NAMES)
            return [place / "plain_text", place]
        case "Parquet in parts, without names":
            for part, rows in enumerate(np.array_split(train, 3)):
                save_parquet(rows, place / f"snapshots/0af3/data/train-0000{part}-of-00003.parquet", image="image")
            save_parquet(test, place / "snapshots/0af3/data/test-00000-of-00001.parquet", image="image")
            return [place]


FORMS = [
    "binary folder",
    "Python folder",
    "Python folder, written by Python 3",
    "Python archive",
    "Python archive with ./",
    "Python archive under the name of the binary one",
    "Parquet",
    "Parquet in parts, without names",
]


@pytest.fixture(scope="module")
def images():
    return records()


@pytest.fixture(scope="module")
def verified(images, tmp_path_factory):
    """What the verified archive gives, and the digest that the folder with its content had before other forms."""
    place = tmp_path_factory.mktemp("verified")
    _, md5 = packed(binary_files(images), place / "cifar-10-binary.tar.gz", "cifar-10-batches-bin")
    found = read(place, place, md5=md5)
    assert found.digest == f"md5:{md5}"
    return found


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_tensors_of_the_archive_and_one_identity(form, images, verified, tmp_path):
    for root in save(form, images, tmp_path / "data"):
        found = read(root, tmp_path / "store")
        assert same(found, verified)
        # Of the folder of the binary version, computed by the code of before.
        assert found.digest == "sha256:1f22b6972a698d0cf5eb422ea0ef5ffd91725194a8472abea8afffda1a6cbcbb"


def test_a_renamed_folder_or_archive_is_still_read(images, verified, tmp_path):
    for form in ("binary folder", "Python folder", "Python archive"):
        *_, root = save(form, images, tmp_path / form)
        assert same(read(root.rename(root.with_name("renamed")), tmp_path), verified)


def test_another_pixel_is_another_identity_in_every_form(images, verified, tmp_path):
    changed = {**images, "test_batch.bin": images["test_batch.bin"].copy()}
    changed["test_batch.bin"][3, 1000] ^= 1
    forms = ("binary folder", "Python folder", "Python archive", "Parquet")
    digests = {read(save(form, changed, tmp_path / form)[0], tmp_path / "store").digest for form in forms}
    assert len(digests) == 1 and digests != {"sha256:1f22b6972a698d0cf5eb422ea0ef5ffd91725194a8472abea8afffda1a6cbcbb"}


def test_the_original_has_the_identity_of_its_archive(images, monkeypatch):
    """In whatever form: the content of the binary files is recognised by the names that git gives to them."""
    contents = binary_files(images)
    monkeypatch.setattr(cifar_forms, "_as_git_has_it", lambda raw: known[raw])
    known = {contents[name]: sha for name, sha in zip(BATCHES, CIFAR10_FILES.known)}
    assert cifar_forms.digest_of(contents, CIFAR10_FILES) == "md5:c32a1d4ab5d03f1284b67883e8d87530"


def test_git_names_content_as_git_does():
    assert cifar_forms._as_git_has_it(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object /dev/null


def test_the_order_of_hugging_face_is_undone():
    """Its rows are in the order of the batches in the Python archive: 4, 3, 2, 5, 1."""
    rows = np.arange(50_000, dtype=np.int64)[:, None]
    batch = dict(zip((4, 3, 2, 5, 1), np.array_split(rows, 5)))
    batch[1][:10, 0] = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    found = cifar_forms._in_batches(rows, 5, CIFAR10_FILES)
    assert all(np.array_equal(part, batch[i + 1]) for i, part in enumerate(found))
    ordered = np.concatenate(found)
    assert all(
        np.array_equal(part, batch[i + 1]) for i, part in enumerate(cifar_forms._in_batches(ordered, 5, CIFAR10_FILES))
    )


def refusal(root, cache, kind=CIFAR10):
    with pytest.raises(ConfigError) as caught:
        read(root, cache, kind)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"dataset.root={root}: ") and "; allowed: " in message
    return message.removeprefix(f"dataset.root={root}: ").partition("; allowed: ")[0]


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made",)


@pytest.mark.parametrize("file", ["batches.meta", "data_batch_3", "test_batch"])
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_an_attack_in_a_file_is_refused_and_not_run(form, file, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = python_files(images)
    attacked = {**files, file: pickle.dumps({b"labels": Runs()}, protocol=2)}
    if form == "folder":
        root = written(attacked, tmp_path / "data/cifar-10-batches-py")
    else:
        root, _ = packed(attacked, tmp_path / "data/cifar-10-python.tar.gz", "cifar-10-batches-py")
    for given in (root, root.parent):
        said = refusal(given, tmp_path)
        assert (
            said == f"{root.name} cannot be read ({file} is not read, and nothing in it was run: it names posix.mkdir)"
        )
    assert not (tmp_path / "made").exists()


def test_nothing_is_unpickled(images, verified, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    monkeypatch.setattr(pickletools, "genops", never)
    for form in FORMS[1:]:
        assert same(read(save(form, images, tmp_path / form)[0], tmp_path), verified)


def entries(**changes):
    return lambda value: python2(
        {**value, **{k.encode(): v for k, v in changes.items()}} if b"data" in value else value
    )


def without(name):
    return lambda value: python2({key: item for key, item in value.items() if key != name})


@pytest.mark.parametrize(
    ("dump", "said"),
    [
        (entries(labels=[3] * 19), "data_batch_1: it has 20 images and 19 labels"),
        (entries(labels=[256] * 20), "data_batch_1: its labels are no list of numbers from 0 to 255"),
        (entries(labels=[-1] * 20), "data_batch_1: its labels are no list of numbers from 0 to 255"),
        (entries(labels=[b"3"] * 20), "data_batch_1: its labels are no list of numbers from 0 to 255"),
        (entries(labels=[10] * 20), "data_batch_1.bin has labels beyond the 10 classes of batches.meta.txt"),
        (
            entries(data=np.zeros((20, 3071), np.uint8)),
            "data_batch_1: its entry data is no array of 3072 values an image",
        ),
        (entries(data=b"x" * 20 * 3072), "data_batch_1: its entry data is no array of 3072 values an image"),
        (without(b"labels"), "data_batch_1: its labels are no list of numbers from 0 to 255"),
        (without(b"data"), "data_batch_1: its entry data is no array of 3072 values an image"),
        (without(b"label_names"), "batches.meta has no list label_names"),
    ],
)
def test_a_python_version_that_lacks_something_is_named(dump, said, images, tmp_path):
    root = written(python_files(images, dump), tmp_path / "cifar-10-batches-py")
    assert refusal(root, tmp_path) == f"cifar-10-batches-py cannot be read ({said})"


def test_files_that_are_missing_or_cut_off_are_named(images, tmp_path):
    files = python_files(images)
    folder = written(files, tmp_path / "cifar-10-batches-py")
    (folder / "data_batch_2").write_bytes(files["data_batch_2"][:-1])
    assert "data_batch_2 is not read, and nothing in it was run: it is cut off" in refusal(folder, tmp_path)
    (folder / "data_batch_2").unlink()
    assert "No such file or directory" in refusal(folder, tmp_path)
    del files["data_batch_2"]
    archive, _ = packed(files, tmp_path / "data/cifar-10-python.tar.gz", "cifar-10-batches-py")
    said = "cifar-10-python.tar.gz cannot be read (it has no cifar-10-batches-py/data_batch_2)"
    assert refusal(archive, tmp_path) == said == refusal(archive.parent, tmp_path)
    raw = archive.read_bytes()
    for size in (1, 100, len(raw) // 2, len(raw) - 1):
        archive.write_bytes(raw[:size])
        for root in (archive, archive.parent):
            said = refusal(root, tmp_path)
            assert said.startswith("cifar-10-python.tar.gz ") and (
                "cut off" in said or "cannot be read" in said or size == 1
            )
        assert archive.read_bytes() == raw[:size]


def test_single_files_are_named(images, tmp_path):
    save("Python folder, written by Python 3", images, tmp_path / "py")
    save("Parquet", images, tmp_path / "hf")
    said = "data_batch_1 is one file of the folder cifar-10-batches-py"
    assert refusal(tmp_path / "py/data_batch_1", tmp_path) == said
    file = tmp_path / "hf/plain_text/test-00000-of-00001.parquet"
    assert refusal(file, tmp_path) == f"{file.name} is one file of a folder of Parquet files"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows, path: save_parquet(rows, path, columns=("fine_label",)), "has the columns img, fine_label"),
        (lambda rows, path: save_parquet(rows, path, image="picture"), "has the columns picture, label"),
        (lambda rows, path: path.write_bytes(b"PAR1"), "cannot be read"),
        (lambda rows, path: save_parquet(rows[:0], path), "cannot be read"),
    ],
)
def test_other_tables_are_named(change, said, images, tmp_path):
    save("Parquet", images, tmp_path / "hf")
    change(images["test_batch.bin"], tmp_path / "hf/plain_text/test-00000-of-00001.parquet")
    assert said in refusal(tmp_path / "hf", tmp_path)


def test_two_folders_of_parquet_files_are_refused(images, tmp_path):
    save("Parquet", images, tmp_path / "hf")
    (tmp_path / "hf/plain_text").rename(tmp_path / "hf/one")
    save("Parquet", images, tmp_path / "hf")
    assert refusal(tmp_path / "hf", tmp_path) == "hf cannot be read (one/ and plain_text/ both hold Parquet files)"


# CIFAR-100


def hundred(place, form):
    """CIFAR-100 with 120 training images and 20 test images."""
    rng = np.random.default_rng(1)
    images = {name: rng.integers(256, size=(n, 3074), dtype=np.uint8) for name, n in (("train", 120), ("test", 20))}
    names = [f"class_{i}" for i in range(100)]
    for rows in images.values():
        rows[:, :2] %= np.array([20, 100], dtype=np.uint8)
    files = {f"{split}.bin": rows.tobytes() for split, rows in images.items()}
    binary = {"fine_label_names.txt": "\n".join([*names, ""]).encode(), "coarse_label_names.txt": b"", **files}
    python = {"meta": python2({b"fine_label_names": [n.encode() for n in names], b"coarse_label_names": [b"x"]})}
    for split, rows in images.items():
        labels = {b"coarse_labels": rows[:, 0].tolist(), b"fine_labels": rows[:, 1].tolist()}
        python[split] = python2({b"filenames": [b"x.png"], b"batch_label": b"1", **labels, b"data": rows[:, 2:]})
    match form:
        case "binary archive":
            return packed(binary, place / "cifar-100-binary.tar.gz", "cifar-100-binary")
        case "binary folder":
            return written(binary, place / "cifar-100-binary"), None
        case "Python archive":
            return packed(python, place / "cifar-100-python.tar.gz", "cifar-100-python")
        case "Python folder":
            return written(python, place / "cifar-100-python"), None
    for split, rows in images.items():
        save_parquet(rows, place / f"cifar100/{split}-0.parquet", ("coarse_label", "fine_label"), names)
    return place / "cifar100", None


def test_every_form_of_cifar_100_gives_equal_tensors(tmp_path):
    archive, md5 = hundred(tmp_path / "a", "binary archive")
    first = read(archive.parent, tmp_path, CIFAR100, md5=md5)
    fetched = CIFAR100(root=str(tmp_path / "fetched"), url=archive.as_uri(), md5=md5).read(tmp_path)
    assert first.digest == f"md5:{md5}" == fetched.digest and same(first, fetched)
    assert first.train.shape == (120, 3, 32, 32) and len(first.class_names) == 100
    raw = np.random.default_rng(1).integers(256, size=(120, 3074), dtype=np.uint8)
    assert first.train_labels.tolist() == (raw[:, 1] % 100).tolist()
    assert first.train[5, 1, 2, 3] == raw[5, 2 + 1024 + 2 * 32 + 3]
    digests = set()
    for form in ("binary folder", "Python archive", "Python folder", "Parquet"):
        root, _ = hundred(tmp_path / form, form)
        for given in (root, root.parent):
            found = read(given, tmp_path, CIFAR100)
            assert same(found, first)
            digests.add(found.digest)
    assert len(digests) == 1


@pytest.mark.parametrize("form", ["binary folder", "Python folder", "Python archive"])
def test_one_data_set_is_not_taken_for_the_other(form, images, tmp_path):
    root, _ = hundred(tmp_path / "hundred", form)
    for given in (root, root.parent):
        assert refusal(given, tmp_path) == f"{root.name} is CIFAR-100"
    roots = save(form, images, tmp_path / "ten")
    root = tmp_path / "ten"
    said = refusal(root if form == "Python archive" else next(root.iterdir()), tmp_path, CIFAR100)
    assert "CIFAR-10" in said or "is not named" in said, roots
