import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from rebuttal.data import CIFAR10
from rebuttal.data.download import check_url
from rebuttal.errors import ConfigError
from tests.conftest import add_bytes

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def mirror(tmp_path):
    """A web server with an archive in the format of cifar-10-binary.tar.gz, 20 images a batch: url, md5, records."""
    rng = np.random.default_rng(0)
    batches = {f"data_batch_{i}.bin": rng.integers(256, size=(20, 3073), dtype=np.uint8) for i in range(1, 6)}
    batches["test_batch.bin"] = rng.integers(256, size=(20, 3073), dtype=np.uint8)
    archive = tmp_path / "mirror.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, records in batches.items():
            records[:, 0] %= 10
            add_bytes(tar, f"cifar-10-batches-bin/{name}", records.tobytes())
        add_bytes(tar, "cifar-10-batches-bin/batches.meta.txt", "\n".join([*NAMES, ""]).encode())
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        yield url, hashlib.md5(archive.read_bytes()).hexdigest(), batches
        server.shutdown()


@pytest.fixture
def archive(mirror, tmp_path):
    """The mirror's archive: path, md5, records."""
    return tmp_path / "mirror.tar.gz", *mirror[1:]


def test_it_is_downloaded_verified_and_decoded(mirror, tmp_path):
    url, md5, batches = mirror
    dataset = CIFAR10(root=str(tmp_path / "data"), url=url, md5=md5)
    images = dataset.read(tmp_path)
    train = np.concatenate([batches[f"data_batch_{i}.bin"] for i in range(1, 6)])
    assert images.class_names == tuple(NAMES)
    assert torch.equal(images.train_labels, torch.from_numpy(train[:, 0].astype(np.int64)))
    # Byte 1 + 1024c + 32y + x of a record is channel c, row y, column x.
    for n, c, y, x in [(0, 0, 0, 0), (17, 1, 2, 3), (99, 2, 31, 31)]:
        assert images.train[n, c, y, x] == train[n, 1 + 1024 * c + 32 * y + x]
    assert images.test.shape == (20, 3, 32, 32)


def test_one_of_several_concurrent_jobs_downloads_and_all_read_it(mirror, tmp_path, monkeypatch):
    url, md5, _ = mirror
    asked = []
    get = SimpleHTTPRequestHandler.do_GET

    def slowly(handler):
        asked.append(handler.path)
        time.sleep(1)
        get(handler)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_GET", slowly)
    CIFAR10(root=str(tmp_path / "alone"), url=url, md5=md5).read(tmp_path)
    alone = len(asked)
    dataset = CIFAR10(root=str(tmp_path / "data"), url=url, md5=md5)
    with ThreadPoolExecutor(4) as jobs:
        found = list(jobs.map(lambda _: dataset.read(tmp_path), range(4)))
    assert len(asked) == 2 * alone
    assert all(torch.equal(images.train, found[0].train) for images in found)


def test_a_file_url_is_a_mirror(archive, tmp_path):
    path, md5, _ = archive
    found = CIFAR10(root=str(tmp_path / "data"), url=path.as_uri(), md5=md5).read(tmp_path)
    assert len(found.train) == 100 and sorted(p.name for p in (tmp_path / "data").glob("*.gz")) == [
        "cifar-10-binary.tar.gz"
    ]
    with pytest.raises(ConfigError, match="could not be downloaded"):
        CIFAR10(root=str(tmp_path / "other"), url=path.as_uri(), md5="0" * 32).read(tmp_path)
    assert not list((tmp_path / "other").glob("*.gz*")) and not list((tmp_path / "other").glob(".*"))


def test_an_existing_archive_needs_no_network(mirror, tmp_path):
    url, md5, _ = mirror
    root = str(tmp_path / "data")
    first = CIFAR10(root=root, url=url, md5=md5).read(tmp_path)
    again = CIFAR10(root=root, url="file:///nowhere", md5=md5).read(tmp_path)
    assert torch.equal(first.train, again.train)


