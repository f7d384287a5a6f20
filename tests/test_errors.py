import pytest
from hydra import compose
from hydra.errors import MissingConfigException

from rebuttal.config import composing
from rebuttal.errors import ConfigError, as_config_errors, nearest

SLURM = "hydra/launcher=slurm"
LINES = {
    "experment=toy": ("experment=toy: unknown key; allowed here: batch_size, ", "; nearest: experiment"),
    "modle=mlp": ("modle=mlp: unknown key; ", "; nearest: model"),
    "trainig.epochs=3": ("trainig.epochs=3: unknown key; ", "; nearest: training"),
    "training.epoch=3": (
        "training.epoch=3: unknown key; allowed here: augmentation, batch_size, ",
        "; nearest: training.epochs",
    ),
    "stages.studnt.target=soft": ("stages.studnt.target=soft: unknown key; ", "; nearest: stages.student"),
    "hydra/lancher=local": ("hydra/lancher=local: unknown key; ", "; nearest: hydra/launcher"),
    "modl@stages.teacher.model=mlp": ("modl: no such group; allowed: compare, corruption, ", "; nearest: model"),
    "row=mlp_1x512": ("row=mlp_1x512: the experiment has no choice of row; ", "allowed: with experiment=zhang"),
    "model=resnet81": ("model=resnet81: no such option; allowed: airbench, alexnet_small, ", "; nearest: resnet18"),
    "experiment=two_stages": ("experiment=two_stages: no such option; ", "; nearest: two_stage"),
    "hydra/launcher=slrum": ("hydra/launcher=slrum: no such option; ", "; nearest: slurm"),
    "hydra/launcher=ray": (
        "hydra/launcher=ray: is not installed here; allowed: basic, ",
        "pip install hydra-ray-launcher",
    ),
    "hydra/sweeper=ax": (
        "hydra/sweeper=ax: is not installed here; allowed: basic",
        "; or pip install hydra-ax-sweeper",
    ),
    "corruption=None": ("corruption=None: no such option; ", "; nearest: none"),
    "model=zzz": ("model=zzz: no such option; ", "torchvision, vgg11, wrn28_1"),
    "corruption.fraction=0.5": (
        "corruption.fraction=0.5: unknown key; the chosen option of corruption has none",
        "; allowed with corruption=partial",
    ),
    "dataset.root=/x": ("dataset.root=/x: unknown key; ", "dataset=mnist, dataset=svhn"),
    "hydra.launcher.partition=gpu": (
        "hydra.launcher.partition=gpu: unknown key; the chosen option of hydra.launcher has none",
        "; allowed with hydra/launcher=slurm",
    ),
    "stages.student.dataset.share=0.5": (
        "stages.student.dataset.share=0.5: its parent has no keys of its own here; choose an option first: "
        "dataset@stages.student.dataset=mixture; if it is copied from another key (${…}), ",
        "set that one",
    ),
    "training.augmentation.padding=4": (
        "training.augmentation.padding=4: its parent has no keys of its own here; choose an option first: "
        "training/augmentation=alternating_flip, training/augmentation=crop_flip, training/augmentation=flip_rotate, "
        "training/augmentation=random_crop; ",
        "set that one",
    ),
    "stages.student.dataset.nix=1": (
        "stages.student.dataset.nix=1: its parent has no keys of its own here; choose an option first: "
        "dataset@stages.student.dataset=arrays, dataset@stages.student.dataset=cifar10, ",
        "set that one",
    ),
    "training.stop_loss.x=3": (
        "training.stop_loss.x=3: its parent has no keys of its own here; if it is copied from another key ",
        "set that one",
    ),
    f"{SLURM} hydra.launcher.mem_gb=16G": (
        "hydra.launcher.mem_gb=16G: wrong type; allowed: a whole number, without a unit",
        "allowed: a whole number, without a unit",
    ),
    f"{SLURM} hydra.launcher.timeout_min=4h": (
        "hydra.launcher.timeout_min=4h: wrong type; allowed: a whole number, ",
        "unit",
    ),
    f"{SLURM} hydra.launcher.cpus_per_task=1e1": (
        "hydra.launcher.cpus_per_task=1e1: wrong type; allowed: a whole number, ",
        "point",
    ),
    f"{SLURM} hydra.launcher.setup=module": ("hydra.launcher.setup=module: Invalid value assigned: str is ", "tuple."),
    "hydra/launcher=local hydra.launcher.n_jobs=many": (
        "hydra.launcher.n_jobs=many: wrong type; allowed: a whole number, ",
        "unit",
    ),
    "hydra.mode=RUNN": ("hydra.mode=RUNN: Invalid value 'RUNN', expected one of [RUN, MULTIRUN]", "]"),
    "hydra.job.chdir=maybe": ("hydra.job.chdir=maybe: is not a valid bool", "(type str)"),
    "seed=0,1": (
        "seed=0,1: a sweep of several values needs -m; write 'seed=[0,1]' for a list, 'seed=\"0,1\"' for a text",
        "text",
    ),
    "seed=range(0,3)": ("seed=range(0,3): a sweep of several values needs -m", "-m"),
}


