"""What a stage has in common with its run, and what of it is set for a stage alone."""

import json
import shlex

import pytest
from hydra import compose

from rebuttal.command.arguments import prepare_override
from rebuttal.config import composing
from rebuttal.data import PermutedLabels
from rebuttal.models.mlp import MLP
from rebuttal.models.vgg import VGG11
from rebuttal.runs.build import build_run, resolve
from rebuttal.training import SGD, AdamW, Exponential, Recipe
from tests.command_line import command


def stages(*overrides):
    with composing():
        cfg = compose("train", [prepare_override(text, shlex.quote) for text in overrides])
    return build_run(resolve(cfg))[1]


def test_a_key_set_for_a_stage_changes_that_one_and_the_rest_is_the_run_s():
    found = stages("stages.student.training.epochs=300", "training.lr=0.5", "training.batch_size=7")
    teacher, student = found["teacher"].training, found["student"].training
    assert (teacher.epochs, student.epochs, found["student_logit"].training.epochs) == (30, 300, 30)
    assert student == Recipe(**{**vars(teacher), "epochs": 300}) and student.lr == 0.5


def test_a_whole_recipe_or_a_part_of_one_is_set_for_a_stage():
    found = stages("training@stages.student.training=zhang", "training.epochs=4", "stages.student.training.epochs=5")
    assert found["teacher"].training.optimizer == AdamW() and found["teacher"].training.epochs == 4
    student = found["student"].training
    assert (student.optimizer, student.schedule, student.epochs) == (SGD(), Exponential(decay=0.95), 5)
    part = stages("training/optimizer@stages.student.training.optimizer=sgd", "training.epochs=4")
    assert part["student"].training == Recipe(**{**vars(part["teacher"].training), "optimizer": SGD()})


def test_each_option_can_be_changed_for_each_kind_of_stage():
    found = stages(
        "stages.teacher.model.hidden=[3]",
        *("stages.student.model.hidden=[20]", "stages.student.dataset.student_size=50"),
        *("+corruption@stages.teacher.corruption=permuted", "stages.teacher.preprocess.normalisation=none"),
        "stages.student_logit.preprocess.normalisation=per_image",
    )
    assert found["teacher"].model == MLP(hidden=(3,)) and found["student"].model == MLP(hidden=(20,))
    assert isinstance(found["teacher"].corruption, PermutedLabels) and found["student_logit"].model is None
    assert found["student"].dataset.student_size == 50
    assert [found[name].preprocess.normalisation for name in ("teacher", "student", "student_logit")] == [
        *("none", "per_channel", "per_image")
    ]
    measured = stages("experiment=smoothness", "dataset=uniform_noise", "stages.smoothness.dataset.test_size=99")
    assert measured["smoothness"].dataset.test_size == 99 and measured["true_labels"].dataset.test_size != 99


def test_the_rate_of_a_recipe_is_that_of_the_architecture_it_trains():
    """That of the stage, if it has a recipe and a model of its own."""
    own = ["training@stages.student.training=zhang", "model@stages.student.model=vgg11"]
    found = stages("shape=[3,32,32]", *own, "training@stages.student_logit.training=zhang")
    assert found["student"].model == VGG11() and found["student"].training.lr == 0.1
    assert found["student_logit"].training.lr == 0.01  # of the run's MLP
    assert stages("experiment=baseline", "training=zhang", "model=resnet18")["fit"].training.lr == 0.1
    assert stages("experiment=baseline", "training=fast", "model=mlp")["fit"].training.weight_decay == 0.0
    assert stages("experiment=baseline", "training=fast", "model=vgg11")["fit"].training.weight_decay == 5e-4
    assert stages("experiment=baseline", "training=fast", "training.lr=0.3")["fit"].training.lr == 0.3


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("stages.student.training.epocs=3", "stages.student.training.epocs=3: unknown key; allowed: optimizer, lr, "),
        ("stages.student.training.epochs=many", "stages.student.training.epochs=many: input should be a valid integer"),
        ("stages.studnt.training.epochs=3", "stages.studnt: is not a stage"),
        (
            "training.optimizer=adm",
            "training/optimizer=adm: no such option; allowed: adam, nesterov, sgd, sgd_scaled_bias, torch; ",
        ),
        ("training.optimizer.momentum=0.5", "training.optimizer.momentum=0.5: unknown key; allowed"),
        (
            "stages.student.training.optimizer=sgd",
            "stages.student.training.optimizer=sgd: allowed: an option of the group",
        ),
    ],
)
def test_what_is_wrong_is_one_line(override, line, tmp_path):
    done = command("debug=tiny", override, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2 and not (tmp_path / "run").exists()
    (said,) = done.stderr.splitlines()
    assert line in said


@pytest.mark.slow
def test_a_sweep_over_the_student_s_epochs_trains_the_teacher_once(tmp_path):
    asked = ["-m", "debug=tiny", "stages.student.training.epochs=1,2", "hydra.sweeper.params=null", "hydra.sweep.dir=s"]
    done = command(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = [json.loads((tmp_path / f"s/{job}/metrics.json").read_text()) for job in "01"]
    assert [found["student/epochs"] for found in metrics] == [1, 2]
    assert metrics[0]["teacher/epochs"] == metrics[1]["teacher/epochs"]
    networks = [json.loads((tmp_path / f"s/{job}/provenance.json").read_text())["networks"] for job in "01"]
    teachers = [{name for name in found if name.startswith("fit/")} for found in networks]
    assert teachers[0] == teachers[1] and len(teachers[0]) == 1 and set(networks[0]) != set(networks[1])
    again = command("from_run=s/1", "hydra.run.dir=again", cwd=tmp_path)
    assert again.returncode == 0 and "0 results computed" in again.stdout, again.stderr
