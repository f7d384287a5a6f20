"""A file that anyone may have changed is never taken for the one that was read."""

import os
import time

import pytest

from rebuttal.store import sources


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Gives the content of files as a digest does; counts how often it had to read them. The clock is ten seconds ahead
    of the files', so that they are not new."""
    files = {name: tmp_path / name for name in ("a", "b")}
    for name, path in files.items():
        path.write_text(f"{name}1")
    monkeypatch.setattr(sources.time, "time", lambda now=time.time: now() + 10)

    def read(files=files):
        def digest():
            read.times += 1
            return " ".join(path.read_text() for path in files.values())

        return sources.known_digest(tmp_path / "store", "halves", tmp_path, files, digest)

    read.times, read.files = 0, files
    return read


def test_files_that_nobody_touched_are_read_once(read):
    assert [read() for _ in range(3)] == ["a1 b1"] * 3 and read.times == 1


def in_place_with_its_times_restored(path):
    before = path.stat()
    path.write_text("a2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def in_place_through_a_mapping(path):
    with path.open("r+b") as file:
        file.write(b"a2")


def by_another_file_with_its_times(path):
    before = path.stat()
    other = path.with_name("other")
    other.write_text("a2")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "change", [in_place_with_its_times_restored, in_place_through_a_mapping, by_another_file_with_its_times]
)
def test_a_change_that_keeps_the_size_is_noticed(change, read):
    read()
    time.sleep(0.02)  # beyond one tick of the file system's clock
    change(read.files["a"])
    assert read() == "a2 b1" and read() == "a2 b1" and read.times == 2


def test_another_name_or_another_order_is_noticed(read):
    a, b = read.files.values()
    read()
    assert read({"c": a, "b": b}) == "a1 b1" and read({"b": b, "a": a}) == "b1 a1" and read.times == 3


def test_a_file_of_the_last_seconds_is_read_again(read, monkeypatch):
    """It may change once more within a tick of the file system's clock."""
    monkeypatch.undo()
    assert [read() for _ in range(3)] == ["a1 b1"] * 3 and read.times == 3


def test_what_changes_while_it_is_read_is_not_kept(read, tmp_path):
    def digest():
        read.files["a"].write_text("longer")
        return "half of each"

    assert sources.known_digest(tmp_path / "store", "halves", tmp_path, read.files, digest) == "half of each"
    assert read() == "longer b1"


@pytest.mark.parametrize("content", ["", "[]", "{", '{"state": 1}', '{"digest": "x"}'])
def test_a_damaged_record_is_as_none(content, read, tmp_path):
    read()
    (record,) = (tmp_path / "store/sources").iterdir()
    record.write_text(content)
    assert read() == "a1 b1" and read.times == 2


def test_files_that_cannot_be_read_are_the_digest_s_to_refuse(read):
    read.files["a"].unlink()
    with pytest.raises(FileNotFoundError):
        read()


def test_digests_of_two_kinds_of_one_file_are_two(tmp_path):
    file = tmp_path / "images.tar"
    file.write_bytes(b"content")
    time.sleep(sources.SECONDS_TO_SETTLE + 0.1)

    def known(kind):
        return sources.known_digest(tmp_path / "store", kind, file, {"": file}, lambda: f"{kind} of it")

    assert [known("md5"), known("images"), known("md5")] == ["md5 of it", "images of it", "md5 of it"]
