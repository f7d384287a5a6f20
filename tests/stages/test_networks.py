import dataclasses
import re

import pytest
import torch
from torch import nn

from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.runs.build import rehearse_trainings
from rebuttal.stages import Fit
from rebuttal.stages.session import Session
from rebuttal.training.evaluation import predict

DATA = UniformNoise(shape=(6,), classes=3, train_size=8, test_size=8)


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


class Lossy(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.register_buffer("shift", torch.ones(outputs), persistent=False)

    def forward(self, x):
        return super().forward(x) + self.shift


class Forgetful(nn.Linear):
    """Its outputs depend on what no state_dict has."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.shift = 0

    def forward(self, x):
        self.shift += self.training
        return super().forward(x) + self.shift


class Tied(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second, self.head = (
            nn.Linear(inputs, inputs),
            nn.Linear(inputs, inputs),
            nn.Linear(inputs, outputs),
        )
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x)))


@dataclasses.dataclass(frozen=True)
class Own:
    """A user's model, which is what `made` says."""

    made: str

    def network(self, shape, classes):
        return {
            "right": lambda: nn.Linear(*shape, classes),
            "too many outputs": lambda: nn.Linear(*shape, classes + 1),
            "too many inputs": lambda: nn.Linear(7, classes),
            "no gradients": lambda: Detached(*shape, classes),
            "not built": lambda: 1 / 0,
            "lost buffer": lambda: Lossy(*shape, classes),
            "reads a value": lambda: nn.Linear(*shape, classes * int(torch.ones(1).item())),
            "tied": lambda: Tied(*shape, classes),
            "outside": lambda: Forgetful(*shape, classes),
        }[self.made]()


def fit(made, recipe):
    return Fit(model=Own(made), dataset=DATA, corruption=random_labels(), training=recipe(), seed=0)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (
            "too many outputs",
            "ValueError: outputs of shape (2, 4); allowed: (2, 3)",
        ),
        (
            "too many inputs",
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
        (
            "no gradients",
            "RuntimeError: element 0 of tensors does not require grad",
        ),
        ("not built", "ZeroDivisionError"),
        (
            "lost buffer",
            "buffer body.shift is not persistent, so it is not kept; ",
        ),
        ("reads a value", "cannot be called on meta tensors"),
        ("outside", "the restored network gives other outputs"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_any_training(made, error, recipe, session):
    why = "cannot be built" if made in ("not built", "reads a value") else "cannot be trained and restored"
    stages = {"first": fit("right", recipe), "second": fit(made, recipe)}
    with pytest.raises(
        ConfigError, match=rf"^model=Own: {why}.* for inputs of shape \[6\] and 3 classes: .*{re.escape(error)}"
    ):
        rehearse_trainings(stages, session)
    assert session.store.made == []


def test_a_network_of_tied_weights_is_kept_and_restored(recipe, session):
    stage = fit("tied", recipe)
    rehearse_trainings({"fit": stage}, session)
    stage.run(session)
    other = Session(session.settings)
    inputs = DATA.examples("test", 0).inputs
    restored = stage.network(other)
    assert other.store.made == [] and torch.equal(restored.body.first.weight, restored.body.second.weight)
    assert torch.equal(predict(restored, inputs), predict(stage.network(session), inputs))


def test_a_network_that_is_stored_is_not_tried_again(recipe, session, monkeypatch):
    stage = fit("right", recipe)
    stage.run(session)
    monkeypatch.setattr(Own, "network", None)
    rehearse_trainings({"fit": stage}, session)


def test_a_dataset_that_is_not_hashable_is_refused_in_one_line(session):
    @dataclasses.dataclass
    class Loose:
        def open(self, cache):
            return DATA

    with pytest.raises(ConfigError, match=r"^dataset=Loose: is not hashable; allowed: frozen dataclasses of hashable"):
        session.open(Loose())
