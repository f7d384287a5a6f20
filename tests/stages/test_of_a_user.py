"""A user's own functions, measures, stages and datasets: they change nothing that others are given, and what is wrong
with what they return or raise is one line."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import nn

from rebuttal.data.examples import Examples
from rebuttal.data.image_set import Images, ImageSet
from rebuttal.errors import ConfigError, UserError
from rebuttal.functions.hash import Hash
from rebuttal.measures import Margins
from rebuttal.measures.measure import Findings
from rebuttal.stages import Fit, Measure
from rebuttal.stages.function import opened
from rebuttal.stages.stage import Outcome, run_stage
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA


@dataclass(frozen=True)
class Own:
    """A user's function, made by `make`."""

    fit: Fit
    make: object = field(compare=False)
    differentiable = True
    fitted = False

    def needs(self, session):
        return ()

    def function(self, session):
        return self.make()

    def identity(self, session):
        return "own"


def in_place():
    return lambda x: x.sub_(0.5)[:, :10]


def in_place_module():
    layer = nn.Linear(20, 10)
    return nn.Sequential(nn.Hardshrink(), nn.Threshold(0.9, 0.0, inplace=True), nn.ReLU(inplace=True), layer)


class InPlaceFirst(nn.Module):
    """Changes what it is given before anything else."""

    def forward(self, x):
        return x.mul_(0)[:, :10]


def fails():
    raise KeyError("boom")


def fails_later():
    return lambda x: {}["boom"]


@pytest.mark.parametrize("make", [in_place, in_place_module, InPlaceFirst])
def test_a_function_that_changes_its_inputs_changes_those_of_no_other(make, mimic, fit, session):
    before = {split: session.examples(DATA, split, 0).inputs.clone() for split in ("train", "student", "test")}
    replace(mimic, teacher=Own(fit, make)).run(session)
    limits = {"only": None, "show": (), "probes": 20, "memory": 64, "fit_target": 1.0}
    measures = {"margins": Margins(reach=1.0, points=2)}
    Measure(functions={"f": Own(fit, make)}, measures=measures, dataset=fit.dataset, seed=0, **limits).run(session)
    for split, inputs in before.items():
        assert torch.equal(session.examples(DATA, split, 0).inputs, inputs)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (fails, "KeyError: 'boom'"),
        (fails_later, "KeyError: 'boom'"),
        (lambda: lambda x: x.numpy(), "TypeError: it gives a ndarray; allowed: logits"),
        (lambda: lambda x: None, "TypeError: it gives a NoneType; allowed: logits"),
        (lambda: None, "TypeError: 'NoneType' object is not callable"),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line(make, line, mimic, fit, session):
    with pytest.raises(ConfigError, match=rf"^function=Own: {line}"):
        replace(mimic, teacher=Own(fit, make)).run(session)


@dataclass(frozen=True)
class Gives:
    """A user's measure, or stage."""

    what: object = field(compare=False, metadata={"decides": False})

    def __call__(self, subject, probes):
        return self.what(probes) if callable(self.what) else self.what

    def run(self, session):
        return self.what(session) if callable(self.what) else self.what


@pytest.fixture
def measure(fit):
    def of(**measures):
        limits = {"only": None, "show": (), "probes": 20, "memory": 64, "fit_target": 1.0}
        return Measure(functions={"f": Hash(fit=fit)}, measures=measures, dataset=DATA, seed=0, **limits)

    return of


