import math
from dataclasses import dataclass, replace

import pytest
import torch

from rebuttal.data import GaussianNoise, Mixture, UniformNoise
from rebuttal.data.examples import Examples
from rebuttal.data.labels import true_labels
from rebuttal.errors import ConfigError
from rebuttal.functions import Trained
from rebuttal.models import MLP
from rebuttal.runs.build import rehearse_trainings
from rebuttal.stages import Fit, Mimic
from rebuttal.stages import session as module

DATA = UniformNoise(shape=(4,), classes=3, train_size=100, student_size=100, test_size=100)
SIZE = 100 * (4 * 4 + 8)  # bytes of a split


@dataclass(frozen=True)
class Own:
    """A user's dataset, whose labels are `labels`."""

    labels: torch.Tensor
    inputs: torch.Tensor | None = None
    wrong: str = ""  # the split that has a NaN
    classes: int = 3
    shape: tuple[int, ...] = (2,)

    def __hash__(self):
        return id(self)

    def open(self, cache):
        return self

    def examples(self, split, seed):
        inputs = torch.zeros(len(self.labels), 2) if self.inputs is None else self.inputs.clone()
        if split == self.wrong:
            inputs[1, 0] = math.nan
        return Examples(inputs, self.labels)

    def identity(self, split):
        return {"size": len(self.labels), "split": split}


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (torch.tensor([0, 1, 3, 4]), "it has the label 3"),
        (torch.tensor([0, -1, 2]), "it has the label -1"),
        (torch.tensor([0, 1, 2], dtype=torch.int32), "its labels are int32"),
        (torch.tensor([0.0, 1.0]), "its labels are float32"),
    ],
)
def test_a_wrong_label_is_refused_in_one_line(session, labels, what):
    with pytest.raises(ConfigError) as caught:
        session.examples(Own(labels), "train", 0)
    assert str(caught.value) == f"dataset=Own: {what}; allowed: whole numbers from 0 to 2, as int64"


@dataclass(frozen=True)
class Slip:
    """A user's corruption, which does what `made` says."""

    made: str

    def __call__(self, labels, classes, seed):
        labels += 1  # in place
        labels %= classes
        return {
            "right": lambda: labels,
            "drawn": lambda: torch.randint(classes, labels.shape),
            "fewer": lambda: labels[:-1],
            "larger": lambda: labels + classes,
            "floats": lambda: labels.float(),
            "a list": lambda: labels.tolist(),
            "raised": lambda: 1 / 0,
        }[self.made]()


def test_a_corruption_may_change_the_labels_that_it_is_given(session, fit):
    """They are its own: the dataset's, and the next network's, are as they were."""
    true = fit.training_examples(session).labels.clone()
    slipped = replace(fit, corruption=Slip("right"))
    for _ in range(2):
        assert torch.equal(slipped.training_examples(session).labels, (true + 1) % 10)
    assert torch.equal(session.examples(fit.dataset, "train", 0).labels, true)
    assert torch.equal(fit.training_examples(session).labels, true)


