import json
import shlex
import shutil
import string
import subprocess
import sys

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rebuttal import api, train
from rebuttal.command.repeat import expand
from rebuttal.config import CONFIG_DIR
from rebuttal.errors import ConfigError
from rebuttal.launch.expand import quoted
from rebuttal.report.gather import gather
from tests.command.test_stored_sweep import SWEEP
from tests.command_line import ONE_NETWORK, command
from tests.test_train import metrics_of

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=5).filter(
    lambda name: name.lower() not in ("null", "true", "false", "nan", "inf")
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=10)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@given(VALUES)
def test_every_value_of_a_config_is_written_so_that_hydra_reads_it_back(value):
    found = OverridesParser.create().parse_override(f"++key={quoted(value)}").value()
    assert found == value and type(found) is type(value)


def composed(overrides):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides), resolve=False)


def saved(folder, overrides, config):
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / ".hydra/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return f"from_run={folder}"


ASKED = ["experiment=toy", "model@stages.student.model=linear", "training.lr=0.5", "+model@second=linear", "seed=4"]


def test_a_run_is_asked_for_as_it_was(tmp_path):
    again = saved(tmp_path / "run", ASKED, composed(ASKED))
    assert expand(["-m", again]) == ["-m", *ASKED]
    assert expand(["seed=1"]) == ["seed=1"]


def test_what_is_given_on_top_replaces_what_was_asked_for_and_reaches_what_refers_to_it(tmp_path):
    again = saved(tmp_path / "run", ASKED, composed(ASKED))
    found = composed(expand([again, "training.lr=0.25", "model@stages.student.model=mlp", "model=mlp_1x512"]))
    assert found["training"]["lr"] == 0.25 and found["stages"]["teacher"]["training"] == {}
    assert found["stages"]["student"]["model"]["hidden"] == [512, 512, 512]
    assert found["model"]["hidden"] == [512] and found["seed"] == 4
    swept = expand(["-m", again, "seed=1,2"])
    assert swept[-1] == "seed=1,2" and "seed=4" not in swept


def test_keys_whose_value_in_the_configs_has_changed_since_are_as_they_were(tmp_path, capsys):
    then = composed(ASKED)
    then["training"] |= {
        "epochs": 31,
        "weight_decay": None,
        "precision": "it's '${seed}' \\ new",
        "gone": [1, {"a": "b"}],
    }
    then["stages"]["student"]["target"] = "soft"
    del then["threads"]  # a key that has come since
    again = saved(tmp_path / "run", ASKED, then)
    assert composed(expand([again])) == then | {"threads": None}
    told = capsys.readouterr().err
    assert "rebuttal: training.epochs=31, as in that run; the configs say 30 today\n" in told
    assert "threads" not in told and len(told.splitlines()) == 5
    assert composed(expand([again, "training.epochs=7"]))["training"]["epochs"] == 7
    assert composed(expand([again, "training=zhang"]))["training"]["schedule"]["decay"] == 0.95


def test_data_are_found_from_elsewhere_unless_the_user_names_others(tmp_path, monkeypatch, capsys):
    began, elsewhere = tmp_path / "began", tmp_path / "elsewhere"
    for place in (began / "it's", elsewhere):
        place.mkdir(parents=True)
    (began / "it's/a.npz").touch()
    asked = [*ASKED, "dataset=arrays", "dataset.path='it\\'s/a.npz'", "dataset.split=gone.txt"]
    again = saved(began / "run", asked, composed(asked))
    (began / "run/provenance.json").write_text(json.dumps({"cwd": str(began)}))
    monkeypatch.chdir(elsewhere)
    found = composed(expand([again]))["dataset"]
    assert (found["path"], found["split"]) == (f"{began}/it's/a.npz", "gone.txt")
    assert f"rebuttal: dataset.path={began}/it's/a.npz, seen from where that " in capsys.readouterr().err
    assert composed(expand([again, "dataset.path=b.npz"]))["dataset"]["path"] == "b.npz"
    monkeypatch.chdir(began)
    assert expand([again]) == asked


def as_before_the_parts_of_recipes_were_groups(config):
    """The config of ASKED as it was composed then."""
    recipe, preprocess = config["training"], config.pop("preprocess")
    schedule, optimizer, _, _ = (recipe.pop(name) for name in ("schedule", "optimizer", "loss", "augmentation"))
    recipe |= {"optimizer": "adam", "momentum": optimizer["beta1"], "schedule": "exponential", "decay": 0.9}
    recipe |= {"crop": preprocess["crop"], "normalisation": "per_image"}
    for stage in config["stages"].values():
        for name in ("training", "model", "dataset", "corruption"):
            if stage.get(name) == {}:
                stage[name] = f"${{{name}}}"
        stage.pop("preprocess", None)
    assert schedule == {"_target_": "rebuttal.training.Constant"}
    return config


def test_a_run_of_before_the_parts_of_recipes_were_groups_is_repeated(tmp_path, capsys):
    old = ["training.schedule=exponential", "training.decay=0.9", "training.normalisation=per_image"]
    again = saved(tmp_path / "run", [*ASKED, *old], as_before_the_parts_of_recipes_were_groups(composed(ASKED)))
    found = composed(expand([again]))
    assert found["training"]["schedule"] == {"_target_": "rebuttal.training.Exponential", "decay": 0.9}
    assert found["preprocess"]["normalisation"] == "per_image" and found["preprocess"]["crop"] is None
    del found["training"]["schedule"], found["preprocess"]
    today = composed(ASKED)
    del today["training"]["schedule"], today["preprocess"]
    assert found == today and capsys.readouterr().err == ""


