from dataclasses import replace

import pytest

from rebuttal.errors import ConfigError, TrainingError
from rebuttal.functions.networks import Student
from rebuttal.stages import BestStudent, LearningCurve, SampleEfficiency
from rebuttal.training import Constant, Cosine
from rebuttal.training.evaluation import predict
from tests.stages.conftest import DATA


@pytest.fixture
def best(mimic):
    return BestStudent(
        student=replace(mimic, target="soft"),
        steps=200,
        held_back=0.2,
        lrs=(1e-3, 1e-2),
        weight_decays=(0.0,),
        temperatures=(1.0, 20.0),
        schedules={"constant": Constant(), "cosine": Cosine()},
    )


def test_the_one_that_agrees_best_on_what_it_held_back_is_chosen(best, session):
    best.check(session)
    metrics = best.run(session).metrics
    found = [candidate.run(session).metrics for candidate in best.needs(session)]
    assert metrics["candidates"] == len(found) == 8
    warm, cool = (
        min((m for m, c in zip(found, best.needs(session)) if c.temperature == t), key=lambda m: m["held_back_loss"])
        for t in (1.0, 20.0)
    )
    assert metrics.items() >= max(warm, cool, key=lambda m: m["held_back_agreement"]).items()
    assert len({m["held_back_loss"] for m in found}) == 8
    recipes = {(c.training.lr, c.temperature, str(c.training.schedule)) for c in best.needs(session)}
    assert len(recipes) == 8
    chosen = best.chosen(session)
    assert (metrics["chosen_lr"], metrics["chosen_temperature"]) == (chosen.training.lr, chosen.temperature)


def test_each_takes_the_steps_of_the_budget_whatever_its_number_of_inputs(best, session):
    for size in (20, 50, 400, 4000, 40_000):
        student = replace(best.student, dataset=replace(DATA, student_size=size))
        (candidate, *_) = replace(best, student=student).needs(session)
        per_epoch = candidate.training.steps_per_epoch(candidate.trained_on(session))
        steps = candidate.training.epochs * per_epoch
        assert abs(steps - 200) <= per_epoch / 2 or candidate.training.epochs == 1
        if size == 400:
            assert candidate.run(session).metrics["steps"] == steps == 192  # 16 steps an epoch


def test_the_judge_s_inputs_choose_nothing(best, session):
    other = replace(best.student.teacher.fit, dataset=replace(DATA, test_size=1))  # who is right on it would be best
    elsewhere = replace(best, student=replace(best.student, teacher=replace(best.teacher, fit=other)))
    ours, theirs = best.chosen(session), elsewhere.chosen(session)
    assert (ours.training, ours.temperature) == (theirs.training, theirs.temperature)


def test_classes_have_no_temperature(best, session):
    classes = replace(best, student=replace(best.student, target="hard"))
    assert len(classes.needs(session)) == 4 and classes.run(session).metrics["chosen_temperature"] is None


def test_a_recipe_that_diverges_is_not_chosen(best, session):
    stage = replace(best, lrs=(1e30, 1e-2), schedules={"constant": Constant()})
    assert stage.run(session).metrics["chosen_lr"] == 1e-2
    with pytest.raises(TrainingError):
        replace(stage, lrs=(1e30,)).run(session)


def test_too_few_inputs_are_refused_in_words(best, session):
    student = replace(best.student, dataset=replace(DATA, student_size=1))
    with pytest.raises(ConfigError, match=r"held_back=0.2: of 1 inputs none is left to train on"):
        replace(best, student=student).check(session)


def test_what_is_held_back_is_set_once(best, session):
    with pytest.raises(ConfigError, match=r"student.held_back=0.1: allowed: 0"):
        replace(best, student=replace(best.student, held_back=0.1)).check(session)


def test_curves_may_be_those_of_the_best_student(best, session):
    few = replace(best, lrs=(1e-2,), schedules={"constant": Constant()})
    curve = LearningCurve(students={"best": few}, shares=(0.25, 1.0))
    efficiency = SampleEfficiency(
        student=few, train_sizes=(60,), student_sizes=(100, 400), repeats=1, kappas=(), agreements=()
    )
    for stage in (curve, efficiency):
        stage.check(session)
    found, alone = curve.run(session).metrics, few.run(session).metrics
    assert found["best_kappa_400"] == alone["kappa"] and found["best_kappa_100"] != alone["kappa"]
    assert efficiency.run(session).metrics["kappa_60_400"] == alone["kappa"]


def test_its_function_is_that_of_the_chosen_student(best, session):
    inputs = DATA.examples("test", 0).inputs
    function = Student(mimic=best)
    mine = predict(function.function(session), inputs)
    assert mine.equal(predict(best.chosen(session).network(session), inputs))
    assert function.identity(session)["mimic"] == best.identity(session)
