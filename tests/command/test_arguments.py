import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from rebuttal.command.arguments import prepare, prepare_override
from rebuttal.errors import ConfigError
from tests.command_line import ONE_NETWORK, command

HOME = str(Path.home())
ROOT = "dataset.root="
# What was typed, as the shell hands it over, and the value that the corrected argument has.
CORRECTED = {
    f"{ROOT}~/images": f"{HOME}/images",
    f"{ROOT}~": HOME,
    f"'{ROOT}~/my images (1)'": f"{HOME}/my images (1)",
    f"'{ROOT}/a(b)/c'": "/a(b)/c",
    f"'{ROOT}/a[b]/c'": "/a[b]/c",
    f"'{ROOT}/a{{b}}/c'": "/a{b}/c",
    f"'{ROOT}/a=b/c'": "/a=b/c",
    f"'{ROOT}/é/ü'": "/é/ü",
    f"'{ROOT}/数据'": "/数据",
    f"'{ROOT}/a#b&c;d!'": "/a#b&c;d!",
    f"'{ROOT}/é,ü/c'": "/é,ü/c",
    f"'{ROOT}C:\\Users\\me (1)\\'": "C:\\Users\\me (1)\\",
    f"{ROOT}it\\'s": "it's",
    f"'{ROOT}\"/a b'": "/a b",
    f"{ROOT}\\'abc": "abc",
    f"'{ROOT}/say \"a\"/b'": '/say "a"/b',
    f"{ROOT}/my images/b": "/my images/b",
    f"{ROOT}/my (best) images": "/my (best) images",
    f"{ROOT}=/a": "/a",
    "seed=0,": 0,
    "seed==1": 1,
    "seed = 1": 1,
    "seed= 1": 1,
    "'seed = 1'": 1,
    "seed 1": 1,
    "seed: 1": 1,
    "'seed: 1'": 1,
    "--seed=1": 1,
    "dataset.shape=[3, 8, 8]": [3, 8, 8],
    "dataset.shape=[3,8,8": [3, 8, 8],
    "dataset.shape=[3, 8, 8": [3, 8, 8],
    "'dataset.shape=(3, 8, 8)'": [3, 8, 8],
    "'packages=[a(b),c]'": ["a(b)", "c"],
    "'hydra.launcher.setup=[module load cuda, export A=1]'": ["module load cuda", "export A=1"],
    "'hydra.searchpath=[file://~/conf]'": [f"file://{HOME}/conf"],
    "'training.lr=${training.weight_decay'": "${training.weight_decay}",
    "training.crop=None": None,
    "toy": "toy",
    "experiment=toy mlp": "mlp",
    "experiment=toy seed = 1": 1,
    "experiment=toy seed =1": 1,
}


def correction(*arguments):
    with pytest.raises(ConfigError) as caught:
        prepare(list(arguments))
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    return shlex.split(line.rpartition("write ")[2])


@pytest.mark.parametrize("typed", CORRECTED)
def test_an_argument_that_hydra_does_not_take_is_shown_as_it_takes_it(typed):
    (corrected,) = correction(*shlex.split(typed))
    assert prepare([corrected]) == [corrected]
    assert OverridesParser.create().parse_override(corrected).value() == CORRECTED[typed]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("seed=0, 1, 2", ["0", "1", "2"]),
        ("seed=0 ,1 ,2", ["0", "1", "2"]),
        ("seed=range(0,3", ["0", "1", "2"]),
        ("dataset.root=/é/a,/é/b", ['"/é/a"', '"/é/b"']),
    ],
)
def test_a_sweep_that_hydra_does_not_take_is_shown_as_it_takes_it(typed, values):
    (corrected,) = correction("-m", *typed.split())
    override = OverridesParser.create().parse_override(corrected)
    assert [str(value) for value in override.sweep_string_iterator()] == values


@settings(max_examples=200, deadline=None, derandomize=True)
@given(name=st.text(st.sampled_from(" /abé(){}[]=~#&'\"!:;|<>?*^%@`"), max_size=12))
def test_any_path_is_taken_or_shown_as_it_is_taken(name):
    path = f"/{name}".strip()
    argument = f"dataset.root={path}"
    try:
        prepare([argument])
    except ConfigError:
        (argument,) = correction(argument)
    value = OverridesParser.create().parse_override(argument).value()
    assert str(value).strip("'\"") == path.strip("'\"")


