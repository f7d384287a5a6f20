"""A folder with files of a stranger's, given to every option of a run that names a folder."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from rebuttal import api
from rebuttal.errors import ConfigError
from tests.command_line import ONE_NETWORK, command, process
from tests.conftest import save_images

OF_A_RUN = [
    "history.csv",
    "metrics.json",
    "config.yaml",
    "provenance.json",
    "status.json",
    "error.txt",
    "train.log",
    "fit.csv",
    "fit.npz",
    "figures/fit_curves.png",
    ".running.lock",
    ".figures_done",
    ".files.json",
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
    ".hydra/hydra.yaml",
]
OF_A_SWEEP = [
    "sweep.json",
    "stopped_by",
    "sweep_needs.json",
    "multirun.yaml",
    "optimization_results.yaml",
    ".sweep_files.json",
]
OF_ANOTHER = ["mine.txt", "figures/mine.png", "figures/fit.png", "data/history.csv", "fitted.csv", ".hydra/mine.yaml"]


def stranger(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"mine: \xff" + name.encode())


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def entries(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def from_python(folder):
    os.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        api.run("baseline", [text for text in ONE_NETWORK if not text.startswith("experiment")], folder=".")
    return f"rebuttal: {caught.value}\n"


def from_command(*overrides):
    def refused(folder):
        done = command(*ONE_NETWORK, *overrides, cwd=folder)
        assert done.returncode == 2 and done.stdout == ""
        return done.stderr

    return refused


SWEEP = ["-m", "hydra.sweeper.params=null", "seed=0,1"]
WAYS = {
    "hydra.run.dir=.": (from_command("hydra.run.dir=."), ""),
    "hydra.run.dir=./a/../": (from_command("hydra.run.dir=./a/../"), ""),
    "folder=.": (from_python, ""),
    "hydra.sweep.dir=.": (from_command(*SWEEP, "hydra.sweep.dir=."), "1/"),
    "hydra.sweep.subdir=.": (from_command(*SWEEP, "seed=1", "hydra.sweep.dir=.", "hydra.sweep.subdir=."), ""),
    "hydra.sweep.subdir=job": (
        from_command(*SWEEP, "hydra.sweep.dir=.", "hydra.sweep.subdir='job_${hydra:job.num}'"),
        "job_1/",
    ),
}


@pytest.mark.parametrize("way", ["hydra.run.dir=.", "folder=."])
@pytest.mark.parametrize("name", OF_A_RUN)
def test_each_file_that_a_run_would_overwrite_stops_it_before_any_work(name, way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stranger(tmp_path, [name, *OF_ANOTHER])
    before, there = contents(tmp_path), entries(tmp_path)
    line = WAYS[way][0](tmp_path)
    assert line.startswith(f"rebuttal: {way.split('=')[0]}=") and line.count("\n") == 1
    said = f"{name} is in the way: rebuttal did not write it, or it was changed since; allowed: a folder without it\n"
    assert line.endswith(said)
    assert contents(tmp_path) == before and entries(tmp_path) == there


@pytest.mark.parametrize("way", WAYS)
def test_a_folder_full_of_a_stranger_s_files_is_left_as_it_is(way, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused, below = WAYS[way]
    stranger(tmp_path, [f"{below}{name}" for name in OF_A_RUN] + OF_ANOTHER)
    before, there = contents(tmp_path), entries(tmp_path)
    line = refused(tmp_path)
    assert line.count("\n") == 1 and " is in the way: rebuttal did not write it" in line
    assert contents(tmp_path) == before and entries(tmp_path) == there


@pytest.mark.parametrize("name", OF_A_SWEEP)
def test_each_file_that_a_sweep_would_overwrite_stops_it(name, tmp_path):
    stranger(tmp_path, [name])
    before, there = contents(tmp_path), entries(tmp_path)
    line = WAYS["hydra.sweep.dir=."][0](tmp_path)
    assert line.startswith("rebuttal: hydra.sweep.dir=.: ") and f"{name} is in the way: " in line
    assert contents(tmp_path) == before and entries(tmp_path) == there


@pytest.mark.parametrize("where", ["file", "file/below"])
@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "store"])
def test_a_file_where_a_folder_is_meant_ends_in_one_line(key, where, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    done = command(*ONE_NETWORK, *(SWEEP if "sweep" in key else ()), f"{key}={where}", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("rebuttal: "), done.stderr
    assert contents(tmp_path) == {"file": b"mine"} and entries(tmp_path) == ["file"]


@pytest.mark.parametrize("taken", ["fit", "run", "code", "forced"])
def test_a_stranger_s_file_where_the_store_has_a_folder_ends_in_one_line(taken, tmp_path):
    stranger(tmp_path, [taken, "mine.txt"])
    before = contents(tmp_path)
    done = command(*ONE_NETWORK, "store=.", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"rebuttal: store=.: {taken} is not a folder; allowed: a folder without it\n"
    assert contents(tmp_path) == before


def test_runs_and_reruns_leave_the_other_files_of_the_folder_alone(tmp_path):
    stranger(tmp_path, [*OF_ANOTHER, "fit/mine.txt", "run/mine.txt", "images/mine.png"])
    before = contents(tmp_path)
    for more in ([], ["force=true"], ["seed=1"], ["corruption=random"]):
        done = command(*ONE_NETWORK, "store=.", "hydra.run.dir=.", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        now = contents(tmp_path)
        assert {name: now[name] for name in before} == before
    assert json.loads(now["metrics.json"])["fit/epochs"] == 2


def test_a_file_that_the_user_edited_since_is_not_overwritten(tmp_path):
    assert command(*ONE_NETWORK, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    (tmp_path / "run/history.csv").write_text("edited")
    (tmp_path / "run/figures/fit_mine.png").write_text("mine")
    before = contents(tmp_path / "run")
    for name in ("history.csv", "figures/fit_mine.png"):
        done = command(*ONE_NETWORK, "hydra.run.dir=run", "seed=1", cwd=tmp_path)
        assert done.returncode == 2 and f"run/{name} is in the way" in done.stderr
        assert contents(tmp_path / "run") == before
        (tmp_path / "run" / name).unlink()
        del before[name]
    assert command(*ONE_NETWORK, "hydra.run.dir=run", "seed=1", cwd=tmp_path).returncode == 0


def without_list(run, *names):
    """Make the folder one of a version that kept no list; `names`: what is gone of it, too."""
    for name in (".files.json", *names):
        (run / name).unlink()


@pytest.mark.parametrize(
    "gone",
    [
        (),
        ("status.json",),  # of a run from Python
        ("provenance.json", "metrics.json", "history.csv", "config.yaml", ".figures_done"),  # killed while it trained
        ("provenance.json", "metrics.json", "history.csv", "config.yaml", ".figures_done", "status.json"),  # at once
    ],
)
def test_folders_of_earlier_versions_are_used_again(gone, tmp_path):
    assert command(*ONE_NETWORK, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    without_list(tmp_path / "run", *gone)
    if "metrics.json" in gone:
        shutil.rmtree(tmp_path / "run/figures")
    (tmp_path / "run/mine.csv").write_text("mine")
    again = command(*ONE_NETWORK, "hydra.run.dir=run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert ("nothing to do" in again.stdout) == ("metrics.json" not in gone)
    other = command(*ONE_NETWORK, "hydra.run.dir=run", "seed=1", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert json.loads((tmp_path / "run/provenance.json").read_text())["config"]["seed"] == 1
    assert (tmp_path / "run/mine.csv").read_text() == "mine"


@pytest.mark.slow
def test_sweeps_of_earlier_versions_are_used_again(tmp_path):
    sweep = [*SWEEP, *ONE_NETWORK, "hydra.sweep.dir=sweep"]
    assert command(*sweep, cwd=tmp_path).returncode == 0
    (tmp_path / "sweep/.sweep_files.json").unlink()
    for job in "01":
        without_list(tmp_path / "sweep" / job)
    again = command(*sweep, cwd=tmp_path)
    assert again.returncode == 0 and "2 from store" in again.stdout, again.stderr
    forced = command(*sweep, "force=true", cwd=tmp_path)
    assert forced.returncode == 0 and "2 done" in forced.stdout, forced.stderr


@pytest.mark.slow
def test_commands_that_use_one_folder_at_the_same_time_wait_for_each_other(tmp_path):
    """Each reads and writes the list of the folder while no other does."""
    with ThreadPoolExecutor(3) as pool:
        at = [[*ONE_NETWORK, "hydra.run.dir=run", f"seed={seed}", f"store=store_{seed}"] for seed in range(3)]
        done = list(pool.map(lambda words: process(*words, cwd=tmp_path), at))
    assert [(d.returncode, d.stderr) for d in done] == [(0, "")] * 3
    again = command(*ONE_NETWORK, "hydra.run.dir=run", "seed=4", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_killed_before_it_has_listed_anything_the_next_one_knows_the_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.running.lock").touch()
    assert command(*ONE_NETWORK, "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    status = (tmp_path / "run/status.json").read_bytes()
    (tmp_path / "again").mkdir()
    (tmp_path / "again/.running.lock").touch()
    (tmp_path / "again/status.json").write_bytes(status)
    assert command(*ONE_NETWORK, "hydra.run.dir=again", cwd=tmp_path).returncode == 0


NAMED = ["mine.txt", "train/notes.txt", "train/a/Thumbs.db", "train/a/.hidden.png", "conf/mine.yaml", "1_0_log.out"]


@pytest.mark.parametrize("names", [NAMED, [*NAMED, "cifar-10-binary.tar.lock"], [*NAMED, "cifar-10-binary.tar.gz"]])
@pytest.mark.parametrize("dataset", ["image_folder", "cifar10", "mnist"])
def test_the_root_of_a_dataset_keeps_a_stranger_s_files(dataset, names, tmp_path):
    root = tmp_path / "images"
    stranger(root, names)
    if dataset == "image_folder":
        save_images(tmp_path / "own", {f"{split}/{c}": 60 for split in ("train", "test") for c in "ab"}, size=(8, 8))
        shutil.copytree(tmp_path / "own", root, dirs_exist_ok=True)
    before = contents(root)
    url = [] if dataset == "image_folder" else [f"dataset.url=file://{tmp_path}/nowhere"]
    chosen = [f"dataset={dataset}", "dataset.root=images", *url]
    done = command("experiment=baseline", "model=mlp_toy", "debug=tiny", *chosen, cwd=tmp_path)
    assert contents(root) == before
    if dataset == "image_folder":
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("rebuttal: "), (
            done.stderr
        )


@pytest.mark.slow
def test_the_database_of_a_tracker_is_not_a_stranger_s_file(tmp_path):
    pytest.importorskip("mlflow")
    stranger(tmp_path, ["mine.db", "mlruns/mine.txt", *OF_ANOTHER])
    before = contents(tmp_path)
    done = command(*ONE_NETWORK, "tracker=mlflow", "tracker.uri=sqlite:///mine.db", "hydra.run.dir=run", cwd=tmp_path)
    now = contents(tmp_path)
    assert {name: now[name] for name in before} == before
    assert done.returncode == 0 and json.loads(now["run/metrics.json"])["fit/epochs"] == 2, done.stderr


@pytest.mark.slow
def test_the_folder_of_submitit_s_logs_keeps_a_stranger_s_files(tmp_path):
    stranger(tmp_path, [*NAMED, *OF_ANOTHER])
    before = contents(tmp_path)
    chosen = ["hydra/launcher=submitit_local", "hydra.launcher.submitit_folder=.", "hydra.sweep.dir=sweep"]
    done = process(*ONE_NETWORK, *SWEEP, *chosen, cwd=tmp_path)
    now = contents(tmp_path)
    assert done.returncode == 0, done.stderr
    assert {name: now[name] for name in before} == before
    assert any(name.endswith("_submitted.pkl") for name in now)
