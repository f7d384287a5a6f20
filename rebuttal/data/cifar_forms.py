"""CIFAR-10 and CIFAR-100 in each form that they are kept in: binary and Python versions, as archives and as folders,
and Parquet files of encoded images, as on Hugging Face.

Every form is turned into the content of the binary version's files: equal images have one content and one identity.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rebuttal.data.pickled import Refused, read_pickled
from rebuttal.data.pictures import Unreadable, read_picture
from rebuttal.data.trees import shown
from rebuttal.store.entries import Artifact, Store

PIXELS = 3 * 32 * 32  # of a record: the red, green and blue planes; labels are before it
_PARQUET = ("*.parquet", "*/*.parquet", "snapshots/*/*.parquet", "snapshots/*/*/*.parquet")
_IMAGE_COLUMNS = ("img", "image")

Contents = dict[str, bytes]  # of the files of the binary version


@dataclass(frozen=True)
class Version:
    """What the files of a data set are called and hold.

    `batches`: the files of images, of the binary and of the Python version; the last one is the test set. `labels`: of
    each image in the binary version's order, as entries of the Python version and columns of Parquet; the last one is
    the class. `sizes`: of the original archives. `known`: the names that git gives to the content of the original
    binary files, whose archive has `md5`.
    """

    title: str
    archive: str
    folder: str
    python_archive: str
    python_folder: str
    names: str
    batches: dict[str, str]
    python_names: tuple[str, str]
    labels: tuple[tuple[str, str], ...]
    md5: str
    classes: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    parquet_order: tuple[int, ...] = ()
    others: tuple[tuple[str, str], ...] = ()

    @property
    def record(self) -> int:
        return len(self.labels) + PIXELS


CIFAR10_FILES = Version(
    title="CIFAR-10",
    archive="cifar-10-binary.tar.gz",
    folder="cifar-10-batches-bin",
    python_archive="cifar-10-python.tar.gz",
    python_folder="cifar-10-batches-py",
    names="batches.meta.txt",
    batches={**{f"data_batch_{i}.bin": f"data_batch_{i}" for i in range(1, 6)}, "test_batch.bin": "test_batch"},
    python_names=("batches.meta", "label_names"),
    labels=(("labels", "label"),),
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    sizes={"cifar-10-binary.tar.gz": 170_052_171, "cifar-10-python.tar.gz": 170_498_071},
    known=(
        "da09f891072747be90e69e4f00ba7cba870dc87e",
        "7e958840b7a55df3353574298ebc9ca0e4bba48e",
        "5259a3e9674ffdf2d5c33a1067f7192ff06c9e2f",
        "301e7d16d78428f13262e87a5bc78ed45b8224aa",
        "51fe428dfbdd065852912743ae8b7b63bb1e9d8d",
        "e3f3b4653f18f27ada1558cabc3352a3ed1b25cc",
    ),
    parquet_order=(4, 3, 2, 5, 1),
    others=(
        ("cifar-10-batches-mat", "the MATLAB version of CIFAR-10"),
        ("cifar-10-matlab", "the MATLAB version of CIFAR-10"),
        ("data_batch_1.mat", "the MATLAB version of CIFAR-10"),
        ("cifar-100-", "CIFAR-100"),
        ("fine_label_names.txt", "CIFAR-100"),
    ),
)
CIFAR100_FILES = Version(
    title="CIFAR-100",
    archive="cifar-100-binary.tar.gz",
    folder="cifar-100-binary",
    python_archive="cifar-100-python.tar.gz",
    python_folder="cifar-100-python",
    names="fine_label_names.txt",
    batches={"train.bin": "train", "test.bin": "test"},
    python_names=("meta", "fine_label_names"),
    labels=(("coarse_labels", "coarse_label"), ("fine_labels", "fine_label")),
    md5="03b5dce01913d631647c71ecec9e9cb8",
    others=(
        ("cifar-100-matlab", "the MATLAB version of CIFAR-100"),
        ("cifar-10-", "CIFAR-10"),
        ("data_batch_1", "CIFAR-10"),
        ("batches.meta", "CIFAR-10"),
    ),
)

_FIRST_LABELS = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # of data_batch_1 of CIFAR-10


@dataclass(frozen=True)
class Form:
    """A place that holds the data, and how it is read. `whole`: the form itself shows that nothing is missing."""

    place: Path
    read: Callable[[], Contents]
    whole: bool = False


def forms(root: Path, version: Version, cache: Path) -> Iterator[Form]:
    """Yield what there is at `root`, or in it, as far as names and the members of archives say."""
    if not root.is_dir():
        if _is_python_archive(root, version):
            yield Form(root, partial(_python_archive, root, version))
        return
    for folder in (root / version.folder, root):
        if _has_one(folder, version.batches):
            yield Form(folder, partial(_in_folder, folder, [version.names, *version.batches]))
    for folder in (root / version.python_folder, root):
        if has_python_files(folder, version):
            yield Form(folder, partial(_python_folder, folder, version))
    for name in (version.archive, version.python_archive):
        if _is_python_archive(root / name, version):
            yield Form(root / name, partial(_python_archive, root / name, version))
    if tables := parquet_files(root):
        yield Form(root, partial(from_parquet, tables, version, cache), whole=True)


def has_python_files(folder: Path, version: Version) -> bool:
    return _has_one(folder, _python_files(version))


def _has_one(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _python_folder(folder: Path, version: Version) -> Contents:
    return from_python(_in_folder(folder, _python_files(version)), version)


def _python_archive(archive: Path, version: Version) -> Contents:
    return from_python(_archived(archive, _python_files(version), version.python_folder), version)


def binary_archive(archive: Path, version: Version) -> Contents:
    return _archived(archive, [version.names, *version.batches], version.folder)


def _in_folder(folder: Path, names: list[str]) -> Contents:
    return {name: (folder / name).read_bytes() for name in names}


def _archived(archive: Path, names: list[str], folder: str) -> Contents:
    wanted, found = {f"{folder}/{name}": name for name in names}, {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = wanted.get(member.name.removeprefix("./"))
            file = tar.extractfile(member) if name is not None and member.isreg() else None
            if name is not None and file is not None:
                found[name] = file.read()
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"it has no {folder}/{missing[0]}")
    return {name: found[name] for name in names}


def _is_python_archive(path: Path, version: Version) -> bool:
    if not path.is_file():
        return False
    try:
        with tarfile.open(path) as tar:
            return any(member.name.removeprefix("./").startswith(version.python_folder) for member in tar)
    except Exception:  # those of tarfile and of all decompressors
        return False


def _python_files(version: Version) -> list[str]:
    return [version.python_names[0], *version.batches.values()]


def from_python(files: Contents, version: Version) -> Contents:
    """Return the content of the binary version. Raises `ValueError` for all that is no part of CIFAR."""
    meta, entry = version.python_names
    names = _read(files, meta).get(entry)
    if not isinstance(names, list) or not names or not all(isinstance(name, (bytes, str)) for name in names):
        raise ValueError(f"{meta} has no list {entry}")
    contents = {version.names: _as_lines([n if isinstance(n, str) else n.decode("latin1") for n in names])}
    for binary, python in version.batches.items():
        entries = _read(files, python)
        labels = [entries.get(label) for label, _ in version.labels]
        try:
            contents[binary] = _records(labels, entries.get("data"))
        except ValueError as error:
            raise ValueError(f"{python}: {error}") from None
    return contents


def _read(files: Contents, name: str) -> dict[str, Any]:
    try:
        return read_pickled(files[name])
    except Refused as error:
        raise ValueError(f"{name} is not read, and nothing in it was run: {error}") from None


def _records(labels: list[Any], data: Any) -> bytes:
    """Return records of label bytes and pixels. Raises `ValueError` unless all are there."""
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        raise ValueError(f"its entry data is no array of {PIXELS} values an image")
    for column in labels:
        if not isinstance(column, list) or not all(type(label) is int and 0 <= label < 256 for label in column):
            raise ValueError("its labels are no list of numbers from 0 to 255")
        if len(column) != len(data):
            raise ValueError(f"it has {len(data)} images and {len(column)} labels")
    columns = [np.array(column, dtype=np.uint8).reshape(-1, 1) for column in labels]
    return np.concatenate([*columns, data], axis=1).tobytes()


def _as_lines(names: list[str]) -> bytes:
    return "".join(f"{name}\n" for name in [*names, ""]).encode()  # the original ends in an empty line


def parquet_files(root: Path) -> dict[Path, dict[str, list[Path]]]:
    """Return the Parquet files below a folder by folder and split, for folders that have some for train and test."""
    found: dict[Path, dict[str, list[Path]]] = {}
    for path in sorted({path for pattern in _PARQUET for path in root.glob(pattern)}):
        for split in ("train", "test"):
            if path.name.startswith(split):
                found.setdefault(path.parent, {}).setdefault(split, []).append(path)
    return {folder: files for folder, files in found.items() if len(files) == 2}


def from_parquet(tables: dict[Path, dict[str, list[Path]]], version: Version, cache: Path) -> Contents:
    """Return the content of the binary version; the images are decoded once. Raises `ValueError` for other tables."""
    if len(tables) > 1:
        raise ValueError(f"{' and '.join(f'{folder.name}/' for folder in tables)} both hold Parquet files")
    files = next(iter(tables.values()))
    digest = hashlib.sha256()
    for path in (path for split in ("train", "test") for path in files[split]):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    identity = {"parquet": digest.hexdigest(), "of": version.title, "version": 1}
    decoded = Store(cache).get_or_make("images", identity, lambda: _decode_parquet(files, version))
    contents = {name: decoded.tensors[name].numpy().tobytes() for name in version.batches}
    return {version.names: _as_lines(decoded.record["class_names"]), **contents}


def _decode_parquet(files: dict[str, list[Path]], version: Version) -> Artifact:
    *train, test = version.batches
    names, rows = _rows(files["train"], version)
    parts = dict(zip(train, _in_batches(rows, len(train), version)))
    parts[test] = _rows(files["test"], version)[1]
    return Artifact({"class_names": names}, {name: torch.from_numpy(part.flatten()) for name, part in parts.items()})


def _in_batches(rows: np.ndarray, count: int, version: Version) -> list[np.ndarray]:
    """Return the rows in parts; if they are CIFAR-10's in the order of the Python archive's members, as on Hugging
    Face, each in its place."""
    parts = np.array_split(rows, count)
    order = version.parquet_order
    if order and len(rows) == 50_000 and parts[order.index(1)][: len(_FIRST_LABELS), 0].tolist() == _FIRST_LABELS:
        return [parts[order.index(batch)] for batch in range(1, count + 1)]
    return parts


def _rows(paths: list[Path], version: Version) -> tuple[list[str], np.ndarray]:
    """Return the class names and the records, (n, labels + pixels) uint8, of a split's files."""
    from pyarrow import concat_tables
    from pyarrow.parquet import read_table

    table = concat_tables([read_table(path, partitioning=None) for path in paths])
    images = next((name for name in _IMAGE_COLUMNS if name in table.column_names), None)
    columns = [column for _, column in version.labels]
    if images is None or not set(columns) <= set(table.column_names):
        raise ValueError(
            f"{shown(paths[0].name)} has the columns {shown(', '.join(table.column_names))}; "
            f"allowed: {' or '.join(_IMAGE_COLUMNS)}, {', '.join(columns)}"
        )
    pixels = [_pixels(value, row) for row, value in enumerate(table.column(images).to_pylist())]
    labels = [table.column(column).to_pylist() for column in columns]
    records = np.frombuffer(_records(labels, np.stack(pixels) if pixels else None), np.uint8)
    return _class_names(table.schema.metadata, version), records.reshape(-1, version.record)


