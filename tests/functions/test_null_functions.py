from dataclasses import replace

import numpy as np
import pytest
import torch

from rebuttal.data import RandomWalk, UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.functions import nearest_neighbour
from rebuttal.functions.fourier import Fourier
from rebuttal.functions.hash import Hash
from rebuttal.functions.kernel import Kernel
from rebuttal.functions.linear import Linear, least_squares
from rebuttal.functions.matched import Matched
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Trained
from rebuttal.functions.theorem1 import Theorem1
from rebuttal.measures.measure import spread
from rebuttal.models import MLP
from rebuttal.stages import Fit
from rebuttal.stages.seeds import Seeds
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


@pytest.mark.parametrize("block", [4096, 70])
def test_the_nearest_is_found_among_inputs_that_are_close_together_or_far_from_0(fit, session, monkeypatch, block):
    """Steps of a walk, and a feature around 1,000: ‖x − y‖² is a small difference of large numbers."""
    monkeypatch.setattr(nearest_neighbour, "BLOCK", block)
    rng = np.random.default_rng(0)
    walk = torch.from_numpy(rng.random(3072) + np.cumsum(rng.normal(0, 1e-4, (300, 3072)), axis=0)).float()
    feature = torch.from_numpy(rng.normal(1000, 1, (300, 1))).float()
    for inputs in (walk, feature):
        assert torch.equal(nearest_neighbour.nearest_of(inputs, inputs), torch.arange(300))
        x = inputs + 0.3 * torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)) * 1e-4
        by_hand = [((inputs.double() - one.double()) ** 2).sum(dim=1).argmin().item() for one in x]
        assert nearest_neighbour.nearest_of(x, inputs).tolist() == by_hand
    walked = replace(fit, dataset=RandomWalk(shape=(3, 32, 32), train_size=600, value="grey_level"))
    known = walked.training_examples(session)
    assert torch.equal(NearestNeighbour(fit=walked).function(session)(known.inputs).argmax(dim=1), known.labels)


@pytest.mark.parametrize("size", [200, 20])
def test_the_linear_function_is_the_least_squares_fit(fit, session, size):
    fit = replace(fit, dataset=replace(DATA, train_size=size))  # 20 inputs in 30 dimensions: many solutions
    known = fit.training_examples(session)
    f = Linear(fit=fit).function(session)
    design = torch.cat([known.inputs - known.inputs.mean(dim=0), torch.ones(size, 1)], dim=1).double()
    answers = torch.nn.functional.one_hot(known.labels, 10).double()
    expected = design @ torch.linalg.lstsq(design, answers, driver="gelsd").solution
    assert torch.allclose(predict(f, known.inputs).double(), expected, atol=1e-4)


@pytest.mark.parametrize("unit", [1e9, 1e-9])
def test_a_feature_of_another_unit_hides_no_other_one_from_the_linear_function(unit):
    x = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answers = torch.nn.functional.one_hot((x[:, 1] > 0.5).long(), 2).double()
    found = least_squares(x * torch.tensor([unit, 1.0, 1.0]), answers) * torch.tensor([[unit], [1.0], [1.0]])
    assert torch.allclose(found, least_squares(x, answers), rtol=1e-6, atol=1e-9)


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


def test_fourier_of_other_inputs_is_another_function(fit, session):
    """Its bandwidth is theirs, also where their seed alone differs."""
    one, other = (Fourier(fit=replace(fit, seeds=Seeds(data=seed))) for seed in (1, 2))
    x = DATA.examples("test", 0).inputs
    assert not torch.equal(one.function(session)(x), other.function(session)(x))
    assert one.identity(session) != other.identity(session)
    single = Fourier(fit=replace(fit, dataset=replace(DATA, train_size=1)))  # no distance to take the mean of
    assert single.function(session)(x).isfinite().all()


def test_a_constant_is_matched_as_it_is(fit, session):
    one = replace(fit, dataset=replace(DATA, train_size=1))
    nearest, x = NearestNeighbour(fit=one), DATA.examples("test", 0).inputs
    assert torch.equal(Matched(of=nearest, to=Trained(fit=fit)).function(session)(x), nearest.function(session)(x))


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
