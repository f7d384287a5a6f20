"""Small files in the formats of CIFAR-10 and CIFAR-100, with the same images in each."""

import hashlib
import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import add_bytes

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = {**{f"data_batch_{i}.bin": f"data_batch_{i}" for i in range(1, 6)}, "test_batch.bin": "test_batch"}


def records(n=20, labels=(10,)):
    """Labels and pixels of n images a batch."""
    rng = np.random.default_rng(0)
    images = {name: rng.integers(256, size=(n, len(labels) + 3072), dtype=np.uint8) for name in BATCHES}
    for batch in images.values():
        batch[:, : len(labels)] %= np.array(labels, dtype=np.uint8)
    return images


def python2(value):
    """What Python 2's cPickle.dump(value, file, 2) writes: the form of the original files."""
    return b"\x80\x02" + Python2().written(value) + b"."


class Python2:
    def __init__(self):
        self.memo = 0

    def written(self, value):
        if isinstance(value, bytes):
            short = len(value) < 256
            size = len(value).to_bytes(1 if short else 4, "little")
            return (b"U" if short else b"T") + size + value + self.put()
        if isinstance(value, int):
            return next(
                code + value.to_bytes(size, "little", signed=signed)
                for code, size, signed in ((b"K", 1, False), (b"M", 2, False), (b"J", 4, True))
                if code == b"J" or 0 <= value < 256**size
            )
        if isinstance(value, list):
            chunks = [value[i : i + 1000] for i in range(0, len(value), 1000)]
            return b"]" + self.put() + b"".join(b"(" + b"".join(map(self.written, c)) + b"e" for c in chunks)
        if isinstance(value, dict):
            return (
                b"}"
                + self.put()
                + b"("
                + b"".join(self.written(part) for pair in value.items() for part in pair)
                + b"u"
            )
        return self.array(value)

    def array(self, value):
        function = b"cnumpy.core.multiarray\n_reconstruct\n" + self.put() + b"cnumpy\nndarray\n" + self.put()
        empty = function + b"K\x00\x85" + self.put() + b"U\x01b\x87" + self.put() + b"R" + self.put()
        shape = b"".join(map(self.written, value.shape)) + b"\x86" + self.put()
        dtype = b"cnumpy\ndtype\n" + self.put() + b"U\x02u1K\x00K\x01\x87" + self.put() + b"R" + self.put()
        state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t" + self.put() + b"b"
        return (
            empty
            + b"(K\x01"
            + shape
            + dtype
            + state
            + b"\x89"
            + self.written(value.tobytes())
            + b"t"
            + self.put()
            + b"b"
        )

    def put(self):
        self.memo += 1
        return b"q" + bytes([self.memo]) if self.memo < 256 else b"r" + self.memo.to_bytes(4, "little")


def python_files(images, dump=python2):
    """The files of cifar-10-batches-py, by name."""
    meta = {b"num_cases_per_batch": 20, b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}
    files = {"batches.meta": dump(meta)}
    for number, (binary, python) in enumerate(BATCHES.items()):
        batch = images[binary]
        names = [f"{NAMES[label]}_s_{i:06}.png".encode() for i, label in enumerate(batch[:, 0])]
        entries = {
            b"batch_label": f"training batch {number + 1} of 5".encode(),
            b"labels": batch[:, 0].tolist(),
            b"data": np.ascontiguousarray(batch[:, 1:]),
            b"filenames": names,
        }
        files[python] = dump(entries)
    return files


def binary_files(images):
    meta = "".join(f"{name}\n" for name in [*NAMES, ""]).encode()
    return {"batches.meta.txt": meta, **{name: batch.tobytes() for name, batch in images.items()}}


def written(files, folder):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def packed(files, archive, folder):
    """An archive, and its md5."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name in sorted(files, reverse=True):
            add_bytes(tar, f"{folder}/{name}", files[name])
    return archive, hashlib.md5(archive.read_bytes()).hexdigest()


def save_parquet(rows, path, columns=("label",), names=None, image="img"):
    """Records as Hugging Face keeps them: encoded images beside columns of labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [row.reshape(3, 32, 32).transpose(1, 2, 0) for row in rows[:, len(columns) :]]
    table = pa.table(
        {image: [{"bytes": as_png(picture), "path": None} for picture in pictures]}
        | {column: rows[:, i].astype(np.int64) for i, column in enumerate(columns)}
    )
    if names:
        features = {columns[-1]: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def as_png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()
