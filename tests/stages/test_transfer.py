from dataclasses import replace

import pytest
import torch

from rebuttal.data import RandomLabels, UniformNoise
from rebuttal.errors import ConfigError
from rebuttal.models import MLP, CropAndNormalise
from rebuttal.stages import Transfer
from rebuttal.stages.session import Session
from rebuttal.stages.together import train_together
from rebuttal.stages.transfer import WarmFit
from tests.stages.conftest import DATA


@pytest.fixture
def fit(fit, recipe):
    return replace(fit, training=recipe(epochs=200, batch_size=20, lr=1e-2, stop_accuracy=1.0))


@pytest.fixture
def stage(fit):
    return Transfer(fit=fit, start=replace(fit, corruption=RandomLabels(fraction=1.0)))


def weights(network):
    return torch.cat([p.detach().flatten() for p in network.body.parameters()])


def test_weights_that_were_not_moved_change_nothing(stage, fit, session):
    still = replace(fit, training=replace(fit.training, lr=1e-30, epochs=1))  # a step below the precision of a weight
    found = replace(stage, start=still).run(session).metrics
    assert found["steps_ratio"] == 1.0 and found["test_accuracy_change"] == 0.0
    assert found["steps_to_fit_fresh"] == fit.run(session).metrics["steps_to_fit"]
    warm = WarmFit.of(fit, still)
    assert torch.equal(weights(warm.network(session)), weights(fit.network(session)))
    assert sorted(found) == sorted(stage.metric_names(session))


def test_weights_that_fit_the_labels_already_need_one_epoch(stage, fit, session):
    found = replace(stage, start=fit).run(session).metrics
    assert found["steps_to_fit_transferred"] == 3 < found["steps_to_fit_fresh"]  # 60 examples, batches of 20
    assert found["steps_ratio"] == 3 / found["steps_to_fit_fresh"] and found["start_train_accuracy"] == 1.0


def test_it_starts_from_the_trained_weights_and_they_stay_as_they_were(stage, session):
    start = stage.start.network(session)
    warm = stage.needs(session)[2]
    network = warm.initial_network(session)
    assert torch.equal(weights(network), weights(start)) and all(p.requires_grad for p in network.parameters())
    warm.run(session)
    assert torch.equal(weights(stage.start.network(session)), weights(start))
    assert not torch.equal(weights(warm.network(session)), weights(start))


def test_weights_for_another_crop_are_refused_first(fit, session):
    images = replace(fit, dataset=UniformNoise(shape=(3, 8, 8)))
    cropped = replace(images, preprocess=CropAndNormalise(crop=6))
    with pytest.raises(ConfigError, match=r"start: has another architecture, shape of inputs \(after a crop\)"):
        Transfer(fit=images, start=cropped).check(session)


def test_one_that_never_fits_has_no_ratio(stage, fit, session):
    short = replace(fit, training=replace(fit.training, epochs=1))
    outcome = replace(stage, fit=short).run(session)
    assert outcome.metrics["steps_to_fit_fresh"] is outcome.metrics["steps_ratio"] is None
    assert "not known" in outcome.words


def test_it_is_another_network_in_the_store_and_is_trained_after_its_start(stage, session, stacks):
    session = Session(replace(session.settings, stack="always"))
    fit, _, warm = stage.needs(session)
    for identity in ("identity", "initial_identity"):
        assert len({str(getattr(each, identity)(session)) for each in (fit, warm)}) == 2
    train_together([stage], session)
    assert stacks == [2]  # what starts afresh
    stage.run(session)
    assert len(session.store.made) == 3


@pytest.mark.parametrize("other", [{"model": MLP(hidden=(32,))}, {"dataset": replace(DATA, shape=(21,))}])
def test_weights_that_do_not_fit_are_refused_first(other, stage, session):
    with pytest.raises(ConfigError, match=r"another architecture, shape of inputs .*or number of classes"):
        replace(stage, start=replace(stage.start, **other)).check(session)
