"""Kernel interpolation against NumPy."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rebuttal import device
from rebuttal.data import UniformNoise
from rebuttal.data.labels import random_labels
from rebuttal.errors import ConfigError
from rebuttal.functions import Kernel, equations, kernel
from rebuttal.functions.kernel import interpolated, usual_gamma
from rebuttal.measures import GradientNorms, LipschitzBracket
from rebuttal.measures.gradients import jacobian
from rebuttal.measures.measure import Subject
from rebuttal.models import MLP
from rebuttal.stages import Fit
from tests.measures.conftest import make_probes

__all__ = ["make_probes"]

DATA = UniformNoise(shape=(3, 4, 5), classes=7, train_size=200, test_size=50)


@pytest.fixture
def fit(recipe):
    return Fit(model=MLP(hidden=(8,)), dataset=DATA, corruption=random_labels(), training=recipe(epochs=2), seed=0)


def by_hand(known, x, gamma, ridge=0.0):
    """Kernel ridge regression of the centred one-hot labels."""
    centres, x = (part.flatten(1).double().numpy() for part in (known.inputs, x))
    targets = np.eye(7)[known.labels.numpy()]

    def k(a, b):
        return np.exp(-gamma * ((a[:, None] - b) ** 2).sum(axis=2))

    weights = np.linalg.solve(k(centres, centres) + ridge * np.eye(len(centres)), targets - targets.mean(axis=0))
    return torch.from_numpy(k(x, centres) @ weights + targets.mean(axis=0))


@pytest.mark.parametrize("limit", [20_000, 100])  # above it, the factor is in float32
def test_it_interpolates_random_labels_and_says_so(fit, session, caplog, monkeypatch, limit):
    monkeypatch.setattr(equations, "DOUBLE_INPUTS", limit)
    known = fit.training_examples(session)
    with caplog.at_level(logging.INFO):
        f = Kernel(fit=fit).function(session)
    assert torch.allclose(f(known.inputs), F.one_hot(known.labels, 7).double(), atol=1e-8, rtol=0)
    (said,) = [record.getMessage() for record in caplog.records if "kernel" in record.getMessage()]
    assert said.startswith(f"kernel: gamma {f.gamma:.4g}: ‖Y − Kα‖/‖Y‖ is ")
    assert said.endswith("; 0 of 200 labels are not fitted")
    assert float(said.split(" is ")[1].split(";")[0]) < 1e-9


@pytest.mark.parametrize(("gamma", "ridge"), [(0.3, 0.0), (2.0, 0.0), (0.05, 0.5)])
def test_it_is_kernel_regression_on_one_hot_labels(fit, session, gamma, ridge):
    known, x = fit.training_examples(session), session.examples(DATA, "test", 0).inputs
    f = Kernel(fit=fit, gamma=gamma, ridge=ridge).function(session)
    assert torch.allclose(f(x), by_hand(known, x, gamma, ridge), atol=1e-8)


def test_pieces_give_what_the_whole_gives(fit, session, monkeypatch):
    x = session.examples(DATA, "test", 0).inputs
    whole = Kernel(fit=fit).function(session)(x)
    monkeypatch.setattr(kernel, "CELLS", 1000)  # 5 rows of 200
    assert torch.allclose(Kernel(fit=fit).function(session)(x), whole, atol=1e-10)


def test_a_gamma_that_is_too_small_is_refused_also_with_a_float32_factor(fit, session, monkeypatch):
    monkeypatch.setattr(equations, "DOUBLE_INPUTS", 100)
    with pytest.raises(ConfigError, match=r"matrix of 200 training inputs is singular: .* or gamma=1e-07 is too small"):
        Kernel(fit=fit, gamma=1e-7).function(session)


def test_the_usual_gamma_is_two_over_the_mean_squared_distance():
    x = torch.rand(40, 6)
    squares = [(x[i] - x[j]).square().sum().item() for i in range(40) for j in range(i)]
    assert usual_gamma(x) == pytest.approx(2 / np.mean(squares), rel=1e-6)
    assert usual_gamma(x[:1]) == usual_gamma(torch.ones(3, 2)) == 1.0


def test_nothing_of_it_was_trained(fit, session):
    """So that no measure of weights takes the training inputs for them; a student's r counts the weights solved for."""
    function = Kernel(fit=fit).function(session)
    assert not list(function.parameters()) and function.solution["weights"] == function.weights.numel()


def test_far_away_it_is_the_frequency_of_the_classes(fit, session):
    known = fit.training_examples(session)
    f = Kernel(fit=fit).function(session)
    frequency = torch.bincount(known.labels, minlength=7).double() / 200
    assert torch.allclose(f(torch.full((1, 3, 4, 5), 1e3)), frequency[None])


def test_its_jacobian_is_the_derivative_of_the_formula(fit, session, make_probes):
    x = session.examples(DATA, "test", 0).inputs[:5]
    f = Kernel(fit=fit).function(session)
    one = Subject(f, f, True, 7)
    _, found = jacobian(one, x)
    points = x.flatten(1).double()
    between = points[:, None] - f.centres
    near = (-f.gamma * between.square().sum(dim=2)).exp()
    expected = torch.einsum("nm,mk,nmd->nkd", near, f.weights, -2 * f.gamma * between)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    numbers = GradientNorms()(one, make_probes(test=x)).numbers
    numbers |= LipschitzBracket(starts=1, steps=2, step=0.05)(one, make_probes(test=x)).numbers
    assert numbers["jacobian_frobenius_test"] == pytest.approx(expected.flatten(1).norm(dim=1).mean().item(), rel=1e-4)
    assert numbers["lipschitz_lower"] > 0 and "lipschitz_upper" not in numbers


def test_a_matrix_larger_than_the_memory_is_refused_before_the_inputs_are_drawn(fit, session, monkeypatch):
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**18}  # 1 GiB
    monkeypatch.setattr(device.os, "sysconf", pages.__getitem__)
    large = Kernel(fit=replace(fit, dataset=replace(DATA, train_size=30_000)))
    with pytest.raises(ConfigError) as error:
        large.function(session)
    assert str(error.value) == (
        "function=kernel: the kernel matrix of 30,000 training inputs and its factor take 6.706 GiB; allowed: at most "
        "this machine's 1"
    )
    assert not session._examples


def test_equal_inputs_are_refused_unless_there_is_a_ridge():
    x, y = torch.rand(30, 4), torch.eye(3).repeat(10, 1).double()
    x[7] = x[3]
    with pytest.raises(
        ConfigError, match=r"30 training inputs is singular: .* allowed: a larger gamma, or ridge above 0"
    ):
        interpolated(x, y, 1.0, 0.0)
    f, residual = interpolated(x, y, 1.0, 1e-3)
    assert residual < 1e-9 and f(x).isfinite().all()


def test_settings_and_data_decide_the_identity(fit, session):
    plain = Kernel(fit=fit)
    others = [replace(plain, gamma=0.1), replace(plain, ridge=0.1), replace(plain, fit=replace(fit, seed=1))]
    longer = replace(plain, fit=replace(fit, training=replace(fit.training, epochs=9)))
    assert longer.identity(session) == plain.identity(session)
    assert all(other.identity(session) != plain.identity(session) for other in others)
