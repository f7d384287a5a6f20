from dataclasses import replace

import pytest
import torch

from rebuttal.data import Mixture, UniformNoise
from rebuttal.errors import ConfigError
from rebuttal.functions.nearest_neighbour import NearestNeighbour
from rebuttal.functions.networks import Student, Trained, independent, refitted
from rebuttal.measures.agreement import agreement
from rebuttal.seeds import derive
from rebuttal.stages import Judge
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA


def test_on_held_out_inputs_it_equals_the_mimic_stage(mimic, session):
    found = Judge(student=Student(mimic=mimic), teacher=mimic.teacher, also={}).run(session).metrics
    known = mimic.run(session).metrics
    for key in ("agreement", "kappa", "majority_agreement", "output_correlation"):
        assert found[key] == known[key]


def test_metrics_on_other_inputs_have_their_name_as_suffix(mimic, session):
    there = UniformNoise(shape=(20,), test_size=300)
    found = Judge(student=Student(mimic=mimic), teacher=mimic.teacher, also={"more": there}).run(session).metrics
    inputs = there.examples("test", 0).inputs
    networks = (mimic.teacher.function(session), mimic.network(session))
    expected = agreement(*(predict(network, inputs) for network in networks))
    assert {key: found[f"{key}_more"] for key in expected} == expected


def test_nearest_neighbour_recalls_all_training_labels_and_an_independent_network_none(fit, session):
    found = Judge(student=NearestNeighbour(fit=fit), teacher=Trained(fit=fit), also={}).run(session).metrics
    assert found["training_label_accuracy"] == found["training_label_kappa"] == 1.0
    unrelated = Judge(student=independent(fit), teacher=Trained(fit=fit), also={}).run(session).metrics
    assert unrelated["training_label_kappa_low"] < 0 < unrelated["training_label_kappa_high"]


def test_the_independent_network_has_a_derived_seed_and_the_refitted_one_the_same_data(fit, session):
    inputs = DATA.examples("test", 0).inputs
    other = replace(fit, seed=derive(fit.seed, "independent"))
    assert torch.equal(predict(independent(fit).function(session), inputs), predict(other.network(session), inputs))
    again = replace(fit, initialisation=1)
    assert torch.equal(predict(refitted(fit).function(session), inputs), predict(again.network(session), inputs))
    assert torch.equal(again.training_examples(session).labels, fit.training_examples(session).labels)
    begun = [f.initial_network(session).body[1].weight for f in (fit, again)]
    assert not torch.allclose(*begun)
    assert fit.identity(session) != again.identity(session)


def test_a_mixture_leads_from_new_inputs_to_the_training_inputs(session):
    train = DATA.examples("train", 0).inputs
    nearest = []
    for share in (0.0, 0.5, 1.0):
        source = Mixture(new=DATA, towards=DATA, share=share).open(None)
        inputs = source.examples("student", 0).inputs
        assert len(inputs) == 400
        nearest.append(torch.cdist(inputs, train).min(dim=1).values.mean().item())
    assert torch.equal(Mixture(new=DATA, towards=DATA, share=0.0).open(None).examples("test", 0).inputs,
                       DATA.examples("test", 0).inputs)  # fmt: skip
    assert nearest[0] > nearest[1] > nearest[2] == pytest.approx(0, abs=1e-3)


def test_different_shapes_are_rejected(mimic, session):
    judge = Judge(student=Student(mimic=mimic), teacher=mimic.teacher, also={"images": UniformNoise(shape=(3, 4, 4))})
    with pytest.raises(ConfigError, match=r"also\.images: inputs of shape \[3, 4, 4\]; allowed: \[20\]"):
        judge.check(session)
    for own, said in (
        (replace(DATA, classes=7), r"stages\.\*\.student: 7 classes; allowed: 10, as stages\.\*\.teacher"),
        (replace(DATA, shape=(30,)), r"stages\.\*\.student: inputs of shape \[30\]; allowed: \[20\]"),
    ):
        other = Trained(fit=replace(mimic.teacher.fit, dataset=own))
        with pytest.raises(ConfigError, match=said):
            Judge(student=other, teacher=mimic.teacher, also={}).check(session)
    with pytest.raises(ConfigError, match=r"shape \[20\]; allowed: that of towards, \[3, 4, 4\]"):
        Mixture(new=DATA, towards=UniformNoise(shape=(3, 4, 4)), share=0.5).open(None)
