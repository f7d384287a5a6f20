from dataclasses import replace
from functools import partial

import pytest
import torch

from rebuttal.data import UniformNoise
from rebuttal.data.labels import RandomLabels
from rebuttal.errors import ConfigError
from rebuttal.functions.hash import HashFunction
from rebuttal.functions.kernel import Kernel
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Trained
from rebuttal.functions.random_filters import RandomFilters
from rebuttal.functions.theorem1 import Theorem1
from rebuttal.measures.agreement import wilson
from rebuttal.stages import Accuracy
from rebuttal.stages.session import Session
from tests.stages.conftest import DATA


def test_of_a_trained_network_it_is_what_its_stage_says(fit, session):
    found, known = Accuracy(function=Trained(fit=fit)).run(session).metrics, fit.run(session).metrics
    for name in ("train_accuracy", "test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_size"):
        assert found[name] == known[name]
    assert found["weights"] is None and found["residual"] is None


@pytest.mark.parametrize("kind", [Theorem1, Kernel, NearestNeighbour])
def test_functions_that_interpolate_give_every_random_label(kind, fit, session):
    random = replace(fit, corruption=RandomLabels(fraction=1.0))
    outcome = Accuracy(function=kind(fit=random)).run(session)
    m = outcome.metrics
    assert m["train_accuracy"] == m["train_accuracy_high"] == 1.0 and m["train_accuracy_low"] == wilson(60, 60)[0]
    assert (m["train_size"], m["test_size"], m["classes"]) == (60, 500, 10)
    assert abs(m["test_accuracy"] - 0.1) < 4 * (0.09 / 500) ** 0.5
    assert outcome.words.startswith("right on 100.00% of 60 training labels, ")


def test_what_a_function_says_of_its_solution(fit, session):
    theorem, kernel = (Accuracy(function=kind(fit=fit)).run(session).metrics for kind in (Theorem1, Kernel))
    assert theorem["weights"] == 60 * (10 + 1) + 20  # n(K + 1) + d
    assert theorem["smallest_gap"] > 0 and theorem["condition"] > 1 and theorem["residual"] is None
    assert kernel["weights"] == 60 * 10 and kernel["residual"] < 1e-10 and kernel["largest_weight"] is None
    squares = torch.pdist(DATA.examples("train", 0).inputs.double()).square()
    assert kernel["gamma"] == pytest.approx(2 / squares.mean().item())


@pytest.mark.parametrize("kind", [Kernel, partial(RandomFilters, ridge=1.0)])
def test_what_does_not_fit_into_memory_is_refused_before_anything_is_computed(kind, fit, mimic, session):
    data = UniformNoise(shape=(1, 8, 8), train_size=10**6, student_size=1, test_size=1)
    function = kind(fit=replace(fit, dataset=data))
    for stage in (Accuracy(function=function), replace(mimic, teacher=function)):
        with pytest.raises(ConfigError, match=r"matrix of 1,000,000 training inputs .* GiB; allowed: at most this"):
            stage.check(session)


def test_it_is_counted_once_and_found_again(fit, session, monkeypatch):
    stage = Accuracy(function=Kernel(fit=fit))
    first = stage.run(session).metrics
    monkeypatch.setattr(Kernel, "function", lambda *_: HashFunction)
    assert stage.run(Session(session.settings)).metrics == first
    assert stage.identity(session) != replace(stage, function=Kernel(fit=fit, gamma=0.5)).identity(session)
