"""Stages that repeat a student over sizes, walks and architectures."""

from dataclasses import replace

import numpy as np
import pytest

from rebuttal.data import NoiseLike, RandomWalk
from rebuttal.errors import ConfigError
from rebuttal.functions.matched import Matched
from rebuttal.functions.networks import Trained
from rebuttal.models import MLP
from rebuttal.seeds import derive
from rebuttal.stages import Architectures, LearningCurve, Mimic, SampleEfficiency, Thinning
from rebuttal.stages.variants import repeated, with_field
from rebuttal.statistics import mean_interval
from tests.stages.conftest import DATA


def test_points_are_means_over_seeds_and_each_teacher_is_trained_once(mimic, session):
    stage = SampleEfficiency(
        student=mimic, train_sizes=(30, 60), student_sizes=(50, 400), repeats=2, kappas=(0.01, 0.99), agreements=()
    )
    stage.check(session)
    metrics = stage.run(session).metrics
    made = [name.split("/")[0] for name in session.store.made]
    assert made.count("fit") == 2 * 2 and made.count("mimic") == 2 * 2 * 2
    by_hand = []
    for seed in (0, derive(0, "repeat", "1")):
        fit = replace(mimic.teacher.fit, dataset=replace(DATA, train_size=30), seed=seed)
        alone = replace(mimic, teacher=Trained(fit=fit), dataset=replace(DATA, train_size=30), seed=seed)
        by_hand.append(alone.run(session).metrics["kappa"])
    found = tuple(metrics[f"kappa_30_400{end}"] for end in ("", "_low", "_high"))
    assert found == pytest.approx(mean_interval(by_hand))
    assert len(session.store.made) == len(made)
    assert metrics["n2_for_kappa_0.99_60"] is None and metrics["ratio_for_kappa_0.99_60"] is None
    assert metrics["ratio_below_for_kappa_0.99_60"] == 60 / 400 and metrics["ratio_below_for_kappa_0.01_60"] is None
    assert metrics["ratio_above_for_kappa_0.01_60"] == 60 / 50 and metrics["ratio_above_for_kappa_0.99_60"] is None
    assert metrics["n2_for_kappa_0.01_60"] is None and metrics["ratio_for_kappa_0.01_60"] is None  # at most 50
    least, most = metrics["kappa_60_50"], metrics["kappa_60_400"]
    between = replace(stage, kappas=((least + most) / 2,)).run(session).metrics
    needed, ratio = (between[f"{what}_for_kappa_{(least + most) / 2:g}_60"] for what in ("n2", "ratio"))
    assert 50 < needed < 400 and ratio == pytest.approx(60 / needed)


def test_the_order_of_the_jobs_does_not_matter(mimic, session, tmp_path):
    stage = SampleEfficiency(
        student=mimic, train_sizes=(30, 60), student_sizes=(50,), repeats=1, kappas=(0.5,), agreements=()
    )
    replace(stage, train_sizes=(60,)).run(session)
    before = len(session.store.made)
    stage.run(session)
    assert len(session.store.made) - before == 2  # teacher and student of the other n1


def test_a_student_of_its_teacher_s_inputs_has_no_curve_over_new_ones(mimic, session):
    student = replace(mimic, share=0.5)
    stage = SampleEfficiency(
        student=student, train_sizes=(30, 60), student_sizes=(50,), repeats=1, kappas=(), agreements=()
    )
    for curve in (stage, LearningCurve(students={"student": student}, shares=(0.5,))):
        with pytest.raises(ConfigError, match=r"student.share=0.5: a curve over numbers of new inputs; allowed: null"):
            curve.check(session)


def test_sizes_must_increase(mimic, session):
    stage = SampleEfficiency(
        student=mimic, train_sizes=(60, 30), student_sizes=(50,), repeats=1, kappas=(), agreements=()
    )
    with pytest.raises(ConfigError, match=r"train_sizes=\[60, 30\]: allowed: distinct sizes in increasing order"):
        stage.check(session)


