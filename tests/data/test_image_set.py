import numpy as np
import pytest
import torch

from rebuttal.data.image_set import Images, ImageSet, ImageSource, arrangement
from rebuttal.errors import ConfigError


def source(**settings):
    """90 training and 30 test images of 3 unequal classes; each image's pixels hold its number."""
    labels = torch.tensor([0] * 45 + [1] * 30 + [2] * 15)
    numbers = torch.arange(90, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    tests = torch.arange(100, 130, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    images = Images(numbers, labels, tests, torch.arange(30) % 3, ("a", "b", "c"), "digest")
    return ImageSource(ImageSet(**settings), images)


def numbers(examples):
    return examples.inputs[:, 0, 0, 0].tolist()


def test_by_default_a_split_has_all_images():
    assert sorted(numbers(source().examples("train", 0))) == list(range(90))
    assert sorted(numbers(source().examples("test", 0))) == list(range(100, 130))


@pytest.mark.parametrize("subset", ["stratified", "random"])
def test_train_student_and_test_share_no_image_and_sizes_are_nested(subset):
    small = source(train_size=20, student_size=30, subset=subset)
    train, student = numbers(small.examples("train", 0)), numbers(small.examples("student", 0))
    assert len(set(train) | set(student)) == 50
    assert max(train + student) < 90
    assert numbers(source(train_size=40, subset=subset).examples("train", 0))[:20] == train


@pytest.mark.parametrize("size", [6, 7, 20, 48, 89])
def test_a_stratified_subset_keeps_class_shares_within_one_example(size):
    counts = source(train_size=size).examples("train", 0).labels.bincount(minlength=3)
    expected = size * np.array([1 / 2, 1 / 3, 1 / 6])
    assert np.abs(counts.numpy() - expected).max() <= 1


def test_labels_belong_to_their_images():
    examples = source(train_size=50).examples("train", 0)
    assert [0 if n < 45 else 1 if n < 75 else 2 for n in numbers(examples)] == examples.labels.tolist()


def test_fewer_classes_keep_the_first():
    two = source(classes=2)
    assert two.classes == 2
    assert sorted(numbers(two.examples("train", 0))) == list(range(75))
    assert two.examples("test", 0).labels.unique().tolist() == [0, 1]


def test_an_arrangement_is_a_permutation():
    labels = np.random.default_rng(0).integers(10, size=1000)
    for subset in ("stratified", "random"):
        assert sorted(arrangement(labels, subset, np.random.default_rng(1))) == list(range(1000))


@pytest.mark.parametrize(
    ("settings", "split", "message"),
    [
        ({"train_size": 91}, "train", r"dataset\.train_size=91: only 90 examples"),
        ({"test_size": 31}, "test", r"dataset\.test_size=31: only 30 examples"),
        ({"train_size": 80, "student_size": 11}, "student", r"dataset\.student_size=11: only 10 examples"),
        ({}, "student", r"dataset\.train_size=null leaves of 90"),
        ({"classes": 4}, "train", r"dataset\.classes=4: allowed: 2 to 3"),
    ],
)
def test_sizes_beyond_the_available_images_are_rejected(settings, split, message):
    with pytest.raises(ConfigError, match=message):
        source(**settings).identity(split)
