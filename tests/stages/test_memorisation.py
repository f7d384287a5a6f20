from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from rebuttal.data import RandomLabels
from rebuttal.errors import ConfigError
from rebuttal.stages import Memorisation
from rebuttal.stages.memorisation import PartialFit, scores
from rebuttal.stages.session import Session
from rebuttal.stages.together import train_together
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA


@pytest.fixture
def fit(fit, recipe):
    training = recipe(epochs=300, batch_size=60, lr=1e-2, stop_accuracy=1.0)
    dataset = replace(DATA, train_size=200, test_size=60)
    return replace(fit, dataset=dataset, corruption=RandomLabels(fraction=1.0), training=training)


@pytest.fixture
def stage(fit):
    return Memorisation(fit=fit, parts=10, share=0.7)


def test_of_random_labels_all_but_chance_is_memorised(stage, session, stacks):
    """1 − 1/K in expectation: no network knows anything of a label that it was not given."""
    session = Session(replace(session.settings, stack="always"))
    train_together([stage], session)
    assert stacks == [10]
    outcome = stage.run(session)
    found = outcome.metrics
    assert found["fitted"] == found["right_in"] == 1.0
    assert found["memorisation"] == pytest.approx(0.9, abs=3 * 0.3 / 200**0.5)
    assert found["memorisation"] == pytest.approx(1 - found["right_out"])
    assert found["memorised"] > 0.9 and found["compared"] == len(outcome.arrays["mem"]) > 180
    assert sorted(found) == sorted(stage.metric_names(session))


def test_a_part_has_a_share_of_the_examples_with_the_labels_that_they_have_in_the_whole(fit, session):
    whole, part = fit.training_examples(session), PartialFit.of(fit, 0.7, 3)
    rows = part.rows(200)
    assert len(rows) == 140 == part.work(session).examples and len(set(rows.tolist())) == 140
    assert part.work(session).evaluated == 140 + 60
    examples = part.training_examples(session)
    assert torch.equal(examples.inputs, whole.inputs[rows]) and torch.equal(examples.labels, whole.labels[rows])
    member = part.member(session)
    assert torch.equal(member.inputs, examples.inputs) and torch.equal(member.targets, examples.labels)
    other = PartialFit.of(fit, 0.7, 4)
    assert not np.array_equal(rows, other.rows(200))
    begun = [each.initial_network(session).body[1].weight for each in (part, other)]
    assert not torch.equal(*begun)


def test_the_record_of_a_part_is_of_its_own_examples(fit, session):
    few = replace(fit, training=replace(fit.training, epochs=2))
    part = PartialFit.of(few, 0.5, 0)
    metrics = part.run(session).metrics
    examples = part.training_examples(session)
    right = predict(part.network(session), examples.inputs).argmax(dim=1) == examples.labels
    assert metrics["train_size"] == 100 and metrics["train_accuracy"] == right.double().mean().item()
    true = part.chosen(session.examples(few.dataset, "train", 0)).labels
    assert metrics["label_noise"] == (examples.labels != true).double().mean().item()


def test_parts_are_other_networks_than_the_whole_in_the_store(fit, session):
    found = [PartialFit.of(fit, share, part) for share in (0.5, 0.7) for part in (0, 1)]
    for identity in ("identity", "initial_identity", "data_identity"):
        every = [getattr(each, identity)(session) for each in (fit, *found)]
        assert all(every.count(each) == 1 for each in every)


def test_scores_by_hand():
    """Of four networks and four examples; the last was in every subset."""
    inside = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1], [0, 0, 1, 1]], dtype=bool)
    right = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1]], dtype=bool)
    metrics, arrays = scores(right, inside)
    assert arrays["mem"].tolist() == [1 - 0.5, 1 - 0, 1 - 1] and arrays["examples"].tolist() == [0, 1, 2]
    assert metrics["memorisation"] == pytest.approx(0.5) and metrics["right_out"] == pytest.approx(0.5)
    assert metrics["memorised"] == pytest.approx(2 / 3) and metrics["compared"] == 3
    nothing, _ = scores(right, np.ones_like(inside))
    assert nothing["compared"] == 0 and nothing["memorisation"] is nothing["memorised"] is None


def test_a_quarter_more_is_memorised_and_less_is_not():
    for parts in range(2, 20):
        for had in range(1, parts):
            inside = np.arange(parts)[:, None] < had
            for within in range(had + 1):
                for without in range(parts - had + 1):
                    in_right, out_right = np.arange(parts) < within, np.arange(parts) - had < without
                    right = np.where(inside[:, 0], in_right, out_right)[:, None]
                    exact = Fraction(within, had) - Fraction(without, parts - had) >= Fraction(1, 4)
                    assert scores(right, inside)[0]["memorised"] == exact


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_of_all_or_none_is_refused_first(share, stage, session):
    with pytest.raises(ConfigError, match=rf"share={share}: of 200 training examples"):
        replace(stage, share=share).check(session)