@pytest.fixture
def walker(mimic):
    walk = RandomWalk(shape=(20,), train_size=40, student_size=100, test_size=100)
    return replace(mimic, teacher=Trained(fit=replace(mimic.teacher.fit, dataset=walk)))


def test_thinning_reports_time_to_fit_and_kappa_by_k(walker, session):
    stage = Thinning(student=walker, every=(1, 20), repeats=2)
    stage.check(session)
    metrics = stage.run(session).metrics
    for k in (1, 20):
        students = [with_field(repeated(walker, repeat), "every", k) for repeat in (0, 1)]
        fits = [s.teacher.fit.run(session).metrics["steps_to_fit"] for s in students]
        assert students[0].teacher.fit.dataset.every == k
        assert metrics[f"fitted_{k}"] == np.mean([f is not None for f in fits])
        assert metrics[f"steps_to_fit_{k}"] == (None if None in fits else pytest.approx(np.mean(fits)))
        kappas = [s.run(session).metrics["kappa"] for s in students]
        assert metrics[f"kappa_{k}"] == pytest.approx(np.mean(kappas))


def test_a_curve_needs_a_teacher_whose_training_it_can_change(mimic, walker, session):
    teacher = walker.teacher
    matched = replace(walker, teacher=Matched(of=teacher, to=teacher))
    with pytest.raises(ConfigError, match=r"student.teacher=Matched: a curve trains other teachers .* field fit"):
        Thinning(student=matched, every=(1,), repeats=2).check(session)


def test_thinning_requires_a_random_walk(mimic, session):
    with pytest.raises(ConfigError, match="allowed: dataset=random_walk"):
        Thinning(student=mimic, every=(1,), repeats=1).check(session)


def test_fields_that_a_dataset_does_not_have_are_ignored(walker):
    elsewhere = replace(walker, dataset=NoiseLike(like=walker.teacher.fit.dataset, kind="uniform"))
    changed = with_field(elsewhere, "every", 5)
    assert changed.dataset == elsewhere.dataset and changed.teacher.fit.dataset.every == 5


def test_each_architecture_learns_from_each(mimic, session):
    models = {"small": MLP(hidden=(8,)), "large": MLP(hidden=(64,))}
    stage = Architectures(student=mimic, models=models)
    stage.check(session)
    metrics = stage.run(session).metrics
    own = replace(mimic, model=models["small"]).run(session).metrics
    assert metrics["large_small_kappa"] == own["kappa"]
    made = [name.split("/")[0] for name in session.store.made]
    assert made.count("fit") == 2 and made.count("mimic") == 4


@pytest.mark.parametrize("target", ["kappa", "thinning"])
def test_an_undefined_kappa_is_no_number_of_a_curve(target, walker, session, monkeypatch):
    """Undefined in one repeat: undefined in the mean, in the size needed, and in words."""
    run = Mimic.run

    def undefined_once(student, session):
        outcome = run(student, session)
        return outcome if student.seed == 0 else replace(outcome, metrics=outcome.metrics | {"kappa": None})

    monkeypatch.setattr(Mimic, "run", undefined_once)
    if target == "thinning":
        outcome = Thinning(student=walker, every=(1,), repeats=2).run(session)
        assert outcome.metrics["kappa_1"] is None and outcome.metrics["agreement_1"] is not None
    else:
        sizes = {"train_sizes": (30,), "student_sizes": (50,), "kappas": (0.01,), "agreements": (0.01,), "repeats": 2}
        outcome = SampleEfficiency(student=walker, **sizes).run(session)
        assert outcome.metrics["kappa_30_50"] is None and outcome.metrics["n2_for_kappa_0.01_30"] is None
        assert outcome.metrics["ratio_below_for_kappa_0.01_30"] is None  # undefined is not censored
        assert outcome.metrics["ratio_above_for_kappa_0.01_30"] is None
        assert outcome.metrics["ratio_above_for_agreement_0.01_30"] == 30 / 50
    assert "κ undefined" in outcome.words
