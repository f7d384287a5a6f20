"""The map, its factors, its regions, and the model of their border."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from rebuttal.data import ImageFolder
from rebuttal.errors import ConfigError
from rebuttal.functions.networks import Untrained
from rebuttal.models import MLP, VGG11
from rebuttal.stages import BestStudent, Map
from rebuttal.stages.factors import FACTORS, with_factor
from rebuttal.stages.regions import PENALTY, REGIONS, border, logistic, phase, region
from rebuttal.stages.variants import repeated, with_sizes
from rebuttal.training import Constant


@pytest.fixture
def map_stage(mimic):
    return Map(
        student=replace(mimic, target="soft", temperature=20.0),
        train_sizes=(20, 60),
        student_sizes=(50, 100),
        line_train_sizes=(20,),
        factors={"classes": (2, 4, 10), "width": (8, 64)},  # 10 and 64 are those of the plane
        controls={"untrained": replace(mimic, teacher=Untrained(fit=mimic.teacher.fit))},
        beside={},
        repeats=2,
        fit_target=0.99,
    )


@pytest.mark.slow
def test_each_cell_is_the_student_and_teacher_of_its_sizes_and_factor(map_stage, session):
    map_stage.check(session)
    outcome = map_stage.run(session)
    assert len(outcome.table) == 2 * 2 + (2 + 1) * 2 + (1 + 2 + 1) * 2  # plane, lines, and the control of each
    two = with_sizes(with_factor(map_stage.student, "classes", 2), 20, 100)
    values = [repeated(two, repeat).run(session).metrics["kappa"] for repeat in (0, 1)]
    assert outcome.metrics["classes_2_kappa_20_100"] == pytest.approx(np.mean(values))
    assert set(outcome.metrics) == set(map_stage.metric_names(session))
    counts = [outcome.metrics[f"cells_{name.replace(' ', '_')}"] for name in REGIONS]
    assert sum(counts) == 2 * 2 + (2 + 1) * 2  # without the controls
    made = len(session.store.made)
    assert map_stage.run(session).metrics == outcome.metrics and len(session.store.made) == made


def test_every_factor_changes_the_teacher_or_the_student(mimic):
    soft = replace(mimic, target="soft")
    best = BestStudent(
        student=soft,
        steps=10,
        held_back=0.1,
        lrs=(1e-3,),
        weight_decays=(0.0,),
        temperatures=(1.0,),
        schedules={"constant": Constant()},
    )
    values = {"dimension": 7, "width": 5, "depth": 3, "target": "logit", "temperature": 3}
    for name in FACTORS:
        changed = with_factor(best, name, values.get(name, 4))
        assert changed != best, name
    fit = mimic.teacher.fit
    assert with_factor(mimic, "width", 5).teacher.fit.model == MLP(hidden=(5,))
    assert with_factor(mimic, "depth", 3).teacher.fit.model == MLP(hidden=(64, 64, 64))
    assert with_factor(mimic, "dimension", 7).teacher.fit.dataset.shape == (7,)
    assert with_factor(mimic, "classes", 3).teacher.fit.dataset.classes == 3
    assert with_factor(mimic, "teacher_epochs", 9).teacher.fit.training.epochs == 9
    assert with_factor(soft, "temperature", 3).temperature == 3.0
    with pytest.raises(ConfigError, match=r"stages.\*.factors.widht: allowed: classes, .*; nearest: width"):
        with_factor(mimic, "widht", 3)
    folder = replace(fit, dataset=ImageFolder(root="x"))
    with pytest.raises(
        ConfigError, match=r"^stages.\*.factors: dataset=ImageFolder has no shape to vary; allowed: generated noise$"
    ):
        with_factor(replace(mimic, teacher=replace(mimic.teacher, fit=folder)), "dimension", 3)
    wrong = {"depth": (0, 1.5), "classes": (1,), "target": ("sof",), "temperature": ("warm",), "width": (0,)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ConfigError, match=rf"^stages.\*.factors.{name}={value}: [^\n]*$"):
                with_factor(mimic, name, value)
    with pytest.raises(ConfigError, match="steps: needs a best student"):
        with_factor(mimic, "steps", 3)
    images = replace(mimic, teacher=replace(mimic.teacher, fit=replace(fit, model=VGG11())))
    with pytest.raises(ConfigError, match="width and depth need model=mlp"):
        with_factor(images, "depth", 3)


def test_a_control_has_the_factor_of_the_cells_that_it_is_a_control_of(map_stage, session):
    (cell,) = [c for c in map_stage._cells() if c.metric("kappa") == "untrained_classes_4_kappa_20_50"]
    student = map_stage._student(cell, 0)
    assert student.teacher.fit.dataset.classes == 4 and isinstance(student.teacher, Untrained)
    own = [c for c in map_stage._cells() if c.line == ("classes", 4) and c.other is None]
    assert len(own) == 2 and all(map_stage._controls(c) == [replace(c, other="untrained")] for c in own)


def student(agreement, kappa, low=None):
    return {"agreement": agreement, "kappa": kappa, "kappa_low": kappa - 0.05 if low is None else low}


HOLDS, LEARNT, NOT = student(0.9, 0.88), student(0.6, 0.5), student(0.1, 0.01)


@pytest.mark.parametrize(
    ("students", "fitted", "controls", "expected"),
    [
        ([HOLDS, HOLDS], [True, True], [0.5], "holds"),
        ([HOLDS, HOLDS], [True, False], [0.5], "teacher does not fit"),
        ([HOLDS, LEARNT], [True, True], [0.3], "undecided"),
        ([LEARNT, LEARNT], [True, True], [0.3], "learnable"),
        ([LEARNT, LEARNT], [True, True], [0.55], "not learnable"),
        ([LEARNT, NOT], [True, True], [0.3], "undecided"),
        ([NOT, NOT], [True, True], [], "not learnable"),
        ([student(0.99, 0.1), student(0.99, 0.1)], [True, True], [0.3], "not learnable"),  # one class nearly always
        ([student(1.0, None, 0.0)], [True], [], "not learnable"),
    ],
)
def test_regions(students, fitted, controls, expected):
    assert region(students, fitted, controls) == expected


@pytest.mark.parametrize(
    ("unseen", "low", "own", "teacher", "expected"),
    [
        (1.0, 0.99, 1.0, 1.0, "recovers"),
        (0.34, 0.31, 1.0, 1.0, "memorises"),
        (0.26, 0.23, 0.84, 1.0, "approximates"),
        (0.011, 0.008, 0.3, 1.0, None),
        (1.0, 0.99, 1.0, 0.897, "teacher does not fit"),
        (None, None, 1.0, 1.0, None),
    ],
)
def test_phases_of_a_student_of_the_teacher_s_own_inputs(unseen, low, own, teacher, expected):
    metrics = {"unseen_memorised_agreement": unseen, "unseen_memorised_agreement_low": low, "train_agreement": own}
    assert phase(metrics, teacher, 0.01) == expected


def test_the_border_model_is_a_penalised_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 2)) * (3, 0.1) + (5, -1)
    y = rng.random(80) < 1 / (1 + np.exp(-(x[:, 0] - 5)))
    standard = (x - x.mean(axis=0)) / x.std(axis=0)

    def loss(w):
        p = 1 / (1 + np.exp(-(w[0] + standard @ w[1:])))
        return -np.where(y, np.log(p), np.log(1 - p)).mean() + PENALTY / 2 * (w[1:] ** 2).sum()

    expected = optimize.minimize(
        loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 9000}
    ).x
    found = logistic(x, y)
    assert found[1:] * x.std(axis=0) == pytest.approx(expected[1:], abs=1e-4)
    assert found[0] + found[1:] @ x.mean(axis=0) == pytest.approx(expected[0], abs=1e-4)


def test_a_border_is_known_on_cells_that_were_not_seen():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 3)
    r = np.repeat(rng.uniform(-2, 4, size=100), 3)
    noise = rng.normal(size=300)
    holds = r > 1.2
    assert border(np.column_stack([r]), holds, groups) > 0.95
    assert border(np.empty((300, 0)), holds, groups) == pytest.approx(max(holds.mean(), 1 - holds.mean()), abs=0.1)
    assert border(np.column_stack([noise]), holds, groups) < 0.75


def test_of_one_cell_no_border_is_known():
    assert border(np.zeros((3, 1)), np.array([True, True, False]), np.zeros(3)) is None


def test_all_seeds_of_a_cell_are_held_out_together():
    """With labels drawn by cell, nothing can be known of a cell whose seeds are all held out."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 10)
    holds = np.repeat(rng.random(40) < 0.5, 10)
    features = np.repeat(rng.normal(size=(40, 30)), 10, axis=0)  # enough to tell every cell from the others
    assert border(features, holds, groups) < 0.75
