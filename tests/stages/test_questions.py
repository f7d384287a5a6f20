"""Which inputs a student sees, and how much it has asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rebuttal.data import GaussianNoise
from rebuttal.data.labels import BalancedLabels, true_labels
from rebuttal.errors import ConfigError
from rebuttal.functions.hash import Hash
from rebuttal.functions.networks import Trained, Untrained, relabelled
from rebuttal.stages.questions import BISECTIONS, with_boundary
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA

NETWORK = 20 * 64 + 64 + 64 * 10 + 10  # parameters of the teacher


def first_coordinate(inputs):
    """Class 1 where the first coordinate is above 0.3."""
    return torch.stack([0.3 - inputs[:, 0], inputs[:, 0] - 0.3], dim=1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_questions_at_the_boundary_are_found_by_bisection(share):
    inputs = torch.rand(400, 3, generator=torch.Generator().manual_seed(0))
    asked = with_boundary(first_coordinate, inputs, share, np.random.default_rng(0))
    count = round(share * 400)
    assert asked.shape == inputs.shape and torch.equal(asked[: 400 - count], inputs[: 400 - count])
    lines = asked[400 - count :][: count // BISECTIONS * BISECTIONS].unflatten(0, (-1, BISECTIONS))
    distances = (lines[:, :, 0] - 0.3).abs()
    assert (distances[:, -1] <= 0.5**BISECTIONS).all()  # of a line that is at most 1 long in this coordinate
    steps = lines.diff(dim=1).norm(dim=2)
    assert torch.allclose(steps[:, 1:], steps[:, :-1] / 2, rtol=1e-3, atol=1e-6)  # each question halves the line


def test_without_two_classes_there_is_no_boundary_to_ask_about():
    inputs = torch.rand(50, 3) + 1
    assert torch.equal(with_boundary(first_coordinate, inputs, 0.5, np.random.default_rng(0)), inputs)


def test_a_student_that_asks_at_the_boundary_has_as_many_questions(mimic, session):
    active = replace(mimic, boundary=0.5)
    active.check(session)
    metrics = active.run(session).metrics
    assert metrics["student_size"] == 400 and active.work(session).examples == 400
    assert active.identity(session) != mimic.identity(session)
    asked = active.member(session).inputs
    new = DATA.examples("student", 0).inputs
    assert torch.equal(asked[:200], new[:200]) and not torch.equal(asked[200:], new[200:])


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_the_teacher_s_own_inputs(share, mimic, fit, session):
    student = replace(mimic, share=share, target="soft")
    student.check(session)
    metrics = student.run(session).metrics
    examples = fit.training_examples(session)
    seen = student.member(session).inputs
    assert len(seen) == metrics["student_size"] == round(share * 60)
    is_seen = (examples.inputs[:, None] == seen).all(dim=2).any(dim=1)
    assert int(is_seen.sum()) == len(seen)
    if share == 1:
        assert metrics["unseen_memorised_agreement"] is None
    else:
        right = predict(student.network(session), examples.inputs).argmax(dim=1) == examples.labels
        assert metrics["unseen_memorised_agreement"] == right[~is_seen].double().mean().item()
    held_out = DATA.examples("test", 0).inputs
    same = predict(student.network(session), held_out).argmax(1) == predict(fit.network(session), held_out).argmax(1)
    assert metrics["agreement"] == same.double().mean().item()


def test_a_larger_share_contains_a_smaller_one(mimic, session):
    few, many = (replace(mimic, share=share).member(session).inputs for share in (0.2, 0.7))
    assert torch.equal(many[: len(few)], few)


def test_how_much_was_asked_for_each_parameter_of_the_teacher(mimic, fit, session):
    assert mimic.run(session).metrics["r"] == 400 * 9 / NETWORK
    shown = replace(mimic, share=0.5)
    assert shown.run(session).metrics["r"] == 30 * 9 / NETWORK
    assert replace(mimic, teacher=Untrained(fit=fit)).run(session).metrics["r"] == 400 * 9 / NETWORK
    assert replace(mimic, teacher=Hash(fit=fit)).run(session).metrics["r"] is None


def test_memorised_labels_of_new_questions_are_all_unseen(mimic, fit, session):
    examples = fit.training_examples(session)
    right = predict(mimic.network(session), examples.inputs).argmax(dim=1) == examples.labels
    metrics = mimic.run(session).metrics
    assert metrics["unseen_memorised_agreement"] == right.double().mean().item()
    assert metrics["unseen_memorised_agreement_low"] < metrics["unseen_memorised_agreement"]
    assert replace(mimic, teacher=Untrained(fit=fit)).run(session).metrics["unseen_memorised_agreement"] is None


def test_students_that_an_earlier_version_trained_have_these_numbers_too(mimic, session):
    metrics = mimic.run(session).metrics
    new = ("r", *(name for name in metrics if name.startswith("unseen_memorised_agreement")))
    assert len(new) == 4
    record = mimic.artifact(session).record
    for name in new:
        del record["metrics"][name]
    assert mimic.run(session).metrics == metrics


def test_shuffled_answers_keep_their_counts_and_teach_nothing(mimic, fit, session):
    student = replace(mimic, shuffled=True)
    shuffled, plain = (each.member(session).evaluation.classes for each in (student, mimic))
    assert torch.equal(shuffled.bincount(minlength=10), plain.bincount(minlength=10))
    assert not torch.equal(shuffled, plain)
    outcome = replace(student, share=0.9).run(session)
    assert "of the 54 answers that it was dealt" in outcome.words and "phase" not in outcome.words
    metrics = student.run(session).metrics
    assert metrics["kappa_low"] < 0 < metrics["kappa_high"]


def test_the_loss_of_the_teacher_s_own_logits_is_the_floor_at_every_temperature(mimic, fit, session):
    for student in (replace(mimic, target="soft", temperature=20.0), replace(mimic, target="logit")):
        held_back = replace(student, held_back=0.25).member(session).evaluation.held_back
        teacher = fit.network(session)
        (loss,) = held_back.after(teacher, 1, True, []).values()
        assert loss == pytest.approx(0, abs=1e-3)
        (start,) = held_back.after(fit.initial_network(session).eval(), 1, True, []).values()
        assert start > 0.1


def test_what_is_held_back_of_an_active_student_is_none_of_its_lines(mimic, session):
    member = replace(mimic, target="soft", boundary=0.5, held_back=0.25).member(session)
    new = DATA.examples("student", 0).inputs[:200]
    others = member.evaluation.held_back.inputs
    assert len(others) == 100 and len(member.inputs) == 300
    assert (others[:, None] == new).all(dim=2).any(dim=1).all()


def test_a_student_that_holds_inputs_back_has_the_weights_with_the_lowest_loss_on_them(mimic, session):
    student = replace(mimic, target="soft", held_back=0.25)
    member = student.member(session)
    held_back = member.evaluation.held_back
    assert len(member.inputs) == 300 and len(held_back.inputs) == 100
    every = torch.cat([member.inputs, held_back.inputs])
    assert torch.equal(every.sort(dim=0).values, DATA.examples("student", 0).inputs.sort(dim=0).values)
    metrics = student.run(session).metrics
    history = student.artifact(session).record["history"]
    losses = {row["step"]: row["held_back_loss"] for row in history if "held_back_loss" in row}
    assert metrics["chosen_steps"] == min(losses, key=losses.get)
    logits = predict(student.network(session), held_back.inputs)
    divergence = F.kl_div(logits.log_softmax(dim=1), held_back.targets, reduction="batchmean")  # at temperature 1
    assert divergence.item() == pytest.approx(min(losses.values()), abs=1e-5)
    right = logits.argmax(dim=1) == held_back.targets.argmax(dim=1)
    assert metrics["held_back_agreement"] == right.double().mean().item()
    assert metrics["student_size"] == 400 and metrics["r"] == 400 * 9 / NETWORK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.5, "dataset": DATA}, r"stages.\*.share=0.5: .* allowed: dataset=null"),
        ({"share": 0.5, "boundary": 0.5}, r"stages.\*.boundary=0.5: with stages.\*.share allowed: 0"),
        ({"share": 0.02, "held_back": 0.9}, r"held_back=0.9: of 1 inputs none is left to train on"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, message, mimic, session):
    with pytest.raises(ConfigError, match=message):
        replace(mimic, **changes).check(session)


def test_another_network_memorises_other_labels_at_the_same_inputs(fit, session):
    data = GaussianNoise(shape=(20,), train_size=60, student_size=10, test_size=10)
    mine = replace(fit, dataset=data, corruption=BalancedLabels())
    other = relabelled(mine).fit
    ours, theirs = mine.training_examples(session), other.training_examples(session)
    assert torch.equal(ours.inputs, theirs.inputs) and not torch.equal(ours.labels, theirs.labels)
    with pytest.raises(ConfigError, match=r"relabelling=1: .* allowed: 0, or a corruption other than none"):
        relabelled(replace(mine, corruption=true_labels())).fit.check(session)
    assert isinstance(relabelled(mine), Trained)
