from dataclasses import replace

import pytest
import torch

from rebuttal.config import build
from rebuttal.data import RandomLabels, UniformNoise
from rebuttal.data.labels import random_labels, true_labels
from rebuttal.errors import ConfigError
from rebuttal.models import MLP, VGG11, ResNet18
from rebuttal.models.preprocess import CropAndNormalise
from rebuttal.stages import Fit
from rebuttal.stages.session import Session
from rebuttal.training.evaluation import predict

DATA = UniformNoise(shape=(20,), train_size=100, student_size=150, test_size=80)


@pytest.fixture
def fit(recipe):
    training = recipe(epochs=40, batch_size=20, lr=3e-3)
    return Fit(model=MLP(hidden=(128,)), dataset=DATA, corruption=true_labels(), training=training, seed=0)


def test_metrics_are_those_of_the_stored_network(fit, session):
    metrics = fit.run(session).metrics
    network = fit.network(session)
    for split, key, n in (("train", "train_accuracy", 100), ("test", "test_accuracy", 80)):
        examples = DATA.examples(split, 0)
        right = (predict(network, examples.inputs).argmax(dim=1) == examples.labels).sum().item()
        assert metrics[key] == right / n
        assert metrics[f"{key}_low"] < metrics[key] <= metrics[f"{key}_high"]
    assert metrics["generalization_gap"] == metrics["train_accuracy"] - metrics["test_accuracy"]
    assert metrics["parameters"] == 20 * 128 + 128 + 128 * 10 + 10


def test_it_fits_random_labels_and_reports_the_time(fit, session):
    outcome = fit.run(session)
    assert outcome.metrics["train_accuracy"] == 1.0
    first = outcome.metrics["epochs_to_fit"]
    assert outcome.metrics["steps_to_fit"] == 5 * first
    accuracies = {row["epoch"]: row["train_accuracy"] for row in outcome.history if "train_accuracy" in row}
    assert accuracies.pop(first) == 1.0 > max(share for epoch, share in accuracies.items() if epoch < first)


def test_a_budget_is_never_reported_as_a_time(fit, session):
    short = replace(fit, training=replace(fit.training, epochs=1))
    metrics = short.run(session).metrics
    assert metrics["epochs_to_fit"] is None and metrics["steps_to_fit"] is None


def test_the_same_settings_give_the_same_weights_bit_for_bit(fit, session, tmp_path):
    here = fit.artifact(session).tensors
    there = fit.artifact(Session(replace(session.settings, store=str(tmp_path / "other")))).tensors
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert not torch.equal(here["body.1.weight"], replace(fit, seed=1).artifact(session).tensors["body.1.weight"])


@pytest.mark.parametrize("model", [ResNet18(), VGG11(), MLP(hidden=(32,), dropout=0.5)])
def test_batch_norm_convolution_and_dropout_are_repeatable_too(model, recipe, session, tmp_path):
    data = UniformNoise(shape=(3, 8, 8), train_size=24, test_size=8)
    fit = Fit(model=model, dataset=data, corruption=true_labels(), training=recipe(epochs=2, batch_size=8), seed=0)
    here, there = fit.artifact(session), fit.artifact(Session(replace(session.settings, store=str(tmp_path / "other"))))
    assert here.record == there.record
    assert all(torch.equal(here.tensors[name], there.tensors[name]) for name in here.tensors)


def test_a_second_run_trains_nothing_and_returns_the_same_outcome(fit, session):
    first = fit.run(session)
    again = Session(session.settings)
    assert fit.run(again) == first
    assert again.store.made == []


def test_what_decides_a_result_is_in_its_identity_and_nothing_else(fit, session):
    identity = fit.identity(session)
    changes = [
        {"seed": 1},
        {"model": MLP(hidden=(129,))},
        {"training": replace(fit.training, lr=1e-2)},
        {"training": replace(fit.training, stop_accuracy=1.0)},
        {"corruption": RandomLabels(fraction=0.5)},
        {"dataset": replace(DATA, train_size=99)},
        {"dataset": replace(DATA, shape=(10, 2))},
    ]
    assert all(replace(fit, **change).identity(session) != identity for change in changes)
    assert replace(fit, dataset=replace(DATA, student_size=1)).identity(session) == identity


def test_label_corruption_reaches_the_training_labels_only(fit, session):
    corrupted = replace(fit, corruption=random_labels())
    given = corrupted.training_examples(session)
    true = DATA.examples("train", 0)
    assert torch.equal(given.inputs, true.inputs)
    noise = (given.labels != true.labels).double().mean().item()
    assert 0.8 < noise < 1
    assert corrupted.run(session).metrics["label_noise"] == noise
    assert torch.equal(session.examples(DATA, "test", 0).labels, DATA.examples("test", 0).labels)


def test_a_model_that_does_not_fit_the_data_is_rejected_before_training(fit, session):
    with pytest.raises(ConfigError, match="needs images"):
        replace(fit, model=ResNet18()).check(session)
    with pytest.raises(ConfigError, match=r"preprocess\.crop=28"):
        replace(fit, preprocess=CropAndNormalise(crop=28)).check(session)


def test_a_stage_is_built_from_plain_config(fit):
    node = {"_target_": "rebuttal.stages.Fit", "model": {"_target_": "rebuttal.models.MLP", "hidden": [128]}}
    with pytest.raises(ConfigError, match=r"stages\.fit\.dataset is missing"):
        build(node, "stages.fit")