def test_what_a_corruption_draws_from_torch_s_stream_is_the_same_each_time(session, fit):
    drawn = replace(fit, corruption=Slip("drawn"))
    before = torch.get_rng_state()
    one, again = (drawn.training_examples(session).labels for _ in range(2))
    assert torch.equal(one, again) and torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one, replace(drawn, seed=1).training_examples(session).labels)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("fewer", "gives int64 of shape [59]; allowed: 60 whole numbers from 0 to 9, as int64"),
        ("larger", "gives the label "),
        ("floats", "gives float32 of shape [60]; allowed: "),
        ("a list", "gives a list; allowed: "),
        ("raised", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_corruption_that_gives_no_labels_is_refused_in_one_line(session, fit, made, what):
    with pytest.raises(ConfigError) as caught:
        replace(fit, corruption=Slip(made)).training_examples(session)
    assert str(caught.value).startswith(f"corruption=Slip: {what}") and "\n" not in str(caught.value)


def test_a_dataset_that_has_not_a_label_for_each_input_is_refused_in_one_line(session, monkeypatch):
    given = Examples(torch.zeros(4, 2), torch.tensor([0, 1, 2]))
    monkeypatch.setattr(Own, "examples", lambda self, split, seed: given)
    with pytest.raises(ConfigError, match=r"^dataset=Own: has 4 inputs and labels of shape \[3\]; allowed: a label"):
        session.examples(Own(given.labels), "train", 0)
    monkeypatch.setattr(Own, "examples", lambda self, split, seed: (given.inputs, given.labels))
    with pytest.raises(ConfigError, match=r"^dataset=Own: its examples are a tuple; allowed: rebuttal.data.Examples"):
        session.examples(Own(given.labels), "test", 0)


INPUTS = torch.arange(12, dtype=torch.float32).reshape(6, 2)


@pytest.mark.parametrize(
    ("places", "what"),
    [
        ({(3, 1): math.nan}, "input number 3 (from 0) of the train split holds NaN"),
        ({(0, 0): math.inf}, "input number 0 (from 0) of the train split holds inf"),
        ({(5, 1): -math.inf}, "input number 5 (from 0) of the train split holds -inf"),
        (
            {(2, 0): math.nan, (4, 0): math.inf, (5, 0): math.nan},
            "input number 2 (from 0) of the train split holds NaN",
        ),
    ],
)
def test_an_input_that_is_not_finite_is_refused_in_one_line(session, places, what):
    inputs = INPUTS.clone()
    for place, value in places.items():
        inputs[place] = value
    more = f", as do {len(places) - 1} more" if len(places) > 1 else ""
    with pytest.raises(ConfigError) as caught:
        session.examples(Own(torch.zeros(6, dtype=torch.int64), inputs=inputs), "train", 0)
    assert str(caught.value) == f"dataset=Own: {what}{more}; allowed: finite numbers"


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool"])
def test_inputs_of_another_type_are_refused_in_one_line(session, dtype):
    given = Own(torch.zeros(6, dtype=torch.int64), inputs=INPUTS.to(getattr(torch, dtype)))
    with pytest.raises(ConfigError) as caught:
        session.examples(given, "train", 0)
    assert str(caught.value) == f"dataset=Own: its inputs are {dtype}; allowed: float32, or uint8 for pixels"


def test_one_class_is_refused(session):
    with pytest.raises(ConfigError, match="dataset=Own: its number of classes is 1; allowed: 2 or more"):
        session.open(Own(torch.zeros(6, dtype=torch.int64), classes=1))


@pytest.mark.parametrize("split", ["train", "student", "test"])
def test_it_is_refused_before_anything_is_trained(split, session, recipe):
    data = Own(torch.zeros(6, dtype=torch.int64), inputs=INPUTS, wrong=split)
    common = {"training": recipe(), "seed": 0}
    teacher = Fit(model=MLP(hidden=(3,)), dataset=data, corruption=true_labels(), **common)
    of = {"teacher": Trained(fit=teacher), "model": None, "dataset": None, "target": "hard", "temperature": 1.0}
    student = Mimic(**of, **common)
    with pytest.raises(ConfigError, match=rf"^dataset=Own: input number 1 \(from 0\) of the {split} split holds NaN;"):
        rehearse_trainings({"teacher": teacher, "student": student}, session)
    assert session.store.made == []


def test_right_labels_are_accepted(session):
    for labels in (torch.tensor([0, 1, 2]), torch.tensor([], dtype=torch.int64)):
        assert session.examples(Own(labels), "train", 0).labels.equal(labels)


def test_the_labels_of_a_mixture_with_a_dataset_of_fewer_classes_are_right(session):
    mixture = Mixture(new=replace(DATA, classes=7), towards=DATA, share=0.5)
    assert session.examples(mixture, "student", 0).labels.max() == 6


def test_datasets_that_differ_in_other_splits_share_their_examples(session):
    first = session.examples(DATA, "train", 0)
    assert session.examples(replace(DATA, student_size=7, test_size=8), "train", 0) is first
    for other in (replace(DATA, train_size=50), replace(DATA, classes=4), GaussianNoise(**vars(DATA))):
        assert session.examples(other, "train", 0) is not first
    assert session.examples(DATA, "train", 1) is not first and session.examples(DATA, "test", 0) is not first


def drawn(monkeypatch):
    """Record which examples are drawn, as (train_size, split, seed)."""
    calls, draw = [], UniformNoise.examples

    def examples(self, split, seed):
        calls.append((self.train_size, split, seed))
        return draw(self, split, seed)

    monkeypatch.setattr(UniformNoise, "examples", examples)
    return calls


def test_examples_are_drawn_once_while_they_fit(session, monkeypatch):
    calls = drawn(monkeypatch)
    for _ in range(3):
        for seed in range(5):
            session.examples(DATA, "train", seed)
    assert calls == [(100, "train", seed) for seed in range(5)]


def test_the_least_recently_used_are_dropped_and_drawn_again_the_same(session, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 4 * SIZE)
    first = session.examples(DATA, "train", 0)
    for seed in (1, 2, 3):
        session.examples(DATA, "train", seed)
    session.examples(DATA, "train", 0)
    calls = drawn(monkeypatch)
    session.examples(DATA, "train", 4)  # for which that of seed 1 is dropped
    for seed in (0, 2, 3, 4):
        session.examples(DATA, "train", seed)
    assert calls == [(100, "train", 4)]
    assert sum(examples.nbytes for examples in session._examples.values()) == 4 * SIZE
    for seed in (1, 2, 3, 5):
        session.examples(DATA, "train", seed)
    again = session.examples(DATA, "train", 0)
    assert again is not first
    assert torch.equal(again.inputs, first.inputs) and torch.equal(again.labels, first.labels)


def test_the_splits_of_one_stage_stay_however_large(session, monkeypatch):
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    calls = drawn(monkeypatch)
    for _ in range(3):
        for split in ("train", "student", "test"):
            session.examples(DATA, split, 0)
    assert len(calls) == 3
    for size in (200, 300, 400):
        session.examples(replace(DATA, train_size=size), "train", 0)
    assert len(session._examples) == module.KEPT_SPLITS