def test_an_empty_value_and_several_overrides_in_one_argument():
    with pytest.raises(ConfigError) as caught:
        prepare(["dataset.root="])
    assert str(caught.value) == (
        "dataset.root=: no value; write dataset.root=null for none, 'dataset.root=\"\"' for an empty text"
    )
    assert prepare(['dataset.root=""']) == ['dataset.root=""']
    assert correction("seed=1 model=mlp debug=tiny") == ["seed=1", "model=mlp", "debug=tiny"]
    assert correction("dataset.root=/a b=c/d") == ['dataset.root="/a b=c/d"']  # b is no key


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("nonsense", "nonsense: is not of the form key=value; allowed: overrides such as experiment=toy "),
        ("training.epochs", "training.epochs: is not of the form key=value; allowed: "),
        ("traïning.lr=1", "traïning.lr=1: Hydra's grammar does not take it; allowed: key=value, "),
        ("--epochs", "--epochs: no such flag; allowed: key=value, -m, and the flags that --help lists"),
        ("model=null", "model=null: no such option; allowed: airbench, alexnet_small, inception_small, "),
        (
            "training/augmentation=null",
            "training/augmentation=null: no such option; "
            "allowed: alternating_flip, crop_flip, flip_rotate, random_crop; for none write training.augmentation=null",
        ),
        ("training.optimizer=null", "training/optimizer=null: no such option; allowed: adam, nesterov, sgd, "),
        (
            "preprocess@stages.fit.preprocess=null",
            "preprocess@stages.fit.preprocess=null: no such option; allowed: "
            "none, per_channel, per_image, usual; for none write stages.fit.preprocess=null",
        ),
        ("experiment=3", "experiment=3: no such option; allowed: architectures, baseline, "),
    ],
)
def test_what_has_no_likely_correction_says_what_is_allowed(word, line):
    with pytest.raises(ConfigError) as caught:
        prepare([word])
    assert str(caught.value).startswith(line)


RIGHT = ["seed=1", "-m", "~stages.curve", "+a.b=c", "training.lr=${training.weight_decay}", "model=glob(mlp_*)"]
RIGHT += [
    "dataset.root=/my images/x",
    "from_run=~/a (b)/é",
    "plan=true",
    "corruption=none",
    "tracker@x=none",
    "seed=0,1",
]


def test_arguments_that_hydra_takes_are_left_as_they_are_with_the_flags_first():
    assert prepare(RIGHT) == ["-m", *(word for word in RIGHT if word != "-m")]
    assert prepare(["seed=1", "--config-dir", "~/a=b", "-c", "job"]) == [f"--config-dir={HOME}/a=b", "-c=job", "seed=1"]
    assert prepare(["--info", "seed=1"]) == ["--info=all", "seed=1"]
    assert prepare(["--info", "defaults", "seed=1"]) == ["--info=defaults", "seed=1"]


def test_the_home_in_hydra_s_own_folders():
    assert prepare_override("hydra.run.dir='~/x'", repr) == f"hydra.run.dir='{HOME}/x'"
    assert prepare_override("hydra.searchpath=['file://~/x']", repr) == f"hydra.searchpath=['file://{HOME}/x']"
    assert prepare_override("hydra.run.dir='a~b'", repr) == "hydra.run.dir='a~b'"


@pytest.mark.slow
def test_overrides_on_both_sides_of_a_flag(tmp_path):
    done = command(*ONE_NETWORK, "-m", "seed=0", "hydra.sweeper.params=null", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sweep/0/metrics.json").exists()


@pytest.mark.parametrize("choice", ["hydra/launcher=local", "hydra/launcher=slurm", "hydra/launcher=joblib"])
def test_a_launcher_without_m(choice, tmp_path):
    done = command("debug=tiny", choice, cwd=tmp_path, PATH="/nowhere")
    assert done.returncode == 2
    assert done.stderr == (
        f"rebuttal: {choice}: is for a sweep, which needs -m; allowed without -m: hydra/launcher=basic\n"
    )
    assert not list(tmp_path.rglob("*"))