def test_a_measure_that_changes_its_probes_changes_those_of_no_other(measure, session):
    def emptied(probes):
        for inputs in probes.inputs.values():
            inputs.zero_()
        probes.labels.zero_()
        return Findings({"m": 0.0})

    def mean(probes):
        return Findings({"mean": probes.inputs["test"].mean().item(), "labels": float(probes.labels.sum())})

    labels = session.examples(DATA, "train", 0).labels.clone()
    metrics = measure(first=Gives(emptied), second=Gives(mean)).run(session).metrics
    assert metrics["f_mean"] == pytest.approx(session.examples(DATA, "test", 0).inputs[:20].mean().item())
    assert metrics["f_labels"] == labels[:20].sum().item() > 0


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"m": 1.0}, r"TypeError: it gives a dict; allowed: rebuttal\.measures\.Findings"),
        (None, "TypeError: it gives a NoneType; allowed: "),
        (
            Findings({"m": torch.tensor(1.0)}),
            "m of f is a Tensor; allowed: finite numbers, None where one is undefined",
        ),
        (Findings({"m": np.float32(1.0)}), "m of f is a float32; allowed: finite numbers"),
        (Findings({"m": "much"}), "m of f is much; allowed: finite numbers"),
        (Findings({"m": math.inf}), "m of f is inf; allowed: finite numbers"),
        (Findings({}, {"a": np.zeros(3)}), "TypeError: its array a is a ndarray; allowed: tensors"),
        (lambda probes: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_wrong_with_a_measure_is_one_line(what, line, measure, session):
    with pytest.raises(UserError, match=rf"^stages\.\*\.measures\.own: {line}"):
        measure(own=Gives(what)).run(session)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"m": 1.0}, r"stages\.s: its outcome is a dict; allowed: rebuttal\.stages\.Outcome"),
        (None, r"stages\.s: its outcome is a NoneType; allowed: "),
        (Outcome({"m": torch.tensor(1.0)}), r"stages\.s: its metric m is a Tensor; allowed: finite numbers, None"),
        (Outcome({"m": [1.0]}), r"stages\.s: its metric m is a list; allowed: "),
        (Outcome({"m": "hello"}), r"stages\.s: its metric m is hello; allowed: "),
        (Outcome({"m": math.nan}), r"stages\.s: its metric m is nan; allowed: "),
        (lambda session: [][1], r"stages\.s=Gives: IndexError: list index out of range"),
    ],
)
def test_what_is_wrong_with_a_stage_is_one_line(what, line, session):
    with pytest.raises(UserError, match=f"^{line}"):
        run_stage("s", Gives(what), session)
    assert run_stage("s", Gives(Outcome({"m": None, "n": 1, "o": True, "p": 0.5})), session).metrics["p"] == 0.5


class Source:
    """An opened dataset of a user's."""

    shape, classes, tabular = (4,), 2, False

    def __init__(self, identity, examples):
        self.given, self.made = identity, examples

    def identity(self, split):
        return self.given

    def examples(self, split, seed):
        return self.made()


@dataclass(frozen=True)
class Plain:
    """A user's dataset."""

    identity: object = field(compare=False)
    examples: object

    def open(self, cache):
        return Source(self.identity, self.examples)


def good():
    return Examples(torch.zeros(6, 4), torch.tensor([0, 1] * 3))


@pytest.mark.parametrize(
    ("identity", "examples", "line"),
    [
        ({"kind": "x"}, good, r"ValueError: its identity of the train split is \{'kind': 'x'\}; allowed: a dict with"),
        (["x", 6], good, r"ValueError: its identity of the train split is \['x', 6\]; allowed: "),
        ({"size": np.int64(6)}, good, "ValueError: its identity of the train split is "),
        ({"size": 6, "of": {1, 2}}, good, "TypeError: Object of type set is not JSON serializable"),
        ({"size": 6}, fails, "KeyError: 'boom'"),
        (
            {"size": 6},
            lambda: Examples(np.zeros((6, 4)), np.array([0, 1] * 3)),
            "its inputs are a ndarray; allowed: te",
        ),
    ],
)
def test_what_is_wrong_with_a_dataset_is_one_line(identity, examples, line, session):
    with pytest.raises(ConfigError, match=f"^dataset=Plain: {line}"):
        session.examples(Plain(identity, examples), "train", 0)
    assert len(session.examples(Plain({"size": 6}, good), "train", 0)) == 6


@dataclass(frozen=True)
class Shifted(ImageSet):
    """A user's images, of which the digest is that of the bytes that they are made of."""

    by: float = 0.0
    root: str = "here"

    def read(self, cache):
        images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + self.by
        labels = torch.arange(40) % 2
        return Images(images[:30], labels[:30], images[30:], labels[30:], ("a", "b"), "digest")


def test_what_a_user_s_image_set_adds_is_part_of_its_identity(session):
    one, moved, other = Shifted(), Shifted(root="there"), Shifted(by=0.1)
    found = [session.open(images).identity("train") for images in (one, moved, other)]
    assert found[0] == found[1] != found[2] and "source" in found[0]["read_by"]
    inputs = [session.examples(images, "train", 0).inputs for images in (one, other)]
    assert not torch.equal(*inputs)


def test_the_values_of_a_function_are_those_without_a_copy(fit, session):
    inputs = session.examples(DATA, "test", 0).inputs
    assert torch.equal(predict(opened(Own(fit, in_place), session), inputs), inputs[:, :10] - 0.5)
