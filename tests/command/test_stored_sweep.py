import json

import pytest
from hydra.core.hydra_config import HydraConfig

from rebuttal import train
from rebuttal.command.stored_sweep import restore
from rebuttal.errors import ConfigError
from rebuttal.launch import job as launch
from rebuttal.launch.expand import read_command
from rebuttal.launch.sweep import Sweep
from tests.command_line import command
from tests.test_train import metrics_of

SWEEP = ["-m", "experiment=baseline", "dataset=uniform_noise", "dataset.shape=[8]", "debug=tiny"]
SWEEP += ["model=mlp_toy,linear", "seed=0,1", "training.lr=0.001,2e-3", "hydra.sweeper.params.corruption=none"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which the sweep has run, job by job through Hydra."""
    folder = tmp_path_factory.mktemp("finished")
    done = command(*SWEEP, "hydra.sweeper.params.seed=0", "hydra.sweep.dir=first", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "8 done" in done.stdout
    return folder


def test_a_finished_sweep_is_answered_with_the_very_runs_that_hydra_would_make(finished):
    again = command(*SWEEP, "hydra.sweeper.params.seed=0", "hydra.sweep.dir=second", cwd=finished)
    assert again.returncode == 0, again.stderr
    assert "8 from store" in again.stdout and "HYDRA" not in again.stdout
    for job in map(str, range(8)):
        first, second = finished / "first" / job, finished / "second" / job
        assert metrics_of(second) == metrics_of(first)
        names = sorted(path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file())
        written = sorted(path.relative_to(second).as_posix() for path in second.rglob("*") if path.is_file())
        assert written == [name for name in names if name not in (".hydra/hydra.yaml", "train.log")]
        for name in written:
            if name not in ("provenance.json", "status.json", ".files.json"):
                assert (second / name).read_bytes() == (first / name).read_bytes(), name
        before, after = (json.loads((folder / "provenance.json").read_text()) for folder in (first, second))
        assert before["computed"] and not after["computed"]
        own = {"computed", "command", "process"}  # of the process that wrote it
        assert {k: v for k, v in before.items() if k not in own} == {k: v for k, v in after.items() if k not in own}


@pytest.mark.slow
@pytest.mark.parametrize(
    "sweep",
    [
        SWEEP,
        ["-m", "experiment=baseline,corruption", "debug=tiny"],  # whose own sweeps are not asked for then
        ["-m", "experiment=corruption", "corruption.fraction=0,1", "seed=range(2)"],
        pytest.param(["-m", "model=mlp,linear", "hydra.sweeper.max_batch_size=1"], marks=pytest.mark.slow),
        pytest.param(["-m", "model=glob(mlp_*)", "training.lr=1e-3"], marks=pytest.mark.slow),
        ["hydra.mode=MULTIRUN", "seed=0,1"],
    ],
)
def test_the_jobs_of_a_command_are_those_that_hydra_runs(sweep, tmp_path, monkeypatch):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run_job", lambda cfg: ran.append(list(HydraConfig.get().overrides.task)))
    monkeypatch.setattr("sys.argv", ["rebuttal-train", *sweep])
    train.job()
    assert read_command(sweep).overrides() == ran


@pytest.mark.parametrize(
    "changed",
    [
        ["seed=0,1,2"],  # one run is missing
        ["force=true"],
        ["training.lr=-1"],
        ["hydra.sweep.subdir=${hydra:job.override_dirname}"],
        ["--config-dir=."],
    ],
)
def test_any_other_command_is_left_to_hydra(finished, changed, monkeypatch):
    monkeypatch.chdir(finished)
    keys = {override.split("=")[0] for override in changed}
    asked = [override for override in SWEEP if override.split("=")[0] not in keys]
    before = sorted(finished.rglob("*"))
    assert not restore(read_command([*asked, *changed, "hydra.sweep.dir=third"]), Sweep("third"))
    assert sorted(finished.rglob("*")) == before


@pytest.mark.parametrize("question", [["--help"], ["--cfg", "job"], ["-m", "--info", "defaults", "seed=0,1"]])
def test_a_question_is_left_to_hydra(question):
    assert read_command(question) is None


@pytest.mark.parametrize("single", [["seed=1"], ["debug=tiny", "hydra.mode=RUN"]])
def test_a_single_run_has_no_sweep_folder(single):
    request = read_command(single)
    assert request.folder is None and request.overrides() == [[word for word in single if "hydra" not in word]]


def test_only_the_root_config_can_be_run():
    with pytest.raises(
        ConfigError, match=r"^--config-name=other: the root config is conf/train.yaml; allowed: --config-"
    ):
        read_command(["-m", "--config-name", "other", "seed=0,1"])