@pytest.mark.slow
def test_configs_of_the_user_s_own_are_found_again(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny.yaml").write_text("_target_: rebuttal.models.MLP\nhidden: [4]\n")
    at = [*ONE_NETWORK, f"hydra.searchpath=[file://{tmp_path / 'mine'}]", "model=tiny", "hydra.run.dir=first"]
    assert command(*at, cwd=tmp_path).returncode == 0
    again = command("from_run=first", "hydra.run.dir=second", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert metrics_of(tmp_path / "second") == metrics_of(tmp_path / "first")
    assert metrics_of(tmp_path / "second")["fit/parameters"] == 8 * 4 + 4 + 4 * 10 + 10


def test_of_a_strange_run_only_folders_of_configs_are_searched(tmp_path):
    """A package would be imported; a folder that is not there any more is left out; the command's own come first."""
    then = ["hydra.searchpath=['pkg://antigravity','file:///nowhere']", f"hydra.searchpath=['file://{tmp_path}']"]
    asked = [*ASKED, *then, "packages=[antigravity]"]
    folder = saved(tmp_path / "run", asked, composed(ASKED))
    own = f"file://{tmp_path / 'run'}"
    assert expand([folder, f"hydra.searchpath=[{own}]"])[0] == f"hydra.searchpath=['{own}','file://{tmp_path}']"
    assert not any("antigravity" in text for text in expand([folder]))


@pytest.mark.slow
def test_a_run_that_failed_and_a_job_that_came_from_the_store_can_be_repeated(tmp_path):
    failed = command(*ONE_NETWORK, "training.lr=1e30", "training.optimizer=sgd", "hydra.run.dir=failed", cwd=tmp_path)
    assert failed.returncode == 2
    mended = command("from_run=failed", "training.lr=0.1", "hydra.run.dir=mended", cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert yaml.safe_load((tmp_path / "mended/config.yaml").read_text())["training"]["optimizer"]["momentum"] == 0.9
    for folder in ("sweep", "again"):
        assert command(*SWEEP, f"hydra.sweep.dir={folder}", cwd=tmp_path).returncode == 0
    repeated = command("from_run=again/3", "hydra.run.dir=repeated", cwd=tmp_path)
    assert "0 results computed" in repeated.stdout, repeated.stderr
    assert metrics_of(tmp_path / "repeated") == metrics_of(tmp_path / "sweep/3")


@pytest.mark.slow
def test_a_run_of_python_s_can_be_repeated_by_folder_and_by_the_command_that_the_report_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, again, words = tmp_path / "it's a run", tmp_path / "again", ["python", "-m", "rebuttal.train"]
    api.run("baseline", [*ONE_NETWORK[1:], "seed=3", "store='my $tore'", "+training={lr: 0.002}"], folder=folder)
    (run,) = gather([folder]).runs
    assert shlex.split(run.command)[: len(words)] == words
    for arguments in ([f"from_run={folder}"], shlex.split(run.command)[len(words) :]):
        done = command(*arguments, f"hydra.run.dir={again}", "force=true", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert metrics_of(again) == metrics_of(folder)
        assert yaml.safe_load((again / "config.yaml").read_text())["training"]["lr"] == 0.002
        shutil.rmtree(again)
    mended = command(f"from_run={folder}", f"hydra.run.dir={again}", "training.lr=0.001", cwd=tmp_path)
    assert mended.returncode == 0 and yaml.safe_load((again / "config.yaml").read_text())["seed"] == 3


@pytest.mark.slow
def test_a_config_that_was_composed_in_python_is_repeated_in_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", [*ONE_NETWORK, "seed=3"])
    metrics = train.run(cfg, "run")
    (run,) = gather([tmp_path / "run"]).runs
    python, flag, code = shlex.split(run.command)
    assert (python, flag) == ("python", "-c")
    done = subprocess.run([sys.executable, flag, code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert train.run(OmegaConf.load("run/config.yaml"), "again") == metrics
    with pytest.raises(ConfigError, match=r"^from_run=run: its config was composed in Python, .*; allowed: "):
        expand(["from_run=run"])


@pytest.mark.slow
def test_the_report_shows_the_overrides_of_each_job_and_the_folders_of_its_configs(tmp_path):
    (tmp_path / "mine/model").mkdir(parents=True)
    (tmp_path / "mine/model/tiny one.yaml").write_text("_target_: rebuttal.models.MLP\nhidden: [4]\n")
    at = ["-m", "--config-dir=mine", *ONE_NETWORK, "model=tiny one", "seed=0,1", "hydra.sweep.dir=sweep"]
    assert command(*at, "hydra.sweeper.params=null", cwd=tmp_path).returncode == 0
    first, second = gather([tmp_path / "sweep"]).runs
    for run in (first, second):
        done = command(*shlex.split(run.command)[3:], "hydra.run.dir=again", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert metrics_of(tmp_path / "again") == metrics_of(run.folder)
    assert f"seed={second.seed}" in second.command and " -m " not in second.command.removeprefix("python -m")


@pytest.mark.parametrize("content", [None, "["])
def test_a_folder_without_a_run_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / ".hydra").mkdir()
        (tmp_path / ".hydra/overrides.yaml").write_text(content)
        (tmp_path / ".hydra/config.yaml").write_text(content)
    with pytest.raises(ConfigError, match=rf"^from_run={tmp_path}: .*; allowed: the folder of one run") as caught:
        expand([f"from_run={tmp_path}"])
    assert len(str(caught.value).splitlines()) == 1


def test_one_run_at_a_time(tmp_path):
    with pytest.raises(ConfigError, match=r"^from_run=b: a run can repeat only one other; allowed: one folder$"):
        expand(["from_run=a", "from_run=b"])
