import time

import numpy as np
import pytest
import torch

from rebuttal.data import ImageFolder, RandomWalk, UniformNoise
from rebuttal.errors import ConfigError
from tests.conftest import save_images


def opened(**settings):
    return RandomWalk(**settings).open(None)


@pytest.mark.parametrize(("step", "values"), [("location", 3), ("value", 1)])
@pytest.mark.parametrize("value", ["uniform", "grey_level"])
def test_exactly_one_pixel_changes_at_each_step(step, values, value):
    walk = opened(shape=(3, 8, 9), train_size=3000, step=step, value=value).examples("train", 0).inputs
    changed = walk[1:] != walk[:-1]
    assert (changed.any(dim=1).flatten(1).sum(dim=1) == 1).all()  # one location
    assert (changed.flatten(1).sum(dim=1) == values).all()
    assert changed.any(dim=1).any(dim=0).all()  # every location changes at some step


def test_a_vector_walks_one_coordinate_at_a_time():
    walk = opened(shape=(50,), train_size=500).examples("train", 0).inputs
    assert ((walk[1:] != walk[:-1]).sum(dim=1) == 1).all()


def test_the_test_split_continues_the_walk_and_the_student_has_its_own():
    walk = opened(shape=(3, 8, 8), train_size=200, student_size=200, test_size=100)
    train, student, test = (walk.examples(split, 0).inputs for split in ("train", "student", "test"))
    whole = opened(shape=(3, 8, 8), train_size=300).examples("train", 0).inputs
    assert torch.equal(torch.cat([train, test]), whole)
    assert ((train != student).flatten(1).double().mean(dim=1) > 0.9).all()


def test_fifty_thousand_steps_take_under_two_seconds():
    walk = opened(shape=(3, 32, 32), train_size=50_000)
    begin = time.process_time()
    images = walk.examples("train", 0).inputs
    assert time.process_time() - begin < 2
    assert images.numel() * images.element_size() == 50_000 * 3072


def test_grey_levels_change_by_one_and_are_reflected_at_black_and_white():
    walk = opened(shape=(1,), train_size=200_000, value="grey_level").examples("train", 0).inputs.numpy().astype(int)
    steps = np.diff(walk[:, 0])
    assert set(np.unique(steps)) == {-1, 1}
    assert walk.min() == 0 and walk.max() == 255
    assert abs((steps == 1).mean() - 0.5) < 0.01


def test_each_kth_image_of_the_same_walk():
    every = opened(shape=(2, 5, 5), train_size=1 + 3 * 400, test_size=30).examples("train", 0).inputs
    third = opened(shape=(2, 5, 5), train_size=401, test_size=10, every=3)
    assert torch.equal(third.examples("train", 0).inputs, every[::3])
    longer = opened(shape=(2, 5, 5), train_size=411, every=3).examples("train", 0).inputs
    assert torch.equal(third.examples("test", 0).inputs, longer[401:])


def test_images_of_a_thinned_walk_are_as_far_apart_as_noise():
    thin = opened(shape=(3, 8, 8), train_size=200, every=2000).examples("train", 0).inputs.double() / 255
    noise = UniformNoise(shape=(3, 8, 8), train_size=200).examples("train", 0).inputs.double()
    ours, theirs = ((x[1:] - x[:-1]).flatten(1).norm(dim=1).mean().item() for x in (thin, noise))
    assert ours == pytest.approx(theirs, rel=0.02)


def test_a_walk_may_start_at_a_real_image(tmp_path):
    save_images(
        tmp_path / "images", {f"{split}/{name}": 4 for split in ("train", "test") for name in "ab"}, size=(8, 8)
    )
    images = ImageFolder(root=str(tmp_path / "images"))
    walk = RandomWalk(shape=(3, 8, 8), train_size=5, student_size=5, start=images).open(tmp_path)
    real = images.open(tmp_path).examples("train", 0).inputs
    assert torch.equal(walk.examples("train", 0).inputs[0], real[0])
    assert torch.equal(walk.examples("student", 0).inputs[0], real[1])
    assert walk.identity("train") != opened(shape=(3, 8, 8), train_size=5).identity("train")
    with pytest.raises(ConfigError, match=r"dataset\.start: images of shape \[3, 8, 8\]; allowed: \[3, 9, 9\]"):
        RandomWalk(shape=(3, 9, 9), start=images).open(tmp_path)
