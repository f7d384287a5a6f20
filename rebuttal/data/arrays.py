"""Arrays of the user: inputs and labels in .npz, .npy, .safetensors or .parquet files. Nothing in them is unpickled."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import is_zipfile

import numpy as np
import torch
from pydantic import Field

from rebuttal.config import checked
from rebuttal.data.image_set import Images, ImageSet, arrangement, digest_of_tensors
from rebuttal.data.trees import find, shown
from rebuttal.errors import ConfigError, UserError
from rebuttal.seeds import generator

log = logging.getLogger(__name__)

WHOLE = ("x", "y")
USUAL_FRACTION = 0.2  # of x and y that is held out
SPLIT = ("x_train", "y_train", "x_test", "y_test")
_FILES = (
    "a .npz or .safetensors file, a .parquet file, a folder of .npy files, or one of train*.parquet and test*.parquet"
)
_NAMES = f"arrays {' and '.join(WHOLE)}, or {', '.join(SPLIT)}"
_LABEL_COLUMNS = ("y", "label")
_CHANNELS = (1, 3)

Array = np.ndarray[Any, Any]


@checked
class Arrays(ImageSet):
    """Inputs and labels of the user. `path`: a file or folder with arrays `x` and `y`, or `x_train`, `y_train`,
    `x_test` and `y_test`.

    Inputs are uint8 pixels or floats: vectors (n, d), grey images (n, h, w), or images (n, c, h, w) or (n, h, w, c)
    with 1 or 3 channels; `layout` says which where both would do. Labels are integers or text; the distinct values of
    the training labels, in order, are the classes 0 to K − 1.

    Arrays x and y are split by `split`, a text file with a line `train` or `test` for each example, or by
    `test_fraction`, the share that is held out, of every class in proportion, 0.2 if neither is given; the same for
    every seed. `standardise`:
    replace each feature of vectors by (x − mean)/std over all training examples.
    """

    path: str = field(metadata={"decides": False})
    split: str | None = field(default=None, metadata={"decides": False})
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    layout: Literal["channels_first", "channels_last"] | None = None
    standardise: bool = False

    def read(self, cache: Path) -> Images:
        path, _ = find(self.path)
        try:
            arrays = {name: np.asarray(array) for name, array in _load(path).items()}
            x, y, x_test, y_test = self._split(arrays)
            if self.standardise:
                x, x_test = _standardised(x, x_test)
            names = SPLIT[::2] if SPLIT[0] in arrays else WHOLE[:1] * 2
            train, test = (_as_inputs(part, name) for part, name in zip((x, x_test), names))
            labels, test_labels, classes = _labels(y, y_test)
            _check_fit(train, labels, test, test_labels)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # of NumPy, zipfile, safetensors and pyarrow
            said = shown(" ".join(str(error).split()))
            remedy = "" if "; allowed: " in said else f"; allowed: {_FILES}, with {_NAMES}"
            raise ConfigError(f"{self._key}: {said}{remedy}") from None
        if train.ndim == 2 and self.pixels != "original":
            raise ConfigError(f"dataset.pixels={self.pixels}: {self._key} has vectors; allowed: original")
        inputs, numbers = torch.from_numpy(train), torch.from_numpy(labels)
        test_inputs, test_numbers = torch.from_numpy(test), torch.from_numpy(test_labels)
        digest = digest_of_tensors(inputs, numbers, test_inputs, test_numbers)
        return Images(inputs, numbers, test_inputs, test_numbers, classes, digest)

    @property
    def _key(self) -> str:
        return f"dataset.path={shown(self.path)}"

    def _split(self, arrays: dict[str, Array]) -> tuple[Array, Array, Array, Array]:
        """Return inputs and values of labels for training and for test, each checked as the file has it."""
        given = [f"dataset.{name}" for name in ("split", "test_fraction") if getattr(self, name) is not None]
        if SPLIT[0] in arrays:
            if given:
                raise ConfigError(f"{given[0]}: {self._key} has {', '.join(SPLIT)} of its own; allowed: null")
            x, x_test = (_checked(arrays[name], name, self.layout) for name in SPLIT[::2])
            y, y_test = (_values(arrays[name], name) for name in SPLIT[1::2])
            return x, y, x_test, y_test
        if len(given) > 1:
            raise ConfigError(f"{self._key}: both split and test_fraction are given; allowed: one of them")
        if not given:
            log.info("%s: its x and y are not split: a fifth of each class is held out", self._key)
        x, y = (arrays[name] for name in WHOLE)
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or not len(y):
            raise ValueError(f"x has shape {list(x.shape)}, y {list(y.shape)}; allowed: as many labels as inputs")
        x, y = _checked(x, "x", self.layout), _values(y, "y")
        if len(np.unique(y)) < 2:
            raise ValueError(f"y has {len(y)} labels of 1 class; allowed: at least 2 classes")
        held_out = self._held_out(y)
        return x[~held_out], y[~held_out], x[held_out], y[held_out]

    def _held_out(self, y: Array) -> Array:
        """Return which examples are for test, (n,) bool."""
        if self.split is not None:
            held_out, cause = _read_split(self.split, len(y)), f"dataset.split={shown(self.split)}"
        else:
            fraction = "null, which is 0.2" if self.test_fraction is None else self.test_fraction
            held_out, cause = self._fraction(y), f"dataset.test_fraction={fraction}"
        lost = np.setdiff1d(y, y[~held_out])
        if len(lost):
            raise ConfigError(
                f"{cause}: it leaves {np.sum(~held_out)} of the {len(y)} examples of {self._key} for training, none "
                f"with the label {lost[0]}; allowed: examples of each class for training"
            )
        return held_out

    def _fraction(self, y: Array) -> Array:
        """Return which examples are the fraction for test, (n,) bool."""
        order = arrangement(np.unique(y, return_inverse=True)[1], "stratified", generator(0, "arrays", "test"))
        held_out = np.zeros(len(y), dtype=bool)
        held_out[order[: max(1, round((self.test_fraction or USUAL_FRACTION) * len(y)))]] = True
        return held_out


# Files


def _load(path: Path) -> dict[str, Array]:
    """Return the arrays of one of the two sets of names. Raises `ValueError` for others, and what readers raise."""
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        raise ValueError(f"no such file or folder; allowed: {_FILES}")
    match path.suffix.lower():
        case ".npz":
            return _load_npz(path)
        case ".npy":
            return _load_folder(path.parent)
        case ".safetensors":
            return _load_safetensors(path)
        case ".parquet":
            return _load_tables({"": [path]})
    raise ValueError(f"it has the suffix {path.suffix or 'none'}; allowed: {_FILES}")


def _chosen(names: Iterable[str], what: str) -> tuple[str, ...]:
    """Return the set of names that is there."""
    found = set(names)
    complete = [wanted for wanted in (WHOLE, SPLIT) if found >= set(wanted)]
    if len(complete) != 1 or (complete == [WHOLE] and found & set(SPLIT)) or (complete == [SPLIT] and found & {*WHOLE}):
        listed = ", ".join(sorted(found)[:8]) or "nothing"
        raise ValueError(f"{what} {listed}; allowed: {_NAMES}")
    return complete[0]


def _load_npz(path: Path) -> dict[str, Array]:
    with path.open("rb") as opened:  # which np.load leaves open if it fails
        if not is_zipfile(opened):
            raise ValueError("it is no zip archive of .npy arrays, as .npz files are")
        opened.seek(0)
        file = np.load(opened, allow_pickle=False)
        return {name: file[name] for name in _chosen(file.files, "it has the arrays")}


def _load_folder(folder: Path) -> dict[str, Array]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".parquet")
    splits = {split: [path for path in files if path.name.startswith(split)] for split in ("train", "test")}
    arrays = {path.stem: path for path in folder.glob("*.npy") if path.stem in (*WHOLE, *SPLIT)}
    if not arrays and all(splits.values()):
        return _load_tables(splits)
    names = _chosen(arrays, "the folder has the .npy files")
    return {name: _load_array(arrays[name]) for name in names}


def _load_array(path: Path) -> Array:
    with path.open("rb") as opened:
        return np.asarray(np.lib.format.read_array(opened, allow_pickle=False))  # np.load takes any text for a pickle


def _load_safetensors(path: Path) -> dict[str, Array]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in _chosen(file.keys(), "it has the tensors")}
    return {
        name: (t if t.dtype == torch.float64 or not t.is_floating_point() else t.float()).numpy()
        for name, t in tensors.items()
    }


def _load_tables(files: dict[str, list[Path]]) -> dict[str, Array]:
    """Return the arrays of Parquet files, by split if there are two."""
    from pyarrow import concat_tables
    from pyarrow.parquet import read_table

    tables = {split: concat_tables([read_table(p, partitioning=None) for p in paths]) for split, paths in files.items()}
    found = {}
    columns = None
    for split, table in tables.items():
        kept = [name for name in table.column_names if not name.startswith("__index_level_")]
        labels = [name for name in _LABEL_COLUMNS if name in kept]
        if len(labels) != 1 or len(kept) < 2:
            raise ValueError(f"it has the columns {', '.join(kept[:8])}; allowed: y or label, and those of the inputs")
        columns = columns or [name for name in kept if name != labels[0]]
        if set(columns) != {*kept} - {*labels}:
            raise ValueError("its tables for train and test have different columns")
        found[f"x_{split}".rstrip("_")] = _features(table, columns)
        found[f"y_{split}".rstrip("_")] = _column(table, labels[0])
    return found


def _features(table: Any, columns: list[str]) -> Array:
    """Return the inputs: the lists of the one column `x`, or a feature a column."""
    if columns == ["x"] and "list" in str(table.column("x").type):
        return _column(table, "x")
    arrays = [_column(table, name) for name in columns]
    for name, array in zip(columns, arrays):
        if array.dtype.kind not in "biuf" or array.ndim != 1:
            raise ValueError(f"its column {name} holds {table.column(name).type}; allowed: numbers, a feature a column")
    return np.stack([array.astype(np.float64) for array in arrays], axis=1)


def _column(table: Any, name: str) -> Array:
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"its column {name} has {column.null_count} missing values; allowed: none")
    kind = column.type
    if "list" not in str(kind):
        return np.asarray(column.to_pylist()) if str(kind) in ("string", "large_string") else column.to_numpy()
    while hasattr(kind, "value_type"):
        kind = kind.value_type
    return np.array(column.to_pylist(), dtype=kind.to_pandas_dtype())  # refuses lists of different lengths


def _read_split(split: str, size: int) -> Array:
    key, allowed = f"dataset.split={shown(split)}", "allowed: a text file with a line train or test for each example"
    try:
        lines = find(split)[0].read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{key}: cannot be read ({getattr(error, 'strerror', None) or 'no text'}); {allowed}"
        ) from None
    other = next((line for line in lines if line not in ("train", "test")), None)
    if other is not None:
        raise ConfigError(f"{key}: it has the line {shown(other)[:40]}; {allowed}")
    if len(lines) != size or len({*lines}) < 2:
        raise ConfigError(
            f"{key}: it has {len(lines)} lines for {size} examples, {lines.count('test')} test; {allowed}"
        )
    return np.array([line == "test" for line in lines])


# Values


def _checked(array: Array, name: str, layout: str | None) -> Array:
    """Return inputs as (n, d) or (n, c, h, w). Raises `ValueError` for all others."""
    shaped = _shaped(array, name, layout)
    if array.dtype != np.uint8 and array.dtype.kind not in ("f" if array.ndim > 2 else "fbiu"):
        allowed = "uint8 pixels or floats" if array.ndim > 2 else "numbers"
        raise ValueError(f"{name} holds {array.dtype}; allowed: {allowed}")
    return shaped


def _standardised(train: Array, test: Array) -> tuple[Array, Array]:
    """Return (x − mean)/std of each feature over the training examples, computed before anything is rounded."""
    if train.ndim != 2 or train.shape[1:] != test.shape[1:]:
        raise ValueError("its inputs are no vectors of one length; allowed: dataset.standardise=false")
    exact = train.astype(np.float64)
    mean, std = exact.mean(axis=0), exact.std(axis=0)
    std[(train == train[0]).all(axis=0)] = 1  # a feature that never varies is only shifted
    return (exact - mean) / std, (test.astype(np.float64) - mean) / std


def _as_inputs(array: Array, name: str) -> Array:
    """Return inputs as uint8 or float32. Raises `ValueError` for values that are not finite then."""
    if array.dtype == np.uint8:
        return np.array(array, order="C")
    with np.errstate(over="ignore"):
        floats = np.array(array, dtype=np.float32, order="C")
    if not np.isfinite(floats).all():
        raise ValueError(f"{name} has values that are missing, infinite or beyond 3e38; allowed: finite numbers")
    return floats


def _shaped(array: Array, name: str, layout: str | None) -> Array:
    if array.ndim not in (2, 3, 4) or not array.size:
        raise ValueError(
            f"{name} has shape {list(array.shape)}; allowed: (n, d), (n, h, w), (n, c, h, w), (n, h, w, c)"
        )
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 2:
        return array
    first, last = (array.shape[axis] in _CHANNELS for axis in (1, 3))
    if layout is None and first == last:
        why = "may be (n, c, h, w) or (n, h, w, c)" if first else "has neither 1 nor 3 channels"
        raise ValueError(
            f"{name} has shape {list(array.shape)}, which {why}; allowed: dataset.layout=channels_first, channels_last"
        )
    return array if layout == "channels_first" or (layout is None and first) else array.transpose(0, 3, 1, 2)


def _labels(values: Array, test_values: Array) -> tuple[Array, Array, tuple[str, ...]]:
    """Return labels 0 … K − 1 for training and test, and the values that they stand for."""
    if values.dtype.kind != test_values.dtype.kind:
        kinds = ["text" if part.dtype.kind == "U" else "integers" for part in (values, test_values)]
        raise ValueError(f"its labels are {kinds[0]} for training and {kinds[1]} for test; allowed: one kind")
    classes = np.unique(values)
    unknown = np.setdiff1d(test_values, classes)
    if len(classes) < 2 or len(unknown):
        what = "y_train has 1 class" if len(classes) < 2 else f"the label {unknown[0]} is only in y_test"
        raise ValueError(f"{what}; allowed: at least 2 classes, each with examples for training")
    numbered = (np.searchsorted(classes, part).astype(np.int64) for part in (values, test_values))
    return next(numbered), next(numbered), tuple(str(value) for value in classes)


def _values(labels: Array, name: str) -> Array:
    """Return labels as int64 or text, (n,)."""
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or flat.dtype.kind not in "biuUS" or not len(flat):
        raise ValueError(
            f"{name} holds {labels.dtype} in shape {list(labels.shape)}; allowed: integers or text, one an input"
        )
    if flat.dtype.kind in "US":
        return np.char.decode(flat, "utf-8") if flat.dtype.kind == "S" else flat
    if flat.dtype == np.uint64 and int(flat.max()) >= 2**63:
        raise ValueError(f"{name} has the label {flat.max()}; allowed: integers below 2^63")
    return flat.astype(np.int64)


def _check_fit(train: Array, labels: Array, test: Array, test_labels: Array) -> None:
    """Raise `ValueError` unless inputs and labels, training and test fit together."""
    for part, inputs, numbers in (("training", train, labels), ("test", test, test_labels)):
        if len(inputs) != len(numbers):
            raise ValueError(f"it has {len(inputs)} inputs and {len(numbers)} labels for {part}; allowed: as many")
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        kinds = [f"{part.dtype} {list(part.shape[1:])}" for part in (train, test)]
        raise ValueError(f"its inputs are {kinds[0]} for training and {kinds[1]} for test; allowed: one kind")