def test_without_network_the_error_names_two_alternatives(tmp_path):
    with pytest.raises(ConfigError) as caught:
        CIFAR10(root=str(tmp_path), url=(tmp_path / "gone").as_uri()).read(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"dataset.root={tmp_path}" in message
    assert "put cifar-10-binary.tar.gz" in message and "dataset=image_folder" in message


def test_a_download_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine.txt").write_text("mine")
    for root in ("there", "there/data", "not/there"):
        with pytest.raises(ConfigError, match="could not be downloaded"):
            CIFAR10(root=str(tmp_path / root), url=(tmp_path / "gone").as_uri()).read(tmp_path)
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["there", "there/mine.txt"]


def test_a_wrong_download_is_rejected(mirror, tmp_path):
    url, _, _ = mirror
    with pytest.raises(ConfigError, match="could not be downloaded"):
        CIFAR10(root=str(tmp_path / "data"), url=url, md5="0" * 32).read(tmp_path)


def refusal(root, md5="0" * 32, url="file:///nowhere"):
    before = snapshot(root)
    with pytest.raises(ConfigError) as caught:
        CIFAR10(root=str(root), url=url, md5=md5).read(root)
    assert snapshot(root) == before
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"dataset.root={root}: ") and "; allowed: " in message
    return message.removeprefix(f"dataset.root={root}: ").partition("; allowed: ")[0]


def snapshot(root):
    return {p: p.read_bytes() if p.is_file() else None for p in (root, *root.rglob("*"))}


def same(one, other):
    return (
        one.class_names == other.class_names
        and torch.equal(one.train, other.train)
        and torch.equal(one.test, other.test)
        and torch.equal(one.train_labels, other.train_labels)
        and torch.equal(one.test_labels, other.test_labels)
    )


def extracted(archive, folder):
    with tarfile.open(archive) as tar:
        for member in tar:
            (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / member.name).write_bytes(tar.extractfile(member).read())
    return folder


def packed(path, *names, mode="w:gz", content=b"x" * 5000):
    with tarfile.open(path, mode) as tar:
        for name in names:
            add_bytes(tar, name, content)
    return path


def test_the_archive_itself_and_its_folder_are_read(archive, tmp_path):
    path, md5, _ = archive
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cifar-10-binary.tar.gz").write_bytes(path.read_bytes())
    expected = CIFAR10(root=str(tmp_path / "data"), md5=md5).read(tmp_path)
    itself = CIFAR10(root=str(path), md5=md5).read(tmp_path)
    assert same(itself, expected) and itself.digest == expected.digest == f"md5:{md5}"
    folder = extracted(path, tmp_path / "extracted")
    for root in (folder, folder / "cifar-10-batches-bin"):
        found = CIFAR10(root=str(root), url="file:///nowhere").read(tmp_path)
        assert same(found, expected) and found.digest.startswith("sha256:")
    batch = folder / "cifar-10-batches-bin/data_batch_2.bin"
    batch.write_bytes(batch.read_bytes()[:-1] + bytes([batch.read_bytes()[-1] ^ 1]))
    assert CIFAR10(root=str(folder)).read(tmp_path).digest != found.digest


def test_a_folder_of_which_something_is_missing_is_named(archive, tmp_path):
    folder = extracted(archive[0], tmp_path / "extracted")
    batch = folder / "cifar-10-batches-bin/data_batch_3.bin"
    whole = batch.read_bytes()
    for size in (0, 1, 3073, len(whole) - 3073, len(whole) - 1):
        batch.write_bytes(whole[:size])
        assert refusal(folder) == f"cifar-10-batches-bin cannot be read (data_batch_3.bin is cut off: {size} bytes)"
    batch.write_bytes(b"\x0a" + whole[1:])
    assert "data_batch_3.bin has labels beyond the 10 classes" in refusal(folder)
    batch.unlink()
    assert "cannot be read ([Errno 2] No such file or directory" in refusal(folder)
    batch.write_bytes(whole)
    (batch.parent / "batches.meta.txt").unlink()
    assert "batches.meta.txt" in refusal(folder)


