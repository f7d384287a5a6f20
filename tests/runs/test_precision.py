"""What `training.precision=auto` becomes."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from rebuttal.config import CONFIG_DIR
from rebuttal.models import MLP, VGG11
from rebuttal.runs import precision
from rebuttal.runs.build import build_run, resolve
from rebuttal.stages.session import Session

IN_BFLOAT16 = {"float32": 1.0, "bfloat16": 0.5}
SLOWER = {"float32": 1.0, "bfloat16": 0.95}


@pytest.fixture
def composed(tmp_path):
    def build(*overrides):
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            config = resolve(compose("train", [f"store={tmp_path / 'store'}", "debug=tiny", *overrides]))
        return config, *build_run(config)

    return build


@pytest.fixture
def trial(monkeypatch):
    """Sets what a trial gives, on a processor with the instructions; returns the models that were tried."""
    tried = []

    def gives(seconds):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
        monkeypatch.setattr(precision, "_trial", lambda model, device: tried.append(model) or seconds)
        return tried

    return gives


BASELINE = ["experiment=baseline", "model=vgg11", "dataset=uniform_noise", "training.precision=auto"]


@pytest.mark.parametrize(("seconds", "becomes"), [(IN_BFLOAT16, "bfloat16"), (SLOWER, "float32"), (None, "float32")])
def test_the_faster_one_is_taken_and_hashed_as_if_it_had_been_asked_for(seconds, becomes, composed, trial):
    tried = trial(seconds)
    config, settings, stages = composed(*BASELINE)
    assert config["stages"]["fit"]["training"]["precision"] == config["training"]["precision"] == becomes
    assert stages["fit"].training.precision == becomes
    _, _, asked = composed(*BASELINE[:-1], f"training.precision={becomes}")
    session = Session(settings)
    assert stages["fit"].identity(session) == asked["fit"].identity(session)
    composed(*BASELINE)
    assert tried == [VGG11()]  # once for a machine, a store and a model


def test_without_instructions_nothing_is_tried(composed, trial, monkeypatch):
    tried = trial(IN_BFLOAT16)
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    assert composed(*BASELINE)[2]["fit"].training.precision == "float32"
    assert tried == []


def test_a_student_s_recipe_is_about_its_own_model_or_its_teacher_s(composed, trial):
    tried = trial(IN_BFLOAT16)
    shared = ["experiment=two_stage", "dataset.shape=[3,32,32]", "model=vgg11"]
    _, _, stages = composed(*shared, "++stages.student.training.precision=auto")
    assert stages["student"].training.precision == "bfloat16" and stages["teacher"].training.precision == "float32"
    assert tried == [VGG11()]


def test_a_model_without_convolutions_or_for_other_inputs_stays_in_float32():
    class Narrow(MLP):
        def network(self, shape, classes):
            raise ValueError("for 28×28 only")

    class For28(VGG11):
        def network(self, shape, classes):
            return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4 * 28 * 28, classes))

    cpu = torch.device("cpu")
    for model in (MLP(hidden=(9,)), Narrow(hidden=(9,)), For28()):
        assert precision._trial(model, cpu) is None
    before = torch.get_rng_state()
    seconds = precision._trial(VGG11(), cpu)
    assert set(seconds) == {"float32", "bfloat16"} and min(seconds.values()) > 0
    assert torch.equal(before, torch.get_rng_state())
