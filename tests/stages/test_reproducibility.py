from dataclasses import replace

import numpy as np
import pytest
import torch

from rebuttal.data import UniformNoise
from rebuttal.errors import ConfigError
from rebuttal.functions import Hash, Linear, NearestNeighbour, Trained, independent, refitted
from rebuttal.measures.agreement import confusion
from rebuttal.measures.plane import Plane
from rebuttal.seeds import generator
from rebuttal.stages import Reproducibility
from rebuttal.stages.measure import KINDS, probe_inputs
from rebuttal.stages.reproducibility import _scores
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA


@pytest.fixture
def stage(fit):
    return Reproducibility(one=Trained(fit=fit), other=refitted(fit), probes=50, planes=3, resolution=16)


def test_a_network_reproduces_itself(stage, session):
    stage = replace(stage, other=stage.one)
    metrics = stage.run(session).metrics
    for kind in KINDS:
        assert metrics[f"reproducibility_{kind}"] == metrics[f"kappa_{kind}"] == 1.0
    assert sorted(metrics) == sorted(stage.metric_names(session))


def test_it_is_the_share_of_equal_classes_on_the_planes(stage, session):
    found = stage.run(session).metrics
    inputs = probe_inputs(session, DATA, 50, 0)["noise"]
    networks = [function.function(session) for function in (stage.one, stage.other)]
    planes = Plane.some(inputs, 3, generator(0, "probe", "reproducibility", "noise"))
    shares = []
    for plane in planes:
        one, other = (predict(network, plane.grid(16)).argmax(dim=1) for network in networks)
        shares.append((one == other).double().mean().item())
    assert found["reproducibility_noise"] == pytest.approx(np.mean(shares))
    assert found["reproducibility_noise_low"] < np.mean(shares) < found["reproducibility_noise_high"]


def test_a_refit_reproduces_more_than_an_unrelated_network_and_a_hash_nothing(stage, fit, session):
    refit, unrelated, hashed = (
        replace(stage, other=other).run(session).metrics for other in (stage.other, independent(fit), Hash(fit=fit))
    )
    assert refit["kappa_train"] > unrelated["kappa_train"] + 0.1
    assert refit["reproducibility_train"] > unrelated["reproducibility_train"]
    assert hashed["reproducibility_train"] == pytest.approx(0.1, abs=0.05)
    assert hashed["kappa_train_low"] < 0 < hashed["kappa_train_high"]


@pytest.mark.slow
def test_the_interval_of_kappa_is_one_over_planes():
    """Of unrelated pictures in patches, kappa is 0 and its interval covers that as often as it says; one over all
    points, of which most are a neighbour's equal, would do so in half of the cases."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        pictures = rng.integers(2, size=(12, 2, 3, 3)).repeat(8, axis=2).repeat(8, axis=3)
        tables = [confusion(*(torch.eye(2)[torch.from_numpy(p).flatten()] for p in pair)) for pair in pictures]
        low, high = (_scores(tables, "test")[f"kappa_test_{end}"] for end in ("low", "high"))
        covered += low <= 0 <= high
    assert 0.90 <= covered / 400 <= 0.98
    assert _scores(tables[:1], "test")["kappa_test_low"] is None  # nothing is known of other planes


def test_it_does_not_matter_which_is_first(stage, fit, session):
    one, other = Linear(fit=fit), NearestNeighbour(fit=fit)
    there = replace(stage, one=one, other=other).run(session).metrics
    back = replace(stage, one=other, other=one).run(session).metrics
    assert there["reproducibility_test"] == back["reproducibility_test"]
    assert there["kappa_test"] == pytest.approx(back["kappa_test"])


def test_inputs_that_span_no_plane_have_no_picture(stage, fit, session):
    flat = replace(fit, dataset=UniformNoise(shape=(1,), train_size=60, student_size=60, test_size=60))
    outcome = replace(stage, one=Linear(fit=flat), other=Hash(fit=flat)).run(session)
    assert set(outcome.metrics.values()) == {None}
    assert "no three probes" in outcome.words


def test_functions_of_other_inputs_are_refused_first(stage, fit, session):
    elsewhere = replace(fit, dataset=replace(DATA, shape=(21,)))
    with pytest.raises(ConfigError, match=r"other: takes inputs of shape \[21\]; allowed: \[20\]"):
        replace(stage, other=Trained(fit=elsewhere)).check(session)
    with pytest.raises(ConfigError, match="3 probes"):
        few = Trained(fit=replace(fit, dataset=replace(DATA, test_size=2)))
        replace(stage, one=few, other=few).check(session)
    assert not session.store.made