@pytest.mark.parametrize("typed", LINES)
def test_what_hydra_refuses_is_a_line_that_names_the_nearest(typed):
    begin, end = LINES[typed]
    with pytest.raises(ConfigError) as caught, as_config_errors(), composing():
        compose("train", typed.split(), return_hydra_config=True)
    line = str(caught.value)
    assert line.startswith(begin) and line.endswith(end)
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(("chosen", "package"), [
    ("hydra/sweeper=optuna", "hydra-optuna-sweeper"),
    ("hydra/sweeper=ax", "hydra-ax-sweeper"),
    ("hydra/sweeper=nevergrad", "hydra-nevergrad-sweeper"),
    ("hydra/launcher=joblib", "hydra-joblib-launcher"),
    ("hydra/launcher=submitit_local", "hydra-submitit-launcher"),
    ("hydra/launcher=submitit_slurm", "hydra-submitit-launcher"),
    ("hydra/launcher=ray", "hydra-ray-launcher"),
    ("hydra/job_logging=colorlog", "hydra-colorlog"),
])  # fmt: skip
def test_a_plugin_of_hydra_that_is_not_installed_is_named_with_its_package(chosen, package):
    group, _, option = chosen.partition("=")
    said = f"In 'train': Could not find '{group}/{option}'\n\nAvailable options in '{group}':\n\tbasic\n\tmine"
    with pytest.raises(ConfigError) as caught, as_config_errors():
        raise MissingConfigException(said, f"{group}/{option}")
    assert str(caught.value) == f"{chosen}: is not installed here; allowed: basic, mine; or pip install {package}"


def test_a_key_that_stands_twice_in_a_config_of_the_user_s_is_a_line_with_its_place(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("defaults: [mlp]\nhidden: [3]\nhidden: [4]\n")
    with pytest.raises(ConfigError) as caught, as_config_errors(), composing():
        compose("train", [f"hydra.searchpath=[file://{tmp_path}]", "model=mine"], return_hydra_config=True)
    line = str(caught.value)
    assert "found duplicate key hidden" in line and f'"{tmp_path}/model/mine.yaml", line 3, column 1' in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            "model.rank=3",
            "model.rank=3: unknown key; allowed here: act, width; if it is another field of Wide, write +model.rank=3",
        ),
        (
            "model.widths=[3,4]",
            "model.widths=[3,4]: unknown key; allowed here: act, width; nearest: model.width; if it is another field "
            "of Wide, write '+model.widths=[3,4]'",
        ),
        (
            "model.act.inplace=true",
            "model.act.inplace=true: unknown key; the chosen option of model.act has none; if it is another field of "
            "ReLU, write +model.act.inplace=true",
        ),
        (
            "model@stages.teacher.model=wide",
            "model@stages.teacher.model=wide: the experiment has no choice of model@stages.teacher.model; allowed: "
            "+model@stages.teacher.model=wide, where the experiment has a key stages.teacher.model",
        ),
    ],
)
def test_what_can_only_be_added_is_named_with_its_plus(typed, line, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/wide.yaml").write_text("_target_: mine.Wide\nwidth: 3\nact: {_target_: torch.nn.ReLU}\n")
    given = [f"hydra.searchpath=[file://{tmp_path}]", "experiment=toy", "model=wide"]
    with pytest.raises(ConfigError) as caught, as_config_errors(), composing():
        compose("train", [*given, typed])
    assert str(caught.value) == line
    with composing():
        compose("train", [*given, f"+{typed}"])


def test_a_field_of_ours_that_the_file_does_not_list_is_named_with_its_plus():
    with pytest.raises(ConfigError) as caught, as_config_errors(), composing():
        compose("train", ["experiment=random_walk", "stages.steepness.functions.walk.batch_norm=test"])
    assert str(caught.value).endswith("; write +stages.steepness.functions.walk.batch_norm=test")


def test_the_nearest_is_named_only_if_it_is_near():
    assert nearest("NONE", ["none", "random"]) == "; nearest: none"
    assert nearest("zzz", ["none", "random"]) == ""


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left"), KeyError("a bug")])
def test_what_is_not_wrong_with_a_config_stays_as_it_is(error):
    with pytest.raises(type(error)) as caught, as_config_errors():
        raise error
    assert caught.value is error
