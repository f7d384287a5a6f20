import pytest

from rebuttal.data import UniformNoise
from rebuttal.data.labels import true_labels
from rebuttal.functions.networks import Trained
from rebuttal.models import MLP
from rebuttal.stages import Fit, Mimic

DATA = UniformNoise(shape=(20,), train_size=60, student_size=400, test_size=500)


@pytest.fixture
def fit(recipe):
    training = recipe(epochs=30, batch_size=20)
    return Fit(model=MLP(hidden=(64,)), dataset=DATA, corruption=true_labels(), training=training, seed=0)


@pytest.fixture
def mimic(fit):
    return Mimic(
        teacher=Trained(fit=fit),
        model=None,
        dataset=None,
        training=fit.training,
        target="hard",
        temperature=1.0,
        seed=0,
    )