def test_an_archive_that_is_cut_off_is_named_and_not_overwritten(archive, mirror, tmp_path):
    path, md5, _ = archive
    raw = path.read_bytes()
    (tmp_path / "data").mkdir()
    there = tmp_path / "data/cifar-10-binary.tar.gz"
    for size in (1, 5, 100, len(raw) // 2, len(raw) - 1):
        there.write_bytes(raw[:size])
        for root in (there.parent, there):
            said = refusal(root, md5, mirror[0])
            expected = "is cut off or damaged" if size > 2 else "is not CIFAR-10"
            assert said.startswith(f"cifar-10-binary.tar.gz {expected}")
        assert there.read_bytes() == raw[:size]
    there.write_bytes(raw)
    assert refusal(there.parent) == f"cifar-10-binary.tar.gz has the md5 {md5} (dataset.md5=… if that is meant)"


@pytest.mark.parametrize("given", ["the folder around it", "itself"])
@pytest.mark.parametrize(
    ("name", "members", "version"),
    [
        ("cifar-10-matlab.tar.gz", ["cifar-10-batches-mat/data_batch_1.mat"], "the MATLAB version of CIFAR-10"),
        ("cifar-100-binary.tar.gz", ["cifar-100-binary/train.bin"], "CIFAR-100"),
        ("cifar-100-python.tar.gz", ["cifar-100-python/train"], "CIFAR-100"),
    ],
)
def test_other_versions_are_named(tmp_path, name, members, version, given):
    path = packed(tmp_path / name, *members)
    assert refusal(path if given == "itself" else tmp_path) == f"{name} is {version}"


@pytest.mark.parametrize(
    ("folder", "file", "version"),
    [
        ("cifar-10-batches-mat", "data_batch_1.mat", "the MATLAB version of CIFAR-10"),
        ("cifar-100-binary", "fine_label_names.txt", "CIFAR-100"),
    ],
)
def test_other_versions_that_are_extracted_are_named(tmp_path, folder, file, version):
    place = tmp_path / "data" / folder
    place.mkdir(parents=True)
    (place / file).write_bytes(b"\x80\x04pickle")
    assert refusal(place.parent) == f"{folder} is {version}"
    assert refusal(place).endswith(f" is {version}")
    place.rename(place.with_name("renamed"))
    assert refusal(place.with_name("renamed")) == f"{file} is {version}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"text", "not CIFAR-10"),
        (b"", "not CIFAR-10"),
        (gzip.compress(b"text" * 500), "compressed with gzip, but no tar that can be read"),
    ],
    ids=["zip", "text", "empty", "gzip"],
)
def test_other_files_are_named(tmp_path, content, said):
    (tmp_path / "file.tar.gz").write_bytes(content)
    assert refusal(tmp_path / "file.tar.gz") == f"file.tar.gz is {said}"


def test_images_and_single_files_are_named(tmp_path, archive):
    (tmp_path / "images/train").mkdir(parents=True)
    (tmp_path / "images/test").mkdir()
    assert refusal(tmp_path / "images") == "it has images in train/ and test/, for dataset=image_folder"
    path = packed(tmp_path / "copy.tar.xz", "train/cat/1.jpg", "test/cat/1.jpg", mode="w:xz")
    assert refusal(path) == "copy.tar.xz is an archive of images in train/ and test/, for dataset=image_folder"
    batch = extracted(archive[0], tmp_path / "extracted") / "cifar-10-batches-bin/test_batch.bin"
    assert refusal(batch) == "test_batch.bin is one file of the folder cifar-10-batches-bin"
    (tmp_path / "data").mkdir()
    packed(tmp_path / "data/cifar-10-binary.tar", "cifar-10-batches-bin/data_batch_1.bin", mode="w")
    assert refusal(tmp_path / "data") == "cifar-10-binary.tar is not named cifar-10-binary.tar.gz"


