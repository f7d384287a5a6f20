import time

import pytest
import torch

from rebuttal.data import RandomWalk


@pytest.mark.parametrize(("step", "values"), [("location", 3), ("value", 1)])
def test_exactly_one_pixel_changes_at_each_step(step, values):
    walk = RandomWalk(shape=(3, 8, 9), train_size=3000, step=step).examples("train", 0).inputs
    changed = walk[1:] != walk[:-1]
    assert (changed.any(dim=1).flatten(1).sum(dim=1) == 1).all()  # one location
    assert (changed.flatten(1).sum(dim=1) == values).all()
    assert changed.any(dim=1).any(dim=0).all()  # every location has its turn


def test_a_vector_walks_one_coordinate_at_a_time():
    walk = RandomWalk(shape=(50,), train_size=500).examples("train", 0).inputs
    assert ((walk[1:] != walk[:-1]).sum(dim=1) == 1).all()


def test_the_test_split_continues_the_walk_and_the_student_walks_elsewhere():
    walk = RandomWalk(shape=(3, 8, 8), train_size=200, student_size=200, test_size=100)
    train, student, test = (walk.examples(split, 0).inputs for split in ("train", "student", "test"))
    whole = RandomWalk(shape=(3, 8, 8), train_size=300).examples("train", 0).inputs
    assert torch.equal(torch.cat([train, test]), whole)
    assert ((train != student).flatten(1).double().mean(dim=1) > 0.9).all()


def test_fifty_thousand_steps_take_under_two_seconds():
    walk = RandomWalk(shape=(3, 32, 32), train_size=50_000)
    begin = time.perf_counter()
    images = walk.examples("train", 0).inputs
    assert time.perf_counter() - begin < 2
    assert images.numel() * images.element_size() == 50_000 * 3072
