from dataclasses import replace

import pytest

from rebuttal.errors import TrainingError
from rebuttal.models import VGG11
from rebuttal.stages.session import Session
from rebuttal.stages.stage import trainings
from rebuttal.stages.together import train_together
from rebuttal.stages.variants import repeated
from rebuttal.training import stack


@pytest.fixture
def students(mimic):
    """Three students of each kind of target, each of another teacher."""
    return [repeated(replace(mimic, target=target), n) for target in ("hard", "soft", "logit") for n in range(3)]


@pytest.fixture
def stacks(monkeypatch):
    """The number of networks in each stack that is trained."""
    sizes = []
    train = stack.train_stacked
    monkeypatch.setattr(
        "rebuttal.stages.together.train_stacked", lambda members: sizes.append(len(members)) or train(members)
    )
    return sizes


def test_teachers_then_students_are_trained_as_one_and_are_what_they_are_alone(students, session, stacks, tmp_path):
    train_together(students, session)
    assert sorted(stacks) == [3, 3, 6]  # teachers; students of classes; of probabilities and of logits
    needed = trainings(students, session)
    assert len(needed) == 12 and sorted(session.store.made) == sorted(needed)
    apart = Session(replace(session.settings, store=str(tmp_path / "apart")))
    for student in students:
        together, alone = (student.run(where).metrics for where in (session, apart))
        assert together.keys() == alone.keys()
        assert together["agreement"] == pytest.approx(alone["agreement"], abs=0.05)
        assert together["steps"] == alone["steps"] and together["parameters"] == alone["parameters"]
    assert sorted(session.store.made) == sorted(needed)  # nothing was trained again


def test_what_is_stored_is_not_trained_again(students, session, stacks):
    students[0].run(session)
    train_together(students[:3], session)
    assert stacks == [2, 2]
    train_together(students[:3], session)
    assert stacks == [2, 2]


def test_one_that_diverges_fails_when_it_is_its_turn(fit, session, stacks):
    fits = [
        replace(fit, seed=seed, training=replace(fit.training, lr=lr)) for seed, lr in enumerate((1e-3, 1e30, 1e-3))
    ]
    train_together(fits, session)
    assert stacks == [3] and len(session.store.made) == 2
    assert fits[2].run(session).metrics["steps"] > 0
    with pytest.raises(TrainingError, match="the loss became"):
        fits[1].run(session)


def test_what_cannot_be_stacked_is_left(fit, session, stacks):
    dataset = replace(fit.dataset, shape=(3, 32, 32), train_size=4, test_size=4)
    train_together([replace(fit, seed=seed, model=VGG11(), dataset=dataset) for seed in range(2)], session)
    assert stacks == [] and session.store.made == []