@pytest.mark.parametrize(
    "url",
    [
        "www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "//www.cs.toronto.edu/cifar-10-binary.tar.gz",
        "/data/cifar-10-binary.tar.gz",
        "localhost:8000/cifar-10-binary.tar.gz",
        "htps://host/file",
        "s3://bucket/file",
        "https:///file",
        "https://host",
        "http://host:port/file",
        "http://[host/file",
        "",
    ],
)
def test_a_url_that_is_none_is_named_before_anything_is_made(tmp_path, url):
    with pytest.raises(ConfigError) as caught:
        CIFAR10(root=str(tmp_path / "data"), url=url).read(tmp_path)
    assert str(caught.value).startswith(f"dataset.url={url}: is no URL with a scheme and a host")
    assert "; allowed: https://…" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("url", "meant"), [
    ("https//x", "https://x"),
    ("https//host/file", "https://host/file"),
    ("https:/host/file", "https://host/file"),
    ("http:host/file", "http://host/file"),
    ("https;//host/file", "https://host/file"),
    ("https:///host/file", "https://host/file"),
    ("HTTPS//host/file", "https://host/file"),
    ("htps://host/file", "https://host/file"),
    ("htp:/host/file", "http://host/file"),
    ("ftp//host/file", "ftp://host/file"),
    ("file//srv/file", "file:///srv/file"),
    ("/srv/file", "file:///srv/file"),
    ("host/file", "https://host/file"),
    ("files/file", "https://files/file"),
    ("localhost:8000/file", "https://localhost:8000/file"),
    ("s3://bucket/file", None),
    ("https://host", None),
])  # fmt: skip
def test_what_a_url_may_have_meant_is_one(url, meant):
    with pytest.raises(ConfigError) as caught:
        check_url(url)
    guess = f" ({meant}?)" if meant else ""
    assert str(caught.value).startswith(f"dataset.url={url}: is no URL with a scheme and a host{guess}; ")


@pytest.mark.parametrize("path", ["with blank", "gone.tar.gz", "mirror.tar.gz"])
def test_a_failed_download_leaves_no_archive(mirror, tmp_path, path):
    url = mirror[0].rpartition("/")[0] + "/" + path
    with pytest.raises(ConfigError, match="could not be downloaded"):
        CIFAR10(root=str(tmp_path / "data"), url=url, md5="0" * 32).read(tmp_path)
    assert not list((tmp_path / "data").glob("*.gz*")) and not list((tmp_path / "data").glob(".*"))


def test_a_download_that_was_interrupted_is_begun_again(mirror, tmp_path):
    url, md5, _ = mirror
    (tmp_path / "data").mkdir()
    (tmp_path / "data/.cifar-10-binary.tar.gz.part").write_bytes(b"half")
    assert len(CIFAR10(root=str(tmp_path / "data"), url=url, md5=md5).read(tmp_path).train) == 100


SECOND_JOB = """
import sys
from pathlib import Path
from rebuttal.data import CIFAR10
opened, (root, md5, cache) = [], sys.argv[1:]
sys.addaudithook(lambda event, facts: opened.append(str(facts[0])) if event == "open" else None)
images = CIFAR10(root=root, md5=md5).read(Path(cache))
print(images.train.sum().item(), images.digest, sum(name == root for name in opened))
"""


@pytest.mark.slow
def test_a_second_job_does_not_open_the_archive_and_one_that_was_changed_is_not_taken_for_it(archive, tmp_path):
    path, md5, batches = archive
    os.utime(path, ns=(0, 0))
    time.sleep(2.1)  # before which a state is not kept

    def job(checksum):
        command = [sys.executable, "-c", SECOND_JOB, str(path), checksum, str(tmp_path / "cache")]
        return subprocess.run(command, capture_output=True, text=True)

    said = [job(md5).stdout.split() for _ in range(2)]
    total = sum(int(batches[f"data_batch_{i}.bin"][:, 1:].astype(np.int64).sum()) for i in range(1, 6))
    assert [one[:2] for one in said] == [[str(total), f"md5:{md5}"]] * 2
    assert int(said[0][2]) > 0 and said[1][2] == "0"
    with path.open("r+b") as file:  # of the same size, and of the same time again
        file.seek(1000)
        file.write(b"x")
    os.utime(path, ns=(0, 0))
    changed = job(md5)
    assert changed.returncode != 0 and "ConfigError" in changed.stderr


def test_a_store_that_cannot_be_written_does_not_keep_the_images_from_being_read(archive, tmp_path):
    path, md5, _ = archive
    (tmp_path / "store").write_text("a file")
    images = CIFAR10(root=str(path), md5=md5).read(tmp_path / "store")
    assert len(images.train) == 100
