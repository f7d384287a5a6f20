"""A command that is refused leaves nothing; one that fails later keeps its folder."""

import json
import os

import pytest
from hydra.core.hydra_config import HydraConfig

from rebuttal import api
from rebuttal.errors import ConfigError
from rebuttal.runs.build import build_run
from tests.command_line import ONE_NETWORK, command, process
from tests.conftest import save_images

SWEEP = ["-m", "hydra.sweeper.params=null"]
REFUSED = {  # by what finds it
    "an unknown key": "training.epohcs=3",
    "an unknown option": "model=nix",
    "a value out of range": "training.lr=-1",
    "a wrong type": "training.epochs=many",
    "a missing value": "dataset=image_folder",
    "images that are not there": "dataset=image_folder dataset.root=nowhere",
    "no CIFAR-10": "dataset=cifar10 dataset.url=file:///nowhere.tar.gz",
    "a model that does not fit its data": "model=resnet18",
    "a crop that does not fit": "training.crop=4",
    "more than there is": "dataset.train_size=1000000000000",
    "a package that is not listed": "+dataset.x=1",
    "a tracker that is not there": "tracker=nix",
    "a GPU that is not there": "device=cuda",
    "a store that is a file": "store=/dev/null",
    "a setting of Hydra's": "hydra.nix=1",
    "another place for Hydra's record": "hydra.output_subdir=mine",
    "another folder to work in": "hydra.job.chdir=true",
    "a log of Hydra's own": "hydra/job_logging=default",
    "a reference to nothing": "seed=${nix}",
}
FROM_PYTHON = {kind: words for kind, words in REFUSED.items() if "hydra" not in words}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("sweep", [[], [*SWEEP, "measuring.probes=10,20"]], ids=["run", "sweep"])
def test_a_refused_command_leaves_nothing(kind, sweep, tmp_path):
    done = command(*sweep, *ONE_NETWORK, *REFUSED[kind].split(" "), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.startswith("rebuttal: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [["hydra.job.chdir=true"], ["-m", "hydra.job.chdir=true"]])
def test_relative_paths_never_move_into_the_folder_of_a_run(asked, tmp_path):
    done = command(*ONE_NETWORK, *asked, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "rebuttal: hydra.job.chdir=true: relative paths, of store and data too, would lead elsewhere from each run's "
        "folder; allowed: false\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FROM_PYTHON)
def test_a_refused_call_leaves_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r".+"):  # which error it is depends on who finds it
        api.run("baseline", [*ONE_NETWORK[1:], *FROM_PYTHON[kind].split(" ")], folder="run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib", "slurm", "submitit_local"])
def test_a_sweep_of_which_no_job_can_run_leaves_nothing_under_any_launcher(launcher, tmp_path):
    done = process(*SWEEP, *ONE_NETWORK, f"hydra/launcher={launcher}", "training.lr=-1,-2", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "rebuttal: training.lr=-1: input should be greater than 0 (job 0; none of the other 1 can run either)\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("overrides", [["model=mlp_toy,nix"], ["training.epohcs=1,2"], ["+model@x=nix,mlp"]])
def test_a_sweep_with_a_job_that_cannot_be_composed_leaves_nothing(overrides, tmp_path):
    done = command(*SWEEP, *ONE_NETWORK, *overrides, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_refused_command_leaves_an_earlier_run_and_an_earlier_sweep_as_they_are(tmp_path):
    assert command(*ONE_NETWORK, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    assert command(*SWEEP, *ONE_NETWORK, "hydra.sweep.dir=sweep", "seed=0,1", cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words in (["hydra.run.dir=run"], [*SWEEP, "hydra.sweep.dir=sweep", "seed=0,1"]):
        assert command(*words, *ONE_NETWORK, "training.lr=-1", cwd=tmp_path).returncode == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_one_refused_job_beside_others_is_a_job_that_failed(tmp_path):
    done = command(*SWEEP, *ONE_NETWORK, "training.lr=-1,0.001", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1 and "1 failed, 1 done" in done.stdout
    assert (tmp_path / "sweep/0/error.txt").read_text().startswith("training.lr=-1: ")
    assert (tmp_path / "sweep/1/metrics.json").exists()


def test_a_run_that_fails_in_its_work_keeps_its_folder(tmp_path):
    diverging = ["training.lr=1e30", "training.optimizer=sgd", "training.epochs=50", "hydra.run.dir=run"]
    assert command(*ONE_NETWORK, *diverging, cwd=tmp_path).returncode == 2
    assert "the loss became" in (tmp_path / "run/error.txt").read_text()
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "failed"
    assert (tmp_path / "run/.hydra/overrides.yaml").exists() and (tmp_path / "run/train.log").exists()


def test_what_is_logged_while_a_run_is_checked_is_in_its_log(tmp_path):
    counts = {f"{split}/{name}": 80 for split in ("train", "test") for name in "ab"}
    save_images(tmp_path / "images", counts, size=(32, 32))
    images = ["experiment=baseline", "dataset=image_folder", "dataset.root=images", "debug=tiny", "model=linear"]
    assert command(*images, "seed=1", cwd=tmp_path).returncode == 0
    (decoded,) = (tmp_path / "outputs/store/images").glob("*/record.json")
    decoded.write_text("{}")
    done = command(*images, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/train.log").read_text().count("damaged store entry") == 1
    assert done.stdout.count("damaged store entry") == 1


def test_a_run_is_checked_in_the_surroundings_that_hydra_gives_it(tmp_path, monkeypatch):
    seen = []

    def build(config, packages):
        seen.append((config["store"], os.environ["MINE"], HydraConfig.get().runtime.output_dir))
        return build_run(config, packages)

    monkeypatch.setattr("rebuttal.runs.execute.build_run", build)
    folder = "hydra.run.dir='a/${now:%Y}/${seed}'"
    done = command(
        *ONE_NETWORK, "store='${hydra:runtime.output_dir}/store'", "+hydra.job.env_set.MINE=1", folder, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.rglob("metrics.json"))
    assert run.name == "0" and (run / "store/fit").is_dir()
    assert seen == [(f"{run}/store", "1", str(run))]
    assert "MINE" not in os.environ


def test_config_error_is_what_python_gets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^training\.lr=-1: input should be greater than 0$"):
        api.run("baseline", [*ONE_NETWORK[1:], "training.lr=-1"], folder="run")
