import hashlib
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
