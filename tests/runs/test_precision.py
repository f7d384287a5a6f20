"""What `training.precision=auto` becomes."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from rebuttal.command.repeat import expand
from rebuttal.command.stored_sweep import _stored_runs
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.launch.expand import read_command
from rebuttal.models import MLP, VGG11
from rebuttal.runs import precision
from rebuttal.runs.build import build_run, resolve
from rebuttal.stages.session import Session
from tests.command_line import command

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


def test_a_store_that_cannot_be_written_decides_without_keeping(composed, trial, tmp_path):
    trial(IN_BFLOAT16)
    (tmp_path / "store").write_text("a file")
    assert composed(*BASELINE)[2]["fit"].training.precision == "bfloat16"


def test_where_networks_may_not_be_tried_every_recipe_is_checked_as_float32(composed, trial, tmp_path):
    tried = trial(IN_BFLOAT16)
    asked = []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = resolve(compose("train", [f"store={tmp_path / 'store'}", "debug=tiny", *BASELINE, "device=cuda"]))
    _, stages = build_run(config, (), lambda device: bool(asked.append(device)))
    assert stages["fit"].training.precision == "float32" and tried == [] and set(asked) == {"cuda"}


SWEEP = ["-m", *BASELINE, "debug=tiny", "seed=0,1"]


@pytest.mark.parametrize(
    ("arguments", "on_gpu", "tries"),
    [
        (SWEEP, False, True),
        (SWEEP, True, False),  # its jobs claim GPUs
        (BASELINE, True, True),
        ([*SWEEP, "hydra/launcher=slurm"], False, False),  # other machines decide
        ([*SWEEP, "hydra/launcher=slurm", "device=cuda"], False, False),
    ],
)
def test_a_process_tries_networks_only_on_the_device_that_its_run_has(arguments, on_gpu, tries, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    assert read_command(arguments).may_try("cuda" if "device=cuda" in arguments else "auto") == tries


@pytest.mark.slow
def test_a_sweep_that_others_decide_is_not_answered_from_the_store(trial, tmp_path, monkeypatch):
    trial(None)
    monkeypatch.chdir(tmp_path)
    sweep = [*SWEEP, "training.epochs=1", "hydra.sweeper.params.seed=0", "hydra.sweeper.params.corruption=none"]
    assert command(*sweep, cwd=tmp_path).returncode == 0
    assert _stored_runs(read_command(sweep)) is not None
    assert _stored_runs(read_command([*sweep, "hydra/launcher=slurm"])) is None


def test_a_repeated_run_has_the_precision_that_was_chosen_then(tmp_path, trial, monkeypatch, capsys):
    trial(IN_BFLOAT16)
    run = tmp_path / "run"
    asked = [*BASELINE, "debug=tiny", "training.epochs=1", f"hydra.run.dir={run}"]
    assert command(*asked, cwd=tmp_path).returncode == 0
    trial(SLOWER)
    again = expand([f"from_run={run}"])
    assert again[-2:] == ["++stages.fit.training.precision=bfloat16", "++training.precision=bfloat16"]
    assert "rebuttal: training.precision=bfloat16, as in that run" in capsys.readouterr().err
    assert not any("bfloat16" in text for text in expand([f"from_run={run}", "training.precision=auto"]))
    assert not any("bfloat16" in text for text in expand([f"from_run={run}", "model=resnet18"]))
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = resolve(compose("train", again))
    assert build_run(config)[1]["fit"].training.precision == "bfloat16"


def test_a_part_with_a_recipe_of_its_own_keeps_what_it_became():
    then = {
        "training": {"precision": "auto"},
        "stages": {"a": {"training": {}}, "b": {"training": {"precision": "tf32"}}},
    }
    became = {"training": {"precision": "float32"}}
    became["stages"] = {"a": {"training": {"precision": "bfloat16"}}, "b": {"training": {"precision": "tf32"}}}
    expected = {"training.precision": "float32", "stages.a.training.precision": "bfloat16"}
    assert precision.settled(then, became) == expected
    assert precision.settled({"training": {"precision": "float32"}, "stages": {}}, became) == {}


def test_an_unknown_precision_is_refused_with_all_that_are_allowed(composed):
    with pytest.raises(ConfigError, match=r"training\.precision=half: allowed: auto .*float32, tf32, bfloat16"):
        composed(*BASELINE[:-1], "training.precision=half")
