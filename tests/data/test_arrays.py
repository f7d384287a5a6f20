"""Arrays of the user in every kind of file: equal tensors, one identity, stated rules, one line for what is refused."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from rebuttal.data import Arrays
from rebuttal.data.arrays import _shaped
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 4
X_TEST, Y_TEST = RNG.normal(size=(12, 5)).astype(np.float32), np.arange(12) % 4
SPLIT = {"x_train": X, "y_train": Y, "x_test": X_TEST, "y_test": Y_TEST}
PIXELS = RNG.integers(256, size=(40, 3, 6, 7), dtype=np.uint8)


def read(path, **settings):
    return Arrays(path=str(path), **settings).read(path)


def save(path, arrays):
    """Write arrays in the kind of file that the path names; a folder of .npy files for a path without a suffix."""
    match path.suffix:
        case ".npz":
            np.savez_compressed(path, **arrays)
        case ".safetensors":
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        case ".parquet":
            frame(arrays["x"], arrays["y"]).to_parquet(path)
        case ".tables":
            path.mkdir()
            frame(arrays["x_train"][:30], arrays["y_train"][:30]).to_parquet(path / "train-0.parquet")
            frame(arrays["x_train"][30:], arrays["y_train"][30:]).to_parquet(path / "train-1.parquet")
            frame(arrays["x_test"], arrays["y_test"])[["label", *"edcba"]].to_parquet(path / "test.parquet")
        case _:
            path.mkdir()
            for name, array in arrays.items():
                np.save(path / f"{name}.npy", array)
    return path


def frame(x, y):
    return pd.DataFrame({**dict(zip("abcde", x.T)), "label": y}, index=np.arange(len(y)) + 7)


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a", "a.tables"])
def test_four_arrays_are_training_and_test(name, tmp_path):
    path = save(tmp_path / name, SPLIT)
    for root in (path, *path.glob("*.npy")):
        found = read(root)
        assert torch.equal(found.train, torch.from_numpy(X)) and torch.equal(found.test, torch.from_numpy(X_TEST))
        assert found.train_labels.tolist() == Y.tolist() and found.test_labels.tolist() == Y_TEST.tolist()
        assert found.class_names == ("0", "1", "2", "3") and found.train_labels.dtype == torch.int64
        assert found.digest == read(save(tmp_path / "other.npz", SPLIT)).digest
    other = read(save(tmp_path / "changed.npz", {**SPLIT, "y_test": Y_TEST[::-1]}))
    assert other.digest != found.digest


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a", "a.parquet"])
def test_two_arrays_are_split_by_a_fraction_or_a_file(name, tmp_path):
    path = save(tmp_path / name, {"x": X, "y": Y})
    found = read(path, test_fraction=0.2)
    assert found.test_labels.bincount().tolist() == [2, 2, 2, 2] and len(found.train) == 32
    both = torch.cat([found.train, found.test])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, X.tolist()))
    labels = dict(zip(map(tuple, X.tolist()), Y.tolist()))
    assert [labels[tuple(row)] for row in found.test.tolist()] == found.test_labels.tolist()
    assert read(path, test_fraction=0.2).digest == found.digest != read(path, test_fraction=0.3).digest

    lines = ["test" if i % 3 == 0 else "train" for i in range(40)]
    (tmp_path / "split.txt").write_text("\n".join(lines) + "\n")
    split = read(path, split=str(tmp_path / "split.txt"))
    assert torch.equal(split.test, torch.from_numpy(X[::3]))
    four = {"x_test": X[::3], "y_test": Y[::3]}
    four |= {"x_train": np.delete(X, np.s_[::3], axis=0), "y_train": np.delete(Y, np.s_[::3])}
    assert split.digest == read(save(tmp_path / "four.npz", four)).digest


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y.astype(np.uint8), ("0", "1", "2", "3")),
        (Y.astype(np.int8) * 5 - 7, ("-7", "-2", "3", "8")),
        (Y.astype(np.uint64)[:, None], ("0", "1", "2", "3")),
        (Y % 2 == 0, ("0", "1")),
        (np.array(["cat", "ant", "bee", "ünd"])[Y], ("ant", "bee", "cat", "ünd")),
        (np.array([b"cat", b"ant", b"bee", b"dog"])[Y], ("ant", "bee", "cat", "dog")),
    ],
)
def test_the_distinct_labels_in_order_are_the_classes(labels, names, tmp_path):
    found = read(save(tmp_path / "a.npz", {"x": X, "y": labels}), test_fraction=0.25)
    assert found.class_names == names
    of = {
        tuple(x): names.index(str(int(v) if v.dtype == bool else v.decode() if v.dtype.kind == "S" else v))
        for x, v in zip(X.tolist(), np.ravel(labels))
    }
    assert [of[tuple(x)] for x in found.train.tolist()] == found.train_labels.tolist()
    frame = pd.DataFrame({**dict(zip("abcde", X.T)), "y": np.ravel(labels).astype(labels.dtype)})
    if labels.dtype.kind != "S":
        frame.to_parquet(tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet", test_fraction=0.25).digest == found.digest


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (PIXELS, (3, 6, 7)),
        (PIXELS.transpose(0, 2, 3, 1), (3, 6, 7)),
        (PIXELS[:, :1], (1, 6, 7)),
        (PIXELS[:, :1].transpose(0, 2, 3, 1), (1, 6, 7)),
        (PIXELS[:, 0], (1, 6, 7)),
        (PIXELS.astype(np.float16), (3, 6, 7)),
        (PIXELS.astype(">f8").transpose(0, 2, 3, 1), (3, 6, 7)),
    ],
)
def test_images_of_every_layout(array, shape, tmp_path):
    found = read(save(tmp_path / "a.npz", {"x_train": array, "y_train": Y, "x_test": array[:8], "y_test": Y[:8]}))
    assert tuple(found.train.shape[1:]) == shape
    assert found.train.dtype == (torch.uint8 if array.dtype == np.uint8 else torch.float32)
    assert np.array_equal(found.train.numpy(), PIXELS[:, : shape[0]])
    assert torch.equal(found.test, found.train[:8])


def test_a_layout_that_the_shape_leaves_open_is_asked_for(tmp_path):
    x = PIXELS[:, :, :, :3]
    path = save(tmp_path / "a.npz", {"x": x, "y": Y})
    assert "may be (n, c, h, w) or (n, h, w, c); allowed: dataset.layout=" in refusal(path, test_fraction=0.2)
    assert tuple(read(path, test_fraction=0.2, layout="channels_first").train.shape[1:]) == (3, 6, 3)
    assert tuple(read(path, test_fraction=0.2, layout="channels_last").train.shape[1:]) == (3, 3, 6)
    path = save(tmp_path / "b.npz", {"x": PIXELS.transpose(0, 2, 1, 3), "y": Y})
    assert "has neither 1 nor 3 channels" in refusal(path, test_fraction=0.2)
    assert tuple(read(path, test_fraction=0.2, layout="channels_first").train.shape[1:]) == (6, 3, 7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=4, max_size=4))
def test_the_layout_is_never_guessed(shape):
    array = np.zeros(shape, np.uint8)
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        with pytest.raises(ValueError, match=r"allowed: dataset\.layout"):
            _shaped(array, "x", None)
    else:
        assert _shaped(array, "x", None).shape[1] in (1, 3)


def test_features_are_standardised_exactly(tmp_path):
    """Before they are rounded: seconds since 1970 differ by less than float32 can hold."""
    x = np.stack([1.7e9 + np.arange(40) / 8, np.full(40, 0.1), X[:, 0] * 1e-12, Y], axis=1)
    path = save(
        tmp_path / "a.npz", {"x_train": x, "y_train": Y, "x_test": np.add(x[:8], [0, 2, 0, 0]), "y_test": Y[:8]}
    )
    found = read(path, standardise=True)
    expected = (x - x.mean(axis=0)) / np.where([True, False, True, True], x.std(axis=0), 1)
    assert np.allclose(found.train.numpy(), expected, atol=1e-5)
    assert np.allclose(found.test[:, 1], 2) and found.digest != read(path).digest


def test_bytes_are_pixels_and_other_integers_are_numbers(tmp_path):
    x = (np.arange(200).reshape(40, 5) % 256).astype(np.uint8)
    as_bytes = read(save(tmp_path / "a.npz", {"x": x, "y": Y}), test_fraction=0.2)
    as_numbers = read(save(tmp_path / "b.npz", {"x": x.astype(np.int64), "y": Y}), test_fraction=0.2)
    assert as_bytes.train.dtype == torch.uint8 and as_numbers.train.dtype == torch.float32
    assert torch.equal(in_unit_range(as_bytes.train) * 255, as_numbers.train)


def test_columns_of_lists_are_vectors_and_images(tmp_path):
    pd.DataFrame({"x": list(X), "y": Y}).to_parquet(tmp_path / "a.parquet")
    expected = read(save(tmp_path / "a.npz", {"x": X, "y": Y}), test_fraction=0.2)
    assert read(tmp_path / "a.parquet", test_fraction=0.2).digest == expected.digest
    pd.DataFrame({"x": [image.tolist() for image in PIXELS[:, 0] / 255], "y": Y}).to_parquet(tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet", test_fraction=0.2).train.shape == (32, 1, 6, 7)


def test_the_splits_share_no_example_and_pixels_are_corrupted(tmp_path):
    path = save(tmp_path / "a.npz", {"x": PIXELS / np.float32(255), "y": Y})
    plain = Arrays(path=str(path), test_fraction=0.2, train_size=20).open(tmp_path)
    splits = [plain.examples(split, 0).inputs for split in ("train", "student", "test")]
    assert [len(split) for split in splits] == [20, 12, 8]
    assert len(torch.cat(splits).flatten(1).unique(dim=0)) == 40
    noise = Arrays(path=str(path), test_fraction=0.2, pixels="gaussian").open(tmp_path).examples("train", 0).inputs
    assert abs(noise.mean() - 0.5) < 0.05 and abs(noise.std() - 0.29) < 0.05
    shuffled = Arrays(path=str(path), test_fraction=0.2, pixels="shuffled").open(tmp_path).examples("train", 0).inputs
    original = Arrays(path=str(path), test_fraction=0.2).open(tmp_path).examples("train", 0).inputs
    assert torch.equal(shuffled.flatten(2).sort().values, original.flatten(2).sort().values)
    assert not torch.equal(shuffled, original)


def refusal(path, **settings):
    with pytest.raises(ConfigError) as caught:
        read(path, **settings)
    message = str(caught.value)
    assert "\n" not in message and "; allowed: " in message and f"dataset.path={path}" in message
    return message


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made",)


def test_pickles_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Runs()] * 40, dtype=object)
    for name in ("a.npz", "b"):
        for arrays in ({"x": objects, "y": Y}, {"x": X, "y": objects}):
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}{name}"
            assert "allow_pickle=False" in refusal(save(path, arrays), test_fraction=0.2)
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Runs()))
    refusal(tmp_path / "c.npz", test_fraction=0.2)
    assert not (tmp_path / "made").exists()


LONG = np.array(["a"] * 40)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X}, "it has the arrays x; allowed: arrays x and y, or x_train"),
        ({"a": X, "b": Y}, "it has the arrays a, b; allowed: arrays x and y"),
        ({**SPLIT, "x": X, "y": Y}, "it has the arrays x, x_test, x_train, y, y_test, y_train; allowed: "),
        ({"x": X, "y": Y, "x_test": X_TEST}, "it has the arrays x, x_test, y; allowed: "),
        ({"x": X, "y": Y[:-1]}, "x has shape [40, 5], y [39]; allowed: as many labels as inputs"),
        ({"x": X[:0], "y": Y[:0]}, "x has shape [0, 5], y [0]; allowed: "),
        ({"x": X[:, :0], "y": Y}, "x has shape [40, 0]; allowed: (n, d), (n, h, w)"),
        ({"x": X[:, 0], "y": Y}, "x has shape [40]; allowed: (n, d)"),
        ({"x": np.float32(1), "y": Y}, "x has shape [], y [40]"),
        ({"x": PIXELS[:, None], "y": Y}, "x has shape [40, 1, 3, 6, 7]; allowed: "),
        ({"x": PIXELS.astype(np.int16), "y": Y}, "x holds int16; allowed: uint8 pixels or floats"),
        ({"x": X.astype(complex), "y": Y}, "x holds complex128; allowed: numbers"),
        ({"x": LONG[:, None], "y": Y}, "x holds <U1; allowed: numbers"),
        ({"x": np.where(X > 2, np.nan, X), "y": Y}, "has values that are missing, infinite or beyond 3e38"),
        ({"x": X.astype(np.float64) * 1e39, "y": Y}, "has values that are missing, infinite or beyond 3e38"),
        ({"x": X, "y": Y / 2}, "y holds float64 in shape [40]; allowed: integers or text"),
        ({"x": X, "y": np.eye(4)[Y].astype(int)}, "y holds int64 in shape [40, 4]; allowed: integers or text"),
        ({"x": X, "y": np.uint64(2**63) + Y.astype(np.uint64)}, "allowed: integers below 2^63"),
        ({"x": X, "y": Y * 0}, "y has 40 labels of 1 class; allowed: at least 2 classes"),
        ({**SPLIT, "y_train": Y * 0}, "y_train has 1 class; allowed: at least 2 classes"),
        ({**SPLIT, "y_test": Y_TEST + 1}, "the label 4 is only in y_test; allowed: "),
        ({**SPLIT, "y_test": LONG[:12]}, "its labels are integers for training and text for test; allowed: one kind"),
        ({**SPLIT, "y_test": Y_TEST[1:]}, "it has 12 inputs and 11 labels for test; allowed: as many"),
        ({**SPLIT, "x_test": X_TEST[:, 1:]}, "its inputs are float32 [5] for training and float32 [4] for test"),
        (
            {**SPLIT, "x_test": X_TEST.astype(np.uint8)},
            "its inputs are float32 [5] for training and uint8 [5] for test",
        ),
    ],
)
def test_other_arrays_are_named_in_one_line(arrays, said, tmp_path):
    settings = {} if "x_train" in arrays and "x" not in arrays else {"test_fraction": 0.2}
    assert said in refusal(save(tmp_path / "a.npz", arrays), **settings)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x_train": X[:, 0]}, "x_train has shape [40]; allowed: (n, d)"),
        ({"x_test": X_TEST[:, 0]}, "x_test has shape [12]; allowed: (n, d)"),
        ({"x_test": X_TEST * np.float32(np.nan)}, "x_test has values that are missing, "),
        ({"y_test": Y_TEST / 2}, "y_test holds float64 in shape [12]; allowed: integers or text"),
    ],
)
def test_of_four_arrays_the_one_that_is_wrong_is_named(arrays, said, tmp_path):
    whole = {"x_train": X, "y_train": Y, "x_test": X_TEST, "y_test": Y_TEST}
    assert f": {said}" in refusal(save(tmp_path / "a.npz", whole | arrays))


def test_values_that_are_missing_in_what_is_held_out_are_those_of_x(tmp_path):
    path = save(tmp_path / "a.npz", {"x": np.where(np.arange(40)[:, None] < 39, X, np.nan), "y": Y})
    (tmp_path / "split.txt").write_text("train\n" * 39 + "test\n")
    assert ": x has values that are missing, " in refusal(path, split=str(tmp_path / "split.txt"))


@pytest.mark.parametrize(
    ("labels", "settings", "cause", "leaves", "lost"),
    [
        (Y, {"test_fraction": 0.999}, "test_fraction=0.999", 0, 0),
        (Y // 3, {"test_fraction": 0.95}, "test_fraction=0.95", 2, 1),
        (np.array([0, 1]), {}, "test_fraction=null, which is 0.2", 1, 0),
    ],
)
def test_a_fraction_that_leaves_too_little_is_named_and_not_the_data(labels, settings, cause, leaves, lost, tmp_path):
    path = save(tmp_path / "a.npz", {"x": X[: len(labels)], "y": labels})
    assert refusal(path, **settings) == (
        f"dataset.{cause}: it leaves {leaves} of the {len(labels)} examples of dataset.path={path} for training, none "
        f"with the label {lost}; allowed: examples of each class for training"
    )


def test_a_split_that_leaves_a_class_out_is_named(tmp_path):
    path, lines = save(tmp_path / "a.npz", {"x": X, "y": Y == 0}), tmp_path / "split.txt"
    lines.write_text("\n".join("test" if y == 0 else "train" for y in Y))
    line = refusal(path, split=str(lines))
    assert line.startswith(f"dataset.split={lines}: it leaves 30 of the 40 examples of ")
    assert "none with the label 1; allowed: " in line


def test_of_arrays_without_a_split_a_fifth_of_each_class_is_held_out(tmp_path):
    path = save(tmp_path / "a.npz", {"x": X, "y": Y})
    usual = read(path)
    assert usual.digest == read(path, test_fraction=0.2).digest
    assert usual.test_labels.bincount().tolist() == [2, 2, 2, 2] and len(usual.train) == 32


def test_other_settings_are_named_in_one_line(tmp_path):
    whole, split = save(tmp_path / "a.npz", {"x": X, "y": Y}), save(tmp_path / "b.npz", SPLIT)
    images = save(tmp_path / "c.npz", {"x": PIXELS, "y": Y})
    lines = tmp_path / "split.txt"
    lines.write_text("train\ntest\n")
    assert "both split and test_fraction are given; allowed: one of them" in refusal(
        whole, split=str(lines), test_fraction=0.2
    )
    assert refusal(split, test_fraction=0.2).startswith("dataset.test_fraction: ")
    assert refusal(split, split=str(lines)).startswith("dataset.split: ")
    assert refusal(whole, test_fraction=0.2, pixels="shuffled").startswith("dataset.pixels=shuffled: ")
    assert "its inputs are no vectors" in refusal(images, test_fraction=0.2, standardise=True)
    for content, said in [
        (b"train\ntest\n", "it has 2 lines for 40 examples, 1 test"),
        (b"train\n" * 40, "it has 40 lines for 40 examples, 0 test"),
        (b"test\n" * 40, "it has 40 lines for 40 examples, 40 test"),
        (b"train\n" * 39 + b"valid\n", "it has the line valid"),
        (b"\xff\xfe", "cannot be read (no text)"),
        (None, "cannot be read (No such file or directory)"),
    ]:
        lines.unlink() if content is None else lines.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read(whole, split=str(lines))
        assert str(caught.value).startswith(f"dataset.split={lines}: {said}; allowed: a text file with a line")
    with pytest.raises(ConfigError, match=r"dataset\.classes=5: allowed: 2 to 4"):
        Arrays(path=str(split), classes=5).open(tmp_path)


def test_other_files_are_named_in_one_line(tmp_path):
    assert "no such file or folder; allowed: a .npz" in refusal(tmp_path / "none.npz")
    (tmp_path / "a.csv").write_text("1,2")
    assert "it has the suffix .csv; allowed: a .npz" in refusal(tmp_path / "a.csv")
    (tmp_path / "empty").mkdir()
    assert "the folder has the .npy files nothing; allowed: " in refusal(tmp_path / "empty")
    whole = save(tmp_path / "whole.npz", SPLIT).read_bytes()
    tensors = save(tmp_path / "whole.safetensors", SPLIT).read_bytes()
    table = save(tmp_path / "whole.parquet", {"x": X, "y": Y}).read_bytes()
    for suffix, raw in ((".npz", whole), (".safetensors", tensors), (".parquet", table)):
        for size in (0, 1, 50, len(raw) // 2, len(raw) - 1):
            path = tmp_path / f"cut{suffix}"
            path.write_bytes(raw[:size])
            refusal(path)
    np.save(tmp_path / "one.npy", X)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    assert "it is no zip archive of .npy arrays, as .npz files are; allowed: " in refusal(tmp_path / "one.npz")
    for name in ("text.npz", "text/x.npy"):  # NumPy would call it pickled, and say how to read that
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("inputs and labels")
    np.save(tmp_path / "text" / "y.npy", Y)
    assert not any("pickle" in refusal(tmp_path / name) for name in ("text.npz", "text"))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": X[:, 0]}, "it has the columns a; allowed: y or label, and those of the inputs"),
        ({"y": Y}, "it has the columns y; allowed: "),
        ({"a": Y, "y": Y, "label": Y}, "it has the columns a, y, label; allowed: "),
        ({"a": LONG, "y": Y}, "its column a holds"),
        ({"a": pd.Series([None, *X[1:, 0]], dtype="object"), "y": Y}, "its column a has 1 missing values"),
        ({"a": X[:, 0], "y": pd.Series([None, *["b"] * 39])}, "its column y has 1 missing values"),
        ({"x": [[1.0], *[[1.0, 2.0]] * 39], "y": Y}, "; allowed: "),
        ({"x": [[1.0, 2.0]] * 40, "z": X[:, 0], "y": Y}, "its column x holds list"),
        ({"a": pd.date_range("2020", periods=40), "y": Y}, "its column a holds timestamp"),
        ({"a": X[:, 0], "y": Y / 2}, "y holds float64"),
    ],
)
def test_other_tables_are_named_in_one_line(columns, said, tmp_path):
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    assert said in refusal(tmp_path / "a.parquet", test_fraction=0.2)


def test_tables_of_different_columns_are_refused(tmp_path):
    save(tmp_path / "a.tables", SPLIT)
    frame(X_TEST, Y_TEST).rename(columns={"a": "z"}).to_parquet(tmp_path / "a.tables/test.parquet")
    assert "its tables for train and test have different columns" in refusal(tmp_path / "a.tables")
