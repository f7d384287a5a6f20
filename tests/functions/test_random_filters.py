"""Random convolution features against a dense matrix of them."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from rebuttal.data import UniformNoise
from rebuttal.data.examples import in_unit_range
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.functions import RandomFilters, equations, random_filters
from rebuttal.measures import GradientNorms
from rebuttal.measures.measure import Subject
from rebuttal.models import MLP
from rebuttal.stages import Fit
from tests.measures.conftest import make_probes

__all__ = ["make_probes"]

DATA = UniformNoise(shape=(3, 8, 9), classes=5, train_size=80, test_size=30)


@pytest.fixture
def function(recipe):
    fit = Fit(model=MLP(hidden=(8,)), dataset=DATA, corruption=random_labels(), training=recipe(epochs=2), seed=0)
    return RandomFilters(fit=fit, filters=30, side=3)


def dense(function, known, images):
    """Features (n, 30·4) of images, in one piece."""
    made = function.features(known.inputs)
    mean, std = known.inputs.double().mean((0, 2, 3)), known.inputs.double().std((0, 2, 3), correction=0)
    x = (images.double() - mean[:, None, None]) / std[:, None, None]
    rectified = F.conv2d(x, made.weight).clamp(min=0)  # (n, 30, 6, 7): quarters of 3 × 4 that share a column
    rows, columns = (slice(0, 3), slice(3, 6)), (slice(0, 4), slice(3, 7))
    quarters = [rectified[:, :, r, c].mean((2, 3)) for r in rows for c in columns]
    return torch.stack(quarters, dim=2).flatten(1)


@pytest.mark.parametrize("limit", [20_000, 10])  # above it, the factor is in float32
def test_it_fits_random_labels_with_the_smallest_weights(function, session, monkeypatch, limit):
    monkeypatch.setattr(equations, "DOUBLE_INPUTS", limit)
    monkeypatch.setattr(random_filters, "BLOCK", 7)
    monkeypatch.setattr(random_filters, "IMAGES", 33)
    known, x = function.fit.training_examples(session), session.examples(DATA, "test", 0).inputs
    f = function.function(session)
    y = F.one_hot(known.labels, 5).double()
    assert torch.allclose(f(known.inputs), y, atol=1e-6, rtol=0)
    features = dense(function, known, known.inputs)
    weights = torch.linalg.pinv(features) @ (y - y.mean(dim=0))
    assert torch.allclose(f(x), dense(function, known, x) @ weights + y.mean(dim=0), atol=1e-5)


def test_with_a_ridge_it_is_ridge_regression(function, session):
    few = replace(function, filters=10, ridge=0.5)  # 40 features for 80 labels
    known, x = function.fit.training_examples(session), session.examples(DATA, "test", 0).inputs
    y = F.one_hot(known.labels, 5).double()
    features = dense(few, known, known.inputs)
    gram = features.T @ features + 0.5 * torch.eye(40, dtype=torch.float64)
    weights = torch.linalg.solve(gram, features.T @ (y - y.mean(dim=0)))
    assert torch.allclose(few.function(session)(x), dense(few, known, x) @ weights + y.mean(dim=0), atol=1e-8)


def test_it_has_slopes(function, session, make_probes):
    f, x = function.function(session), session.examples(DATA, "test", 0).inputs[:5]
    numbers = GradientNorms()(Subject(f, f, True, 5), make_probes(test=x)).numbers
    assert numbers["jacobian_frobenius_test"] > 0


def test_what_it_cannot_fit_is_refused_in_one_line(function, session):
    with pytest.raises(ConfigError, match=r"40 features cannot fit 80 labels; allowed: more filters, or ridge"):
        replace(function, filters=10).function(session)
    vectors = replace(function.fit, dataset=replace(DATA, shape=(30,)))
    with pytest.raises(ConfigError, match=r"needs images of at least 4 pixels a side, .* shape \[30\]; allowed: "):
        replace(function, fit=vectors).function(session)


def test_pixels_are_the_same_inputs_as_floats(function, session):
    f, pixels = function.function(session), torch.randint(256, (9, 3, 8, 9), dtype=torch.uint8)
    assert torch.equal(f(pixels), f(in_unit_range(pixels)))


def test_settings_data_and_seed_decide_the_identity(function, session):
    others = [replace(function, **{key: value}) for key, value in (("filters", 31), ("side", 2), ("pool", 1))]
    others += [replace(function, ridge=0.1), replace(function, fit=replace(function.fit, seed=1))]
    assert all(other.identity(session) != function.identity(session) for other in others)
