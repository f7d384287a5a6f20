import dataclasses

import pytest
from torch import nn

from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.runs.build import rehearse_trainings
from rebuttal.stages import Fit

DATA = UniformNoise(shape=(6,), classes=3, train_size=8, test_size=8)


class Detached(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()


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
        }[self.made]()


def fit(made, recipe):
    return Fit(model=Own(made), dataset=DATA, corruption=random_labels(), training=recipe(), seed=0)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        ("too many outputs", "cannot be trained for .* ValueError: outputs of shape (2, 4); allowed: (2, 3)"),
        ("too many inputs", "cannot be trained for .* RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        ("no gradients", "cannot be trained for .* RuntimeError: element 0 of tensors does not require grad"),
        ("not built", "cannot be built (also on the meta device) for .* ZeroDivisionError"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_any_training(made, error, recipe, session):
    expected = error.replace("(", r"\(").replace(")", r"\)")
    stages = {"first": fit("right", recipe), "second": fit(made, recipe)}
    with pytest.raises(ConfigError, match=rf"^model=Own: {expected}"):
        rehearse_trainings(stages, session)
    assert session.store.made == []


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
