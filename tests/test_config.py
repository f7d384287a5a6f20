import pytest
from pydantic import PositiveInt

from rebuttal.config import build, checked, describe
from rebuttal.data import RandomLabels, UniformNoise
from rebuttal.data.labels import random_labels, true_labels
from rebuttal.errors import ConfigError


@checked
class Sample:
    size: PositiveInt
    shape: tuple[int, ...] = (1,)


def test_build_makes_nested_objects_from_the_leaves_up():
    node = {"_target_": f"{__name__}.Pair", "left": {"_target_": f"{__name__}.Sample", "size": 2, "shape": [3, 4]}}
    assert build(node, "pair") == Pair(left=Sample(size=2, shape=(3, 4)))


@checked
class Pair:
    left: Sample


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "a.b.size=0: input should be greater than 0"),
        ({"size": "3"}, "a.b.size=3: input should be a valid integer"),
        ({"size": True}, "a.b.size=True: input should be a valid integer"),
        ({"size": 1.0}, "a.b.size=1.0: input should be a valid integer"),
        ({"size": 1, "sise": 2}, "a.b.sise=2: unknown key; allowed: size, shape"),
        ({}, "a.b.size is missing; it has no default"),
    ],
)
def test_what_is_wrong_is_told_with_key_value_and_what_is_allowed(arguments, message):
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"{__name__}.Sample", **arguments}, "a.b")
    assert str(caught.value) == message


@pytest.mark.parametrize("target", ["nowhere.Nothing", "rebuttal.models.Nothing", "plain", 3])
def test_an_unknown_target_is_named(target):
    with pytest.raises(ConfigError, match=rf"^model\._target_={target}: "):
        build({"_target_": target}, "model")


def test_equal_meaning_has_equal_identity():
    assert describe(RandomLabels(fraction=1)) == describe(RandomLabels(fraction=1.0)) == describe(random_labels())
    assert describe(RandomLabels(fraction=0.0)) == describe(true_labels())
    assert describe(RandomLabels(fraction=0.5)) != describe(RandomLabels(fraction=0.25))


def test_sizes_of_other_splits_are_not_part_of_a_split():
    small, large = UniformNoise(student_size=10), UniformNoise(student_size=20)
    assert small.identity("train") == large.identity("train")
    assert small.identity("student") != large.identity("student")
    assert small.identity("train") != small.identity("test")