def _pixels(value: Any, row: int) -> np.ndarray:
    raw = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(raw, bytes):
        raise ValueError(f"row {row} has no bytes of an image")
    try:
        pixels = read_picture(raw, 3, None).pixels
    except Unreadable as error:
        raise ValueError(f"row {row} {error}") from None
    if pixels.shape != (3, 32, 32):
        raise ValueError(f"row {row} has an image of {pixels.shape[1]}x{pixels.shape[2]}; allowed: 32x32")
    return pixels.reshape(-1)


def _class_names(metadata: dict[bytes, bytes] | None, version: Version) -> list[str]:
    """Return the names that a data set of Hugging Face carries, else those of the original."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[version.labels[-1][1]]["names"]
    except (KeyError, TypeError, ValueError):
        names = None
    if isinstance(names, list) and all(isinstance(name, str) and name.split() == [name] for name in names):
        return names
    return [*version.classes] or [str(label) for label in range(100)]


def check(contents: Contents, version: Version, whole: bool) -> None:
    """Raise `ValueError` unless all batches are whole; those of CIFAR-10 that nothing verifies are of one size, too."""
    classes = len(contents[version.names].decode().split())
    longest = max(len(contents[name]) for name in version.batches) if version is CIFAR10_FILES else 0
    for name in version.batches:
        size = len(contents[name])
        if size == 0 or size % version.record or (size < longest and not whole):
            raise ValueError(f"{name} is cut off: {size} bytes")
        if max(contents[name][len(version.labels) - 1 :: version.record]) >= classes:
            raise ValueError(f"{name} has labels beyond the {classes} classes of {version.names}")


def digest_of(contents: Contents, version: Version) -> str:
    """Return what identifies the images: the checksum of the original archive if they are its."""
    if version.known and tuple(_as_git_has_it(contents[name]) for name in version.batches) == version.known:
        return f"md5:{version.md5}"
    names = contents[version.names].decode().split()
    digest = hashlib.sha256()
    for name in (version.names, *version.batches):
        content = (
            _as_lines(names if version.classes else [str(len(names))]) if name == version.names else contents[name]
        )
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def _as_git_has_it(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def decode(raw: bytes, version: Version) -> tuple[Tensor, Tensor]:
    """Return images (n, 3, 32, 32) uint8 and labels (n,) int64."""
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, version.record)
    labels = torch.from_numpy(records[:, len(version.labels) - 1].astype(np.int64))
    images = torch.from_numpy(np.ascontiguousarray(records[:, len(version.labels) :]).reshape(-1, 3, 32, 32))
    return images, labels
