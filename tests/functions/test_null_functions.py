from dataclasses import replace

import pytest
import torch

from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.functions.fourier import Fourier
from rebuttal.functions.hash import Hash
from rebuttal.functions.kernel import Kernel
from rebuttal.functions.linear import Linear
from rebuttal.functions.matched import Matched
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Trained
from rebuttal.functions.theorem1 import Theorem1
from rebuttal.measures.measure import spread
from rebuttal.models import MLP
from rebuttal.stages import Fit
from rebuttal.training.evaluation import predict

DATA = UniformNoise(shape=(30,), train_size=200, test_size=500)


@pytest.fixture
def fit(recipe):
    return Fit(model=MLP(hidden=(32,)), dataset=DATA, corruption=random_labels(), training=recipe(epochs=5), seed=0)


def test_the_nearest_neighbour_gives_each_input_the_label_of_the_closest(fit, session):
    known = fit.training_examples(session)
    f = NearestNeighbour(fit=fit).function(session)
    assert torch.equal(f(known.inputs).argmax(dim=1), known.labels)
    x = DATA.examples("test", 0).inputs
    by_hand = torch.stack([((known.inputs - one) ** 2).sum(dim=1).argmin() for one in x[:50]])
    assert torch.equal(f(x[:50]).argmax(dim=1), known.labels[by_hand])
    assert torch.equal(f(x).sum(dim=1), torch.ones(500))


@pytest.mark.parametrize("size", [200, 20])
def test_the_linear_function_is_the_least_squares_fit(fit, session, size):
    fit = replace(fit, dataset=replace(DATA, train_size=size))  # 20 inputs in 30 dimensions: many solutions
    known = fit.training_examples(session)
    f = Linear(fit=fit).function(session)
    design = torch.cat([known.inputs - known.inputs.mean(dim=0), torch.ones(size, 1)], dim=1).double()
    answers = torch.nn.functional.one_hot(known.labels, 10).double()
    expected = design @ torch.linalg.lstsq(design, answers, driver="gelsd").solution
    assert torch.allclose(predict(f, known.inputs).double(), expected, atol=1e-4)


def test_fourier_is_as_smooth_as_its_kernel(fit, session):
    """The covariance of f(x) and f(y) is exp(−‖x − y‖²/2ℓ²), ℓ the mean distance of the data."""
    known = session.examples(DATA, "train", 0).inputs
    bandwidth = torch.pdist(known).mean()
    f = Fourier(fit=fit, features=4096).function(session)
    x = DATA.examples("test", 0).inputs
    direction = torch.nn.functional.normalize(torch.randn(500, 30, generator=torch.Generator().manual_seed(0)), dim=1)
    for share in (0.5, 1.0, 2.0):
        there = f(x + share * bandwidth * direction)
        # over the 10 independent outputs and 500 places
        covariance = (f(x) * there).mean() / f(x).square().mean()
        assert covariance.item() == pytest.approx(torch.exp(torch.tensor(-(share**2) / 2)).item(), abs=0.12)


@pytest.mark.parametrize("kind", [Hash, NearestNeighbour, Fourier, Linear, Kernel, Theorem1])
def test_a_matched_function_has_the_network_s_spread_and_its_own_classes(fit, session, kind):
    network = Trained(fit=fit)
    matched = Matched(of=kind(fit=fit), to=network)
    x = session.examples(DATA, "test", 0).inputs
    ours, theirs = predict(matched.function(session), x), predict(network.function(session), x)
    assert spread(ours) == pytest.approx(spread(theirs), rel=1e-4)
    assert torch.equal(ours.argmax(dim=1), predict(kind(fit=fit).function(session), x).argmax(dim=1))
    assert matched.differentiable == kind.differentiable


@pytest.mark.parametrize("kind", [NearestNeighbour, Fourier, Linear, Kernel, Theorem1])
def test_null_functions_depend_on_the_data_and_not_on_the_training(fit, session, kind):
    longer = replace(fit, training=replace(fit.training, epochs=6))
    assert kind(fit=longer).identity(session) == kind(fit=fit).identity(session)
    other = replace(fit, seed=1)
    assert kind(fit=other).identity(session) != kind(fit=fit).identity(session)
